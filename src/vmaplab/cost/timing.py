# SPDX-License-Identifier: GPL-2.0-only
"""The time of a trace on a core: a scoreboard for cores that execute in order, a window for those that do not.

Times are cycles. What is not modelled: fetching and decoding beyond ``width``, the instruction cache, misses of the
TLBs, bandwidth between caches, other agents, and interrupts.
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
    P_BUS,
    P_FORWARD,
) = range(15)
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
    K_SYNC_STORES,
    K_ORDER_STORES,
) = range(21)

SKIPPED, TIMED = -1, 0
"""Of a block: it is none of the kernel's; it is timed. What is greater are the cycles of what stands for it."""

LINE_SHIFT = 6
RING = 1 << 13
"""Cycles of which the use of pipes is known."""
HISTORY = 12
PREDICTOR = 1 << HISTORY
STREAMS = 16
FORWARD = 1 << 10
"""Words of which is known when they were stored last."""
# What has been so far, by places: branches, streams, a clock of uses, misses, and when memory has sent its last line.
S_HISTORY, S_STREAM, S_STAMP, S_MISSES, S_BUS = range(5)


@jit
def access(
    address: int,
    now: int,
    params: Ints,
    lines: Ints,
    stamps: Ints,
    arrives: Ints,
    streams: Ints,
    fetched: Ints,
    state: Ints,
) -> int:
    """When an access at ``now`` has what it wants; the line is in all caches then.

    :param fetched: when each of the lines that can be fetched at the same time is there.
    """
    line = address >> LINE_SHIFT
    state[S_STAMP] += 1
    slot = find(line, 0, params, lines, stamps, state)
    if slot >= 0:
        ready = max(now + params[P_LEVEL + 2], arrives[slot])
    else:
        place = state[S_MISSES] % params[P_MISSES]
        state[S_MISSES] += 1
        ready = fetch(line, max(now, fetched[place]), params, lines, stamps, arrives, state)
        fetched[place] = ready
    if params[P_AHEAD]:
        stream = -1
        for one in range(STREAMS):
            if streams[one] == line or streams[one] == line - 1:
                stream = one
                break
        if stream >= 0 and streams[stream] != line:
            for ahead in range(1, params[P_AHEAD] + 1):
                if find(line + ahead, 0, params, lines, stamps, state) < 0:
                    fetch(line + ahead, now, params, lines, stamps, arrives, state)
            streams[stream] = line
        elif stream < 0 and slot < 0:
            streams[state[S_STREAM] % STREAMS] = line
            state[S_STREAM] += 1
    return int(ready)


@jit
def fetch(line: int, now: int, params: Ints, lines: Ints, stamps: Ints, arrives: Ints, state: Ints) -> int:
    """When a line that L1 does not have is there, from the nearest level that has it; it is in those before it then."""
    levels = params[P_LEVELS]
    found, ready = levels, 0
    for level in range(1, levels):
        slot = find(line, level, params, lines, stamps, state)
        if slot >= 0:
            found, ready = level, max(now + params[P_LEVEL + 4 * level + 2], arrives[slot])
            break
    if found == levels:
        ready = max(now + params[P_MEMORY], state[S_BUS] + params[P_BUS])
        state[S_BUS] = ready
    for level in range(found):
        fill(line, level, ready, params, lines, stamps, arrives, state)
    return int(ready)


@jit
def find(line: int, level: int, params: Ints, lines: Ints, stamps: Ints, state: Ints) -> int:
    """Where a level of cache has a line, which is the one used last then; -1 if it has not."""
    at = P_LEVEL + 4 * level
    start = params[at + 3] + (line % params[at]) * params[at + 1]
    for way in range(start, start + params[at + 1]):
        if lines[way] == line:
            stamps[way] = state[S_STAMP]
            return int(way)
    return -1


@jit
def fill(
    line: int, level: int, ready: int, params: Ints, lines: Ints, stamps: Ints, arrives: Ints, state: Ints
) -> None:
    """Put a line that comes at ``ready`` into a level of cache, in place of the one whose use is longest ago."""
    at = P_LEVEL + 4 * level
    start = params[at + 3] + (line % params[at]) * params[at + 1]
    oldest = start
    for way in range(start, start + params[at + 1]):
        if lines[way] == line:
            return
        if stamps[way] < stamps[oldest]:
            oldest = way
    lines[oldest], stamps[oldest], arrives[oldest] = line, state[S_STAMP], ready


@jit
def warm(wanted: Ints, params: Ints, lines: Ints, stamps: Ints, arrives: Ints, state: Ints) -> None:
    """Put lines into the last level of cache."""
    for line in wanted:
        state[S_STAMP] += 1
        fill(line, params[P_LEVELS] - 1, 0, params, lines, stamps, arrives, state)


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
def is_slow(kind: int) -> bool:
    """Whether nothing begins beside an operation, in order."""
    return bool(K_SYNC <= kind <= K_SYSTEM or kind in (K_SYNC_STORES, K_ORDER_STORES))


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
    arrives: Ints,
    streams: Ints,
    counters: Ints,
    targets: Ints,
    state: Ints,
    ready: Ints,
    why: Ints,
    window: Ints,
    fetched: Ints,
    drained: Ints,
    forward: Ints,
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
    number = stored = merged = fence = 0
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
                causes[ISSUE] += max(now - retired, 0)
                now = max(now, retired) + treated[block]
                retired, retiring, slots = now, 0, 0
            causes[ANSWERED] += treated[block]
            functions[owners[block]] += (now if in_order else retired) - before
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
            line = accesses[taken] >> LINE_SHIFT if taken < last else -1
            if kind in (K_SYNC, K_SYNC_STORES):
                at = max(at, drain, 0 if in_order else retired)
                at = max(at, loaded) if kind == K_SYNC else at
                delay, cause = params[P_SYNC], BARRIERS
            elif kind == K_FLUSH:
                at = max(at, 0 if in_order else retired)
                delay, cause = params[P_FLUSH], BARRIERS
            elif kind == K_ORDER:
                at = max(at, loaded)
                delay, cause = params[P_ORDER], BARRIERS
                fence = max(fence, at + delay)
            elif kind == K_ORDER_STORES:  # they are written in their order anyway
                delay, cause = params[P_ORDER] if in_order else 1, BARRIERS
            elif kind == K_SYSTEM:
                at = max(at, 0 if in_order else retired)
                delay, cause = params[P_SYSTEM], SPECIAL
            elif kind in (K_LOAD, K_STORE, K_ATOMIC):
                if fence > at:
                    at, cause = fence, BARRIERS
                if kind != K_LOAD and (not in_order or line != merged):
                    free = drained[stored % params[P_STORES]]
                    if free > at:
                        at, cause = free, STORES
            needed = busy[kind] * max(counts[o], 1) if kind == K_LOAD else busy[kind]
            placed = place(group[kind], at, needed, pipes, used, cycles)
            if placed > at:
                at = placed
            result = cause
            if kind in (K_LOAD, K_STORE, K_ATOMIC):
                nearest = at + params[P_LEVEL + 2]
                value = nearest
                for _ in range(counts[o]):
                    if taken < last:
                        address = accesses[taken]
                        taken += 1
                        value = max(value, access(address, at, params, lines, stamps, arrives, streams, fetched, state))
                        word = (address >> 3) % FORWARD
                        if kind == K_STORE:
                            forward[word, 0], forward[word, 1] = address >> 3, at + 1
                        elif forward[word, 0] == address >> 3:
                            value = max(value, forward[word, 1] + params[P_FORWARD])
                if kind == K_LOAD:
                    delay = max(delay, value - at)
                    result = LOADS
                    loaded = max(loaded, at + delay)
                elif kind == K_ATOMIC:
                    delay, result, cause = value - at + params[P_ATOMIC], SPECIAL, SPECIAL
                    loaded = max(loaded, at + delay)
                if kind != K_LOAD:
                    drain = max(drain + (line != merged), at + 1 + value - nearest, 0 if in_order else retired + 1)
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
                if is_slow(kind):
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
                if is_slow(kind) and kind != K_ATOMIC and kind != K_ORDER and kind != K_ORDER_STORES:
                    now, slots, redirect, held = done, 0, done, cause
            if K_COND <= kind <= K_RET and o == bounds[block + 1] - 1 and n + 1 < len(blocks):
                target = starts[blocks[n + 1]]
                if mispredicted(kind, after[block], after[block], target, counters, targets, state):
                    known = at + 1 + params[P_MISPREDICT]
                    if in_order:
                        causes[BRANCHES] += known - now
                    if known > now:
                        now, slots, redirect, held = known, 0, known, BRANCHES
        while taken < last:  # of instructions that make more than is said of them
            access(accesses[taken], now, params, lines, stamps, arrives, streams, fetched, state)
            taken += 1
        functions[owners[block]] += (now if in_order else retired) - before
    return max(now + 1, done_all) if in_order else retired
