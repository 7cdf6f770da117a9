# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab cache``."""

from __future__ import annotations

import shutil
from typing import Annotated

import typer

from vmaplab._cache import KINDS, cache_root, measure
from vmaplab._names import known
from vmaplab.cli.app import command
from vmaplab.cli.options import Json, print_json
from vmaplab.errors import InputError
from vmaplab.report.progress import progress


@command("cache", short_help="Show what is kept on disk for the next time, or remove it.")
def cache_command(
    clear: Annotated[
        str | None, typer.Option("--clear", metavar="KINDS", help="Remove these, separated by commas, or all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what is kept on disk to be faster the next time, or remove it."""
    from vmaplab import _jit

    _jit.stay_plain()
    root = cache_root()
    wanted: list[str] = []
    if clear is not None:
        given = [one.strip() for one in clear.split(",")]
        wanted = list(KINDS) if "all" in given else [known(one, KINDS, "kind", None, ", all") for one in given]
        wanted = [one for one in wanted if (root / one).exists()]
    with progress("measuring"):
        found = {name: measure(root / name) for name in KINDS}
    for name in wanted:
        try:
            shutil.rmtree(root / name)
        except OSError as error:
            raise InputError(f"cannot remove {root / name}: {error.strerror}; is another vmaplab running?") from None
    if as_json:
        kinds = [
            {"kind": name, "bytes": size, "files": count, "removed": name in wanted, "what": KINDS[name]}
            for name, (size, count) in found.items()
        ]
        print_json("cache", {"path": str(root), "kinds": kinds})
    else:
        from vmaplab.report import tables

        tables.cache(root, found, wanted)
