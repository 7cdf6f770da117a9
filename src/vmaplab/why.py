# SPDX-License-Identifier: GPL-2.0-only
"""Why pages stay base pages: for each page in a leaf of one page, what kept it out of a larger one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.errors import VmapError
from vmaplab.machine import Machine
from vmaplab.mapping import Mapping
from vmaplab.pfn import NULL_PFN
from vmaplab.release import DEFAULT, get


class Small(NamedTuple):
    """Base pages by what keeps them small; together all pages in leaves of one page.

    :param order: they lie in a run of contiguous frames that is shorter than the smallest larger leaf.
    :param alignment: their run is long enough, but no aligned block of frames of it lies at an aligned address.
    :param stop: they fill a larger leaf that the kernel would make, but lie behind a page that stays single, where its
        scan has stopped.
    :param kernel: they fill a larger leaf, and the kernel does not make it for another reason, or never.
    """

    order: int = 0
    alignment: int = 0
    stop: int = 0
    kernel: int = 0


def runs_of(pfns: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where runs of contiguous frames begin, ascending, and the number of pages; NULL pages are runs of one."""
    goes_on = (pfns[1:] == pfns[:-1] + np.uint64(1)) & (pfns[:-1] != NULL_PFN)
    return np.concatenate(([0], np.flatnonzero(~goes_on) + 1, [len(pfns)]))


def why_small(pfns: NDArray[np.uint64], mapping: Mapping, arch: Arch, kernel_of: Callable[[], Machine]) -> Small:
    """Why the pages of a mapping that are in leaves of one page are there.

    :param kernel_of: gives a fresh kernel like the one that made it, which is asked what it makes of one aligned block.
    """
    page = arch.page_size
    if not (mapping.leaves["size"] == page).any():
        return Small()
    sizes = larger_leaves(arch.name)
    made = next((size for size in sizes if takes(kernel_of(), size)), None)
    return small(pfns, runs_of(pfns), mapping.leaves, mapping.addr, page, next(iter(sizes), None), made)


def larger_leaves(arch: str) -> list[int]:
    """Bytes of the leaves that ``vmap()`` can use and that are larger than a page, the smallest first."""
    return get(DEFAULT).on(arch).leaf_sizes[-2::-1]


def takes(kernel: Machine, larger: int) -> bool:
    """Whether the vmap() of a fresh kernel makes one leaf of ``larger`` bytes of one aligned block of that size."""
    block = larger // kernel.arch.page_size
    try:
        return len(kernel.vmap(np.arange(block, 2 * block, dtype=np.uint64)).leaves) == 1
    except VmapError:
        return False  # RAM ends before that


def small(
    pfns: NDArray[np.uint64],
    runs: NDArray[np.int64],
    leaves: NDArray[Any],
    addr: int,
    page: int,
    larger: int | None,
    made: int | None,
) -> Small:
    """Why the pages of a mapping that are in leaves of one page are there.

    :param runs: :func:`runs_of` the pages; ``leaves``: of the mapping, which begins at ``addr``.
    :param page: bytes of a page; ``larger``: of the smallest larger leaf that the MMU has, None if it has none.
    :param made: bytes of the smallest larger leaf that this kernel's vmap() makes of one aligned block.
    """
    count = len(pfns)
    single = np.zeros(count, dtype=bool)
    at = ((leaves["va"] - np.uint64(addr)) // np.uint64(page)).astype(np.int64)
    single[at[leaves["size"] == page]] = True
    if larger is None:
        return Small(kernel=int(single.sum()))
    if not single.any():
        return Small()
    lengths = np.diff(runs)
    ends = np.repeat(runs[1:], lengths)

    def filling(block: int) -> NDArray[np.bool_]:
        """The pages that fill an aligned block of so many at an aligned address."""
        first = np.arange(-(addr // page) % block, count, block)
        first = first[(ends[first] - first >= block) & (pfns[first] % np.uint64(block) == 0)]
        fills = np.zeros(count, dtype=bool)
        fills[(first[:, None] + np.arange(block)).ravel()] = True
        return fills

    fills = filling(larger // page)
    long = np.repeat(lengths >= larger // page, lengths)
    behind = np.zeros(count, dtype=bool)
    if made is not None:
        taken = filling(made // page)
        if not taken[int(np.argmax(single))]:
            behind = single & taken
    return Small(
        order=int((single & ~long).sum()),
        alignment=int((single & long & ~fills).sum()),
        stop=int(behind.sum()),
        kernel=int((single & fills & ~behind).sum()),
    )
