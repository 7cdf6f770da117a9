# SPDX-License-Identifier: GPL-2.0-only
"""The page-table format of one kernel, as the compiled walkers take it.

All addresses, entries and PFNs inside the compiled code are signed 64-bit integers: two's complement keeps
every shift, mask and difference, a NULL page (PFN 2**64 - 1) is -1, and numba never meets a mixture of
signed and unsigned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple, cast

import numpy as np

from vmaplab._jit import jit
from vmaplab.arch import Arch
from vmaplab.trace import Ints, signed

i64 = cast(Callable[[Any], int], np.int64)
"""The signed 64-bit integer that compiled code counts in."""

LARGEST_SHIFT = 62
"""Stands for the 63 of ``ioremap_max_page_shift``: no limit."""


CLEARS_NONE, CLEARS_ALL_BEFORE, CLEARS_TABLES_BEFORE, CLEARS_TABLES_BEHIND = range(4)
"""Which PMD entries are cleared before their tables are freed: before or behind the PUD entry."""
MAX_LEVELS = 5
MAX_GROUPS = 2
PerLevel = tuple[int, int, int, int, int]
PerGroup = tuple[int, int]


class Geometry(NamedTuple):
    """Data of one page-table format; tuples are indexed by level, 0 being the PTE level.

    Shifts are log2 of bytes, sizes of tables are in words (stored entry words). Tuples of fixed length, not
    arrays: compiled code passes them around without counting references.
    """

    page_shift: int
    top: int
    shift: PerLevel  # log2 of what one entry of the level maps
    mask: PerLevel  # index mask: entries in a table minus 1
    words: PerLevel  # words in a table
    none: PerLevel  # what an empty entry holds
    table_bits: PerLevel  # bits around the address of a lower table
    leaf: PerLevel  # 1 where a block leaf may be put
    table_in: int  # table address in an entry: (phys >> table_in) << table_out | bits
    table_out: int
    table_mask: int
    leaf_mask: int
    leaf_value: int
    pfn_shift: int
    pfn_mask: int
    cells: int  # words in one pte_t
    word_bytes: int
    swap: int  # bytes to swap in a stored word: 0, 4 or 8
    base: int  # physical address of word 0 of the table memory
    root: int  # word index of the PGD
    pfn_limit: int  # pfn_valid() is 0 <= pfn < pfn_limit
    groups: int  # how many sizes of PTE groups there are
    group_shift: PerGroup  # largest first
    group_bits: PerGroup
    group_mask: int
    group_maps: int  # arch_vmap_pte_range_map_size() is called (CONFIG_HUGETLB_PAGE)
    group_multi: int  # ... and may return several groups at once
    group_unmaps: int  # vunmap clears whole groups
    free_clears_pmds: int  # CLEARS_*
    free_flush_per_table: int
    free_flush: PerLevel  # bytes flushed when a lower table of the level's entry is freed
    free_needs_page: int


@jit
def two(a: Ints, at: int) -> PerGroup:
    """Two numbers from ``a[at]`` on."""
    return a[at], a[at + 1]


@jit
def five(a: Ints, at: int) -> PerLevel:
    """Five numbers from ``a[at]`` on."""
    return a[at], a[at + 1], a[at + 2], a[at + 3], a[at + 4]


@jit
def unpacked(a: Ints, at: int) -> Geometry:
    """The geometry whose :func:`numbers` begin at ``a[at]``: a tuple of so many takes long to hand to compiled code."""
    return Geometry(
        page_shift=a[at + 0],
        top=a[at + 1],
        shift=five(a, at + 2),
        mask=five(a, at + 7),
        words=five(a, at + 12),
        none=five(a, at + 17),
        table_bits=five(a, at + 22),
        leaf=five(a, at + 27),
        table_in=a[at + 32],
        table_out=a[at + 33],
        table_mask=a[at + 34],
        leaf_mask=a[at + 35],
        leaf_value=a[at + 36],
        pfn_shift=a[at + 37],
        pfn_mask=a[at + 38],
        cells=a[at + 39],
        word_bytes=a[at + 40],
        swap=a[at + 41],
        base=a[at + 42],
        root=a[at + 43],
        pfn_limit=a[at + 44],
        groups=a[at + 45],
        group_shift=two(a, at + 46),
        group_bits=two(a, at + 48),
        group_mask=a[at + 50],
        group_maps=a[at + 51],
        group_multi=a[at + 52],
        group_unmaps=a[at + 53],
        free_clears_pmds=a[at + 54],
        free_flush_per_table=a[at + 55],
        free_flush=five(a, at + 56),
        free_needs_page=a[at + 61],
    )


@lru_cache(maxsize=64)
def numbers(values: tuple[Any, ...]) -> Ints:
    """All numbers of nested tuples, in order; the array is shared, and nobody writes to it."""
    return np.array(list(_flat(values)), dtype=np.int64)


def _flat(values: tuple[Any, ...]) -> Iterator[int]:
    for value in values:
        if isinstance(value, tuple):
            yield from _flat(value)
        else:
            yield value


GEOMETRY_NUMBERS = 62


def _per_level(values: list[int]) -> PerLevel:
    a, b, c, d, e = [signed(value) for value in values] + [0] * (MAX_LEVELS - len(values))
    return a, b, c, d, e


def _per_group(values: list[int]) -> PerGroup:
    a, b = [signed(value) for value in values] + [0] * (MAX_GROUPS - len(values))
    return a, b


def geometry(
    arch: Arch,
    *,
    block_leaves: bool,
    group_hooks: bool,
    group_maps: bool,
    group_multi: bool,
    pfn_limit: int,
) -> Geometry:
    """The :class:`Geometry` of ``arch`` with the given hooks on; its table memory starts with the invalid tables.

    :param block_leaves: PMD and PUD leaves are supported where the architecture has them.
    :param group_hooks: the PTE-level hooks are the architecture's, not the default ones.
    :param group_maps: the walker asks for the size of each store.
    :param pfn_limit: first PFN that is not valid.
    """
    levels = arch.levels
    top = len(levels) - 1
    cells = [arch.cells if level == 0 else 1 for level in range(top + 1)]
    words = [cells[i] << level.bits for i, level in enumerate(levels)]
    table_in, table_out = arch.table_shift
    base = arch.table_base
    none = [arch.pte_none] + [0] * top
    start = 0
    if arch.invalid_tables:  # one shared empty table per level below the top, lowest first
        for level in range(top):
            none[level + 1] = (base + start * arch.entry_bytes) | arch.table_virt
            start += words[level]
    align = max(words[top], 1)
    root = -(-start // align) * align
    groups = arch.groups if group_hooks else ()
    return Geometry(
        page_shift=arch.page_shift,
        top=top,
        shift=_per_level([level.shift for level in levels]),
        mask=_per_level([(1 << level.bits) - 1 for level in levels]),
        words=_per_level(words),
        none=_per_level(none),
        table_bits=_per_level([level.table_bits | arch.table_virt for level in levels]),
        leaf=_per_level([int(level.leaf and block_leaves) for level in levels]),
        table_in=table_in,
        table_out=table_out,
        table_mask=signed(arch.table_mask),
        leaf_mask=signed(arch.leaf_test[0]),
        leaf_value=signed(arch.leaf_test[1]),
        pfn_shift=arch.pfn_shift,
        pfn_mask=(1 << (arch.phys_bits - arch.page_shift)) - 1,
        cells=arch.cells,
        word_bytes=arch.entry_bytes,
        swap=arch.entry_bytes if arch.big_endian else 0,
        base=base,
        root=root,
        pfn_limit=pfn_limit,
        groups=len(groups),
        group_shift=_per_group([group.shift for group in groups]),
        group_bits=_per_group([group.bits for group in groups]),
        group_mask=signed(arch.group_mask),
        group_maps=int(group_maps and bool(groups)),
        group_multi=int(group_multi),
        group_unmaps=int(group_hooks and arch.group_unmap),
        free_clears_pmds=("", "all before", "tables before", "tables behind").index(arch.free_clears_pmds),
        free_flush_per_table=int(arch.free_flush_per_table),
        free_flush=_per_level([arch.free_flush_span(level.shift) for level in levels]),
        free_needs_page=int(arch.pud_free_needs_page),
    )
