# SPDX-License-Identifier: GPL-2.0-only
"""Cores, a file each, found by their files."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from vmaplab.cost.core import Core
from vmaplab.errors import InputError


@cache
def cores() -> dict[str, Core]:
    """All cores by their names."""
    found = (importlib.import_module(f"{__name__}.{one.name}").CORE for one in pkgutil.iter_modules(__path__))
    return {one.name: one for one in sorted(found, key=lambda core: core.name)}


def cores_of(text: str) -> list[Core]:
    """The cores that ``text`` names, with commas, whatever their case; ``all``.

    :raises InputError: for one that is not known.
    """
    known = {name.lower(): core for name, core in cores().items()}
    if text == "all":
        return list(known.values())
    found = []
    for word in filter(None, (one.strip() for one in text.split(","))):
        name = word.lower().removeprefix("cortex-").removeprefix("neoverse-").removeprefix("sifive-")
        if name not in known:
            raise InputError(f"unknown core '{word}'; known: {', '.join(cores())}, all")
        found.append(known[name])
    return found
