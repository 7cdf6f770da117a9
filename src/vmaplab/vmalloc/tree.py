# SPDX-License-Identifier: GPL-2.0-only
"""Red-black trees of blocks of address space, as mm/vmalloc.c keeps them.

Blocks are nodes of one array, like the ``struct vmap_area`` that wander from tree to tree; a tree is a root. The
tree :data:`FREE` is augmented with the largest block of each subtree. Which block a search with an alignment finds
depends on its shape, so it is balanced exactly as lib/rbtree.c does it. Node 0 stands for no node and is black.

Addresses and sizes are in pages.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab._jit import jit
from vmaplab.pgtable.geometry import i64
from vmaplab.trace import Ints

START, END, LARGEST, LEFT, RIGHT, PARENT, RED, FLAGS = range(8)
"""Columns of Blocks.row: pages, subtree_max_size in the tree FREE, links and colour, va->flags."""
USED, FREE_NODE = range(2)
VM = LARGEST
"""A block in use has the flags of its vm_struct there, or -1 without one, as the kernel has its address."""
FREE, DECAY = range(2)
"""The roots of the free blocks, and of those that leave the pools; behind them, those of the owner."""


class Bounds(NamedTuple):
    """Where a block may be, in pages."""

    start: int
    end: int  # whole pages alone
    whole: int  # the end that the kernel has is no byte larger
    pools: int  # this is VMALLOC_START to VMALLOC_END


class Blocks(NamedTuple):
    """Blocks by node number, and the roots of the trees that they are in."""

    row: Ints  # shape (n, 8): a cache line each, since most of them are far away when there are many
    chain: NDArray[np.int32]  # shape (n, 2): neighbours in a list
    roots: Ints
    meta: Ints  # nodes ever used, node 0 included; first of the free node numbers, which START chains


def new_blocks(nodes: int, roots: int) -> Blocks:
    """No blocks, and room for ``nodes``."""
    size = nodes + 1
    line = 8
    room = np.zeros((size + 1) * line, dtype=np.int64)
    skip = -(room.ctypes.data // room.itemsize) % line
    return Blocks(
        room[skip : skip + size * line].reshape(size, line),
        np.zeros((size, 2), dtype=np.int32),
        np.zeros(roots, dtype=np.int64),
        np.array([1, 0], dtype=np.int64),
    )


def grown(blocks: Blocks) -> Blocks:
    """The same blocks with twice the room."""
    larger = new_blocks(2 * len(blocks.row), len(blocks.roots))
    parts: list[tuple[NDArray[Any], NDArray[Any]]] = list(zip(blocks, larger, strict=True))
    for old, new in parts:
        new[: len(old)] = old
    return larger


@jit
def room(blocks: Blocks) -> int:
    """How many more blocks there is room for, at least."""
    return len(blocks.row) - i64(blocks.meta[USED]) + (1 if blocks.meta[FREE_NODE] else 0)


@jit
def new_node(tree: Blocks, start: int, end: int) -> int:
    """A node for the block [start, end), in no tree yet."""
    node = i64(tree.meta[FREE_NODE])
    if node:
        tree.meta[FREE_NODE] = tree.row[node, START]
    else:
        node = i64(tree.meta[USED])
        tree.meta[USED] += 1
    tree.row[node, START], tree.row[node, END], tree.row[node, LARGEST] = start, end, 0
    return node


@jit
def drop_node(tree: Blocks, node: int) -> None:
    """``kmem_cache_free()``: the node's number can be used again."""
    tree.row[node, START] = tree.meta[FREE_NODE]
    tree.meta[FREE_NODE] = node


@jit
def update(tree: Blocks, node: int) -> None:
    """``compute_subtree_max_size()`` of ``node`` alone."""
    left, right = tree.row[node, LEFT], tree.row[node, RIGHT]
    tree.row[node, LARGEST] = max(
        tree.row[node, END] - tree.row[node, START], tree.row[left, LARGEST], tree.row[right, LARGEST]
    )


@jit
def propagate(tree: Blocks, root: int, node: int) -> None:
    """``augment_tree_propagate_from()``: bring ``node`` and all above it up to date, where that matters."""
    while node and root == FREE:
        update(tree, node)
        node = i64(tree.row[node, PARENT])


@jit
def replace(tree: Blocks, root: int, old: int, new: int, parent: int) -> None:
    """``__rb_change_child()``: ``new`` hangs where ``old`` hung."""
    if parent == 0:
        tree.roots[root] = new
    elif tree.row[parent, LEFT] == old:
        tree.row[parent, LEFT] = new
    else:
        tree.row[parent, RIGHT] = new


@jit
def rotate(tree: Blocks, root: int, node: int, side: int) -> int:
    """Rotate ``node`` down to ``side``; returns the child that took its place."""
    child = i64(tree.row[node, LEFT + RIGHT - side])
    inner = i64(tree.row[child, side])
    parent = i64(tree.row[node, PARENT])
    tree.row[node, LEFT + RIGHT - side] = inner
    if inner:
        tree.row[inner, PARENT] = node
    tree.row[child, side] = node
    tree.row[node, PARENT] = child
    tree.row[child, PARENT] = parent
    replace(tree, root, node, child, parent)
    if root == FREE:
        update(tree, node)
        update(tree, child)
    return child


@jit
def insert(tree: Blocks, root: int, node: int, parent: int, side: int) -> None:
    """``rb_insert_augmented()`` of ``node`` as the child of ``parent`` at ``side``."""
    row = tree.row
    row[node, LEFT] = row[node, RIGHT] = 0
    row[node, PARENT] = parent
    row[node, RED] = 1
    if parent == 0:
        tree.roots[root] = node
    else:
        row[parent, side] = node
    propagate(tree, root, node)
    while True:
        parent = i64(row[node, PARENT])
        if parent == 0:
            row[node, RED] = 0
            return
        if not row[parent, RED]:
            return
        above = i64(row[parent, PARENT])
        near = LEFT if row[above, LEFT] == parent else RIGHT
        uncle = i64(row[above, LEFT + RIGHT - near])
        if uncle and row[uncle, RED]:
            row[uncle, RED] = row[parent, RED] = 0
            row[above, RED] = 1
            node = above
            continue
        if row[parent, LEFT + RIGHT - near] == node:
            parent = rotate(tree, root, parent, near)
        rotate(tree, root, above, LEFT + RIGHT - near)
        row[parent, RED] = 0
        row[above, RED] = 1
        return


@jit
def rebalance(tree: Blocks, root: int, parent: int) -> None:
    """``____rb_erase_color()``: one path below ``parent`` lacks a black node, the one that ends in no node first."""
    row = tree.row
    node = i64(0)
    while True:
        side = RIGHT if row[parent, RIGHT] != node else LEFT  # where the sibling is
        sibling = i64(row[parent, side])
        if row[sibling, RED]:
            rotate(tree, root, parent, LEFT + RIGHT - side)
            row[sibling, RED] = 0
            row[parent, RED] = 1
            sibling = i64(row[parent, side])
        outer = i64(row[sibling, side])
        if outer == 0 or not row[outer, RED]:
            inner = i64(row[sibling, LEFT + RIGHT - side])
            if inner == 0 or not row[inner, RED]:
                row[sibling, RED] = 1
                if row[parent, RED]:
                    row[parent, RED] = 0
                    return
                node = parent
                parent = i64(row[node, PARENT])
                if parent == 0:
                    return
                continue
            rotate(tree, root, sibling, side)
            outer = sibling
            sibling = inner
        rotate(tree, root, parent, LEFT + RIGHT - side)
        row[sibling, RED] = row[parent, RED]
        row[parent, RED] = 0
        row[outer, RED] = 0
        return


@jit
def erase(tree: Blocks, root: int, node: int) -> None:
    """``rb_erase_augmented()``: take ``node`` out of the tree."""
    row = tree.row
    left, right, parent = i64(row[node, LEFT]), i64(row[node, RIGHT]), i64(row[node, PARENT])
    unbalanced = i64(0)
    lowest = parent
    if left == 0 or right == 0:
        child = left + right
        replace(tree, root, node, child, parent)
        if child:
            row[child, PARENT] = parent
            row[child, RED] = row[node, RED]
        elif not row[node, RED]:
            unbalanced = parent
    else:
        successor = right
        lowest = successor
        child = i64(row[successor, RIGHT])
        if row[successor, LEFT]:
            while row[successor, LEFT]:
                lowest = successor
                successor = i64(row[successor, LEFT])
            child = i64(row[successor, RIGHT])
            row[lowest, LEFT] = child
            row[successor, RIGHT] = right
            row[right, PARENT] = successor
        row[successor, LEFT] = left
        row[left, PARENT] = successor
        replace(tree, root, node, successor, parent)
        if child:
            row[child, PARENT] = lowest
            row[child, RED] = 0
        elif not row[successor, RED]:
            unbalanced = lowest
        row[successor, PARENT] = parent
        row[successor, RED] = row[node, RED]
    propagate(tree, root, lowest)
    if unbalanced:
        rebalance(tree, root, unbalanced)


@jit
def place(tree: Blocks, root: int, start: int) -> tuple[int, int]:
    """``find_va_links()``: the parent and the side where a block that begins at ``start`` belongs."""
    node = i64(tree.roots[root])
    parent, side = i64(0), i64(LEFT)
    while node:
        parent = node
        side = i64(LEFT) if start < tree.row[node, START] else i64(RIGHT)
        node = i64(tree.row[node, side])
    return parent, side


@jit
def neighbour(tree: Blocks, node: int, side: int) -> int:
    """The next block on ``side`` of ``node`` in order of addresses, or 0."""
    if tree.row[node, side]:
        node = i64(tree.row[node, side])
        while tree.row[node, LEFT + RIGHT - side]:
            node = i64(tree.row[node, LEFT + RIGHT - side])
        return node
    above = i64(tree.row[node, PARENT])
    while above and tree.row[above, side] == node:
        node = above
        above = i64(tree.row[node, PARENT])
    return above


@jit
def outermost(tree: Blocks, root: int, side: int) -> int:
    """The first block on ``side``, or 0."""
    node = i64(tree.roots[root])
    while node and tree.row[node, side]:
        node = i64(tree.row[node, side])
    return node


@jit
def find(tree: Blocks, root: int, addr: int) -> int:
    """``__find_vmap_area()``: the block that holds ``addr``, or 0."""
    node = i64(tree.roots[root])
    while node:
        if addr < tree.row[node, START]:
            node = i64(tree.row[node, LEFT])
        elif addr >= tree.row[node, END]:
            node = i64(tree.row[node, RIGHT])
        else:
            return node
    return 0


@jit
def find_exceed(tree: Blocks, root: int, addr: int) -> int:
    """``__find_vmap_area_exceed_addr()``: the lowest block that ends behind ``addr``, or 0."""
    node, found = i64(tree.roots[root]), i64(0)
    while node:
        if tree.row[node, END] > addr:
            found = node
            if tree.row[node, START] <= addr:
                break
            node = i64(tree.row[node, LEFT])
        else:
            node = i64(tree.row[node, RIGHT])
    return found


@jit
def enclosing(tree: Blocks, addr: int) -> int:
    """``pvm_find_va_enclose_addr()``: the highest free block that begins at ``addr`` or below, or 0."""
    node, found = i64(tree.roots[FREE]), i64(0)
    while node:
        if tree.row[node, START] > addr:
            node = i64(tree.row[node, LEFT])
            continue
        found = node
        if tree.row[node, END] >= addr:
            break
        node = i64(tree.row[node, RIGHT])
    return found


@jit
def add(tree: Blocks, root: int, node: int) -> None:
    """``insert_vmap_area()``."""
    parent, side = place(tree, root, i64(tree.row[node, START]))
    insert(tree, root, node, parent, side)


@jit
def merge_or_add(tree: Blocks, root: int, node: int) -> None:
    """``merge_or_add_vmap_area()``, ``_augment()`` in the tree FREE: join ``node`` with its neighbours."""
    start, end = i64(tree.row[node, START]), i64(tree.row[node, END])
    parent, side = place(tree, root, start)
    before = after = i64(0)
    if parent:
        if side == LEFT:
            before, after = neighbour(tree, parent, i64(LEFT)), parent
        else:
            before, after = parent, neighbour(tree, parent, i64(RIGHT))
    merged = i64(0)
    if after and tree.row[after, START] == end:
        tree.row[after, START] = start
        merged = after
        drop_node(tree, node)
    if before and tree.row[before, END] == start:
        if merged:
            end = i64(tree.row[after, END])
            erase(tree, root, after)
            drop_node(tree, after)
        else:
            drop_node(tree, node)
        tree.row[before, END] = end
        merged = before
    if merged:
        propagate(tree, root, merged)
    else:
        insert(tree, root, node, parent, side)


@jit
def align_up(value: int, align: int) -> int:
    """``ALIGN()``."""
    return (value + align - 1) & -align


@jit
def is_within(tree: Blocks, node: int, size: int, align: int, vstart: int) -> bool:
    """``is_within_this_va()``."""
    return align_up(max(i64(tree.row[node, START]), vstart), align) + size <= i64(tree.row[node, END])


@jit
def find_vmap_lowest_match(tree: Blocks, size: int, align: int, vstart: int, adjust: bool) -> int:
    """The block that the kernel takes: the lowest one if ``align`` is a page, else usually."""
    row = tree.row
    length = size + align if adjust else size  # in bytes size + align - 1, which only whole pages more can hold
    passed = vstart  # the block that the search went right from: the kernel's vstart is its va_start + 1 then
    node = i64(tree.roots[FREE])
    while node:
        if row[row[node, LEFT], LARGEST] >= length and passed < tree.row[node, START]:
            node = i64(row[node, LEFT])
            continue
        if is_within(tree, node, size, align, vstart):
            return node
        if row[row[node, RIGHT], LARGEST] >= length:
            node = i64(row[node, RIGHT])
            continue
        while True:
            node = i64(row[node, PARENT])
            if node == 0:
                break
            if is_within(tree, node, size, align, vstart):
                return node
            if row[row[node, RIGHT], LARGEST] >= length and vstart <= tree.row[node, START]:
                passed = i64(tree.row[node, START])
                vstart = passed + 1
                node = i64(row[node, RIGHT])
                break
    return 0


@jit
def take(tree: Blocks, size: int, align: int, bounds: Bounds) -> int:
    """``__alloc_vmap_area()``: cut ``size`` out of a free block within ``bounds``; its start, or -1."""
    exactly = bounds.whole != 0 and bounds.end - bounds.start == size
    node = find_vmap_lowest_match(tree, size, align, bounds.start, align > 1 and not exactly)
    if node == 0:
        return -1
    found = align_up(max(i64(tree.row[node, START]), bounds.start), align)
    if found + size > bounds.end:
        return -1
    cut(tree, node, found, size)
    return found


@jit
def cut(tree: Blocks, node: int, found: int, size: int) -> None:
    """``va_clip()``: take ``size`` pages from ``found`` on out of the free block ``node``."""
    start, end = i64(tree.row[node, START]), i64(tree.row[node, END])
    root = i64(FREE)  # numba compiles anew for a constant
    if found == start and found + size == end:
        erase(tree, root, node)
        drop_node(tree, node)
    elif found == start:
        tree.row[node, START] = found + size
        propagate(tree, root, node)
    elif found + size == end:
        tree.row[node, END] = found
        propagate(tree, root, node)
    else:
        tree.row[node, START] = found + size
        propagate(tree, root, node)
        parent, side = place(tree, root, start)
        insert(tree, root, new_node(tree, start, found), parent, side)
