# SPDX-License-Identifier: GPL-2.0-only
"""What calls that overlapped came to, in a form in which two schedules can be compared: without addresses that differ.

Linearizable (Herlihy and Wing, 1990) is what some order of the calls, one after the other, gives too. Of calls that
only look (vread, info, dump) the answers are not compared: they may see a moment between two calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vmaplab.calls.effects import Asks, Maps, Moves
from vmaplab.calls.table import Returns
from vmaplab.object.lowered import signed_int
from vmaplab.race.overlap import Overlap
from vmaplab.race.played import Lowered, Played


class Outcome(NamedTuple):
    """What calls came to.

    :param results: per CPU of each call: whether it returned an address, or its errno.
    :param mapped: of each area that a call took: the page frames in it, page by page, -1 where nothing is mapped; the
        kernel's own pages as 0.
    :param others: of all that is mapped outside these areas, the frames, ascending.
    :param own: pages that the page allocator has given.
    :param objects: slab objects, areas aside.
    :param space: bytes of address space, free or not.
    :param warnings: WARN()s.
    """

    results: tuple[tuple[int, ...], ...]
    mapped: tuple[tuple[int, ...], ...]
    others: tuple[int, ...]
    own: int
    objects: int
    space: int
    warnings: tuple[str, ...]

    def differs(self, orders: Sequence[Outcome]) -> str:
        """What of this no one of ``orders`` has, in words; "" if one of them is the same."""
        if self in orders:
            return ""
        names = {
            "results": "what the calls return",
            "mapped": "what is mapped in the new areas",
            "others": "what is mapped elsewhere",
            "own": "how many pages are allocated",
            "objects": "how many slab objects are allocated",
            "space": "how many bytes of address space there are",
            "warnings": "the warnings",
        }
        for field, words in names.items():
            mine, theirs = getattr(self, field), list(dict.fromkeys(getattr(one, field) for one in orders))
            if mine not in theirs:
                return f"{words}: {_short(mine)}; one after the other: {' or '.join(map(_short, theirs))}"
        return "each part of it is what some order of the calls gives, and no order gives all of them"


def outcome_of(kernel: Overlap, bodies: Sequence[Sequence[Lowered]], played: Played) -> Outcome:
    """What ``played`` came to. :meth:`.Overlap.finish` was called."""
    page = np.uint64(kernel.arch.page_size)
    va, frames = kernel.mapped()
    owned = kernel._rest._owned
    frames = np.array([0 if frame in owned else frame for frame in frames.tolist()], dtype=np.int64)
    rest = np.ones(len(va), dtype=bool)
    results, mapped = [], []
    for body, returned in zip(bodies, played.results, strict=True):
        told = []
        for call, value in zip(body, returned, strict=False):
            returns, effect = call.call.returns, call.call.effect
            if isinstance(effect, Asks) or returns is Returns.NOTHING:
                told.append(0)
            elif returns is Returns.ADDRESS:
                told.append(int(value > 0))
                if value and isinstance(effect, Maps | Moves):
                    first = np.uint64(value)
                    end = first + np.uint64(call.step.length) * page
                    inside = (va >= first) & (va < end)
                    found = np.full(int((end - first) // page), -1, dtype=np.int64)
                    found[((va[inside] - first) // page).astype(np.int64)] = frames[inside]
                    rest &= ~inside
                    mapped.append(tuple(found.tolist()))
            else:
                told.append(signed_int(value))
        results.append(tuple(told))
    return Outcome(
        tuple(results),
        tuple(mapped),
        tuple(sorted(frames[rest].tolist())),
        kernel.taken_pages,
        kernel._rest.live_objects - kernel._rules.areas,
        kernel._rules.space,
        tuple(kernel._cpu.take_log()[1]),
    )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else text[:96] + " ..."
