# SPDX-License-Identifier: GPL-2.0-only
"""Whole calls as compiled code: vmap() and vunmap() from the area to the last flush, one at a time or in a batch."""

from __future__ import annotations

import errno
from typing import NamedTuple

from vmaplab._jit import allocating, jit
from vmaplab.calls.flags import VM_IOREMAP
from vmaplab.pgtable.geometry import GEOMETRY_NUMBERS, Geometry, i64, unpacked
from vmaplab.pgtable.memory import ATTEMPTS, LOGGED, NEXT, STOPPED, WARNED, Tables, note, out_of_memory
from vmaplab.pgtable.unmap import unmap_range
from vmaplab.trace import L_FLUSH_TLB, L_FLUSH_VMAP, L_FLUSH_VUNMAP, Ints
from vmaplab.vmalloc.area import (
    BEYOND,
    DRAIN,
    LOST,
    NO_VM,
    NOTHING_FREE,
    STRAY,
    TRACKED,
    Space,
    alloc_vmap_area,
    find_vmap_area,
    free_vmap_area_noflush,
    purge_vmap_area_lazy,
    unlink_va,
)
from vmaplab.vmalloc.batch import Batching, vm_shift, vmap_batched, vmap_pages_range
from vmaplab.vmalloc.tree import END, FLAGS, START, VM, Bounds

ENOMEM = errno.ENOMEM
NO_TABLES = -3
"""Returned, besides the negative numbers of :mod:`.area`: the table memory must grow first."""
VMAP, VUNMAP, CPU, OTHER = range(4)
"""Kinds of operations: those that :func:`run` does itself, and all others."""


class Options(NamedTuple):
    """What else the compiled calls must know of a kernel."""

    batches: int  # vmap() looks for larger chunks
    rewalk: int  # one descent per chunk of a larger shift
    kmsan: int
    quarter: int  # bytes from an address to its KMSAN shadow, and from there to its origin
    meta_bit: int  # the PFN bit that tells shadow frames from the others; half of it for origin frames
    aligns_area: int  # vmap() asks for areas in which batching can work
    unit: int  # log2 of a page
    vstart: int  # VMALLOC_START and VMALLOC_END, in pages
    vend: int
    whole: int  # and VMALLOC_END is whole pages


class Setup(NamedTuple):
    """One kernel. Compiled calls take its :func:`~vmaplab.pgtable.geometry.numbers`, and what they need of them."""

    g: Geometry
    meta_g: Geometry  # of KMSAN's metadata, whose frames need not be valid
    options: Options
    how: Batching


@jit
def options_of(setup: Ints) -> Options:
    """The options of a packed setup."""
    a, at = setup, 2 * GEOMETRY_NUMBERS
    return Options(
        a[at], a[at + 1], a[at + 2], a[at + 3], a[at + 4], a[at + 5], a[at + 6], a[at + 7], a[at + 8], a[at + 9]
    )


@jit
def how_of(setup: Ints) -> Batching:
    """How the kernel of a packed setup batches."""
    a, at = setup, 2 * GEOMETRY_NUMBERS + OPTIONS
    return Batching(a[at], a[at + 1], a[at + 2], a[at + 3], a[at + 4], a[at + 5], a[at + 6], a[at + 7])


OPTIONS = len(Options._fields)


@jit
def begin(tables: Tables) -> None:
    """Forget what the last call counted, logged and warned of."""
    tables.state[LOGGED] = tables.state[WARNED] = tables.state[STOPPED] = 0
    tables.cost[:] = 0


@jit
def fits(setup: Ints, tables: Tables, size: int) -> bool:
    """Whether there is room for all tables that mapping ``size`` bytes can need, KMSAN's metadata included."""
    ranges = 3 if options_of(setup).kmsan else 1
    g = unpacked(setup, 0)
    need = i64(tables.state[NEXT])
    for level in range(g.top):
        need += ranges * ((size >> g.shift[level + 1]) + 3) * g.words[level]
    return need <= len(tables.words)


@jit
def map_pages(
    setup: Ints, tables: Tables, addr: int, size: int, pages: Ints, shift: int, batch: bool, prots: Ints, meta: Ints
) -> int:
    """``vmap_pages_range_noflush()``, or what stands for it in a release that batches; returns 0 or an errno.

    :param addr: signed.
    :param prots: per level, what surrounds the PFN in a leaf; ``meta``: likewise, for KMSAN's metadata.
    """
    options = options_of(setup)
    if options.kmsan:
        err = map_kmsan(setup, tables, addr, size, pages, shift, meta)
        if err:
            return err
        tables.cost[:] = 0
    g = unpacked(setup, 0)
    if batch and options.batches:
        return vmap_batched(tables, g, how_of(setup), pages, addr, addr + size, prots)
    return vmap_pages_range(tables, g, pages, addr, addr + size, shift, options.rewalk != 0, prots)


@allocating
def map_kmsan(setup: Ints, tables: Tables, addr: int, size: int, pages: Ints, shift: int, prots: Ints) -> int:
    """``kmsan_vmap_pages_range_noflush()``: map shadow and origin pages a quarter and a half further on.

    Which pages hold the metadata is decided at boot; here PFN bits that no array uses stand for it.
    """
    options, meta_g = options_of(setup), unpacked(setup, GEOMETRY_NUMBERS)
    for _ in range(2):  # s_pages, o_pages
        if out_of_memory(tables.state):
            return ENOMEM
    for number in (1, 2):
        start = addr + number * options.quarter
        bit = options.meta_bit >> (number - 1)
        frames = pages.copy()
        for index in range(len(frames)):
            if frames[index] >= 0:
                frames[index] ^= bit
        err = vmap_pages_range(tables, meta_g, frames, start, start + size, shift, options.rewalk != 0, prots)
        if err:
            return err
    for kind in (L_FLUSH_TLB, L_FLUSH_VMAP):
        for number in (1, 2):
            start = addr + number * options.quarter
            note(tables, kind, start, start + size, size)
    return 0


@jit
def unmap(setup: Ints, tables: Tables, addr: int, size: int) -> None:
    """``vunmap_range_noflush()``: clear all entries of the range, KMSAN metadata first."""
    options, g = options_of(setup), unpacked(setup, 0)
    if options.kmsan:
        for number in (1, 2):
            unmap_range(tables, g, addr + number * options.quarter, addr + number * options.quarter + size)
        for number in (1, 2):
            shadow = addr + number * options.quarter
            note(tables, L_FLUSH_VMAP, shadow, shadow + size, size)
    unmap_range(tables, g, addr, addr + size)


@jit
def free_unmap_vmap_area(setup: Ints, tables: Tables, space: Space, block: int) -> None:
    """Unmap a block that was unlinked, and let it wait for the purge."""
    unit = options_of(setup).unit
    start = space.blocks.row[block, START] << unit
    size = (space.blocks.row[block, END] - space.blocks.row[block, START]) << unit
    note(tables, L_FLUSH_VUNMAP, start, start + size, size)
    unmap(setup, tables, start, size)
    free_vmap_area_noflush(space, block)


@jit
def remove_vm_area(setup: Ints, tables: Tables, space: Space, addr: int) -> int:
    """``remove_vm_area()``: the block with ``addr`` (pages) is unmapped and waits; 0 if there is none.

    A block without a ``struct vm_struct`` is taken out of use, and out of everything: it is lost.
    """
    begin(tables)
    block = find_vmap_area(space, addr)
    if block == 0:
        return 0
    unlink_va(space, block)
    if space.blocks.row[block, VM] == NO_VM:
        space.blocks.row[block, FLAGS] |= STRAY
        space.state[LOST] += space.blocks.row[block, END] - space.blocks.row[block, START]
        return 0
    free_unmap_vmap_area(setup, tables, space, block)
    return block


@jit
def vmap(
    setup: Ints, tables: Tables, space: Space, pages: Ints, cpu: int, flags: int, prots: Ints, meta: Ints
) -> tuple[int, int]:
    """``vmap()`` of ``pages`` in the first area that is asked for: 0 or an errno, and the block.

    A negative number means that nothing has been done: there is no such area (the caller purges, or asks for one
    that is aligned less), or an array must grow.

    :param flags: those of the area, VM_NO_GUARD not among them.
    """
    begin(tables)
    if flags & VM_IOREMAP:  # other alignments
        return NOTHING_FREE, 0
    options = options_of(setup)
    size = len(pages) << options.unit
    if not fits(setup, tables, size):
        return NO_TABLES, 0
    align = 1
    if options.aligns_area:
        align = 1 << (vm_shift(unpacked(setup, 0), size) - options.unit)
    attempts = tables.state[ATTEMPTS]
    if out_of_memory(tables.state):
        tables.state[ATTEMPTS] = attempts
        return NOTHING_FREE, 0
    length = len(pages) + 1  # and the guard page
    bounds = Bounds(options.vstart, options.vend, options.whole, i64(1))
    block = alloc_vmap_area(space, length, align, bounds, cpu, i64(0), flags)
    if block < 0:
        tables.state[ATTEMPTS] = attempts
        return block, 0
    return map_area(setup, tables, space, block, pages, prots, meta), block


@jit
def map_area(setup: Ints, tables: Tables, space: Space, block: int, pages: Ints, prots: Ints, meta: Ints) -> int:
    """The second half of ``vmap()``: map ``pages`` in the area of ``block``; on an error it is given up."""
    unit = options_of(setup).unit
    addr = space.blocks.row[block, START] << unit
    size = len(pages) << unit
    err = map_pages(setup, tables, addr, size, pages, unit, True, prots, meta)
    note(tables, L_FLUSH_VMAP, addr, addr + size, size)
    if err:
        stopped = tables.state[STOPPED]
        unlink_va(space, block)
        free_unmap_vmap_area(setup, tables, space, block)
        tables.state[STOPPED] = stopped
    return err


@jit
def run(
    setup: Ints,
    tables: Tables,
    space: Space,
    kinds: Ints,
    numbers: Ints,
    firsts: Ints,
    pages: Ints,
    prots: Ints,
    results: Ints,
    start: int,
    cpu: Ints,
) -> int:
    """Operations one after the other, from ``start`` on; returns the number of the first that is not done.

    It stops before one that it cannot do alone, and after one that warned or failed.

    :param numbers: shape (n, 3): which operation gives the address or -1, the address if none does or the number of
        a CPU, flags.
    :param firsts: shape (n + 1,): where in ``pages`` the pages of each operation begin.
    :param results: what each returns: an address, 0, or ``-errno``.
    :param cpu: shape (1,): the CPU that calls.
    """
    options = options_of(setup)
    unit, state = options.unit, space.state
    inside = (1 << (64 - unit)) - 1
    for number in range(start, len(kinds)):
        kind, value = kinds[number], numbers[number, 1]
        if kind == VMAP:
            array = pages[firsts[number] : firsts[number + 1]]
            err, block = vmap(setup, tables, space, array, cpu[0], numbers[number, 2], prots, prots)
            if err < 0:
                return number
            results[number] = -err if err else space.blocks.row[block, START] << unit
        elif kind == VUNMAP:
            if numbers[number, 0] >= 0:
                value = results[numbers[number, 0]]
                if value == 0 or -4096 < value < 0:
                    results[number] = 0
                    continue
            block = find_vmap_area(space, (value >> unit) & inside)
            if value & ((1 << unit) - 1) or block == 0:
                return number
            if space.blocks.row[block, VM] == NO_VM or space.blocks.row[block, FLAGS] & TRACKED:
                return number
            begin(tables)
            unlink_va(space, block)
            free_unmap_vmap_area(setup, tables, space, block)
            results[number] = 0
        elif kind == CPU:
            cpu[0] = value
        else:
            return number
        if state[DRAIN]:
            state[DRAIN] = 0
            purge_vmap_area_lazy(space, tables, i64(BEYOND), i64(0), False, unit)
        if tables.state[WARNED] or (results[number] != 0 and -4096 < results[number] < 0):
            return number + 1
    return len(kinds)
