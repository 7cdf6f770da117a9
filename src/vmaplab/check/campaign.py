# SPDX-License-Identifier: GPL-2.0-only
"""Many random scenarios on two sides, in parallel; the first difference is shrunk."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from vmaplab.arch import Arch
from vmaplab.calls.effects import Asks, Changes, Ends, Maps, Moves, Reserves
from vmaplab.calls.generator import OF_A_PUD, UNALIGNED, WINDOW, Generator
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.shrink import SHRINK_S, shrink
from vmaplab.calls.table import STEPS, Call, call_of, effect_of
from vmaplab.calls.vary import tame, vary
from vmaplab.changes import Change
from vmaplab.check.coverage import Ran
from vmaplab.check.differential import BUG, ModelSide, ObjectSide, Run, Side, compare, compared
from vmaplab.check.faults import Failures, fail_each, failing
from vmaplab.check.seen import Seen
from vmaplab.errors import BREAKS, InputError, Unprovided
from vmaplab.object.build import Built
from vmaplab.release import Release

CHUNK = 200
SAMPLE = 8
"""Of so many scenarios one is judged beside the comparison, where nothing else is said."""
VARIED = 0.25
"""Which share of the scenarios is like others that reached new code, once there are some."""
OLD_ALLOCATOR = frozenset(
    {"map_ram", "unmap_ram", "map_pages", "unmap_pages", "vread", "info", "shrink", "percpu", WINDOW}
)
"""Calls that are not compared on trees before ``struct vmap_node`` (6.9): the model does not have their forms of that
time."""


class Finding(NamedTuple):
    """What is wrong with a scenario.

    :param told: in words; "" if nothing is.
    :param scenario: that shows it.
    :param judged: a judge says so, of the object alone; otherwise two sides differ.
    """

    told: str
    scenario: Scenario
    judged: bool = False


@dataclass
class Examined:
    """What came of one scenario, or of several added up.

    :param told: how the last one differed or broke an invariant; "" if it did not.
    :param translated: pages that an MMU translated.
    :param failures: runs with a failing allocation.
    :param partly: watched runs of which not all steps could be judged.
    :param judged: runs that the judges watched beside the comparison.
    :param seen: what their side built.
    """

    told: str = ""
    translated: int = 0
    failures: int = 0
    partly: int = 0
    judged: int = 0
    seen: Seen = field(default_factory=Seen)

    def add(self, other: Examined) -> None:
        """Take in what came of later ones."""
        self.told = self.told or other.told
        self.translated += other.translated
        self.failures += other.failures
        self.partly += other.partly
        self.judged += other.judged
        self.seen.add(other.seen)


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
    :param judge: compare nothing; watch the object.
    :param sample: of so many scenarios one is watched too, and once more with an allocation that fails; 0 for none.
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
    judge: bool = False
    sample: int = 0

    @property
    def guided(self) -> bool:
        """Whether scenarios that reach new code are varied."""
        return not (self.faults or self.calls or self.built.call != "vmap")

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
        if self.judge:
            return "nothing"
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

    def _has(self, call: Call) -> bool:
        """Whether the release has ``call``."""
        return call.since is None or self.release.has(call.since)

    def generator(self) -> Generator:
        """Where the scenarios come from."""
        only_vmap = self.built.call != "vmap"
        without = frozenset[str]() if self.built.has_nodes else OLD_ALLOCATOR
        if "VREALLOC" not in self.built.probed:
            without |= {"vrealloc"}
        without |= {step.word for step in STEPS.values() if isinstance(step, Call) and not self._has(step)}
        if self.cpus == 1 or self.built.config.get("SMP") != "y":
            without |= {"percpu"}
        if not self.release.has(Change.INNER_ERRORS):  # nobody looks there, and it takes seconds to run wild
            without |= {UNALIGNED}
        # Failing allocations are few scenarios: those arrays are all of one call, and each table is run again to fail.
        if self.faults:
            without |= {OF_A_PUD}
        return Generator(
            self.arch,
            self.seed,
            self.pages,
            only_vmap,
            self.calls,
            self.cpus,
            without,
            arrays_first=not self.faults,
            short=self.faults,
        )


@dataclass(frozen=True)
class Verdict:
    """What came of a campaign on one architecture.

    :param plan: what was compared.
    :param cases: scenarios compared.
    :param calls: steps in them.
    :param number: the scenario that differed, or None.
    :param scenario: the same, made smaller.
    :param difference: in words; empty if there is none.
    :param translated: pages that an MMU translated.
    :param failures: runs with a failing allocation.
    :param partly: watched runs of which not all steps could be judged.
    :param judged: runs that the judges watched beside the comparison.
    :param seen: what their side built.
    :param ran: which of its code ran.
    :param varied: the scenario is like others that reached new code, none of the generator's.
    :param shrunk: how the scenario was made smaller, in words; "" if it was not.
    :param by_judge: a judge found the difference, which is none between two sides.
    :param also: what the judges alone say where two sides differ.
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
    judged: int = 0
    seen: Seen = field(default_factory=Seen)
    ran: Ran | None = field(default=None, compare=False)
    by_judge: bool = False
    varied: bool = False
    shrunk: str = ""
    also: Verdict | None = None

    @property
    def word(self) -> str:
        """``same``, ``same, and holds``, ``holds``, ``DIFFERENT`` or ``VIOLATION``."""
        if self.difference:
            return "VIOLATION" if BREAKS in self.difference or self.by_judge else "DIFFERENT"
        if self.plan.faults or self.plan.judge:
            return "holds"
        return "same, and holds" if self.plan.verify or self.judged else "same"


def check(plan: Plan, cases: int, jobs: int | None = None, advance: Callable[[], None] = lambda: None) -> Verdict:
    """As :func:`check_all`, of one plan."""
    return check_all([plan], cases, jobs, advance)[0]


def check_all(
    plans: list[Plan], cases: int, jobs: int | None = None, advance: Callable[[], None] = lambda: None
) -> list[Verdict]:
    """Compare ``cases`` scenarios for each of ``plans``, on ``jobs`` processes.

    Each stops at its first difference, which is shrunk: those of several plans at the same time.

    :param jobs: processes; one per CPU if None.
    :param advance: called for each :data:`CHUNK` of scenarios.
    """
    jobs = jobs or len(os.sched_getaffinity(0))
    found = _campaigns(plans, cases, jobs, advance)
    for number, (plan, verdict) in enumerate(zip(plans, found, strict=True)):
        if plan.sample and verdict.difference and not verdict.by_judge and BREAKS not in verdict.difference:
            # A harmless difference must not hide a bug: the judges look at what remains, and at all else.
            alone = replace(plan, judge=True, sample=0)
            also = _campaigns([alone], max(cases // (4 * plan.sample), 1), jobs, lambda: None)[0]
            found[number] = replace(verdict, also=also)
    return found


def _campaigns(plans: list[Plan], cases: int, jobs: int, advance: Callable[[], None]) -> list[Verdict]:
    searched = [_search(plan, cases, jobs, advance) for plan in plans]
    differing = [(plan, first) for plan, (first, _) in zip(plans, searched, strict=True) if first]
    if len(differing) > 1 and jobs > 1:
        with ProcessPoolExecutor(min(jobs, len(differing)), multiprocessing.get_context("forkserver")) as pool:
            shrunk = iter(list(pool.map(_shrunk, *zip(*differing, strict=True))))
    else:
        shrunk = iter([_shrunk(plan, first) for plan, first in differing])
    verdicts = []
    for first, verdict in searched:
        if first:
            told = next(shrunk)
            kept = {name: getattr(verdict, name) for name in ("translated", "partly", "judged", "seen", "ran")}
            verdict = replace(told, varied=first.varied is not None, **kept)
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
        failures=found.failures,
        translated=found.translated,
        partly=found.partly,
        judged=found.judged,
        seen=found.seen,
        ran=np.maximum.reduce(rans) if rans else None,
    )
    return (min(differing, key=lambda one: one[0])[1] if differing else None), verdict


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
        if not isinstance(call.effect, Maps | Changes):
            continue
        last = step.pfn + step.pages if step.pfns is None else 0
        if isinstance(call.effect, Maps) and call.effect.memory is False and step.pfns is not None:
            last = int(step.pfns.max()) + 1
        if last > frames:
            raise InputError(f"'{step.call}' goes beyond the {frames:#x} page frames that {plan.arch.name} can address")
    ours, theirs = plan.sides()
    chosen = any(step.call == "fail" for step in scenario.steps)
    if chosen and not plan.faults and not plan.judge:
        raise InputError("the step 'fail' counts each side's own allocations, so nothing can be compared: add --faults")
    if plan.judge:
        run = theirs.watch(scenario)
        fault = _fault(theirs, run, scenario)
        seen = Seen(stored=[run.stored])
        seen.settle()
        return Verdict(
            plan,
            1,
            len(scenario.steps),
            None,
            scenario,
            fault,
            run.translated,
            partly=int(run.blind != ""),
            seen=seen,
            ran=_ran(theirs),
            by_judge=fault != "",
        )
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
    return Verdict(
        plan, 1, len(scenario.steps), None, scenario, told, translated, partly=partly, seen=seen, ran=_ran(theirs)
    )


def _ran(side: Side) -> Ran | None:
    return side.ran() if isinstance(side, ObjectSide) else None


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


def _shrunk(plan: Plan, result: Result) -> Verdict:
    """The verdict where the last scenario of ``result`` is the first that differs, when it was run among others."""
    assert result.number is not None
    first, told = result.number, result.found.told
    ours, theirs = plan.sides()
    generator = plan.generator()
    calls = sum(len(generator.scenario(number).steps) for number in range(first + 1))
    scenario = result.varied or generator.scenario(first)
    if plan.faults:
        side, found = _failures(scenario, ours, theirs)
        if side and found.scenario:
            smaller = shrink(found.scenario, lambda other: side.watch(other).fault != "")
            scenario, how = smaller[0], _how(found.scenario, *smaller)
            told = f"{side.name}: {side.watch(scenario).fault or found.finding}"
            return Verdict(plan, first + 1, calls, first, scenario, told, failures=found.runs, shrunk=how)
        return Verdict(plan, first + 1, calls, first, scenario, told, failures=found.runs)
    finding = Finding("", scenario) if plan.judge else Finding(compare(scenario, ours, theirs), scenario)
    if not finding.told and (plan.judge or _is_sampled(plan, first)):
        finding = _judged(theirs, scenario, first)[0]
    if not finding.told:
        told += "\n  only after the scenarios before it: something outlives a scenario"
        return Verdict(plan, first + 1, calls, first, scenario, told)

    def look(other: Scenario, side: Side, against: Side) -> str:
        if finding.judged:
            return _fault(side, side.watch(other), other)
        return compare(other, against, side)

    scenario, done = shrink(finding.scenario, lambda other: look(other, theirs, ours) != "")
    ours, theirs = plan.sides()
    told = look(scenario, theirs, ours) or finding.told
    how = _how(finding.scenario, scenario, done)
    return Verdict(plan, first + 1, calls, first, scenario, told, by_judge=finding.judged, shrunk=how)


def _how(before: Scenario, after: Scenario, done: bool) -> str:
    """How a scenario was made smaller, in words."""
    if after is before:
        return ""
    return "shrunk" if done else f"shrunk, as far as {SHRINK_S:.0f} s went"


def _is_sampled(plan: Plan, number: int) -> bool:
    """Whether scenario ``number`` is watched beside the comparison."""
    return bool(plan.sample) and number % plan.sample == 0


def _judged(side: Side, scenario: Scenario, number: int) -> tuple[Finding, list[Run]]:
    """Watch ``scenario`` on ``side``, as it is and with one of its allocations failing: what is wrong, and the runs."""
    runs = [side.watch(scenario)]
    if not runs[0].fault and runs[0].allocations:
        scenario = failing(scenario, (random.Random(number).randrange(runs[0].allocations),))
        runs.append(side.watch(scenario))
    return Finding(_fault(side, runs[-1], scenario), scenario, judged=True), runs


def _fault(side: Side, run: Run, scenario: Scenario) -> str:
    """What a judge says of a run; "" where a BUG() met who asked for it: the kernel trusts its callers."""
    return "" if not run.fault or (BUG in run.results and careless(scenario)) else f"{side.name}: {run.fault}"


def careless(scenario: Scenario) -> bool:
    """Whether a step maps over what is mapped, perhaps, asks for what is not there, or ends an area in a wrong way."""
    for step in scenario.steps:
        effect = effect_of(step.call)
        if isinstance(effect, Changes) or (isinstance(effect, Asks) and effect.trusts):
            return True
        if isinstance(effect, Ends):
            made = effect_of(scenario.steps[step.ref].call) if step.ref >= 0 else None
            made = effect_of(made.to) if isinstance(made, Moves) else made
            if not isinstance(made, Maps | Reserves) or step.call not in (made.ends, f"{made.ends}_atomic"):
                return True
    return False


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
            one = _examine(plan, ours, theirs, scenario, number)
        except Unprovided:
            raise
        except InputError:  # the arguments of a varied one can fit no call
            if not varied:
                raise
            varied, scenario = None, generator.scenario(number)
            one = _examine(plan, ours, theirs, scenario, number)
        steps += len(scenario.steps)
        found.add(one)
        if found.told:
            break
        if plan.guided and _blocks(theirs) > before and tame(scenario) and not careless(scenario):
            kept.append(scenario)
    found.seen.settle()
    differs = found.told != ""
    return Result(
        number - start + 1, steps, found, _ran(theirs), number if differs else None, varied if differs else None
    )


def _examine(plan: Plan, ours: Side, theirs: Side, scenario: Scenario, number: int) -> Examined:
    """Compare one scenario, or judge it, or both, or let its allocations fail."""
    if plan.faults:
        side, failed = _failures(scenario, ours, theirs)
        told = f"{side.name}: {failed.finding}" if side else ""
        return Examined(told, failures=failed.runs, partly=failed.partly)
    found = Examined()
    if not plan.judge:
        found.told, found.translated, found.partly, found.seen = compared(scenario, ours, theirs)
    if not found.told and (plan.judge or _is_sampled(plan, number)):
        finding, runs = _judged(theirs, scenario, number)
        found.told = finding.told
        found.translated += sum(run.translated for run in runs)
        found.partly += sum(run.blind != "" for run in runs)
        found.judged = len(runs)
        if plan.judge:
            found.seen.add(Seen(stored=[runs[0].stored]))
    return found


def _blocks(side: Side) -> int:
    """How many basic blocks of the code have run so far."""
    return side.blocks_ran if isinstance(side, ObjectSide) else 0
