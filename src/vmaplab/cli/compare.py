# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    Sources,
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
    stay_small,
)
from vmaplab.errors import InputError, plain
from vmaplab.report.progress import progress


@command("compare", short_help="Map SOURCES on several releases, architectures and trees.")
def compare_command(
    sources: Sources,
    arch: SourceArches = None,
    release: Releases = "all",
    boot_args: BootArgs = "",
    config: Config = None,
    total_pages: TotalPages = None,
    page_size: PageSize = None,
    tree: Tree = None,
    base: Base = None,
    snippet: Snippet = None,
    call: Call = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with the page tables.")
    ] = None,
    legend: Annotated[bool, typer.Option("--legend", help="Say what the columns are.")] = False,
    as_json: Json = False,
) -> None:
    """Map SOURCES on several releases and architectures, and on kernel trees, beside linux-6.12.

    A directory, a pattern, a heap: with ranges is several page arrays, each mapped on its own. For thousands: sweep.
    """
    if html:
        check_writable(html)
    no_names(sources)
    arches, releases = arches_of(arch_for(arch, sources)), releases_of(release)
    objects = objects_of(arches, tree, base, snippet, call, config)
    from vmaplab.pages.expand import expand_all

    named, wrong, notes = expand_all(sources)
    if not objects:
        stay_small(named[0], len(arches) * len(releases) * len(named))
    each = len(arches) * len(releases) + len(objects)
    with progress("comparing", total=each * len(named)) as advance:
        from vmaplab.compare import MOST_SOURCES, Row, compare

        found: dict[str, list[Row]] = {
            one: [Row(arch, "", {}, None, None, refused=why) for arch in arches] for one, why in wrong.items()
        }
        for number, one in enumerate(named):
            try:
                found[one] = compare(
                    one,
                    arches,
                    releases,
                    boot_args=boot_args,
                    config=config_of(config),
                    total_pages=number_of(total_pages),
                    page_size=number_of(page_size),
                    objects=objects,
                    keep=html is not None and number < MOST_SOURCES,
                    advance=advance,
                )
            except InputError as error:
                if len(named) + len(wrong) == 1:
                    raise
                found[one] = [Row(arch, "", {}, None, None, refused=str(error)) for arch in arches]
    if html:
        from vmaplab.report.compare_html import as_html

        write_whole(html, as_html(" ".join(sources), found, boot_args, config_of(config)))
    if as_json:
        from vmaplab.report import as_json as to_json

        rows = [{"source": one, **row} for one, block in found.items() for row in to_json.comparison(block)]
        print_json("compare", rows)
    else:
        from vmaplab.report import tables

        if len(found) > 1:
            tables.several(" ".join(sources), found, boot_args, config_of(config))
        else:
            tables.comparison(named[0], found[named[0]], boot_args, config_of(config), legend)
        for note in notes:
            print(plain(note))
    if not any(row.cost for block in found.values() for row in block):
        raise typer.Exit(1)
