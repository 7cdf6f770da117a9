# SPDX-License-Identifier: GPL-2.0-only
"""Whether the structures of an address space agree with each other: red-black trees, sizes, lists, counts.

Written against the data alone, it calls nothing that changes them.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from vmaplab.errors import Violation
from vmaplab.vmalloc.address_space import AddressSpace
from vmaplab.vmalloc.area import (
    BUSY_AREAS,
    FIRST,
    LAST,
    LAZY,
    LAZY_AREAS,
    LENGTH,
    LOST,
    MAX_VA_SIZE_PAGES,
    NEXT,
    NODE_SHIFT,
    NODES,
    POOLED,
    PREV,
    ZONE,
    Space,
)
from vmaplab.vmalloc.tree import DECAY, END, FLAGS, FREE, FREE_NODE, LARGEST, LEFT, PARENT, RED, RIGHT, START, USED


def check_space(space: AddressSpace) -> None:
    """Look at all of it; it takes time in proportion to the number of blocks.

    :raises Violation: saying what does not agree.
    """
    try:
        _check(space)
    except IndexError as error:
        _wrong(f"a link leads out of the array ({error})")


def _check(space: AddressSpace) -> None:
    data = space.space
    nodes = int(data.state[NODES])
    free = _tree(data, FREE, augmented=True)
    spans = _spans(data, free)
    for (_, end), (start, _) in pairwise(spans):
        if end >= start:
            _wrong(f"free blocks meet at page {start:#x} and are not merged")
    if data.blocks.roots[DECAY]:
        _wrong("the tree of blocks that leave the pools is not empty")
    busy: list[int] = []
    lazy: list[int] = []
    pooled: list[int] = []
    for node in range(nodes):
        of_node = _tree(data, 2 + 2 * node)
        for block in of_node:
            if data.blocks.row[block, START] // data.state[ZONE] % nodes != node:
                _wrong(f"block {block} is in use in node {node}, where it does not belong")
        busy += of_node
        of_node = _tree(data, 3 + 2 * node)
        for block in of_node:
            known = int(data.blocks.row[block, FLAGS]) >> NODE_SHIFT
            if known and known - 1 != node:
                _wrong(f"block {block} of node {known - 1} waits in node {node}")
        lazy += of_node
    for pool in np.flatnonzero(data.pools.any(axis=1)).tolist():
        node, size = divmod(pool, MAX_VA_SIZE_PAGES)
        of_node = _pool(data, pool, size + 1)
        if any(data.blocks.row[block, FLAGS] >> NODE_SHIFT != node + 1 for block in of_node):
            _wrong(f"a pool of node {node} holds a block of another")
        pooled += of_node
    for what, blocks, counter in (
        ("in use", busy, BUSY_AREAS),
        ("waiting", lazy, LAZY_AREAS),
        ("pooled", pooled, POOLED),
    ):
        if len(blocks) != data.state[counter]:
            _wrong(f"{len(blocks)} blocks are {what}, {data.state[counter]} are counted")
    if any(not 0 <= data.blocks.row[block, FLAGS] >> NODE_SHIFT <= nodes for block in busy + lazy):
        _wrong(f"a block is of a node that is not one of {nodes}")
    _numbers(data, [*free, *busy, *lazy, *pooled])
    waiting = sum(end - start for start, end in _spans(data, lazy))
    if waiting != data.state[LAZY]:
        _wrong(f"{waiting} pages wait, {data.state[LAZY]} are counted")
    whole = sorted(spans + _spans(data, busy + lazy + pooled))
    covered, last = 0, 1
    for start, end in whole:
        if start < last:
            _wrong(f"two blocks overlap at page {start:#x}")
        covered, last = covered + end - start, end
    missing = (1 << (64 - space.unit)) - 1 - covered
    if missing != data.state[LOST]:
        _wrong(f"{missing} pages are in no block, {data.state[LOST]} are known to be lost")


def _numbers(data: Space, used: list[int]) -> None:
    """Every number of a node is either free, or that of one block, or of one that was lost."""
    spare: list[int] = []
    node = int(data.blocks.meta[FREE_NODE])
    while node and len(spare) <= len(data.blocks.row):
        spare.append(node)
        node = int(data.blocks.row[node, START])
    known = [*used, *spare]
    if len(set(known)) != len(known):
        _wrong("a node is used twice, or used and free")
    if data.blocks.meta[USED] <= max(known, default=0):
        _wrong("a node is used that was never handed out")
    if data.blocks.row[0].any():
        _wrong("node 0, which stands for none, is not empty")


def _spans(data: Space, blocks: list[int]) -> list[tuple[int, int]]:
    return [(int(data.blocks.row[block, START]), int(data.blocks.row[block, END])) for block in blocks]


def _tree(data: Space, root: int, augmented: bool = False) -> list[int]:
    """The blocks of a tree in order, after a look at order, colours, links and the largest blocks."""
    tree = data.blocks
    found: list[int] = []
    heights: dict[int, int] = {0: 1}
    largest: dict[int, int] = {0: 0}
    top = int(tree.roots[root])
    if top and (tree.row[top, RED] or tree.row[top, PARENT]):
        _wrong(f"the root of tree {root} is red or has a parent")
    stack: list[tuple[int, bool]] = [(top, False)] if top else []
    while stack:
        node, below = stack.pop()
        left, right = int(tree.row[node, LEFT]), int(tree.row[node, RIGHT])
        if not below:
            for child in (left, right):
                if child and tree.row[child, PARENT] != node:
                    _wrong(f"node {child} of tree {root} does not know its parent {node}")
                if child and tree.row[node, RED] and tree.row[child, RED]:
                    _wrong(f"red node {node} of tree {root} has the red child {child}")
            stack += [(right, False)] if right else []
            stack.append((node, True))
            stack += [(left, False)] if left else []
            continue
        found.append(node)
    for node in _children_first(data, top):
        left, right = int(tree.row[node, LEFT]), int(tree.row[node, RIGHT])
        if heights[left] != heights[right]:
            _wrong(f"the paths below node {node} of tree {root} have {heights[left]} and {heights[right]} black nodes")
        heights[node] = heights[left] + (not tree.row[node, RED])
        largest[node] = max(int(tree.row[node, END] - tree.row[node, START]), largest[left], largest[right])
        if augmented and largest[node] != tree.row[node, LARGEST]:
            _wrong(
                f"node {node} says that the largest block below it has {tree.row[node, LARGEST]}, not {largest[node]}"
            )
    spans = _spans(data, found)
    for (start, end), after in pairwise([*spans, (1 << 62, 0)]):
        if not start < end <= after[0]:
            _wrong(f"tree {root} is not in order at page {start:#x}")
    return found


def _children_first(data: Space, top: int) -> list[int]:
    order: list[int] = []
    stack = [top] if top else []
    while stack:
        node = stack.pop()
        order.append(node)
        stack += [int(child) for child in data.blocks.row[node, LEFT : RIGHT + 1] if child]
    return order[::-1]


def _pool(data: Space, pool: int, pages: int) -> list[int]:
    """The blocks of a pool, after a look at its links and its length."""
    found: list[int] = []
    before, block = 0, int(data.pools[pool, FIRST])
    while block:
        if data.blocks.chain[block, PREV] != before:
            _wrong(f"block {block} in pool {pool} does not know what comes before it")
        if data.blocks.row[block, END] - data.blocks.row[block, START] != pages:
            _wrong(f"block {block} in the pool for {pages} pages has another size")
        found.append(block)
        before, block = block, int(data.blocks.chain[block, NEXT])
    if data.pools[pool, LAST] != before or data.pools[pool, LENGTH] != len(found):
        _wrong(f"pool {pool} has {len(found)} blocks, {data.pools[pool, LENGTH]} are counted")
    return found


def _wrong(text: str) -> None:
    raise Violation(f"the address space is inconsistent: {text}")
