# SPDX-License-Identifier: GPL-2.0-only
"""Radix trees of Book3S (Power ISA v3.1, Book III, 6.7.10) and the two levels of the 8xx.

The 8xx loads its TLB by software: what an entry means is what Linux's TLB-miss handlers make of it for the registers of
the MPC885 (Reference Manual, ch. 8).

Unicorn has a POWER10, but its interface reaches neither MSR[HV] nor the registers of the MMU: they are set in a saved
CPU state. It has no 8xx.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import unicorn
from unicorn import ppc_const as reg

from vmaplab.judge.format import (
    EVERYTHING,
    MISALIGNED,
    NOT_ACCESSED,
    NOT_DIRTY,
    OTHER_TABLE,
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

_RADIX = ((16, 5), (21, 9), (30, 9), (39, 13))
_SF, _HV, _TRANSLATE = 1 << 63, 1 << 60, 1 << 5 | 1 << 4  # MSR: 64-bit, hypervisor, IR and DR
_POWER10 = 0x80_0100  # its PVR
_PVR, _LPCR, _PTCR = 287, 318, 464  # numbers of the SPRs
_PROCESS_TABLE = 0x1000


def _radix(level: int, entries: U64) -> Decoded:
    shift = _RADIX[level][0]
    valid, leaf = bit(entries, 63), bit(entries, 62)
    leaf &= valid
    table = valid & ~leaf
    frame, below = field(entries, 56, 12), field(entries, 59, 8)  # RPN; NLB
    size = (entries & np.uint64(0x1F)).astype(np.int64)  # NLS
    bad = first_bad(
        entries.shape,
        (RESERVED, leaf & (level == 3)),
        (OTHER_TABLE, table & (size != _RADIX[level - 1][1] if level else np.ones_like(table))),
        (MISALIGNED, leaf & (field(frame, shift - 1, 0) != 0)),
        (NOT_ACCESSED, leaf & ~bit(entries, 8)),  # R
        (NOT_DIRTY, leaf & bit(entries, 1) & ~bit(entries, 7)),  # C, where it can be written
    )
    write, execute, user = bit(entries, 1), bit(entries, 0), ~bit(entries, 3)
    normal = field(entries, 5, 4) == np.uint64(0)  # ATT
    rights = np.where(leaf, rights_of(write, execute, user, user & execute, normal), EVERYTHING)
    phys = np.where(leaf, frame, below)
    return Decoded(valid, leaf, phys, rights, entries & ~phys, np.zeros(entries.shape, dtype=np.uint8), bad)


_ATT = ("normal memory", "strong access order (SAO)", "non-idempotent I/O", "tolerant I/O")


def _radix_fields(level: int, leaf: bool) -> tuple[Field, ...]:
    """Page directory entry and page table entry; bit n of the ISA is 63 - n here."""
    valid = flag(63, "V", "invalid: the walk ends in a fault", "valid")
    kind = flag(62, "L", "page directory entry", "leaf: page table entry")
    if level and not leaf:
        return (valid, kind, *none(61, 60), address(59, 8, "NLB"), *none(7, 5), Field(4, 0, "NLS"))
    shift = _RADIX[level][0]
    return (
        valid,
        kind,
        flag(61, "SW", on="Linux: _PAGE_INVALID"),
        *none(60, 57),
        address(56, shift, "RPN"),
        *none(shift - 1, 12, "RPN, 0 in a page of this size"),
        flag(11, "SW", on="Linux 6.12: _PAGE_DEVMAP"),
        flag(10, "SW", on="Linux: _PAGE_SPECIAL"),
        flag(9, "SW", on="Linux: _PAGE_SOFT_DIRTY"),
        flag(8, "R", "not referenced", "referenced"),
        flag(7, "C", "not changed", "changed"),
        *none(6, 6),
        Field(5, 4, "ATT", _ATT),
        flag(3, "EAA[0]", "problem state, too", "privileged only"),
        flag(2, "EAA[1]", "not readable, unless EAA[2]", "readable"),
        flag(1, "EAA[2]", "not writable", "readable and writable"),
        flag(0, "EAA[3]", "not executable", "executable"),
    )


def _8xx_fields(level: int, leaf: bool) -> tuple[Field, ...]:
    """Linux's names, since its handlers are what reads an entry; see asm/nohash/32/pte-8xx.h."""
    present = flag(0, "V", "not valid", "valid")
    if level:
        size = ("a table of pages", "512K", "reserved", "8M")
        return (
            address(31, 12, "L2BA"),
            *none(11, 7),
            flag(6, "_PMD_USER"),
            flag(5, "_PMD_ACCESSED"),
            *none(4, 4),
            Field(3, 2, "PS", size),
            *none(1, 1),
            present,
        )
    protection = ("read and write", "no access", "reserved", "read-only")
    return (
        address(31, 12, "RPN"),
        flag(11, "_PAGE_HUGE", on="512K"),
        Field(10, 9, "_PAGE_RO", protection),
        flag(8, "C", "writes fault: not changed", "changed"),
        flag(7, "software", on="Linux: _PAGE_SPECIAL"),
        flag(6, "_PAGE_EXEC", "not executable", "executable"),
        flag(5, "_PAGE_ACCESSED", "accesses fault", "accessed"),
        flag(4, "G", "not guarded", "guarded"),
        flag(3, "SPS", "4K", "16K, or 512K"),
        flag(2, "SH", "of one context (ASID)", "of all contexts"),
        flag(1, "CI", "cached", "cache inhibited"),
        present,
    )


def _start(root: int) -> Any:
    """A hypervisor with radix translation: addresses from 0xC << 60 on are those of process 0 of partition 0.

    Power ISA v3.1, Book III: partition table, process table, radix tree translation (6.7.10).
    """
    uc = unicorn.Uc(unicorn.UC_ARCH_PPC, unicorn.UC_MODE_PPC64 | unicorn.UC_MODE_BIG_ENDIAN)
    uc.ctl_set_tlb_mode(unicorn.UC_TLB_CPU)
    size = sum(bits for _, bits in _RADIX) + _RADIX[0][0] - 31  # RTS, in two parts
    process = (size >> 3) << 61 | (size & 7) << 5 | root | _RADIX[-1][1]
    uc.mem_map(0, 2 * _PROCESS_TABLE)  # at 0 the partition table: HR; where the process table is, of 4 KiB
    for at, entry in ((0, 1 << 63), (8, _PROCESS_TABLE), (_PROCESS_TABLE, process)):
        uc.mem_write(at, entry.to_bytes(8, "big"))
    saved = uc.context_save()
    state = np.frombuffer(bytes(saved), dtype=np.uint64).copy()
    registers = int(np.flatnonzero(state == _POWER10)[0]) - _PVR
    state[np.flatnonzero(state == _SF)[0]] |= np.uint64(_HV)  # MSR as it is after reset
    state[registers + _LPCR] |= np.uint64(1 << 22 | 1 << 20)  # UPRT, HR
    state[registers + _PTCR] = 0
    ctypes.memmove(saved.context, state.tobytes(), saved.size)
    uc.context_restore(saved)
    uc.reg_write(reg.UC_PPC_REG_MSR, _SF | _HV | _TRANSLATE)
    if uc.reg_read(reg.UC_PPC_REG_MSR) != _SF | _HV | _TRANSLATE:
        raise RuntimeError(f"Unicorn {unicorn.__version__} keeps the registers of its POWER10 in another order")
    return uc


def _8xx(level: int, entries: U64) -> Decoded:
    """Entries of 4 KiB each, whatever the kernel's page size; SPS (bit 3) makes 16 KiB, bit 11 makes 512 KiB."""
    valid = bit(entries, 0)
    leaf = valid & (level == 0)
    phys = field(entries, 31, 12)
    group = np.where(bit(entries, 11), 19, np.where(bit(entries, 3), 14, 0)) * leaf
    bad = first_bad(entries.shape, (NOT_ACCESSED, leaf & ~bit(entries, 5)))
    read_only = field(entries, 10, 9) == np.uint64(0x600)
    write, execute, user = ~read_only & bit(entries, 8), bit(entries, 6), ~bit(entries, 2)
    normal = ~bit(entries, 1) & ~bit(entries, 4)  # CI, G
    rights = np.where(leaf, rights_of(write, execute, user, user & execute, normal), EVERYTHING)
    return Decoded(valid, leaf, phys, rights, entries & ~phys, group.astype(np.uint8), bad)


def _two_levels(alike: int) -> Format:
    return Format(
        manual="Linux's 8xx TLB-miss handlers (MPC885 RM, ch. 8)",
        levels=((12, 10), (22, 10)),
        entry=">u4",
        decode=_8xx,
        fields=_8xx_fields,
        kernel_half=0,
        cpu="Unicorn has no 8xx",
        alike=alike,
    )


FORMATS = {
    "powerpc64-radix": Format(
        manual="Power ISA v3.1, Book III, 6.7.10",
        levels=_RADIX,
        entry=">u8",
        decode=_radix,
        fields=_radix_fields,
        kernel_half=0xC << 60,
        cpu="Unicorn's POWER10",
        machine=_start,
        machine_bits=57,
    ),
    "powerpc-8xx": _two_levels(alike=0),
    "powerpc-8xx-16k": _two_levels(alike=14),
}
