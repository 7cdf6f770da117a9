# SPDX-License-Identifier: GPL-2.0-only
"""Compile what the model needs, once, so that the first mapping does not have to wait for it.

    python tools/compile.py

It makes every kind of call on a 64-bit and on a 32-bit format; numba keeps what it compiles in the cache.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from vmaplab import Kernel, Operation, pages
from vmaplab.calls.flags import VM_ALLOW_HUGE_VMAP, VM_MAP, VM_SPARSE
from vmaplab.judge.witness import Witness


def exercise(kernel: Kernel) -> None:
    """Make every kind of call."""
    page = kernel.arch.page_size
    pfns = np.arange(0x100, 0x120, dtype=np.uint64)
    mapping = kernel.vmap(pfns)
    mapping.leaves  # noqa: B018 - listing them is compiled, too
    kernel.vmalloc_to_pfn(mapping.addr)
    kernel.vunmap(mapping.addr)
    kernel.vfree(kernel.vmalloc(600 * page, VM_ALLOW_HUGE_VMAP).addr)
    kernel.iounmap(kernel.ioremap(0x100 * page, 16 * page).addr)
    small = kernel.vm_map_ram(pfns[:3]).addr
    kernel.vread(small, 4 * page)
    kernel.vm_unmap_ram(small, 3)
    area = kernel.get_vm_area(40 * page, VM_SPARSE)
    kernel.vm_area_map_pages(area, area.addr, pfns)
    kernel.vm_area_unmap_pages(area, area.addr, area.addr + 4 * page)
    kernel.vm_unmap_aliases()
    kernel.run([Operation("vmap", pfns=pfns, flags=VM_MAP), Operation("vunmap", 0)])


def main() -> None:
    """Compile, and say how long it takes."""
    start = time.monotonic()
    for done, arch in enumerate(("arm64-4k", "powerpc-8xx"), start=1):
        print(f"\rcompiling the model (once): {done} of 3, {arch:12}", end="", flush=True)
        for record in (False, True):
            exercise(Kernel(arch, record=record, total_pages=1 << 14))
    print("\rcompiling the model (once): 3 of 3, heap and MMU", end="", flush=True)
    pages.load("heap:1M,fragmentation=0.5", arch="arm64-4k")
    witness = Witness(Kernel("arm64-4k", record=True), mmu=True)
    witness.vmap([1, 2, 3])
    witness.close()
    print(f"\rcompiled the model in {time.monotonic() - start:.0f} s" + " " * 30)


if __name__ == "__main__":
    sys.exit(main())
