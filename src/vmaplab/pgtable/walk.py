# SPDX-License-Identifier: GPL-2.0-only
"""The walkers that map: from the PGD down to the entries, one loop for any number of levels.

``map_range`` is both of the kernel's walkers. With ``contiguous`` it maps one physical range, as
``vmap_range_noflush()`` does; otherwise it maps an array of pages, as ``vmap_small_pages_range_noflush()`` and,
from the series on, ``vmap_pages_range_noflush_walk()`` do.

    address:   | PGD index | ... | PMD index | PTE index | offset |
                  level top          level 1     level 0
"""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab._jit import inlined, jit
from vmaplab.cost.counters import C_CALLS, C_ENTRIES, C_LEAVES, C_SETS, C_WALK
from vmaplab.pgtable.geometry import (
    CLEARS_ALL_BEFORE,
    CLEARS_NONE,
    CLEARS_TABLES_BEFORE,
    CLEARS_TABLES_BEHIND,
    Geometry,
    i64,
)
from vmaplab.pgtable.memory import (
    LIMIT,
    PATH,
    STOPPED,
    TABLES,
    W_BUSY,
    W_INVALID,
    W_LEAF,
    W_NULL,
    W_UNALIGNED,
    Tables,
    alloc_table,
    byteswap,
    climb,
    free_table,
    load,
    note,
    out_of_memory,
    store,
    table_of,
    warned,
)
from vmaplab.trace import L_FLUSH_TLB, L_STORE, Ints

EBUSY, EINVAL, ENOMEM = errno.EBUSY, errno.EINVAL, errno.ENOMEM


@jit
def floor_log2(value: int) -> int:
    """``ilog2()`` of a positive ``value``."""
    log = 0
    while value > 1:
        value >>= 1
        log += 1
    return log


@jit
def arch_vmap_pte_range_map_size(g: Geometry, addr: int, end: int, pfn: int, max_page_shift: int) -> tuple[int, int]:
    """Bytes that one store at PTE level may map, and which group that makes (-1 for a base page).

    As the hook of that name: a group needs room in [addr, end), VA and PA aligned to it, and
    ``max_page_shift`` at least as large. With ``group_multi`` the result is the largest power of two
    that fits, several groups at once.
    """
    phys = pfn << g.page_shift
    for group in range(g.groups):
        shift = g.group_shift[group]
        inside = (1 << shift) - 1
        if max_page_shift >= shift and end - addr > inside and (addr | phys) & inside == 0:
            if g.group_multi:
                shift = min(floor_log2(end - addr), max_page_shift)
            return 1 << shift, group
    return 1 << g.page_shift, -1


@jit
def page_error(pfn: int, g: Geometry) -> int:
    """0 for a valid page, ENOMEM for a NULL page, EINVAL for a PFN that is not valid."""
    if 0 <= pfn < g.pfn_limit:
        return 0
    return ENOMEM if pfn == -1 else EINVAL


@jit
def warn(tables: Tables, err: int) -> int:
    """Record which WARN_ON() of the walker fired; returns ``err``."""
    warned(tables, i64(W_BUSY if err == EBUSY else (W_NULL if err == ENOMEM else W_INVALID)))
    return err


@inlined
def storable(
    count: int, words: NDArray[Any], word: int, filled: int, none: int, pages: Ints, first: int, looked: int, limit: int
) -> int:
    """How many of ``count`` base pages can be stored: up to an entry that is set or a page that is not valid.

    :param filled: words from ``word`` on to look at, a whole number for each page; 0 if the table was just allocated.
    :param none: the word of an empty entry.
    :param looked: pages from ``pages[first]`` on to look at; 0 if they need no look.
    :param limit: the first PFN that is not valid.
    """
    differ = 0
    for cell in range(filled):
        differ |= i64(words[np.uint64(word + cell)]) ^ none
    invalid = 0  # the sign bit gathers pfn < 0 and pfn >= limit
    last = limit - 1
    for index in range(looked):
        pfn = pages[np.uint64(first + index)]
        invalid |= pfn | (last - pfn)
    if differ == 0 and invalid >= 0:
        return count
    cells = filled // count
    for index in range(count):  # something is wrong: find where
        if filled and i64(words[word + index * cells]) != none:
            return index
        if index < looked and not 0 <= pages[first + index] < limit:
            return index
    return count


@inlined
def map_ptes(
    tables: Tables,
    g: Geometry,
    pages: Ints,
    first: int,
    contiguous: bool,
    table: int,
    fresh: bool,
    addr: int,
    stop: int,
    begin: int,
    shift: int,
    prot: int,
) -> int:
    """Fill the PTEs of [addr, stop), which lie in one table; returns 0 or an errno.

    ``vmap_pte_range()`` and ``vmap_pages_pte_range()``. ``begin`` is the address of ``pages[first]``; ``fresh``
    says that the table was allocated just now.
    """
    words, cost = tables.words, tables.cost
    page_shift, pfn_shift, cells, swap = g.page_shift, g.pfn_shift, g.cells, g.swap
    none = byteswap(g.none[0], swap)
    chunk = 1 << shift
    grouping = shift > page_shift and g.group_maps != 0
    word = table + ((addr >> page_shift) & g.mask[0]) * cells
    offset = (addr - begin) >> page_shift
    err = 0
    while addr < stop and err == 0:
        pfn = pages[first] + offset if contiguous else pages[first + offset]
        count = (stop - addr) >> page_shift
        value = prot
        group = -1
        if grouping:
            # An array is contiguous only within each chunk, so no store may reach past the chunk's end.
            end = stop if contiguous else min(stop, addr + chunk - ((addr - begin) & (chunk - 1)))
            size, group = arch_vmap_pte_range_map_size(g, addr, end, pfn, shift)
            count = size >> page_shift
            if group >= 0:
                value |= g.group_bits[group]
        # The kernel looks at every entry and page that it stores one by one, and at the first of a group.
        # Indices are unsigned, so that nothing looks for negative ones and the loops become vector code; slices do
        # that, too, but counting their references takes longer.
        looked = count if group < 0 else 1
        left = first + offset
        filled, read = 0 if fresh else looked * cells, 0 if contiguous else looked
        good = storable(looked, words, word, filled, none, pages, left, read, g.pfn_limit)
        if group < 0 or good == 0:
            count = good
        if group >= 0 or contiguous:
            value |= pfn << pfn_shift
            step = (1 << pfn_shift) // cells
            kept = 0 if group >= 0 else cells - 1  # the cells of a base page are all alike
            for cell in range(count * cells):
                words[np.uint64(word + cell)] = byteswap(value + step * (cell & ~kept), swap)
        elif cells == 1:
            for index in range(count):
                words[np.uint64(word + index)] = byteswap((pages[np.uint64(left + index)] << pfn_shift) | value, swap)
        else:
            for cell in range(count * cells):
                entry = (pages[np.uint64(left + cell // cells)] << pfn_shift) | value
                words[np.uint64(word + cell)] = byteswap(entry, swap)
        if len(tables.log) > 0:
            for cell in range(count * cells):
                phys = g.base + (word + cell) * g.word_bytes
                note(tables, L_STORE, phys, load(tables, g, word + cell), g.word_bytes)
        cost[C_ENTRIES] += count
        cost[C_SETS] += min(count, 1) if group >= 0 else count
        cost[C_LEAVES] += (count << page_shift) >> g.group_shift[group] if group >= 0 else count
        word += count * cells
        offset += count
        addr += count << page_shift
        if good < looked:
            busy = load(tables, g, word) != g.none[0]
            err = warn(tables, EBUSY if busy or contiguous else page_error(pages[first + offset], g))
    tables.state[STOPPED] = offset
    return err


@jit
def clear_and_flush(tables: Tables, g: Geometry, level: int, word: int, addr: int) -> None:
    """Clear the table entry at ``word`` and flush what the MMU may have cached of it."""
    store(tables, g, word, g.none[level])
    note(tables, L_FLUSH_TLB, addr, addr + g.free_flush[level], g.free_flush[level])


@jit
def free_lower_tables(tables: Tables, g: Geometry, level: int, word: int, addr: int) -> bool:
    """Clear the entry at ``word`` and free the tables below it, so that a leaf can take its place.

    ``pmd_free_pte_page()`` (level 1) and ``pud_free_pmd_page()`` (level 2); false if it could not be done.
    """
    table = table_of(g, load(tables, g, word))
    if (
        level == 2
        and g.free_needs_page
        and (out_of_memory(tables.state) or tables.state[TABLES] >= tables.state[LIMIT])
    ):
        return False
    clears = g.free_clears_pmds if level == 2 else CLEARS_NONE
    if clears == CLEARS_ALL_BEFORE:
        for index in range(g.words[1]):
            if load(tables, g, table + index) != g.none[1]:
                note(tables, L_STORE, g.base + (table + index) * g.word_bytes, g.none[1], g.word_bytes)
    if clears != CLEARS_TABLES_BEFORE:
        clear_and_flush(tables, g, level, word, addr)
    if level == 2:
        for index in range(g.words[1]):
            entry = load(tables, g, table + index)
            if entry == g.none[1]:
                continue
            if entry & g.leaf_mask == g.leaf_value:
                if not g.free_flush_per_table:  # it would be freed as if it were a table
                    warned(tables, i64(W_LEAF))
                continue
            below = addr + (index << g.shift[1])
            if clears in (CLEARS_TABLES_BEFORE, CLEARS_TABLES_BEHIND):
                store(tables, g, table + index, g.none[1])
            if g.free_flush_per_table:
                note(tables, L_FLUSH_TLB, below, below + g.free_flush[1], g.free_flush[1])
            free_table(tables, g, 0, table_of(g, entry))
    if clears == CLEARS_TABLES_BEFORE:
        clear_and_flush(tables, g, level, word, addr)
    free_table(tables, g, level - 1, table)
    return True


@jit
def vmap_try_huge(tables: Tables, g: Geometry, level: int, word: int, addr: int, pfn: int, prot: int) -> int:
    """Put a block leaf at ``word``: 1 if that was done, 0 if lower levels must, or a negative errno.

    ``vmap_try_huge_pmd()`` and ``vmap_try_huge_pud()``; the caller has checked support, size and address.
    """
    if (pfn << g.page_shift) & ((1 << g.shift[level]) - 1):
        return 0
    entry = load(tables, g, word)
    if entry != g.none[level]:
        if entry & g.leaf_mask == g.leaf_value:
            warned(tables, i64(W_LEAF))
            return -EBUSY
        if not free_lower_tables(tables, g, level, word, addr):
            return 0
    store(tables, g, word, (pfn << g.pfn_shift) | prot)
    tables.cost[C_SETS] += 1
    tables.cost[C_LEAVES] += 1
    tables.cost[C_ENTRIES] += 1
    return 1


@jit
def map_range(
    tables: Tables,
    g: Geometry,
    pages: Ints,
    first: int,
    contiguous: bool,
    begin: int,
    end: int,
    shift: int,
    prots: Ints,
) -> int:
    """Map [begin, end) from ``pages[first]`` on; returns 0 or an errno.

    :param contiguous: only ``pages[first]`` is read: the range is physically contiguous. Leaves are tried at every
        level then, and not only at the PMD.
    :param shift: log2 of the largest leaf; the pages are contiguous and aligned in chunks of that size.
    :param prots: per level, the bits around the PFN of a leaf.

    On an error ``state[STOPPED]`` is the number of pages, from ``first``, that were mapped before it.
    """
    tables.cost[C_CALLS] += 1
    leaf_top = g.top if contiguous else 1
    fresh = False
    path = tables.state
    level = g.top
    path[PATH + level] = g.root
    addr = begin
    while addr < end:
        above = g.shift[max(level, 1)]
        stop = min(end, ((addr >> above) + 1) << above)
        if level == 0:
            err = map_ptes(tables, g, pages, first, contiguous, path[PATH], fresh, addr, stop, begin, shift, prots[0])
            if err:
                return err
        else:
            offset = (addr - begin) >> g.page_shift
            tables.state[STOPPED] = offset
            word = path[PATH + level] + ((addr >> above) & g.mask[level])
            entry = load(tables, g, word)
            made = 0
            if level <= leaf_top and g.leaf[level] and shift >= above and stop - addr == 1 << above:
                pfn = pages[first] + offset if contiguous else pages[first + offset]
                err = 0 if contiguous else page_error(pfn, g)
                if err:
                    return warn(tables, err)
                made = vmap_try_huge(tables, g, level, word, addr, pfn, prots[level])
                if made < 0:
                    return -made
            if not made:
                if level == 1 and contiguous and (stop - addr) & ((1 << g.page_shift) - 1):
                    warned(tables, i64(W_UNALIGNED))
                    return EINVAL
                tables.cost[C_WALK] += 1
                fresh = entry == g.none[level]
                if fresh:
                    lower = alloc_table(tables, g, level - 1)
                    if lower < 0:
                        return ENOMEM
                    phys = g.base + lower * g.word_bytes
                    store(tables, g, word, ((phys >> g.table_in) << g.table_out) | g.table_bits[level])
                elif entry & g.leaf_mask == g.leaf_value:
                    warned(tables, i64(W_LEAF))
                    return EBUSY
                else:
                    lower = table_of(g, entry)
                level -= 1
                path[PATH + level] = lower
                continue
        addr = stop
        level = climb(g, max(level, 1), addr)
    return 0
