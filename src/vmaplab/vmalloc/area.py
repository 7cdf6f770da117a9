# SPDX-License-Identifier: GPL-2.0-only
"""Areas of kernel address space: the kernel's search with alignment, per-CPU nodes and pools, lazy freeing.

``alloc_vmap_area()``, ``free_vmap_area_noflush()`` and ``__purge_vmap_area_lazy()``. All that is free, in use or waits
is a block of :mod:`vmaplab.vmalloc.tree`; a block in use or waiting is in a tree of its node, ``struct vmap_node``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vmaplab._jit import allocating, jit
from vmaplab.calls.flags import VM_ALLOC
from vmaplab.mapping import VmArea
from vmaplab.pgtable.geometry import i64
from vmaplab.pgtable.memory import Tables, note
from vmaplab.trace import L_FLUSH_TLB, Ints
from vmaplab.vmalloc.percpu import highest_base
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
    cut,
    enclosing,
    erase,
    find,
    find_exceed,
    grown,
    insert,
    merge_or_add,
    neighbour,
    new_blocks,
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


class AddressSpace:
    """The vmalloc address space of one kernel.

    :param page_shift: log2 of the page size.
    :param vmalloc: VMALLOC_START and VMALLOC_END.
    :param cpus: CPUs; with several, each has a node with pools, up to MAX_NODES of them.
    :param nodes: at most so many nodes; 32-bit kernels have one, and so have those before ``struct vmap_node``.
    :param quarter: a purge gives exactly a quarter of each pool back.
    :ivar space: what the compiled functions work on; another one whenever it grows.
    :ivar unit: log2 of a page in bytes.
    :ivar given: addresses that the next areas have, in order, if another allocator than this one chooses them.
    """

    def __init__(
        self,
        page_shift: int,
        vmalloc: tuple[int, int],
        cpus: int = 1,
        nodes: int = MAX_NODES,
        quarter: bool = True,
    ) -> None:
        self.unit, self._vmalloc = page_shift, vmalloc
        nodes = min(cpus, nodes)
        blocks = new_blocks(64, 2 + 2 * nodes)
        state = np.zeros(QUARTER + 1, dtype=np.int64)
        state[QUARTER] = quarter
        state[NODES], state[ZONE] = nodes, ZONE_PAGES if nodes > 1 else 1
        state[LAZY_MAX] = cpus.bit_length() * (LAZY_MAX_BYTES >> self.unit)
        pools = np.zeros((nodes * MAX_VA_SIZE_PAGES, 3), dtype=np.int64)
        # vmap_init_free_space(): all but the first page
        insert(blocks, FREE, new_node(blocks, 1, 1 << (64 - self.unit)), 0, 0)
        self.space = Space(blocks, pools, state)
        self.given: list[int] | None = None
        self._extra: dict[int, dict[str, Any]] = {}

    def grow(self) -> None:
        """Have room for twice as many blocks."""
        self.space = self.space._replace(blocks=grown(self.space.blocks))

    def alloc(self, size: int, align: int, vstart: int, vend: int, cpu: int, flags: int, vm: int) -> int:
        """:func:`alloc_vmap_area` in bytes; returns the number of the block, or NOTHING_FREE."""
        unit = self.unit
        if size >= 1 << 63 or align >= 1 << 63:
            return NOTHING_FREE
        if self.given is not None:  # somebody else's choice
            if not self.given:
                return NOTHING_FREE
            vstart, align = self.given.pop(0), 1 << unit
            vend = vstart + size
        while True:
            bounds = self._bounds(vstart, vend)
            block = alloc_vmap_area(self.space, size >> unit, align >> unit, bounds, cpu, flags, vm)
            if block != NO_ROOM:
                return int(block)
            self.grow()

    def finds_another_size(self, size: int, align: int, vstart: int, vend: int, cpu: int) -> bool:
        """Whether :meth:`alloc` is going to find an area of another size in its pool, aligned to ``align`` bytes.

        ``size_to_va_pool()`` has put one of 2^32 pages and more there, whose number it cuts off.
        """
        space, pages = self.space, size >> self.unit
        if self.nodes == 1 or self.given is not None or not self._bounds(vstart, vend).pools:
            return False
        pool = int(pool_of(cpu % self.nodes, pages))
        start, end = space.blocks.row[space.pools[pool, FIRST], [START, END]] if pool >= 0 else (0, 0)
        there = pool >= 0 and space.pools[pool, FIRST] != 0
        return bool(there and end - start != pages and not start & ((align >> self.unit) - 1))

    def _bounds(self, vstart: int, vend: int) -> Bounds:
        whole = vend & ((1 << self.unit) - 1) == 0
        return Bounds(vstart >> self.unit, vend >> self.unit, int(whole), int((vstart, vend) == self._vmalloc))

    def bounds(self, block: int) -> tuple[int, int]:
        """First address of a block, and the first one behind it."""
        blocks = self.space.blocks
        return int(blocks.row[block, START]) << self.unit, int(blocks.row[block, END]) << self.unit

    def find_vmap_area(self, addr: int) -> int:
        """The block in use that holds ``addr``, or 0."""
        return int(find_vmap_area(self.space, addr >> self.unit)) if 0 <= addr < 1 << 64 else 0

    def find(self, addr: int) -> VmArea | None:
        """``find_vm_area()``: the area that holds ``addr``."""
        block = self.find_vmap_area(addr)
        return self.area(block) if block and self.space.blocks.row[block, VM] != NO_VM else None

    def area(self, block: int) -> VmArea:
        """The area of a block that has one."""
        start, end = self.bounds(block)
        return VmArea(start, end - start, int(self.space.blocks.row[block, VM]), **self._extra.get(start, {}))

    def vm_flags(self, block: int) -> int:
        """``VM_*`` of a block that has an area."""
        return int(self.space.blocks.row[block, VM])

    def own(self, addr: int, **what: Any) -> None:
        """Remember fields of the :class:`VmArea` at ``addr``."""
        self.track(self.find_vmap_area(addr))
        self._extra.setdefault(addr, {}).update(what)

    def track(self, block: int) -> None:
        """Compiled code leaves ``block`` to others; 0: what held the address was taken out of use."""
        if block:
            self.space.blocks.row[block, FLAGS] |= TRACKED

    def disown(self, block: int) -> None:
        """The area of ``block`` is gone."""
        if self._extra:
            self._extra.pop(self.bounds(block)[0], None)

    def pop_area(self, block: int) -> VmArea:
        """The area of a block that is gone."""
        area = self.area(block)
        self.disown(block)
        return area

    def unlink(self, block: int) -> bool:
        """Take ``block`` out of use; false where the kernel warns, because it is in no tree."""
        flags, state = self.space.blocks.row[block, FLAGS], self.space.state
        if flags & STRAY:
            self.space.blocks.row[block, FLAGS] = flags & ~STRAY
            start, end = self.bounds(block)
            state[LOST] -= (end - start) >> self.unit
            return False
        unlink_va(self.space, block)
        return True

    def busy_or_stray(self, block: int) -> bool:
        """Whether nobody has given ``block`` back yet."""
        return bool(self.space.blocks.row[block, FLAGS] & STRAY) or self.find_vmap_area(self.bounds(block)[0]) == block

    def free(self, block: int) -> None:
        """Let ``block``, which was unlinked, wait for the purge."""
        free_vmap_area_noflush(self.space, block)

    def pcpu_get_vm_areas(self, offsets: Sequence[int], sizes: Sequence[int], align: int) -> int | None:
        """``pcpu_get_vm_areas()`` in bytes: the address from which offsets count; None if nothing is free so."""
        while room(self.space.blocks) < 3 * len(sizes):
            self.grow()
        base = highest_base(self.space.blocks, self.unit, self._vmalloc, offsets, sizes, align)
        if base is None:
            return None
        for at, size in zip(offsets, sizes, strict=True):
            start, pages = base + at >> self.unit, size >> self.unit
            blocks = self.space.blocks
            cut(blocks, enclosing(blocks, start), start, pages)
            block = new_node(blocks, start, start + pages)
            blocks.row[block, FLAGS], blocks.row[block, VM] = 0, VM_ALLOC
            add(blocks, busy_root(node_of(self.space, start)), block)
            self.space.state[BUSY_AREAS] += 1
        return base

    def find_in_node(self, addr: int) -> VmArea | None:
        """The area that holds ``addr`` in the node of that address, where areas that begin there are."""
        space, at = self.space, addr >> self.unit
        block = int(find(space.blocks, busy_root(node_of(space, at)), at))
        return self.area(block) if block and space.blocks.row[block, VM] != NO_VM else None

    def purge(self, tables: Tables, start: int = NOWHERE, end: int = 0, full: bool = False) -> int:
        """:func:`purge_vmap_area_lazy`; ``start`` and ``end`` in bytes."""
        first, last = start >> self.unit, end >> self.unit
        return int(purge_vmap_area_lazy(self.space, tables, first, last, full, self.unit))

    def shrink(self) -> None:
        """``vmap_node_shrink_scan()``: the pools are emptied."""
        for node in range(self.nodes):
            decay_va_pool_node(self.space, node, True)

    @property
    def drain_waits(self) -> bool:
        """Whether so much waits that a purge has been queued; asking changes nothing."""
        return bool(self.space.state[DRAIN])

    @property
    def drain_queued(self) -> bool:
        """The same; asking resets it."""
        queued = bool(self.space.state[DRAIN])
        self.space.state[DRAIN] = 0
        return queued

    @property
    def allocated(self) -> int:
        """How many blocks are in use or wait for the purge."""
        return int(self.space.state[BUSY_AREAS] + self.space.state[LAZY_AREAS])

    @property
    def free_bytes(self) -> int:
        """Bytes of all free blocks, those in the pools included."""
        blocks = self.space.blocks
        found = self._list(FREE, len(blocks.row))
        for block in self.space.pools[:, FIRST].tolist():
            while block:
                found.append(block)
                block = int(blocks.chain[block, NEXT])
        return int((blocks.row[found, END] - blocks.row[found, START]).sum()) << self.unit

    @property
    def waiting_bytes(self) -> int:
        """Bytes that wait for the purge."""
        return int(self.space.state[LAZY]) << self.unit

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return int(self.space.state[NODES])

    def busy(self, node: int) -> list[int]:
        """The blocks in use of a node, ascending."""
        return self._list(busy_root(node), int(self.space.state[BUSY_AREAS]))

    def lazy(self, node: int) -> list[int]:
        """The blocks of a node that wait for the purge, ascending."""
        return self._list(lazy_root(node), int(self.space.state[LAZY_AREAS]))

    def _list(self, root: int, most: int) -> list[int]:
        out = np.zeros(most, dtype=np.int64)
        found: list[int] = out[: list_blocks(self.space, root, out)].tolist()
        return found

    @property
    def areas(self) -> list[VmArea]:
        """The areas in use that have a ``struct vm_struct``, ascending."""
        blocks = [block for node in range(self.nodes) for block in self.busy(node)]
        found = [self.area(block) for block in blocks if self.space.blocks.row[block, VM] != NO_VM]
        return sorted(found, key=lambda area: area.addr)
