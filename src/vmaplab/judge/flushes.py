# SPDX-License-Identifier: GPL-2.0-only
"""What the cache flushes of one call must cover, and what they must not."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import Violation
from vmaplab.judge.history import Rows, Span
from vmaplab.trace import L_FLUSH_VMAP, L_FLUSH_VUNMAP

EVERYWHERE: Span = (0, 1 << 64)


class Flushes(NamedTuple):
    """The cache flushes of a call, [start, end) each.

    :param maps: of ``flush_cache_vmap()``.
    :param unmaps: of ``flush_cache_vunmap()``.
    """

    maps: list[Span]
    unmaps: list[Span]


def flushes_of(rows: Rows) -> Flushes:
    """The cache flushes among events."""

    def spans(kind: int) -> list[Span]:
        return [(start, end or 1 << 64) for start, end in rows[rows[:, 0] == kind, 1:3].view(np.uint64).tolist()]

    return Flushes(spans(L_FLUSH_VMAP), spans(L_FLUSH_VUNMAP))


def flushed(
    call: str,
    flushes: Flushes,
    made: NDArray[Any],
    cleared: NDArray[Any],
    beside: Span,
    flushes_mapped: bool,
    undone: bool,
) -> None:
    """Cache flushes cover each new leaf and each old one.

    :param made: the leaf entries that the call made, ``vmaplab.judge.walker.ENTRY``; ``cleared`` likewise.
    :param beside: [start, end) of addresses that are not judged.
    :param flushes_mapped: the call flushes what it maps.
    :param undone: it may have failed and undone what it did.
    :raises Violation: naming the first leaf that none covers.
    """
    for spans, entries, what in (
        (flushes.maps, made, "mapped without a flush_cache_vmap() over it"),
        (flushes.unmaps, cleared, "unmapped without a flush_cache_vunmap() over it"),
    ):
        starts, last = entries["va"], entries["va"] + entries["size"] - np.uint64(1)
        if not len(starts) or (entries is made and not flushes_mapped):
            continue
        missed = (starts < np.uint64(beside[0])) | (starts >= np.uint64(beside[1]))
        for first, end in spans:
            missed &= ~((starts >= np.uint64(first)) & (last <= np.uint64(end - 1)))
        if entries is made and undone:
            missed &= ~np.isin(starts, cleared["va"])
        if missed.any():
            raise Violation(f"{call}(): {int(starts[np.flatnonzero(missed)[0]]):#x} is {what}")


def exactly(call: str, flushes: list[Span], start: int, end: int) -> None:
    """One cache flush is for exactly [start, end).

    :raises Violation: if none is.
    """
    if (start, end) not in flushes:
        told = ", ".join(f"[{first:#x}, {last:#x})" for first, last in flushes) or "nothing"
        raise Violation(f"{call}() flushes {told} from the cache instead of [{start:#x}, {end:#x})")


def bounded(call: str, flushes: Flushes, areas: list[Span], judged: Span, failed: bool) -> None:
    """No ``flush_cache_vmap()`` reaches beyond an area: one of ``areas``, or given up in this call.

    :param judged: only flushes that begin in [start, end) are.
    :param failed: the call may have failed.
    :raises Violation: naming one that does.
    """
    for first, last in flushes.maps:
        inside = any(start <= first and last <= end for start, end in [*areas, *flushes.unmaps])
        if judged[0] <= first < judged[1] and not inside:
            why = "which is no area that is in use or was given up" if failed else "which is no area"
            raise Violation(f"{call}() calls flush_cache_vmap() for [{first:#x}, {last:#x}), {why}")
