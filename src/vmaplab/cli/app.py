# SPDX-License-Identifier: GPL-2.0-only
"""The command line, without its commands."""

from __future__ import annotations

from typing import Annotated

import typer

from vmaplab import __version__

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What will vmap() build, is it right, and what does it cost? "
    "For any page array, any architecture and any kernel release or patch.",
    epilog="SOURCE: heap:SIZE[,fragmentation=F][,seed=N][,orders=8/4/0][,clients=N], pid:PID[,start-end], "
    "pfns:0x1000+256,0x7, FILE.{txt,csv,npy,parquet}, - (standard input), trace:FILE, pagemap:FILE, "
    "vmcore:FILE,area=ADDRESS (kcore:, qemu:SOCKET, ram:FILE); a directory or a pattern is several files",
)


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
