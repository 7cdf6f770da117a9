"""The tree of free address space: a red-black tree with the largest block of each subtree, as in mm/vmalloc.c.

Which block a search with an alignment finds depends on the shape of the tree, so the tree is balanced exactly
as lib/rbtree.c does it. Nodes are numbers; node 0 stands for no node and is black.

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
ROOT, USED, FREE_NODE = range(3)


class Tree(NamedTuple):
    """Blocks by node number."""

    start: Ints
    end: Ints
    largest: Ints  # subtree_max_size
    link: NDArray[np.int32]  # shape (n, 4): left, right, parent, red
    meta: Ints  # root; nodes ever used, node 0 included; first of the free node numbers, which `start` chains


def new_tree(nodes: int) -> Tree:
    """An empty tree with room for ``nodes`` blocks."""
    return Tree(
        np.zeros(nodes + 1, dtype=np.int64),
        np.zeros(nodes + 1, dtype=np.int64),
        np.zeros(nodes + 1, dtype=np.int64),
        np.zeros((nodes + 1, 4), dtype=np.int32),
        np.array([0, 1, 0], dtype=np.int64),
    )


def grown(tree: Tree) -> Tree:
    """The same tree with twice the room."""
    larger = new_tree(2 * len(tree.start))
    parts: list[tuple[NDArray[Any], NDArray[Any]]] = list(zip(tree, larger, strict=True))
    for old, new in parts:
        new[: len(old)] = old
    return larger


def room(tree: Tree) -> int:
    """How many more blocks the tree can take before it must grow, at least."""
    return len(tree.start) - int(tree.meta[USED]) + bool(tree.meta[FREE_NODE])


@jit
def new_node(tree: Tree, start: int, end: int) -> int:
    """A node for the block [start, end), not in the tree yet."""
    node = i64(tree.meta[FREE_NODE])
    if node:
        tree.meta[FREE_NODE] = tree.start[node]
    else:
        node = i64(tree.meta[USED])
        tree.meta[USED] += 1
    tree.start[node], tree.end[node], tree.largest[node] = start, end, 0
    return node


@jit
def update(tree: Tree, node: int) -> None:
    """``compute_subtree_max_size()`` of ``node`` alone."""
    left, right = tree.link[node, LEFT], tree.link[node, RIGHT]
    tree.largest[node] = max(tree.end[node] - tree.start[node], tree.largest[left], tree.largest[right])


@jit
def propagate(tree: Tree, node: int) -> None:
    """``augment_tree_propagate_from()``: bring ``node`` and all above it up to date."""
    while node:
        update(tree, node)
        node = i64(tree.link[node, PARENT])


@jit
def replace(tree: Tree, old: int, new: int, parent: int) -> None:
    """``__rb_change_child()``: ``new`` hangs where ``old`` hung."""
    if parent == 0:
        tree.meta[ROOT] = new
    elif tree.link[parent, LEFT] == old:
        tree.link[parent, LEFT] = new
    else:
        tree.link[parent, RIGHT] = new


@jit
def rotate(tree: Tree, node: int, side: int) -> int:
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
    replace(tree, node, child, parent)
    update(tree, node)
    update(tree, child)
    return child


@jit
def insert(tree: Tree, node: int, parent: int, side: int) -> None:
    """``rb_insert_augmented()`` of ``node`` as the child of ``parent`` at ``side``."""
    link = tree.link
    link[node, LEFT] = link[node, RIGHT] = 0
    link[node, PARENT] = parent
    link[node, RED] = 1
    if parent == 0:
        tree.meta[ROOT] = node
    else:
        link[parent, side] = node
    propagate(tree, node)
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
            parent = rotate(tree, parent, near)
        rotate(tree, above, 1 - near)
        link[parent, RED] = 0
        link[above, RED] = 1
        return


@jit
def rebalance(tree: Tree, parent: int) -> None:
    """``____rb_erase_color()``: one path below ``parent`` lacks a black node, the one that ends in no node first."""
    link = tree.link
    node = i64(0)
    while True:
        side = RIGHT if link[parent, RIGHT] != node else LEFT  # where the sibling is
        sibling = i64(link[parent, side])
        if link[sibling, RED]:
            rotate(tree, parent, 1 - side)
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
            rotate(tree, sibling, side)
            outer = sibling
            sibling = inner
        rotate(tree, parent, 1 - side)
        link[sibling, RED] = link[parent, RED]
        link[parent, RED] = 0
        link[outer, RED] = 0
        return


@jit
def erase(tree: Tree, node: int) -> None:
    """``rb_erase_augmented()``; the node's number is free afterwards."""
    link = tree.link
    left, right, parent = i64(link[node, LEFT]), i64(link[node, RIGHT]), i64(link[node, PARENT])
    unbalanced = i64(0)
    lowest = parent
    if left == 0 or right == 0:
        child = left + right
        replace(tree, node, child, parent)
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
        replace(tree, node, successor, parent)
        if child:
            link[child, PARENT] = lowest
            link[child, RED] = 0
        elif not link[successor, RED]:
            unbalanced = lowest
        link[successor, PARENT] = parent
        link[successor, RED] = link[node, RED]
    propagate(tree, lowest)
    if unbalanced:
        rebalance(tree, unbalanced)
    tree.start[node] = tree.meta[FREE_NODE]
    tree.meta[FREE_NODE] = node


@jit
def place(tree: Tree, start: int) -> tuple[int, int]:
    """``find_va_links()``: the parent and the side where a block that begins at ``start`` belongs."""
    node = i64(tree.meta[ROOT])
    parent, side = i64(0), i64(LEFT)
    while node:
        parent = node
        side = i64(LEFT) if start < tree.start[node] else i64(RIGHT)
        node = i64(tree.link[node, side])
    return parent, side


@jit
def neighbour(tree: Tree, node: int, side: int) -> int:
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
def give(tree: Tree, start: int, end: int) -> None:
    """``merge_or_add_vmap_area_augment()``: [start, end) is free from now on."""
    parent, side = place(tree, start)
    before = after = i64(0)
    if parent:
        if side == LEFT:
            before, after = neighbour(tree, parent, LEFT), parent
        else:
            before, after = parent, neighbour(tree, parent, RIGHT)
    merged = i64(0)
    if after and tree.start[after] == end:
        tree.start[after] = start
        merged = after
    if before and tree.end[before] == start:
        if merged:
            end = i64(tree.end[after])
            erase(tree, after)
        tree.end[before] = end
        merged = before
    if merged:
        propagate(tree, merged)
    else:
        insert(tree, new_node(tree, start, end), parent, side)


@jit
def align_up(value: int, align: int) -> int:
    """``ALIGN()``."""
    return (value + align - 1) & -align


@jit
def is_within(tree: Tree, node: int, size: int, align: int, vstart: int) -> bool:
    """``is_within_this_va()``."""
    return align_up(max(i64(tree.start[node]), vstart), align) + size <= i64(tree.end[node])


@jit
def find_vmap_lowest_match(tree: Tree, size: int, align: int, vstart: int, adjust: bool) -> int:
    """The block that the kernel takes: the lowest one if ``align`` is a page, else usually."""
    link, largest = tree.link, tree.largest
    length = size + align - 1 if adjust else size
    node = i64(tree.meta[ROOT])
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
def take(tree: Tree, size: int, align: int, vstart: int, vend: int) -> int:
    """``__alloc_vmap_area()``: cut ``size`` out of a free block in [vstart, vend); its start, or -1."""
    adjust = align > 2 and vend - vstart != size
    node = find_vmap_lowest_match(tree, size, align, vstart, adjust)
    if node == 0:
        return -1
    start, end = i64(tree.start[node]), i64(tree.end[node])
    found = align_up(max(start, vstart), align)
    if found + size > vend:
        return -1
    if found == start and found + size == end:
        erase(tree, node)
    elif found == start:
        tree.start[node] = found + size
        propagate(tree, node)
    elif found + size == end:
        tree.end[node] = found
        propagate(tree, node)
    else:
        tree.start[node] = found + size
        propagate(tree, node)
        parent, side = place(tree, start)
        insert(tree, new_node(tree, start, found), parent, side)
    return found
