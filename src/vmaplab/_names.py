# SPDX-License-Identifier: GPL-2.0-only
"""Names that people type: aliases, and what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from vmaplab.errors import InputError


def known(
    text: str, names: Collection[str], what: str, aliases: Mapping[str, str] | None = None, more: str = ""
) -> str:
    """The one of ``names`` that ``text`` is, by itself or as an alias, in any case of letters.

    :param what: of what kind it is, for the message.
    :param more: what else could be written, for the message.
    :raises InputError: if it is none; it says which is near, or all of them.
    """
    given = text.strip()
    also = aliases or {}
    for name in (given, given.lower()):
        found = also.get(name, name)
        if found in names:
            return found
    if " " in given and any(word in names or word in also for word in given.split()):
        raise InputError(f"'{given}': separate several names with commas, {','.join(given.split())}")
    near = difflib.get_close_matches(given.lower(), [*names, *also], n=3, cutoff=0.7)
    near = near or [name for name in names if given and name.startswith(given.lower())]
    meant = {also.get(name, name) for name in near}
    close = [name for name in names if name in meant]
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise InputError(f"unknown {what} '{given}'; {hint}known: {', '.join(names)}{more}")
