# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab compare``."""

from __future__ import annotations

from typing import Annotated

import typer

from vmaplab.arch import NAMES
from vmaplab.cli.app import app
from vmaplab.cli.options import (
    DEFAULT_ARCH,
    ArchesOption,
    BootArgs,
    Config,
    Json,
    PageSize,
    Source,
    TotalPages,
    config_of,
    names_of,
    number_of,
    print_json,
    stay_small,
)
from vmaplab.release import RELEASES
from vmaplab.report.progress import progress


@app.command("compare")
def compare_command(
    source: Source,
    arch: ArchesOption = DEFAULT_ARCH,
    release: Annotated[str, typer.Option("--release", "-r", help="Releases, with commas, or all.")] = "all",
    boot_args: BootArgs = "",
    config: Config = None,
    total_pages: TotalPages = None,
    page_size: PageSize = None,
    as_json: Json = False,
) -> None:
    """Map SOURCE on several releases and architectures, beside linux-6.12."""
    arches, releases = names_of(arch, NAMES, "architecture"), names_of(release, RELEASES, "release")
    stay_small(source, len(arches) * len(releases))
    with progress("comparing", total=len(arches) * len(releases)) as advance:
        from vmaplab.compare import compare

        found = compare(
            source,
            arches,
            releases,
            boot_args=boot_args,
            config=config_of(config),
            total_pages=number_of(total_pages),
            page_size=number_of(page_size),
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
