# SPDX-License-Identifier: GPL-2.0-only
"""Many random scenarios on two sides, in parallel; the first difference is shrunk."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from vmaplab.arch import Arch
from vmaplab.calls.effects import Maps
from vmaplab.calls.generator import OF_A_PUD, UNALIGNED, Generator
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.shrink import shrink
from vmaplab.calls.table import call_of
from vmaplab.changes import Change
from vmaplab.check.differential import ModelSide, ObjectSide, Side, compare, compared
from vmaplab.check.faults import Failures, fail_each
from vmaplab.check.seen import Seen
from vmaplab.errors import BREAKS, InputError
from vmaplab.object.build import Built
from vmaplab.release import Release

CHUNK = 200
OLD_ALLOCATOR = frozenset({"map_ram", "unmap_ram", "map_pages", "unmap_pages", "vread", "info"})
"""Calls that are not compared on trees before ``struct vmap_node`` (6.9): the model does not have their forms of that
time."""


class Result(NamedTuple):
    """What came of some scenarios.

    :param cases: how many ran.
    :param calls: steps in them.
    :param translated: pages that an MMU translated.
    :param failures: runs with a failing allocation.
    :param partly: watched runs of which not all steps could be judged.
    :param seen: what their side built.
    :param number: the first scenario that differed or broke an invariant, or None.
    :param told: how.
    """

    cases: int
    calls: int
    translated: int
    failures: int
    partly: int
    seen: Seen
    number: int | None = None
    told: str = ""


@dataclass(frozen=True)
class Plan:
    """What is compared, on one architecture.

    :param built: the object.
    :param base: the object that it is compared with; None for the model.
    :param release: the model's release, or what the object's tree is taken for.
    :param notes: what a reader must know of that.
    :param config: the model's configuration, ``KEY -> bool``.
    :param seed: of the scenarios.
    :param pages: of a usual page array.
    :param verify: watch both sides: invariants, and an emulated MMU where there is one.
    :param faults: compare nothing; run each side watched with each allocation failing, and with pairs.
    :param calls: so many calls of all kinds in a scenario; 0 for short scenarios.
    :param cpus: CPUs of the machine; the object must be built for them.
    """

    built: Built
    base: Built | None
    release: Release
    config: dict[str, bool]
    seed: int
    pages: int = 256
    verify: bool = False
    faults: bool = False
    calls: int = 0
    cpus: int = 1
    notes: tuple[str, ...] = ()

    @property
    def arch(self) -> Arch:
        """The architecture."""
        return self.release.on(self.built.target.arch)

    @property
    def chunk(self) -> int:
        """Scenarios that a process runs before it reports."""
        return 1 if self.faults else max(1, CHUNK // self.calls) if self.calls else CHUNK

    @property
    def against(self) -> str:
        """What the object is compared with."""
        return self.release.name if self.base is None else f"{self.base.code} in {self.base.tree.name}"

    @property
    def code(self) -> str:
        """What is compared with it."""
        return self.built.code if self.base is None else f"{self.built.code} in {self.built.tree.name}"

    def sides(self) -> tuple[Side, Side]:
        """What to compare: the model or the base tree, and the object."""
        if self.base is None:
            guided = not self.built.has_nodes
            model = ModelSide(self.arch, self.release, self.config, verify=self.verify, cpus=self.cpus, guided=guided)
            return model, ObjectSide(self.built, verify=self.verify, cpus=self.cpus)
        base = ObjectSide(self.base, "the base", self.verify, self.cpus)
        return base, ObjectSide(self.built, "the tree", self.verify, self.cpus)

    def generator(self) -> Generator:
        """Where the scenarios come from."""
        only_vmap = self.built.call != "vmap"
        without = frozenset[str]() if self.built.has_nodes else OLD_ALLOCATOR
        if not self.release.has(Change.INNER_ERRORS):  # nobody looks there, and it takes seconds to run wild
            without |= {UNALIGNED}
        # Failing allocations are few scenarios: those arrays are all of one call, and each table is run again to fail.
        first = not self.faults
        if self.faults:
            without |= {OF_A_PUD}
        return Generator(self.arch, self.seed, self.pages, only_vmap, self.calls, self.cpus, without, first)


@dataclass(frozen=True)
class Verdict:
    """What came of a campaign on one architecture.

    :param plan: what was compared.
    :param cases: scenarios compared.
    :param calls: steps in them.
    :param number: the scenario that differed, or None.
    :param scenario: the same, shrunk.
    :param difference: in words; empty if there is none.
    :param translated: pages that an MMU translated.
    :param failures: runs with a failing allocation.
    :param partly: watched runs of which not all steps could be judged.
    :param seen: what their side built.
    """

    plan: Plan
    cases: int
    calls: int
    number: int | None = None
    scenario: Scenario | None = None
    difference: str = ""
    translated: int = 0
    failures: int = 0
    partly: int = 0
    seen: Seen = field(default_factory=Seen)

    @property
    def word(self) -> str:
        """``same``, ``same, and holds``, ``holds``, ``DIFFERENT`` or ``VIOLATION``."""
        if self.difference:
            return "VIOLATION" if BREAKS in self.difference else "DIFFERENT"
        return "holds" if self.plan.faults else "same, and holds" if self.plan.verify else "same"


def check(plan: Plan, cases: int, jobs: int | None = None, advance: Callable[[], None] = lambda: None) -> Verdict:
    """Compare ``cases`` scenarios, on ``jobs`` processes; stops at the first difference and shrinks it.

    :param jobs: processes; one per CPU if None.
    :param advance: called for each :data:`CHUNK` of scenarios.
    """
    jobs = jobs or len(os.sched_getaffinity(0))
    results = []
    for result in _results(plan, cases, jobs):
        results.append(result)
        advance()
    found = [(result.number, result.told) for result in results if result.number is not None]
    seen = Seen()
    for result in results:
        seen.add(result.seen)
    if found:
        return replace(_shrunk(plan, *min(found)), seen=seen)
    sums = (sum(column) for column in zip(*(result[:5] for result in results), strict=True))
    cases, calls, translated, failures, partly = sums
    return Verdict(plan, cases, calls, translated=translated, failures=failures, partly=partly, seen=seen)


def check_one(plan: Plan, scenario: Scenario) -> Verdict:
    """Compare one given scenario; not shrunk."""
    frames = 1 << plan.arch.phys_bits - plan.arch.page_shift
    for step in scenario.steps:
        call = call_of(step)
        if call is None:
            if step.call == "cpu" and step.pages >= plan.cpus:
                raise InputError(f"there is no CPU {step.pages}: the machine has {plan.cpus}; say --cpus")
            continue
        if call.binding is None:
            raise InputError(f"'{step.call}' is answered by the model alone; use 'vmaplab replay'")
        last = step.pfn + step.pages if step.pfns is None else 0
        if isinstance(call.effect, Maps) and call.effect.memory is False and step.pfns is not None:
            last = int(step.pfns.max()) + 1
        if last > frames:
            raise InputError(f"'{step.call}' goes beyond the {frames:#x} page frames that {plan.arch.name} can address")
    ours, theirs = plan.sides()
    chosen = any(step.call == "fail" for step in scenario.steps)
    if chosen and not plan.faults:
        raise InputError("the step 'fail' counts each side's own allocations, so nothing can be compared: add --faults")
    if chosen:
        runs = [(side.name, side.watch(scenario)) for side in (ours, theirs)]
        told = "\n".join(f"{name}: {run.fault}" for name, run in runs if run.fault)
        partly = sum(run.blind != "" for _, run in runs)
        return Verdict(plan, 1, len(scenario.steps), None, scenario, told, failures=2, partly=partly)
    if plan.faults:
        side, found = _failures(scenario, ours, theirs)
        told = f"{side.name}: {found.finding}" if side else ""
        shown = found.scenario or scenario
        return Verdict(plan, 1, len(scenario.steps), None, shown, told, failures=found.runs, partly=found.partly)
    told, translated, partly, seen = compared(scenario, ours, theirs)
    seen.settle()
    return Verdict(plan, 1, len(scenario.steps), None, scenario, told, translated, partly=partly, seen=seen)


def _failures(scenario: Scenario, ours: Side, theirs: Side) -> tuple[Side | None, Failures]:
    """Let the allocations of ``scenario`` fail on both sides: the side that breaks an invariant, and what was found."""
    runs = partly = 0
    for side in (ours, theirs):
        found = fail_each(side, scenario)
        runs += found.runs
        partly += found.partly
        if found.finding:
            return side, found._replace(runs=runs, partly=partly)
    return None, Failures(runs, partly)


def _shrunk(plan: Plan, first: int, told: str) -> Verdict:
    """The verdict where scenario ``first`` is the first that differs, as ``told`` when it was run among others."""
    ours, theirs = plan.sides()
    generator = plan.generator()
    calls = sum(len(generator.scenario(number).steps) for number in range(first + 1))
    scenario = generator.scenario(first)
    if plan.faults:
        side, found = _failures(scenario, ours, theirs)
        if side and found.scenario:
            scenario = shrink(found.scenario, lambda other: side.watch(other).fault != "")
            told = f"{side.name}: {side.watch(scenario).fault or found.finding}"
        return Verdict(plan, first + 1, calls, first, scenario, told, failures=found.runs)
    if compare(scenario, ours, theirs):
        scenario = shrink(scenario, lambda other: compare(other, ours, theirs) != "")
        told = compare(scenario, *plan.sides()) or told
    else:
        told += "\n  only after the scenarios before it: something outlives a scenario"
    return Verdict(plan, first + 1, calls, first, scenario, told)


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
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(min(jobs, len(chunks)), context, _begin, (plan,)) as pool:
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
    with suppress(ValueError):  # the terminal's interrupt is for the main process
        if multiprocessing.parent_process() is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    _state["sides"], _state["generator"], _state["faults"] = plan.sides(), plan.generator(), plan.faults


def _run(start: int, end: int) -> Result:
    ours, theirs = _state["sides"]
    generator: Generator = _state["generator"]
    steps = translated = failures = partly = 0
    seen, told, number = Seen(), "", start - 1
    for number in range(start, end):
        scenario = generator.scenario(number)
        steps += len(scenario.steps)
        if _state["faults"]:
            side, found = _failures(scenario, ours, theirs)
            told = f"{side.name}: {found.finding}" if side else ""
            failures += found.runs
            partly += found.partly
        else:
            told, pages, unjudged, there = compared(scenario, ours, theirs)
            seen.add(there)
            translated += pages
            partly += unjudged
        if told:
            break
    seen.settle()
    differing = number if told else None
    return Result(number - start + 1, steps, translated, failures, partly, seen, differing, told)
