# SPDX-License-Identifier: GPL-2.0-only
"""Options that several commands share, and what they make of them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmaplab import arch as arches
from vmaplab import release
from vmaplab._names import known
from vmaplab.arch import NAMES
from vmaplab.cli.app import header, listed
from vmaplab.errors import InputError
from vmaplab.release import DEFAULT, RELEASES
from vmaplab.report.progress import progress

if TYPE_CHECKING:
    from vmaplab.kernel import Kernel
    from vmaplab.object.build import Built

SCHEMA = 2
"""Of all that is printed as JSON: it grows when a key changes its meaning or goes."""
DEFAULT_ARCH = "arm64-4k"
SMALL_PAGES = 1 << 13
SMALL_STEPS = 200


def _completing(names: Collection[str]) -> Callable[[str], list[str]]:
    """What a shell offers: the names that go on from what is typed behind the last comma."""

    def offered(incomplete: str) -> list[str]:
        before, comma, word = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in names if name.startswith(word)]

    return offered


def arch_option(text: str, metavar: str = "ARCH") -> Any:
    """``--arch``."""
    return typer.Option("--arch", "-a", metavar=metavar, help=text, autocompletion=_completing(NAMES))


def release_option(text: str, metavar: str = "RELEASE") -> Any:
    """``--release``."""
    return typer.Option("--release", "-r", metavar=metavar, help=text, autocompletion=_completing(RELEASES))


Source = Annotated[
    str, typer.Argument(metavar="SOURCE", help="heap:SIZE, pid:PID, pfns:RUNS, a file, - ..., see 'vmaplab --help'.")
]
Sources = Annotated[
    list[str], typer.Argument(metavar="SOURCES...", help="As SOURCE; directories, patterns, heap: with ranges, too.")
]
ArchOption = Annotated[str, arch_option("Architecture, see 'vmaplab arches'.")]
SourceArch = Annotated[
    str | None,
    arch_option(f"Architecture, see 'vmaplab arches'. Default: a vmcore's, or {DEFAULT_ARCH}."),
]
SourceArches = Annotated[
    str | None, arch_option(f"With commas, or all. Default: a vmcore's, or {DEFAULT_ARCH}.", "ARCHES")
]
ArchesOption = Annotated[str, arch_option("Architectures, separated by commas, or all.", "ARCHES")]
ReleaseOption = Annotated[str | None, release_option(f"Release, see 'vmaplab releases'. Default: {DEFAULT}.")]
Releases = Annotated[str, release_option("Releases, with commas, or all.", "RELEASES")]
Base = Annotated[Path | None, typer.Option("--base", metavar="DIR", help="A second kernel tree, before it.")]
BootArgs = Annotated[
    str,
    typer.Option("--boot-args", metavar="ARGS", help="nohugeiomap, nohugevmalloc, kpti=1; several in quotes."),
]
Config = Annotated[
    list[str] | None, typer.Option("--config", metavar="KEY=y|n", help="Kernel configuration, e.g. HUGETLB_PAGE=n.")
]
TotalPages = Annotated[
    str | None, typer.Option("--total-pages", metavar="N", help="Pages of RAM; PFNs from there on are invalid.")
]
PageSize = Annotated[
    str | None, typer.Option("--page-size", metavar="SIZE", help="Page size of a plain file, e.g. 64K.")
]
Tree = Annotated[
    Path | None, typer.Option("--tree", metavar="DIR", help="A kernel tree. Default: Debian's linux-source-6.12.")
]
Snippet = Annotated[
    Path | None, typer.Option("--snippet", metavar="FILE.c", help="C to compile at the end of mm/vmalloc.c.")
]
Call = Annotated[str | None, typer.Option("--call", metavar="SYMBOL", help="Its function to call instead of vmap().")]
KernelConfig = Annotated[
    list[str] | None, typer.Option("--config", metavar="KEY=VALUE", help="Kernel configuration, e.g. KASAN=y.")
]
Checks = Annotated[
    str,
    typer.Option("--with", metavar="CHECKS", help="Built into it: kasan, lockdep, page-table-check, debug-vm, or all."),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Judge it: an emulated MMU, and invariants of tables, flushes and areas.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def config_of(words: list[str] | None) -> dict[str, bool]:
    """The switches among ``KEY=y|n``, with or without CONFIG_.

    :raises InputError: for what is none.
    """
    config = {}
    for word in words or []:
        key, equals, value = word.removeprefix("CONFIG_").partition("=")
        if not equals or value not in ("y", "n"):
            raise InputError(f"'{word}' is no configuration; write KEY=y or KEY=n")
        config[key] = value == "y"
    return config


def switches(words: list[str] | None) -> dict[str, bool]:
    """The y and n among options of any kind."""
    return config_of([word for word in words or [] if word.endswith(("=y", "=n"))])


def number_of(text: str | None) -> int | None:
    """The number, also with 0x, or size that ``text`` spells, or None."""
    from vmaplab.pages.array import parse_size

    if text is not None and text.lower().startswith("0x"):
        return place_of(text)
    return None if text is None else parse_size(text)


def arch_for(given: str | None, sources: str | list[str]) -> str:
    """The architecture that was said, or that of the kernel that a source is of, or the usual one."""
    from vmaplab.pages import arch_of

    if given is not None or isinstance(sources, str):
        return given if given is not None else arch_of(str(sources)) or DEFAULT_ARCH
    for word in sources:
        with suppress(InputError):  # what is wrong with it is said when it is read
            if found := arch_of(word):
                return found
    return DEFAULT_ARCH


def arches_of(text: str) -> list[str]:
    """The architectures in ``text``, with commas, or all.

    :raises InputError: for one that is not known.
    """
    if text == "all":
        return list(NAMES)
    found = [known(name, NAMES, "architecture", arches.ALIASES, ", all") for name in text.split(",") if name.strip()]
    if not found:
        raise InputError("name one architecture at least, or all")
    return list(dict.fromkeys(found))


def releases_of(text: str) -> list[str]:
    """The releases in ``text``, with commas, or all.

    :raises InputError: for one that is not known.
    """
    if text == "all":
        return list(RELEASES)
    found = [release.get(name).name for name in text.split(",") if name.strip()]
    if not found:
        raise InputError("name one release at least, or all")
    return list(dict.fromkeys(found))


def no_names(sources: list[str]) -> None:
    """See that no source is the name of an architecture or a release, written behind an option with a space.

    :raises InputError: if one is.
    """
    for word in sources:
        for option, names in listed().items():
            if word in names and not Path(word).exists():
                raise InputError(f"'{word}' is no source; separate several names with commas: {option} NAME,{word}")


def parse_number(text: str) -> int | None:
    """The number that ``text`` spells, decimal or with 0x; None if it is none."""
    found = re.fullmatch(r"(0[xX][0-9a-fA-F]+)|[0-9]+", text)
    return int(text, 16 if found[1] else 10) if found else None


def place_of(text: str | None) -> int | None:
    """The address, number of bytes or size that ``text`` spells, or None.

    :raises InputError: if it is none.
    """
    if text is None:
        return None
    from vmaplab.pages.array import parse_size

    number = parse_number(text)
    return parse_size(text) if number is None else number


def stay_small(source: str, mappings: int = 1) -> None:
    """Run small work as plain Python: loading the compiler takes half a second, mapping 1 MiB some milliseconds."""
    from vmaplab import _jit
    from vmaplab.pages import small

    if small(source, SMALL_PAGES // mappings):
        _jit.stay_plain()


def print_json(output: str, value: Any) -> None:
    """Print a dictionary, or a list of them, each with what made it: see :func:`vmaplab.cli.app.header`.

    :param output: which output this is: the name of its schema in ``vmaplab/report/schema``.
    """
    head = {"schema": SCHEMA, "output": output, **header()}
    made = [{**head, **row} for row in value] if isinstance(value, list) else {**head, **value}
    sys.stdout.write(json.dumps(made) + "\n")


def new_kernel(arch: str, release: str, boot_args: str, config: list[str] | None, **keywords: Any) -> Kernel:
    """The model, with what an option gives as text."""
    from vmaplab.kernel import Kernel

    return Kernel(arch, release, boot_args, config=config_of(config), **keywords)


def targets_of(text: str) -> list[str]:
    """The architectures in ``text`` whose code can be run."""
    from vmaplab.object.targets import TARGETS, get

    names = [name.strip() for name in text.split(",") if name.strip()]
    return list(TARGETS) if text == "all" else list(dict.fromkeys(get(name).arch for name in names or [text]))


def build_all(
    names: list[str], tree: Path | None, config: list[str] | None, snippet: Path | None, call: str | None
) -> list[Built]:
    """Build what ``names`` run, from the cache where nothing changed."""
    if (snippet is None) != (call is None):
        raise InputError("--snippet FILE.c and --call SYMBOL go together")
    with progress("building mm/vmalloc.o (the first build takes half a minute, then it is cached)", len(names)) as step:
        from vmaplab.object import build, targets

        found = []
        for target in [targets.get(name) for name in names]:
            found.append(build.build(target, tree, config or (), snippet, call or "vmap"))
            step()
    return found


def objects_of(
    arches: list[str],
    tree: Path | None,
    base: Path | None,
    snippet: Path | None,
    call: str | None,
    config: list[str] | None,
) -> list[tuple[str, Built]]:
    """What kernels' own code is called, and its objects on each of ``arches``; none if no tree is named.

    :raises InputError: if they cannot be built, or are not for the model's configuration.
    """
    found: list[tuple[str, Built]] = []
    if tree or base or snippet or call:
        if config:
            raise InputError("--config is for the model's releases: leave it out, or --tree, --base and --snippet")
        run = targets_of(",".join(arches))
        trees = [(base, None, None)] * bool(base) + [(tree, snippet, call)]
        for one, *patch in trees:
            made = build_all(run, one, None, *patch)
            found += [(f"{built.code} ({built.tree.name})" if one else built.code, built) for built in made]
    return found


def again(
    tree: Path | None,
    base: Path | None,
    release: str | None,
    config: list[str] | None,
    snippet: Path | None,
    call: str | None,
) -> list[str]:
    """The options with which a check is repeated."""
    named = {"--tree": tree, "--base": base, "--release": release, "--snippet": snippet, "--call": call}
    words = [word for option, value in named.items() if value for word in (option, str(value))]
    return words + [word for one in config or [] for word in ("--config", one)]
