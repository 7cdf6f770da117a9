# SPDX-License-Identifier: GPL-2.0-only
"""What the cache flushes of one call must cover, and what they must not."""

from __future__ import annotations

import numpy as np

from vmaplab.errors import Violation
from vmaplab.judge.history import Change, Rows, Span
from vmaplab.trace import L_FLUSH_VMAP, L_FLUSH_VUNMAP


def flushed(call: str, rows: Rows, changes: Change, beside: Span, flushes: bool, undone: bool) -> None:
    """Cache flushes cover each new leaf and each old one.

    :param beside: [start, end) of addresses that are not judged.
    :param flushes: the call flushes what it maps and what it unmaps.
    :param undone: it may have failed and undone what it did.
    """
    for kind, entries, what in (
        (L_FLUSH_VMAP, changes.made, "mapped without a flush_cache_vmap() over it"),
        (L_FLUSH_VUNMAP, changes.cleared, "unmapped without a flush_cache_vunmap() over it"),
    ):
        starts, ends = entries["va"], entries["va"] + entries["size"]
        if not len(starts) or not flushes:
            continue
        missed = (starts < np.uint64(beside[0])) | (starts >= np.uint64(beside[1]))
        for first, last in rows[rows[:, 0] == kind, 1:3].view(np.uint64).tolist():
            top = np.uint64((last - 1) % (1 << 64))
            missed &= ~((starts >= np.uint64(first)) & (ends - np.uint64(1) <= top))
        if kind == L_FLUSH_VMAP and undone:
            missed &= ~np.isin(starts, changes.cleared["va"])
        if missed.any():
            raise Violation(f"{call}(): {int(starts[np.flatnonzero(missed)[0]]):#x} is {what}")


def exactly(call: str, rows: Rows, kind: int, start: int, end: int) -> None:
    """One cache flush is for exactly [start, end)."""
    flushes = rows[rows[:, 0] == kind, 1:3].view(np.uint64).tolist()
    if [start, end % (1 << 64)] not in flushes:
        told = ", ".join(f"[{first:#x}, {last:#x})" for first, last in flushes) or "nothing"
        raise Violation(f"{call}() flushes {told} from the cache instead of [{start:#x}, {end:#x})")


def bounded(call: str, rows: Rows, areas: list[Span], judged: Span, failed: bool) -> None:
    """No cache flush reaches beyond an area: one of ``areas``, or given up in this call.

    :param judged: only flushes that begin in [start, end) are.
    :param failed: the call may have failed.
    """
    ended = rows[rows[:, 0] == L_FLUSH_VUNMAP, 1:3].view(np.uint64).tolist()
    for first, last in rows[rows[:, 0] == L_FLUSH_VMAP, 1:3].view(np.uint64).tolist():
        if judged[0] <= first < judged[1] and not any(
            start <= first and last <= end for start, end in [*areas, *ended]
        ):
            why = "which is no area that is in use or was given up" if failed else "which is no area"
            raise Violation(f"{call}() calls flush_cache_vmap() for [{first:#x}, {last:#x}), {why}")
