# SPDX-License-Identifier: GPL-2.0-only
"""How fast a booted kernel is: until it answers, and in scenarios of 256 pages. Prints a table."""

from __future__ import annotations

import sys
import time
from statistics import median

import numpy as np

from vmaplab.boot.build import build
from vmaplab.boot.machine import BootedKernel


def rows(arch: str) -> list[tuple[str, str]]:
    kernel = BootedKernel(build(arch))
    boots = []
    for _ in range(5):
        kernel.boot()
        boots.append(kernel.boot_seconds)
    pages = np.arange(0x100, 0x200, dtype=np.uint64)

    def measured(count: int, looks: bool) -> float:
        started = time.perf_counter()
        for _ in range(count):
            mapping = kernel.vmap(pages)
            if looks:
                assert len(kernel.since(kernel.reserved)) == len(pages)
            kernel.vunmap(mapping.addr)
        return count / (time.perf_counter() - started)

    pairs = median(measured(2000, False) for _ in range(5))
    walked = median(measured(300, True) for _ in range(5))
    kernel.close()
    return [
        ("until it answers", f"{median(boots):.2f} s"),
        ("vmap() of 256 pages and vunmap(), a second", f"{pairs:,.0f}"),
        ("the same, all page tables of vmalloc space read between", f"{walked:,.0f}"),
    ]


if __name__ == "__main__":
    for arch in sys.argv[1:] or ["arm64-4k"]:
        print(arch)
        for what, number in rows(arch):
            print(f"  {what:56} {number:>8}")
