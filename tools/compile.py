# SPDX-License-Identifier: GPL-2.0-only
"""Compile what the model needs, once, so that the first mapping does not have to wait for it.

    python tools/compile.py

It makes every kind of call on a 64-bit and on a 32-bit format, in two processes;
numba keeps what it compiles in the cache.
"""

from __future__ import annotations

import subprocess
import sys
import time

ARCHES = ("arm64-4k", "powerpc-8xx")


def exercise(arch: str) -> None:
    """Make every kind of call."""
    import numpy as np

    from vmaplab import Kernel, Operation
    from vmaplab.calls.flags import VM_ALLOW_HUGE_VMAP, VM_MAP, VM_SPARSE

    for record in (False, True):
        kernel = Kernel(arch, record=record, total_pages=1 << 14)
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


def judge() -> None:
    """Make a heap, and let a mapping be judged."""
    from vmaplab import Kernel, pages
    from vmaplab.judge.witness import Witness

    pages.load("heap:1M,fragmentation=0.5", arch=ARCHES[0])
    witness = Witness(Kernel(ARCHES[0], record=True), mmu=True)
    witness.vmap([1, 2, 3])
    witness.close()


def main() -> None:
    """Compile, and say how long it takes."""
    start = time.monotonic()
    print(f"compiling the model (once), for {' and '.join(ARCHES)}", flush=True)
    beside = subprocess.Popen([sys.executable, __file__, ARCHES[1]])
    exercise(ARCHES[0])
    judge()
    if beside.wait() == 0:
        exercise(ARCHES[1])  # what two processes kept at once may have been lost: it is compiled now
    print(f"compiled it in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        exercise(sys.argv[1])
    else:
        main()
