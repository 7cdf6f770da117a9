# SPDX-License-Identifier: GPL-2.0-only
"""Judge several calls at once, by their events: each made the leaves of its own area, and no others; likewise cleared.

One pass over all of them costs hardly more than one over the events of a single call. What is wrong is found, but a
finding does not always say where: whoever gets one makes the calls again, watched one by one.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.effects import NOTHING
from vmaplab.errors import Violation
from vmaplab.judge import invariants
from vmaplab.judge.format import U64, Format
from vmaplab.judge.history import Change
from vmaplab.mapping import Mapping
from vmaplab.trace import L_FLUSH_VMAP, L_FLUSH_VUNMAP, Ints

MOST = 32
"""Calls that can be judged at once: so many numbers fit above the bits of an address."""
_ABOVE = np.uint64(58)
_ADDRESS = np.uint64((1 << 58) - 1)

_NUMBERED = re.compile(r"(?<!PFN )(?<!instead of )(?<!maps )0x[0-9a-f]+")
"""Virtual addresses, among the numbers of a message of :mod:`.invariants`."""

Span = tuple[int, int]


class Done(NamedTuple):
    """A call that is to be judged.

    :param name: of the call.
    :param end: number of the row behind its last.
    :param made: the area that it has to map; None if it maps nothing.
    :param ended: the areas that it ends.
    :param refused: it failed, and has to have undone what it did.
    :param told: what it returned, if that is to be looked at.
    """

    name: str
    end: int
    made: Area | None
    ended: tuple[Area, ...]
    refused: bool
    told: Mapping | None


class Area(NamedTuple):
    """An area as it was when the call was made.

    :param addr: its first address; ``end`` behind its guard page.
    :param pfns: per page its frame, or NOTHING.
    :param rights: what its entries may allow; None if that is not judged.
    """

    addr: int
    end: int
    pfns: Ints
    rights: int | None


def judge(done: list[Done], first: int, rows: Ints, changes: Change, form: Format, page: int) -> None:
    """Judge the calls ``done``, whose events are ``rows``.

    :param first: number of the first of the rows.
    :param changes: what the rows changed.
    :param page: bytes of a page.
    :raises Violation: if one of them did anything else than what it had to do.
    """
    ends = np.array([one.end for one in done], dtype=np.int64)
    refused = np.array([one.refused for one in done], dtype=bool)
    mades = [(number, one.made) for number, one in enumerate(done) if one.made]
    gones = [(number, area) for number, one in enumerate(done) for area in one.ended]
    made_by = np.searchsorted(ends, changes.made_rows + first, side="right")
    cleared_by = np.searchsorted(ends, changes.cleared_rows + first, side="right")
    if refused.any():
        undone = _numbered(changes.made[refused[made_by]], made_by[refused[made_by]])
        again = _numbered(changes.cleared[refused[cleared_by]], cleared_by[refused[cleared_by]])
        if any(not np.array_equal(undone[field], again[field]) for field in ("va", "size", "phys")):
            raise Violation("a call that failed has not undone what it had mapped")
    made = _numbered(changes.made[~refused[made_by]], made_by[~refused[made_by]])
    cleared = _numbered(changes.cleared[~refused[cleared_by]], cleared_by[~refused[cleared_by]])
    granule = np.uint64(1 << form.levels[0][0])
    try:
        invariants.groups(made, form)
        invariants.alignment(made)
        invariants.bijection(invariants.spread(made, granule), _expected(mades, granule, page), page)
        invariants.bijection(invariants.spread(cleared, granule), _expected(gones, granule, page), page)
    except Violation as found:
        raise type(found)(_NUMBERED.sub(lambda it: _plain(int(it[0], 16), form), str(found))) from None
    wanted = [one.made.rights if one.made else None for one in done]
    judged = np.array([one is not None for one in wanted])[made_by]
    allowed = np.array([one or 0 for one in wanted], dtype=np.uint8)[made_by]
    if (changes.made["rights"] != allowed)[judged].any():
        raise Violation("a leaf allows something else than it should")
    _flushes(done, ends, first, rows, changes, cleared_by, page)
    _reported(done, changes, made_by, page)


def _numbered(entries: NDArray[Any], calls: Ints) -> NDArray[Any]:
    """``entries`` with the number of the call that made each of them above its address, in ascending order."""
    entries = entries.copy()
    entries["va"] = entries["va"] & _ADDRESS | calls.astype(np.uint64) << _ABOVE
    return entries[np.argsort(entries["va"], kind="stable")]


def _plain(numbered: int, form: Format) -> str:
    """An address as it was before a number stood above it."""
    return f"{numbered & int(_ADDRESS) | form.kernel_half:#x}"


def _expected(areas: list[tuple[int, Area]], granule: np.uint64, page: int) -> tuple[U64, U64]:
    """Where each granule of ``areas`` is, the number of the call above its address, and where it goes; ascending."""
    pfns = np.concatenate([np.zeros(0, dtype=np.int64), *(area.pfns for _, area in areas)])
    starts = np.array([area.addr & int(_ADDRESS) | number << 58 for number, area in areas], dtype=np.uint64)
    counts = np.array([len(area.pfns) for _, area in areas], dtype=np.int64)
    index = np.arange(len(pfns)) - np.repeat(np.cumsum(counts) - counts, counts)
    va = np.repeat(starts, counts) + index.astype(np.uint64) * np.uint64(page)
    there = pfns != NOTHING
    va, phys = va[there], pfns[there].astype(np.uint64) * np.uint64(page)
    if page > granule:
        cells = np.arange(0, page, int(granule), dtype=np.uint64)
        va, phys = (va[:, None] + cells).ravel(), (phys[:, None] + cells).ravel()
    order = np.argsort(va, kind="stable")
    return va[order], phys[order]


def _reported(done: list[Done], changes: Change, made_by: Ints, page: int) -> None:
    """What a call reports of its mapping is what it made."""
    for number, one in enumerate(done):
        if one.told is None:
            continue
        made = changes.made[made_by == number]
        actual = invariants.leaves(made[np.argsort(made["va"])], page)
        told = one.told.leaves
        if not np.array_equal(told, actual) or one.told.cost.tlb_entries != len(told):
            raise Violation(f"{one.name}() reports {len(told)} leaves that are not the {len(actual)} that it made")


def _flushes(
    done: list[Done], ends: Ints, first: int, rows: Ints, changes: Change, cleared_by: Ints, page: int
) -> None:
    """The cache is flushed for exactly what is mapped and for exactly what goes; nothing else is flushed."""
    at = np.flatnonzero((rows[:, 0] == L_FLUSH_VMAP) | (rows[:, 0] == L_FLUSH_VUNMAP))
    calls = np.searchsorted(ends, at + first, side="right").tolist()
    told: list[tuple[list[Span], list[Span]]] = [([], []) for _ in done]
    for number, (kind, start, end) in zip(
        calls, zip(rows[at, 0].tolist(), *rows[at, 1:3].T.view(np.uint64).tolist(), strict=True), strict=True
    ):
        told[number][kind == L_FLUSH_VUNMAP].append((start, end or 1 << 64))
    for number, (one, (maps, unmaps)) in enumerate(zip(done, told, strict=True)):
        if one.refused:
            its = changes.cleared[cleared_by == number]
            for va, size in zip(its["va"].tolist(), its["size"].tolist(), strict=True):
                if not any(start <= va and va + size <= end for start, end in unmaps):
                    raise Violation(f"{one.name}(): {va:#x} is unmapped without a flush_cache_vunmap() over it")
        mapped = (one.made.addr, one.made.addr + len(one.made.pfns) * page) if one.made else None
        if mapped and mapped not in maps:
            raise Violation(f"{one.name}() does not flush what it maps from the cache")
        if any((area.addr, area.end) not in unmaps for area in one.ended):
            raise Violation(f"{one.name}() does not flush what it unmaps from the cache")
        areas = [*([mapped] if mapped else []), *unmaps]
        if any(not any(start <= low and high <= end for start, end in areas) for low, high in maps):
            raise Violation(f"{one.name}() flushes what is no area from the cache")
