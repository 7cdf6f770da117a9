# SPDX-License-Identifier: GPL-2.0-only
"""The releases and patch versions, by name, oldest first.

A module of this package that has a ``RELEASE`` is a patch, listed by the day it was posted.
"""

from __future__ import annotations

import re
from importlib import import_module
from pkgutil import iter_modules

from vmaplab._names import known
from vmaplab.errors import InputError
from vmaplab.release import linux
from vmaplab.release.base import Release

_MODULES = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
_PATCHES: list[Release] = [module.RELEASE for module in _MODULES if hasattr(module, "RELEASE")]
RELEASES: dict[str, Release] = {
    release.name: release for release in (*linux.RELEASES, *sorted(_PATCHES, key=lambda patch: patch.posted))
}
ALIASES = {alias: name for name, release in RELEASES.items() for alias in release.aliases}
"""What people type -> its name."""
DEFAULT = "mm-unstable"
BASELINE = "linux-6.12"


def get(name: str) -> Release:
    """The release called ``name``.

    :raises InputError: if there is none.
    """
    version = re.fullmatch(r"(?:linux-|v)?(\d+\.\d+)(?:\.\d+)?", name.strip())
    if version and ALIASES.get(version[1]) is None:
        before = of_version(version[1]).name
        raise InputError(f"there is no row for {name}; {before} is the nearest before it; known: {', '.join(RELEASES)}")
    return RELEASES[known(name, RELEASES, "release", ALIASES)]


def of_version(version: str) -> Release:
    """The newest released kernel in the list that is not newer than ``version``, e.g. ``6.14.2``; or the oldest."""
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    return next((one for one in reversed(linux.RELEASES) if one.tree.number <= number), linux.RELEASES[0])


__all__ = ["ALIASES", "BASELINE", "DEFAULT", "RELEASES", "Release", "get", "of_version"]
