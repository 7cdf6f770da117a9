# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab sweep``."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmaplab._whole import check_writable, write_whole
from vmaplab.cli.app import command
from vmaplab.cli.options import (
    Base,
    BootArgs,
    Call,
    Config,
    Json,
    PageSize,
    Releases,
    Snippet,
    SourceArches,
    TotalPages,
    Tree,
    arch_for,
    arches_of,
    config_of,
    no_names,
    number_of,
    objects_of,
    print_json,
    releases_of,
)
from vmaplab.errors import InputError, not_installed, plain
from vmaplab.report.progress import progress

if TYPE_CHECKING:
    from vmaplab.object.build import Built


@command("sweep", short_help="Map many page arrays on many kernels: a row for each mapping.")
def sweep_command(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCES...", help="Files, directories, patterns, heap: with ranges, vmcore:, trace:."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE.parquet", help="Where the rows go.")],
    arch: SourceArches = None,
    release: Releases = "all",
    boot_args: BootArgs = "",
    config: Config = None,
    total_pages: TotalPages = None,
    page_size: PageSize = None,
    flip: Annotated[
        str, typer.Option("--flip", metavar="NAMES", help="Boot arguments and configuration to try both ways, or all.")
    ] = "",
    tree: Tree = None,
    base: Base = None,
    snippet: Snippet = None,
    call: Call = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Processes. Default: one a CPU.")] = None,
    scheduler: Annotated[
        str, typer.Option("--scheduler", metavar="tcp://HOST:PORT", help="Let the workers of a Dask cluster do it.")
    ] = "",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was begun.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a result that is there.")] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with pictures.")] = None,
    least: Annotated[int, typer.Option("--least", min=0, help="How many of those that gain least to show.")] = 10,
    as_json: Json = False,
) -> None:
    """Map many page arrays on many kernels: a row for each mapping, and what they come to.

    heap:4M..64M:*2,fragmentation=0..1:0.1,seed=1..50 is a heap for each combination; a directory is all page files in
    it and below it; a vmcore or a trace without area= or call= is all that it has.
    """
    try:
        from vmaplab.sweep.run import sweep
        from vmaplab.sweep.store import Store
    except ImportError as error:
        raise not_installed("sweep", error, "sweep") from None
    from vmaplab.pages.expand import expand_all
    from vmaplab.sweep.plan import Plan, options_of
    from vmaplab.sweep.summary import COLUMNS, summary_of

    no_names(sources)
    arches = arches_of(arch_for(arch, sources))
    releases = releases_of(release)
    flips = [word.strip() for word in flip.split(",") if word.strip()]
    objects: dict[str, dict[str, Built]] = {}
    for name, built in objects_of(arches, tree, base, snippet, call, config):
        objects.setdefault(built.target.arch, {})[name] = built
    plan = Plan(
        tuple(arches),
        tuple(releases),
        options_of(arches, boot_args, config_of(config), flips),
        number_of(total_pages),
        number_of(page_size),
        objects,
    )
    if html:
        check_writable(html)
    if "-" in sources:
        raise InputError("sweep takes no standard input: write it to a file")
    found, wrong, notes = expand_all(sources)
    if scheduler:
        found = [_anywhere(one) for one in found]
    store = Store(output, plan, [*found, *wrong], resume, force)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is done is kept
    try:
        with progress(f"mapping {len(found)} page arrays, {plan.each} times each", total=store.count) as advance:
            if not store.is_finished:
                sweep([*found, *wrong], plan, store, jobs=jobs, scheduler=scheduler, advance=advance)
    except KeyboardInterrupt:
        if store.done:
            kept = f"{len(store.done)} of {store.count} parts are kept: the same command with --resume goes on"
            print(f"vmaplab: {kept}", file=sys.stderr)
        raise
    finally:
        store.leave()
    table = store.columns(COLUMNS)
    summary = summary_of(table, least)
    if html:
        from vmaplab.report.sweep_html import as_html

        with progress("drawing"):
            write_whole(html, as_html(summary, table, output, plan))
    from vmaplab.report import sweeps

    if as_json:
        print_json("sweep", {**sweeps.as_json(summary, output), "notes": notes})
    else:
        sweeps.sweep(summary, output)
        for note in notes:
            print(plain(note))
    if not summary.mapped:
        raise typer.Exit(1)


def _anywhere(source: str) -> str:
    """A source whose files are found by workers that were started in another directory."""
    from vmaplab.pages.expand import KERNELS

    kind, colon, rest = source.partition(":")
    if kind not in (*KERNELS, "trace", "pagemap"):
        return os.path.abspath(source) if os.path.isfile(source) else source  # noqa: PTH100, PTH113 - a million files
    path, comma, options = rest.partition(",")
    return f"{kind}{colon}{os.path.abspath(path)}{comma}{options}" if os.path.isfile(path) else source  # noqa: PTH100, PTH113
