# SPDX-License-Identifier: GPL-2.0-only
"""Where what is known of an address is kept: a table that the next log need not clear."""

from __future__ import annotations

import numpy as np

from vmaplab._jit import jit
from vmaplab.trace import Ints

i64 = np.int64

SLOTS = 1 << 18
"""More than a log has 8-byte words, each access of up to 2^17 in two of them."""


@jit
def slot(key: i64, number: i64, keys: Ints, stamp: Ints) -> tuple[i64, bool]:
    """The slot of ``key``, and whether it is new in the log of this ``number``.

    :param keys: of each slot; ``stamp``: the number of the log that took it.
    """
    at = (key * i64(0x9E3779B97F4A7C1) >> 20) & (SLOTS - 1)
    while stamp[at] == number and keys[at] != key:
        at = (at + 1) & (SLOTS - 1)
    is_new = stamp[at] != number
    stamp[at] = number
    keys[at] = key
    return at, is_new
