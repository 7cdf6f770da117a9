# SPDX-License-Identifier: GPL-2.0-only
"""The walker that unmaps, and the two that read: translate one address, list the leaves of a range."""

from __future__ import annotations

from vmaplab._jit import jit
from vmaplab.pgtable.geometry import Geometry, i64
from vmaplab.pgtable.memory import (
    PATH,
    W_BLOCK_CUT,
    W_GROUP_CUT,
    W_GROUP_STARTED,
    Tables,
    climb,
    load,
    store,
    table_of,
    warned_again,
)
from vmaplab.trace import Ints


@jit
def group_of(g: Geometry, entry: int) -> int:
    """Which group the PTE ``entry`` is part of, or -1."""
    for group in range(g.groups):
        if entry & g.group_mask == g.group_bits[group] & g.group_mask:
            return group
    return -1


@jit
def clear_ptes(tables: Tables, g: Geometry, table: int, addr: int, stop: int) -> None:
    """``vunmap_pte_range()``: clear the PTEs of [addr, stop), which lie in one table.

    Where the architecture clears a group as a whole, a range that covers part of one clears all of it.
    """
    while addr < stop:
        count, cut = 1, False
        index = (addr >> g.page_shift) & g.mask[0]
        if g.group_unmaps:
            group = group_of(g, load(tables, g, table + index * g.cells))
            if group >= 0:
                size = 1 << g.group_shift[group]
                count = size >> g.page_shift
                if addr & (size - 1):
                    warned_again(tables, i64(W_GROUP_STARTED))
                addr &= -size
                index &= -count
                cut = stop - addr < size
        for cell in range(count * g.cells):
            store(tables, g, table + index * g.cells + cell, g.none[0])
        if cut:
            warned_again(tables, i64(W_GROUP_CUT))
        addr += count << g.page_shift


@jit
def unmap_range(tables: Tables, g: Geometry, begin: int, end: int) -> None:
    """``__vunmap_range_noflush()``: clear every entry of [begin, end); tables stay where they are.

    A block goes as a whole, even if the range covers only part of it.
    """
    path = tables.state
    level = g.top
    path[PATH + level] = g.root
    addr = begin
    while addr < end:
        above = g.shift[max(level, 1)]
        stop = min(end, ((addr >> above) + 1) << above)
        if level == 0:
            clear_ptes(tables, g, path[PATH], addr, stop)
        else:
            word = path[PATH + level] + ((addr >> above) & g.mask[level])
            entry = load(tables, g, word)
            if entry != g.none[level]:
                if entry & g.leaf_mask == g.leaf_value:
                    store(tables, g, word, g.none[level])
                    if stop - addr < 1 << above:
                        warned_again(tables, i64(W_BLOCK_CUT))
                else:
                    level -= 1
                    path[PATH + level] = table_of(g, entry)
                    continue
        addr = stop
        level = climb(g, max(level, 1), addr)


@jit
def translate(tables: Tables, g: Geometry, addr: int) -> int:
    """``vmalloc_to_pfn()``: the PFN that ``addr`` maps to, or -1."""
    table = g.root
    for level in range(g.top, -1, -1):
        shift = g.shift[level]
        cells = g.cells if level == 0 else 1
        entry = load(tables, g, table + ((addr >> shift) & g.mask[level]) * cells)
        if entry == g.none[level]:
            return -1
        if level == 0 or entry & g.leaf_mask == g.leaf_value:
            # The PFN field of a group's first entry is the group's; each entry has its own.
            inside = (addr & ((1 << shift) - 1)) >> g.page_shift
            return ((entry >> g.pfn_shift) & g.pfn_mask) + inside
        table = table_of(g, entry)
    return -1


@jit
def list_leaves(tables: Tables, g: Geometry, begin: int, end: int, leaves: Ints) -> int:
    """Write the leaves of [begin, end) as rows (va, size, pfn) to ``leaves``, ascending; returns how many.

    A group of PTEs is one leaf, a block another; a base page that stands alone is a leaf of its own. Leaves that
    find no room are counted and not written.
    """
    path = tables.state
    level = g.top
    path[PATH + level] = g.root
    addr = begin
    found = 0
    while addr < end:
        above = g.shift[level]
        step = 1 << above
        cells = g.cells if level == 0 else 1
        entry = load(tables, g, path[PATH + level] + ((addr >> above) & g.mask[level]) * cells)
        if entry != g.none[level]:
            if level > 0 and entry & g.leaf_mask != g.leaf_value:
                level -= 1
                path[PATH + level] = table_of(g, entry)
                continue
            group = group_of(g, entry) if level == 0 else -1
            if group >= 0:
                step = 1 << g.group_shift[group]
            pfn = (entry >> g.pfn_shift) & g.pfn_mask
            inside = addr & (step - 1)
            if level == 0:  # each entry of a group has its own PFN
                pfn -= inside >> g.page_shift
            if found < len(leaves):
                leaves[found, 0], leaves[found, 1], leaves[found, 2] = addr - inside, step, pfn
            found += 1
        addr = (addr & -step) + step
        level = climb(g, level, addr)
    return found
