# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmaplab.arch import NAMES
from vmaplab.cli.app import app
from vmaplab.cli.options import (
    BootArgs,
    Call,
    Config,
    Json,
    PageSize,
    Snippet,
    Source,
    SourceArches,
    TotalPages,
    Tree,
    arch_for,
    build_all,
    config_of,
    names_of,
    number_of,
    print_json,
    stay_small,
    targets_of,
)
from vmaplab.errors import InputError
from vmaplab.release import RELEASES
from vmaplab.report.progress import progress

if TYPE_CHECKING:
    from vmaplab.object.build import Built


@app.command("compare")
def compare_command(
    source: Source,
    arch: SourceArches = None,
    release: Annotated[str, typer.Option("--release", "-r", help="Releases, with commas, or all.")] = "all",
    boot_args: BootArgs = "",
    config: Config = None,
    total_pages: TotalPages = None,
    page_size: PageSize = None,
    tree: Tree = None,
    base: Annotated[Path | None, typer.Option("--base", metavar="DIR", help="A second kernel tree, before it.")] = None,
    snippet: Snippet = None,
    call: Call = None,
    as_json: Json = False,
) -> None:
    """Map SOURCE on several releases and architectures, and on kernel trees, beside linux-6.12.

    A directory or a pattern is several page arrays, each mapped on its own.
    """
    arches, releases = names_of(arch_for(arch, source), NAMES, "architecture"), names_of(release, RELEASES, "release")
    objects: list[tuple[str, Built]] = []
    if tree or base or snippet or call:
        if config:
            raise InputError("--config is for the model's releases: leave it out, or --tree, --base and --snippet")
        run = targets_of(",".join(arches))
        trees = [(base, None, None)] * bool(base) + [(tree, snippet, call)]
        for one, *patch in trees:
            made = build_all(run, one, None, *patch)
            objects += [(f"{built.code} ({built.tree.name})" if one else built.code, built) for built in made]
    from vmaplab.pages import expand

    sources = expand(source)
    if not objects:
        stay_small(sources[0], len(arches) * len(releases) * len(sources))
    each = len(arches) * len(releases) + len(objects)
    with progress("comparing", total=each * len(sources)) as advance:
        from vmaplab.compare import compare

        found = {
            one: compare(
                one,
                arches,
                releases,
                boot_args=boot_args,
                config=config_of(config),
                total_pages=number_of(total_pages),
                page_size=number_of(page_size),
                objects=objects,
                advance=advance,
            )
            for one in sources
        }
    if as_json:
        from vmaplab.report import as_json as to_json

        rows = [{"source": one, **row} for one, block in found.items() for row in to_json.comparison(block)]
        print_json(rows)
    else:
        from vmaplab.report import tables

        if len(sources) > 1:
            tables.several(source, found, boot_args, config_of(config))
        else:
            tables.comparison(sources[0], found[sources[0]], boot_args, config_of(config))
    if not any(row.cost for block in found.values() for row in block):
        raise typer.Exit(1)
