# SPDX-License-Identifier: GPL-2.0-only
"""Schedules of given calls: all with few preemptions, or random ones, judged; the smallest that shows a finding."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, permutations
from typing import Any

from vmaplab.errors import KernelFault, Undefined, Violation
from vmaplab.object.kernel import TABLE_BYTES
from vmaplab.race.judge import Outcome, outcome_of
from vmaplab.race.order import Order
from vmaplab.race.overlap import Lowered, Overlap, Played, Schedule
from vmaplab.race.points import Points
from vmaplab.race.tell import Race, Teller, general


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
    :param undefined: why some have no defined end.
    """

    schedules: int = 0
    findings: dict[str, Finding] = field(default_factory=dict)
    exhausted: bool = True
    undefined: str = ""


class Explorer:
    """Runs calls of one machine under many schedules.

    :ivar kernel: the machine.
    :ivar teller: says what its findings are.
    """

    def __init__(self, kernel: Overlap) -> None:
        self.kernel = kernel
        self.teller = Teller(kernel)
        start = kernel._rest.virt_of(kernel.arch.table_base)
        self._order = Order((start, start + TABLE_BYTES))
        self._points = Points()

    def explore(
        self, moment: Any, bodies: Sequence[Sequence[Lowered]], preemptions: int = 1, most: int = 100_000
    ) -> Tried:
        """All schedules with so many preemptions at most, from ``moment`` on."""
        tried = Tried()
        orders: list[Outcome] = []
        todo = deque((way, 0) for way in _orders(bodies))
        seen: set[Schedule] = set()
        while todo:
            schedule, depth = todo.popleft()
            if schedule in seen:
                continue
            if tried.schedules >= most:
                tried.exhausted = False
                break
            seen.add(schedule)
            played = self.run(moment, bodies, schedule, orders, tried, depth == 0)
            if played is None or depth == preemptions:
                continue
            todo += [(one, depth + 1) for one in self._children(played, schedule, len(bodies))]
        return tried

    def sample(
        self, moment: Any, bodies: Sequence[Sequence[Lowered]], rng: random.Random, runs: int, depth: int
    ) -> Tried:
        """``runs`` random schedules with ``depth`` switches at random places: PCT (Burckhardt and others, 2010)."""
        tried = Tried(exhausted=False)
        orders: list[Outcome] = []
        lengths: dict[int, int] = {}
        for way in _orders(bodies):
            played = self.run(moment, bodies, way, orders, tried, True)
            if played is None:
                return tried
            for one in played.segments:
                lengths[one.cpu] = max(lengths.get(one.cpu, 0), one.end)
        for _ in range(runs):
            places = sorted(rng.randrange(sum(lengths.values())) for _ in range(depth))
            cpus = rng.sample(range(len(bodies)), len(bodies))
            schedule: list[tuple[int, int]] = []
            for before, after in zip([0, *places], places, strict=False):
                if after > before:
                    schedule.append((cpus[0], after - before))
                cpus = [*cpus[1:], cpus[0]]
            self.run(moment, bodies, (*schedule, *((cpu, -1) for cpu in cpus)), orders, tried, False)
        return tried

    def _children(self, played: Played, schedule: Schedule, cpus: int) -> Iterator[Schedule]:
        """The schedules with one preemption more, behind those of ``schedule``, which ``played`` came of."""
        explicit = sum(count >= 0 for _, count in schedule)
        before: list[tuple[int, int]] = []
        points = self._points.of(played.rows)
        for number, segment in enumerate(played.segments):
            if number >= explicit:
                for cpu, when in points:
                    if cpu == segment.cpu and segment.start < when < segment.end:
                        head = (*before, (cpu, when - segment.start))
                        for other in range(cpus):
                            if other != cpu:
                                yield (*head, (other, -1))
            before.append((segment.cpu, segment.end - segment.start))

    def run(
        self,
        moment: Any,
        bodies: Sequence[Sequence[Lowered]],
        schedule: Schedule,
        orders: list[Outcome],
        tried: Tried,
        serial: bool = False,
    ) -> Played | None:
        """Run one schedule and judge it; None if nothing follows it.

        :param orders: what the calls come to one after the other; grows where this is such an order.
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
            if race.key not in tried.findings:
                tried.findings[race.key] = Finding(race.key, "", played.schedule, race)
        told = played.fault
        rows = played.rows.copy() if not told else played.rows
        if not told:
            try:
                kernel.finish()
                outcome = outcome_of(kernel, bodies, played)
                if serial:
                    orders.append(outcome)
                else:
                    told = outcome.differs(orders)
                    told = f"no order of the calls gives this: {told}" if told else ""
            except Undefined as error:
                tried.undefined = str(error)
                return None
            except (KernelFault, Violation) as fault:
                told = str(fault)
        if told:
            kind = general(told)
            tried.findings.setdefault(kind, Finding(kind, told, played.schedule))
            return None
        played.rows = rows
        return played

    def replay(self, moment: Any, bodies: Sequence[Sequence[Lowered]], schedule: Schedule) -> Tried:
        """One schedule, held against all orders of the calls."""
        tried = Tried(exhausted=False)
        orders: list[Outcome] = []
        for way in _orders(bodies):
            self.run(moment, bodies, way, orders, Tried(), True)
        self.run(moment, bodies, schedule, orders, tried)
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
            return [(f"CPU {one.cpu} {one.verb}", kernel.stack(played, one.cpu, one.when)) for one in sides]
        if not played.fault:  # where each was when another went on
            stops = [one for one, after in pairwise(played.segments) if after.cpu != one.cpu]
            last = {one.cpu: one for one in played.segments}
            return [
                (f"CPU {one.cpu} stops", kernel.stack(played, one.cpu, one.end))
                for one in stops
                if one is not last[one.cpu]
            ]
        ends = {one.cpu: one.end for one in played.segments}
        return [
            (f"CPU {cpu} stands", kernel.stack(played, cpu, end))
            for cpu, end in sorted(ends.items())
            if len(played.results[cpu]) < len(bodies[cpu])
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


def _orders(bodies: Sequence[Sequence[Lowered]]) -> list[Schedule]:
    return [tuple((cpu, -1) for cpu in way) for way in permutations(range(len(bodies)))]
