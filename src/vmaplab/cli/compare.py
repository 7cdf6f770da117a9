# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmaplab.arch import NAMES
from vmaplab.cli.app import app
from vmaplab.cli.options import (
    DEFAULT_ARCH,
    ArchesOption,
    BootArgs,
    Call,
    Config,
    Json,
    PageSize,
    Snippet,
    Source,
    TotalPages,
    Tree,
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
    arch: ArchesOption = DEFAULT_ARCH,
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
    """Map SOURCE on several releases and architectures, and on kernel trees, beside linux-6.12."""
    arches, releases = names_of(arch, NAMES, "architecture"), names_of(release, RELEASES, "release")
    objects: list[tuple[str, Built]] = []
    if tree or base or snippet or call:
        if config:
            raise InputError("--config is for the model's releases: leave it out, or --tree, --base and --snippet")
        run = targets_of(",".join(arches))
        trees = [(base, None, None)] * bool(base) + [(tree, snippet, call)]
        for one, *patch in trees:
            made = build_all(run, one, None, *patch)
            objects += [(f"{built.code} ({built.tree.name})" if one else built.code, built) for built in made]
    else:
        stay_small(source, len(arches) * len(releases))
    with progress("comparing", total=len(arches) * len(releases) + len(objects)) as advance:
        from vmaplab.compare import compare

        found = compare(
            source,
            arches,
            releases,
            boot_args=boot_args,
            config=config_of(config),
            total_pages=number_of(total_pages),
            page_size=number_of(page_size),
            objects=objects,
            advance=advance,
        )
    if as_json:
        from vmaplab.report import as_json as to_json

        print_json(to_json.comparison(found))
    else:
        from vmaplab.report import tables

        tables.comparison(source, found, boot_args, config_of(config))
    if not any(row.cost for row in found):
        raise typer.Exit(1)
