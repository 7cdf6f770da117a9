# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab areas``."""

from __future__ import annotations

from typing import Annotated

import typer

from vmaplab.cli.app import command
from vmaplab.cli.options import Json, Releases, print_json, releases_of
from vmaplab.release import DEFAULT
from vmaplab.report.progress import progress


@command("areas", short_help="List the vmalloc areas of another kernel: a vmcore, /proc/kcore.")
def areas_command(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="vmcore:FILE, kcore:, qemu:QMP-SOCKET or ram:FILE; ,vmlinux=FILE.")
    ],
    release: Releases = "all",
    rows: Annotated[int, typer.Option("--rows", min=0, help="Areas to show, those with most TLB entries.")] = 24,
    by_caller: Annotated[bool, typer.Option("--by-caller", help="One line for each function that asked.")] = False,
    as_json: Json = False,
) -> None:
    """List the vmalloc areas of another kernel: what its tables have, and what each release would build."""
    releases = releases_of(release)
    with progress("reading the kernel's memory", total=len(releases)) as advance:
        from vmaplab.vmcore.source import areas_of
        from vmaplab.vmcore.would import would

        found = areas_of(source)
        now, then = would(found, releases, advance)
    from vmaplab.report import areas

    if as_json:
        print_json("areas", areas.as_json(found, now, then))
    else:
        areas.areas(found, now, then, DEFAULT if DEFAULT in then else releases[-1], rows, by_caller)
    if found.damaged:
        raise typer.Exit(1)
