# SPDX-License-Identifier: GPL-2.0-only
"""A number for what is in memory."""

from __future__ import annotations

import numpy as np

from vmaplab._jit import jit
from vmaplab.judge.format import U64


@jit
def digest(words: U64) -> tuple[int, int, int, int]:
    """Four numbers, 256 bits, which two different memories of the same size have in common by chance only."""
    first, second = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
    third, fourth = np.uint64(0x165667B19E3779F9), np.uint64(0x27D4EB2F165667C5)
    factor = np.uint64(0xFF51AFD7ED558CCD)
    shift = np.uint64(29)
    whole = len(words) - len(words) % 4
    for at in range(0, whole, 4):
        first = (first ^ words[at]) * factor
        second = (second ^ words[at + 1]) * factor
        third = (third ^ words[at + 2]) * factor
        fourth = (fourth ^ words[at + 3]) * factor
        first ^= first >> shift
        second ^= second >> shift
        third ^= third >> shift
        fourth ^= fourth >> shift
    for at in range(whole, len(words)):
        first = (first ^ words[at]) * factor
        first ^= first >> shift
    return first, second, third, fourth  # type: ignore[return-value]
