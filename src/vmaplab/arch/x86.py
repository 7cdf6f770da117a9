# SPDX-License-Identifier: GPL-2.0-only
"""x86_64 with 4- and 5-level paging, PSE and 1 GiB pages present, no KASLR, no memory encryption.

Bits: Intel SDM vol. 3A 4.5; values as arch/x86/include/asm/pgtable_types.h and pgtable_64_types.h of 6.12
define them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from vmaplab.arch.base import Arch, Level, SetMemory
from vmaplab.changes import Change

PLACE = 2
ALIASES = {"x86-64": "x86_64", "amd64": "x86_64", "x64": "x86_64", "la57": "x86_64-la57"}

P, RW, US, PCD, A, D = 1 << 0, 1 << 1, 1 << 2, 1 << 4, 1 << 5, 1 << 6
PAT_4K = PS = 1 << 7  # bit 7 is PAT in a PTE and PS (page size) above
G = 1 << 8
PAT_LARGE = 1 << 12
NX = 1 << 63

PAGE_KERNEL = P | RW | A | D | G | NX
PAGE_TABLE = P | RW | US | A | D  # _PAGE_TABLE, of kernel tables too: the leaf decides


def _leaf_prot(prot: int, level: int) -> int:
    """``protval_4k_2_large() | _PAGE_PSE``: PAT moves from bit 7 to bit 12 in a large leaf."""
    if level == 0:
        return prot
    pat = PAT_LARGE if prot & PAT_4K else 0
    return (prot & ~PAT_4K) | pat | PS


def _x86(
    name: str, level_names: tuple[str, ...], linear: int, vmalloc_start: int, vmalloc_tb: int, max_physmem_bits: int
) -> Arch:
    levels = tuple(
        Level(
            name=level_name,
            shift=12 + 9 * index,
            bits=9,
            table_bits=PAGE_TABLE,
            leaf=level_name in ("PMD", "PUD"),
        )
        for index, level_name in enumerate(level_names)
    )
    return Arch(
        name=name,
        family="x86",
        page_shift=12,
        levels=levels,
        vmalloc_start=vmalloc_start,
        linear=linear,
        vmalloc_end=vmalloc_start + (vmalloc_tb << 40) - 1,  # VMEMORY_END: inclusive in the kernel too
        page_kernel=PAGE_KERNEL,
        pte_special=1 << 9,
        table_mask=((1 << 52) - 1) & ~((1 << 12) - 1),
        leaf_test=(P | PS, P | PS),
        leaf_prot=_leaf_prot,
        nx=(0, NX),
        ioremap_prot=PAGE_KERNEL | PCD,  # UC-
        section_shift=27,
        ioremap_max_order=30,
        phys_bits=52,
        max_physmem_bits=max_physmem_bits,
        free_clears_pmds="all before",
        free_flush_span=lambda shift: (1 << 12) - 1,
        pud_free_needs_page=True,
        set_memory=SetMemory(block="split", hole_errno=errno.EFAULT),
        note="PSE and 1 GiB pages present",
    )


def arches(_: Callable[[Change], bool]) -> tuple[Arch, ...]:
    """4 and 5 levels, alike in all trees."""
    four, five = ("PTE", "PMD", "PUD", "PGD"), ("PTE", "PMD", "PUD", "P4D", "PGD")
    return (
        _x86("x86_64", four, 0xFFFF_8880_0000_0000, 0xFFFF_C900_0000_0000, vmalloc_tb=32, max_physmem_bits=46),
        _x86("x86_64-la57", five, 0xFF11_0000_0000_0000, 0xFFA0_0000_0000_0000, vmalloc_tb=12800, max_physmem_bits=52),
    )
