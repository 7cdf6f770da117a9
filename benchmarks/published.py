# SPDX-License-Identifier: GPL-2.0-only
"""What the series gives to three calls on arm64, counted, beside what its authors measured.

    python benchmarks/published.py [FILE] [TREE]

Prints Markdown; with FILE, puts it there between the lines "<!-- published -->" and "<!-- /published -->" ("-": prints
only). Counters are the model's, instructions those of compiled C in the emulator: Debian's 6.12 as it is, and
examples/batched_ranges.c for what later kernels and the series do; with TREE, a kernel that has contiguous PTEs by
itself, its own code is what the series is held against. Every call is the second at its addresses: the tables exist.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import document
from document import table
from vmaplab import InputError, Kernel
from vmaplab.calls.flags import VM_ALLOW_HUGE_VMAP
from vmaplab.changes import Change
from vmaplab.cost.counters import Cost
from vmaplab.object import build, targets
from vmaplab.object.kernel import ObjectKernel
from vmaplab.release import of_version
from vmaplab.vmalloc.batch import vm_shift

ARCH = "arm64-4k"
SNIPPET = Path(__file__).parent.parent / "examples" / "batched_ranges.c"
MIB = 1 << 20
DEVICE = 0x4010_0000  # aligned to 1 MiB, not to 2
BLOCK = 256
LOG_LINES = 1 << 18

INSTEAD: dict[str, dict[str, str]] = {
    "linux-6.12": {},
    "linux-6.18": {
        "ioremap": "ranges_ioremap_before",
        "vmap_pages_range_noflush": "ranges_pages_before",
        "vmap": "ranges_vmap_before",
    },
    "mm-unstable": {
        "ioremap": "ranges_ioremap",
        "vmap_pages_range_noflush": "ranges_pages",
        "vmap": "ranges_vmap",
    },
}
"""By release, which C functions stand for it."""

BASE, SERIES = "linux-6.18", "mm-unstable"
"""What the authors measured before and after."""


def order_8_blocks(mib: int) -> NDArray[np.uint64]:
    """Blocks of 2^8 pages, each aligned to 2^8, in descending order: none follows the one before it."""
    starts = (1 << 20) + np.arange(mib, dtype=np.uint64)[::-1] * np.uint64(BLOCK)
    return (starts[:, None] + np.arange(BLOCK, dtype=np.uint64)).ravel()


def one_run(mib: int) -> NDArray[np.uint64]:
    return np.arange(1 << 20, (1 << 20) + mib * BLOCK, dtype=np.uint64)


def shift_of(release: str, size: int) -> int:
    """The page_shift with which vmalloc() of ``size`` bytes, huge if possible, maps."""
    return int(vm_shift(Kernel(ARCH, release)._mapper.g, size))


def ioremap(kernel: Kernel | ObjectKernel) -> Cost:
    first = kernel.ioremap(DEVICE, MIB)
    kernel.iounmap(first.addr)
    kernel.vm_unmap_aliases()
    again = kernel.ioremap(DEVICE, MIB)
    assert again.addr == first.addr
    return again.cost


def vmap(kernel: Kernel | ObjectKernel) -> Cost:
    pfns = order_8_blocks(100)
    first = kernel.vmap(pfns)
    kernel.vunmap(first.addr)
    kernel.vm_unmap_aliases()
    again = kernel.vmap(pfns)
    assert again.addr == first.addr
    return again.cost


def model_vmalloc(kernel: Kernel) -> Cost:
    """The model's counters of a vmalloc() are those of its mapping."""
    first = kernel.vmalloc(MIB, VM_ALLOW_HUGE_VMAP)
    kernel.vfree(first.addr)
    kernel.vm_unmap_aliases()
    again = kernel.vmalloc(MIB, VM_ALLOW_HUGE_VMAP)
    assert again.addr == first.addr
    return again.cost


def object_vmalloc(kernel: ObjectKernel, shift: int) -> Cost:
    """The mapping alone."""
    addr = kernel.get_vm_area(MIB).addr
    kernel.vmap_pages_range_noflush(addr, one_run(1), shift)
    kernel.vunmap_range(addr, addr + MIB)
    kernel.vmap_pages_range_noflush(addr, one_run(1), shift)
    leaves = len(kernel.leaves(addr, addr + MIB))
    return Cost.measured(BLOCK, leaves, BLOCK, 0, kernel.executed)


@dataclass(frozen=True)
class Workload:
    name: str
    before: float
    after: float
    unit: str
    model: Callable[[Kernel], Cost]
    code: Callable[[ObjectKernel, str], Cost]

    @property
    def digits(self) -> str:
        return ".2f" if self.before < 10 else ".0f"

    @property
    def ns(self) -> tuple[float, float]:
        factor = {"ns": 1, "us": 1000}[self.unit]
        return self.before * factor, self.after * factor

    @property
    def published(self) -> float:
        return self.before / self.after

    def cost(self, release: str, tree: Path | None = None) -> Cost:
        """The model's counters and the code's instructions; they must agree where both count."""
        model = self.model(Kernel(ARCH, release))
        instead = instead_in(tree)[release]
        built = build.build(targets.get(ARCH), tree, snippet=SNIPPET if instead else None)
        kernel = ObjectKernel(built, count=True, log_lines=LOG_LINES, instead=instead)
        code = self.code(kernel, release)
        assert (model.leaves, model.entries_stored) == (code.leaves, code.entries_stored)
        return replace(
            model, instructions=code.instructions, loads=code.loads, stores=code.stores, barriers=code.barriers
        )


WORKLOADS = (
    Workload("ioremap(1 MB)", 3407, 2526, "ns", ioremap, lambda kernel, _: ioremap(kernel)),
    Workload(
        "huge vmalloc(1 MB), mapping",
        5.00,
        3.53,
        "us",
        model_vmalloc,
        lambda kernel, release: object_vmalloc(kernel, shift_of(release, MIB)),
    ),
    Workload("vmap(100 MB), order-8 pages", 1235, 149, "us", vmap, lambda kernel, _: vmap(kernel)),
)

COLUMNS = {
    "leaves": "leaves",
    "entries_stored": "stored",
    "pte_set_calls": "sets",
    "walker_calls": "walks",
    "walk_steps": "steps",
    "pages_scanned": "scanned",
    "instructions": "instructions",
    "loads": "loads",
    "stores": "stores",
    "barriers": "barriers",
}


def instead_in(tree: Path | None) -> dict[str, dict[str, str]]:
    """By release, which C functions stand for it in ``tree``: its own row by none."""
    if tree is None:
        return INSTEAD
    row = of_version(build.check_tree(tree))
    if not row.has(Change.ARM64_CONT_PTE):
        raise InputError(f"{tree} has no contiguous PTEs for vmalloc by itself")
    return {row.name: {}, SERIES: INSTEAD[SERIES]}


def costs(tree: Path | None = None) -> dict[str, dict[str, Cost]]:
    """By workload and release."""
    return {work.name: {release: work.cost(release, tree) for release in instead_in(tree)} for work in WORKLOADS}


def counters(found: dict[str, dict[str, Cost]]) -> str:
    rows = [
        [f"{name}, {release}", *(str(cost[column]) for column in COLUMNS)]
        for name, by_release in found.items()
        for release, cost in by_release.items()
    ]
    return table([f"{ARCH}, tables there", *COLUMNS.values()], rows)


def ratios(found: dict[str, dict[str, Cost]]) -> str:
    rows = []
    for work in WORKLOADS:
        *_, before, _ = found[work.name]  # the last row before the series
        old, base, series = (found[work.name].get(release) for release in ("linux-6.12", before, SERIES))
        rows.append(
            [
                work.name,
                f"{work.before:{work.digits}} -> {work.after:{work.digits}} {work.unit}",
                f"{work.published:.2f}x",
                " -> ".join(
                    f"{ns / cost['instructions']:.2f}" for ns, cost in zip(work.ns, (base, series), strict=True)
                ),
                f"{base['instructions'] / series['instructions']:.2f}x",
                f"{old['instructions'] / series['instructions']:.2f}x" if old else "-",
                f"{(base['loads'] + base['stores']) / (series['loads'] + series['stores']):.2f}x",
                f"{base['pte_set_calls'] / series['pte_set_calls']:.0f}x",
                f"{base['walker_calls'] / series['walker_calls']:.0f}x",
            ]
        )
    head = ["before / after", "published", "ratio", "ns / instruction", "instructions", "instructions of linux-6.12"]
    return table([*head, "loads and stores", "sets", "walks"], rows)


def main() -> None:
    file, tree = [*sys.argv[1:], "-", ""][:2] if len(sys.argv) != 2 else [sys.argv[1], ""]
    found = costs(Path(tree) if tree else None)
    sys.argv[1:] = [] if file == "-" else [file]
    document.publish("\n\n".join([ratios(found), counters(found)]), "published")


if __name__ == "__main__":
    main()
