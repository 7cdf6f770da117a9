"""Red-black trees of blocks of address space, as mm/vmalloc.c keeps them.

Blocks are nodes of one array, like the ``struct vmap_area`` that wander from tree to tree; a tree is a root. The
tree :data:`FREE` is augmented with the largest block of each subtree. Which block a search with an alignment finds
depends on its shape, so it is balanced exactly as lib/rbtree.c does it. Node 0 stands for no node and is black.

Addresses and sizes are in half pages: even ones are pages, and an odd one is "just behind a page", what
``va_start + 1`` means in ``find_vmap_lowest_match()``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab._jit import jit
from vmaplab.pgtable.geometry import Ints, i64

LEFT, RIGHT, PARENT, RED = range(4)
USED, FREE_NODE = range(2)
FREE, DECAY = range(2)
"""The roots of the free blocks, and of those that leave the pools; behind them, those of the owner."""


class Blocks(NamedTuple):
    """Blocks by node number, and the roots of the trees that they are in."""

    start: Ints
    end: Ints
    largest: Ints  # subtree_max_size, in the tree FREE
    link: NDArray[np.int32]  # shape (n, 4): left, right, parent, red
    flags: Ints  # va->flags
    vm: Ints  # flags of the vm_struct, or -1 without one
    chain: NDArray[np.int32]  # shape (n, 2): neighbours in a list
    roots: Ints
    meta: Ints  # nodes ever used, node 0 included; first of the free node numbers, which `start` chains


def new_blocks(nodes: int, roots: int) -> Blocks:
    """No blocks, and room for ``nodes``."""
    size = nodes + 1
    return Blocks(
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.zeros((size, 4), dtype=np.int32),
        np.zeros(size, dtype=np.int64),
        np.zeros(size, dtype=np.int64),
        np.zeros((size, 2), dtype=np.int32),
        np.zeros(roots, dtype=np.int64),
        np.array([1, 0], dtype=np.int64),
    )


def grown(blocks: Blocks) -> Blocks:
    """The same blocks with twice the room."""
    larger = new_blocks(2 * len(blocks.start), len(blocks.roots))
    parts: list[tuple[NDArray[Any], NDArray[Any]]] = list(zip(blocks, larger, strict=True))
    for old, new in parts:
        new[: len(old)] = old
    return larger


@jit
def room(blocks: Blocks) -> int:
    """How many more blocks there is room for, at least."""
    return len(blocks.start) - i64(blocks.meta[USED]) + (1 if blocks.meta[FREE_NODE] else 0)


@jit
def new_node(tree: Blocks, start: int, end: int) -> int:
    """A node for the block [start, end), in no tree yet."""
    node = i64(tree.meta[FREE_NODE])
    if node:
        tree.meta[FREE_NODE] = tree.start[node]
    else:
        node = i64(tree.meta[USED])
        tree.meta[USED] += 1
    tree.start[node], tree.end[node], tree.largest[node] = start, end, 0
    return node


@jit
def drop_node(tree: Blocks, node: int) -> None:
    """``kmem_cache_free()``: the node's number can be used again."""
    tree.start[node] = tree.meta[FREE_NODE]
    tree.meta[FREE_NODE] = node


@jit
def update(tree: Blocks, node: int) -> None:
    """``compute_subtree_max_size()`` of ``node`` alone."""
    left, right = tree.link[node, LEFT], tree.link[node, RIGHT]
    tree.largest[node] = max(tree.end[node] - tree.start[node], tree.largest[left], tree.largest[right])


@jit
def propagate(tree: Blocks, root: int, node: int) -> None:
    """``augment_tree_propagate_from()``: bring ``node`` and all above it up to date, where that matters."""
    while node and root == FREE:
        update(tree, node)
        node = i64(tree.link[node, PARENT])


@jit
def replace(tree: Blocks, root: int, old: int, new: int, parent: int) -> None:
    """``__rb_change_child()``: ``new`` hangs where ``old`` hung."""
    if parent == 0:
        tree.roots[root] = new
    elif tree.link[parent, LEFT] == old:
        tree.link[parent, LEFT] = new
    else:
        tree.link[parent, RIGHT] = new


@jit
def rotate(tree: Blocks, root: int, node: int, side: int) -> int:
    """Rotate ``node`` down to ``side``; returns the child that took its place."""
    child = i64(tree.link[node, 1 - side])
    inner = i64(tree.link[child, side])
    parent = i64(tree.link[node, PARENT])
    tree.link[node, 1 - side] = inner
    if inner:
        tree.link[inner, PARENT] = node
    tree.link[child, side] = node
    tree.link[node, PARENT] = child
    tree.link[child, PARENT] = parent
    replace(tree, root, node, child, parent)
    update(tree, node)
    update(tree, child)
    return child


@jit
def insert(tree: Blocks, root: int, node: int, parent: int, side: int) -> None:
    """``rb_insert_augmented()`` of ``node`` as the child of ``parent`` at ``side``."""
    link = tree.link
    link[node, LEFT] = link[node, RIGHT] = 0
    link[node, PARENT] = parent
    link[node, RED] = 1
    if parent == 0:
        tree.roots[root] = node
    else:
        link[parent, side] = node
    propagate(tree, root, node)
    while True:
        parent = i64(link[node, PARENT])
        if parent == 0:
            link[node, RED] = 0
            return
        if not link[parent, RED]:
            return
        above = i64(link[parent, PARENT])
        near = LEFT if link[above, LEFT] == parent else RIGHT
        uncle = i64(link[above, 1 - near])
        if uncle and link[uncle, RED]:
            link[uncle, RED] = link[parent, RED] = 0
            link[above, RED] = 1
            node = above
            continue
        if link[parent, 1 - near] == node:
            parent = rotate(tree, root, parent, near)
        rotate(tree, root, above, 1 - near)
        link[parent, RED] = 0
        link[above, RED] = 1
        return


@jit
def rebalance(tree: Blocks, root: int, parent: int) -> None:
    """``____rb_erase_color()``: one path below ``parent`` lacks a black node, the one that ends in no node first."""
    link = tree.link
    node = i64(0)
    while True:
        side = RIGHT if link[parent, RIGHT] != node else LEFT  # where the sibling is
        sibling = i64(link[parent, side])
        if link[sibling, RED]:
            rotate(tree, root, parent, 1 - side)
            link[sibling, RED] = 0
            link[parent, RED] = 1
            sibling = i64(link[parent, side])
        outer = i64(link[sibling, side])
        if outer == 0 or not link[outer, RED]:
            inner = i64(link[sibling, 1 - side])
            if inner == 0 or not link[inner, RED]:
                link[sibling, RED] = 1
                if link[parent, RED]:
                    link[parent, RED] = 0
                    return
                node = parent
                parent = i64(link[node, PARENT])
                if parent == 0:
                    return
                continue
            rotate(tree, root, sibling, side)
            outer = sibling
            sibling = inner
        rotate(tree, root, parent, 1 - side)
        link[sibling, RED] = link[parent, RED]
        link[parent, RED] = 0
        link[outer, RED] = 0
        return


@jit
def erase(tree: Blocks, root: int, node: int) -> None:
    """``rb_erase_augmented()``: take ``node`` out of the tree."""
    link = tree.link
    left, right, parent = i64(link[node, LEFT]), i64(link[node, RIGHT]), i64(link[node, PARENT])
    unbalanced = i64(0)
    lowest = parent
    if left == 0 or right == 0:
        child = left + right
        replace(tree, root, node, child, parent)
        if child:
            link[child, PARENT] = parent
            link[child, RED] = link[node, RED]
        elif not link[node, RED]:
            unbalanced = parent
    else:
        successor = right
        lowest = successor
        child = i64(link[successor, RIGHT])
        if link[successor, LEFT]:
            while link[successor, LEFT]:
                lowest = successor
                successor = i64(link[successor, LEFT])
            child = i64(link[successor, RIGHT])
            link[lowest, LEFT] = child
            link[successor, RIGHT] = right
            link[right, PARENT] = successor
        link[successor, LEFT] = left
        link[left, PARENT] = successor
        replace(tree, root, node, successor, parent)
        if child:
            link[child, PARENT] = lowest
            link[child, RED] = 0
        elif not link[successor, RED]:
            unbalanced = lowest
        link[successor, PARENT] = parent
        link[successor, RED] = link[node, RED]
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
        side = i64(LEFT) if start < tree.start[node] else i64(RIGHT)
        node = i64(tree.link[node, side])
    return parent, side


@jit
def neighbour(tree: Blocks, node: int, side: int) -> int:
    """The next block on ``side`` of ``node`` in order of addresses, or 0."""
    if tree.link[node, side]:
        node = i64(tree.link[node, side])
        while tree.link[node, 1 - side]:
            node = i64(tree.link[node, 1 - side])
        return node
    above = i64(tree.link[node, PARENT])
    while above and tree.link[above, side] == node:
        node = above
        above = i64(tree.link[node, PARENT])
    return above


@jit
def first_of(tree: Blocks, root: int) -> int:
    """The lowest block, or 0."""
    node = i64(tree.roots[root])
    while node and tree.link[node, LEFT]:
        node = i64(tree.link[node, LEFT])
    return node


@jit
def last_of(tree: Blocks, root: int) -> int:
    """The highest block, or 0."""
    node = i64(tree.roots[root])
    while node and tree.link[node, RIGHT]:
        node = i64(tree.link[node, RIGHT])
    return node


@jit
def find(tree: Blocks, root: int, addr: int) -> int:
    """``__find_vmap_area()``: the block that holds ``addr``, or 0."""
    node = i64(tree.roots[root])
    while node:
        if addr < tree.start[node]:
            node = i64(tree.link[node, LEFT])
        elif addr >= tree.end[node]:
            node = i64(tree.link[node, RIGHT])
        else:
            return node
    return 0


@jit
def find_exceed(tree: Blocks, root: int, addr: int) -> int:
    """``__find_vmap_area_exceed_addr()``: the lowest block that ends behind ``addr``, or 0."""
    node, found = i64(tree.roots[root]), i64(0)
    while node:
        if tree.end[node] > addr:
            found = node
            if tree.start[node] <= addr:
                break
            node = i64(tree.link[node, LEFT])
        else:
            node = i64(tree.link[node, RIGHT])
    return found


@jit
def add(tree: Blocks, root: int, node: int) -> None:
    """``insert_vmap_area()``."""
    parent, side = place(tree, root, i64(tree.start[node]))
    insert(tree, root, node, parent, side)


@jit
def merge_or_add(tree: Blocks, root: int, node: int) -> None:
    """``merge_or_add_vmap_area()``, ``_augment()`` in the tree FREE: join ``node`` with its neighbours."""
    start, end = i64(tree.start[node]), i64(tree.end[node])
    parent, side = place(tree, root, start)
    before = after = i64(0)
    if parent:
        if side == LEFT:
            before, after = neighbour(tree, parent, i64(LEFT)), parent
        else:
            before, after = parent, neighbour(tree, parent, i64(RIGHT))
    merged = i64(0)
    if after and tree.start[after] == end:
        tree.start[after] = start
        merged = after
        drop_node(tree, node)
    if before and tree.end[before] == start:
        if merged:
            end = i64(tree.end[after])
            erase(tree, root, after)
            drop_node(tree, after)
        else:
            drop_node(tree, node)
        tree.end[before] = end
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
    return align_up(max(i64(tree.start[node]), vstart), align) + size <= i64(tree.end[node])


@jit
def find_vmap_lowest_match(tree: Blocks, size: int, align: int, vstart: int, adjust: bool) -> int:
    """The block that the kernel takes: the lowest one if ``align`` is a page, else usually."""
    link, largest = tree.link, tree.largest
    length = size + align - 1 if adjust else size
    node = i64(tree.roots[FREE])
    while node:
        if largest[link[node, LEFT]] >= length and vstart < tree.start[node]:
            node = i64(link[node, LEFT])
            continue
        if is_within(tree, node, size, align, vstart):
            return node
        if largest[link[node, RIGHT]] >= length:
            node = i64(link[node, RIGHT])
            continue
        while True:
            node = i64(link[node, PARENT])
            if node == 0:
                break
            if is_within(tree, node, size, align, vstart):
                return node
            if largest[link[node, RIGHT]] >= length and vstart <= tree.start[node]:
                vstart = i64(tree.start[node]) + 1
                node = i64(link[node, RIGHT])
                break
    return 0


@jit
def take(tree: Blocks, size: int, align: int, vstart: int, vend: int) -> int:
    """``__alloc_vmap_area()``: cut ``size`` out of a free block in [vstart, vend); its start, or -1."""
    adjust = align > 2 and vend - vstart != size
    node = find_vmap_lowest_match(tree, size, align, vstart, adjust)
    if node == 0:
        return -1
    start, end = i64(tree.start[node]), i64(tree.end[node])
    root = i64(FREE)  # numba compiles anew for a constant
    found = align_up(max(start, vstart), align)
    if found + size > vend:
        return -1
    if found == start and found + size == end:
        erase(tree, root, node)
        drop_node(tree, node)
    elif found == start:
        tree.start[node] = found + size
        propagate(tree, root, node)
    elif found + size == end:
        tree.end[node] = found
        propagate(tree, root, node)
    else:
        tree.start[node] = found + size
        propagate(tree, root, node)
        parent, side = place(tree, root, start)
        insert(tree, root, new_node(tree, start, found), parent, side)
    return found
