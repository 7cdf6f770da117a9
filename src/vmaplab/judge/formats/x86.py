# SPDX-License-Identifier: GPL-2.0-only
"""4-level and 5-level paging with 1 GiB pages: Intel SDM vol. 3A, 4.5."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import unicorn
from unicorn import x86_const as reg

from vmaplab.judge.format import (
    MISALIGNED,
    RESERVED,
    U64,
    Decoded,
    Field,
    Format,
    address,
    bit,
    field,
    first_bad,
    flag,
    none,
    rights_of,
)

_EFER = 0xC000_0080
_LARGE = (1, 2)  # levels whose entries can be leaves: 2 MiB, 1 GiB


def _decode(level: int, entries: U64) -> Decoded:
    shift = 12 + 9 * level
    valid = bit(entries, 0)
    size_bit = bit(entries, 7)
    leaf = valid & (size_bit if level in _LARGE else np.full_like(valid, level == 0))
    frame = field(entries, 51, 12)
    low = field(entries, shift - 1, 13) if level in _LARGE else np.zeros_like(entries)  # bit 12 is PAT
    bad = first_bad(
        entries.shape,
        (RESERVED, valid & size_bit & (level > 2)),
        (MISALIGNED, leaf & (low != 0)),
    )
    phys = np.where(leaf, field(entries, 51, shift), frame)
    user, execute = bit(entries, 2), ~bit(entries, 63)
    pat = bit(entries, 7) if level == 0 else bit(entries, 12)
    normal = ~leaf | (~bit(entries, 3) & ~bit(entries, 4) & ~pat & bit(entries, 8))  # PWT, PCD, PAT clear: WB; G
    rights = rights_of(bit(entries, 1), execute, user, user & execute, normal)
    return Decoded(valid, leaf, phys, rights, entries & ~phys, np.zeros(entries.shape, dtype=np.uint8), bad)


def _fields(level: int, leaf: bool) -> tuple[Field, ...]:
    """Tables 4-14 to 4-20 of the manual, of entries that map a page and of those that reference a table."""
    pat = "PAT: with PCD and PWT the memory type"
    software: tuple[Field, ...] = none(11, 8, "ignored")
    middle: tuple[Field, ...] = (address(51, 12, "address"),)
    high = none(62, 52, "ignored")
    large = flag(7, "PS", "references a table", "maps a page")
    dirty = none(6, 6, "ignored")
    if level > len(_LARGE):
        large = Field(7, 7, "reserved")
    if leaf or level == 0:
        shift = 12 + 9 * level
        high = (
            Field(62, 59, "Protection key"),
            flag(58, "ignored", on="Linux 6.12: _PAGE_SAVED_DIRTY"),
            flag(57, "ignored", on="Linux 6.12: _PAGE_DEVMAP"),
            *none(56, 52, "ignored"),
        )
        software = (
            flag(11, "ignored", on="Linux: _PAGE_SOFT_DIRTY"),
            flag(10, "ignored", on="Linux: _PAGE_UFFD_WP"),
            flag(9, "ignored", on="Linux: _PAGE_SPECIAL"),
            flag(8, "G", "not global: flushed when CR3 is written", "global, with CR4.PGE"),
        )
        dirty = (flag(6, "D", "not written", "written"),)
        middle = (address(51, shift, "address"),)
        if level:
            middle = (*middle, *none(shift - 1, 13), flag(12, "PAT", "", pat))
        else:
            large = flag(7, "PAT", "", pat)
    return (
        flag(63, "XD", "may be executed", "no instruction fetch (with EFER.NXE)"),
        *high,
        *middle,
        *software,
        large,
        *dirty,
        flag(5, "A", "not used", "used"),
        flag(4, "PCD", "", "page-level cache disable"),
        flag(3, "PWT", "", "page-level write-through"),
        flag(2, "U/S", "supervisor only", "user mode, too"),
        flag(1, "R/W", "read-only", "may be written"),
        flag(0, "P", "not present: the walk ends in a fault", "present"),
    )


def _start(levels: int) -> Callable[[int], Any]:
    def start(root: int) -> Any:
        uc = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
        uc.ctl_set_cpu_model(reg.UC_CPU_X86_ICELAKE_SERVER)
        uc.ctl_set_tlb_mode(unicorn.UC_TLB_CPU)
        uc.reg_write(reg.UC_X86_REG_MSR, (_EFER, 1 << 11 | 1 << 10 | 1 << 8 | 1))  # NXE, LMA, LME, SCE
        uc.reg_write(reg.UC_X86_REG_CR4, 1 << 7 | 1 << 5 | (levels == 5) << 12)  # PGE, PAE, LA57
        uc.reg_write(reg.UC_X86_REG_CR3, root)
        uc.reg_write(reg.UC_X86_REG_CR0, 1 << 31 | 1 << 16 | 0x33)  # PG, WP, protected mode
        return uc

    return start


def _paging(levels: int) -> Format:
    return Format(
        manual="Intel SDM vol. 3A, 4.5",
        levels=tuple((12 + 9 * level, 9) for level in range(levels)),
        entry="<u8",
        decode=_decode,
        fields=_fields,
        kernel_half=(1 << 64) - (1 << 12 + 9 * levels),
        cpu="Unicorn's x86_64 CPU (Icelake-Server)",
        machine=_start(levels),
        machine_bits=40,
        any_flush=True,  # 4.10.4.1: INVLPG invalidates all entries of the paging-structure caches, whatever its operand
    )


FORMATS = {"x86_64": _paging(4), "x86_64-la57": _paging(5)}
