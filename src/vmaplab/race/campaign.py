# SPDX-License-Identifier: GPL-2.0-only
"""Many overlapping calls on one architecture, on all CPUs of this machine."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vmaplab._pool import cpus, leave_interrupts, processes
from vmaplab.calls.table import outcome
from vmaplab.errors import InputError, KernelFault, Unprovided, Violation, VmapError
from vmaplab.object.build import Built
from vmaplab.race.explore import Explorer, Finding, Tried
from vmaplab.race.known import why_known
from vmaplab.race.overlap import Overlap, unknown
from vmaplab.race.pairs import Overlapping, all_pairs, drawn
from vmaplab.race.played import Lowered
from vmaplab.race.schedule import Schedule, schedule_text
from vmaplab.release import of_version

CASES = 200
"""Scenarios that are drawn."""
SCHEDULES = 40
"""Random schedules of each drawn scenario."""
ROUND = 100
"""Pairs after which new findings are an answer."""
MOST = 8
"""New findings that are shown in full."""
_DEPTH = 3  # switches of one: most races need two (Burckhardt and others, 2010)


@dataclass(frozen=True)
class RacePlan:
    """What is tried, on one architecture.

    :param built: the object, with CONFIG_SMP and CONFIG_PREEMPT.
    :param preemptions: of each schedule, at most.
    :param calls: 2: each pair of calls, all schedules; more: so many calls in drawn scenarios, random schedules.
    :param cases: scenarios, or pairs of all, that are drawn; 0: all pairs, up to a round of them that shows a new
        finding.
    :param seed: which.
    :param without: steps that the tree does not have.
    :param calls_of: names of :func:`.templates`: only pairs that have one of them, each set up on its own CPU; all if
        empty.
    """

    built: Built
    preemptions: int = 1
    calls: int = 2
    cases: int = 0
    seed: int = 1
    without: frozenset[str] = frozenset()
    calls_of: tuple[str, ...] = ()

    @property
    def stops(self) -> bool:
        """Whether new findings end it."""
        return self.calls == 2 and not self.cases and not self.calls_of

    @cached_property
    def work(self) -> list[tuple[str, Overlapping]]:
        """What is tried, by name."""
        arch = of_version(self.built.version).on(self.built.target.arch)
        if self.calls == 2:
            pairs = list(all_pairs(arch, self.without, apart=bool(self.calls_of)))
            if self.calls_of:
                pairs = [one for one in pairs if {*one[0].split(" | ")} & {*self.calls_of}]
            random.Random(self.seed).shuffle(pairs)  # what many pairs show, the first of them do
            return pairs[: self.cases or None]
        return list(drawn(arch, self.calls, self.cases or CASES, self.seed, self.without))


@dataclass
class Shown:
    """A finding and what shows it.

    :param known: why it is none to worry about; "" if it is new.
    :param stacks: who did what, and the places of the calls that led there, from the innermost on.
    :param also: of how many other overlapping calls it is found, too.
    """

    finding: Finding
    name: str
    overlapping: Overlapping
    known: str = ""
    also: int = 0
    stacks: list[tuple[str, list[str]]] = field(default_factory=list)

    def __str__(self) -> str:
        """The finding in one line, and the calls that show it."""
        race = self.finding.race
        what = f"{race.what} {race.memory}" if race else self.finding.told
        also = f", and {self.also} more" if self.also else ""
        return f"{what} ({self.name}{also})" if self.name else what


@dataclass
class RaceVerdict:
    """What came of a campaign.

    :param tried: pairs of calls, or scenarios.
    :param exhausted: of how many all schedules with so many preemptions were run.
    :param skipped: what could not be tried: name -> why; ``unfinished``: of what not all was.
    """

    plan: RacePlan
    tried: int = 0
    exhausted: int = 0
    schedules: int = 0
    shown: list[Shown] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    unfinished: dict[str, str] = field(default_factory=dict)

    @property
    def new(self) -> list[Shown]:
        """What is not known."""
        return [one for one in self.shown if not one.known]

    @property
    def word(self) -> str:
        """``holds`` or ``RACE``."""
        return "RACE" if self.new else "holds"


def set_up(kernel: Overlap, overlapping: Overlapping) -> tuple[Any, list[list[Lowered]]]:
    """The moment before the calls that overlap, and these.

    :raises InputError: if a step cannot be done.
    """
    kernel.reset()
    addresses: list[int] = []
    for step in overlapping.setup:
        try:
            addresses.append(outcome(kernel, step, addresses[step.ref] if step.ref >= 0 else step.addr))
        except (VmapError, KernelFault, Violation) as error:
            raise InputError(f"step {len(addresses)} ({step.call}), before any call overlaps: {error}") from None
    kernel.cpu = 0
    moment = kernel.moment()
    bodies, slot, first = [], 1, len(addresses)
    for body in overlapping.bodies:
        lowered = []
        for step in body:
            addr = step.addr
            if step.ref >= 0:
                addr = addresses[step.ref] if step.ref < len(addresses) else unknown(step.ref - first)
            lowered.append(kernel.lower(step, addr, slot))
            slot += 1
        first += len(body)
        bodies.append(lowered)
    return moment, bodies


def campaign(plan: RacePlan, jobs: int | None, advance: Callable[[], None]) -> RaceVerdict:
    """Try all that ``plan`` says; the same plan comes to the same verdict, whatever ``jobs`` is."""
    verdict = RaceVerdict(plan)
    work = plan.work
    first: dict[str, Shown] = {}
    results = _results(plan, work, jobs or cpus())
    for number, (name, overlapping) in enumerate(work):
        advance()
        if plan.stops and number % ROUND == 0 and any(not one.known for one in first.values()):
            results.close()
            why = "something new is found already; --cases N tries N pairs in any case"
            verdict.skipped.update(dict.fromkeys([one for one, _ in work[number:]], why))
            break
        result = next(results)
        if isinstance(result, str):
            verdict.skipped[name] = result
            continue
        verdict.tried += 1
        verdict.exhausted += result.exhausted and not result.undefined
        if result.undefined:
            verdict.unfinished[name] = result.undefined
        verdict.schedules += result.schedules
        for finding in result.findings.values():
            why = why_known(finding.race, finding.told, plan.built, str(overlapping))
            known = first.get(finding.kind)
            if known is None or (known.known and not why):  # of a fault the calls say whether it is known
                first[finding.kind] = Shown(finding, name, overlapping, why)
                continue
            if why and not known.known:
                continue
            known.also += 1
            if len(finding.schedule) < len(known.finding.schedule):
                known.finding, known.name, known.overlapping = finding, name, overlapping
    verdict.shown = list(first.values())
    explain(verdict)
    return verdict


def one(plan: RacePlan, overlapping: Overlapping, schedule: Schedule | None) -> RaceVerdict:
    """Try one scenario: all its schedules, or the one that is given.

    :raises InputError: if that one cannot be followed.
    """
    verdict = RaceVerdict(plan, 1)
    explorer = Explorer(Overlap(plan.built, max(2, len(overlapping.bodies))))
    moment, bodies = set_up(explorer.kernel, overlapping)
    if schedule is None:
        tried = explorer.explore(moment, bodies, plan.preemptions)
    else:
        explorer.kernel.go_back(moment)
        if astray := explorer.kernel.play(bodies, schedule).astray:
            raise InputError(f"the schedule '{schedule_text(schedule)}' cannot be followed: {astray}")
        tried = explorer.replay(moment, bodies, schedule)
    verdict.schedules, verdict.exhausted = tried.schedules, int(tried.exhausted and not tried.undefined)
    if tried.undefined:
        verdict.unfinished["some schedules"] = tried.undefined
    for finding in tried.findings.values():
        smaller = finding if schedule else explorer.shrunk(moment, bodies, finding)
        verdict.shown.append(
            Shown(smaller, "", overlapping, why_known(finding.race, finding.told, plan.built, str(overlapping)))
        )
    explain(verdict, explorer)
    return verdict


def explain(verdict: RaceVerdict, explorer: Explorer | None = None, most: int = MOST) -> None:
    """Find out by which calls the first new findings come about."""
    for shown in verdict.new[:most]:
        explorer = explorer or Explorer(Overlap(verdict.plan.built, max(2, len(shown.overlapping.bodies))))
        moment, bodies = set_up(explorer.kernel, shown.overlapping)
        shown.stacks = explorer.stacks(moment, bodies, shown.finding)


def _results(plan: RacePlan, work: Sequence[tuple[str, Overlapping]], jobs: int) -> Generator[Tried | str]:
    """What came of each, in order."""
    if jobs == 1 or len(work) < 2:
        _begin(plan)
        yield from map(_run, range(len(work)), (one for _, one in work))
        return
    with ProcessPoolExecutor(min(jobs, len(work)), processes(__name__), _begin, (plan,)) as pool:
        try:
            yield from pool.map(_run, range(len(work)), [one for _, one in work], chunksize=2)
        finally:
            pool.shutdown(cancel_futures=True)


_state: dict[str, Any] = {}


def _begin(plan: RacePlan) -> None:
    leave_interrupts()
    _state["plan"], _state["explorer"] = plan, Explorer(Overlap(plan.built, 2))


def _run(number: int, overlapping: Overlapping) -> Tried | str:
    explorer: Explorer = _state["explorer"]
    plan: RacePlan = _state["plan"]
    try:
        moment, bodies = set_up(explorer.kernel, overlapping)
    except Unprovided:
        raise
    except InputError as error:
        return str(error)
    if plan.calls == 2:
        tried = explorer.explore(moment, bodies, plan.preemptions)
    else:
        rng = random.Random(f"{plan.seed} {number}")
        tried = explorer.sample(moment, bodies, rng, SCHEDULES, _DEPTH)
    tried.findings = {
        kind: finding
        if why_known(finding.race, finding.told, plan.built, str(overlapping))
        else explorer.shrunk(moment, bodies, finding)
        for kind, finding in tried.findings.items()
    }
    return tried
