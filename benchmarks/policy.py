# SPDX-License-Identifier: GPL-2.0-only
"""What each policy makes of arrays by fragmentation, size and alignment: small multiples. Writes docs/policy.svg.

python benchmarks/policy.py [FILE]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from vmaplab import Kernel
from vmaplab.pages.array import size_text

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "vmaplab"  # the same picture for the same numbers
from matplotlib import pyplot  # noqa: E402

ROOT = Path(__file__).parent.parent
ARCH, PAGE, RUN = "arm64-4k", 4096, 512
RELEASES = ("linux-7.1", "series-v3", "suggested", "series-v4", "mm-unstable")
ALIGNED = (0, 2, 4, 9)
SHARES = [tenth / 10 for tenth in range(11)]
SIZES = [1 << shift for shift in range(16, 29, 2)]


def array(pages: int, share: float, aligned: int) -> NDArray[np.uint64]:
    """Runs of 512 pages, the first frame of each aligned to 2^aligned and no more; ``share`` of it single pages, last.

    A heap is like that: it takes what is large first.
    """
    single = round(share * pages)
    number = np.arange(pages - single, dtype=np.uint64)
    step = np.uint64(4 * RUN)
    runs = (number // RUN) * step + number % RUN + np.uint64((1 << 24) + (1 << aligned))
    return np.concatenate([runs, np.uint64(1 << 28) + 2 * np.arange(single, dtype=np.uint64)[::-1]])


def measured(release: str, pfns: NDArray[np.uint64]) -> tuple[float, float]:
    """Pages of a TLB entry, and steps a page: entries read above the leaf, PFNs compared, calls that set leaves."""
    cost = Kernel(ARCH, release).vmap(pfns).cost
    work = (cost.walk_steps or 0) + (cost.pages_scanned or 0) + (cost.pte_set_calls or 0)
    return len(pfns) / cost.tlb_entries, work / len(pfns)


def main() -> None:
    maps = {
        (release, aligned): np.array(
            [[measured(release, array(size // PAGE, share, aligned)) for share in SHARES] for size in SIZES]
        )
        for release in RELEASES
        for aligned in ALIGNED
    }
    rows = len(ALIGNED)
    shape: dict[str, Any] = {"figsize": (13, 13), "layout": "constrained", "sharex": True, "sharey": True}
    figure, axes = pyplot.subplots(2 * rows, len(RELEASES), **shape)
    looks = (("pages of a TLB entry", "viridis", LogNorm(1, 512)), ("steps a page", "magma_r", LogNorm(0.5, 20)))
    for what, (title, colours, norm) in enumerate(looks):
        for row, aligned in enumerate(ALIGNED):
            for column, release in enumerate(RELEASES):
                axis = axes[what * rows + row, column]
                drawn = axis.pcolormesh(maps[release, aligned][:, :, what], cmap=colours, norm=norm, rasterized=True)
                axis.set_yticks(np.arange(len(SIZES)) + 0.5, [size_text(size) for size in SIZES], fontsize=7)
                axis.set_xticks(np.arange(0, 11, 2) + 0.5, [f"{share:g}" for share in SHARES[::2]], fontsize=7)
                if column == 0:
                    axis.set_ylabel(f"aligned to {size_text(PAGE << aligned)}", fontsize=8)
                if row == 0:
                    axis.set_title(release, fontsize=9)
        figure.colorbar(drawn, ax=axes[what * rows : (what + 1) * rows], label=title, shrink=0.5)
    figure.supxlabel("share of single pages", fontsize=9)
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "policy.svg"
    figure.savefig(path, metadata={"Date": None}, dpi=72)
    for (release, aligned), found in maps.items():
        half = found[SIZES.index(1 << 22), SHARES.index(0.5)]
        print(f"{release:12} aligned to {size_text(PAGE << aligned):>4}: 4M, half of it single pages: ", end="")
        print(f"{half[0]:6.2f} pages of a TLB entry, {half[1]:6.2f} steps a page; ", end="")
        print(f"0 single pages: {found[SIZES.index(1 << 22), 0][0]:6.2f}, {found[SIZES.index(1 << 22), 0][1]:6.3f}")


if __name__ == "__main__":
    main()
