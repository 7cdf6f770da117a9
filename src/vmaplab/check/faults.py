# SPDX-License-Identifier: GPL-2.0-only
"""Let the allocations of a scenario fail, one after the other and in pairs, and see that nothing else goes wrong."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import NamedTuple

from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario
from vmaplab.check.sides import Side

MOST_PAIRS = 300
"""Pairs that are tried; of more, as many that are spread evenly."""


class Failures(NamedTuple):
    """What came of it.

    :param runs: how often the scenario ran with a failing allocation.
    :param partly: runs of which not all steps could be judged.
    :param scenario: the first run that broke an invariant, as a scenario that does it again; None if none did.
    :param finding: what it broke.
    """

    runs: int
    partly: int = 0
    scenario: Scenario | None = None
    finding: str = ""


def failing(scenario: Scenario, numbers: tuple[int, ...]) -> Scenario:
    """``scenario`` with the allocations ``numbers`` (one or two, counted from 0) failing."""
    first, second = (*numbers, -1)[:2]
    steps = [step._replace(ref=step.ref + 1) if step.ref >= 0 else step for step in scenario.steps]
    return replace(scenario, steps=(Operation("fail", pages=first, pfn=second), *steps))


def bare(scenario: Scenario) -> Scenario:
    """What :func:`failing` was given."""
    if scenario.steps[0].call != "fail":
        return scenario
    steps = tuple(step._replace(ref=step.ref - 1) if step.ref > 0 else step for step in scenario.steps[1:])
    return replace(scenario, steps=steps)


def fail_each(side: Side, scenario: Scenario) -> Failures:
    """Run ``scenario`` watched: as it is, with each of its allocations failing, and with each pair."""
    run = side.watch(scenario)
    if run.fault:
        return Failures(0, int(run.blind != ""), scenario, run.fault)
    partly = int(run.blind != "")
    singles = [(number,) for number in range(run.allocations)]
    pairs = list(combinations(range(run.allocations), 2))
    step = max(1, -(-len(pairs) // MOST_PAIRS))
    chosen: list[tuple[int, ...]] = [*singles, *pairs[::step]]
    for count, numbers in enumerate(chosen, start=1):
        worse = failing(scenario, numbers)
        run = side.watch(worse)
        partly += run.blind != ""
        if run.fault:
            return Failures(count, partly, worse, run.fault)
    return Failures(len(chosen), partly)
