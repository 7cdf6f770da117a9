# SPDX-License-Identifier: GPL-2.0-only
"""What a core is for the timing of a trace: facts with their sources, and what is assumed, as ranges.

A value that a source gives is a number; one that is assumed, or about which sources differ, is a range, and the answer
is a band: every range is at its least, usual and most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from vmaplab.cost.isa.base import Kind

ASSUMED = "assumed: no source was found"


PAGE_COST = "525 instructions, 263 of them clear the page (counted in a booted 6.12, arm64); cycles are assumed"


class Corner(IntEnum):
    """Which end of the ranges: whatever makes the core fast, what is usual, and what makes it slow."""

    FAST = 0
    USUAL = 1
    SLOW = 2


class Fact(NamedTuple):
    """A number of a core.

    :param fast: at its best for speed; ``usual``; ``slow``: at its worst. The same where it is known.
    :param source: where it is from.
    """

    fast: float
    usual: float
    slow: float
    source: str

    def at(self, corner: Corner) -> float:
        """The value at a corner."""
        return (self.fast, self.usual, self.slow)[corner]


def fact(value: float, source: str) -> Fact:
    """One that is known."""
    return Fact(value, value, value, source)


class Pipe(NamedTuple):
    """What executes operations of some kinds.

    :param number: how many of it there are.
    """

    number: int
    source: str


class Use(NamedTuple):
    """How an operation is executed.

    :param pipe: by which pipes.
    :param latency: cycles until its result can be used; of a load, where L1 has it.
    :param busy: cycles for which it keeps its pipe.
    """

    pipe: str
    latency: Fact
    busy: int = 1


class Level(NamedTuple):
    """A cache of data.

    :param size: bytes; ``ways``: of a set.
    :param latency: cycles until a load has what is there; of the first level, that of a load.
    """

    size: int
    ways: int
    latency: Fact
    source: str


class Buffer(NamedTuple):
    """A TLB.

    :param entries: of them ``ways`` are in a set; the same where any entry can be anywhere.
    :param largest: bytes that an entry maps at most: larger leaves are split into pieces of that size.
    :param groups: whether a contiguous group of PTEs is one entry.
    """

    entries: int
    ways: int
    largest: int
    groups: bool
    source: str


@dataclass(frozen=True)
class Core:
    """A core.

    :param name: as the option has it; ``title``: in full.
    :param family: whose instructions it executes.
    :param window: instructions that are in flight at most; 0 of a core that executes in order.
    :param width: operations that begin in a cycle.
    :param uses: how each kind of operation is executed; what is not in there is as ``Kind.ALU``.
    :param mispredict: cycles from a branch that was taken to be otherwise to the first operation behind it.
    :param memory: ns to memory; ``bandwidth``: GB/s that a core gets from there; ``mhz``: the clock.
    :param forward: cycles from a store to a load of the same word.
    :param misses: lines that are fetched at the same time; ``stores``: that wait to be written.
    :param ahead: lines that a prefetcher fetches behind a stream; 0: it is off.
    :param sync: cycles of a barrier that waits for all accesses, beside what it waits for.
    :param order: of one that orders them; ``flush``: of one that fetches anew; ``atomic``, ``system``: of those.
    :param page_cost: cycles of a call of the page allocator, zeroing a page; ``slab_cost``: of an object, or to free.
    :param tlbs: the first level of the data's, and the second.
    :param walk: cycles of a page walk that finds its last entry in L2.
    """

    name: str
    title: str
    family: str
    window: int
    width: Fact
    pipes: Mapping[str, Pipe]
    uses: Mapping[Kind, Use]
    mispredict: Fact
    levels: tuple[Level, ...]
    memory: Fact
    bandwidth: Fact
    forward: Fact
    mhz: Fact
    misses: Fact
    stores: Fact
    ahead: Fact
    sync: Fact
    order: Fact
    flush: Fact
    atomic: Fact
    system: Fact
    page_cost: Fact
    slab_cost: Fact
    tlbs: tuple[Buffer, ...]
    walk: Fact
