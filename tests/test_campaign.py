# SPDX-License-Identifier: GPL-2.0-only
"""Many scenarios, one verdict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from object_support import EXAMPLE, SNIPPETS, needs_kernel
from vmaplab import Kernel
from vmaplab import release as releases
from vmaplab.calls.generator import UNALIGNED, WINDOW, Generator
from vmaplab.calls.scenario import Scenario, parse
from vmaplab.calls.table import absent_from
from vmaplab.check import campaign, one
from vmaplab.check.campaign import check
from vmaplab.check.one import check_one
from vmaplab.check.plan import Examined, Plan, Verdict
from vmaplab.check.seen import Seen
from vmaplab.check.tree import facts_of, model_config
from vmaplab.errors import InputError
from vmaplab.object import build, targets


@pytest.mark.parametrize(
    ("told", "found"),
    [(["", "", "they differ", "", ""], (3, 12, "they differ")), ([""] * 5, (5, None, ""))],
    ids=["one differs", "all agree"],
)
def test_a_difference_is_not_lost_behind_scenarios_that_agree(monkeypatch, told, found):
    answers = iter(told)
    monkeypatch.setattr(one, "compared", lambda *_: (next(answers), 0, 0, Seen()))
    generator = Generator(Kernel("x86_64").arch, seed=1)
    plan = SimpleNamespace(faults=False, judge=False, sample=0, guided=False, seed=1)
    monkeypatch.setattr(campaign, "_state", {"sides": (None, None), "generator": generator, "plan": plan})
    result = campaign._run(10, 15)
    assert (result.cases, result.number, result.found.told) == found


@pytest.mark.parametrize("arch", targets.MAIN)
def test_the_scenarios_of_the_package_come_first(arch):
    model = releases.get("linux-6.12").on(arch)
    generator = Generator(model, seed=1, cpus=targets.CPUS)
    kept = [str(generator.scenario(number)) for number in range(generator.fixed)]
    assert kept == [str(Generator(model, seed=2, cpus=targets.CPUS).scenario(number)) for number in range(len(kept))]
    fewer = Generator(model, seed=1, cpus=targets.CPUS, without=frozenset({WINDOW, "vrealloc"}))
    arrays = len(Generator(model, seed=1, only_vmap=True)._arrays)
    assert len(kept) - arrays >= 40 and 0 < fewer.fixed - arrays < len(kept) - arrays
    left = [str(fewer.scenario(number)) for number in range(arrays, fewer.fixed)]
    assert any("vrealloc" in text for text in kept) and not any("vrealloc" in text or "at=0x" in text for text in left)


@pytest.mark.parametrize("arch", targets.MAIN)
def test_what_notices_faults_of_any_architecture_is_left_out_of_none(arch):
    generator = Generator(releases.get("linux-6.12").on(arch), seed=1, cpus=targets.CPUS)
    ran = [str(generator.scenario(number)) for number in range(generator.fixed)]
    folder = Path(campaign.__file__).parents[1] / "calls" / "corpus"
    wanted = [str(parse(line)) for line in (folder / "all.txt").read_text().splitlines()]
    assert wanted and set(wanted) <= set(ran)


@needs_kernel
def test_a_check_of_6_12_leaves_out_nothing_but_what_nobody_looks_at():
    built = build.build(targets.get("x86_64"), config=targets.smp())
    plan = Plan(built, None, facts_of(built).release, model_config(built), 1, cpus=targets.CPUS)
    assert plan.generator().without == {UNALIGNED} and Verdict(plan, 1, 1, Examined()).notes == plan.notes
    old = replace(plan, built=replace(built, probed=()))
    assert "map_ram, percpu" in Verdict(old, 1, 1, Examined()).notes[-1]
    assert absent_from(plan.release) == set() and absent_from(releases.get("linux-6.1")) == {"vrealloc", "shrink"}


@pytest.mark.parametrize("varies", [True, False])
def test_only_a_varied_scenario_may_make_no_sense(monkeypatch, varies):
    """The generator's own is used in its place; where that makes none, it is an error."""

    def compared(scenario: Scenario, *_: object) -> tuple[str, int, int, Seen]:
        if scenario is nonsense or not varies:
            raise InputError("no whole chunks")
        return "", 0, 0, Seen()

    nonsense = parse("aliases; aliases")
    monkeypatch.setattr(one, "compared", compared)
    monkeypatch.setattr(campaign, "vary", lambda *_: nonsense)
    monkeypatch.setattr(campaign, "VARIED", 1.0)
    blocks = iter(range(100))
    monkeypatch.setattr(campaign, "_blocks", lambda _: next(blocks))
    monkeypatch.setattr(campaign, "tame", lambda _: True)
    monkeypatch.setattr(campaign, "careless", lambda _: False)
    generator = Generator(Kernel("x86_64").arch, seed=1)
    plan = SimpleNamespace(faults=False, judge=False, sample=0, guided=True, seed=1)
    monkeypatch.setattr(campaign, "_state", {"sides": (None, None), "generator": generator, "plan": plan})
    first = generator.fixed
    if not varies:
        with pytest.raises(InputError):
            campaign._run(first, first + 5)
        return
    result = campaign._run(first, first + 5)
    assert (result.cases, result.number, result.varied) == (5, None, None)
    assert result.calls == sum(len(generator.scenario(number).steps) for number in range(first, first + 5))


def test_no_varied_scenario_takes_the_place_of_a_fixed_one(monkeypatch):
    ran: list[Scenario] = []
    monkeypatch.setattr(one, "compared", lambda scenario, *_: (ran.append(scenario) or "", 0, 0, Seen()))
    monkeypatch.setattr(campaign, "VARIED", 1.0)
    blocks = iter(range(1000))
    monkeypatch.setattr(campaign, "_blocks", lambda _: next(blocks))
    generator = Generator(Kernel("x86_64").arch, seed=1)
    plan = SimpleNamespace(faults=False, judge=False, sample=0, guided=True, seed=1)
    monkeypatch.setattr(campaign, "_state", {"sides": (None, None), "generator": generator, "plan": plan})
    last = generator.fixed + 3
    campaign._run(0, last)
    own = [str(generator.scenario(number)) for number in range(last)]
    assert [str(scenario) for scenario in ran[: generator.fixed]] == own[: generator.fixed]
    assert [str(scenario) for scenario in ran[generator.fixed :]] != own[generator.fixed :]


@needs_kernel
class TestJudging:
    """Of a vmap() that leaves out flush_cache_vmap(), and changes nothing else."""

    def plan(self, **given: object) -> Plan:
        built = build.build(targets.get("arm64-4k"), None, targets.smp(), SNIPPETS / "rules.c", "no_cache_flush")
        return Plan(built, given.pop("base", built), releases.get("linux-6.12"), {}, 1, cpus=targets.CPUS, **given)

    def test_what_two_trees_have_in_common_is_judged(self):
        assert check(self.plan(), 4, jobs=1).word == "same"
        verdict = check(self.plan(sample=2), 4, jobs=1)
        assert verdict.word == "VIOLATION" and verdict.by_judge and verdict.found.judged
        assert "flush" in verdict.difference and len(verdict.scenario.steps) == 1
        again = check_one(self.plan(judge=True), verdict.scenario)
        assert again.by_judge and "flush" in again.difference

    def test_a_difference_does_not_hide_what_the_judges_say(self):
        alone = check(self.plan(base=None), 4, jobs=1)
        assert alone.word == "DIFFERENT" and alone.also is None
        verdict = check(self.plan(base=None, sample=3), 4, jobs=1)
        assert verdict.word == "DIFFERENT" and verdict.also is not None and verdict.also.by_judge

    def test_the_scenario_that_differs_is_judged_itself(self, monkeypatch):
        """Of few scenarios the judges saw one, which had nothing of it: "nothing wrong" was said of a wrong mapping."""
        several = campaign._campaigns

        def only_compared(plans, *others):
            assert not any(plan.judge for plan in plans)
            return several(plans, *others)

        monkeypatch.setattr(campaign, "_campaigns", only_compared)
        verdict = check(self.plan(base=None, sample=1000), 4, jobs=1)
        assert verdict.also is not None and verdict.also.by_judge and verdict.also.scenario == verdict.scenario

    def test_two_trees_that_differ_are_changed_and_wrong_only_if_a_judge_says_so(self):
        arm64, smp = targets.get("arm64-4k"), targets.smp()
        base = build.build(arm64, None, smp)
        batched = build.build(arm64, None, smp, EXAMPLE, "batched_vmap")
        plan = Plan(batched, base, releases.get("linux-6.12"), {}, 1, cpus=targets.CPUS, sample=4)
        verdict = check(plan, 40, jobs=1)
        assert (verdict.word, verdict.wrong) == ("changed", False) and verdict.difference
        broken = check(self.plan(base=base, sample=4), 8, jobs=1)
        assert (broken.word, broken.wrong) == ("DIFFERENT", True)

    def test_judges_alone_compare_with_nothing(self):
        plan = self.plan(base=None, judge=True)
        verdict = check(plan, 4, jobs=1)
        assert plan.against == "nothing" and verdict.word == "VIOLATION"


@needs_kernel
@pytest.mark.slow
def test_a_check_says_the_same_whoever_runs_its_parts():
    built = build.build(targets.get("arm64-4k"), None, targets.smp())
    plan = Plan(built, None, releases.get("linux-6.12"), {}, 1, pages=16, cpus=targets.CPUS)
    one, two = check(plan, 420, jobs=1), check(plan, 420, jobs=2)
    assert (one.calls, one.cases, str(one.found.seen), one.word) == (two.calls, two.cases, str(two.found.seen), "same")
    assert (one.ran > 0).tolist() == (two.ran > 0).tolist()


@needs_kernel
@pytest.mark.parametrize("arch", targets.MAIN)
def test_an_area_of_16_tib_lies_in_the_pool_of_a_page(arch):
    """size_to_va_pool() cuts the number of its pages to 32 bits: who asks for a page finds it, and the kernel warns."""
    built = build.build(targets.get(arch), None, targets.smp())
    plan = Plan(built, None, releases.get("linux-6.12"), {}, 1, cpus=targets.CPUS)
    page = "area 1 flags=0x44"  # VM_NO_GUARD: one page in all
    text = f"area 4294967296; vunmap @0; {page}; vmap 1; {page}; vunmap @2; aliases; {page}; shrink; {page}"
    assert check_one(plan, parse(text)).difference == ""
    warned = check_one(plan, parse(text)).plan.sides()[0].run(parse(text)).log.texts
    assert sum("another size" in text for text in warned) >= 2
