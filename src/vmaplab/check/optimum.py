# SPDX-License-Identifier: GPL-2.0-only
"""The best mapping that any policy could build for a page array: the fewest TLB entries, computed exactly.

Leaves nest: a leaf of one size either contains a leaf of a smaller size or does not touch it, for both lie at
multiples of their sizes. So at each place the largest leaf that fits is right, and the rest does not depend on it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.mapping import LEAF_DTYPE

Leaves = NDArray[np.void]


def optimum(arch: Arch, pfns: NDArray[np.uint64], addr: int) -> Leaves:
    """The leaves, ``LEAF_DTYPE``, that map ``pfns`` at ``addr`` with the fewest TLB entries.

    :param addr: virtual address of the first page, bytes.
    """
    page, count = arch.page_size, len(pfns)
    frames = pfns.astype(np.int64)
    broken = np.concatenate([[0], np.cumsum(frames[1:] != frames[:-1] + 1)])  # pages of one run have equal numbers
    first = addr // page
    taken = np.zeros(count, dtype=bool)
    starts: list[NDArray[np.int64]] = []
    sizes: list[NDArray[np.int64]] = []
    for size in arch.leaf_sizes:
        pages = size // page
        at = np.arange(-first % pages, count - pages + 1, pages)
        if pages > 1 and len(at):
            at = at[(frames[at] % pages == 0) & (broken[at] == broken[at + pages - 1])]
        at = at[~taken[at]] if len(at) else at
        taken[(at[:, None] + np.arange(pages)).ravel()] = True
        starts.append(at)
        sizes.append(np.full(len(at), size))
    where, how = np.concatenate(starts), np.concatenate(sizes)
    order = np.argsort(where)
    leaves = np.zeros(len(where), dtype=LEAF_DTYPE)
    leaves["va"] = np.uint64(addr) + where[order].astype(np.uint64) * np.uint64(page)
    leaves["size"], leaves["pfn"] = how[order], pfns[where[order]]
    return leaves


def best_address(arch: Arch, pfns: NDArray[np.uint64], start: int) -> int:
    """The first address from ``start`` on at which :func:`optimum` needs the fewest TLB entries."""
    largest = arch.leaf_sizes[0]
    page = arch.page_size
    start = -(-start // largest) * largest
    frames = pfns.astype(np.int64)
    begins = np.concatenate([[0], np.flatnonzero(frames[1:] != frames[:-1] + 1) + 1])
    # A run gains where its addresses are aligned as its frames are; any other offset is no better than 0.
    offsets = np.unique((frames[begins] - begins) % (largest // page))
    addresses: list[int] = [start, *(start + int(offset) * page for offset in offsets)]
    return min(addresses, key=lambda addr: len(optimum(arch, pfns, addr)))
