# SPDX-License-Identifier: GPL-2.0-only
"""A tiny architecture, small enough to try everything: 4 pages a contiguous group, 8 pages a PMD block.

Entries are those of arm64; the tables have 8 entries.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch, Group, Level, arm64
from vmaplab.judge.formats.arm64 import vmsav8
from vmaplab.release import get

PGD_BITS = 17
START = 0xFFFF << 48
_ARM64 = get("mm-unstable").on("arm64-4k")
_BITS = arm64.VALID | arm64.TABLE | arm64.TABLE_UXN

TINY: Arch = replace(
    _ARM64,
    name="tiny",
    levels=(
        Level("PTE", 12, 3),
        Level("PMD", 15, 3, table_bits=_BITS, leaf=True),
        Level("PGD", 18, PGD_BITS, table_bits=_BITS),
    ),
    vmalloc_start=START,
    vmalloc_end=START + (1 << 18 + PGD_BITS),
    table_mask=((1 << 48) - 1) & ~((1 << 6) - 1),
    groups=(Group(shift=14, bits=arm64.CONT),),
    ioremap_max_order=18,
)
FORMAT = vmsav8(((12, 3), (15, 3), (18, PGD_BITS)), {15}, {12: 4}, machine=False)


def _residues(length: int) -> int:
    """Alignments of a run that can matter to a leaf within it; a group has 4 pages, a PMD block 8."""
    return 1 if length == 1 else 4 if length < 4 else 8


def shapes(most: int) -> Iterator[list[tuple[int, int]]]:
    """Every array of 1 to ``most`` pages: runs as (alignment of the first frame modulo 8, pages)."""

    def extend(left: int) -> Iterator[list[tuple[int, int]]]:
        yield []
        for length in range(1, left + 1):
            for rest in extend(left - length):
                for residue in range(_residues(length)):
                    yield [(residue, length), *rest]

    yield from (shape for shape in extend(most) if shape)


def frames(shape: list[tuple[int, int]]) -> NDArray[np.int64]:
    """The page frames of a shape; runs never touch each other, neither upwards nor downwards."""
    return np.concatenate(
        [np.arange(32 * (1 + 7 * number % 16) + residue, 32 * (1 + 7 * number % 16) + residue + length)
         for number, (residue, length) in enumerate(shape)]
    )  # fmt: skip
