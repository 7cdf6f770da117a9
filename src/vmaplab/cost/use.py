# SPDX-License-Identifier: GPL-2.0-only
"""Using what is mapped: hits and misses of a core's data TLBs while a buffer is read, and what page walks cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab._jit import jit
from vmaplab.cost.core import Buffer, Core, Corner
from vmaplab.trace import Ints, signed

_PTE_BYTES = 8


@dataclass(frozen=True)
class Used:
    """One pass over a buffer on a core, after one that warmed its TLBs.

    :param accesses: of the pass; ``first``: of them missed the first level, and ``walks``: all levels.
    :param entries: TLB entries that the whole mapping takes on that core.
    :param reach: bytes of the mapping that the last level holds at once, on average.
    :param megabytes: that the pass reads, a line an access.
    """

    core: Core
    accesses: int
    first: int
    walks: int
    entries: int
    reach: int
    megabytes: float

    @property
    def walks_per_mb(self) -> float:
        """Page walks for each megabyte that is read."""
        return self.walks / self.megabytes

    @property
    def bytes_read(self) -> int:
        """By the walks: an entry of the last level each, those above it from the walk's own caches."""
        return self.walks * _PTE_BYTES

    def us(self, corner: Corner = Corner.USUAL) -> float:
        """Microseconds that the walks of a pass take, none of it hidden."""
        return self.walks * self.core.walk.at(corner) / self.core.mhz.at(corner)


def use(leaves: NDArray[Any], addr: int, page: int, groups: dict[int, int], offsets: Ints, core: Core) -> Used:
    """Read a mapping twice, and count in the second pass.

    :param leaves: as of a :class:`~vmaplab.mapping.Mapping`; ``addr``: where it begins; ``page``: bytes of one.
    :param groups: bytes of a leaf that is a contiguous group of PTEs -> those of an entry of it.
    :param offsets: of the accesses, see :mod:`vmaplab.cost.patterns`.
    """
    keys = [_keys(leaves, addr, page, groups, buffer) for buffer in core.tlbs]
    pages = offsets // page
    counts = np.zeros(3, dtype=np.int64)
    last = core.tlbs[-1]
    tags = [np.zeros(buffer.entries, dtype=np.int64) - 1 for buffer in core.tlbs]
    stamps = [np.zeros(buffer.entries, dtype=np.int64) for buffer in core.tlbs]
    ways = [buffer.ways for buffer in core.tlbs]
    for _ in range(2):
        counts[:2] = 0
        read(pages, keys[0], keys[1], tags[0], stamps[0], ways[0], tags[1], stamps[1], ways[1], counts)
    entries = len(np.unique(keys[-1]))
    size = len(keys[-1]) * page
    reach = min(size, last.entries * size // entries)
    return Used(core, len(offsets), int(counts[0]), int(counts[1]), entries, reach, len(offsets) * 64 / (1 << 20))


def _keys(leaves: NDArray[Any], addr: int, page: int, groups: dict[int, int], buffer: Buffer) -> Ints:
    """Of each page the TLB entry that has it: its number among those of its size, and that size."""
    sizes = leaves["size"].astype(np.int64)
    mapped = np.minimum(sizes, buffer.largest)
    if not buffer.groups:
        for size, single in groups.items():
            mapped[sizes == size] = single
    counts = sizes // page
    each = np.repeat(mapped, counts)
    va = signed(addr) + np.arange(len(each), dtype=np.int64) * page
    shift = np.round(np.log2(each)).astype(np.int64)
    keys: Ints = (va >> shift) << 6 | shift
    return keys


@jit
def read(
    pages: Ints,
    first: Ints,
    second: Ints,
    tags: Ints,
    stamps: Ints,
    ways: int,
    other_tags: Ints,
    other_stamps: Ints,
    other_ways: int,
    counts: Ints,
) -> None:
    """Look up a page after the other in two levels of TLB, each with the least recently used entry replaced.

    :param first: of each page the entry of the first level that has it; ``second``: of the second one.
    :param counts: misses of the first level, of both, and a clock.
    """
    before = -1
    for page in pages:
        if page == before:
            continue
        before = page
        counts[2] += 1
        if not hit(first[page], tags, stamps, ways, counts[2]):
            counts[0] += 1
            if not hit(second[page], other_tags, other_stamps, other_ways, counts[2]):
                counts[1] += 1


@jit
def hit(key: int, tags: Ints, stamps: Ints, ways: int, now: int) -> bool:
    """Whether an entry is there; it is afterwards."""
    sets = len(tags) // ways
    start = (key >> 6) % sets * ways
    oldest = start
    for way in range(start, start + ways):
        if tags[way] == key:
            stamps[way] = now
            return True
        if stamps[way] < stamps[oldest]:
            oldest = way
    tags[oldest], stamps[oldest] = key, now
    return False
