# SPDX-License-Identifier: GPL-2.0-only
"""The time of a trace on a core: a scoreboard for cores that execute in order, a window for those that do not.

Times are cycles. What is not modelled: fetching and decoding beyond ``width``, the instruction cache, bandwidth between
caches, other agents, and interrupts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vmaplab._jit import jit
from vmaplab.trace import Ints

# Of a core, by their places in an array.
(
    P_WIDTH,
    P_WINDOW,
    P_MISPREDICT,
    P_MEMORY,
    P_MISSES,
    P_STORES,
    P_AHEAD,
    P_SYNC,
    P_ORDER,
    P_FLUSH,
    P_ATOMIC,
    P_SYSTEM,
    P_LEVELS,
) = range(13)
P_LEVEL = 16
"""From here on four words a level of cache: sets, ways, latency, where its lines begin in the array of all."""

# What cycles go into.
ISSUE, LOADS, STORES, BARRIERS, BRANCHES, SPECIAL, ANSWERED = range(7)
CAUSES = 7

# Of operations: kinds as in :class:`vmaplab.cost.isa.base.Kind`.
(
    K_ALU,
    K_SHIFT,
    K_MUL,
    K_DIV,
    K_LOAD,
    K_STORE,
    K_COND,
    K_JUMP,
    K_CALL,
    K_INDIRECT,
    K_RET,
    K_SYNC,
    K_ORDER,
    K_FLUSH,
    K_ATOMIC,
    K_SYSTEM,
    K_NOP,
    K_VECTOR,
    K_STATUS,
) = range(19)

SKIPPED, TIMED = -1, 0
"""Of a block: it is none of the kernel's; it is timed. What is greater are the cycles of what stands for it."""

LINE_SHIFT = 6
RING = 1 << 13
"""Cycles of which the use of pipes is known."""
HISTORY = 12
PREDICTOR = 1 << HISTORY
STREAMS = 16
# Of the predictor's state, by their places: history, and the next entry of the streams.
S_HISTORY, S_STREAM, S_STAMP = range(3)


@jit
def access(address: int, params: Ints, lines: Ints, stamps: Ints, streams: Ints, state: Ints) -> int:
    """Cycles until a load of ``address`` has its value; the line is in all caches then."""
    line = address >> LINE_SHIFT
    levels = params[P_LEVELS]
    state[S_STAMP] += 1
    found = levels
    for level in range(levels):
        if find(line, level, params, lines, stamps, state):
            found = level
            break
    for level in range(found):
        fill(line, level, params, lines, stamps, state)
    if params[P_AHEAD]:
        stream = -1
        for one in range(STREAMS):
            if streams[one] == line or streams[one] == line - 1:
                stream = one
                break
        if stream >= 0 and streams[stream] != line:
            for ahead in range(1, params[P_AHEAD] + 1):
                for level in range(levels):
                    fill(line + ahead, level, params, lines, stamps, state)
            streams[stream] = line
        elif stream < 0 and found:
            streams[state[S_STREAM] % STREAMS] = line
            state[S_STREAM] += 1
    return int(params[P_MEMORY] if found == levels else params[P_LEVEL + 4 * found + 2])


@jit
def find(line: int, level: int, params: Ints, lines: Ints, stamps: Ints, state: Ints) -> bool:
    """Whether a level of cache has a line; it is the one used last then."""
    at = P_LEVEL + 4 * level
    start = params[at + 3] + (line % params[at]) * params[at + 1]
    for way in range(start, start + params[at + 1]):
        if lines[way] == line:
            stamps[way] = state[S_STAMP]
            return True
    return False


@jit
def fill(line: int, level: int, params: Ints, lines: Ints, stamps: Ints, state: Ints) -> None:
    """Put a line into a level of cache, in place of the one whose use is longest ago."""
    at = P_LEVEL + 4 * level
    start = params[at + 3] + (line % params[at]) * params[at + 1]
    oldest = start
    for way in range(start, start + params[at + 1]):
        if lines[way] == line:
            return
        if stamps[way] < stamps[oldest]:
            oldest = way
    lines[oldest], stamps[oldest] = line, state[S_STAMP]


@jit
def warm(wanted: Ints, params: Ints, lines: Ints, stamps: Ints, state: Ints) -> None:
    """Put lines into the last level of cache."""
    for line in wanted:
        fill(line, params[P_LEVELS] - 1, params, lines, stamps, state)


@jit
def place(group: int, at: int, busy: int, counts: Ints, used: Ints, cycles: Ints) -> int:
    """The first cycle from ``at`` on in which a pipe of the group is free; it is taken from there on."""
    while True:
        free = True
        for cycle in range(at, at + busy):
            slot = cycle % RING
            if cycles[group, slot] == cycle and used[group, slot] >= counts[group]:
                free, at = False, cycle + 1
                break
        if free:
            break
    for cycle in range(at, at + min(busy, RING)):
        slot = cycle % RING
        if cycles[group, slot] != cycle:
            cycles[group, slot], used[group, slot] = cycle, 0
        used[group, slot] += 1
    return at


@jit
def mispredicted(kind: int, address: int, after: int, target: int, counters: Ints, targets: Ints, state: Ints) -> bool:
    """Whether a branch goes elsewhere than was foretold: two-bit counters by address and history, last targets."""
    if kind == K_COND:
        taken = target != after
        at = ((address >> 1) ^ state[S_HISTORY]) % PREDICTOR
        wrong = (counters[at] >= 2) != taken
        counters[at] = min(counters[at] + 1, 3) if taken else max(counters[at] - 1, 0)
        state[S_HISTORY] = (state[S_HISTORY] << 1 | taken) % PREDICTOR
        return bool(wrong)
    if kind == K_INDIRECT:
        at = (address >> 1) % PREDICTOR
        wrong = targets[at] != target
        targets[at] = target
        return bool(wrong)
    return False


@jit
def run(
    blocks: NDArray[np.uint32],
    first: Ints,
    accesses: Ints,
    bounds: Ints,
    kinds: NDArray[np.int8],
    reads: NDArray[np.int8],
    writes: NDArray[np.int8],
    counts: NDArray[np.int8],
    starts: Ints,
    after: Ints,
    treated: Ints,
    owners: Ints,
    params: Ints,
    latency: Ints,
    group: Ints,
    busy: Ints,
    pipes: Ints,
    used: Ints,
    cycles: Ints,
    lines: Ints,
    stamps: Ints,
    streams: Ints,
    counters: Ints,
    targets: Ints,
    state: Ints,
    ready: Ints,
    why: Ints,
    window: Ints,
    fetched: Ints,
    drained: Ints,
    causes: Ints,
    functions: Ints,
) -> int:
    """The cycles of a trace.

    :param blocks: as of :class:`.Executed`, with ``first`` and ``accesses``; ``bounds`` to ``after``: as of
        :class:`.Decoded`.
    :param treated: of each block SKIPPED, TIMED, or cycles; ``owners``: number of its function.
    :param params: the core, ``P_*``; ``latency``, ``group``, ``busy`` by kind; ``pipes``: how many are in a group.
    :param used: scratch, as all that follows: use of pipes, caches, predictor, registers, window, misses, stores.
    :param causes: cycles by cause, and ``functions``: by function; added to.
    """
    in_order = params[P_WINDOW] == 0
    width = params[P_WIDTH]
    now = slots = 0  # in order: the cycle of issue; else of dispatch
    retired = retiring = 0  # the cycle in which the last operation has retired, and how many in it
    drain = loaded = done_all = 0  # when the last store is written, the last load is back, everything is done
    redirect = 0  # until when dispatch has waited for a branch
    held = ISSUE  # what dispatch waits for
    number = stored = missed = merged = 0
    for n in range(len(blocks)):
        block = blocks[n]
        before = now if in_order else retired
        taken, last = first[n], first[n + 1]
        if treated[block] == SKIPPED:
            continue
        if treated[block] > TIMED:
            if in_order:
                now, slots = now + treated[block], 0
            else:
                now = max(now, retired) + treated[block]
                retired, retiring, slots = now, 0, 0
            causes[ANSWERED] += treated[block]
            functions[owners[block]] += treated[block]
            continue
        for o in range(bounds[block], bounds[block + 1]):
            kind = kinds[o]
            if slots == width:
                now, slots = now + 1, 0
                if in_order:
                    causes[ISSUE] += 1
            begun = now
            if not in_order:
                oldest = window[number % params[P_WINDOW]]
                if oldest > now:
                    now, slots, begun = oldest, 0, oldest
            at, cause = begun, ISSUE
            for r in range(4):
                register = reads[o, r]
                if ready[register] > at:
                    at, cause = ready[register], why[register]
            if not in_order and cause == ISSUE and redirect >= begun:
                cause = held
            delay = latency[kind]
            if kind == K_SYNC:
                at = max(at, drain, loaded, 0 if in_order else done_all)
                delay, cause = params[P_SYNC], BARRIERS
            elif kind == K_FLUSH:
                at = max(at, 0 if in_order else retired)
                delay, cause = params[P_FLUSH], BARRIERS
            elif kind == K_ORDER:
                at = max(at, loaded)
                delay, cause = params[P_ORDER], BARRIERS
            elif kind == K_SYSTEM:
                at = max(at, 0 if in_order else retired)
                delay, cause = params[P_SYSTEM], SPECIAL
            elif kind in (K_STORE, K_ATOMIC):
                free = drained[stored % params[P_STORES]]
                if free > at:
                    at, cause = free, STORES
            needed = busy[kind] * max(counts[o], 1) if kind == K_LOAD else busy[kind]
            placed = place(group[kind], at, needed, pipes, used, cycles)
            if placed > at:
                at = placed
            result = cause
            if kind in (K_LOAD, K_STORE, K_ATOMIC):
                wait = 0
                for _ in range(counts[o]):
                    if taken < last:
                        wait = max(wait, access(accesses[taken], params, lines, stamps, streams, state))
                        taken += 1
                nearest = params[P_LEVEL + 2]
                if wait > nearest:
                    free = fetched[missed % params[P_MISSES]]
                    if free > at and kind != K_STORE:
                        at, cause = free, LOADS
                    fetched[missed % params[P_MISSES]] = max(at, free) + wait
                    missed += 1
                if kind == K_LOAD:
                    delay = max(delay, wait)
                    result = LOADS
                    loaded = max(loaded, at + delay)
                elif kind == K_ATOMIC:
                    delay, result, cause = max(wait, nearest) + params[P_ATOMIC], SPECIAL, SPECIAL
                    loaded = max(loaded, at + delay)
                if kind != K_LOAD:
                    line = accesses[taken - 1] >> LINE_SHIFT if taken else 0
                    drain = max(
                        drain + (line != merged), at + 1 + max(wait - nearest, 0), 0 if in_order else retired + 1
                    )
                    stored += not in_order or line != merged  # in order, stores to a line wait in one place
                    merged = line
                    drained[(stored - 1) % params[P_STORES]] = drain
            done = at + delay
            done_all = max(done_all, done)
            for w in range(2):
                ready[writes[o, w]] = done
                why[writes[o, w]] = result
            ready[len(ready) - 1] = 0
            if in_order:
                if at > now:
                    causes[cause] += at - now
                    now, slots = at, 0
                slots += 1
                if kind in (K_SYNC, K_FLUSH, K_SYSTEM, K_ATOMIC, K_ORDER):
                    causes[cause] += delay
                    now, slots = done, 0
            else:
                slots += 1
                number += 1
                if done > retired:
                    causes[LOADS if kind == K_LOAD and cause == ISSUE and delay > 1 else cause] += done - retired
                    retired, retiring = done, 0
                elif retiring == width:
                    causes[ISSUE] += 1
                    retired, retiring = retired + 1, 0
                retiring += 1
                window[(number - 1) % params[P_WINDOW]] = retired
                if kind in (K_SYNC, K_FLUSH, K_SYSTEM):
                    now, slots, redirect, held = done, 0, done, cause
            if K_COND <= kind <= K_RET and o == bounds[block + 1] - 1 and n + 1 < len(blocks):
                target = starts[blocks[n + 1]]
                if mispredicted(kind, after[block], after[block], target, counters, targets, state):
                    known = at + 1 + params[P_MISPREDICT]
                    if in_order:
                        causes[BRANCHES] += known - now
                    if known > now:
                        now, slots, redirect, held = known, 0, known, BRANCHES
        functions[owners[block]] += (now if in_order else retired) - before
    return max(now + 1, done_all) if in_order else retired
