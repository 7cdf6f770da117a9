# SPDX-License-Identifier: GPL-2.0-only
"""What a mutant runs: calls that reach every part of the model, watched by one judge. Exit status 3 if it objects."""

from __future__ import annotations

import sys

import numpy as np

import vmaplab
from vmaplab import Kernel, VmapError
from vmaplab.calls.flags import VM_ALLOW_HUGE_VMAP, VM_FLUSH_RESET_PERMS, VM_NO_GUARD, VM_SPARSE
from vmaplab.errors import Violation
from vmaplab.judge import FORMATS
from vmaplab.judge.proof import Prover
from vmaplab.judge.witness import Witness

KERNELS = (
    ("arm64-4k", "mm-unstable", {}, 1),
    ("x86_64", "linux-6.12", {"KMSAN": True}, 1),
    ("riscv64-sv39", "series-v4", {}, 3),
)
"""Architecture, release, configuration, CPUs."""
RAM = 1 << 20
"""Pages of RAM: page frames from there on are vmap_pfn()'s."""


class MmuOnly:
    """The same calls with nothing but an MMU that looks at each mapping."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._prover = Prover(FORMATS[kernel.arch.name], kernel.arch.table_base, kernel.table_root)
        self._frames: dict[int, np.ndarray] = {}

    def __getattr__(self, name):
        return getattr(self.kernel, name)

    def _look(self):
        page = self.kernel.arch.page_size
        va = [
            np.uint64(addr) + np.arange(len(f), dtype=np.uint64) * np.uint64(page) for addr, f in self._frames.items()
        ]
        va = np.concatenate([np.zeros(0, dtype=np.uint64), *va])
        phys = np.concatenate([np.zeros(0, dtype=np.uint64), *self._frames.values()]) * np.uint64(page)
        order = np.argsort(va)
        self._prover.load(self.kernel.live_tables())
        self._prover.check(va[order], phys[order], page)

    def vmap(self, pfns):
        return self._maps(self.kernel.vmap, pfns)

    def vmap_pfn(self, pfns):
        return self._maps(self.kernel.vmap_pfn, pfns)

    def vm_map_ram(self, pfns):
        return self._maps(self.kernel.vm_map_ram, pfns)

    def _maps(self, call, pfns):
        mapping = call(pfns)
        self._frames[mapping.addr] = np.array(list(pfns), dtype=np.uint64)
        self._look()
        return mapping

    def ioremap(self, phys, size):
        mapping = self.kernel.ioremap(phys, size)
        first = phys // self.kernel.arch.page_size
        self._frames[mapping.addr] = np.arange(first, first + size // self.kernel.arch.page_size, dtype=np.uint64)
        self._look()
        return mapping

    def vunmap(self, addr):
        self._ends(self.kernel.vunmap, addr)

    def vm_unmap_ram(self, addr, count):
        self._ends(self.kernel.vm_unmap_ram, addr, count)

    def _ends(self, call, addr, *count):
        gone = self._frames.pop(addr, None)
        call(addr, *count)
        if gone is not None:
            self._look()
            va = np.uint64(addr) + np.arange(len(gone), dtype=np.uint64) * np.uint64(self.kernel.arch.page_size)
            self._prover.refuses(va)

    iounmap = vunmap

    def vmalloc(self, size, flags=0):
        mapping = self.kernel.vmalloc(size, flags)
        addr = mapping.addr
        while addr:  # the area, and that of its page array
            area = self.kernel.find_vm_area(addr)
            self._frames[addr] = area.pages.astype(np.uint64)
            addr = area.pages_addr
        self._look()
        return mapping

    def vfree(self, addr):
        area = self.kernel.find_vm_area(addr)
        self.kernel.vfree(addr)
        for gone in (addr, area.pages_addr):
            self._frames.pop(gone, None)
        self._look()

    def vmap_pages_range_noflush(self, addr, pfns):
        self.kernel.vmap_pages_range_noflush(addr, pfns)
        self._frames[addr] = np.array(list(pfns), dtype=np.uint64)
        self._look()

    def vmap_page_range(self, addr, end, phys):
        self.kernel.vmap_page_range(addr, end, phys)
        page = self.kernel.arch.page_size
        self._frames[addr] = np.arange(phys // page, (phys + end - addr) // page, dtype=np.uint64)
        self._look()

    def vunmap_range(self, addr, end):
        self.kernel.vunmap_range(addr, end)
        del self._frames[addr]
        self._look()

    def vm_area_map_pages(self, area, start, pfns):
        self.kernel.vm_area_map_pages(area, start, pfns)
        self._frames[start] = np.array(list(pfns), dtype=np.uint64)
        self._look()

    def vm_area_unmap_pages(self, area, start, end):
        self.kernel.vm_area_unmap_pages(area, start, end)
        del self._frames[start]
        self._look()

    def close(self):
        self._look()


def workload(kernel) -> None:
    page, pmd = kernel.arch.page_size, 1 << kernel.arch.levels[1].bits

    def refused(call, *arguments) -> None:
        try:
            call(*arguments)
        except VmapError:
            return
        raise Violation(f"{call.__name__}() had to fail")

    single = kernel.vmap([7, 3, 9, 0x1000, 0x1001]).addr
    kernel.vmap(range(0x2000, 0x2000 + pmd))
    run = kernel.vmap(range(0x4010, 0x4010 + 300)).addr
    kernel.vmap(
        [*range(0x8000, 0x8000 + 16), *range(0x9001, 0x9001 + 40), *range(0xA000, 0xA008), *range(0xB000, 0xB008)]
    )
    kernel.vmap([*range(0xC000, 0xC000 + 24), *range(0xD000, 0xD008)])
    kernel.vmap(range(0x10003, 0x10003 + pmd + 5))
    kernel.vmap([*range(0x12000, 0x12010), *range(0x12018, 0x12018 + 80)])
    kernel.vunmap(single)
    kernel.vunmap(run)
    area = kernel.get_vm_area((4 * pmd) * page)
    first = (area.addr + pmd * page - 1) & -(pmd * page)
    for start in (first, first + pmd * page):  # twice a table is in the way of a block
        kernel.vmap_pages_range_noflush(start, range(0x20000, 0x20010))
        kernel.vunmap_range(start, start + 16 * page)
    for start in (first, first + pmd * page):
        kernel.vmap_page_range(start, start + pmd * page, 0x40000 * page)
    rest = first + 2 * pmd * page + 8 * page
    kernel.vmap_page_range(rest, rest + 48 * page, 0x50000 * page)
    kernel.vm_unmap_aliases()
    kernel.vmap(range(0x30001, 0x30001 + 33))
    kernel.ioremap(0x8000_0000, 2 * pmd * page)
    kernel.ioremap(0x8000_0000, 24 * page)
    kernel.ioremap(0x8000_0000, (pmd + pmd // 2 + 100) * page)
    kernel.ioremap(0x8000_1000, (pmd + 40) * page)
    kernel.vmap(range(0x60001, 0x60001 + 2 * pmd))
    for number in range(6):
        kernel.fail([number])
        try:
            addr = kernel.vmap([*range(0x5000, 0x5040), 9, 10, 11]).addr
        except VmapError:
            continue
        kernel.vunmap(addr)
    kernel.fail([])
    refused(kernel.vmap, [0x100, 0x101, 0x103, vmaplab.NULL_PFN])
    refused(kernel.vmap, [0x104, vmaplab.NULL_PFN])
    kernel.vmalloc(20 * page)
    kernel.vfree(kernel.vmalloc(32 * page).addr)
    kernel.vfree(kernel.vmalloc((pmd + 3) * page, VM_ALLOW_HUGE_VMAP).addr)
    kernel.vm_unmap_aliases()
    kernel.vmap(range(0x6000, 0x6000 + 70))
    blocks_and_pools(kernel, refused)
    sparse_areas(kernel, refused)


def blocks_and_pools(kernel, refused) -> None:
    """vm_map_ram() on each CPU in turn, and areas that come back from a pool."""
    for number in range(2):
        for cpu in range(kernel.kernel.cpus):
            kernel.kernel.cpu = cpu
            first = kernel.vm_map_ram([0x70000 + number, 0x70010, 0x70020]).addr
            second = kernel.vm_map_ram(range(0x71000, 0x71000 + 8)).addr
            kernel.vm_unmap_ram(first, 3)
            large = kernel.vm_map_ram(range(0x72000, 0x72000 + 100)).addr
            areas = [kernel.vmap([0x73000 + area]).addr for area in range(3)]
            kernel.vm_unmap_aliases()
            refused(kernel.vm_map_ram, [0x74000, vmaplab.NULL_PFN])
            for addr in areas:
                kernel.vunmap(addr)
            kernel.vm_unmap_aliases()
            kernel.vmap([0x75000])
            kernel.vmap([0x75010, 0x75020])
            kernel.vm_unmap_ram(second, 8)
            kernel.vm_unmap_ram(large, 100)
    kernel.vm_unmap_aliases()
    in_use = kernel.vm_map_ram([0x76000]).addr
    for _ in range(15):  # most of a block is used up
        kernel.vm_unmap_ram(kernel.vm_map_ram(range(0x77000, 0x77000 + 64)).addr, 64)
    kernel.vm_unmap_aliases()
    kernel.vmap(range(0x78001, 0x78001 + 1200))
    kernel.vm_unmap_ram(in_use, 1)
    kernel.vm_unmap_aliases()
    counts = [1, *[64] * 17, 32, 16, 8, 4, 2, 1]  # more pages than a block has
    filled = [(kernel.vm_map_ram(range(0x79000, 0x79000 + count)).addr, count) for count in counts]
    for number, (addr, count) in enumerate(reversed(filled)):
        kernel.vm_unmap_ram(addr, count)
        if number == 10:
            kernel.vm_unmap_aliases()
    kernel.vm_unmap_aliases()
    refused(kernel.vmap_pfn, [RAM + 5, 0x79000])
    kernel.vunmap(kernel.vmap_pfn([RAM + 5, RAM + 6, RAM + 17]).addr)
    kernel.vmap_pfn([RAM + 0x100])


def sparse_areas(kernel, refused) -> None:
    """Pages that come and go inside an area."""
    page = kernel.arch.page_size
    area = kernel.get_vm_area(40 * page, VM_SPARSE)
    kernel.vm_area_map_pages(area, area.addr + 3 * page, range(0x7A000, 0x7A000 + 16))
    kernel.vm_area_map_pages(area, area.addr + 30 * page, range(0x7B000, 0x7B000 + 8))
    kernel.vm_area_unmap_pages(area, area.addr + 3 * page, area.addr + 19 * page)
    refused(kernel.vm_area_map_pages, area, area.addr + 39 * page, [0x7C000, 0x7C001])
    other = kernel.get_vm_area(page)
    refused(kernel.vm_area_map_pages, other, other.addr, [0x7C000])
    refused(kernel.vm_area_map_pages, kernel.get_vm_area(page, VM_SPARSE), area.addr + page, [0x7C000])
    for flag in (VM_NO_GUARD, VM_FLUSH_RESET_PERMS):
        other = kernel.get_vm_area(page, VM_SPARSE | flag)
        refused(kernel.vm_area_map_pages, other, other.addr, [0x7C000])
    kernel.vm_area_map_pages(area, area.addr + 5 * page, [0x7D000])


def main() -> int:
    print(vmaplab.__file__)
    for arch, release, config, cpus in KERNELS:
        kernel = Kernel(arch, release, config=config, record=True, total_pages=RAM, cpus=cpus)
        several = {"invariants": 1, "several": 16}
        watched = MmuOnly(kernel) if sys.argv[1] == "mmu" else Witness(kernel, every=several[sys.argv[1]])
        try:
            workload(watched)
            watched.close()
        except (Violation, VmapError) as found:
            print(f"{found} ({arch})")
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
