# SPDX-License-Identifier: GPL-2.0-only
"""Measure the judges: pages that an emulated MMU translates, what watching a call costs, and a whole review.

    python benchmarks/judges.py [docs/performance.md]

References in the same run: the model's own compiled walk over the same addresses; the same calls without a witness.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba import njit

import document
from document import table
from vmaplab import Kernel
from vmaplab.judge import FORMATS
from vmaplab.judge.proof import Prover
from vmaplab.judge.witness import Witness
from vmaplab.pgtable.unmap import translate

PAGES = 100_000
ROUNDS = 11


@njit
def walk_each(tables, g, addresses) -> int:
    found = 0
    for addr in addresses:
        found += translate(tables, g, addr)
    return found


def median(run: Callable[[], object]) -> float:
    """Seconds, of :data:`ROUNDS` runs after one that is not counted."""
    run()
    took = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        took.append(time.perf_counter() - start)
    return statistics.median(took)


def translation() -> str:
    rows = []
    for arch, form in FORMATS.items():
        if form.machine is None:
            continue
        kernel = Kernel(arch)
        pfns = np.arange(PAGES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
        addr, page = kernel.vmap(pfns).addr, kernel.arch.page_size
        va = np.uint64(addr) + np.arange(PAGES, dtype=np.uint64) * np.uint64(page)
        prover = Prover(form, kernel.arch.table_base, kernel.table_root)
        memory, phys = kernel.live_tables(), pfns * np.uint64(page)

        def check(prover=prover, memory=memory, va=va, phys=phys, page=page) -> None:
            prover.load(memory)
            prover.check(va, phys, page)

        tables, g = kernel._mapper.memory.tables(), kernel._mapper.g
        took, walked = median(check), median(lambda: walk_each(tables, g, va.view(np.int64)))  # noqa: B023
        rows.append([arch, f"{took * 1000:.0f}", f"{took / PAGES / 3 * 1e9:.0f}", f"{took / 3 / walked:.1f}x"])
    head = [f"{PAGES} scattered pages, to read, write and execute", "ms", "ns a translation", "model's walk"]
    return table(head, rows)


def watching() -> str:
    rows = []
    for pages in (16, 256, 4096, 65536):
        pfns = np.arange(pages, dtype=np.uint64) * np.uint64(2) + np.uint64(1)

        def pair(make: Callable[[], Kernel | Witness], pfns=pfns) -> Callable[[], None]:
            def run() -> None:
                kernel = make()
                kernel.vunmap(kernel.vmap(pfns).addr)

            return run

        plain = median(pair(lambda: Kernel("arm64-4k", record=True)))
        seen = median(pair(lambda: Witness(Kernel("arm64-4k", record=True))))
        proved = median(pair(lambda: Witness(Kernel("arm64-4k", record=True), mmu=True)))
        rows.append(
            [str(pages), f"{plain * 1e6:.0f}", f"{seen * 1e6:.0f}", f"{proved * 1e6:.0f}", f"{proved / plain:.0f}x"]
        )
    head = ["arm64-4k: vmap() and vunmap() of pages", "alone, us", "witness, us", "and MMU, us", "MMU / alone"]
    return table(head, rows)


def running() -> str:
    """The same on a kernel that has booted: one pair of calls among many."""
    rows = []
    for pages in (16, 256):
        pfns = np.arange(pages, dtype=np.uint64) * np.uint64(2) + np.uint64(1)

        def pairs(kernel: Kernel | Witness, pfns=pfns) -> float:
            def run() -> None:
                for _ in range(64):
                    kernel.vunmap(kernel.vmap(pfns).addr)

            return median(run) / 64

        alone = pairs(Kernel("arm64-4k", record=True))
        single = pairs(Witness(Kernel("arm64-4k", record=True)))
        several = pairs(Witness(Kernel("arm64-4k", record=True), every=16))
        proved = pairs(Witness(Kernel("arm64-4k", record=True), mmu=True, every=16))
        rows.append(
            [
                str(pages),
                f"{alone * 1e6:.0f}",
                *(f"{took * 1e6:.0f} ({took / alone:.0f}x)" for took in (single, several, proved)),
            ]
        )
    head = ["arm64-4k: a pair of calls among many, pages", "alone, us", "witness, us", "every=16, us", "and MMU, us"]
    return table(head, rows)


def reviews() -> str:
    rows = []
    vmaplab = Path(sys.executable).with_name("vmaplab")
    for words in (
        ["--release", "series-v3"],
        ["--release", "mm-unstable"],
        ["--release", "mm-unstable", "--arch", "arm64-4k"],
        ["--object", "--arch", "arm64-4k"],
    ):
        command = [str(vmaplab), "review", *words]
        took = []
        for _ in range(4):
            start = time.perf_counter()
            subprocess.run(command, capture_output=True, check=False)
            took.append(time.perf_counter() - start)
        rows.append([f"`vmaplab review {' '.join(words)}`", f"{statistics.median(took[1:]):.1f}"])
    return table(["command, warm cache", "median of 3, s"], rows)


def main() -> None:
    document.publish("\n\n".join([translation(), watching(), running(), reviews()]), "bench judges")


if __name__ == "__main__":
    main()
