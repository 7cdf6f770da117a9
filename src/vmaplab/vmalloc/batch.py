# SPDX-License-Identifier: GPL-2.0-only
"""How vmap() batches: find runs of contiguous pages, turn them into chunks, map batches of equal chunks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vmaplab._jit import jit
from vmaplab.arch import Arch
from vmaplab.cost.counters import C_SCANNED
from vmaplab.pgtable.geometry import LARGEST_SHIFT, Geometry, i64
from vmaplab.pgtable.memory import STOPPED, Tables
from vmaplab.pgtable.walk import floor_log2, map_range
from vmaplab.release.base import Rules
from vmaplab.trace import Ints

NO_SECTIONS = 62
"""``section_shift`` of a kernel whose page array knows no sections: no PFN reaches the second one."""


class Batching(NamedTuple):
    """The release's way of batching, with boot arguments and configuration applied; see ``Rules``."""

    on: int  # look for contiguous pages at all
    scan_within_alignment: int
    refuses_misaligned: int
    gate_pte: int  # arch_vmap_pte_supported_shift() must support the size
    gate_vm_shift: int  # vm_shift() must support the size
    order_of_vm_shift: int
    shift_cap: int
    section_shift: int  # log2 of the pages in a memory section


def batching_of(
    arch: Arch, rules: Rules, config: Mapping[str, bool], boot_args: tuple[str, ...], pmd_shift: int
) -> Batching:
    """How vmap() batches on this kernel."""
    huge_ioremap = "nohugeiomap" not in boot_args
    allowed = config["HAVE_ARCH_HUGE_VMAP"] and (huge_ioremap or not rules.needs_huge_ioremap)
    sections = not config["SPARSEMEM_VMEMMAP"] and arch.section_shift is not None
    return Batching(
        on=int(rules.batches and allowed),
        scan_within_alignment=int(rules.scan_within_alignment),
        refuses_misaligned=int(rules.refuses_misaligned),
        gate_pte=int(rules.gate == "arch_vmap_pte_supported_shift"),
        gate_vm_shift=int(rules.gate == "vm_shift"),
        order_of_vm_shift=int(rules.order_of_vm_shift),
        shift_cap=pmd_shift if rules.caps_at_pmd else LARGEST_SHIFT,
        section_shift=(arch.section_shift or 0) - arch.page_shift if sections else NO_SECTIONS,
    )


@jit
def arch_vmap_pte_supported_shift(g: Geometry, size: int) -> int:
    """log2 of the largest PTE-level store that ``size`` bytes have room for; PAGE_SHIFT by default."""
    for group in range(g.groups):
        if size >= 1 << g.group_shift[group]:
            return g.group_shift[group]
    return g.page_shift


@jit
def vm_shift(g: Geometry, size: int) -> int:
    """log2 of the largest leaf that vmap would use for ``size`` bytes: PMD_SHIFT, or what the PTE level supports."""
    if g.leaf[1] and size >= 1 << g.shift[1]:
        return g.shift[1]
    return arch_vmap_pte_supported_shift(g, size)


@jit
def trailing_zeros(pfn: int) -> int:
    """``__ffs(pfn)``: log2 of the PFN's alignment; 62, no limit, for PFN 0."""
    if pfn == 0:
        return 62
    zeros = 0
    while pfn & 1 == 0:
        pfn >>= 1
        zeros += 1
    return zeros


@jit
def num_pages_contiguous(pages: Ints, first: int, nr_pages: int, section_shift: int) -> int:
    """Length of the run at ``pages[first]``, 1 to ``nr_pages``, cut at a memory-section boundary.

    It makes as many comparisons as the run is long, or one less if the run fills all of ``nr_pages``.
    A NULL page follows nothing and nothing follows it.
    """
    pfn = pages[first]
    if pfn == -1:
        return 1
    section_end = ((pfn >> section_shift) + 1) << section_shift
    limit = first + min(nr_pages, section_end - pfn)
    index = first + 1
    pfn += 1
    while index < limit and pages[index] == pfn:
        index += 1
        pfn += 1
    return index - first


@jit
def get_vmap_batch_order(tables: Tables, g: Geometry, how: Batching, pages: Ints, first: int, left: int) -> int:
    """log2 of how many pages from ``pages[first]`` on to map as one chunk; 0 for a base page."""
    if not how.on:
        return 0
    pfn = pages[first]
    if how.scan_within_alignment:
        zeros = trailing_zeros(pfn)
        if zeros < 62:
            left = min(left, 1 << zeros)
    run = num_pages_contiguous(pages, first, left, how.section_shift)
    tables.cost[C_SCANNED] += min(run, left - 1)
    if run < 2:
        return 0
    order = floor_log2(run)
    if not how.refuses_misaligned:
        order = min(order, trailing_zeros(pfn))
    size = 1 << (g.page_shift + order)
    if how.gate_pte and arch_vmap_pte_supported_shift(g, size) == g.page_shift:
        return 0
    if how.gate_vm_shift and vm_shift(g, size) == g.page_shift:
        return 0
    if how.refuses_misaligned and pfn & ((1 << order) - 1):
        return 0
    if how.order_of_vm_shift:
        return vm_shift(g, size) - g.page_shift
    return order


@jit
def vmap_batched(tables: Tables, g: Geometry, how: Batching, pages: Ints, start: int, end: int, prots: Ints) -> int:
    """Map all of ``pages`` at [start, end), in batches of chunks of equal shift; returns 0 or an errno.

    At the first chunk of one page the scan stops: what is left is mapped as base pages. On an error
    ``state[STOPPED]`` is the index of the page where the walker stopped.
    """
    page_shift = g.page_shift
    count = (end - start) >> page_shift
    contiguous = count < 0  # never; a constant would have the walker compiled once more
    index = i64(0)
    shift = page_shift + get_vmap_batch_order(tables, g, how, pages, index, count)
    while index < count:
        batch, batch_shift = index, shift
        if batch_shift == page_shift:
            index = count
        while index < count and shift == batch_shift:
            index += 1 << (shift - page_shift)
            if index < count:
                shift = page_shift + get_vmap_batch_order(tables, g, how, pages, index, count - index)
        addr, stop = start + (batch << page_shift), start + (index << page_shift)
        cap = min(batch_shift, how.shift_cap)
        err = map_range(tables, g, pages, batch, contiguous, addr, stop, cap, prots)
        if err:
            tables.state[STOPPED] += batch
            return err
    return 0


@jit
def vmap_pages_range(
    tables: Tables,
    g: Geometry,
    pages: Ints,
    start: int,
    end: int,
    shift: int,
    rewalk: bool,
    prots: Ints,
) -> int:
    """Map ``pages`` at [start, end) with one ``shift``, contiguous and aligned up to it; returns 0 or an errno.

    ``__vmap_pages_range_noflush()``: one descent; with ``rewalk`` and a shift above PAGE_SHIFT, one descent per
    chunk, as before the series.
    """
    by_chunk = rewalk and shift > g.page_shift
    step = 1 << shift if by_chunk else end - start
    for addr in range(start, end, step):
        index = (addr - start) >> g.page_shift
        err = map_range(tables, g, pages, index, by_chunk, addr, addr + step, shift, prots)
        if err:
            tables.state[STOPPED] += index
            return err
    return 0
