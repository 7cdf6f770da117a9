# SPDX-License-Identifier: GPL-2.0-only
"""loongarch64 with 16 KiB pages and three levels (LA464: 47-bit half of the address space for mappings).

Empty upper entries hold the address of an invalid table, not 0, and an empty kernel PTE has G set.
Bits: LoongArch Reference Manual vol. 1, 5.4.5; values as arch/loongarch/include/asm/pgtable-bits.h and
pgtable.h of 6.12 define them.
"""

from __future__ import annotations

from collections.abc import Callable

from vmaplab.arch.base import Arch, Level
from vmaplab.changes import Change

PLACE = 5
ALIASES = {"loongarch": "loongarch64", "loong64": "loongarch64"}

V, D, G, P, W = 1 << 0, 1 << 1, 1 << 6, 1 << 7, 1 << 8
CACHE_CC = 1 << 4  # coherent cached; 0 is strong-ordered uncached
PAGE_KERNEL = P | V | D | W | G | CACHE_CC
CAC_BASE = 0x9000_0000_0000_0000  # cached direct-mapping window

VM_MAP_BASE = -(1 << 47) % (1 << 64)
VMALLOC_START = VM_MAP_BASE + (32 << 20) + 2 * (16 << 10) + (2 << 30)  # I/O ports, two pages, modules
VMALLOC_END = (1 << 64) - (32 << 20) - (64 << (48 - 14))  # one PMD and vmemmap below the top

_ARCH = Arch(
    name="loongarch64",
    family="loongarch",
    page_shift=14,
    levels=(Level("PTE", 14, 11), Level("PMD", 25, 11), Level("PGD", 36, 11)),
    vmalloc_start=VMALLOC_START,
    vmalloc_end=VMALLOC_END,
    page_kernel=PAGE_KERNEL,
    pte_special=1 << 11,
    pfn_shift=14,
    table_virt=CAC_BASE,
    linear=CAC_BASE,
    table_mask=(1 << 48) - 1,
    pte_none=G,
    invalid_tables=True,
    ioremap_prot=PAGE_KERNEL & ~CACHE_CC,
    huge_vmap=False,
    max_page_order=11,
    section_shift=29,
    ioremap_max_order=7 + 14,
    note="CONFIG_HAVE_ARCH_HUGE_VMAP not selected: base pages only",
)


def arches(_: Callable[[Change], bool]) -> tuple[Arch, ...]:
    """The one, as 6.12 has it: no other tree was read."""
    return (_ARCH,)
