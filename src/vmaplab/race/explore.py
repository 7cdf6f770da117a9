# SPDX-License-Identifier: GPL-2.0-only
"""Schedules of given calls: all with few preemptions, or random ones, judged; the smallest that shows a finding."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, permutations
from typing import Any

import numpy as np

from vmaplab.errors import KernelFault, Undefined, Violation
from vmaplab.object.kernel import TABLE_BYTES
from vmaplab.race.hooks import ADDRESS, CPUS, DROP, WHAT, WHEN
from vmaplab.race.judge import Outcome, outcome_of
from vmaplab.race.known import why_known
from vmaplab.race.locks import LockOrder
from vmaplab.race.order import Order
from vmaplab.race.overlap import Overlap
from vmaplab.race.played import Lowered, Played, Segment
from vmaplab.race.points import Points
from vmaplab.race.schedule import Schedule, Turn
from vmaplab.race.stepper import ROOM_ROWS
from vmaplab.race.tell import Race, Teller, general
from vmaplab.trace import Ints, signed

_NEVER = 1 << 62
_ENOUGH = 12  # kinds of findings of the same calls, after which no more are looked for


@dataclass
class Finding:
    """What is wrong.

    :param kind: in a few words that are the same for each schedule that shows it; of a race the two places.
    :param told: in words.
    :param schedule: that shows it.
    :param race: the two accesses, if it is that.
    """

    kind: str
    told: str
    schedule: Schedule
    race: Race | None = None


@dataclass
class Tried:
    """What came of the schedules of given calls.

    :param schedules: how many were run.
    :param findings: what is wrong, one of each kind.
    :param exhausted: whether all schedules with so many preemptions were run.
    :param undefined: why not, or why some have no defined end.
    """

    schedules: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)
    exhausted: bool = True
    undefined: str = ""


Parted = dict[tuple[Schedule, int], set[int | tuple[int, int, tuple[int, ...]]]]
"""After which turns a CPU was stopped: behind how many instructions, for which other, with which stores late; and for
which others at once, 2^CPUS times the instructions and their bits, where none of them is left."""


@dataclass
class Ends:
    """How schedules of given calls can end.

    :param orders: what the calls come to one after the other.
    :param known: what the machine was left in -> what the calls came to, or what is wrong with it.
    """

    orders: list[Outcome] = field(default_factory=list)
    known: dict[Any, Outcome | str] = field(default_factory=dict)


class Explorer:
    """Runs calls of one machine under many schedules.

    :ivar kernel: the machine.
    :ivar teller: says what its findings are.
    """

    def __init__(self, kernel: Overlap) -> None:
        self.kernel = kernel
        self.teller = Teller(kernel)
        start = kernel._rest.virt_of(kernel.arch.table_base)
        self._order = Order((start, start + TABLE_BYTES), kernel.built.target.family.stores_in_order)
        self._locks = LockOrder()
        self._points = Points((start, start + TABLE_BYTES))

    def explore(
        self,
        moment: Any,
        bodies: Sequence[Sequence[Lowered]],
        preemptions: int = 1,
        most: int = 100_000,
        ends: Ends | None = None,
    ) -> Tried:
        """All schedules with so many preemptions at most, from ``moment`` on.

        :param most: schedules, at most.
        :param ends: is told how they end.
        """
        tried = Tried()
        self._locks.forget()
        ends = ends or Ends()
        todo = deque(_orders(bodies))
        serial = len(todo)
        parted: Parted = {}
        while todo:
            schedule = todo.popleft()
            if tried.schedules >= most:
                tried.exhausted = False
                tried.undefined = f"there are more than {most} schedules"
                break
            if len(tried.findings) > _ENOUGH:
                tried.exhausted = False
                tried.undefined = f"{len(tried.findings)} kinds of findings are enough"
                break
            played = self.run(moment, bodies, schedule, ends, tried, tried.schedules < serial)
            if played is not None and preemptions > 0:
                todo += self._children(played, preemptions, parted)
        return tried

    def sample(
        self, moment: Any, bodies: Sequence[Sequence[Lowered]], rng: random.Random, runs: int, depth: int
    ) -> Tried:
        """``runs`` random schedules with ``depth`` switches at random places: PCT (Burckhardt and others, 2010)."""
        tried = Tried(exhausted=False)
        self._locks.forget()
        ends = Ends()
        lengths: dict[int, int] = {}
        for way in _orders(bodies):
            played = self.run(moment, bodies, way, ends, tried, True)
            if played is None:
                return tried
            for one in played.segments:
                lengths[one.cpu] = max(lengths.get(one.cpu, 0), one.end)
        for _ in range(runs):
            places = sorted(rng.randrange(sum(lengths.values())) for _ in range(depth))
            cpus = rng.sample(sorted(lengths), len(lengths))
            schedule: list[Turn] = []
            for before, after in zip([0, *places], places, strict=False):
                if after > before:
                    schedule.append(Turn(cpus[0], after - before))
                cpus = [*cpus[1:], cpus[0]]
            self.run(moment, bodies, (*schedule, *(Turn(cpu) for cpu in cpus)), ends, tried, False)
        return tried

    def _children(self, played: Played, preemptions: int, parted: Parted) -> Iterator[Schedule]:
        """The schedules that part from ``played`` by a switch where it matters, and have no more preemptions.

        :param parted: where schedules have parted from others before: those are not given again.
        """
        segments, rows = played.segments, played.rows
        ends = [*(one.row for one in segments[1:]), len(rows)]
        last = {one.cpu: at for at, one in enumerate(segments)}
        switches = [at for at, one in enumerate(segments) if self._preempted(segments, at, last)]
        end = ends[switches[preemptions - 1]] if len(switches) >= preemptions else len(rows)
        points = self._points.of(rows, end)
        late = [] if self.kernel.built.target.family.stores_in_order else self._points.late(rows, end)
        before: tuple[Turn, ...] = ()
        waiting: dict[int, int] = {}  # CPU -> the lock that it waits for
        for at, segment in enumerate(segments):
            ready = {cpu: _dropped(rows[segment.row : ends[at]], lock) for cpu, lock in waiting.items()}
            number, start, stop = segment.cpu, segment.start, segment.end
            known = parted.setdefault((before, number), set())
            here = points[(points[:, 0] == number) & (points[:, 1] > start) & (points[:, 1] < stop)]
            codes = {*(here[:, 1] << CPUS | here[:, 2]).tolist()} - known
            new: list[tuple[int, int, tuple[int, ...]]] = [(code >> CPUS, code & (1 << CPUS) - 1, ()) for code in codes]
            new += [(it.when, it.others, stores) for it, stores in late if it.cpu == number and start < it.when < stop]
            for when, others, stores in sorted(new):
                able = [other for other in last if others >> other & 1 and (when, other, stores) not in known]
                for other in able:
                    if when > ready.get(other, -1):
                        known.add((when, other, stores))
                        behind = tuple(store - start for store in stores if store >= start)
                        yield (*before, Turn(number, when - start, behind), Turn(other))
                if not stores and all((when, other, stores) in known for other in able):
                    known.add(when << CPUS | others)
            if ends[at] == end:
                return
            before = (*before, Turn(segment.cpu, segment.end - start, segment.late))
            waiting = {cpu: lock for cpu, lock in waiting.items() if ready[cpu] == _NEVER and cpu != segment.cpu}
            if segment.lock:
                waiting[segment.cpu] = segment.lock

    @staticmethod
    def _preempted(segments: Sequence[Segment], at: int, last: Mapping[int, int]) -> bool:
        """Whether the CPU of a segment could have gone on, and another did; a work begins on a CPU that is idle."""
        one = segments[at]
        return not one.lock and at < last[one.cpu] and not segments[at + 1].work

    def run(
        self,
        moment: Any,
        bodies: Sequence[Sequence[Lowered]],
        schedule: Schedule,
        ends: Ends,
        tried: Tried,
        serial: bool = False,
    ) -> Played | None:
        """Run one schedule and judge it; None if nothing follows it.

        :param ends: of these calls; grows.
        :param serial: the schedule is one of the orders of the calls.
        """
        kernel = self.kernel
        kernel.go_back(moment)
        tried.schedules += 1
        try:
            played = kernel.play(bodies, schedule)
        except Undefined as error:
            tried.undefined = str(error)
            return None
        races = [
            self.teller.race(int(kind), int(first), int(second), played)
            for kind, first, second in self._order.look(played.rows)
        ]
        for race in races:
            found, had = Finding(race.key, "", played.schedule, race), tried.findings.get(race.key)
            if had is None or (str(had.race) != str(race) and self._is_known(had) and not self._is_known(found)):
                tried.findings[race.key] = found
        for circle in self._locks.look(played.rows):
            order = self.teller.lock_order(circle)
            tried.findings.setdefault(general(order), Finding(general(order), order, played.schedule))
        told = played.fault
        if len(played.rows) == ROOM_ROWS:
            tried.undefined = f"a schedule has more than {ROOM_ROWS} accesses to memory, and the rest was not looked at"
        if not told:
            rows = played.rows.copy()
            try:
                end = self._end(bodies, played, ends)
            except Undefined as error:
                tried.undefined = str(error)
                return None
            played.rows = rows
            if isinstance(end, str):
                told = end
            elif serial:
                ends.orders.append(end)
            elif differs := end.differs(ends.orders):
                told = f"no order of the calls gives this: {differs}"
        if told:
            kind = general(told)
            tried.findings.setdefault(kind, Finding(kind, told, played.schedule))
            return None
        return played

    def _is_known(self, finding: Finding) -> bool:
        return why_known(finding.race, finding.told, self.kernel.built, "") != ""

    def _end(self, bodies: Sequence[Sequence[Lowered]], played: Played, ends: Ends) -> Outcome | str:
        """What the calls came to, or what is wrong with it. Schedules that leave the same are judged once."""
        kernel = self.kernel
        try:
            left = kernel.standing(), kernel.seen(played.calls).cached, tuple(map(tuple, played.results))
        except Violation as error:
            return str(error)
        if left not in ends.known:
            try:
                seen = kernel.finish(played.calls)
                ends.known[left] = outcome_of(kernel, bodies, played)
                kernel.purge(seen)
            except Undefined:
                raise
            except (KernelFault, Violation) as fault:
                ends.known[left] = str(fault)
        return ends.known[left]

    def replay(self, moment: Any, bodies: Sequence[Sequence[Lowered]], schedule: Schedule) -> Tried:
        """One schedule, held against all orders of the calls."""
        tried = Tried(exhausted=False)
        ends = Ends()
        for way in _orders(bodies):
            self.run(moment, bodies, way, ends, Tried(), True)
        self._locks.forget()
        self.run(moment, bodies, schedule, ends, tried)
        return tried

    def stacks(self, moment: Any, bodies: Sequence[Sequence[Lowered]], finding: Finding) -> list[tuple[str, list[str]]]:
        """Who did what in a finding, and the places of the calls that led there, from the innermost on."""
        kernel = self.kernel
        kernel.go_back(moment)
        try:
            played = kernel.play(bodies, finding.schedule, trace=True)
        except Undefined:
            return []
        if finding.race:
            sides = (finding.race.first, finding.race.second)
            return [(f"CPU {one.cpu} {one.verb}", self.teller.stack(played, one.cpu, one.when)) for one in sides]
        if not played.fault:  # where each was when another went on
            stops = [one for one, after in pairwise(played.segments) if after.cpu != one.cpu]
            last = {one.cpu: one for one in played.segments}
            found = []
            for one in stops:
                if one is not last[one.cpu]:
                    found.append((f"CPU {one.cpu} stops", self.teller.stack(played, one.cpu, one.end)))
                late = f"CPU {one.cpu} stores what comes late"
                found += [(late, self.teller.stack(played, one.cpu, one.start + at)) for at in one.late]
            return found
        ends = {one.cpu: one.end for one in played.segments}
        return [
            (f"CPU {cpu} stands", self.teller.stack(played, cpu, end))
            for cpu, end in sorted(ends.items())
            if cpu not in played.finished
        ]

    def shrunk(self, moment: Any, bodies: Sequence[Sequence[Lowered]], finding: Finding) -> Finding:
        """The same finding by a schedule with fewer switches, where there is one."""
        best = finding
        again = True
        while again:
            again = False
            for at in range(len(best.schedule) - 1):
                fewer = best.schedule[:at] + best.schedule[at + 1 :]
                other = self.replay(moment, bodies, fewer).findings.get(finding.kind)
                if other and len(other.schedule) < len(best.schedule):
                    best, again = other, True
                    break
        return best


def _dropped(rows: Ints, lock: int) -> int:
    """How many instructions the CPU of ``rows`` has executed when it drops ``lock``."""
    found = np.flatnonzero((rows[:, WHAT] & 0xFF == DROP) & (rows[:, ADDRESS] & -4 == signed(lock) & -4))
    return int(rows[found[0], WHEN]) if len(found) else _NEVER


def _orders(bodies: Sequence[Sequence[Lowered]]) -> list[Schedule]:
    return [tuple(Turn(cpu) for cpu in way) for way in permutations(range(len(bodies)))]
