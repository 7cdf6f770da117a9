"""What a reader of vmalloc space gets: ``vread_iter()``, without the bytes."""

from __future__ import annotations

from typing import NamedTuple

from vmaplab.vmalloc.area import NO_VM, VMAP_BLOCK, VMAP_RAM, AddressSpace, find_vmap_area_exceed_addr
from vmaplab.vmalloc.block import VmapBlocks
from vmaplab.vmalloc.flags import VM_IOREMAP, VM_NO_GUARD, VM_SPARSE
from vmaplab.vmalloc.mapper import Mapper
from vmaplab.vmalloc.tree import FLAGS, VM

ZEROES = -1


class Part(NamedTuple):
    """A part of what is read.

    :param at: first byte of it in the reader's buffer.
    :param size: bytes.
    :param phys: physical address that it is copied from, or ZEROES.
    """

    at: int
    size: int
    phys: int


def joined(parts: list[tuple[int, int]]) -> list[Part]:
    """Parts of (bytes, physical address) one behind the other, those that continue the last one joined to it."""
    found: list[Part] = []
    at = 0
    for size, phys in parts:
        last = found[-1] if found else None
        if last and (phys == last.phys == ZEROES or (last.phys != ZEROES and phys == last.phys + last.size)):
            found[-1] = last._replace(size=last.size + size)
        elif size:
            found.append(Part(at, size, phys))
        at += size
    return found


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
    return joined([*parts, (left, ZEROES)])


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
