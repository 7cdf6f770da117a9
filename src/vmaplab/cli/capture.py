# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab capture``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vmaplab.cli.app import command
from vmaplab.cli.options import (
    Json,
    PageSize,
    Source,
    SourceArch,
    arch_for,
    number_of,
    print_json,
    stay_small,
)
from vmaplab.errors import InputError
from vmaplab.report.progress import progress


@command("capture")
def capture_command(
    source: Source,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="FILE.{txt,csv,npy,parquet}.")],
    arch: SourceArch = None,
    page_size: PageSize = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write the pages of SOURCE to a file, whole or not at all."""
    if not force and Path(output).exists():
        raise InputError(f"'{output}' is there already; --force writes over it")
    arch = arch_for(arch, source)
    stay_small(source)
    with progress("capturing"):
        from vmaplab import pages
        from vmaplab.pages import USUAL
        from vmaplab.pages.array import size_text
        from vmaplab.report.text import pages_text

        pfns = pages.load(source, arch, number_of(page_size))
        pages.save(output, pfns)
    page = pfns.page_size or 0
    if as_json:
        print_json("capture", {"file": output, "pages": len(pfns), "page_size": page})
    else:
        print(f"{pages_text(len(pfns))} of {size_text(page)} written to {output}")
        if page != USUAL and not output.endswith(".parquet"):
            print(f"Only a .parquet file keeps the size of its pages: with this one, say --page-size {size_text(page)}")
