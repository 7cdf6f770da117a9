# SPDX-License-Identifier: GPL-2.0-only
"""A scenario like others that reached something new: joined, cut, repeated, or with memory short at another place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from vmaplab.calls.effects import Ends, Moves
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.shrink import without
from vmaplab.calls.table import STEPS, Call

MOST_STEPS = 80


def tame(scenario: Scenario) -> bool:
    """Whether it ends nothing twice: joined with another, that could free what is somebody else's by then."""
    ended: set[int] = set()
    for step in scenario.steps:
        call = STEPS[step.call]
        if isinstance(call, Call) and isinstance(call.effect, Ends | Moves):
            if step.ref < 0 or step.ref in ended:
                return False
            ended.add(step.ref)
    return True


def vary(kept: Sequence[Scenario], rng: random.Random) -> Scenario:
    """A new scenario from one or two of ``kept``."""
    scenario = rng.choice(kept)
    for _ in range(rng.choice((1, 1, 2, 3))):
        scenario = rng.choice((_joined, _cut, _short, _other))(scenario, kept, rng)
    return scenario


def _joined(scenario: Scenario, kept: Sequence[Scenario], rng: random.Random) -> Scenario:
    """Another one's steps behind its own, or its own once more."""
    others = [one for one in kept if one.total_pages == scenario.total_pages]
    more, first = rng.choice(others or [scenario]).steps, len(scenario.steps)
    if first + len(more) > MOST_STEPS:
        return scenario
    moved = [step._replace(ref=step.ref + first) if step.ref >= 0 else step for step in more]
    return replace(scenario, steps=(*scenario.steps, *moved))


def _cut(scenario: Scenario, kept: Sequence[Scenario], rng: random.Random) -> Scenario:
    """Without some of its steps."""
    start = rng.randrange(len(scenario.steps))
    steps = without(scenario.steps, start, start + rng.choice((1, 1, 2, len(scenario.steps) // 2)))
    return replace(scenario, steps=steps) if steps else scenario


def _short(scenario: Scenario, kept: Sequence[Scenario], rng: random.Random) -> Scenario:
    """Page tables or pages are short from some step on."""
    at = rng.randrange(len(scenario.steps) + 1)
    tables = Operation("tables", pages=rng.randrange(20))
    pages = Operation("memory", pages=rng.choice((rng.randrange(8), rng.randrange(1200))), pfn=-1)
    new = rng.choice((tables, pages, Operation("memory", pages=1 << 20, pfn=rng.randrange(10))))
    moved = [step._replace(ref=step.ref + (step.ref >= at)) for step in scenario.steps]
    return replace(scenario, steps=(*moved[:at], new, *moved[at:]))


def _other(scenario: Scenario, kept: Sequence[Scenario], rng: random.Random) -> Scenario:
    """With a simpler argument somewhere."""
    at = rng.randrange(len(scenario.steps))
    step = scenario.steps[at]
    simpler = [one for kind in STEPS[step.call].form for one in kind.simpler(step)]
    if not simpler:
        return scenario
    return replace(scenario, steps=(*scenario.steps[:at], rng.choice(simpler), *scenario.steps[at + 1 :]))
