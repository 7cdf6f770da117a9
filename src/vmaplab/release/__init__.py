"""The releases and patch versions, by name, oldest first. Adding one is one file and a line here."""

from __future__ import annotations

import re

from vmaplab.errors import InputError
from vmaplab.release import linux_6_12, linux_6_16, mm_unstable, review, series_v3, series_v4
from vmaplab.release.base import Release

RELEASES: dict[str, Release] = {
    module.RELEASE.name: module.RELEASE
    for module in (linux_6_12, linux_6_16, series_v3, review, series_v4, mm_unstable)
}
DEFAULT = mm_unstable.RELEASE.name
BASELINE = linux_6_12.RELEASE.name


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

    def number(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", text)[:2]]

    found = RELEASES[BASELINE]
    for name, release in RELEASES.items():
        if name.startswith("linux-") and number(name) <= number(version):
            found = release
    return found


__all__ = ["BASELINE", "DEFAULT", "RELEASES", "Release", "get", "of_version"]
