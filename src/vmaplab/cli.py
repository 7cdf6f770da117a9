"""The command line: parse, call one function, print.

Exit status: 0 good, 1 a finding (the kernel would refuse), 2 bad usage or input.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmaplab import __version__
from vmaplab.arch import ARCHES
from vmaplab.errors import InputError, VmapError
from vmaplab.release import DEFAULT, RELEASES
from vmaplab.report.progress import progress

if TYPE_CHECKING:
    from vmaplab.kernel import Kernel

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What will vmap() build, is it right, and what does it cost? "
    "For any page array, any architecture and any kernel release or patch.",
    epilog="SOURCE: heap:SIZE[,fragmentation=F][,seed=N][,orders=8/4/0][,clients=N], pid:PID[,start-end], "
    "or FILE.{txt,csv,npy,parquet}",
)

DEFAULT_ARCH = "arm64-4k"
SMALL_PAGES = 1 << 13

# Typer does not export the base class of its usage errors, and where it comes from differs by version.
_UsageError: type[Any] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="heap:SIZE, pid:PID or a file of page frame numbers.")]
ArchOption = Annotated[str, typer.Option("--arch", "-a", help="Architecture, see 'vmaplab arches'.")]
ReleaseOption = Annotated[str, typer.Option("--release", "-r", help="Release, see 'vmaplab releases'.")]
BootArgs = Annotated[str, typer.Option("--boot-args", help="nohugeiomap, nohugevmalloc; several in quotes.")]
Config = Annotated[
    list[str] | None, typer.Option("--config", metavar="KEY=y|n", help="Kernel configuration, e.g. HUGETLB_PAGE=n.")
]
TotalPages = Annotated[
    str | None, typer.Option("--total-pages", metavar="N", help="Pages of RAM; PFNs from there on are invalid.")
]
PageSize = Annotated[
    str | None, typer.Option("--page-size", metavar="SIZE", help="Page size of a plain file, e.g. 64K.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _config(words: list[str] | None) -> dict[str, bool]:
    config = {}
    for word in words or []:
        key, equals, value = word.removeprefix("CONFIG_").partition("=")
        if not equals or value not in ("y", "n"):
            raise InputError(f"'{word}' is no configuration; write KEY=y or KEY=n")
        config[key] = value == "y"
    return config


def _number(text: str | None) -> int | None:
    from vmaplab.pages.array import parse_size

    return None if text is None else parse_size(text)


def _names(text: str, known: dict[str, Any], what: str) -> list[str]:
    names = list(known) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise InputError(f"unknown {what} '{name}'; known: {', '.join(known)}, all")
    if not names:
        raise InputError(f"name one {what} at least, or all")
    return list(dict.fromkeys(names))


def _start(source: str, mappings: int = 1) -> None:
    """Run small work as plain Python: loading the compiler takes half a second, mapping 1 MiB some milliseconds."""
    from vmaplab import _jit
    from vmaplab.pages import small

    if small(source, SMALL_PAGES // mappings):
        _jit.stay_plain()


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


def _kernel(arch: str, release: str, boot_args: str, config: list[str] | None, **keywords: Any) -> Kernel:
    from vmaplab.kernel import Kernel

    return Kernel(arch, release, boot_args, config=_config(config), **keywords)


@app.command("map")
def map_command(
    source: Source,
    arch: ArchOption = DEFAULT_ARCH,
    release: ReleaseOption = DEFAULT,
    boot_args: BootArgs = "",
    config: Config = None,
    total_pages: TotalPages = None,
    page_size: PageSize = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Lines of leaves to show.")] = 16,
    events: Annotated[bool, typer.Option("--events", help="Show every store, allocation and flush.")] = False,
    as_json: Json = False,
) -> None:
    """Map SOURCE and show the leaves and the cost."""
    _start(source)
    with progress("mapping (the first run compiles, once)"):
        from vmaplab import pages
        from vmaplab.report import as_json as to_json

        kernel = _kernel(arch, release, boot_args, config, total_pages=_number(total_pages), record=events)
        pfns = pages.load(source, arch, _number(page_size))
        try:
            mapping = kernel.vmap(pfns)
        except VmapError as error:
            if as_json:
                _print_json(to_json.refusal(kernel, error))
            raise
        mapping.leaves  # noqa: B018 - built while the bar shows
    if as_json:
        _print_json(to_json.mapping(kernel, mapping, events))
    else:
        from vmaplab.report import tables

        tables.mapping(kernel, mapping, _config(config), rows, events)


@app.command("compare")
def compare_command(
    source: Source,
    arch: Annotated[
        str, typer.Option("--arch", "-a", help="Architectures, separated by commas, or all.")
    ] = DEFAULT_ARCH,
    release: Annotated[str, typer.Option("--release", "-r", help="Releases, with commas, or all.")] = "all",
    boot_args: BootArgs = "",
    config: Config = None,
    total_pages: TotalPages = None,
    page_size: PageSize = None,
    as_json: Json = False,
) -> None:
    """Map SOURCE on several releases and architectures, beside linux-6.12."""
    arches, releases = _names(arch, ARCHES, "architecture"), _names(release, RELEASES, "release")
    _start(source, len(arches) * len(releases))
    with progress("comparing", total=len(arches) * len(releases)) as advance:
        from vmaplab.compare import compare

        found = compare(
            source,
            arches,
            releases,
            boot_args=boot_args,
            config=_config(config),
            total_pages=_number(total_pages),
            page_size=_number(page_size),
            advance=advance,
        )
    if as_json:
        from vmaplab.report import as_json as to_json

        _print_json(to_json.comparison(found))
    else:
        from vmaplab.report import tables

        tables.comparison(source, found, boot_args, _config(config))
    if not any(row.cost for row in found):
        raise typer.Exit(1)


@app.command("capture")
def capture_command(
    source: Source,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="FILE.{txt,csv,npy,parquet}.")],
    arch: ArchOption = DEFAULT_ARCH,
    page_size: PageSize = None,
    as_json: Json = False,
) -> None:
    """Write the pages of SOURCE to a file, whole or not at all."""
    _start(source)
    with progress("capturing"):
        from vmaplab import pages
        from vmaplab.pages.array import size_text

        pfns = pages.load(source, arch, _number(page_size))
        pages.save(output, pfns)
    page = pfns.page_size or 0
    if as_json:
        _print_json({"file": output, "pages": len(pfns), "page_size": page})
    else:
        print(f"{len(pfns)} pages of {size_text(page)} written to {output}")


@app.command("arches")
def arches_command(as_json: Json = False) -> None:
    """List the architectures."""
    _list("arches", as_json)


@app.command("releases")
def releases_command(as_json: Json = False) -> None:
    """List the kernel releases and patch versions."""
    _list("releases", as_json)


def _list(what: str, as_json: bool) -> None:
    if as_json:
        from vmaplab.report import as_json as to_json

        _print_json(getattr(to_json, what)())
    else:
        from vmaplab.report import tables

        getattr(tables, what)()


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        print(f"vmaplab {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line; every way it can end is one of the exit statuses above."""
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        status = _fail(str(error), 2)
    except VmapError as error:
        status = _fail(f"the kernel would refuse: {error}", 1)
    except _UsageError as error:
        status = _fail(error.format_message().rstrip("."), 2)
    except (KeyboardInterrupt, typer.Abort):
        status = _fail("interrupted", 130)
    except MemoryError:
        status = _fail("not enough memory for this; take a smaller source", 2)
    except (BrokenPipeError, SystemExit):  # the reader has seen enough; SystemExit is click's answer to that
        _drop_output()
        status = 0
    except OSError as error:
        _drop_output()
        status = _fail(f"cannot write the output: {error.strerror}", 2)
    sys.exit(status or 0)


def _drop_output() -> None:
    """What is left in the buffer of standard output goes nowhere, so that the interpreter can end quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    print("vmaplab: " + " ".join(message.split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
