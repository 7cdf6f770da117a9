# SPDX-License-Identifier: GPL-2.0-only
"""Choose the scenarios that vmaplab replays first: few that together run all the code that many random ones run.

python tools/corpus.py [SCENARIOS]    writes src/vmaplab/calls/corpus/ARCH.txt for one architecture of each family
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import vmaplab
from vmaplab.calls.scenario import Scenario, parse
from vmaplab.check.differential import compared
from vmaplab.check.plan import Plan
from vmaplab.check.sides import ObjectSide
from vmaplab.check.tree import facts_of, model_config
from vmaplab.object import build, targets

MOST_TEXT = 1500


def chosen(arch: str, count: int) -> list[Scenario]:
    """The smallest set that a greedy choice finds among ``count`` scenarios of several seeds."""
    built = build.build(targets.get(arch), config=targets.smp())
    release, config = facts_of(built).release, model_config(built)
    found: list[tuple[Scenario, NDArray[np.bool_]]] = []
    known: NDArray[np.bool_] | None = None
    plan = Plan(built, None, release, config, 1, cpus=targets.CPUS)
    ours, theirs = plan.sides()
    assert isinstance(theirs, ObjectSide)
    for seed in (101, 102, 103, 104):
        generator = Plan(built, None, release, config, seed, cpus=targets.CPUS).generator()
        first = generator.fixed
        for number in range(first, first + count // 4):
            scenario = generator.scenario(number)
            text = str(scenario)
            if len(text) > MOST_TEXT:
                continue
            theirs.begin_chapter()
            told = compared(scenario, ours, theirs)[0]
            if told:
                raise SystemExit(f"{arch}: {scenario}\n{told}")
            now = theirs.ran_now > 0
            if known is None or (now & ~known).any():
                known = now if known is None else known | now
                found.append((parse(text), now))
    assert known is not None
    left, best = known.copy(), []
    while left.any():
        scenario, now = max(found, key=lambda one: (one[1] & left).sum() / (20 + len(str(one[0]))) ** 0.5)
        if not (now & left).any():
            scenario, now = max(found, key=lambda one: (one[1] & left).sum())
        left &= ~now
        best.append(scenario)
    return best


if __name__ == "__main__":
    folder = Path(vmaplab.__file__).parent / "calls" / "corpus"
    folder.mkdir(exist_ok=True)
    for name in targets.MAIN:
        scenarios = chosen(name, int(sys.argv[1]) if len(sys.argv) > 1 else 6000)
        (folder / f"{name}.txt").write_text("".join(f"{scenario}\n" for scenario in scenarios))
        print(f"{name}: {len(scenarios)} scenarios, {sum(len(one.steps) for one in scenarios)} steps")
