# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab arches`` and ``vmaplab releases``."""

from __future__ import annotations

from vmaplab.cli.app import command
from vmaplab.cli.options import (
    Json,
    print_json,
)


@command("arches")
def arches_command(as_json: Json = False) -> None:
    """List the architectures."""
    _list("arches", as_json)


@command("releases")
def releases_command(as_json: Json = False) -> None:
    """List the kernel releases and patch versions."""
    _list("releases", as_json)


def _list(what: str, as_json: bool) -> None:
    from vmaplab import _jit

    _jit.stay_plain()
    if as_json:
        from vmaplab.report import as_json as to_json

        print_json(what, getattr(to_json, what)())
    else:
        from vmaplab.report import tables

        getattr(tables, what)()
