# SPDX-License-Identifier: GPL-2.0-only
"""Judge several calls at once, by their events: each made the leaves of its own area, and no others; likewise cleared.

One pass over all of them costs hardly more than one over the events of a single call. What is wrong is found, but a
finding does not always say where: whoever gets one makes the calls again, watched one by one.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.effects import MANY
from vmaplab.errors import Violation
from vmaplab.judge import invariants
from vmaplab.judge.flushes import EVERYWHERE, bounded, exactly, flushed, flushes_of
from vmaplab.judge.format import Format
from vmaplab.judge.history import Change, Rows, Span
from vmaplab.mapping import Mapping
from vmaplab.trace import Ints

_ADDRESS_BITS = 58
MOST = 1 << 64 - _ADDRESS_BITS - 1
"""Calls that can be judged at once: their numbers stand above the bits of an address, the last bit aside."""
_ADDRESS = (1 << _ADDRESS_BITS) - 1

_NUMBERED = re.compile(r"(?<!PFN )(?<!instead of )(?<!maps )0x[0-9a-f]+")
"""Virtual addresses, among the numbers of a message of :mod:`.invariants`."""


class Done(NamedTuple):
    """A call that is to be judged.

    :param name: of the call.
    :param end: number of the row behind its last.
    :param made: the area that it has to map; None if it maps nothing.
    :param ended: the areas that it ends.
    :param refused: it failed, and has to have undone what it did.
    :param told: what it returned, if that is to be looked at; ``size``: how many bytes that has.
    """

    name: str
    end: int
    made: Area | None
    ended: tuple[Area, ...]
    refused: bool
    told: Mapping | None
    size: int


class Area(NamedTuple):
    """An area as it was when the call was made.

    :param addr: its first address; ``end`` behind its guard page, if it has one.
    :param pfns: per page its frame, or NOTHING.
    :param rights: what its entries may allow; None if that is not judged.
    """

    addr: int
    end: int
    pfns: Ints
    rights: int | None


def judge(done: list[Done], first: int, rows: Rows, changes: Change, form: Format, page: int, held: list[Span]) -> None:
    """Judge the calls ``done``, :data:`MOST` at most, whose events are ``rows``.

    :param first: number of the first of the rows.
    :param changes: what the rows changed.
    :param page: bytes of a page.
    :param held: [start, end) of the areas that are there after them.
    :raises Violation: if one of them did anything else than what it had to do.
    """
    if changes.altered:
        raise Violation(f"what maps {changes.altered[0]:#x} is changed while it is in use")
    ends = np.array([one.end for one in done], dtype=np.int64) - first
    refused = np.array([one.refused for one in done], dtype=bool)
    made_by = np.searchsorted(ends, changes.made_rows, side="right")
    cleared_by = np.searchsorted(ends, changes.cleared_rows, side="right")
    if refused.any():
        undone = _numbered(changes.made, made_by, refused)
        again = _numbered(changes.cleared, cleared_by, refused)
        if not np.array_equal(_kept(undone, again), _kept(again, undone)):
            raise Violation("a call that failed has not undone what it had mapped")
    made, cleared = _numbered(changes.made, made_by, ~refused), _numbered(changes.cleared, cleared_by, ~refused)
    made, cleared = _kept(made, cleared), _kept(cleared, made)
    mades = [(_above(one.made.addr, number), one.made) for number, one in enumerate(done) if one.made]
    gones = [(_above(area.addr, number), area) for number, one in enumerate(done) for area in one.ended]
    granule = 1 << form.levels[0][0]
    try:
        invariants.groups(made, form)
        invariants.alignment(made)
        for entries, areas in ((made, mades), (cleared, gones)):
            small = [(start, area.pfns) for start, area in areas if len(area.pfns) <= MANY]
            expected = invariants.granules(small, granule, page)
            invariants.bijection(invariants.spread(entries, np.uint64(granule)), expected, page)
        invariants.rights(made, form, [(start, start + len(area.pfns) * page, area.rights) for start, area in mades])
    except Violation as found:
        raise type(found)(_NUMBERED.sub(lambda it: _plain(int(it[0], 16), form), str(found))) from None
    clearing = set(cleared_by.tolist())
    begin, known = 0, held + [(area.addr, area.end) for one in done for area in one.ended]
    for number, (one, end) in enumerate(zip(done, ends.tolist(), strict=True)):
        flushes = flushes_of(rows[begin:end])
        begin = end
        mapped = [(one.made.addr, one.made.addr + len(one.made.pfns) * page)] if one.made else []
        for start, stop in mapped:
            exactly(one.name, flushes.maps, start, stop)
        for area in one.ended:
            exactly(one.name, flushes.unmaps, area.addr, area.end)
        if not set(flushes.maps).issubset(mapped):
            bounded(one.name, flushes, known, EVERYWHERE, one.refused)
        if one.refused or (one.made and number in clearing):
            its = changes.made[made_by == number], changes.cleared[cleared_by == number]
            flushed(one.name, flushes, *its, (0, 0), flushes_mapped=True, undone=True)
        if one.made and not one.told:
            invariants.reported_size(one.name, one.size, len(one.made.pfns) * page)
        elif one.made and one.told:
            its_made = made[made["va"] >> np.uint64(_ADDRESS_BITS) == np.uint64(number)]
            its_made["va"] = its_made["va"] & np.uint64(_ADDRESS) | np.uint64(form.kernel_half)
            invariants.reported(one.name, one.told, its_made, len(one.made.pfns) * page, page)


def _kept(entries: NDArray[Any], undone: NDArray[Any]) -> NDArray[Any]:
    """``entries`` without those that the same call has also ``undone``, one for one; both are numbered."""
    if not len(np.intersect1d(entries["va"], undone["va"])):
        return entries
    left = Counter(undone.tolist())
    chosen = np.ones(len(entries), dtype=np.bool_)
    for at, entry in enumerate(entries.tolist()):
        if left[entry]:
            left[entry] -= 1
            chosen[at] = False
    return entries[chosen]


def _above(addr: int, number: int) -> int:
    """``addr`` with the number of a call above it."""
    return addr & _ADDRESS | number << _ADDRESS_BITS


def _plain(numbered: int, form: Format) -> str:
    """The reverse of :func:`_above`, as text."""
    return f"{numbered & _ADDRESS | form.kernel_half:#x}"


def _numbered(entries: NDArray[Any], calls: Ints, chosen: NDArray[np.bool_]) -> NDArray[Any]:
    """The entries of the ``chosen`` calls with the number of its call above the address of each, ascending."""
    its = chosen[calls]
    entries, calls = entries[its], calls[its]
    entries["va"] = entries["va"] & np.uint64(_ADDRESS) | calls.astype(np.uint64) << np.uint64(_ADDRESS_BITS)
    return entries[np.argsort(entries["va"], kind="stable")]
