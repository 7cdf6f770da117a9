# SPDX-License-Identifier: GPL-2.0-only
"""Sv39, Sv48 and Sv57, without Svnapot and Svpbmt: RISC-V Privileged Architecture, 12.3 to 12.6."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import unicorn
from unicorn import riscv_const as reg

from vmaplab.judge.format import (
    EVERYTHING,
    MISALIGNED,
    NORMAL,
    NOT_ACCESSED,
    NOT_DIRTY,
    RESERVED,
    U64,
    WRITE,
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

_SUPERVISOR = 1


def _decode(level: int, entries: U64) -> Decoded:
    shift = 12 + 9 * level
    valid = bit(entries, 0)
    read, write, execute, user = (bit(entries, number) for number in (1, 2, 3, 4))
    leaf = valid & (read | execute | write)
    table = valid & ~leaf
    phys = field(entries, 53, 10) << np.uint64(2)
    accessed, dirty = bit(entries, 6), bit(entries, 7)
    reserved = valid & (field(entries, 63, 54) != 0) | leaf & write & ~read | table & (accessed | dirty | user)
    bad = first_bad(
        entries.shape,
        (RESERVED, reserved | table & (level == 0)),
        (MISALIGNED, leaf & (field(phys, shift - 1, 0) != 0)),
        (NOT_ACCESSED, leaf & ~accessed),
        (NOT_DIRTY, leaf & write & ~dirty),
    )
    # G says that all address spaces have it; without Svpbmt an entry does not tell the kind of memory.
    rights = np.where(leaf, rights_of(write, execute, user, user & execute, bit(entries, 5)), EVERYTHING)
    attributes = entries & ~np.uint64((1 << 54) - (1 << 10))
    return Decoded(valid, leaf, phys, rights, attributes, np.zeros(entries.shape, dtype=np.uint8), bad)


_FIELDS = (
    flag(63, "N", "", "Svnapot: one of a group"),
    Field(62, 61, "PBMT", ("PMA: as the platform has it", "NC (Svpbmt)", "IO (Svpbmt)", "reserved")),
    *none(60, 54),
    address(53, 10, "PPN"),
    Field(9, 8, "RSW", ("", "Linux: _PAGE_SPECIAL", "Linux 6.12: _PAGE_DEVMAP", "Linux 6.12: both")),
    flag(7, "D", "not written", "written"),
    flag(6, "A", "not accessed", "accessed"),
    flag(5, "G", "of one address space", "global: of all address spaces"),
    flag(4, "U", "supervisor only", "user mode"),
    flag(3, "X", "not executable", "executable"),
    flag(2, "W", "not writable", "writable"),
    flag(1, "R", "not readable; R, W and X clear: a pointer to a table", "readable"),
    flag(0, "V", "not valid: the walk ends in a fault", "valid"),
)


_POINTER = (
    *none(63, 54),
    address(53, 10, "PPN"),
    Field(9, 8, "RSW"),
    *none(7, 6),
    flag(5, "G", "", "global: all below it"),
    *none(4, 4),
    flag(3, "X", "R, W and X clear: a pointer to the next table"),
    flag(2, "W"),
    flag(1, "R"),
    flag(0, "V", "not valid: the walk ends in a fault", "valid"),
)


def _fields(level: int, leaf: bool) -> tuple[Field, ...]:
    return _FIELDS if leaf or level == 0 else _POINTER


def _start(mode: int) -> Callable[[int], Any]:
    def start(root: int) -> Any:
        uc = unicorn.Uc(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV64)
        uc.ctl_set_tlb_mode(unicorn.UC_TLB_CPU)
        uc.reg_write(reg.UC_RISCV_REG_PRIV, _SUPERVISOR)
        uc.reg_write(reg.UC_RISCV_REG_SATP, mode << 60 | root >> 12)
        return uc

    return start


def _sv(levels: int) -> Format:
    return Format(
        manual="RISC-V Privileged Architecture, 12.3 to 12.6",
        levels=tuple((12 + 9 * level, 9) for level in range(levels)),
        entry="<u8",
        decode=_decode,
        fields=_fields,
        kernel_half=(1 << 64) - (1 << 12 + 9 * levels),
        cpu="Unicorn's riscv64 CPU",
        machine=_start(5 + levels),  # satp.MODE: 8 is Sv39, 9 Sv48, 10 Sv57
        machine_bits=56,
        device_rights=WRITE | NORMAL,
    )


FORMATS = {"riscv64-sv39": _sv(3), "riscv64-sv48": _sv(4), "riscv64-sv57": _sv(5)}
