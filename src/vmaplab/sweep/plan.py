# SPDX-License-Identifier: GPL-2.0-only
"""What each page array of a sweep is mapped on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vmaplab import __version__
from vmaplab.arch import Arch
from vmaplab.config import BOOT_ARGS, CONFIG, complete_config, parse_boot_args, settings
from vmaplab.errors import InputError
from vmaplab.object.build import Built
from vmaplab.release import DEFAULT, get


@dataclass(frozen=True)
class Options:
    """Boot arguments and configuration of a kernel.

    :param flipped: what is other than in the first options of the sweep, or "".
    """

    boot_args: str
    config: Mapping[str, bool]
    flipped: str = ""

    @property
    def text(self) -> str:
        """As a reader of kernels writes them, one after the other."""
        return " ".join(settings(self.boot_args.split(), self.config))


@dataclass(frozen=True)
class Plan:
    """What each page array is mapped on.

    :param options: by architecture; the first are those that were asked for, the others have one thing flipped.
    :param objects: by architecture, what a kernel's own code is called, and its object.
    :param version: of the vmaplab that made it.
    """

    arches: tuple[str, ...]
    releases: tuple[str, ...]
    options: Mapping[str, tuple[Options, ...]]
    total_pages: int | None = None
    page_size: int | None = None
    objects: Mapping[str, Mapping[str, Built]] = field(default_factory=dict)
    version: str = __version__

    @property
    def each(self) -> int:
        """Mappings of one page array."""
        own = {arch: len(built) for arch, built in self.objects.items()}
        return sum(len(self.options[arch]) * (len(self.releases) + own.get(arch, 0)) for arch in self.arches)

    def described(self) -> dict[str, object]:
        """All that the rows depend on, but for the page arrays."""
        return {
            "version": self.version,
            "arch": list(self.arches),
            "release": list(self.releases),
            "options": {arch: [one.text for one in self.options[arch]] for arch in self.arches},
            "total_pages": self.total_pages,
            "page_size": self.page_size,
            "objects": [f"{name} {one.image.name}" for built in self.objects.values() for name, one in built.items()],
        }


def options_of(
    arches: Iterable[str], boot_args: str, config: Mapping[str, bool], flip: Iterable[str]
) -> dict[str, tuple[Options, ...]]:
    """By architecture, the options of a sweep, each combination once.

    :param flip: what to try the other way round, one at a time: boot arguments, ``KEY`` of the configuration; ``all``.
    :raises InputError: for what is neither, or for what an architecture does not have.
    """
    flip = list(flip)
    found: dict[str, tuple[Options, ...]] = {}
    asked = {arch: get(DEFAULT).on(arch) for arch in arches}
    known = list(dict.fromkeys(name for arch in asked.values() for name in [*BOOT_ARGS, *arch.boot_args, *CONFIG]))
    for name in flip:
        if name not in (*known, "all"):
            raise InputError(f"'{name}' cannot be flipped; known there: {', '.join(known)}, all")
    for name, arch in asked.items():
        given = parse_boot_args(arch, boot_args)
        complete = complete_config(arch, config)
        chosen = [Options(" ".join(given), dict(config))]
        for word in known:
            if "all" in flip or word in flip:
                chosen += _flipped(arch, given, config, complete, word)
        found[name] = tuple(chosen)
    return found


def _flipped(
    arch: Arch, given: tuple[str, ...], config: Mapping[str, bool], complete: Mapping[str, bool], word: str
) -> list[Options]:
    """The options with ``word`` the other way round, where the architecture has that."""
    if word in (*BOOT_ARGS, *arch.boot_args):
        if word in given:
            return [Options(" ".join(one for one in given if one != word), dict(config), f"without {word}")]
        return [Options(" ".join([*given, word]), dict(config), word)]
    if word not in CONFIG:
        return []  # a boot argument of another architecture
    turned = not complete[word]
    try:
        complete_config(arch, {**config, word: turned})
    except InputError:
        return []
    return [Options(" ".join(given), {**config, word: turned}, *settings((), {word: turned}))]
