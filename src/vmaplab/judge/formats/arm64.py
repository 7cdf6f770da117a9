# SPDX-License-Identifier: GPL-2.0-only
"""VMSAv8-64 stage 1 of the kernel's half: Arm ARM (DDI 0487) D8.2 to D8.4; output addresses of 48 bits, or of 52."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import unicorn
from unicorn import arm64_const as reg

from vmaplab.judge.format import (
    MISALIGNED,
    NOT_ACCESSED,
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

_GRANULE = {12: 0b10, 14: 0b01, 16: 0b11}  # TCR_EL1.TG1
_CONTIGUOUS = {12: {12: 16, 21: 16, 30: 16}, 14: {14: 128, 25: 32}, 16: {16: 32, 29: 32}}  # Table D8-107
_BLOCKS = {12: {21, 30}, 14: {25}, 16: {29}}
_WIDE_BLOCKS = {12: {39}, 14: {36}, 16: {42}}
"""More of them where output addresses have 52 bits."""

_APTABLE = ("no effect", "no access from EL0", "read-only", "read-only, no access from EL0")
_SH = ("non-shareable", "reserved", "outer shareable", "inner shareable")
_AP = ("read and write at EL1", "read and write at EL1 and EL0", "read-only at EL1", "read-only at EL1 and EL0")
_ATTRINDX = tuple(
    f"MAIR_EL1.Attr{index}" + (f", Linux's {name}" if name else "")
    for index, name in enumerate(
        ("MT_NORMAL", "MT_NORMAL_TAGGED", "MT_NORMAL_NC", "MT_DEVICE_nGnRnE", "MT_DEVICE_nGnRE", "", "", "")
    )
)
_VALID = flag(0, "Valid", "invalid: the walk ends in a fault", "valid")


def _table(below: int, high: tuple[int, int] | None) -> tuple[Field, ...]:
    """Table descriptor; ``below`` is log2 of the bytes of the next table."""
    upper, middle, lower = none(50, 48, "RES0"), none(below - 1, 12, "RES0"), none(9, 2, "IGNORED")
    if high == (12, 48):
        middle = (address(15, 12, "Next-level table address[51:48]"),)
    elif high:
        upper = (*none(50, 50, "RES0"), address(49, 48, "Next-level table address[49:48]"))
        lower = (address(9, 8, "Next-level table address[51:50]"), *none(7, 2, "IGNORED"))
    return (
        flag(63, "NSTable", on="Secure state only: below it is Non-secure"),
        Field(62, 61, "APTable", _APTABLE),
        flag(60, "UXNTable", "no effect", "no execution at EL0 below it"),
        flag(59, "PXNTable", "no effect", "no execution at EL1 below it"),
        *none(58, 51, "IGNORED"),
        *upper,
        address(47, max(below, 16) if high == (12, 48) else below, "Next-level table address"),
        *middle,
        *none(11, 11, "IGNORED"),
        flag(10, "AF", "", "walked (FEAT_HAFT)"),
        *lower,
        flag(1, "Descriptor type", "block", "table"),
        _VALID,
    )


def _leaf(shift: int, page: bool, high: tuple[int, int] | None) -> tuple[Field, ...]:
    """Page or block descriptor that maps ``1 << shift`` bytes."""
    upper, middle = none(49, 48, "RES0"), none(shift - 1, 12, "RES0")
    share: tuple[Field, ...] = (Field(9, 8, "SH", _SH),)
    if not page:
        middle = (*none(shift - 1, 17, "RES0"), flag(16, "nT", on="FEAT_BBM: not to be cached"), *none(15, 12, "RES0"))
    if high == (12, 48):
        middle = (*middle[:-1], address(15, 12, "OA[51:48]"))
    elif high:
        upper, share = (address(49, 48, "OA[49:48]"),), (address(9, 8, "OA[51:50]"),)
    return (
        *none(63, 63, "IGNORED"),
        *none(62, 59, "PBHA"),
        flag(58, "software", on="Linux 6.12: PTE_UFFD_WP"),
        flag(57, "software", on="Linux 6.12: PTE_DEVMAP"),
        flag(56, "software", on="Linux: PTE_SPECIAL"),
        flag(55, "software", on="Linux: PTE_DIRTY"),
        flag(54, "UXN", "may be executed at EL0", "no execution at EL0"),
        flag(53, "PXN", "may be executed at EL1", "no execution at EL1"),
        flag(52, "Contiguous", "stands alone", "one of a contiguous set: one TLB entry may hold all"),
        flag(51, "DBM", on="dirty state by hardware; Linux: PTE_WRITE"),
        flag(50, "GP", on="guarded page (FEAT_BTI)"),
        *upper,
        address(47, shift, "OA"),
        *middle,
        flag(11, "nG", "global: of all ASIDs", "not global: of one ASID"),
        flag(10, "AF", "not accessed: access faults", "accessed"),
        *share,
        Field(7, 6, "AP[2:1]", _AP),
        flag(5, "NS", on="Secure state only: Non-secure output"),
        Field(4, 2, "AttrIndx", _ATTRINDX),
        flag(1, "Descriptor type", "block" if not page else "reserved", "page" if page else "table"),
        _VALID,
    )


def vmsav8(
    levels: tuple[tuple[int, int], ...],
    blocks: set[int],
    contiguous: dict[int, int],
    machine: bool = True,
    private: bool = False,
    boot: Mapping[str, Format] | None = None,
    high: tuple[int, int] | None = None,
    va_bits: int = 48,
) -> Format:
    """A format with these levels, last first.

    :param blocks: shifts at which a block descriptor is allowed.
    :param contiguous: shift -> entries of a contiguous group.
    :param private: nG is set in the kernel's leaves: with KPTI, or KASLR, the user's half has other tables.
    :param boot: the same with boot arguments.
    :param high: ``(bit of an entry, bit of the output address)`` from which on the entry has the address's top bits, up
        to 51, where it is wider than 48 bits; no emulated CPU has these.
    :param va_bits: of an address of the kernel's half.
    """
    page_shift = levels[0][0]
    top = high[1] - 1 if high else 47

    def output(entries: U64, low: int) -> U64:
        address = field(entries, top, low)
        if high is not None:
            count = 52 - high[1]
            address = address | (field(entries, high[0] + count - 1, high[0]) << np.uint64(high[1] - high[0]))
        return address

    def decode(level: int, entries: U64) -> Decoded:
        shift = levels[level][0]
        valid = bit(entries, 0)
        second = bit(entries, 1)
        leaf = valid & (second if level == 0 else ~second)
        table = valid & ~leaf
        below = levels[level - 1][1] + 3 if level else page_shift  # log2 of the bytes of the next table
        without_nt = ~np.uint64(1 << 16 if level else 0)  # bit 16 of a block is nT
        address = np.where(leaf, output(entries, page_shift) & without_nt, output(entries, below))
        wrong = table if level == 0 else leaf & (shift not in blocks)
        pointer = (
            field(entries, max(below, 13) - 1, 12) if high is None else np.zeros_like(entries)
        )  # bits of a table's address that a larger table has not
        bad = first_bad(
            entries.shape,
            (RESERVED, wrong),
            (MISALIGNED, table & (pointer != 0) & (below > 12)),
            (MISALIGNED, leaf & (field(address, shift - 1, 0) != 0)),
            (NOT_ACCESSED, leaf & ~bit(entries, 10)),
        )
        # A table: APTable[1] (bit 62) takes the right to write, PXNTable (59) to execute, APTable[0] (61) and UXNTable
        # (60) the user's. Ordinary memory: AttrIndx 0 (Linux's MAIR_EL1), inner shareable, nG as it has to be.
        write = np.where(leaf, ~bit(entries, 7), ~bit(entries, 62))
        execute = np.where(leaf, ~bit(entries, 53), ~bit(entries, 59))
        user = np.where(leaf, bit(entries, 6), ~bit(entries, 61))
        user_execute = np.where(leaf, ~bit(entries, 54), ~bit(entries, 60))
        kind = np.uint64(0b111 << 2 | 0b11 << 8 | 1 << 11)
        normal = ~leaf | (entries & kind == np.uint64(0b11 << 8 | private << 11))
        rights = rights_of(write, execute, user, user_execute, normal)
        size = contiguous.get(shift, 1)
        group = np.where(leaf & bit(entries, 52) & (size > 1), shift + size.bit_length() - 1, 0)
        return Decoded(valid, leaf, address, rights, entries & ~address, group.astype(np.uint8), bad)

    def fields(level: int, leaf: bool) -> tuple[Field, ...]:
        if leaf or level == 0:
            return _leaf(levels[level][0], level == 0, high)
        return _table(levels[level - 1][1] + 3, high)

    def start(root: int) -> Any:
        uc = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        uc.ctl_set_cpu_model(reg.UC_CPU_ARM64_MAX)
        uc.ctl_set_tlb_mode(unicorn.UC_TLB_CPU)

        def system(op0: int, op1: int, crn: int, crm: int, op2: int, value: int) -> None:
            uc.reg_write(reg.UC_ARM64_REG_CP_REG, (crn, crm, op0, op1, op2, value))

        system(3, 6, 1, 1, 0, 1 << 10 | 1)  # SCR_EL3: RW, NS: EL2 and below are 64-bit and non-secure
        system(3, 4, 1, 1, 0, 1 << 31)  # HCR_EL2: RW: EL1 is 64-bit
        system(3, 0, 2, 0, 1, root)  # TTBR1_EL1
        no_ttbr0, size, ips = 1 << 7, 64 - va_bits, 0b101  # EPD0; T1SZ; 48-bit physical addresses
        tcr = size | no_ttbr0 | size << 16 | 1 << 24 | 1 << 26 | 3 << 28 | _GRANULE[page_shift] << 30 | ips << 32
        system(3, 0, 2, 0, 2, tcr)
        system(3, 0, 10, 2, 0, 0xFF)  # MAIR_EL1: attribute 0 is normal memory
        system(3, 0, 1, 0, 0, 0x30D0_0800 | 1)  # SCTLR_EL1: RES1 bits and M
        return uc

    return Format(
        manual="Arm ARM (DDI 0487) D8.3",
        levels=levels,
        entry="<u8",
        decode=decode,
        fields=fields,
        kernel_half=(1 << 64) - (1 << va_bits),
        cpu="Unicorn's arm64 CPU",
        machine=start if machine else None,
        machine_bits=48,
        boot=boot or {},
    )


def granule(page_shift: int, va_bits: int = 48, wide: bool = False) -> Format:
    """The format of a page size and a size of the kernel's half.

    :param wide: output addresses of 52 bits: FEAT_LPA with 64K pages, FEAT_LPA2 (TCR_EL1.DS) with others.
    """
    bits = page_shift - 3
    levels = tuple((shift, min(bits, va_bits - shift)) for shift in range(page_shift, va_bits, bits))
    blocks, contiguous = _BLOCKS[page_shift], _CONTIGUOUS[page_shift]
    if wide:
        high = (12, 48) if page_shift == 16 else (8, 50)
        wider = blocks | _WIDE_BLOCKS[page_shift]
        return vmsav8(levels, wider, contiguous, machine=False, high=high, va_bits=va_bits)
    private = vmsav8(levels, blocks, contiguous, private=True, va_bits=va_bits)
    return vmsav8(levels, blocks, contiguous, boot={"kpti=1": private}, va_bits=va_bits)


FORMATS = {"arm64-4k": granule(12), "arm64-16k": granule(14), "arm64-64k": granule(16)}
