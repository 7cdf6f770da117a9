# SPDX-License-Identifier: GPL-2.0-only
"""Three levels of 16 KiB tables, walked by LDDIR and LDPTE: LoongArch Reference Manual vol. 1, 5.4.5 and 5.4.6.

Unicorn has no LoongArch.
"""

from __future__ import annotations

import numpy as np

from vmaplab.judge.format import (
    EVERYTHING,
    EXEC,
    MISALIGNED,
    NORMAL,
    NOT_READABLE,
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

_CACHED_WINDOW = np.uint64(9)  # bits [63:60] of a direct-mapped, cached address, by which tables are named


def _decode(level: int, entries: U64) -> Decoded:
    shift = 14 + 11 * level
    if level:
        leaf = bit(entries, 6)  # H
        valid = np.ones_like(leaf)
        bad = first_bad(entries.shape, (RESERVED, ~leaf & (entries >> np.uint64(60) != _CACHED_WINDOW)))
    else:
        valid = bit(entries, 0)
        leaf = valid
        bad = first_bad(entries.shape, (NOT_READABLE, bit(entries, 61)))  # NR
    phys = field(entries, 47, 14) if level == 0 else np.where(leaf, field(entries, 47, 14), field(entries, 47, 12))
    bad = np.where((bad == 0) & leaf & (field(phys, shift - 1, 0) != 0), np.uint8(MISALIGNED), bad)
    user = field(entries, 3, 2) != 0  # PLV
    write, execute = bit(entries, 1) & bit(entries, 8), ~bit(entries, 62)
    normal = (field(entries, 5, 4) == np.uint64(1 << 4)) & bit(entries, 6 if level == 0 else 12)  # MAT: coherent; G
    rights = np.where(leaf, rights_of(write, execute, user, user & execute, normal), EVERYTHING)
    return Decoded(valid, leaf, phys, rights, entries & ~phys, np.zeros(entries.shape, dtype=np.uint8), bad)


_MAT = ("strongly-ordered uncached (SUC)", "coherent cached (CC)", "weakly-ordered uncached (WUC)", "reserved")
_PLV = tuple(f"PLV{level}" + (" and more privileged" if level else ": the kernel") for level in range(4))


def _fields(level: int, leaf: bool) -> tuple[Field, ...]:
    """Entry of the last level, of a huge page, or of a directory, which names the next by its direct-mapped address."""
    if level and not leaf:
        return (
            Field(63, 60, "window", ("",) * _CACHED_WINDOW.item() + ("direct-mapped, cached",) + ("",) * 6),
            *none(59, 48),
            address(47, 12, "address of the next table"),
            *none(11, 7),
            flag(6, "H", "a directory", "a huge page"),
            *none(5, 0),
        )
    shift = 14 + 11 * level
    low = (flag(12, "G", "of one ASID", "global"),) if level else none(13, 12)
    return (
        flag(63, "RPLV", "PLV and those more privileged", "PLV alone"),
        flag(62, "NX", "may be executed", "not executable"),
        flag(61, "NR", "may be read", "not readable"),
        *none(60, 48, "software"),
        address(47, shift, "PPN"),
        *(none(shift - 1, 13) if level else ()),
        *low,
        flag(11, "software", on="Linux: _PAGE_SPECIAL"),
        flag(10, "software", on="Linux: _PAGE_PROTNONE"),
        flag(9, "software", on="Linux: _PAGE_MODIFIED"),
        flag(8, "W", "not writable", "writable"),
        flag(7, "P", "not present", "present"),
        flag(6, "H", "a directory", "a huge page") if level else flag(6, "G", "of one ASID", "global"),
        Field(5, 4, "MAT", _MAT),
        Field(3, 2, "PLV", _PLV),
        flag(1, "D", "writes fault: not dirty", "dirty"),
        flag(0, "V", "invalid", "valid"),
    )


FORMATS = {
    "loongarch64": Format(
        manual="LoongArch Reference Manual vol. 1, 5.4.5",
        levels=((14, 11), (25, 11), (36, 11)),
        entry="<u8",
        decode=_decode,
        fields=_fields,
        kernel_half=0xFFFF_8000 << 32,
        cpu="Unicorn has no LoongArch",
        device_rights=WRITE | EXEC,
        zero_counts=True,
        data_rights=WRITE | EXEC | NORMAL,  # 6.12 has no pgprot_nx() there, and PAGE_KERNEL leaves NX clear
    )
}
