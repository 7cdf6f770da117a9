"""Radix trees of Book3S (Power ISA v3.1, Book III, 6.7.10) and the two levels of the 8xx.

The 8xx loads its TLB by software: what an entry means is what Linux's TLB-miss handlers make of it for the registers of
the MPC885 (Reference Manual, ch. 8).

Unicorn's PowerPC has neither a way to reach the partition table nor an 8xx.
"""

from __future__ import annotations

import numpy as np

from vmaplab.mmu.format import (
    EVERYTHING,
    MISALIGNED,
    NOT_ACCESSED,
    OTHER_TABLE,
    RESERVED,
    U64,
    Decoded,
    Format,
    bit,
    field,
    first_bad,
    rights_of,
)

_RADIX = ((16, 5), (21, 9), (30, 9), (39, 13))


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
        (NOT_ACCESSED, leaf & ~(bit(entries, 8) & (bit(entries, 7) | ~bit(entries, 1)))),  # R; C where it is written
    )
    write, execute, user = bit(entries, 1), bit(entries, 0), ~bit(entries, 3)
    normal = field(entries, 5, 4) == np.uint64(0)  # ATT
    rights = np.where(leaf, rights_of(write, execute, user, user & execute, normal), EVERYTHING)
    phys = np.where(leaf, frame, below)
    return Decoded(valid, leaf, phys, rights, entries & ~phys, np.zeros(entries.shape, dtype=np.uint8), bad)


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
        kernel_half=0xC << 60,
        cpu="Unicorn's PowerPC cannot be given a partition table",
    ),
    "powerpc-8xx": _two_levels(alike=0),
    "powerpc-8xx-16k": _two_levels(alike=14),
}
