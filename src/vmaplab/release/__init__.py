# SPDX-License-Identifier: GPL-2.0-only
"""The releases and patch versions, by name, oldest first. Adding a patch is one file and a line here."""

from __future__ import annotations

import re

from vmaplab.errors import InputError
from vmaplab.release import linux, mm_unstable, review, series_v3, series_v4
from vmaplab.release.base import Release

RELEASES: dict[str, Release] = {
    release.name: release
    for release in (
        *linux.RELEASES,
        series_v3.RELEASE,
        review.RELEASE,
        series_v4.RELEASE,
        mm_unstable.RELEASE,
    )
}
DEFAULT = mm_unstable.RELEASE.name
BASELINE = "linux-6.12"


def get(name: str) -> Release:
    """The release called ``name``.

    :raises InputError: if there is none.
    """
    try:
        return RELEASES[name]
    except KeyError:
        raise InputError(f"unknown release '{name}'; known: {', '.join(RELEASES)}") from None


def of_version(version: str) -> Release:
    """The newest released kernel in the list that is not newer than ``version``, e.g. ``6.14.2``; or the oldest."""
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    return next((one for one in reversed(linux.RELEASES) if one.tree.number <= number), linux.RELEASES[0])


__all__ = ["BASELINE", "DEFAULT", "RELEASES", "Release", "get", "of_version"]
