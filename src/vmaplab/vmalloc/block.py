# SPDX-License-Identifier: GPL-2.0-only
"""The per-CPU vmap blocks behind ``vm_map_ram()``: small areas cut from a large one, which is used once and freed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vmaplab.arch import Arch


@dataclass(eq=False)
class VmapBlock:
    """``struct vmap_block``; pages are counted from the start of the block.

    :param block: the block of address space that it manages.
    :param start: its first address.
    :param cpu: whose queue it is on.
    :param free: pages never handed out.
    :param dirty: pages handed out and given back, which may still be in a TLB.
    :param dirty_min: first page given back since the last flush; ``dirty_max`` behind the last one.
    :param used: the pages in use, one bit each.
    """

    block: int
    start: int
    cpu: int
    free: int
    dirty: int = 0
    dirty_min: int = 0
    dirty_max: int = 0
    used: int = 0
    queued: bool = True


class VmapBlocks:
    """All vmap blocks of a kernel.

    :param cpus: CPUs, and NR_CPUS, which limits the size of a block.
    :ivar max_alloc: VMAP_MAX_ALLOC, the largest count of pages that comes from a block.
    :ivar bits: VMAP_BBMAP_BITS, pages in a block.
    :ivar size: VMAP_BLOCK_SIZE, bytes.
    """

    def __init__(self, arch: Arch, vmalloc_start: int, cpus: int) -> None:
        self.max_alloc = arch.bits_per_long
        space = 128 << (30 if arch.bits_per_long == 64 else 20)
        share = (space >> arch.page_shift) // (1 << (cpus - 1).bit_length()) // 16
        self.bits = min(1024, max(2 * self.max_alloc, share))
        self.size = self.bits << arch.page_shift
        self._page_shift, self._cpus = arch.page_shift, cpus
        self._first = vmalloc_start & -self.size
        self._by_index: dict[int, VmapBlock] = {}
        self._queues: list[list[VmapBlock]] = [[] for _ in range(cpus)]

    def __len__(self) -> int:
        return len(self._by_index)

    def index(self, addr: int) -> int:
        """``addr_to_vb_idx()``."""
        return (addr - self._first) // self.size

    def at(self, addr: int) -> VmapBlock | None:
        """The vmap block that holds ``addr``, or None."""
        return self._by_index.get(self.index(addr))

    def alloc(self, order: int, cpu: int) -> int:
        """``vb_alloc()`` from the blocks that there are: an address, or 0."""
        count = 1 << order
        for vb in self._queues[cpu]:
            if vb.free >= count:
                first = self.bits - vb.free
                vb.free -= count
                vb.used |= ((1 << count) - 1) << first
                if not vb.free:
                    self._unqueue(vb)
                return vb.start + (first << self._page_shift)
        return 0

    def new(self, block: int, start: int, order: int, cpu: int) -> None:
        """``new_vmap_block()`` in an area that has been found; its first pages are in use."""
        count = 1 << order
        vb = VmapBlock(block, start, cpu, self.bits - count, dirty_min=self.bits, used=(1 << count) - 1)
        self._by_index[self.index(start)] = vb
        self._queues[cpu].append(vb)

    def use_ends(self, vb: VmapBlock, addr: int, order: int) -> None:
        """The first half of ``vb_free()``: these pages are not in use any more."""
        vb.used &= ~(((1 << (1 << order)) - 1) << self._offset(addr))

    def dirties(self, vb: VmapBlock, addr: int, order: int) -> bool:
        """The second half, after they were unmapped; true if the block is to be given back."""
        first = self._offset(addr)
        vb.dirty_min = min(vb.dirty_min, first)
        vb.dirty_max = max(vb.dirty_max, first + (1 << order))
        vb.dirty += 1 << order
        return vb.dirty == self.bits

    def forget(self, vb: VmapBlock) -> None:
        """``free_vmap_block()``, the part that is ours."""
        del self._by_index[self.index(vb.start)]

    def fragmented(self) -> Iterator[VmapBlock]:
        """``purge_fragmented_blocks_allcpus()``: all blocks without pages in use, to be given back."""
        for queue in self._queues:
            gone = [vb for vb in list(queue) if self._purges(vb, force=True)]
            yield from gone

    def aliases(self) -> tuple[list[VmapBlock], list[tuple[int, int]]]:
        """``_vm_unmap_aliases()``: blocks to be given back, and the dirty ranges of the others, addresses."""
        gone, spans = [], []
        for cpu in range(self._cpus):
            indices = sorted(index for index, vb in self._by_index.items() if vb.start // self.size % self._cpus == cpu)
            for vb in map(self._by_index.__getitem__, indices):
                if self._purges(vb, force=False):
                    gone.append(vb)
                elif vb.dirty_max and vb.dirty != self.bits:
                    first, last = vb.dirty_min << self._page_shift, vb.dirty_max << self._page_shift
                    spans.append((vb.start + first, vb.start + last))
                    vb.dirty_min, vb.dirty_max = self.bits, 0
        return gone, spans

    def _purges(self, vb: VmapBlock, force: bool) -> bool:
        """``purge_fragmented_block()``."""
        if vb.free + vb.dirty != self.bits or vb.dirty == self.bits:
            return False
        if not force and vb.free >= self.bits // 4:
            return False
        vb.free, vb.dirty, vb.dirty_min, vb.dirty_max = 0, self.bits, 0, self.bits
        self._unqueue(vb)
        return True

    def _offset(self, addr: int) -> int:
        return (addr & (self.size - 1)) >> self._page_shift

    def _unqueue(self, vb: VmapBlock) -> None:
        if vb.queued:
            self._queues[vb.cpu].remove(vb)
            vb.queued = False
