"""Areas of kernel address space: lowest fit with alignment, guard pages, lazy freeing.

``alloc_vmap_area()`` and ``free_vmap_area_noflush()`` of one CPU and one node, with a sorted list of free blocks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


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


@dataclass
class AddressSpace:
    """The vmalloc address space: which areas are free, in use, or waiting for a TLB flush.

    :param start: VMALLOC_START.
    :param end: VMALLOC_END.
    :param lazy_max: bytes that may wait before they are purged (``lazy_max_pages()``).
    """

    start: int
    end: int
    lazy_max: int
    _free: list[tuple[int, int]] = field(default_factory=list)
    _busy: dict[int, VmArea] = field(default_factory=dict)
    _busy_starts: list[int] = field(default_factory=list)
    _lazy: list[tuple[int, int]] = field(default_factory=list)
    _lazy_bytes: int = 0

    def __post_init__(self) -> None:
        self._free = [(self.start, self.end)]

    def alloc(self, size: int, align: int, flags: int, vstart: int = 0, vend: int = 0) -> VmArea | None:
        """The lowest free area of ``size`` bytes (guard included) aligned to ``align``; None if there is none."""
        vstart, vend = vstart or self.start, vend or self.end
        for index, (start, end) in enumerate(self._free):
            addr = -(-max(start, vstart) // align) * align
            if addr + size <= min(end, vend):
                self._free[index : index + 1] = [
                    block for block in ((start, addr), (addr + size, end)) if block[0] < block[1]
                ]
                area = VmArea(addr, size, flags)
                self._busy[addr] = area
                insort(self._busy_starts, addr)
                return area
        return None

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
        return self._lazy_bytes > self.lazy_max

    def purge(self) -> tuple[int, int] | None:
        """``__purge_vmap_area_lazy()``: free what waits; returns the range whose TLB entries must go."""
        if not self._lazy:
            return None
        span = self._lazy[0][0], max(end for _, end in self._lazy)
        merged: list[tuple[int, int]] = []
        for start, end in sorted(self._free + self._lazy):
            if merged and merged[-1][1] == start:
                merged[-1] = (merged[-1][0], end)
            else:
                merged.append((start, end))
        self._free, self._lazy, self._lazy_bytes = merged, [], 0
        return span

    @property
    def areas(self) -> list[VmArea]:
        """The areas in use, ascending."""
        return [self._busy[start] for start in self._busy_starts]
