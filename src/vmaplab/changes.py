# SPDX-License-Identifier: GPL-2.0-only
"""What kernel trees do differently, by name: each change, where it is to be read, and since when it is there.

A tree of :mod:`vmaplab.release.trees` is a set of these, and a patch can bring more. ``since`` is the first of the
trees that were compared with their own code (6.1, 6.12, 6.18, 6.19, 7.1) that has the change.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class _What(NamedTuple):
    text: str
    source: str
    since: str


class Change(Enum):
    """One change: what it makes of the kernel, in a line; where to read it; and the first tree that has it."""

    VMAP_NODES = _What("areas are kept per node, freed ones in pools", "mm/vmalloc.c", "6.12")
    VMAP_REFUSES_RESET_PERMS = _What("vmap() refuses VM_FLUSH_RESET_PERMS", "mm/vmalloc.c", "6.12")
    VMAP_PFN_SETS = _What("vmap_pfn() stores with set_pte_at(), which has arm64's barriers", "mm/vmalloc.c", "6.12")
    CALLER_WARNS_TOO = _What("vunmap() and vfree() warn of a bad address, too", "mm/vmalloc.c", "6.12")
    VREALLOC = _What("there is vrealloc()", "mm/vmalloc.c", "6.12")
    NOFAIL_ORDER_0 = _What("__GFP_NOFAIL is kept from attempts with large pages", "mm/vmalloc.c", "6.12")
    RISCV_HUGE_VMAP = _What("riscv: HAVE_ARCH_HUGE_VMAP is selected", "arch/riscv/Kconfig", "6.12")
    RISCV_SV39_LOWER = _What("riscv: Sv39's linear map begins 8 GiB lower", "arch/riscv/include/asm/page.h", "6.12")
    ARM64_MODULES_2G = _What("arm64: 2 GiB of modules before vmalloc space", "arch/arm64/include/asm/memory.h", "6.12")

    ARM64_CONT_PTE = _What(
        "arm64: contiguous PTEs for huge vmalloc() and ioremap()", "arch/arm64/include/asm/vmalloc.h", "6.18"
    )
    ARM64_BLOCKS_WITH_PTDUMP = _What(
        "arm64: PTDUMP_DEBUGFS does not forbid block leaves", "arch/arm64/include/asm/vmalloc.h", "6.18"
    )
    ARM64_SET_MEMORY_REFUSES_HUGE = _What(
        "arm64: set_memory_*() refuses areas with VM_ALLOW_HUGE_VMAP", "arch/arm64/mm/pageattr.c", "6.18"
    )
    ARM64_TABLE_AF = _What("arm64: AF is set in table descriptors", "arch/arm64/include/asm/pgalloc.h", "6.18")
    ARM64_CLEAN_PAGE_KERNEL = _What(
        "arm64: PAGE_KERNEL has no PTE_DIRTY (not in 7.1 any more)", "arch/arm64/include/asm/pgtable-prot.h", "6.18"
    )
    ARM64_PUD_FIRST = _What("arm64: pud_free_pmd_page() clears the PUD before the PMDs", "arch/arm64/mm/mmu.c", "6.18")
    DECAY_QUARTER = _What("decay_va_pool_node() gives back a quarter, rounded down", "mm/vmalloc.c", "6.18")
    PARTIAL_UNMAP_WARNS = _What("clearing part of a group or a block warns", "mm/vmalloc.c", "6.18")

    LARGE_ORDERS_FIRST = _What("vm_area_alloc_pages() asks for large orders first", "mm/vmalloc.c", "6.19")
    DEFERRED_CLEANUP = _What("a vmalloc() that fails leaves its area to a work", "mm/vmalloc.c", "6.19")
    INNER_ERRORS = _What("vmap_*_range() return the error of the inner level", "mm/vmalloc.c", "6.19")

    ARM64_MULTI_CONT_PTE = _What(
        "arm64: one store covers several contiguous-PTE groups", "the series of 2026", "no released kernel"
    )

    @property
    def text(self) -> str:
        """What it makes of the kernel, in a line."""
        return self.value.text

    @property
    def source(self) -> str:
        """Where it is to be read."""
        return self.value.source


Changes = frozenset[Change]
