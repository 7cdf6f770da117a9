# SPDX-License-Identifier: GPL-2.0-only
"""The smallest scenario that shows what a larger one showed."""

from __future__ import annotations

from vmaplab.calls import shrink as module
from vmaplab.calls.generator import Generator
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario, parse
from vmaplab.calls.shrink import shrink
from vmaplab.kernel import Kernel


def long_scenario(steps: int) -> Scenario:
    generator = Generator(Kernel("arm64-4k").arch, seed=5, calls=steps)
    return generator.scenario(1)


def test_three_thousand_steps_become_the_few_that_matter_in_few_tries():
    before = long_scenario(3000)
    middle = Operation("aliases"), Operation("lookup", addr=0x7000), Operation("lookup", addr=0x8000)
    steps = (*before.steps[:900], middle[1], *before.steps[900:], middle[0], middle[2])
    # References behind the inserted step are one too low: they must not matter.
    scenario = Scenario(tuple(step._replace(ref=-1, addr=1) if step.ref >= 0 else step for step in steps))
    tried = 0

    def fails(one: Scenario) -> bool:
        nonlocal tried
        tried += 1
        at = [number for number, step in enumerate(one.steps) if step.addr == 0x7000]
        return bool(at) and any(step.addr == 0x8000 for step in one.steps[at[0] :])

    smaller, done = shrink(scenario, fails)
    assert done and str(smaller) == "lookup 0x7000; lookup 0x8000" and tried < 200


def test_the_tail_is_cut_first():
    scenario = parse("; ".join(f"area {number}" for number in range(1, 101)))
    seen: list[int] = []

    def fails(one: Scenario) -> bool:
        seen.append(len(one.steps))
        return any(step.pages == 10 for step in one.steps)

    smaller, done = shrink(scenario, fails)
    assert done and str(smaller) == "area 10"
    assert seen[:3] == [50, 25, 12]


def test_what_cannot_be_smaller_is_the_same_scenario():
    scenario = parse("aliases")
    assert shrink(scenario, lambda one: str(one) == "aliases") == (scenario, True)


def test_it_says_so_when_time_runs_out(monkeypatch):
    monkeypatch.setattr(module, "SHRINK_S", -1.0)
    scenario = parse("aliases; aliases")
    assert shrink(scenario, lambda one: True) == (scenario, False)


def test_arguments_become_simpler_and_references_stay():
    scenario = parse("boot nohugeiomap; pages 0x40000; area 7; vmap 0x123+40; lookup @1+9; vunmap @1")

    def fails(one: Scenario) -> bool:
        steps = [step.call for step in one.steps]
        return steps[-2:] == ["vmap", "vunmap"] and one.steps[-1].ref == len(one.steps) - 2

    assert str(shrink(scenario, fails)[0]) == "vmap 0x0; vunmap @0"
