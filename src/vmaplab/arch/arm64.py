"""arm64 with 4, 16 and 64 KiB granules, 48-bit VA, no KASLR, no KPTI (kernel mappings global).

Bits: Arm ARM D8.3 (VMSAv8-64 descriptor formats); values as arch/arm64/include/asm/pgtable-prot.h,
pgtable-hwdef.h and memory.h of 6.12 define them.
"""

from __future__ import annotations

from vmaplab.arch.base import Arch, Group, Level, SetMemory

VALID = 1 << 0
TABLE = 1 << 1  # bit 1: table above the last level, page at the last level, 0 in a block
AF = 1 << 10
SH_INNER = 3 << 8
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
VMALLOC_START = 0xFFFF_8000_8000_0000  # MODULES_END: the middle of the kernel half plus 2 GiB of modules
VMEMMAP_END = -(1 << 30)


def _leaf_prot(prot: int, level: int) -> int:
    """``mk_pmd_sect_prot()``: a block descriptor has bit 1 clear."""
    return prot if level == 0 else (prot & ~TABLE) | VALID


def _arm64(name: str, page_shift: int, cont: int, pud_leaf: bool) -> Arch:
    bits = page_shift - 3
    shifts = list(range(page_shift, VA_BITS, bits))
    names = [*["PTE", "PMD", "PUD"][: len(shifts) - 1], "PGD"]
    levels = tuple(
        Level(
            name=level_name,
            shift=shift,
            bits=min(bits, VA_BITS - shift),
            table_bits=VALID | TABLE | TABLE_UXN,
            leaf=level_name == "PMD" or (level_name == "PUD" and pud_leaf),
        )
        for level_name, shift in zip(names, shifts, strict=True)
    )
    vmemmap_size = ((1 << (VA_BITS - 1)) >> page_shift) * 64  # sizeof(struct page)
    vmalloc_end = (VMEMMAP_END - vmemmap_size - (8 << 20)) % (1 << 64)
    return Arch(
        name=name,
        family="arm64",
        page_shift=page_shift,
        levels=levels,
        vmalloc_start=VMALLOC_START,
        vmalloc_end=vmalloc_end,
        page_kernel=PAGE_KERNEL,
        pte_special=1 << 56,
        pfn_shift=page_shift,
        table_mask=((1 << 48) - 1) & ~((1 << 12) - 1),
        leaf_test=(VALID | TABLE, VALID),
        leaf_prot=_leaf_prot,
        nx=(0, PXN),
        ioremap_prot=PROT_DEVICE_nGnRE,
        groups=(Group(shift=cont, bits=CONT),),
        group_mask=CONT,
        group_change="arm64: contiguous PTEs for huge vmalloc",
        multi_change="arm64: several contiguous-PTE groups in one store",
        group_unmap=True,
        leaf_blockers={"PTDUMP_DEBUGFS": "arm64: block leaves for vmap with ptdump"},
        section_shift=29 if page_shift == 16 else 27,
        ioremap_max_order=30 if page_shift == 12 else levels[1].shift,
        free_clears_pmds=True,
        set_memory=SetMemory(
            block="refused", needs_alloc=True, huge_change="arm64: set_memory_*() refuses VM_ALLOW_HUGE_VMAP"
        ),
        free_flush_per_table=True,
        free_flush_span=lambda shift: 0,
        max_page_order={12: 10, 14: 11, 16: 13}[page_shift],
        note="48-bit VA; nG clear, as without KPTI",
    )


ARCHES = (
    _arm64("arm64-4k", page_shift=12, cont=16, pud_leaf=True),
    _arm64("arm64-16k", page_shift=14, cont=21, pud_leaf=False),
    _arm64("arm64-64k", page_shift=16, cont=21, pud_leaf=False),
)
