# SPDX-License-Identifier: GPL-2.0-only
"""The smallest scenario that still shows what a larger one showed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.table import STEPS
from vmaplab.errors import InputError

SHRINK_S = 20.0


class _OutOfTime(Exception):  # noqa: N818 - no error
    """There is no time for another try."""


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], tries: int = 4000) -> tuple[Scenario, bool]:
    """The smallest scenario found that still ``fails``: the tail cut, then halves and ever less, then rounder numbers.

    It gives up after ``tries``, or after :data:`SHRINK_S` seconds; code that loops takes seconds to show it.

    :returns: it, and whether nothing more could be left out.
    """
    stop = time.monotonic() + SHRINK_S
    left = tries

    def still(smaller: Scenario) -> bool:
        nonlocal left
        left -= 1
        if left < 0 or time.monotonic() > stop:
            raise _OutOfTime
        try:
            return fails(smaller)
        except InputError:  # too small to make sense
            return False

    best = [scenario]
    try:
        _cut_tail(best, still)
        again = True
        while again:
            before = best[0]
            _cut_parts(best, still)
            _simplify(best, still)
            again = best[0] is not before
    except _OutOfTime:
        return best[0], False
    return best[0], True


def _cut_tail(best: list[Scenario], still: Callable[[Scenario], bool]) -> None:
    """The shortest beginning that fails, as far as a longer one fails where a shorter one does."""
    scenario = best[0]
    low, high = 0, len(scenario.steps)  # the first ``low`` steps do not fail, the first ``high`` do
    while high - low > 1:
        middle = (low + high) // 2
        shorter = replace(scenario, steps=scenario.steps[:middle])
        if still(shorter):
            best[0], high = shorter, middle
        else:
            low = middle


def _cut_parts(best: list[Scenario], still: Callable[[Scenario], bool]) -> None:
    """Without parts of half the steps, a quarter, and so on down to single ones; from the end."""
    size = max(len(best[0].steps) // 2, 1)
    while True:
        end = len(best[0].steps)
        while end > 0:
            steps = best[0].steps
            kept = without(steps, max(end - size, 0), end)
            if kept and len(kept) < len(steps) and still(smaller := replace(best[0], steps=kept)):
                best[0] = smaller
            end = min(end - size, len(best[0].steps))
        if size == 1:
            return
        size //= 2


def _simplify(best: list[Scenario], still: Callable[[Scenario], bool]) -> None:
    """With simpler arguments, a plainer machine."""
    again = True
    while again:
        again = False
        for smaller in _simpler(best[0]):
            if still(smaller):
                best[0], again = smaller, True
                break


def _simpler(scenario: Scenario) -> Iterator[Scenario]:
    steps = scenario.steps
    if scenario.boot_args:
        yield replace(scenario, boot_args="")
    if scenario.total_pages:
        yield replace(scenario, total_pages=None)
    for number, step in enumerate(steps):
        for kind in STEPS[step.call].form:
            for simpler in kind.simpler(step):
                yield replace(scenario, steps=(*steps[:number], simpler, *steps[number + 1 :]))


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
