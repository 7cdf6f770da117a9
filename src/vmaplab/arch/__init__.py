# SPDX-License-Identifier: GPL-2.0-only
"""The architectures, by name, as a kernel tree has them.

A module of this package that has ``arches()`` is a family; ``PLACE`` says where it is listed.
What an architecture is depends on the tree: ask a release, ``release.on(name)``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules

from vmaplab.arch.base import Arch, Group, Level, Told
from vmaplab.changes import Change

_MODULES = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
_FAMILIES = sorted((module for module in _MODULES if hasattr(module, "arches")), key=lambda module: module.PLACE)


def of(has: Callable[[Change], bool]) -> dict[str, Arch]:
    """All architectures, by name, in a tree that has the changes for which ``has`` is true."""
    return {arch.name: arch for family in _FAMILIES for arch in family.arches(has)}


NAMES = tuple(of(lambda _: True))
"""All of them."""
ALIASES = {alias: name for family in _FAMILIES for alias, name in family.ALIASES.items()}
"""What people type -> its name."""

__all__ = ["ALIASES", "NAMES", "Arch", "Group", "Level", "Told", "of"]
