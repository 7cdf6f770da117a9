# SPDX-License-Identifier: GPL-2.0-only
"""One scenario: compared, judged, or with its allocations failing."""

from __future__ import annotations

import random
from typing import NamedTuple

from vmaplab.calls.effects import Asks, Changes, Ends, Maps, Moves, Reserves
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.table import call_of, effect_of
from vmaplab.check.coverage import Ran
from vmaplab.check.differential import compared
from vmaplab.check.faults import Failures, fail_each, failing
from vmaplab.check.plan import Examined, Plan, Verdict
from vmaplab.check.seen import Seen
from vmaplab.check.sides import BUG, ObjectSide, Run, Side
from vmaplab.errors import InputError


class Finding(NamedTuple):
    """What is wrong with a scenario.

    :param told: in words; "" if nothing is.
    :param scenario: that shows it.
    :param judged: a judge says so, of the object alone; otherwise two sides differ.
    """

    told: str
    scenario: Scenario
    judged: bool = False


def examine(plan: Plan, ours: Side, theirs: Side, scenario: Scenario, number: int) -> Examined:
    """Compare one scenario, or judge it, or both, or let its allocations fail."""
    if plan.faults:
        side, failed = failures_of(scenario, ours, theirs)
        told = f"{side.name}: {failed.finding}" if side else ""
        return Examined(told, failures=failed.runs, partly=failed.partly)
    found = Examined()
    if not plan.judge:
        found.told, found.translated, found.partly, found.seen = compared(scenario, ours, theirs)
    if not found.told and (plan.judge or is_sampled(plan, number)):
        finding, runs = judged(theirs, scenario, number)
        found.told = finding.told
        found.translated += sum(run.translated for run in runs)
        found.partly += sum(run.blind != "" for run in runs)
        found.judged = len(runs)
        if plan.judge:
            found.seen.add(Seen(stored=[runs[0].stored]))
    return found


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
    steps = len(scenario.steps)
    chosen = any(step.call == "fail" for step in scenario.steps)
    if chosen and not plan.faults and not plan.judge:
        raise InputError("the step 'fail' counts each side's own allocations, so nothing can be compared: add --faults")
    if plan.judge:
        run = theirs.watch(scenario)
        fault = fault_of(theirs, run, scenario)
        seen = Seen(stored=[run.stored])
        seen.settle()
        looked = Examined(fault, run.translated, partly=int(run.blind != ""), seen=seen)
        return Verdict(plan, 1, steps, looked, None, scenario, ran_by(theirs), by_judge=fault != "")
    if chosen:
        runs = [(side.name, side.watch(scenario)) for side in (ours, theirs)]
        told = "\n".join(f"{name}: {run.fault}" for name, run in runs if run.fault)
        looked = Examined(told, failures=2, partly=sum(run.blind != "" for _, run in runs))
        return Verdict(plan, 1, steps, looked, None, scenario)
    if plan.faults:
        side, found = failures_of(scenario, ours, theirs)
        told = f"{side.name}: {found.finding}" if side else ""
        looked = Examined(told, failures=found.runs, partly=found.partly)
        return Verdict(plan, 1, steps, looked, None, found.scenario or scenario)
    told, translated, partly, seen = compared(scenario, ours, theirs)
    seen.settle()
    looked = Examined(told, translated, partly=partly, seen=seen)
    return Verdict(plan, 1, steps, looked, None, scenario, ran_by(theirs))


def ran_by(side: Side) -> Ran | None:
    """Which of a side's code ran, if it is code that can be asked."""
    return side.ran() if isinstance(side, ObjectSide) else None


def failures_of(scenario: Scenario, ours: Side, theirs: Side) -> tuple[Side | None, Failures]:
    """Let the allocations of ``scenario`` fail on both sides: the side that breaks an invariant, and what was found."""
    runs = partly = 0
    for side in (ours, theirs):
        found = fail_each(side, scenario)
        runs += found.runs
        partly += found.partly
        if found.finding:
            return side, found._replace(runs=runs, partly=partly)
    return None, Failures(runs, partly)


def is_sampled(plan: Plan, number: int) -> bool:
    """Whether scenario ``number`` is watched beside the comparison."""
    return bool(plan.sample) and number % plan.sample == 0


def judged(side: Side, scenario: Scenario, number: int) -> tuple[Finding, list[Run]]:
    """Watch ``scenario`` on ``side``, as it is and with one of its allocations failing: what is wrong, and the runs."""
    runs = [side.watch(scenario)]
    if not runs[0].fault and runs[0].allocations:
        scenario = failing(scenario, (random.Random(number).randrange(runs[0].allocations),))
        runs.append(side.watch(scenario))
    return Finding(fault_of(side, runs[-1], scenario), scenario, judged=True), runs


def fault_of(side: Side, run: Run, scenario: Scenario) -> str:
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
