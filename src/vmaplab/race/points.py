# SPDX-License-Identifier: GPL-2.0-only
"""Where it can matter to switch: before what another CPU's calls do not commute with.

As CHESS does (Musuvathi and Qadeer, 2007): before taking a lock that another CPU takes too, and before an access to
what another CPU touches, one of the two writing, unless a lock keeps the two apart. Between two such points a switch
gives nothing that a switch at the later one does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vmaplab._jit import jit
from vmaplab.race.slots import SLOTS, slot
from vmaplab.race.stepper import ADDRESS, ALLOC, CPUS, DROP, FREE, RCU, TAKE, VALUE, WHAT, WHEN, WRITE
from vmaplab.trace import Ints

i64 = np.int64
_LOCKS = 62


class Points:
    """Looks for them; keeps its room from one log to the next."""

    def __init__(self) -> None:
        self._key = np.zeros(SLOTS, dtype=np.int64)
        self._stamp = np.zeros(SLOTS, dtype=np.int64)
        # Per CPU: locks held at all its accesses, of those held alone; the same of its writes; whether it has any.
        self._held = np.zeros((SLOTS, CPUS * 6), dtype=np.int64)
        self._number = 0

    def of(self, rows: Ints) -> list[tuple[int, int]]:
        """CPU and how many instructions it has executed before each point of ``rows``, in the order of the log."""
        self._number += 1
        out = np.zeros((len(rows), 2), dtype=np.int64)
        found = _points(rows, i64(self._number), self._key, self._stamp, self._held, out)
        return list(dict.fromkeys((int(cpu), int(when)) for cpu, when in out[:found].tolist()))


@jit
def _slot(key: i64, number: i64, keys: Ints, stamp: Ints, held: Any) -> i64:
    at, is_new = slot(key, number, keys, stamp)
    if is_new:
        for cpu in range(CPUS):
            for part in range(4):
                held[at, 6 * cpu + part] = -1
            held[at, 6 * cpu + 4] = 0
            held[at, 6 * cpu + 5] = 0
    return at


@jit
def _points(rows: Ints, number: i64, keys: Ints, stamp: Ints, held: Any, out: Ints) -> i64:
    locks = np.zeros(_LOCKS, dtype=np.int64)
    known = 0
    holds = np.zeros((CPUS, 2), dtype=np.int64)  # any way, alone
    masks = np.zeros((len(rows), 2), dtype=np.int64)
    found = i64(0)
    for row in range(len(rows)):
        what = rows[row, WHAT] & 0xFF
        cpu = rows[row, WHAT] >> 32
        address = rows[row, ADDRESS]
        if what in (TAKE, DROP):
            lock = address & -2
            index = 0
            while index < known and locks[index] != lock:
                index += 1
            if index == known and known < _LOCKS:
                locks[known] = lock
                known += 1
            bit = i64(1) << index if index < _LOCKS else i64(0)
            if what == TAKE:
                holds[cpu, 0] |= bit
                if not address & 1:
                    holds[cpu, 1] |= bit
                at = _slot(~lock, number, keys, stamp, held)
                held[at, 6 * cpu + (4 if address & 1 else 5)] = 1
            else:
                holds[cpu, 0] &= ~bit
                holds[cpu, 1] &= ~bit
        masks[row, 0] = holds[cpu, 0]
        masks[row, 1] = holds[cpu, 1]
        if what in (TAKE, DROP, RCU):
            continue
        writes = what != 0
        size = rows[row, VALUE] if what in (ALLOC, FREE) else rows[row, WHAT] >> 16 & 0xFFFF
        for granule in range(address & -8, address + size, 8):
            at = _slot(i64(granule), number, keys, stamp, held)
            held[at, 6 * cpu] &= holds[cpu, 0]
            held[at, 6 * cpu + 1] &= holds[cpu, 1]
            held[at, 6 * cpu + 4] = 1
            if writes:
                held[at, 6 * cpu + 2] &= holds[cpu, 0]
                held[at, 6 * cpu + 3] &= holds[cpu, 1]
                held[at, 6 * cpu + 5] = 1
    for row in range(len(rows)):
        what = rows[row, WHAT] & 0xFF
        cpu = rows[row, WHAT] >> 32
        address = rows[row, ADDRESS]
        if what in (DROP, RCU, ALLOC):
            continue
        matters = False
        when = rows[row, WHEN]
        if what == TAKE:
            at = _slot(~(address & -2), number, keys, stamp, held)
            when = rows[row, VALUE]
            for other in range(CPUS):
                if other != cpu and (held[at, 6 * other + 5] or (held[at, 6 * other + 4] and not address & 1)):
                    matters = True
        else:
            size = rows[row, VALUE] if what == FREE else rows[row, WHAT] >> 16 & 0xFFFF
            for granule in range(address & -8, address + size, 8):
                at = _slot(i64(granule), number, keys, stamp, held)
                for other in range(CPUS):
                    if other == cpu:
                        continue
                    first = 6 * other + (0 if what in (WRITE, FREE) else 2)
                    there = held[at, 6 * other + (4 if what in (WRITE, FREE) else 5)]
                    apart = masks[row, 1] & held[at, first] | masks[row, 0] & held[at, first + 1]
                    if there and not apart:
                        matters = True
        if matters:
            out[found, 0] = cpu
            out[found, 1] = when
            found += 1
    return found
