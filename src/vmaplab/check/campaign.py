# SPDX-License-Identifier: GPL-2.0-only
"""Many random scenarios on two sides, in parallel; the first difference is shrunk."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from vmaplab._pool import cpus, leave_interrupts, processes
from vmaplab.calls.generator import Generator
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.shrink import SHRINK_S, shrink
from vmaplab.calls.vary import tame, vary
from vmaplab.check.coverage import Ran
from vmaplab.check.differential import compare
from vmaplab.check.one import Finding, careless, check_one, examine, failures_of, fault_of, is_sampled, judged, ran_by
from vmaplab.check.plan import Examined, Plan, Verdict
from vmaplab.check.sides import ObjectSide, Side
from vmaplab.errors import BREAKS, InputError, Unprovided

VARIED = 0.25
"""Which share of the scenarios is like others that reached new code, once there are some."""


class Result(NamedTuple):
    """What came of some scenarios.

    :param cases: how many ran.
    :param calls: steps in them.
    :param found: what came of them.
    :param ran: which of their side's code ran so far in this process.
    :param number: the first scenario that differed or broke an invariant, or None.
    :param varied: that scenario, if it is none of the generator's.
    """

    cases: int
    calls: int
    found: Examined
    ran: Ran | None
    number: int | None = None
    varied: Scenario | None = None


def check(plan: Plan, cases: int, jobs: int | None = None, advance: Callable[[], None] = lambda: None) -> Verdict:
    """As :func:`check_all`, of one plan."""
    return check_all([plan], cases, jobs, advance)[0]


def check_all(
    plans: list[Plan], cases: int, jobs: int | None = None, advance: Callable[[], None] = lambda: None
) -> list[Verdict]:
    """Compare ``cases`` scenarios for each of ``plans``, on ``jobs`` processes.

    Each stops at its first difference, which is shrunk: those of several plans at the same time.

    :param jobs: processes; one per CPU if None.
    :param advance: called for each chunk of scenarios.
    """
    jobs = jobs or cpus()
    found = _campaigns(plans, cases, jobs, advance)
    for number, (plan, verdict) in enumerate(zip(plans, found, strict=True)):
        if plan.sample and verdict.difference and not verdict.by_judge and BREAKS not in verdict.difference:
            # A harmless difference must not hide a bug: the judges look at what remains, and at all else.
            alone = replace(plan, judge=True, sample=0)
            also = check_one(alone, verdict.scenario) if verdict.scenario else None
            if also is None or not also.difference:
                also = _campaigns([alone], max(cases // (4 * plan.sample), 1), jobs, lambda: None)[0]
            found[number] = replace(verdict, also=also)
    return found


def _campaigns(plans: list[Plan], cases: int, jobs: int, advance: Callable[[], None]) -> list[Verdict]:
    searched = [_search(plan, cases, jobs, advance) for plan in plans]
    differing = [(plan, first) for plan, (first, _) in zip(plans, searched, strict=True) if first]
    if len(differing) > 1 and jobs > 1:
        with ProcessPoolExecutor(min(jobs, len(differing)), processes(__name__)) as pool:
            shrunk = iter(list(pool.map(_shrunk, *zip(*differing, strict=True))))
    else:
        shrunk = iter([_shrunk(plan, first) for plan, first in differing])
    verdicts = []
    for first, verdict in searched:
        if first:
            told = next(shrunk)
            found = replace(verdict.found, told=told.difference, failures=told.found.failures)
            verdict = replace(told, found=found, varied=first.varied is not None, ran=verdict.ran)
        verdicts.append(verdict)
    return verdicts


def _search(plan: Plan, cases: int, jobs: int, advance: Callable[[], None]) -> tuple[Result | None, Verdict]:
    """What ran up to the first scenario that differs, and the chunk that ends with that, if there is one."""
    results, found = [], Examined()
    for result in _results(plan, cases, jobs):
        results.append(result)
        found.add(result.found)
        advance()
    rans = [result.ran for result in results if result.ran is not None]
    differing = [(result.number, result) for result in results if result.number is not None]
    verdict = Verdict(
        plan,
        sum(result.cases for result in results),
        sum(result.calls for result in results),
        found,
        ran=np.maximum.reduce(rans) if rans else None,
    )
    return (min(differing, key=lambda one: one[0])[1] if differing else None), verdict


def _shrunk(plan: Plan, result: Result) -> Verdict:
    """The verdict where the last scenario of ``result`` is the first that differs, when it was run among others."""
    assert result.number is not None
    first, told = result.number, result.found.told
    ours, theirs = plan.sides()
    generator = plan.generator()
    calls = sum(len(generator.scenario(number).steps) for number in range(first + 1))
    scenario = result.varied or generator.scenario(first)
    if plan.faults:
        side, found = failures_of(scenario, ours, theirs)
        if side and found.scenario:
            smaller = shrink(found.scenario, lambda other: side.watch(other).fault != "")
            scenario, how = smaller[0], _how(found.scenario, *smaller)
            told = f"{side.name}: {side.watch(scenario).fault or found.finding}"
            looked = Examined(told, failures=found.runs)
            return Verdict(plan, first + 1, calls, looked, first, scenario, shrunk=how)
        return Verdict(plan, first + 1, calls, Examined(told, failures=found.runs), first, scenario)
    finding = Finding("", scenario) if plan.judge else Finding(compare(scenario, ours, theirs), scenario)
    if not finding.told and (plan.judge or is_sampled(plan, first)):
        finding = judged(theirs, scenario, first)[0]
    if not finding.told:
        told += "\n  only after the scenarios before it: something outlives a scenario"
        return Verdict(plan, first + 1, calls, Examined(told), first, scenario)

    def look(other: Scenario, side: Side, against: Side) -> str:
        if finding.judged:
            return fault_of(side, side.watch(other), other)
        return compare(other, against, side)

    scenario, done = shrink(finding.scenario, lambda other: look(other, theirs, ours) != "")
    ours, theirs = plan.sides()
    told = look(scenario, theirs, ours) or finding.told
    how = _how(finding.scenario, scenario, done)
    looked = Examined(told)
    return Verdict(plan, first + 1, calls, looked, first, scenario, by_judge=finding.judged, shrunk=how)


def _how(before: Scenario, after: Scenario, done: bool) -> str:
    """How a scenario was made smaller, in words."""
    if after is before:
        return ""
    return "shrunk" if done else f"shrunk, as far as {SHRINK_S:.0f} s went"


def _results(plan: Plan, cases: int, jobs: int) -> Iterator[Result]:
    """What came of each chunk; ends after the chunks that run when a difference is found."""
    size = plan.chunk
    chunks = [(start, min(start + size, cases)) for start in range(0, cases, size)]
    if jobs == 1 or len(chunks) == 1:
        _begin(plan)
        for chunk in chunks:
            result = _run(*chunk)
            yield result
            if result.number is not None:
                return
        return
    with ProcessPoolExecutor(min(jobs, len(chunks)), processes(__name__), _begin, (plan,)) as pool:
        waiting: set[Future[Result]] = set()
        found = False
        todo = iter(chunks)
        try:
            while True:
                while not found and len(waiting) < 2 * jobs and (following := next(todo, None)):
                    waiting.add(pool.submit(_run, *following))
                if not waiting:
                    return
                ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in ready:
                    result = future.result()
                    found = found or result.number is not None
                    yield result
        finally:
            pool.shutdown(cancel_futures=True)


_state: dict[str, Any] = {}


def _begin(plan: Plan) -> None:
    leave_interrupts()
    _state["sides"], _state["generator"], _state["plan"] = plan.sides(), plan.generator(), plan


def _run(start: int, end: int) -> Result:
    ours, theirs = _state["sides"]
    generator: Generator = _state["generator"]
    plan: Plan = _state["plan"]
    steps, number, found, varied = 0, start - 1, Examined(), None
    # What is varied depends on this chunk alone: the same scenarios come, whoever runs it.
    rng = random.Random(f"{plan.seed} {start}")
    kept: list[Scenario] = []
    if isinstance(theirs, ObjectSide):
        theirs.begin_chapter()
    for number in range(start, end):
        before = _blocks(theirs)
        own = number < generator.fixed  # none of those is left out for another
        varied = vary(kept, rng) if kept and not own and rng.random() < VARIED else None
        scenario = varied or generator.scenario(number)
        try:
            one = examine(plan, ours, theirs, scenario, number)
        except Unprovided:
            raise
        except InputError:  # the arguments of a varied one can fit no call
            if not varied:
                raise
            varied, scenario = None, generator.scenario(number)
            one = examine(plan, ours, theirs, scenario, number)
        steps += len(scenario.steps)
        found.add(one)
        if found.told:
            break
        if plan.guided and _blocks(theirs) > before and tame(scenario) and not careless(scenario):
            kept.append(scenario)
    found.seen.settle()
    differs = found.told != ""
    return Result(
        number - start + 1, steps, found, ran_by(theirs), number if differs else None, varied if differs else None
    )


def _blocks(side: Side) -> int:
    """How many basic blocks of the code have run so far."""
    return side.blocks_ran if isinstance(side, ObjectSide) else 0
