# SPDX-License-Identifier: GPL-2.0-only
"""Where the areas of the per-CPU allocator lie: from the top of the vmalloc space down, as far apart as it asks for."""

from __future__ import annotations

from collections.abc import Sequence

from vmaplab.vmalloc.tree import END, LEFT, START, Blocks, enclosing, neighbour


def highest_base(
    blocks: Blocks, page_shift: int, vmalloc: tuple[int, int], offsets: Sequence[int], sizes: Sequence[int], align: int
) -> int | None:
    """The search of ``pcpu_get_vm_areas()``: the address from which ``offsets`` count, or None; all in bytes.

    It goes round the areas, from the one that is to lie highest; each that does not fit moves all of them down.

    :param vmalloc: VMALLOC_START and VMALLOC_END.
    """
    lowest, highest = vmalloc[0] + align - 1 & -align, vmalloc[1] & -align

    def below(block: int) -> tuple[int, int]:
        """``pvm_determine_end_from_reverse()``: the first block from ``block`` down with room, and where that ends."""
        while block:
            start, end = (int(value) << page_shift for value in blocks.row[block, [START, END]])
            if start < (top := min(end & -align, highest)):
                return block, top
            block = int(neighbour(blocks, block, LEFT))
        return 0, 0

    count = len(sizes)
    area = stop = max(range(count), key=lambda number: offsets[number])
    start, end = offsets[area], offsets[area] + sizes[area]
    block, top = below(int(enclosing(blocks, highest >> page_shift)))
    base = top - end
    while block and base >= lowest:
        first, past = (int(value) << page_shift for value in blocks.row[block, [START, END]])
        if base + end > past or base + start < first:
            block, top = below(block if base + end > past else int(neighbour(blocks, block, LEFT)))
            base, stop = top - end, area
            continue
        area = (area - 1) % count
        if area == stop:
            return base
        start, end = offsets[area], offsets[area] + sizes[area]
        block = int(enclosing(blocks, base + end >> page_shift))
    return None
