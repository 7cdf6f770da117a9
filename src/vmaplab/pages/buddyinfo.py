# SPDX-License-Identifier: GPL-2.0-only
"""The free blocks of a machine: /proc/buddyinfo and /proc/pagetypeinfo (Documentation/filesystems/proc.rst)."""

from __future__ import annotations

import re
from pathlib import Path

from vmaplab.errors import InputError
from vmaplab.pages.array import check_regular
from vmaplab.pages.heap import MAX_PAGE_ORDER

_ZONE = re.compile(r"Node\s+(\d{1,4}), zone\s+(\w{1,20})((?:\s+\d{1,12}){1,64})\s*")
_TYPE = re.compile(r"Node\s+(\d{1,4}), zone\s+(\w{1,20}), type\s+(\w{1,20})((?:\s+>?\d{1,12}){1,64})\s*")
_PREFERRED = ("Normal", "DMA32", "Movable", "HighMem", "DMA")
_RESERVED = ("HighAtomic", "CMA", "Isolate")
"""Migrate types whose blocks no heap gets: no fallback leads there."""
_MOST_BYTES = 1 << 20


def load(path: Path, node: int | None = None, zone: str | None = None) -> tuple[list[int], str]:
    """Free blocks of each order in a zone, and what it is called.

    :param node: the first one that the file has, if None; ``zone``: Normal, or else DMA32, if None.
    :raises InputError: if the file is neither, or has no such zone.
    """
    zones = _zones(path)
    node = next(iter(zones))[0] if node is None else node
    names = [name for number, name in zones if number == node]
    if not names:
        known = ", ".join(sorted({str(number) for number, _ in zones}))
        raise InputError(f"'{path}' has no node {node}; it has {known}")
    if zone is None:
        zone = next((name for name in _PREFERRED if name in names), names[0])
    if zone not in names:
        raise InputError(f"'{path}' has no zone '{zone}' of node {node}; it has {', '.join(names)}")
    counts = zones[node, zone]
    if len(counts) - 1 > MAX_PAGE_ORDER:
        raise InputError(f"'{path}' has orders up to {len(counts) - 1}; what is known goes to {MAX_PAGE_ORDER}")
    return counts + [0] * (MAX_PAGE_ORDER + 1 - len(counts)), f"node {node}, zone {zone}"


def _zones(path: Path) -> dict[tuple[int, str], list[int]]:
    """Node and zone -> free blocks of each order."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}") from None
    found: dict[tuple[int, str], list[int]] = {}
    plain = "migrate type" not in text  # pagetypeinfo has lines of pageblocks that look alike
    for line in text.splitlines():
        if plain and (one := _ZONE.fullmatch(line.strip())):
            found[int(one[1]), one[2]] = [int(word) for word in one[3].split()]
        elif (one := _TYPE.fullmatch(line.strip())) and one[3] not in _RESERVED:
            # pagetypeinfo writes ">100000" where it stops counting.
            counts = [int(word.lstrip(">")) for word in one[4].split()]
            before = found.get((int(one[1]), one[2]), [0] * len(counts))
            found[int(one[1]), one[2]] = [a + b for a, b in zip(before, counts, strict=False)]
    if not found:
        raise InputError(f"'{path}' is no /proc/buddyinfo or /proc/pagetypeinfo: it has no 'Node 0, zone' line")
    return found
