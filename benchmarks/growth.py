# SPDX-License-Identifier: GPL-2.0-only
"""Cycles a page on a core against size, order, alignment, fragmentation: where a policy bends. Writes docs/growth.svg.

python benchmarks/growth.py [FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

from vmaplab.cost.core import Corner
from vmaplab.cost.cores import cores_of
from vmaplab.cost.decode import decode
from vmaplab.cost.measure import traced_vmap
from vmaplab.cost.time import USUAL, time_of
from vmaplab.object import targets
from vmaplab.object.build import Built, build
from vmaplab.pages import heap

matplotlib.use("svg")
from matplotlib import pyplot

ROOT = Path(__file__).parent.parent
ARCH, CORE = "arm64-4k", "A55"
BASE = 1 << 20
PAGES = 4096


def blocks(pages: int, order: int, aligned: int) -> NDArray[np.uint64]:
    """Blocks of 2^order pages, none behind the one before, the first frame of each aligned to 2^aligned and no more."""
    size = 1 << order
    count = max(pages // size, 1)
    step = 2 * max(size, 1 << aligned, 2)
    starts = BASE + np.arange(count, dtype=np.uint64)[::-1] * np.uint64(step) + np.uint64(1 << aligned)
    return (starts[:, None] + np.arange(size, dtype=np.uint64)).ravel()[:pages]


def series() -> list[tuple[str, str, list[tuple[float, NDArray[np.uint64]]]]]:
    """What is varied: title, axis, and arrays by value."""
    return [
        ("size, order-8 blocks", "pages", [(1 << n, blocks(1 << n, min(n, 8), 9)) for n in (*range(17), 18, 20)]),
        ("order of blocks", "order", [(n, blocks(PAGES, n, max(n, 1) + 1)) for n in range(0, 11)]),
        ("alignment of blocks of 256", "log2 of pages", [(n, blocks(PAGES, 8, n)) for n in range(0, 10)]),
        (
            "fragmentation, 8/4/0 heap",
            "share",
            [(n / 10, heap.allocate(PAGES, BASE, n / 10, seed=1).pfns) for n in range(0, 11)],
        ),
    ]


def cycles(built: Built, pfns: NDArray[np.uint64]) -> float:
    """A page, of the second call at its addresses."""
    executed = traced_vmap(built, pfns, again=True).executed
    (core,) = cores_of(CORE)
    return time_of(executed, decode(executed), core, Corner.USUAL, USUAL).cycles / len(pfns)


def main() -> None:
    kernels = {
        "6.12": build(targets.get(ARCH)),
        "with batched_vmap()": build(
            targets.get(ARCH), snippet=ROOT / "examples" / "batched_vmap.c", call="batched_vmap"
        ),
    }
    figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.4), layout="constrained", sharey=True)
    for axis, (title, label, arrays) in zip(axes, series(), strict=True):
        for name, built in kernels.items():
            found = [(value, cycles(built, pfns)) for value, pfns in arrays]
            axis.plot(*zip(*found, strict=True), marker="o", markersize=3, label=name)
            print(title, name, " ".join(f"{value:g}:{number:.1f}" for value, number in found))
        axis.set_title(title, fontsize=10)
        axis.set_xlabel(label)
        axis.set_ylim(1, 4000)
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
    axes[0].set_xscale("log", base=2)
    axes[0].set_ylabel(f"cycles a page, {CORE}")
    axes[0].legend(fontsize=8)
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "growth.svg"
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
