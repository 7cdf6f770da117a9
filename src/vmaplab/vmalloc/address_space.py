# SPDX-License-Identifier: GPL-2.0-only
"""The address space of one kernel: the arrays that :mod:`vmaplab.vmalloc.area` works on, and who owns which area."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vmaplab.calls.flags import VM_ALLOC
from vmaplab.mapping import VmArea
from vmaplab.pgtable.memory import Tables
from vmaplab.vmalloc.area import (
    BUSY_AREAS,
    DRAIN,
    FIRST,
    LAZY,
    LAZY_AREAS,
    LAZY_MAX,
    LAZY_MAX_BYTES,
    LOST,
    MAX_NODES,
    MAX_VA_SIZE_PAGES,
    NEXT,
    NO_ROOM,
    NO_VM,
    NODES,
    NOTHING_FREE,
    NOWHERE,
    QUARTER,
    STRAY,
    TRACKED,
    ZONE,
    ZONE_PAGES,
    Space,
    alloc_vmap_area,
    busy_root,
    decay_va_pool_node,
    find_vmap_area,
    free_vmap_area_noflush,
    lazy_root,
    list_blocks,
    node_of,
    pool_of,
    purge_vmap_area_lazy,
    unlink_va,
)
from vmaplab.vmalloc.percpu import highest_base
from vmaplab.vmalloc.tree import (
    END,
    FLAGS,
    FREE,
    START,
    VM,
    Bounds,
    add,
    cut,
    enclosing,
    find,
    grown,
    insert,
    new_blocks,
    new_node,
    room,
)


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
