# SPDX-License-Identifier: GPL-2.0-only
"""What a reader of vmalloc space gets: ``vread_iter()``, without the bytes."""

from __future__ import annotations

from vmaplab.calls.flags import VM_IOREMAP, VM_NO_GUARD, VM_SPARSE
from vmaplab.mapping import ZEROES, Part, parts_of
from vmaplab.vmalloc.address_space import AddressSpace
from vmaplab.vmalloc.area import NO_VM, VMAP_BLOCK, VMAP_RAM, find_vmap_area_exceed_addr
from vmaplab.vmalloc.block import VmapBlocks
from vmaplab.vmalloc.mapper import Mapper
from vmaplab.vmalloc.tree import FLAGS, VM


def vread(
    space: AddressSpace, blocks: VmapBlocks, mapper: Mapper, page_shift: int, addr: int, count: int
) -> list[Part]:
    """``vread_iter()`` of ``count`` bytes at ``addr``: where each of them comes from.

    Holes are zeroes, and so are areas of ioremap() and sparse ones.
    """
    count = min(count, (1 << 64) - addr)
    page = 1 << page_shift
    data = space.space
    parts: list[tuple[int, int]] = []

    def aligned(start: int, size: int) -> None:
        while size > 0:
            length = min(page - start % page, size)
            pfn = mapper.translate(start)
            parts.append((length, (pfn << page_shift) + start % page if pfn >= 0 else ZEROES))
            start, size = start + length, size - length

    def ram(start: int, size: int, flags: int) -> None:
        if not flags & VMAP_BLOCK:
            aligned(start, size)
            return
        vb = blocks.at(start)
        for first, behind in _runs(vb.used) if vb else []:
            assert vb is not None
            if not size:
                return
            used = vb.start + (first << page_shift)
            if start < used:
                hole = min(used - start, size)
                parts.append((hole, ZEROES))
                start, size = start + hole, size - hole
                if not size:
                    return
            # As the kernel has it: from the run's first page, wherever in it the reader is, and a page too many.
            offset = start % page
            length = min(((behind - first + 1) << page_shift) - offset, size)
            aligned(used + offset, length)
            start, size = start + length, size - length
        parts.append((size, ZEROES))

    left = count
    block = int(find_vmap_area_exceed_addr(data, addr >> space.unit))
    while block and left:
        start, end = space.bounds(block)
        if not parts and addr + left <= start:
            break
        vm, flags = int(data.blocks.row[block, VM]), int(data.blocks.row[block, FLAGS]) & (VMAP_RAM | VMAP_BLOCK)
        stop = end if vm in (NO_VM,) or vm & VM_NO_GUARD else end - page
        if (vm != NO_VM or flags) and addr < stop:
            if addr < start:
                hole = min(start - addr, left)
                parts.append((hole, ZEROES))
                addr, left = addr + hole, left - hole
            size = min(stop - addr, left)
            if size and flags & VMAP_RAM:
                ram(addr, size, flags)
            elif size and vm & (VM_IOREMAP | VM_SPARSE):
                parts.append((size, ZEROES))
            elif size:
                aligned(addr, size)
            addr, left = addr + size, left - size
        block = int(find_vmap_area_exceed_addr(data, end >> space.unit))
    return parts_of([*parts, (left, ZEROES)])


def _runs(bits: int) -> list[tuple[int, int]]:
    """The runs of ones in ``bits``: first bit, and the first one behind."""
    found = []
    at = 0
    while bits >> at:
        at += ((bits >> at) & -(bits >> at)).bit_length() - 1
        ones = bits >> at
        length = (~ones & (ones + 1)).bit_length() - 1
        found.append((at, at + length))
        at += length
    return found
