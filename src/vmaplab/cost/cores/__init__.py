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


def cores_of(text: str, family: str | None = None) -> list[Core]:
    """The cores that ``text`` names, with commas, whatever their case, each once; ``all``.

    :param family: whose instructions they are to execute.
    :raises InputError: for one that is not known, or does not; or if none is named.
    """
    known = {name.lower(): core for name, core in cores().items()}
    if text == "all":
        return [core for core in known.values() if family in (None, core.family)]
    found: list[Core] = []
    for word in filter(None, (one.strip() for one in text.split(","))):
        name = word.lower().removeprefix("cortex-").removeprefix("neoverse-").removeprefix("sifive-")
        if name not in known:
            raise InputError(f"unknown core '{word}'; known: {', '.join(cores())}, all")
        if family not in (None, known[name].family):
            raise InputError(f"{known[name].title} does not execute {family} code")
        found += [known[name]] if known[name] not in found else []
    if not found:
        raise InputError(f"no core is named; known: {', '.join(cores())}, all")
    return found
