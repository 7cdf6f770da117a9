# SPDX-License-Identifier: GPL-2.0-only
"""The instructions of a call in a kernel that boots, beside those of the trace: a check of the trace."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vmaplab.boot.build import Bootable
from vmaplab.boot.count import Counted, CountingKernel
from vmaplab.errors import InputError

_TIMES = 3
"""An interrupt may come in between: the least of so many is taken."""


def counted_vmap(kernel: Bootable, pfns: NDArray[np.uint64], boot_args: str = "") -> Counted:
    """Instructions of ``vmap()``, of the second call at its addresses: the tables are there.

    :raises InputError: if the pages are more than the machine has.
    """
    booted = CountingKernel(kernel, boot_args)
    try:
        total = booted.total_pages or 0
        low = np.uint64(int(pfns.min()) // total * total)
        if int(pfns.max() - low) >= total:
            raise InputError(f"the pages lie {int(pfns.max() - low)} frames apart; the machine that boots has {total}")
        best: Counted | None = None
        for number in range(_TIMES + 1):
            before = booted.runs()
            mapping = booted.vmap(pfns - low)
            found = booted.counted(before)
            if number and (best is None or found.instructions < best.instructions):
                best = found
            booted.vunmap(mapping.addr)
            booted.vm_unmap_aliases()
        assert best is not None
        return best
    finally:
        booted.close()
