# SPDX-License-Identifier: GPL-2.0-only
"""What overlaps, and what came of it under one schedule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.operation import Operation
from vmaplab.calls.table import Call
from vmaplab.race import promises
from vmaplab.race.schedule import Schedule, Turn
from vmaplab.trace import Ints


class Lowered(NamedTuple):
    """A step as a call in C.

    :param function: its name; "" where it is a setting.
    :param arguments: in registers.
    :param call: the entry of the table.
    """

    step: Operation
    function: str
    arguments: tuple[int, ...]
    call: Call


class Segment(NamedTuple):
    """What one CPU executed at a stretch.

    :param start: instructions that it had executed before; ``end``: and after.
    :param row: the first row of the log that is its.
    :param lock: that it waits for at the end, or 0.
    :param late: as a :class:`Turn` has them.
    :param work: a work begins with it.
    """

    cpu: int
    start: int
    end: int
    row: int
    lock: int
    late: tuple[int, ...] = ()
    work: bool = False


class Store(NamedTuple):
    """A store that only its CPU has seen.

    :param new: the bytes that are in the place once all see it, shape (size,).
    """

    address: int
    size: int
    new: NDArray[np.uint8]


@dataclass
class Played:
    """What came of a schedule.

    :param segments: who executed what.
    :param results: per CPU what its calls returned, as registers.
    :param calls: each that has begun, and each work.
    :param finished: the CPUs that have made all their calls.
    :param fault: what the kernel did that no kernel may do, in words; "" if nothing.
    :param astray: what of the schedule could not be followed, in words; "" if all was.
    :param rows: what was touched, a view that the next schedule writes over.
    """

    segments: list[Segment] = field(default_factory=list)
    results: list[list[int]] = field(default_factory=list)
    calls: list[promises.Call] = field(default_factory=list)
    finished: set[int] = field(default_factory=set)
    fault: str = ""
    astray: str = ""
    rows: Ints = field(default_factory=lambda: np.zeros((0, 5), dtype=np.int64))

    def ran(self, one: Segment) -> None:
        """Add what was executed; what one CPU executes without another between is one segment."""
        before = self.segments[-1] if self.segments else None
        if before and before.cpu == one.cpu:
            late = tuple(at + one.start - before.start for at in one.late)
            self.segments[-1] = before._replace(end=one.end, lock=one.lock, late=late)
        else:
            self.segments.append(one)

    @property
    def schedule(self) -> Schedule:
        """The schedule that repeats it: what each CPU executed at a stretch, the last stretch of each to the end."""
        ended = self.finished | {one.cpu for one in self.segments[-1:]}
        last = {one.cpu: at for at, one in enumerate(self.segments) if one.cpu in ended}
        found = [
            Turn(one.cpu) if at == last.get(one.cpu) else Turn(one.cpu, one.end - one.start, one.late)
            for at, one in enumerate(self.segments)
            if one.end > one.start or at == last.get(one.cpu)
        ]
        return tuple(found)

    @property
    def switches(self) -> int:
        """How often another CPU went on."""
        return max(len(self.schedule) - 1, 0)
