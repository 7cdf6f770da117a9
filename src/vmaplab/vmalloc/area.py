"""Areas of kernel address space: the kernel's search with alignment, guard pages, lazy freeing.

``alloc_vmap_area()`` and ``free_vmap_area_noflush()`` of one CPU and one node.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmaplab.vmalloc.tree import give, grown, new_tree, room, take

LAZY_MAX_BYTES = 32 << 20  # lazy_max_pages() of one CPU


@dataclass
class VmArea:
    """``struct vm_struct``: an area of address space, addresses as unsigned ints.

    :param addr: first address.
    :param size: bytes, the guard page included.
    :param flags: ``VM_*``.
    :param pages: the pages that the area owns, if any, as PFNs.
    :param pages_addr: address of the page array of a ``vmalloc`` area, if that is in vmalloc space itself.
    """

    addr: int
    size: int
    flags: int
    pages: NDArray[np.uint64] | None = None
    pages_addr: int = 0
    order: int = 0

    @property
    def end(self) -> int:
        """First address after the area and its guard page."""
        return self.addr + self.size


class AddressSpace:
    """The vmalloc address space: which areas are free, in use, or waiting for a TLB flush.

    :param page_shift: log2 of the page size, the grain of everything here.
    :param lazy_max: bytes that may wait before they are purged (``lazy_max_pages()``).
    """

    def __init__(self, page_shift: int, lazy_max: int) -> None:
        self._unit = page_shift - 1  # log2 of half a page
        self._lazy_max = lazy_max
        self._free = new_tree(64)
        give(self._free, 2, 1 << (64 - self._unit))  # vmap_init_free_space(): all but the first page
        self._busy: dict[int, VmArea] = {}
        self._busy_starts: list[int] = []
        self._lazy: list[tuple[int, int]] = []
        self._lazy_bytes = 0

    def alloc(self, size: int, align: int, flags: int, vstart: int, vend: int) -> VmArea | None:
        """An area of ``size`` bytes (guard included) in [vstart, vend) aligned to ``align``; None if there is none."""
        if room(self._free) < 2:
            self._free = grown(self._free)
        unit = self._unit
        found = take(self._free, size >> unit, align >> unit, vstart >> unit, vend >> unit)
        if found < 0:
            return None
        addr = int(found) << unit
        area = VmArea(addr, size, flags)
        self._busy[addr] = area
        insort(self._busy_starts, addr)
        return area

    def find(self, addr: int) -> VmArea | None:
        """``find_vm_area()``: the area that holds ``addr``."""
        index = bisect_right(self._busy_starts, addr) - 1
        if index < 0:
            return None
        area = self._busy[self._busy_starts[index]]
        return area if addr < area.end else None

    def remove(self, area: VmArea) -> bool:
        """Take ``area`` out of use and let it wait for the purge; true if enough wait now."""
        del self._busy[area.addr]
        del self._busy_starts[bisect_left(self._busy_starts, area.addr)]
        insort(self._lazy, (area.addr, area.end))
        self._lazy_bytes += area.size
        return self._lazy_bytes > self._lazy_max

    def purge(self) -> tuple[int, int] | None:
        """``__purge_vmap_area_lazy()``: free what waits; returns the range whose TLB entries must go."""
        if not self._lazy:
            return None
        span = self._lazy[0][0], self._lazy[-1][1]
        for start, end in reversed(self._lazy):
            if room(self._free) < 2:
                self._free = grown(self._free)
            give(self._free, start >> self._unit, end >> self._unit)
        self._lazy, self._lazy_bytes = [], 0
        return span

    @property
    def allocated(self) -> int:
        """How many areas are in use or wait for the purge."""
        return len(self._busy) + len(self._lazy)

    @property
    def areas(self) -> list[VmArea]:
        """The areas in use, ascending."""
        return [self._busy[start] for start in self._busy_starts]
