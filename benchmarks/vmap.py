# SPDX-License-Identifier: GPL-2.0-only
"""How fast Kernel.vmap is, beside a copy of the same page array in the same run; how much memory it needs.

    python benchmarks/vmap.py [FILE]

Prints Markdown; with FILE, puts it there between the lines "<!-- bench -->" and "<!-- /bench -->".
"""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import document
from document import table
from vmaplab import Kernel
from vmaplab.release import DEFAULT, get

PAGES = 4 << 20
ROUNDS = 15
BASE = 1 << 20  # PFN of the lowest page


def one_run(pages: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    return np.arange(1 << 22, (1 << 22) + pages, dtype=np.uint64)


def order_8_blocks(pages: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    return _blocks(rng.permutation(4 * pages // 256)[: pages // 256] * 256 + BASE)


def scattered(pages: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    return (rng.permutation(2 * pages)[:pages] + BASE).astype(np.uint64)


def misaligned_runs(pages: int, rng: np.random.Generator) -> NDArray[np.uint64]:
    return _blocks(rng.permutation(2 * pages // 256)[: pages // 256] * 512 + BASE + 16)


def _blocks(starts: NDArray[np.int64]) -> NDArray[np.uint64]:
    return (starts[:, None] + np.arange(256)).ravel().astype(np.uint64)


SHAPES: dict[str, Callable[[int, np.random.Generator], NDArray[np.uint64]]] = {
    "one run": one_run,
    "order-8 blocks, random order": order_8_blocks,
    "all scattered": scattered,
    "2^8-page runs aligned to 2^4": misaligned_runs,
}


def measure(arch: str, pfns: NDArray[np.uint64]) -> tuple[float, float, float]:
    """Median ns per page of a copy and of vmap, and the median of their ratios, taken in turns."""
    copies, maps = [], []
    Kernel(arch).vmap(pfns)
    for _ in range(ROUNDS):
        start = time.perf_counter()
        pfns.copy()
        middle = time.perf_counter()
        kernel = Kernel(arch)
        begin = time.perf_counter()
        mapping = kernel.vmap(pfns)
        end = time.perf_counter()
        assert mapping.cost.pages == len(pfns)
        del mapping, kernel
        copies.append((middle - start) / len(pfns) * 1e9)
        maps.append((end - begin) / len(pfns) * 1e9)
    ratios = [taken / copied for taken, copied in zip(maps, copies, strict=True)]
    return statistics.median(copies), statistics.median(maps), statistics.median(ratios)


def speed() -> str:
    rows = []
    for arch in ("arm64-4k", "x86_64", "riscv64-sv48", "powerpc64-radix"):
        for name, shape in SHAPES.items():
            copied, mapped, ratio = measure(arch, shape(PAGES, np.random.default_rng(1)))
            rows.append([arch, name, f"{copied:.2f}", f"{mapped:.2f}", f"{ratio:.2f}x"])
    return table(["architecture", "4 Mi pages", "copy, ns/page", "vmap, ns/page", "vmap / copy"], rows)


def growth() -> str:
    rows = []
    for name, shape in SHAPES.items():
        arrays = [shape(pages, np.random.default_rng(1)) for pages in (1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22)]
        rows.append([name, *(f"{measure('arm64-4k', pfns)[1]:.2f}" for pfns in arrays)])
    return table(["arm64-4k, vmap ns/page", "16 Ki", "64 Ki", "256 Ki", "1 Mi", "4 Mi pages"], rows)


def memory() -> str:
    rows = []
    for arch in ("arm64-4k", "powerpc-8xx"):
        pages = PAGES if get(DEFAULT).on(arch).entry_bytes == 8 else 200 << 10
        for index, name in enumerate(SHAPES):
            command = [sys.executable, __file__, "--memory", arch, str(index), str(pages)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append([arch, f"{pages >> 10} Ki pages, {name}", done.stdout.strip()])
    return table(["architecture", "array", "bytes per page over the input"], rows)


def memory_of(arch: str, shape: int, pages: int) -> None:
    """Print how far vmap raises the peak of this process above what it held before, per page."""
    maker = list(SHAPES.values())[shape]
    if arch == "powerpc-8xx":
        pfns = maker(pages // 4, np.random.default_rng(1)) % (1 << 20)
        pfns = np.tile(pfns, 4)
    else:
        pfns = maker(pages, np.random.default_rng(1))
    Kernel(arch).vmap(pfns[:1024])  # compile or load first
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # reset the peak
    before = _status("VmRSS")
    kernel = Kernel(arch)
    mapping = kernel.vmap(pfns)
    print(f"{(_status('VmHWM') - before) / mapping.cost.pages:.1f}")


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def start_up() -> str:
    rows = []
    for words in (["map", "heap:1M"], ["map", "heap:100M"], ["arches"]):
        taken = []
        for _ in range(11):
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-m", "vmaplab.cli", *words], stdout=subprocess.DEVNULL, check=True)
            taken.append(time.perf_counter() - begin)
        rows.append([f"`vmaplab {' '.join(words)}`", f"{statistics.median(taken):.2f}", f"{max(taken):.2f}"])
    return table(["command, warm cache", "median, s", "slowest of 11, s"], rows)


def main() -> None:
    machine = f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}, one core"
    report = "\n\n".join(
        [
            f"Measured on: {machine}; medians of {ROUNDS} rounds.",
            speed(),
            growth(),
            memory(),
            start_up(),
        ]
    )
    document.publish(report, "bench")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        memory_of(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main()
