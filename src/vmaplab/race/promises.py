# SPDX-License-Identifier: GPL-2.0-only
"""What vm_unmap_aliases() owes when calls overlap.

Once it has returned, no TLB holds what was unmapped before it began: by calls that had returned, or before any call
overlapped. What a call unmaps that is under way then may stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vmaplab.errors import Violation
from vmaplab.judge.history import History, Spans
from vmaplab.trace import L_FLUSH_TLB, Ints


@dataclass
class Call:
    """A call, or a work, and its place among the turns of all CPUs and among the events.

    :param method: its name.
    :param purges: whether it is one like vm_unmap_aliases().
    :param first: the turn in which it began; ``last``: in which it returned.
    :param start: events before it; ``end``: before it returned.
    """

    method: str
    purges: bool
    first: int
    start: int
    last: int = 1 << 62
    end: int = -1


def owed(calls: Sequence[Call]) -> tuple[tuple[int, int, str], ...]:
    """Of each call that purges and has returned: from which event on what is stale then is to be flushed, up to which
    event, and its name. The first is where it began, or the first began that was under way then.
    """
    found = []
    for call in calls:
        if call.purges and call.end >= 0:
            start = min(it.start for it in calls if it.first <= call.first <= it.last)
            found.append((start, call.end, call.method))
    return tuple(found)


def follow(seen: History, rows: Ints, purges: Sequence[tuple[int, int, str]]) -> None:
    """Let ``seen`` take in all ``rows``, and look at what ``purges`` leave.

    :param purges: as :func:`owed` gives them.
    :raises Violation: if something is stale that is to be flushed, and for what ``seen`` finds.
    """
    left: dict[int, Spans] = {}
    at = 0
    for cut in sorted({0, len(rows), *(end for purge in purges for end in purge[:2])}):
        seen.follow(rows[at:cut])
        for kind, start, end, _ in rows[at:cut].tolist():
            for spans in left.values() if kind == L_FLUSH_TLB else ():
                spans.remove(start % (1 << 64), start % (1 << 64) + end - start)
        for number, (since, until, method) in enumerate(purges):
            if since == cut:
                left[number] = seen.stale.copy()
            if until == cut and (first := left.pop(number).first) is not None:
                raise Violation(
                    f"{method}() returns, and a TLB may still hold what was mapped at {first:#x}; that was unmapped "
                    "before it began"
                )
        at = cut
