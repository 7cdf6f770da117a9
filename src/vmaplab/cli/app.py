# SPDX-License-Identifier: GPL-2.0-only
"""The command line, without its commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from vmaplab import __version__
from vmaplab.errors import InputError

F = TypeVar("F", bound=Callable[..., Any])

_EXTRA = re.compile(r"unexpected extra argument\S* \((.*)\)")
_MISTAKE: type[Any] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "UsageError")
_running: list[Any] = []

SECTIONS = {
    "One page array": ("map", "compare", "cost", "explain"),
    "Many": ("sweep", "areas", "capture"),
    "Judge": ("review", "check", "boot", "replay"),
    "What there is": ("arches", "releases", "object", "cache"),
}
"""The commands, as the help lists them."""
EXAMPLES = (
    "map heap:1M --arch arm64-4k --verify",
    "compare heap:8M,fragmentation=0.5 --arch arm64-4k,x86_64 --release all",
    "review series.mbox --tree linux",
)


class Command(TyperCommand):
    """A command that says what it was asked for, and what was meant where words are left over."""

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        _running.append(ctx)
        try:
            return super().invoke(ctx)
        finally:
            _running.pop()

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the words apart.

        :raises InputError: where names of a list are separated by spaces.
        """
        words = list(args)
        for option, value in pairwise([*words, "-"]):
            if option.startswith("--") and value == "" and option != "--boot-args":
                raise InputError(f"{option} is empty")
        try:
            return super().parse_args(ctx, args)
        except _MISTAKE as error:
            found = _EXTRA.search(error.format_message())
            if found:
                several = [word for param in self.params if str(param.metavar).endswith("ES") for word in param.opts]
                _left_over(found[1], words, several)
            raise


def listed() -> dict[str, set[str]]:
    """Options that take names of a list -> all names and aliases that there are."""
    from vmaplab import arch, release

    return {"--arch": {*arch.NAMES, *arch.ALIASES}, "--release": {*release.RELEASES, *release.ALIASES}}


def _left_over(words: str, args: list[str], several: list[str]) -> None:
    for option, names in listed().items():
        if not all(word in names for word in words.split()):
            continue
        if option not in several:
            raise InputError(f"'{words}' is left over: one {option} at a time; 'vmaplab compare' takes several")
        before = next((args[at + 1] for at, word in enumerate(args[:-1]) if word in (option, option[1:3])), "NAME")
        raise InputError(
            f"'{words}' is left over; separate several names with commas: {option} {','.join([before, *words.split()])}"
        )


class Commands(TyperGroup):
    """The commands, in sections."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in the order of the sections."""
        return [name for names in SECTIONS.values() for name in names if name in self.commands]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write them."""
        width = max(len(name) for name in self.commands)
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), self.commands[name].get_short_help_str(66)) for name in names])
        with formatter.section("Examples"):
            formatter.write("".join(f"  vmaplab {words}\n" for words in EXAMPLES))


app = typer.Typer(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What will vmap() build, is it right, and what does it cost? "
    "For any page array, any architecture and any kernel release or patch.",
    epilog="SOURCE: heap:SIZE[,fragmentation=F][,seed=N][,orders=8/4/0][,clients=N], pid:PID[,start-end], "
    "pfns:0x1000+256,0x7, FILE.{txt,csv,npy,parquet}, - (standard input), trace:FILE, pagemap:FILE, "
    "vmcore:FILE,area=ADDRESS (kcore:, qemu:SOCKET, ram:FILE); a directory or a pattern is several files. "
    "ARCH: a name of 'vmaplab arches', or arm64, amd64, sv48, ...; RELEASE: of 'vmaplab releases', or 6.12, v4, ...",
)


def command(name: str, **settings: Any) -> Callable[[F], F]:
    """Register a command of :class:`Command`."""
    return app.command(name, cls=Command, **settings)


def header() -> dict[str, Any]:
    """What every JSON object begins with: whose it is, and what was asked for.

    Options are those of the command that is running, by their long names, defaults too; what was not given and has no
    default is left out.
    """
    if not _running:
        return {"version": __version__}
    return {"version": __version__, "options": _options(_running[-1])}


def _options(context: Any) -> dict[str, Any]:
    found = {}
    for param in context.command.params:
        value = context.params.get(param.name)
        if value in (None, False, "", [], ()):
            continue
        long = max(param.opts, key=len).lstrip("-").replace("-", "_")
        if long != "json":
            found[long] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", "-V", help="Print the version.")] = False
) -> None:
    if version:
        print(f"vmaplab {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)
