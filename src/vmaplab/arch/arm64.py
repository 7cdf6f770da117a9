# SPDX-License-Identifier: GPL-2.0-only
"""arm64 with 4, 16 and 64 KiB granules, 48-bit VA; kernel mappings are global, not global with kpti=1 (or KASLR).

Bits: Arm ARM D8.3 (VMSAv8-64 descriptor formats); values as arch/arm64/include/asm/pgtable-prot.h,
pgtable-hwdef.h, pgalloc.h and memory.h define them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vmaplab.arch.base import Arch, Group, Level, SetMemory
from vmaplab.changes import Change

PLACE = 1
ALIASES = {"arm64": "arm64-4k", "aarch64": "arm64-4k"}

VALID = 1 << 0
TABLE = 1 << 1  # bit 1: table above the last level, page at the last level, 0 in a block
AF = 1 << 10
SH_INNER = 3 << 8
NG = 1 << 11  # PTE_NG
DBM = 1 << 51  # PTE_WRITE
CONT = 1 << 52
PXN = 1 << 53
UXN = 1 << 54
DIRTY = 1 << 55  # software: PTE_DIRTY
TABLE_UXN = 1 << 60  # UXNTable

MT_NORMAL, MT_DEVICE_nGnRE = 0, 4

_PROT_DEFAULT = VALID | TABLE | SH_INNER | AF
PAGE_KERNEL = _PROT_DEFAULT | PXN | UXN | DBM | MT_NORMAL << 2 | DIRTY
PROT_DEVICE_nGnRE = _PROT_DEFAULT | PXN | UXN | DBM | MT_DEVICE_nGnRE << 2

VA_BITS = 48
MODULES_VADDR = 0xFFFF_8000_0000_0000  # the middle of the kernel half
STRUCT_PAGE = 64  # bytes


def _leaf_prot(prot: int, level: int) -> int:
    """``mk_pmd_sect_prot()``: a block descriptor has bit 1 clear."""
    return prot if level == 0 else (prot & ~TABLE) | VALID


def _kpti(arch: Arch) -> Arch:
    """``arm64_use_ng_mappings``: PTE_MAYBE_NG is in every protection; tables are made without it (asm/pgalloc.h)."""
    return replace(arch, page_kernel=arch.page_kernel | NG, ioremap_prot=arch.ioremap_prot | NG)


def _vmalloc_space(page_shift: int, large_modules: bool) -> tuple[int, int]:
    """VMALLOC_START, behind the modules, and VMALLOC_END, before the struct pages."""
    if not large_modules:
        vmemmap = (1 << 64) - (1 << (VA_BITS - (page_shift - STRUCT_PAGE.bit_length() + 1)))
        return MODULES_VADDR + (128 << 20), vmemmap - (256 << 20)
    vmemmap_size = ((1 << (VA_BITS - 1)) >> page_shift) * STRUCT_PAGE
    return MODULES_VADDR + (2 << 30), (1 << 64) - (1 << 30) - vmemmap_size - (8 << 20)


def _arm64(name: str, page_shift: int, cont: int, pud_leaf: bool, has: Callable[[Change], bool]) -> Arch:
    bits = page_shift - 3
    shifts = list(range(page_shift, VA_BITS, bits))
    names = [*["PTE", "PMD", "PUD"][: len(shifts) - 1], "PGD"]
    levels = tuple(
        Level(
            name=level_name,
            shift=shift,
            bits=min(bits, VA_BITS - shift),
            table_bits=VALID | TABLE | TABLE_UXN | (AF if has(Change.ARM64_TABLE_AF) else 0),
            leaf=level_name == "PMD" or (level_name == "PUD" and pud_leaf),
        )
        for level_name, shift in zip(names, shifts, strict=True)
    )
    vmalloc_start, vmalloc_end = _vmalloc_space(page_shift, has(Change.ARM64_MODULES_2G))
    return Arch(
        name=name,
        family="arm64",
        page_shift=page_shift,
        levels=levels,
        vmalloc_start=vmalloc_start,
        vmalloc_end=vmalloc_end,
        page_kernel=PAGE_KERNEL & ~DIRTY if has(Change.ARM64_CLEAN_PAGE_KERNEL) else PAGE_KERNEL,
        pte_special=1 << 56,
        pfn_shift=page_shift,
        table_mask=((1 << 48) - 1) & ~((1 << 12) - 1),
        leaf_test=(VALID | TABLE, VALID),
        leaf_prot=_leaf_prot,
        nx=(0, PXN),
        ioremap_prot=PROT_DEVICE_nGnRE,
        groups=(Group(shift=cont, bits=CONT),),
        group_mask=CONT,
        group_hooks=has(Change.ARM64_CONT_PTE),
        group_multi=has(Change.ARM64_MULTI_CONT_PTE),
        group_unmap=True,
        leaf_blockers=() if has(Change.ARM64_BLOCKS_WITH_PTDUMP) else ("PTDUMP_DEBUGFS",),
        boot_args={"kpti=1": _kpti},
        section_shift=29 if page_shift == 16 else 27,
        ioremap_max_order=30 if page_shift == 12 else levels[1].shift,
        free_clears_pmds="tables behind" if has(Change.ARM64_PUD_FIRST) else "tables before",
        set_memory=SetMemory(block="refused", needs_alloc=True, refuses_huge=has(Change.ARM64_SET_MEMORY_REFUSES_HUGE)),
        free_flush_per_table=True,
        free_flush_span=lambda shift: 0,
        max_page_order={12: 10, 14: 11, 16: 13}[page_shift],
        linear=(1 << 64) - (1 << VA_BITS),
        note="48-bit VA; nG clear: set with kpti=1",
    )


def arches(has: Callable[[Change], bool]) -> tuple[Arch, ...]:
    """The three granules, in a tree that has the changes for which ``has`` is true."""
    return (
        _arm64("arm64-4k", page_shift=12, cont=16, pud_leaf=True, has=has),
        _arm64("arm64-16k", page_shift=14, cont=21, pud_leaf=False, has=has),
        _arm64("arm64-64k", page_shift=16, cont=21, pud_leaf=False, has=has),
    )
