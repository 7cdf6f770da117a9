# SPDX-License-Identifier: GPL-2.0-only
"""Two levels of 8 KiB pages: OpenRISC 1000 Architecture Manual 8.4, as Linux's TLB-miss handlers read the entries."""

from __future__ import annotations

import numpy as np

from vmaplab.judge.format import (
    EVERYTHING,
    EXEC,
    NORMAL,
    NOT_ACCESSED,
    NOT_READABLE,
    U64,
    WRITE,
    Decoded,
    Format,
    bit,
    field,
    first_bad,
    rights_of,
)


def _decode(level: int, entries: U64) -> Decoded:
    valid = bit(entries, 0)
    leaf = valid & (level == 0)
    phys = field(entries, 31, 13)
    bad = first_bad(entries.shape, (NOT_ACCESSED, leaf & ~bit(entries, 4)), (NOT_READABLE, leaf & ~bit(entries, 8)))
    user = bit(entries, 6)  # URE
    write, execute, normal = bit(entries, 9), bit(entries, 10), ~bit(entries, 1)  # SWE; EXEC, in software; CI
    rights = np.where(leaf, rights_of(write, execute, user, user & execute, normal), EVERYTHING)
    return Decoded(valid, leaf, phys, rights, entries & ~phys, np.zeros(entries.shape, dtype=np.uint8), bad)


FORMATS = {
    "openrisc": Format(
        manual="OpenRISC 1000 Architecture Manual 8.4",
        levels=((13, 11), (24, 8)),
        entry=">u4",
        decode=_decode,
        kernel_half=0,
        cpu="Unicorn has no OpenRISC",
        data_rights=WRITE | EXEC | NORMAL,  # no pgprot_nx() there
        device_rights=WRITE | EXEC,
    )
}
