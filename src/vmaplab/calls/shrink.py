# SPDX-License-Identifier: GPL-2.0-only
"""The smallest scenario that still shows what a larger one showed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.table import STEPS
from vmaplab.errors import InputError

SHRINK_S = 20.0


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], tries: int = 2000) -> Scenario:
    """The smallest scenario found that still ``fails``: fewer steps, fewer pages, rounder numbers.

    It gives up after ``tries``, or after :data:`SHRINK_S` seconds; code that loops takes seconds to show it.
    """

    def still(smaller: Scenario) -> bool:
        try:
            return fails(smaller)
        except InputError:  # too small to make sense
            return False

    stop = time.monotonic() + SHRINK_S
    again = True
    while again:
        again = False
        for smaller in _smaller(scenario):
            tries -= 1
            if tries < 0 or time.monotonic() > stop:
                return scenario
            if still(smaller):
                scenario, again = smaller, True
                break
    return scenario


def _smaller(scenario: Scenario) -> list[Scenario]:
    found = []
    steps = scenario.steps
    for size in (len(steps) // 2, len(steps) // 4, 1):
        for start in range(0, len(steps) if size else 0, max(size, 1)):
            kept = without(steps, start, start + size)
            if kept and len(kept) < len(steps):
                found.append(replace(scenario, steps=kept))
    if scenario.boot_args:
        found.append(replace(scenario, boot_args=""))
    if scenario.total_pages:
        found.append(replace(scenario, total_pages=None))
    for number, step in enumerate(steps):
        found += [
            replace(scenario, steps=(*steps[:number], simpler, *steps[number + 1 :]))
            for kind in STEPS[step.call].form
            for simpler in kind.simpler(step)
        ]
    return found


def without(steps: tuple[Operation, ...], start: int, end: int) -> tuple[Operation, ...]:
    """``steps`` without those from ``start`` to ``end``, and without what refers to them."""
    kept: list[Operation] = []
    new: dict[int, int] = {}
    for number, step in enumerate(steps):
        if start <= number < end or (step.ref >= 0 and step.ref not in new):
            continue
        new[number] = len(kept)
        kept.append(step._replace(ref=new[step.ref]) if step.ref >= 0 else step)
    return tuple(kept)
