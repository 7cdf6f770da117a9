# SPDX-License-Identifier: GPL-2.0-only
"""Where it can matter to switch: before what does not commute with what another CPU does later.

As CHESS does (Musuvathi and Qadeer, 2007): before taking a lock that another CPU takes too, and before an access to
what another CPU touches, one of the two writing, unless a lock keeps the two apart. Between two such points a switch
gives nothing that a switch at the later one does not; and only what the other CPU does later in the log can come
before it by a switch (as in dynamic partial-order reduction, Flanagan and Godefroid, 2005).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from vmaplab._jit import allocating, jit
from vmaplab.object.family import ATOMIC, RELEASES
from vmaplab.race.hooks import (
    ADDRESS,
    ALLOC,
    BARRIER,
    CPUS,
    DROP,
    FLUSH,
    FREE,
    RCU,
    READ,
    TAKE,
    VALUE,
    WHAT,
    WHEN,
    WRITE,
)
from vmaplab.race.slots import SLOTS, slot
from vmaplab.trace import Ints

i64 = np.int64
_LOCKS = 62
_TLB = i64(1)  # a key that no address is
_BUFFERED = 4
"""Stores of one CPU that are late together: those that are last, and another CPU touches the memory."""


class Point(NamedTuple):
    """Where it can matter to switch.

    :param cpu: the CPU that stops there.
    :param when: instructions that it has executed before.
    :param others: a bit for each CPU that can go on instead.
    """

    cpu: int
    when: int
    others: int


class Points:
    """Looks for them; keeps its room from one log to the next.

    :param tables: first address of the page tables, and the one behind them: a store of 0 to them does not commute
        with a later TLB flush, nor a flush with anything.
    """

    def __init__(self, tables: tuple[int, int]) -> None:
        self._tables = np.array(tables, dtype=np.uint64).view(np.int64)
        self._key = np.zeros(SLOTS, dtype=np.int64)
        self._stamp = np.zeros(SLOTS, dtype=np.int64)
        # Per CPU, of what it does later: locks held at all its accesses, of those held alone; the same of its writes;
        # whether it has any.
        self._held = np.zeros((SLOTS, CPUS * 6), dtype=np.int64)
        self._number = 0

    def of(self, rows: Ints, end: int | None = None) -> Ints:
        """The points of the first ``end`` of ``rows``: rows as :class:`Point` has them, by CPU and instruction."""
        self._number += 1
        out = np.zeros((len(rows), 3), dtype=np.int64)
        self._others = np.zeros(len(rows), dtype=np.int64)
        number, last = i64(self._number), i64(len(rows) if end is None else end)
        found = _points(rows, self._tables, number, self._key, self._stamp, self._held, self._others, out, last)
        found_rows = out[:found]
        found_rows = found_rows[np.lexsort((found_rows[:, 1], found_rows[:, 0]))]
        first = np.flatnonzero(np.diff(found_rows[:, :2], axis=0, prepend=-1).any(axis=1))
        if len(first):
            found_rows[first, 2] = np.bitwise_or.reduceat(found_rows[:, 2], first)
        return found_rows[first]

    def late(self, rows: Ints, end: int | None = None) -> list[tuple[Point, tuple[int, ...]]]:
        """Where a store that comes late can matter: behind an access, with the stores in front of it that come later.

        ``rows`` and ``end`` are those of the last :meth:`of`. Stores are named by how many instructions their CPU has
        executed before. Each of the last _BUFFERED is late alone, and all of them are.
        """
        out = np.zeros((len(rows), 3 + _BUFFERED), dtype=np.int64)
        found: dict[tuple[Point, tuple[int, ...]], None] = {}
        for cpu, when, others, *stores in out[: _late(rows[:end], self._others, out)].tolist():
            late = tuple(dict.fromkeys(store for store in stores if store not in (-1, when - 1)))
            for one in late if len(late) > 1 else ():
                found[Point(cpu, when, others), (one,)] = None
            if late:
                found[Point(cpu, when, others), late] = None
        return list(found)


@allocating
def _late(rows: Ints, matters: Ints, out: Ints) -> i64:
    """Per access to which it matters: CPU, instructions executed with it, bits of others, and stores before it."""
    buffers = np.full((CPUS, _BUFFERED, 4), -1, dtype=np.int64)  # first address, last, others, when
    found = i64(0)
    for row in range(len(rows)):
        what, bits = rows[row, WHAT] & 0xFF, rows[row, WHAT] >> 8 & 0xFF
        size, cpu = rows[row, WHAT] >> 16 & 0xFFFF, rows[row, WHAT] >> 32
        releases = what == WRITE and bits & RELEASES
        if what in (BARRIER, DROP, FLUSH) or releases:
            buffers[cpu, :, 3] = -1
        if what not in (READ, WRITE) or not matters[row] or releases:
            continue
        first = rows[row, ADDRESS]
        any_late = False
        for at in range(_BUFFERED):
            one = buffers[cpu, at]
            apart = one[3] >= 0 and (first + size <= one[0] or one[1] <= first) and one[2] & matters[row]
            out[found, 3 + at] = one[3] if apart else -1
            any_late = any_late or apart
        if any_late:
            out[found, 0] = cpu
            out[found, 1] = rows[row, WHEN] + 1
            out[found, 2] = matters[row]
            found += 1
        if what == WRITE and size <= 8 and not bits & ATOMIC:
            for at in range(1, _BUFFERED):
                buffers[cpu, at - 1, :] = buffers[cpu, at, :]
            buffers[cpu, _BUFFERED - 1, 0] = first
            buffers[cpu, _BUFFERED - 1, 1] = first + size
            buffers[cpu, _BUFFERED - 1, 2] = matters[row]
            buffers[cpu, _BUFFERED - 1, 3] = rows[row, WHEN]
    return found


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


@allocating
def _points(
    rows: Ints, tables: Ints, number: i64, keys: Ints, stamp: Ints, held: Any, matters: Ints, out: Ints, last: i64
) -> i64:
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
            lock = address & -4
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
            else:
                holds[cpu, 0] &= ~bit
                holds[cpu, 1] &= ~bit
        masks[row, 0] = holds[cpu, 0]
        masks[row, 1] = holds[cpu, 1]
    later = i64(0)
    for row in range(len(rows) - 1, -1, -1):
        what = rows[row, WHAT] & 0xFF
        cpu = rows[row, WHAT] >> 32
        address = rows[row, ADDRESS]
        later |= i64(1) << cpu
        if what in (DROP, RCU, BARRIER):
            continue
        others = i64(0)
        when = rows[row, WHEN]
        if what == FLUSH:
            at = _slot(_TLB, number, keys, stamp, held)
            held[at, 6 * cpu + 5] = 1
            others = later & ~(i64(1) << cpu)
        elif what == TAKE:
            at = _slot(~(address & -4), number, keys, stamp, held)
            when = rows[row, VALUE]
            for other in range(CPUS):
                if other != cpu and (held[at, 6 * other + 5] or (held[at, 6 * other + 4] and not address & 1)):
                    others |= i64(1) << other
            held[at, 6 * cpu + (4 if address & 1 else 5)] = 1
        else:
            writes = what != READ
            if what == WRITE and tables[0] <= address < tables[1]:
                at = _slot(_TLB, number, keys, stamp, held)
                for other in range(CPUS):
                    if other != cpu and held[at, 6 * other + 5] and rows[row, VALUE] == 0:
                        others |= i64(1) << other
            size = rows[row, VALUE] if what in (ALLOC, FREE) else rows[row, WHAT] >> 16 & 0xFFFF
            for granule in range(address & -8, address + size, 8):
                at = _slot(i64(granule), number, keys, stamp, held)
                for other in range(CPUS):
                    if other == cpu or what == ALLOC:
                        continue
                    first = 6 * other + (0 if writes else 2)
                    there = held[at, 6 * other + (4 if writes else 5)]
                    apart = masks[row, 1] & held[at, first] | masks[row, 0] & held[at, first + 1]
                    if there and not apart:
                        others |= i64(1) << other
                held[at, 6 * cpu] &= masks[row, 0]
                held[at, 6 * cpu + 1] &= masks[row, 1]
                held[at, 6 * cpu + 4] = 1
                if writes:
                    held[at, 6 * cpu + 2] &= masks[row, 0]
                    held[at, 6 * cpu + 3] &= masks[row, 1]
                    held[at, 6 * cpu + 5] = 1
        matters[row] = others
        if others and row < last:
            out[found, 0] = cpu
            out[found, 1] = when
            out[found, 2] = others
            found += 1
    return found
