# SPDX-License-Identifier: GPL-2.0-only
"""riscv64 with Sv39, Sv48 and Sv57, without Svpbmt; vmap uses no Svnapot (removed in 6.9).

Bits: RISC-V Privileged Architecture 10.3 to 10.5; values as arch/riscv/include/asm/pgtable-bits.h, pgtable.h
and page.h of 6.12 define them.
"""

from __future__ import annotations

from collections.abc import Callable

from vmaplab.arch.base import Arch, Level, SetMemory
from vmaplab.changes import Change

PLACE = 3
ALIASES = {"sv39": "riscv64-sv39", "sv48": "riscv64-sv48", "sv57": "riscv64-sv57"}

V, R, W, G, A, D = 1 << 0, 1 << 1, 1 << 2, 1 << 5, 1 << 6, 1 << 7
X = 1 << 3
PAGE_KERNEL = V | R | W | G | A | D


def _riscv(name: str, level_names: tuple[str, ...], page_offset: int, huge: bool) -> Arch:
    levels = tuple(
        Level(
            name=level_name,
            shift=12 + 9 * index,
            bits=9,
            table_bits=V,
            leaf=level_name in ("PMD", "PUD"),
        )
        for index, level_name in enumerate(level_names)
    )
    kern_virt_size = (1 << levels[-1].shift) * 512 // 4
    return Arch(
        name=name,
        family="riscv",
        page_shift=12,
        levels=levels,
        vmalloc_start=page_offset - kern_virt_size // 2,
        vmalloc_end=page_offset,
        page_kernel=PAGE_KERNEL,
        set_memory=SetMemory(needs_pages=True),
        pte_special=1 << 8,
        pfn_shift=10,
        table_shift=(12, 10),
        table_mask=((1 << 54) - 1) & ~((1 << 10) - 1),
        leaf_test=(V | R, V | R),
        nx=(X, 0),
        ioremap_prot=PAGE_KERNEL,
        section_shift=27,
        huge_vmap=huge,
        ioremap_max_order=30 if huge else 19,  # PUD_SHIFT; else 7 + PAGE_SHIFT, the generic one
        phys_bits=56,
        free_flush_span=lambda shift: 1 << shift,
        linear=page_offset - Arch.table_base,  # where RAM starts here
        note="without Svpbmt and without Svnapot",
    )


def arches(has: Callable[[Change], bool]) -> tuple[Arch, ...]:
    """The three modes, in a tree that has the changes for which ``has`` is true."""
    huge = has(Change.RISCV_HUGE_VMAP)
    sv39 = 0xFFFF_FFD6_0000_0000 if has(Change.RISCV_SV39_LOWER) else 0xFFFF_FFD8_0000_0000
    return (
        _riscv("riscv64-sv39", ("PTE", "PMD", "PGD"), sv39, huge),
        _riscv("riscv64-sv48", ("PTE", "PMD", "PUD", "PGD"), 0xFFFF_AF80_0000_0000, huge),
        _riscv("riscv64-sv57", ("PTE", "PMD", "PUD", "P4D", "PGD"), 0xFF60_0000_0000_0000, huge),
    )
