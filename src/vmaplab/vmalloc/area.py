# SPDX-License-Identifier: GPL-2.0-only
"""Areas of kernel address space: the kernel's search with alignment, per-CPU nodes and pools, lazy freeing.

``alloc_vmap_area()``, ``free_vmap_area_noflush()`` and ``__purge_vmap_area_lazy()``. All that is free, in use or waits
is a block of :mod:`vmaplab.vmalloc.tree`; a block in use or waiting is in a tree of its node, ``struct vmap_node``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vmaplab._jit import allocating, jit
from vmaplab.pgtable.geometry import i64
from vmaplab.pgtable.memory import Tables, note
from vmaplab.trace import L_FLUSH_TLB, Ints
from vmaplab.vmalloc.tree import (
    DECAY,
    END,
    FLAGS,
    FREE,
    LEFT,
    PARENT,
    RIGHT,
    START,
    VM,
    Blocks,
    Bounds,
    add,
    erase,
    find,
    find_exceed,
    merge_or_add,
    neighbour,
    new_node,
    outermost,
    room,
    take,
)

LAZY_MAX_BYTES = 32 << 20  # lazy_max_pages() of one CPU
MAX_NODES = 128
MAX_VA_SIZE_PAGES = 256
ZONE_PAGES = 16
VMAP_RAM, VMAP_BLOCK, TRACKED, STRAY = 1, 2, 4, 8
"""Bits of a block's FLAGS; TRACKED and STRAY are ours: somebody knows more of the area than the arrays do, and: it
was taken out of use and is in no tree."""
NODE_SHIFT = 8  # where va->flags keeps the number of its node, from 1 on
NO_VM = -1

NODES, ZONE, LAZY, LAZY_MAX, DRAIN, BUSY_AREAS, LAZY_AREAS, POOLED, LOST, QUARTER = range(10)
"""Indices into Space.state."""
FIRST, LAST, LENGTH = range(3)
NOTHING_FREE, NO_ROOM = -1, -2
"""What :func:`alloc_vmap_area` returns instead of a node: no such address space; the arrays must grow first."""
BEYOND = 1 << 62
NOWHERE = 1 << 64
"""A page, and an address in bytes, above all that there are."""
NEXT, PREV = FIRST, LAST  # of a block in a list: what follows it from the one end, and from the other


class Space(NamedTuple):
    """The vmalloc address space."""

    blocks: Blocks
    pools: Ints  # shape (nodes * MAX_VA_SIZE_PAGES, 3): first and last block of each pool, its length
    state: Ints


@jit
def busy_root(node: int) -> int:
    """The tree of the areas in use of a node."""
    return 2 + 2 * node


@jit
def lazy_root(node: int) -> int:
    """The tree of the areas of a node that wait for the purge."""
    return 3 + 2 * node


@jit
def node_of(space: Space, start: int) -> int:
    """``addr_to_node_id()``."""
    return i64(start // space.state[ZONE]) % i64(space.state[NODES])


@jit
def pool_of(node: int, size: int) -> int:
    """``size_to_va_pool()``: the pool of ``size`` pages in a node, or -1; its index is an ``unsigned int``."""
    index = (size - 1) & 0xFFFFFFFF
    return node * MAX_VA_SIZE_PAGES + index if index < MAX_VA_SIZE_PAGES else -1


@jit
def push(space: Space, pool: int, block: int, end: int) -> None:
    """``list_add()`` at FIRST, ``list_add_tail()`` at LAST."""
    head, chain = space.pools[pool], space.blocks.chain
    chain[block, end], chain[block, 1 - end] = head[end], 0
    if head[end]:
        chain[head[end], 1 - end] = block
    else:
        head[1 - end] = block
    head[end] = block


@jit
def pop(space: Space, pool: int, end: int) -> int:
    """Take the block at ``end``, FIRST or LAST, off a list that has one."""
    head, chain = space.pools[pool], space.blocks.chain
    block = i64(head[end])
    head[end] = chain[block, end]
    if head[end]:
        chain[head[end], 1 - end] = 0
    else:
        head[1 - end] = 0
    return block


@jit
def node_pool_del_va(space: Space, node: int, size: int, align: int, bounds: Bounds) -> int:
    """A block of ``size`` from a node's pool if its first one is aligned, or 0; else that one goes to the end."""
    pool = pool_of(node, size)
    if pool < 0 or space.pools[pool, FIRST] == 0:
        return 0
    block = pop(space, pool, i64(FIRST))
    start = i64(space.blocks.row[block, START])
    if start & (align - 1) == 0 and space.blocks.row[block, END] - start != size:  # see AddressSpace.finds_another_size
        push(space, pool, block, i64(FIRST))
        return 0
    if start & (align - 1) or start < bounds.start or space.blocks.row[block, END] > bounds.end:
        push(space, pool, block, i64(LAST))
        return 0
    space.pools[pool, LENGTH] -= 1
    space.state[POOLED] -= 1
    return block


@jit
def alloc_vmap_area(space: Space, size: int, align: int, bounds: Bounds, cpu: int, flags: int, vm: int) -> int:
    """A block of ``size`` pages within ``bounds``, in use from now on, or a negative number: nothing is changed.

    The caller purges and tries again when nothing is free.

    :param cpu: which CPU calls.
    :param flags: VMAP_RAM, VMAP_BLOCK.
    :param vm: the flags of its ``struct vm_struct``, or NO_VM.
    """
    blocks, state = space.blocks, space.state
    if room(blocks) < 3:
        return NO_ROOM
    block, pool, first = i64(0), i64(-1), i64(0)
    if state[NODES] > 1 and bounds.pools:
        node = cpu % state[NODES]
        pool = pool_of(node, size)
        first = i64(space.pools[pool, FIRST]) if pool >= 0 else first
        block = node_pool_del_va(space, node, size, align, bounds)
        flags |= (node + 1) << NODE_SHIFT
    if block == 0:
        start = take(blocks, size, align, bounds)
        if start < 0:
            if first and space.pools[pool, FIRST] != first:  # it was not aligned, and went to the end
                push(space, pool, pop(space, pool, i64(LAST)), i64(FIRST))
            return NOTHING_FREE
        block = new_node(blocks, start, start + size)
    blocks.row[block, FLAGS], blocks.row[block, VM] = flags, vm
    add(blocks, busy_root(node_of(space, blocks.row[block, START])), block)
    state[BUSY_AREAS] += 1
    return block


@jit
def find_vmap_area(space: Space, addr: int) -> int:
    """``find_vmap_area()``: the block in use that holds ``addr`` (pages), or 0."""
    first = node_of(space, addr)
    for step in range(space.state[NODES]):
        found = find(space.blocks, busy_root((first + step) % space.state[NODES]), addr)
        if found:
            return found
    return 0


@jit
def find_vmap_area_exceed_addr(space: Space, addr: int) -> int:
    """``find_vmap_area_exceed_addr_lock()``: the lowest block in use that ends behind ``addr``, or 0."""
    lowest = i64(0)
    for node in range(space.state[NODES]):
        found = find_exceed(space.blocks, busy_root(node), addr)
        if found and (lowest == 0 or space.blocks.row[found, START] < space.blocks.row[lowest, START]):
            lowest = found
    return lowest


@jit
def unlink_va(space: Space, block: int) -> None:
    """Take a block out of use."""
    erase(space.blocks, busy_root(node_of(space, space.blocks.row[block, START])), block)
    space.state[BUSY_AREAS] -= 1


@jit
def free_vmap_area_noflush(space: Space, block: int) -> None:
    """Let a block that was unlinked wait for the purge, which is queued if enough wait."""
    blocks, state = space.blocks, space.state
    node = (blocks.row[block, FLAGS] >> NODE_SHIFT) - 1
    if node < 0:
        node = node_of(space, blocks.row[block, START])
    add(blocks, lazy_root(node), block)
    state[LAZY_AREAS] += 1
    state[LAZY] += blocks.row[block, END] - blocks.row[block, START]
    if state[LAZY] > state[LAZY_MAX]:
        state[DRAIN] = 1


@jit
def decay_va_pool_node(space: Space, node: int, full: bool) -> None:
    """Give a quarter of each pool back, or all.

    Of a pool of less than four, a quarter is none (``state[QUARTER]``), or, before 6.18, all of it.
    """
    blocks, pools = space.blocks, space.pools
    for pool in range(node * MAX_VA_SIZE_PAGES, (node + 1) * MAX_VA_SIZE_PAGES):
        if pools[pool, FIRST] == 0:
            continue
        if full:
            pools[pool, LENGTH] = 0
        left = i64(pools[pool, LENGTH]) >> 2
        if left == 0 and not full and space.state[QUARTER]:
            continue
        while pools[pool, FIRST]:
            merge_or_add(blocks, i64(DECAY), pop(space, pool, i64(FIRST)))
            space.state[POOLED] -= 1
            if not full:
                pools[pool, LENGTH] -= 1
                left -= 1
                if left == 0:
                    break
    reclaim(space, i64(DECAY))


@jit
def reclaim(space: Space, root: int) -> None:
    """``reclaim_list_global()`` of all in a tree, ascending."""
    blocks = space.blocks
    block = outermost(blocks, root, i64(LEFT))
    blocks.roots[root] = 0
    while block:
        after = detach_first(blocks, block)
        merge_or_add(blocks, i64(FREE), block)
        block = after


@jit
def detach_first(blocks: Blocks, block: int) -> int:
    """The block behind ``block``, the lowest one of a tree without a root that is taken apart in order."""
    after = neighbour(blocks, block, i64(RIGHT))
    right, parent = blocks.row[block, RIGHT], blocks.row[block, PARENT]
    if right:
        blocks.row[right, PARENT] = parent
    if parent:
        blocks.row[parent, LEFT] = right
    return after


@jit
def purge_vmap_node(space: Space, node: int, first: int, populate: bool) -> None:
    """Free what waited in a node, from its lowest block ``first`` on: to its pools, or for all to take."""
    blocks = space.blocks
    block, kept = first, i64(0)
    while block:
        after = detach_first(blocks, block)
        size = blocks.row[block, END] - blocks.row[block, START]
        space.state[LAZY] -= size
        space.state[LAZY_AREAS] -= 1
        pool = pool_of(node, size) if populate and blocks.row[block, FLAGS] >> NODE_SHIFT else -1
        if pool >= 0:
            push(space, pool, block, i64(FIRST))
            space.pools[pool, LENGTH] += 1
            space.state[POOLED] += 1
        else:
            blocks.chain[block, NEXT] = kept
            kept = block
        block = after
    while kept:  # the last one first
        after = i64(blocks.chain[kept, NEXT])
        merge_or_add(blocks, i64(FREE), kept)
        kept = after


@allocating
def purge_vmap_area_lazy(space: Space, tables: Tables, start: int, end: int, full: bool, unit: int) -> int:
    """``__purge_vmap_area_lazy()``: one TLB flush, then all that waits is free; returns how many areas that were.

    :param start: lowest page to flush besides, or BEYOND.
    :param end: and the first one behind, or 0.
    :param full: the pools are emptied and stay empty.
    :param unit: log2 of a page.
    """
    blocks, state = space.blocks, space.state
    start, end = i64(start), i64(end)
    nodes = state[NODES]
    firsts = np.zeros(nodes, dtype=np.int64)
    waiting = 0
    for node in range(nodes):
        decay_va_pool_node(space, node, full)
        root = lazy_root(node)
        lowest = outermost(blocks, root, i64(LEFT))
        if lowest:
            start = min(start, i64(blocks.row[lowest, START]))
            end = max(end, i64(blocks.row[outermost(blocks, root, i64(RIGHT)), END]))
            firsts[node] = lowest
            blocks.roots[root] = 0
            waiting += 1
    if waiting == 0:
        return 0
    note(tables, L_FLUSH_TLB, start << unit, end << unit, (end - start) << unit)
    areas = i64(state[LAZY_AREAS])
    # One worker per lazy_max_pages() set minus one; the caller does the rest before it waits for them.
    helpers = min(max(state[LAZY] // state[LAZY_MAX], 1), waiting) - 1
    for pass_ in range(2):
        seen = 0
        for node in range(nodes):
            if firsts[node]:
                seen += 1
                if (seen <= helpers) == (pass_ == 1):
                    purge_vmap_node(space, node, firsts[node], not full)
    return areas - i64(state[LAZY_AREAS])


@jit
def list_blocks(space: Space, root: int, out: Ints) -> int:
    """Write the blocks of a tree to ``out``, ascending; returns how many."""
    found = 0
    block = outermost(space.blocks, root, i64(LEFT))
    while block:
        out[found] = block
        found += 1
        block = neighbour(space.blocks, block, i64(RIGHT))
    return found
