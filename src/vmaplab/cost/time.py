# SPDX-License-Identifier: GPL-2.0-only
"""A trace on a core: cycles, and what they go into, at the ends and in the middle of what is assumed of the core."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vmaplab.cost import timing
from vmaplab.cost.core import Core, Corner
from vmaplab.cost.decode import KINDS, OWN, Decoded, decode
from vmaplab.cost.executed import Executed
from vmaplab.cost.isa.base import REGISTERS, Kind
from vmaplab.errors import InputError
from vmaplab.trace import Ints

CAUSES = ("issue", "loads", "stores", "barriers", "branches", "special", "allocation")
"""What cycles go into, in the order of ``timing``'s numbers: operations that are executed, or wait for others; loads;
stores; barriers; mispredicted branches; atomics and system registers; what the page and slab allocators take."""
_PAGES = re.compile(r"alloc_pages|get_free_page|get_zeroed_page")
_OBJECTS = re.compile(r"k[vmz]*alloc|kmem_cache_alloc|kfree|kmem_cache_free|kvfree|free_pages|free_unref|__free_page")


class Time(NamedTuple):
    """Of a trace, at one corner.

    :param cycles: of all.
    :param causes: cycles by cause, in the order of :data:`CAUSES`.
    :param functions: cycles by function.
    """

    cycles: int
    causes: tuple[int, ...]
    functions: dict[str, int]


@dataclass(frozen=True)
class Band:
    """Of a trace, at all corners.

    :param core: on which.
    """

    core: Core
    fast: Time
    usual: Time
    slow: Time

    def at(self, corner: Corner) -> Time:
        """The time at a corner."""
        return (self.fast, self.usual, self.slow)[corner]

    def us(self, corner: Corner = Corner.USUAL) -> float:
        """Microseconds."""
        return self.at(corner).cycles / self.core.mhz.at(corner)


class Situation(NamedTuple):
    """What the core is in, beside what it is.

    :param cold: nothing that the trace accesses is in a cache; else all is in the last level, as far as that has room.
    :param prefetch: whether the prefetcher is on.
    """

    cold: bool = False
    prefetch: bool = True


USUAL = Situation()


def band_of(executed: Executed, core: Core, situation: Situation = USUAL) -> Band:
    """The time of a trace on a core.

    :raises InputError: if it is a trace of another instruction set.
    """
    if executed.family != core.family:
        raise InputError(f"{core.title} does not execute {executed.family} code")
    decoded = decode(executed)
    return Band(core, *(time_of(executed, decoded, core, corner, situation) for corner in Corner))


def time_of(executed: Executed, decoded: Decoded, core: Core, corner: Corner, situation: Situation) -> Time:
    """The time of a trace at one corner of what is assumed of a core."""
    names = sorted(set(executed.names))
    number = {name: at for at, name in enumerate(names)}
    owners = np.array([number[name] for name in executed.names], dtype=np.int64)
    treated = np.array([_treated(executed, at, core, corner) for at in range(len(executed.code))], dtype=np.int64)
    machine = _machine(core, corner)
    if not situation.prefetch:
        machine.params[timing.P_AHEAD] = 0
    if not situation.cold:
        _warm(executed, machine)
    causes, functions = np.zeros(timing.CAUSES, dtype=np.int64), np.zeros(len(names), dtype=np.int64)
    cycles = timing.run(
        executed.blocks,
        executed.first,
        executed.accesses,
        decoded.bounds,
        decoded.kinds,
        decoded.reads,
        decoded.writes,
        decoded.accesses,
        decoded.starts,
        decoded.after,
        treated,
        owners,
        *machine,
        causes,
        functions,
    )
    by_name = {name: int(functions[at]) for at, name in enumerate(names) if functions[at]}
    return Time(int(cycles), tuple(causes.tolist()), by_name)


def _treated(executed: Executed, at: int, core: Core, corner: Corner) -> int:
    """How a block is timed."""
    name, block = executed.names[at], executed.code[at]
    if name.startswith(OWN):
        return timing.SKIPPED
    if not block.answered:
        return timing.TIMED
    if _PAGES.search(name):
        return int(core.page_cost.at(corner))
    return int(core.slab_cost.at(corner)) if _OBJECTS.search(name) else timing.SKIPPED


class _Machine(NamedTuple):
    """A core as arrays, nothing in its caches, in the order in which ``timing.run`` takes them."""

    params: Ints
    latency: Ints
    group: Ints
    busy: Ints
    pipes: Ints
    used: Ints
    cycles: Ints
    lines: Ints
    stamps: Ints
    arrives: Ints
    streams: Ints
    counters: Ints
    targets: Ints
    state: Ints
    ready: Ints
    why: Ints
    window: Ints
    fetched: Ints
    drained: Ints
    forward: Ints


def _machine(core: Core, corner: Corner) -> _Machine:
    """The core at a corner."""
    params = np.zeros(timing.P_LEVEL + 4 * len(core.levels), dtype=np.int64)
    memory = core.memory.at(corner) * core.mhz.at(corner) / 1000
    facts = (core.misses, core.stores, core.ahead, core.sync, core.order, core.flush, core.atomic, core.system)
    params[: timing.P_FORWARD + 1] = [
        round(core.width.at(corner)),
        core.window,
        round(core.mispredict.at(corner)),
        round(memory),
        *(round(one.at(corner)) for one in facts),
        len(core.levels),
        round(64 / core.bandwidth.at(corner) * core.mhz.at(corner) / 1000),
        round(core.forward.at(corner)),
    ]
    room = 0
    for number, level in enumerate(core.levels):
        sets = level.size // level.ways >> timing.LINE_SHIFT
        params[timing.P_LEVEL + 4 * number :][:4] = sets, level.ways, round(level.latency.at(corner)), room
        room += sets * level.ways
    groups = {name: at for at, name in enumerate(core.pipes)}
    uses = [core.uses.get(Kind(kind), core.uses[_LIKE.get(Kind(kind), Kind.ALU)]) for kind in range(KINDS)]

    def ints(*values: float) -> Ints:
        return np.array([round(value) for value in values], dtype=np.int64)

    def zeros(*shape: int) -> Ints:
        return np.zeros(shape, dtype=np.int64)

    return _Machine(
        params,
        latency=ints(*(use.latency.at(corner) for use in uses)),
        group=ints(*(groups[use.pipe] for use in uses)),
        busy=ints(*(use.busy for use in uses)),
        pipes=ints(*(pipe.number for pipe in core.pipes.values())),
        used=zeros(len(groups), timing.RING),
        cycles=zeros(len(groups), timing.RING) - 1,
        lines=zeros(room) - 1,
        stamps=zeros(room),
        arrives=zeros(room),
        streams=zeros(timing.STREAMS) - 10,
        counters=zeros(timing.PREDICTOR) + 1,
        targets=zeros(timing.PREDICTOR),
        state=zeros(8),
        ready=zeros(REGISTERS),
        why=zeros(REGISTERS),
        window=zeros(max(core.window, 1)),
        fetched=zeros(max(round(core.misses.at(corner)), 1)),
        drained=zeros(max(round(core.stores.at(corner)), 1)),
        forward=zeros(timing.FORWARD, 2) - 1,
    )


_LIKE = {
    Kind.ATOMIC: Kind.LOAD,
    Kind.JUMP: Kind.COND,
    Kind.CALL: Kind.COND,
    Kind.INDIRECT: Kind.COND,
    Kind.RET: Kind.COND,
    Kind.SYNC: Kind.STORE,
    Kind.SYNC_STORES: Kind.STORE,
    Kind.ORDER: Kind.STORE,
    Kind.ORDER_STORES: Kind.STORE,
}
"""Which kind another is executed as, if a core does not say."""


def _warm(executed: Executed, machine: _Machine) -> None:
    """Put what the trace accesses into the last level of cache."""
    wanted = np.unique(executed.accesses >> timing.LINE_SHIFT)
    timing.warm(wanted, machine.params, machine.lines, machine.stamps, machine.arrives, machine.state)
