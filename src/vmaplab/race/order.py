# SPDX-License-Identifier: GPL-2.0-only
"""Which accesses nothing keeps apart: happens-before by vector clocks, as in FastTrack (Flanagan and Freund, 2009).

Two accesses to the same bytes by two CPUs, one of them a write, are a race if no chain of locks and of marked accesses
leads from one to the other. Both plain: neither can rely on what it sees. A plain read and a marked write: as KCSAN
reports it by default. Two marked ones are none; entries of page tables, which the MMU of every CPU reads, count as
marked. A store tells of what a barrier is before, or of all, if it is a release or the CPU keeps its stores in order:
who reads a plain one races with it, and is in order from there on. Memory that is allocated as zeroes is written then,
by who allocates it: also a page table.

What is freed must not be touched: not after it, and not before it without such a chain. What is freed after a grace
period may be touched by readers whose section had begun before. And what rcu_assign_pointer() or its like has published
is not written plainly any more without a lock: whoever finds it may read that at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab._jit import allocating, jit
from vmaplab.object.family import ATOMIC, MARKED, RELEASES
from vmaplab.race.hooks import (
    ADDRESS,
    ALLOC,
    BARRIER,
    CPUS,
    DROP,
    FLUSH,
    FREE,
    PLACE,
    RCU,
    READ,
    TAKE,
    VALUE,
    WHAT,
    WRITE,
)
from vmaplab.race.slots import SLOTS, slot
from vmaplab.trace import Ints

i64 = np.int64

PLAIN, MIXED, AFTER_FREE, AT_FREE, PUBLISHED, UNSEEN = range(6)
"""What is wrong with two rows: neither is marked; a plain read and a marked write; the second touches what the first
has freed; the second frees what the first, without an order between them, has used; the second writes plainly, without
any lock, to what the first has made reachable for readers; the second reads, without an order between them, what the
first has allocated, and may not see its zeroes."""

AFTER_GRACE = ZEROED = 1
"""In the place of bits of an instruction: of memory that is freed, readers may still use it; of memory that is
allocated, it was filled with zeroes."""

_MOST = 64
_WAYS = 4  # plain read, marked read, plain write, marked write


class _Room(NamedTuple):
    """What is known of each slot in a log.

    :param key: of the slot; ``stamp``: the number of the log that took it.
    :param last: per CPU the last row of each way of access, or -1.
    :param clocks: what a release told; ``shared``: what those told that shared a lock.
    :param freed: the row that freed the memory, or -1; ``made``: that allocated it.
    """

    key: Ints
    stamp: Ints
    last: NDArray[np.int32]
    clocks: NDArray[np.int32]
    shared: NDArray[np.int32]
    freed: NDArray[np.int32]
    made: NDArray[np.int32]


class Order:
    """Looks at logs; keeps its room from one to the next.

    :param tables: first address of the page tables, and the one behind them.
    :param in_order: all CPUs see the stores of one in their order.
    """

    def __init__(self, tables: tuple[int, int], in_order: bool) -> None:
        self._in_order = in_order
        self._tables = np.array(tables, dtype=np.uint64).view(np.int64)
        self._room = _Room(
            key=np.zeros(SLOTS, dtype=np.int64),
            stamp=np.zeros(SLOTS, dtype=np.int64),
            last=np.zeros((SLOTS, CPUS * _WAYS), dtype=np.int32),
            clocks=np.zeros((SLOTS, CPUS), dtype=np.int32),
            shared=np.zeros((SLOTS, CPUS), dtype=np.int32),
            freed=np.zeros(SLOTS, dtype=np.int32),
            made=np.zeros(SLOTS, dtype=np.int32),
        )
        self._out = np.zeros((_MOST, 3), dtype=np.int64)
        self._number = 0

    def look(self, rows: Ints) -> Ints:
        """What is wrong with ``rows``, once for each pair of instructions: shape (n, 3), kind and two rows."""
        self._number += 1
        found = _look(rows, self._tables, self._in_order, i64(self._number), self._room, self._out)
        return self._out[:found].copy()


@jit
def _slot(key: i64, number: i64, room: _Room) -> i64:
    """Where what is known of ``key`` is."""
    at, is_new = slot(key, number, room.key, room.stamp)
    if is_new:
        room.last[at, :] = -1
        room.clocks[at, :] = 0
        room.shared[at, :] = 0
        room.freed[at] = -1
        room.made[at] = -1
    return at


@jit
def _tell(out: Ints, found: i64, rows: Ints, kind: i64, first: i64, second: i64) -> i64:
    """Add a finding, unless one of the same two instructions is there."""
    for at in range(found):
        if (
            out[at, 0] == kind
            and rows[out[at, 1], PLACE] == rows[first, PLACE]
            and rows[out[at, 2], PLACE] == rows[second, PLACE]
        ):
            return found
    if found < _MOST:
        out[found, 0] = kind
        out[found, 1] = first
        out[found, 2] = second
        return found + 1
    return found


@allocating
def _look(rows: Ints, tables: Ints, in_order: bool, number: i64, room: _Room, out: Ints) -> i64:
    last, clocks, shared, freed, made = room.last, room.clocks, room.shared, room.freed, room.made
    now = np.zeros((CPUS, CPUS), dtype=np.int32)
    before_barrier = np.zeros((CPUS, CPUS), dtype=np.int32)
    epoch = np.zeros(len(rows), dtype=np.int32)
    section = np.full(CPUS, -1, dtype=np.int64)
    held = np.zeros(CPUS, dtype=np.int64)
    published = np.full(len(rows), -1, dtype=np.int32)
    found = i64(0)
    for cpu in range(CPUS):
        now[cpu, cpu] = 1
    for row in range(len(rows)):
        what = rows[row, WHAT] & 0xFF
        bits = rows[row, WHAT] >> 8 & 0xFF
        size = rows[row, WHAT] >> 16 & 0xFFFF
        cpu = rows[row, WHAT] >> 32
        address = rows[row, ADDRESS]
        epoch[row] = now[cpu, cpu]
        if what in (TAKE, DROP):
            held[cpu] += 1 if what == TAKE else -1
            shares = address & 1
            at = _slot(~(address & -4), number, room)
            for other in range(CPUS):
                if what == TAKE:
                    now[cpu, other] = max(now[cpu, other], clocks[at, other])
                    if not shares:
                        now[cpu, other] = max(now[cpu, other], shared[at, other])
                elif shares:
                    shared[at, other] = max(shared[at, other], now[cpu, other])
                else:
                    clocks[at, other] = now[cpu, other]
            if what == DROP:
                now[cpu, cpu] += 1
            continue
        if what in (BARRIER, FLUSH):
            before_barrier[cpu, :] = now[cpu, :]
            now[cpu, cpu] += 1
            continue
        if what == RCU:
            if address == 0:
                section[cpu] = -1
            elif section[cpu] < 0:
                section[cpu] = row
            continue
        if what in (ALLOC, FREE):
            first = address & -8
            for granule in range(first, address + rows[row, VALUE], 8):
                at = _slot(i64(granule), number, room)
                if what == ALLOC:
                    freed[at] = -1
                    made[at] = row
                    last[at, :] = -1
                    if bits & ZEROED:
                        last[at, cpu * _WAYS + 2] = row
                    continue
                freed[at] = row
                if bits == AFTER_GRACE:
                    continue
                for other in range(CPUS):
                    for way in range(_WAYS):
                        before = last[at, other * _WAYS + way]
                        if other != cpu and before >= 0 and epoch[before] > now[cpu, other]:
                            found = _tell(out, found, rows, i64(AT_FREE), i64(before), i64(row))
            continue
        in_table = tables[0] <= address < tables[1]
        marked = bits & MARKED != 0 or in_table
        way = (2 if what == WRITE else 0) + (1 if marked else 0)
        for granule in range(address & -8, address + size, 8):
            at = _slot(i64(granule), number, room)
            if freed[at] >= 0:
                grace = rows[freed[at], WHAT] >> 8 & 0xFF == i64(AFTER_GRACE)
                if not (grace and 0 <= section[cpu] < freed[at]):
                    found = _tell(out, found, rows, i64(AFTER_FREE), i64(freed[at]), i64(row))
            if what == WRITE and not marked and made[at] >= 0 and published[made[at]] >= 0 and held[cpu] == 0:
                found = _tell(out, found, rows, i64(PUBLISHED), i64(published[made[at]]), i64(row))
            if what == READ and marked:
                for other in range(CPUS):
                    now[cpu, other] = max(now[cpu, other], clocks[at, other])
            for other in range(CPUS):
                if other == cpu:
                    continue
                for their in range(_WAYS):
                    before = last[at, other * _WAYS + their]
                    if before < 0 or epoch[before] <= now[cpu, other]:
                        continue
                    if way < 2 and their < 2:
                        continue
                    if rows[before, WHAT] & 0xFF == ALLOC:
                        found = _tell(out, found, rows, i64(UNSEEN), i64(before), i64(row))
                        continue
                    if way & 1 and their & 1:
                        continue
                    if (way & 1) != (their & 1) and not ((way == 0 and their == 3) or (way == 3 and their == 0)):
                        continue
                    start = rows[before, ADDRESS]
                    if start >= address + size or address >= start + (rows[before, WHAT] >> 16 & 0xFFFF):
                        continue
                    kind = MIXED if (way & 1) != (their & 1) else PLAIN
                    found = _tell(out, found, rows, i64(kind), i64(before), i64(row))
            last[at, cpu * _WAYS + way] = row
            if what == READ and not marked:
                for other in range(CPUS):
                    now[cpu, other] = max(now[cpu, other], clocks[at, other])
            if what == WRITE:
                releases = bits & RELEASES != 0 or in_order
                joins = bits & ATOMIC != 0
                for other in range(CPUS):
                    mine = now[cpu, other] if releases else before_barrier[cpu, other]
                    clocks[at, other] = max(mine, clocks[at, other]) if joins else mine
                if releases:
                    now[cpu, cpu] += 1
        if what == WRITE and bits & RELEASES and not in_table and size == 8:
            at = _slot(rows[row, VALUE] & -8, number, room)
            if made[at] >= 0 and published[made[at]] < 0:
                published[made[at]] = row
    return found
