# SPDX-License-Identifier: GPL-2.0-only
"""The rest of the kernel where calls overlap: memory is not used again, and what happens to it is logged."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import KernelFault
from vmaplab.object.answers import Rest
from vmaplab.race.hooks import ALLOC, FLUSH, FREE, READ
from vmaplab.race.order import AFTER_GRACE, ZEROED
from vmaplab.race.stepper import Stepper
from vmaplab.trace import L_FLUSH_TLB

_FRAMES = 0x6D18 << 48


def frame_key(pfn: int) -> int:
    """What stands in the log for the contents of a page frame: no address is like it, and 8 bytes are enough."""
    return _FRAMES + 8 * pfn


def frame_of(key: int) -> int | None:
    """The page frame for which ``key`` stands, or None."""
    return (key - _FRAMES) // 8 if key >> 48 == _FRAMES >> 48 else None


class Quarantine(Rest):
    """The rest of the kernel: what is freed is not used again, and is told to the log.

    :ivar known: slab objects that there are or were: address -> bytes, and what the call returns to that allocated it.
    :ivar later: objects that are free once no reader can have them; ``gone``: page frames that were freed.
    :ivar working: CPU -> the work that it runs.
    """

    cpu: Stepper
    queued: Mapping[str, int | None] = MappingProxyType({})  # it matters when each of them happens
    changing = (*Rest.changing, "known", "later", "gone", "working")

    def _alloc(self, size: int, gfp: int) -> int:
        address = super()._alloc(size, gfp)
        if address:
            self.known[address] = size, self._places[address]
            self.cpu.note(ALLOC, address, size)
        return address

    def _free(self, address: int) -> None:
        size = self._objects.get(address, 0)
        super()._free(address)
        if size:
            self._free_objects.clear()
            self.cpu.note(FREE, address, size)

    def _kvfree_call_rcu(self, object: int) -> None:  # noqa: A002 - as the prototype has it
        self._free_later(object)

    def _kvfree_call_rcu_by_offset(self, head: int, offset: int) -> None:
        self._free_later(head - offset if head else offset)

    def _free_later(self, address: int) -> None:
        """Memory that readers may still use until :meth:`grace`."""
        self.later.append(address)
        self.cpu.note(FREE | AFTER_GRACE << 8, address, self._objects.get(address, 0))

    def _wait(self, lock: int, place: int) -> None:
        if self.cpu.now:
            self.cpu.wait(self.cpu.now, lock, place)
        else:
            super()._wait(lock, place)

    def _queue_work_on(self, cpu: int, work: int) -> int:
        self._meet(work)
        return super()._queue_work_on(cpu, work)

    def _take_work(self, work: int) -> int:
        self._meet(work)
        return -2 if work in self.working.values() else super()._take_work(work)

    def _meet(self, work: int) -> None:
        if now := self.cpu.now:
            self.cpu.note_order(now.number, work, self.cpu.done)

    def _range(self, kind: int, start: int, end: int) -> None:
        if kind == L_FLUSH_TLB:
            self.cpu.note(FLUSH, start, 0)
        super()._range(kind, start, end)

    def grace(self) -> None:
        """A grace period is over."""
        while self.later:
            super()._free(self.later.pop())

    def _own(self, pages: NDArray[np.uint64], gfp: int) -> None:
        super()._own(pages, gfp)
        for pfn in self.gone.intersection(pages.tolist()):
            self.gone.remove(pfn)
            self.cpu.note(ALLOC, frame_key(pfn), 8)

    def _disown(self, pfn: int, order: int) -> None:
        super()._disown(pfn, order)
        for one in range(pfn, pfn + (1 << order)):
            self.gone.add(one)
            self.cpu.note(FREE, frame_key(one), 8)

    def _copy_page_to_iter_nofault(self, page: int, offset: int, bytes: int) -> int:  # noqa: A002 - as the prototype has it
        pfn = self.pfn_of(page)
        self.cpu.note(READ | 8 << 16, frame_key(pfn), 8)
        if pfn in self.gone:
            raise KernelFault(f"{self.cpu.caller()} reads page frame {pfn:#x}, which is free")
        return super()._copy_page_to_iter_nofault(page, offset, bytes)

    def _table(self, level: int, gfp: int) -> int:
        if phys := super()._table(level, gfp):
            self.cpu.note(ALLOC | ZEROED << 8, self.virt_of(phys), self._arch.page_size)
        return phys

    def _free_table(self, phys: int) -> None:
        super()._free_table(phys)
        self._free_tables.clear()
        self.cpu.note(FREE, self.virt_of(phys), self._arch.page_size)

    def reset(self) -> None:
        """Forget everything that was allocated."""
        super().reset()
        self.known: dict[int, tuple[int, int]] = {}
        self.later: list[int] = []
        self.gone: set[int] = set()
        self.working: dict[int, int] = {}
