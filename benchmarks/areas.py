# SPDX-License-Identifier: GPL-2.0-only
"""Measure the address space: how the cost of a call grows with the live areas, and how many calls a second it takes.

    python benchmarks/areas.py [docs/performance.md [docs/areas.svg]]

References in the same run: a dict of as many addresses, from which the same ones go and come back; a copy of the array.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import matplotlib
import numpy as np

import document
from document import table
from vmaplab import Kernel
from vmaplab.calls.flags import VM_MAP
from vmaplab.calls.operation import Operation

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "vmaplab"  # the same picture for the same numbers
from matplotlib import pyplot  # noqa: E402

T = TypeVar("T")
LIVE = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
AT_A_TIME = 500
ROUNDS = 15
PAIRS = 50_000
SINGLE_PAIRS = 5_000
ARCHES = ("arm64-4k", "x86_64", "riscv64-sv48")
PFNS = np.arange(0x10_0000, 0x10_0010, dtype=np.uint64)
VMAP = Operation("vmap", pfns=PFNS, flags=VM_MAP)


def timed(work: Callable[[], T], times: int) -> tuple[float, T]:
    """Microseconds for one of ``times`` things that ``work`` does, and what it returns."""
    start = time.perf_counter()
    result = work()
    return (time.perf_counter() - start) / times * 1e6, result


def growth() -> dict[int, dict[str, float]]:
    """Per number of live areas: what an allocation and a free cost, and the reference; medians in microseconds."""
    random = np.random.default_rng(1)
    kernel = Kernel("x86_64")
    live: list[int] = []
    found = {}
    for size in LIVE:
        live += kernel.run([VMAP] * (size - len(live)))
        keys = np.array(live, dtype=np.uint64)
        taken = dict.fromkeys(live)
        columns: dict[str, list[float]] = {"vmap": [], "vunmap": [], "dict": []}
        for number in range(ROUNDS + 1):
            chosen = random.choice(size, AT_A_TIME, replace=False)
            frees = [Operation("vunmap", addr=live[index]) for index in chosen.tolist()]
            free, _ = timed(partial(kernel.run, frees), AT_A_TIME)
            alloc, made = timed(partial(kernel.run, [VMAP] * AT_A_TIME), AT_A_TIME)
            reference, _ = timed(partial(_in_dict, taken, keys[chosen].tolist()), AT_A_TIME)
            for index, addr in zip(chosen.tolist(), made, strict=True):
                live[index] = addr
            if number:  # the first one warms up
                for name, value in (("vmap", alloc), ("vunmap", free), ("dict", reference)):
                    columns[name].append(value)
        found[size] = {name: statistics.median(values) for name, values in columns.items()}
    assert len(kernel.areas) == LIVE[-1]
    return found


def _in_dict(taken: dict[int, None], addresses: list[int]) -> None:
    for addr in addresses:
        del taken[addr]
    for addr in addresses:
        taken[addr] = None


def pairs(arch: str) -> tuple[float, float, float]:
    """vmap() + vunmap() of 16 pages: a second in a batch, a second one call at a time; copies of the array a second."""
    operations = []
    for number in range(PAIRS):
        operations += [VMAP, Operation("vunmap", 2 * number)]
    kernel = Kernel(arch)

    def singly() -> None:
        for _ in range(SINGLE_PAIRS):
            kernel.vunmap(kernel.vmap(PFNS).addr)

    def copies() -> None:
        for _ in range(SINGLE_PAIRS):
            PFNS.copy()

    rounds = []
    for _ in range(ROUNDS + 1):
        batch, _ = timed(partial(kernel.run, operations), PAIRS)
        rounds.append((batch, timed(singly, SINGLE_PAIRS)[0], timed(copies, SINGLE_PAIRS)[0]))
    batch, single, copy = (1e6 / statistics.median(column) for column in zip(*rounds[1:], strict=True))
    return batch, single, copy


def plot(found: dict[int, dict[str, float]], path: Path) -> None:
    """Draw what :func:`growth` found."""
    figure, axes = pyplot.subplots(figsize=(7, 3.6))
    labels = {
        "vmap": "vmap() of 16 pages",
        "vunmap": "vunmap(), its share of the purges included",
        "dict": "the same addresses in a dict: del and set",
    }
    for name, marker in (("vmap", "o"), ("vunmap", "s"), ("dict", "^")):
        axes.plot(list(found), [row[name] for row in found.values()], marker=marker, label=labels[name])
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("live areas")
    axes.set_ylabel("microseconds a call")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure, print, and put the tables and the picture into the documents named on the command line."""
    found = growth()
    first = found[LIVE[0]]
    rows = [
        [f"{size:,}", *(f"{row[name]:.2f} us" for name in row), *(f"{row[name] / first[name]:.2f}x" for name in row)]
        for size, row in found.items()
    ]
    head = ["live areas", "vmap", "vunmap", "dict", "vmap / at 1,000", "vunmap / at 1,000", "dict / at 1,000"]
    parts = [table(head, rows)]
    speeds = {arch: pairs(arch) for arch in ARCHES}
    rows = [
        [arch, f"{batch:,.0f}", f"{single:,.0f}", f"{copy:,.0f}", f"{copy / batch:.1f}"]
        for arch, (batch, single, copy) in speeds.items()
    ]
    head = ["architecture", "pairs/s in a batch", "pairs/s one at a time", "copies/s", "copies / pairs in a batch"]
    parts.append(table(head, rows))
    if len(sys.argv) > 2:
        plot(found, Path(sys.argv[2]))
    document.publish("\n\n".join(parts), "areas")


if __name__ == "__main__":
    main()
