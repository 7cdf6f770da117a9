# SPDX-License-Identifier: GPL-2.0-only
"""OpenRISC 1000 with 8 KiB pages and two levels of 32-bit entries; it selects no HAVE_ARCH_HUGE_VMAP.

Bits: OpenRISC 1000 Architecture Manual 8.4; values as arch/openrisc/include/asm/pgtable.h and pgalloc.h of 7.1 define
them.
"""

from __future__ import annotations

from collections.abc import Callable

from vmaplab.arch.base import Arch, Level
from vmaplab.changes import Change

PLACE = 6

PRESENT, CI, A, D = 0x001, 0x002, 0x010, 0x020  # the first is CC, which Linux keeps for itself
SRE, SWE, EXEC, SHARED = 0x100, 0x200, 0x400, 0x800
KERNPG_TABLE = PRESENT | A | SRE | SWE | D
PAGE_KERNEL = PRESENT | A | SRE | SWE | SHARED | D | EXEC

_ARCH = Arch(
    name="openrisc",
    family="openrisc",
    page_shift=13,
    levels=(Level("PTE", 13, 11), Level("PGD", 24, 8, table_bits=KERNPG_TABLE)),
    vmalloc_start=0xBC00_0000,
    vmalloc_end=0xC000_0000,
    page_kernel=PAGE_KERNEL,
    entry_bytes=4,
    big_endian=True,
    pfn_shift=13,
    table_mask=0xFFFF_E000,
    ioremap_prot=PAGE_KERNEL | CI,
    huge_vmap=False,
    section_shift=None,
    ioremap_max_order=7 + 13,
    phys_bits=32,
    ram_base=16 << 20,
    table_base=4 << 20,
    linear=0xC000_0000,
    note="CONFIG_HAVE_ARCH_HUGE_VMAP not selected: base pages only",
)


def arches(_: Callable[[Change], bool]) -> tuple[Arch, ...]:
    """The one, as 7.1 has it: no other tree was read."""
    return (_ARCH,)
