# SPDX-License-Identifier: GPL-2.0-only
"""What Unicorn calls at each instruction and access of a :class:`.Stepper`, compiled, and the log that it writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import unicorn

from vmaplab._jit import callback
from vmaplab.object.family import FENCE, RELEASES
from vmaplab.object.hooks import NATIVE_ACCESS, NATIVE_BLOCK, carray, read_memory, stop

CPUS = 4
"""CPUs that can call at the same time: VMAPLAB_TASKS of support/ and one more."""

READ, WRITE, TAKE, DROP, RCU, ALLOC, FREE, BARRIER, FLUSH = range(9)
"""What a row of the log is: an access, a lock that was taken or is about to be released, how deep RCU readers' sections
are nested now, memory that was allocated or freed, a barrier between stores, a TLB flush."""

WHAT, PLACE, ADDRESS, WHEN, VALUE, OLD = range(6)
"""Columns of the log. WHAT: the kind, 256 times the bits of its instruction (:mod:`.marks`), 2^16 times the bytes, 2^32
times the CPU. PLACE: the instruction; of a lock that is taken, what the function that takes it returns to. ADDRESS:
of a lock with 1 where it is shared, and 2 where it was only tried. WHEN: instructions that its CPU has executed
before it. VALUE: what was stored, or the size of the memory; of a lock, instructions that its CPU has executed
before it asked for it. OLD: what a store replaced, where :meth:`Stepper.run` was told to keep that."""
COLUMNS = 6

(
    H_LEFT,
    H_DONE,
    H_AT,
    H_ROWS,
    H_ROOM,
    H_STACKS,
    H_STACKS_END,
    H_TEXT,
    H_TEXT_BYTES,
    H_CPU,
    H_ON,
    H_TAKE,
    H_DROP,
    H_RCU,
    H_KINDS,
    H_TRAPPED,
    H_ENTERED,
    H_INSIDE,
    H_TRACED,
    H_TRACE,
    H_KEEP,
    H_FROM,
    H_BY,
) = range(23)
LOG = 23
TRACE_ROOM = 1 << 20
OURS = 1
"""A bit of an instruction beside those of :mod:`vmaplab.object.family`: it is of ``support/``, not the kernel's."""
TRAP = 1 << 7  # a bit of an instruction: the CPU stops there


@callback(NATIVE_BLOCK)
def on_instruction(uc: Any, address: int, _size: int, data: Any) -> None:
    """An instruction is next: stops the CPU before it where it has had its share, or at a trap."""
    head = carray(data, (LOG,), np.int64)
    offset = np.int64(address) - head[H_TEXT]
    kind = carray(data, (head[H_KINDS] + offset + 1,), np.uint8)[head[H_KINDS] + offset]
    if head[H_LEFT] == 0 and not (kind & OURS and head[H_INSIDE]):  # what stands for locks is not to be seen half done
        stop(uc)
        return
    if kind & OURS:
        if not head[H_INSIDE]:
            head[H_INSIDE], head[H_ENTERED] = 1, head[H_DONE]
    else:
        head[H_INSIDE] = 0
    if kind & TRAP:
        if head[H_TRAPPED] != 2:
            head[H_TRAPPED] = 1
            stop(uc)
            return
        head[H_TRAPPED] = 0
    if 0 <= head[H_TRACED] < TRACE_ROOM:
        carray(data, (head[H_TRACE] + TRACE_ROOM,), np.int64)[head[H_TRACE] + head[H_TRACED]] = np.int64(address)
        head[H_TRACED] += 1
    if head[H_LEFT] > 0:
        head[H_LEFT] -= 1
    head[H_DONE] += 1
    head[H_AT] = np.int64(address)
    if kind & FENCE and not kind & OURS and head[H_ON] and head[H_ROWS] < head[H_ROOM]:
        at = LOG + COLUMNS * head[H_ROWS]
        log = carray(data, (at + COLUMNS,), np.int64)
        log[at + WHAT] = np.int64(BARRIER) | head[H_CPU] << 32
        log[at + PLACE] = head[H_AT]
        log[at + ADDRESS] = 0
        log[at + WHEN] = head[H_DONE] - 1
        head[H_ROWS] += 1


@callback(NATIVE_ACCESS)
def on_access(uc: Any, access: int, address: int, size: int, value: int, data: Any) -> None:
    """Memory is read or written: goes to the log, as what it means for locks where ``support/`` tells of one."""
    head = carray(data, (LOG,), np.int64)
    if not head[H_ON]:
        return
    where = np.int64(address)
    if head[H_STACKS] <= where < head[H_STACKS_END]:
        return
    offset = head[H_AT] - head[H_TEXT]
    kinds = carray(data, (head[H_KINDS] + head[H_TEXT_BYTES],), np.uint8)
    bits = np.int64(kinds[head[H_KINDS] + offset]) if 0 <= offset < head[H_TEXT_BYTES] else np.int64(0)
    what = np.int64(WRITE) if access == unicorn.UC_MEM_WRITE else np.int64(READ)
    if bits & OURS and not bits & RELEASES:
        if what == READ:
            return
        if where == head[H_FROM]:
            head[H_BY] = np.int64(value)
            return
        if where == head[H_TAKE]:
            what = np.int64(TAKE)
        elif where == head[H_DROP]:
            what = np.int64(DROP)
        elif where == head[H_RCU]:
            what = np.int64(RCU)
        else:
            return
        where = np.int64(value)
    row = head[H_ROWS]
    if row < head[H_ROOM]:
        log = carray(data, (LOG + COLUMNS * (row + 1),), np.int64)
        at = LOG + COLUMNS * row
        log[at + WHAT] = what | bits << 8 | np.int64(size) << 16 | head[H_CPU] << 32
        log[at + PLACE] = head[H_BY] if what == TAKE else head[H_AT]
        log[at + ADDRESS] = where
        log[at + WHEN] = head[H_DONE] - 1
        log[at + VALUE] = value if what == WRITE else head[H_ENTERED]
        log[at + OLD] = 0
        if head[H_KEEP] and what == WRITE and size <= 8:
            read_memory(uc, address, log[at + OLD :].ctypes.data, size)
        head[H_ROWS] += 1
