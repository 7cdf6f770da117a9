# SPDX-License-Identifier: GPL-2.0-only
"""Allocations that fail in a booted kernel, by its own fault injection, held against the same code in the emulator.

The two count allocations differently: a booted kernel's slab takes pages of its own. So what it comes to with any one
failing has to be what the emulator comes to with some one failing, or with none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vmaplab.boot.build import Bootable
from vmaplab.calls.scenario import Scenario
from vmaplab.check.booted import DRAWN, MOST_TRIES, Trio, only_steps, why_not
from vmaplab.check.came import Came, is_fatal
from vmaplab.check.faults import failing
from vmaplab.errors import InputError
from vmaplab.object.build import Built

MOST = 48
"""Allocations of a scenario: those with more are left out."""
_NONE = 1 << 30
"""The number of an allocation that none reaches."""
_PAGES = 16


@dataclass
class Failing:
    """What came of many scenarios, each with one allocation failing after the other.

    :param scenarios: that were run; ``skipped``: that no kernel is asked for, or of which more allocations can fail.
    :param runs: on the booted kernel, an allocation failing in each; ``failed``: those that came to something else
        than without.
    :param outcomes: different ones that the emulator came to; ``met``: those of them that the booted kernel came to.
    :param difference: in words, "" if there is none; ``scenario``: the one that shows it, with its first step.
    """

    kernel: Bootable
    scenarios: int = 0
    skipped: int = 0
    runs: int = 0
    failed: int = 0
    outcomes: int = 0
    met: int = 0
    difference: str = ""
    scenario: Scenario | None = None


def check_failing(
    kernel: Bootable,
    built: Built,
    cases: int,
    seed: int = 1,
    scenario: Scenario | None = None,
    told: Callable[[], None] = lambda: None,
) -> Failing:
    """Run scenarios with each allocation failing; stops at a difference.

    :param kernel: with :data:`~vmaplab.boot.build.FAULTS`; ``built``: the object of the same tree.
    :param cases: how many to run; ``scenario``: the only one to run.
    :param told: called for each scenario.
    """
    only_steps(scenario)
    trio, found = Trio(kernel, built, modelled=False), Failing(kernel)
    try:
        generator = trio.generator(seed, _PAGES)
        for number in range(1 if scenario else DRAWN * cases):
            if found.scenarios == cases or found.difference:
                break
            one = trio.placed(scenario or generator.scenario(number))
            if one is None or not _each(trio, one, found):
                if scenario:
                    why = (
                        why_not(scenario) if one is None else f"it is not defined, or has more than {MOST} allocations"
                    )
                    raise InputError(f"'{scenario}' cannot be compared: {why}")
                found.skipped += 1
                continue
            found.scenarios += 1
            told()
    finally:
        trio.close()
    return found


def _all_of_object(trio: Trio, scenario: Scenario, areas: list[tuple[int, int]]) -> list[Came] | None:
    """What the emulator comes to: with none failing, and with each; None if that is not defined, or too much."""
    first = trio.emulated(failing(scenario, (_NONE,)), areas)
    count = trio.object.allocations
    if first is None:
        raise InputError(f"nothing to hold the booted kernel against: {trio.without}")
    if is_fatal(first) or count > MOST:
        return None
    different = [first]
    for number in range(count):
        worse = failing(scenario, (number,))
        came = trio.emulated(worse, areas)
        if came is None or is_fatal(came):
            return None
        if not any(_are_same(came, one) for one in different):
            different.append(came)
    return different


def _are_same(one: Came, other: Came) -> bool:
    return one.results == other.results and one.info == other.info and np.array_equal(one.entries, other.entries)


def _each(trio: Trio, scenario: Scenario, found: Failing) -> bool:
    """Run it on the booted kernel, one allocation failing after the other, up to where none is left to fail.

    :returns: whether that can be asked for.
    """
    trio.booted.reset()
    areas = trio.filled()
    theirs = _all_of_object(trio, scenario, areas)
    if theirs is None:
        return False
    met, number, tries = {0}, 0, 0
    while True:
        worse = failing(scenario, (number,))
        real = trio.real(worse)
        has_failed = bool(real.fault) or trio.booted.allocations > number
        told = [trio.differ(worse, one, real) for one in theirs]
        same = next((which for which, text in enumerate(told) if not text), None)
        fell, now = trio.booted.reset(), trio.filled()
        if now != areas and tries < MOST_TRIES:  # others took some: once more, with those
            tries += 1
            areas, theirs = now, _all_of_object(trio, scenario, now) or theirs
            continue
        if not has_failed and same == 0 and now == areas:
            break
        found.runs += has_failed
        found.failed += same != 0
        if same is None or fell or now != areas or not has_failed:
            left = "areas are left that were not there" if now != areas else ""
            nearest = told[0] or min(told[1:] or told, key=lambda text: text.startswith("step"))
            found.difference = f"when all is ended\n  booted: {fell or left}" if fell or left else nearest
            found.scenario = worse if has_failed else scenario
            break
        tries = 0
        met.add(same)
        number += 1
    found.outcomes += len(theirs)
    found.met += len(met)
    return True
