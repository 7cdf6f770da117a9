# SPDX-License-Identifier: GPL-2.0-only
"""What must hold of all entries that the MMU can reach, whoever made them.

No code that makes entries is used here; formats come from :mod:`vmaplab.judge`. All functions raise
:class:`~vmaplab.errors.Violation` that names the first address where something is wrong.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.effects import NOTHING
from vmaplab.errors import Misplaced, Violation
from vmaplab.judge.format import EXEC, NORMAL, U64, USER, USER_EXEC, WRITE, Format
from vmaplab.mapping import LEAF_DTYPE, Mapping

Entries = NDArray[Any]
"""``vmaplab.judge.walker.ENTRY``, ascending ``va``."""


def spread(entries: Entries, granule: np.uint64) -> tuple[U64, U64]:
    """Virtual and physical address of each mapped granule, ascending: what the MMU makes of blocks and groups."""
    counts = np.maximum(entries["size"] // granule, np.uint64(1)).astype(np.int64)
    which = np.repeat(np.arange(len(entries)), counts)
    offset = (np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)).astype(np.uint64) * granule
    inside = _inside(entries)
    phys = (entries["phys"] & ~inside) | (entries["va"] & inside)
    return entries["va"][which] + offset, phys[which] + offset


def _inside(entries: Entries) -> U64:
    """The address bits within the group of each entry; 0 where it stands alone."""
    size = np.uint64(1) << entries["group"].astype(np.uint64)
    inside: U64 = np.where(entries["group"] > 0, size - np.uint64(1), np.uint64(0))
    return inside


def _stretches(start: U64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each stretch of equal values begins, and per value the number of its stretch."""
    begins = np.concatenate([[True], start[1:] != start[:-1]])[: len(start)]
    return np.flatnonzero(begins), np.cumsum(begins) - 1


def granules(areas: list[tuple[int, NDArray[np.int64]]], granule: int, page: int) -> tuple[U64, U64]:
    """Virtual and physical address of each granule that must be mapped, ascending.

    :param areas: first address, and per page its frame or NOTHING.
    :param granule: bytes that an entry of the last level maps.
    :param page: bytes of a page, one granule or several.
    """
    pfns = np.concatenate([np.zeros(0, dtype=np.int64), *(frames for _, frames in areas)])
    counts = np.array([len(frames) for _, frames in areas], dtype=np.int64)
    starts = np.array([start for start, _ in areas], dtype=np.uint64)
    index = np.arange(len(pfns)) - np.repeat(np.cumsum(counts) - counts, counts)
    va = np.repeat(starts, counts) + index.astype(np.uint64) * np.uint64(page)
    there = pfns != NOTHING
    va, phys = va[there], pfns[there].astype(np.uint64) * np.uint64(page)
    order = np.argsort(va, kind="stable")
    cells = np.arange(0, page, granule, dtype=np.uint64)
    return (va[order][:, None] + cells).ravel(), (phys[order][:, None] + cells).ravel()


def reported(call: str, mapping: Mapping, entries: Entries, size: int, page: int) -> None:
    """What ``call`` reports of its mapping is what is there.

    :param entries: of the mapping's area, ascending.
    :param size: bytes of that area, without a guard page.
    :param page: bytes of a page.
    """
    actual = leaves(entries, page)
    told = mapping.leaves[mapping.leaves["va"] <= np.uint64(mapping.addr + size - 1)]
    if not np.array_equal(told, actual) or mapping.cost.tlb_entries != len(mapping.leaves):
        raise Violation(f"{call}() reports {len(told)} leaves that are not the {len(actual)} that the tables hold")
    reported_size(call, mapping.size, size)


def reported_size(call: str, told: int, size: int) -> None:
    """``call`` reports no more bytes than it has mapped."""
    if told > size:
        raise Violation(f"{call}() reports {told} bytes and has mapped {size}")


def alignment(entries: Entries) -> None:
    """A leaf is aligned to its size, virtually and physically."""
    crooked = np.flatnonzero((entries["va"] | entries["phys"]) & (entries["size"] - np.uint64(1)))
    if len(crooked):
        bad = entries[crooked[0]]
        where = f"{int(bad['va']):#x} maps {int(bad['phys']):#x}"
        raise Violation(f"the leaf of {int(bad['size'])} bytes at {where}, which is not aligned")


def groups(entries: Entries, form: Format) -> None:
    """What an MMU may assume of a group of PTEs: all are there, their frames follow each other, they agree."""
    entries = entries[entries["group"] != 0]
    if not len(entries):
        return
    inside = _inside(entries)
    start, base = entries["va"] & ~inside, entries["phys"] & ~inside
    own = ((entries["phys"] ^ entries["va"]) & inside == 0) | (entries["group"] == form.alike)
    if not own.all():
        bad = entries[np.flatnonzero(~own)[0]]
        raise Violation(f"the entry for {int(bad['va']):#x} is in a group, and its frame is not aligned as its address")
    first, number = _stretches(start)
    counts, wanted = np.bincount(number), (inside[first] + np.uint64(1)) // entries["size"][first]
    if len(short := np.flatnonzero(counts != wanted)):
        bad = int(short[0])
        raise Violation(f"the group at {int(start[first[bad]]):#x} has {counts[bad]} of {wanted[bad]} entries")
    same = (base == base[first][number]) & (entries["attributes"] == entries["attributes"][first][number])
    if not same.all():
        bad = int(np.flatnonzero(~same)[0])
        where = f"{int(entries['va'][bad]):#x} differs"
        raise Violation(f"the entries of the group at {int(start[bad]):#x} do not agree: {where}")


def bijection(actual: tuple[U64, U64], expected: tuple[U64, U64], page: int) -> None:
    """Each expected address goes to its frame, and no other address goes anywhere.

    :param actual: virtual and physical addresses, ascending; ``expected`` likewise.
    :param page: bytes of a page.
    """
    (there, to), (va, phys) = actual, expected
    if len(there) == len(va) and np.array_equal(there, va) and np.array_equal(to, phys):
        return
    if len(twice := np.flatnonzero(there[1:] == there[:-1])):
        raise Misplaced(f"{int(there[twice[0]]):#x} is mapped twice")
    extra, missing = np.setdiff1d(there, va), np.setdiff1d(va, there)
    if len(extra):
        pfn = int(to[np.flatnonzero(there == extra[0])[0]]) // page
        raise Misplaced(f"{int(extra[0]):#x} is mapped to PFN {pfn:#x}: nothing should be mapped there")
    if len(missing):
        raise Misplaced(f"{int(missing[0]):#x} is not mapped")
    bad = int(np.flatnonzero(to != phys)[0])
    pfns = f"PFN {int(to[bad]) // page:#x} instead of {int(phys[bad]) // page:#x}"
    raise Misplaced(f"{int(va[bad]):#x} is mapped to {pfns}")


def rights(entries: Entries, form: Format, areas: list[tuple[int, int, int | None]]) -> None:
    """Ordinary memory for data and device memory for ``ioremap()``, written to, not executed where that can be refused.

    :param areas: ``(start, end, rights)``; ``rights`` None where the caller asked for others: then only what
        ``pgprot_nx()`` and the kernel half of the address space forbid is looked at.
    """
    closed = (EXEC | USER | USER_EXEC) & ~form.data_rights
    for start, end, wanted in areas:
        first, last = np.searchsorted(entries["va"], np.array([start, end], dtype=np.uint64))
        given = entries["rights"][first:last]
        wrong = given & closed != 0 if wanted is None else given != wanted
        if wrong.any():
            bad = entries[first + int(np.flatnonzero(wrong)[0])]
            words = [word for flag, word in _RIGHTS if bad["rights"] & flag]
            kind = "ordinary" if bad["rights"] & NORMAL else "device"
            can = f"can be {' and '.join(words)}" if words else "is read only"
            raise Violation(f"{int(bad['va']):#x} {can}, as {kind} memory")


_RIGHTS = ((WRITE, "written"), (EXEC, "executed"), (USER, "used from user mode"), (USER_EXEC, "executed in user mode"))


def as_built(entries: Entries, page: int) -> NDArray[Any]:
    """As :func:`leaves`, but the entries of a group that is not complete stand alone."""
    entries = entries.copy()
    inside = _inside(entries)
    _, number = _stretches(entries["va"] & ~inside)
    entries["group"][np.bincount(number)[number] * entries["size"] <= inside] = 0
    return leaves(entries, page)


def leaves(entries: Entries, page: int) -> NDArray[Any]:
    """The leaves as the MMU sees them: ``LEAF_DTYPE``, a group being one; ``page``: bytes of a page."""
    inside = _inside(entries)
    single = entries["size"] - np.uint64(1) | np.uint64(page - 1) | inside
    start = entries["va"] & ~single
    first, _ = _stretches(start)
    found = np.zeros(len(first), dtype=LEAF_DTYPE)
    found["va"], found["size"] = start[first], single[first] + np.uint64(1)
    found["pfn"] = (entries["phys"] & ~single)[first] // np.uint64(page)
    return found
