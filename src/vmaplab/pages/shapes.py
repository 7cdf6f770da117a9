# SPDX-License-Identifier: GPL-2.0-only
"""Page arrays that tell policies apart, in the sizes of an architecture's leaves."""

from __future__ import annotations

import numpy as np

from vmaplab.arch import Arch
from vmaplab.pages.runs import Pfns


def joined(*parts: Pfns) -> Pfns:
    """One array after the other."""
    return np.concatenate(parts)


class Shapes:
    """Arrays for one architecture.

    :ivar leaves: pages of each leaf larger than a page that ``vmap()`` can use, smallest first.
    """

    def __init__(self, arch: Arch) -> None:
        self.leaves = [size // arch.page_size for size in arch.leaf_sizes[::-1] if size > arch.page_size]
        self._base = min(1 << 20, arch.addressable_pages >> 3)  # a multiple of every leaf
        self._room = 2 * max(self.leaves or [16])

    def run(self, pages: int, offset: int = 0, number: int = 0) -> Pfns:
        """A run whose first frame lies ``offset`` behind a multiple of every leaf; ``number`` tells runs apart."""
        first = self._base + number * self._room + offset
        return np.arange(first, first + pages, dtype=np.uint64)

    def scattered(self, pages: int) -> Pfns:
        """``pages`` frames, none of which follows another."""
        return np.uint64(4 * self._base + 1) + np.arange(pages, dtype=np.uint64)[::-1] * np.uint64(2)

    def pieces(self, pages: int, length: int) -> Pfns:
        """``pages`` pages in aligned runs of ``length``, a power of two."""
        number = np.arange(pages, dtype=np.uint64)
        return np.uint64(self._base) + number + number // np.uint64(length) * np.uint64(length)

    def corpus(self) -> list[Pfns]:
        """Arrays of every kind, small ones first: aligned, misaligned, mixed, ascending, descending, with a rest."""
        run, scattered = self.run, self.scattered
        arrays = [run(1), scattered(3), run(2), run(7, 1)]
        sizes = self.leaves or [16]
        for pages in sizes:
            arrays += [
                run(pages),
                run(2 * pages),
                run(pages, pages // 2),
                run(2 * pages, pages),
                run(3 * pages, 1),
                run(pages + 3),
                run(pages - 1),
                joined(run(pages), scattered(3)),
                joined(scattered(1), run(pages)),
                self.pieces(2 * pages, pages),
            ]
        if len(sizes) > 1:
            arrays.append(joined(*(run(pages, 0, 2 * number) for number, pages in enumerate(sizes[::-1]))))
            arrays.append(joined(*(run(pages, 0, 2 * number) for number, pages in enumerate(sizes))))
        # Chunks that begin off their own alignment and are cut by the end of a table.
        small, large = sizes[0], sizes[-1]
        arrays.append(joined(run(small, 0, 16), self.pieces(max(large, 8 * small) + 8 * small, 4 * small)))
        return sorted(arrays, key=len)
