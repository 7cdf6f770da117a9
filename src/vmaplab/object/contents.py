# SPDX-License-Identifier: GPL-2.0-only
"""What is in the memory of an area that vrealloc() moves: a rule of its documentation, without a model.

What was there stays up to the smaller of both sizes; what is more is zero, if each call for that memory, from the
first on, had __GFP_ZERO (include/linux/vmalloc.h, vrealloc() in mm/vmalloc.c).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import Violation

Memory = Callable[[int], "NDArray[np.uint8] | None"]
"""The bytes of the page at an address, which is there if something is mapped there."""
MOST_PAGES = 16
"""Of a larger area, so many pages are looked at from its start on."""


class Kept(NamedTuple):
    """Memory as it is.

    :param size: bytes asked for; ``zeroed``: as zeroes, each time.
    :param pages: page by page what was written, of those that are mapped.
    """

    size: int
    zeroed: bool
    pages: list[NDArray[np.uint8]]


class Contents:
    """The areas of one machine whose contents are known."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, bool]] = {}

    def begin(self, addr: int, size: int, zeroed: bool) -> None:
        """vmalloc() gave ``size`` bytes at ``addr``."""
        self._known[addr] = size, zeroed

    def write(self, addr: int, memory: Memory) -> Kept | None:
        """Write to what is at ``addr`` as its owner would; None if nothing is known of it."""
        size, zeroed = self._known.get(addr, (0, False))
        pages: list[NDArray[np.uint8]] = []
        at = 0
        while at < size and len(pages) < MOST_PAGES:
            there = memory(addr + at)
            if there is None:
                return None
            written = min(len(there), size - at)
            there[:written] = 1 + (np.arange(written) // 8 + at // 512) % 255
            pages.append(there.copy())
            at += len(there)
        return Kept(size, zeroed, pages) if pages else None

    def move(self, addr: int, to: int, size: int, zeroed: bool) -> None:
        """vrealloc() gave ``size`` bytes at ``to`` for what was at ``addr``."""
        _, before = self._known.pop(addr, (0, False))
        self._known[to] = size, zeroed and before

    def compare(self, addr: int, kept: Kept | None, memory: Memory) -> None:
        """Look at what is at ``addr`` now.

        :raises Violation: if it is not what was ``kept``, or what is more is not zero.
        """
        if kept is None:
            return
        size, zeroed = self._known[addr]
        same, page = min(size, kept.size), len(kept.pages[0])
        for number, at in enumerate(range(0, min(size, MOST_PAGES * page), page)):
            there = memory(addr + at)
            if there is None:
                raise Violation(f"vrealloc() returns {addr:#x}, and nothing is mapped at {addr + at:#x}")
            old = min(max(same - at, 0), page)
            if old and not np.array_equal(there[:old], kept.pages[number][:old]):
                wrong = at + int(np.flatnonzero(there[:old] != kept.pages[number][:old])[0])
                raise Violation(f"vrealloc() loses what was in the memory: byte {wrong} of {same} is another one")
            more = there[old : min(size - at, page)]
            if zeroed and more.any():
                wrong = at + old + int(np.flatnonzero(more)[0])
                raise Violation(f"vrealloc() with __GFP_ZERO leaves {more[more != 0][0]:#x} in byte {wrong} of {size}")
