# SPDX-License-Identifier: GPL-2.0-only
"""What is reviewed: somebody's ``vmap()`` on several architectures, the model's or the kernel's own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.config import BOOT_ARGS, CONFIG, settings
from vmaplab.cost.counters import Cost
from vmaplab.errors import InputError
from vmaplab.kernel import Kernel
from vmaplab.release import Release

if TYPE_CHECKING:
    from vmaplab.object.build import Built
    from vmaplab.object.kernel import ObjectKernel

Pfns = NDArray[np.uint64]
Options = tuple[str, ...]
"""Boot arguments and ``CONFIG_KEY=y|n``."""

ESSENTIAL = ("HAVE_ARCH_HUGE_VMAP",)
"""Configuration options that decide whether there are huge mappings at all."""


@dataclass(frozen=True)
class Table:
    """What a ``vmap()`` built: where, its leaves (``LEAF_DTYPE``), and the cost, if it was run."""

    addr: int
    leaves: NDArray[Any]
    cost: Cost | None = None

    @property
    def entries(self) -> int:
        """TLB entries."""
        return len(self.leaves)


@dataclass
class Subject:
    """Whose ``vmap()`` is reviewed.

    :param name: for headlines.
    :param arches: the architectures, by name, as its kernel has them.
    :param boot: ``(architecture, options) -> kernel``, freshly booted, with ``record`` on.
    :param options: boot arguments and ``CONFIG_KEY`` that can be flipped and should not matter to ``vmap()``.
    :param command: the words of the command line that name the subject, after ``vmaplab map SOURCE``.
    :param boot_args: boot arguments that it always has.
    :param config: configuration that it always has.
    :param walker: whether ``vmap_pages_range_noflush()`` is part of what is reviewed.
    :param effort: the counter of :class:`Cost` that grows with what the scan does.
    :param most_pages: the longest array that it is given.
    :param restart: to be called when a kernel is no longer to be trusted.
    :param overlapping: gives the object of an architecture in which calls can overlap; None where there is none.
    """

    name: str
    arches: dict[str, Arch]
    boot: Callable[[str, Options], Kernel | ObjectKernel]
    options: Options
    command: list[str]
    boot_args: str = ""
    config: dict[str, bool] = field(default_factory=dict)
    walker: bool = True
    effort: str = "pages_scanned"
    most_pages: int = 1 << 18
    restart: Callable[[], None] = lambda: None
    overlapping: Callable[[str], Built] | None = None
    _tables: dict[tuple[str, bytes, Options, int], Table] = field(default_factory=dict)

    def arch(self, name: str) -> Arch:
        """The architecture called ``name``, with the leaves that the configuration allows."""
        arch = self.arches[name]
        return arch if self.config.get("HAVE_ARCH_HUGE_VMAP", True) else replace(arch, huge_vmap=False)

    def map(self, arch: str, pfns: Pfns, options: Options = (), before: int = 0) -> Table:
        """What ``vmap(pfns)`` builds on a kernel that has just booted.

        :param before: pages of an area that is taken first.
        """
        key = arch, pfns.tobytes(), options, before
        if key not in self._tables:
            kernel = self.boot(arch, options)
            if before:
                kernel.get_vm_area(before * kernel.arch.page_size)
            mapping = kernel.vmap(pfns)
            self._tables[key] = Table(mapping.addr, mapping.leaves.copy(), mapping.cost)
        return self._tables[key]


def of_release(
    release: Release, names: list[str], boot_args: str = "", config: Mapping[str, bool] | None = None
) -> Subject:
    """The model of ``release``."""
    given = dict(config or {})

    def boot(arch: str, options: Options) -> Kernel:
        args, changed = parted(options)
        return Kernel(arch, release, [*boot_args.split(), *args], config=given | changed, record=True)

    flips = [arg for arg in BOOT_ARGS if arg not in boot_args.split()]
    flips += [f"CONFIG_{key}" for key in CONFIG if key not in ESSENTIAL]
    name = ", ".join([release.name, *settings(boot_args.split(), given)])
    as_it_has_them = {arch: release.on(arch) for arch in names}
    return Subject(name, as_it_has_them, boot, tuple(flips), ["--release", release.name], boot_args, given)


def of_objects(
    built: list[Built], command: list[str], boot_args: str = "", overlapping: Callable[[str], Built] | None = None
) -> Subject:
    """The kernel's own code, one object per architecture; boot arguments are what can be flipped."""
    from vmaplab.object.kernel import ObjectKernel

    by_arch = {one.target.arch: one for one in built}
    machines: dict[tuple[str, Options], ObjectKernel] = {}

    def boot(arch: str, options: Options) -> ObjectKernel:
        if (arch, options) not in machines:
            args = [*boot_args.split(), *options]
            machines[arch, options] = ObjectKernel(by_arch[arch], args, count=True, log_lines=1 << 18)
        machine = machines[arch, options]
        machine.reset()
        return machine

    flips = tuple(arg for arg in BOOT_ARGS if arg not in boot_args.split())
    return Subject(
        ", ".join([built[0].code, *boot_args.split()]),
        {arch: boot(arch, ()).arch for arch in by_arch},
        boot,
        flips,
        command,
        boot_args,
        walker=built[0].call == "vmap",
        effort="instructions",
        most_pages=1 << 15,
        restart=machines.clear,
        overlapping=overlapping,
    )


def parted(options: Options) -> tuple[list[str], dict[str, bool]]:
    """Boot arguments and configuration among ``options``."""
    pairs = [word.removeprefix("CONFIG_").split("=") for word in options if word.startswith("CONFIG_")]
    return [word for word in options if not word.startswith("CONFIG_")], {key: value == "y" for key, value in pairs}


def flipped(subject: Subject, arch: str, option: str) -> Options | None:
    """``option`` the other way round, as a boot argument or a configuration; None if ``arch`` cannot have it so."""
    if option in BOOT_ARGS:  # parsed only with HAVE_ARCH_HUGE_VMAP
        return (option,) if subject.arch(arch).huge_vmap else None
    key = option.removeprefix("CONFIG_")
    kernel = subject.boot(arch, ())
    assert isinstance(kernel, Kernel)
    other = (f"{option}={'n' if kernel.config[key] else 'y'}",)
    try:
        return other if subject.boot(arch, other).config[key] != kernel.config[key] else None  # type: ignore[union-attr]
    except InputError:
        return None
