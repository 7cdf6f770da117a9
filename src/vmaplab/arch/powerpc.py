# SPDX-License-Identifier: GPL-2.0-only
"""powerpc: 64-bit Book3S with the radix MMU and 64 KiB pages; 32-bit 8xx with 4 and 16 KiB pages.

Bits: Power ISA v3.1 Book III 6.7.10 (radix); MPC885 Reference Manual ch. 8 (8xx). Values as
arch/powerpc/include/asm/book3s/64/{pgtable,radix}.h and nohash/32/{pte-8xx,pgtable}.h of 6.12 define them.
"""

from __future__ import annotations

from collections.abc import Callable

from vmaplab.arch.base import Arch, Group, Level, SetMemory
from vmaplab.changes import Change

PLACE = 4
ALIASES = {"powerpc64": "powerpc64-radix", "ppc64": "powerpc64-radix", "8xx": "powerpc-8xx"}

PRESENT = 1 << 63
PTE = 1 << 62  # _PAGE_PTE: this entry is a leaf
ACCESSED, DIRTY, NON_IDEMPOTENT = 0x100, 0x80, 0x20
PRIVILEGED, READ, WRITE, EXEC = 0x8, 0x4, 0x2, 0x1
RADIX_PAGE_KERNEL = PRESENT | ACCESSED | PRIVILEGED | READ | WRITE | DIRTY

RADIX_VMALLOC_START = 0xC008_0000_0000_0000
RADIX_MAP_SIZE = 1 << 49


def _radix() -> Arch:
    # Each table entry also names the size (log2 entries) of the table that it points to.
    index = {"PTE": 5, "PMD": 9, "PUD": 9, "PGD": 13}
    shifts = {"PTE": 16, "PMD": 21, "PUD": 30, "PGD": 39}
    below = {"PMD": "PTE", "PUD": "PMD", "PGD": "PUD"}
    levels = tuple(
        Level(
            name=name,
            shift=shifts[name],
            bits=index[name],
            table_bits=PRESENT | index[below[name]] if name in below else 0,
            leaf=name in ("PMD", "PUD"),
        )
        for name in shifts
    )
    return Arch(
        name="powerpc64-radix",
        family="powerpc",
        page_shift=16,
        levels=levels,
        vmalloc_start=RADIX_VMALLOC_START,
        vmalloc_end=RADIX_VMALLOC_START + RADIX_MAP_SIZE,
        page_kernel=RADIX_PAGE_KERNEL,
        set_memory=SetMemory(block="refused", refuses_order=True),
        pte_special=0x400,
        big_endian=True,
        pfn_shift=16,
        table_mask=((1 << 56) - 1) & ~((1 << 8) - 1),
        leaf_test=(PTE, PTE),
        leaf_prot=lambda prot, level: prot | PTE,
        nx=(EXEC, 0),
        ioremap_prot=RADIX_PAGE_KERNEL | NON_IDEMPOTENT,
        ioremap_start=RADIX_VMALLOC_START + RADIX_MAP_SIZE + (2 << 30),  # after PHB_IO
        ioremap_end=RADIX_VMALLOC_START + 2 * RADIX_MAP_SIZE,
        section_shift=24,
        ioremap_max_order=30,
        phys_bits=53,
        max_physmem_bits=51,
        max_page_order=8,
        linear=0xC000_0000_0000_0000,
        note="64 KiB pages, radix MMU",
    )


_8XX_PRESENT, _8XX_NO_CACHE, _8XX_SH, _8XX_SPS = 0x001, 0x002, 0x004, 0x008
_8XX_GUARDED, _8XX_ACCESSED, _8XX_DIRTY, _8XX_HUGE = 0x010, 0x020, 0x100, 0x800
_8XX_EXEC = 0x040


def _8xx(name: str, page_shift: int) -> Arch:
    large = page_shift == 14
    page_kernel = _8XX_PRESENT | _8XX_ACCESSED | _8XX_SH | _8XX_DIRTY | (_8XX_SPS if large else 0)
    group_512k = Group(shift=19, bits=_8XX_SPS | _8XX_HUGE)
    return Arch(
        name=name,
        family="powerpc",
        page_shift=page_shift,
        levels=(
            Level("PTE", page_shift, bits=22 - page_shift),
            Level("PGD", 22, bits=10, table_bits=_8XX_PRESENT),
        ),
        vmalloc_start=0xC900_0000,
        vmalloc_end=0xFF00_0000,
        page_kernel=page_kernel,
        set_memory=SetMemory(refuses_order=True),
        pte_special=0x80,
        entry_bytes=4,
        cells=4 if large else 1,
        big_endian=True,
        pfn_shift=page_shift,
        table_mask=0xFFFF_F000,
        nx=(_8XX_EXEC, 0),
        ioremap_prot=page_kernel | _8XX_NO_CACHE | _8XX_GUARDED,
        groups=(group_512k,) if large else (group_512k, Group(shift=14, bits=_8XX_SPS)),
        group_mask=_8XX_HUGE if large else _8XX_SPS | _8XX_HUGE,
        section_shift=None,
        ioremap_max_order=7 + page_shift,
        phys_bits=32,
        max_page_order=8 if large else 10,
        ram_base=16 << 20,
        table_base=4 << 20,
        linear=0xC000_0000,
        note="VMALLOC_START of a board with 128 MiB of RAM; VMALLOC_END moves with early ioremaps",
    )


def arches(_: Callable[[Change], bool]) -> tuple[Arch, ...]:
    """All three, as 6.12 has them: no other tree was read."""
    return _radix(), _8xx("powerpc-8xx", page_shift=12), _8xx("powerpc-8xx-16k", page_shift=14)
