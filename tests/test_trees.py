# SPDX-License-Identifier: GPL-2.0-only
"""Trees: what each of them does otherwise, asked of the model and of the trees that are here.

Debian's 6.1 and 6.12 are always here; others are named with TREES="DIR DIR". What is not here is not run, and said.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from command import VMAPLAB
from effort import LONG, some
from object_support import EXAMPLE, changed_tree, needs_kernel
from vmaplab.calls.scenario import parse
from vmaplab.changes import Change
from vmaplab.check.asked import QUESTIONS, question
from vmaplab.check.campaign import check
from vmaplab.check.differential import compare, difference
from vmaplab.check.plan import Plan
from vmaplab.check.sides import ModelSide, ObjectSide
from vmaplab.check.survey import survey
from vmaplab.check.tree import between, facts_of, model_config
from vmaplab.errors import InputError
from vmaplab.object import build, targets
from vmaplab.release import RELEASES, of_version
from vmaplab.release.base import Release
from vmaplab.release.trees import TREES
from vmaplab.review.experiments.coupling import coupling
from vmaplab.review.subject import of_objects

ROWS = [release for release in RELEASES.values() if release.name.startswith("linux-")]
MAIN = ("arm64-4k", "x86_64", "riscv64-sv48")


def _debian(package: str) -> Path | None:
    try:
        return build.tree_of(package)
    except InputError:
        return None


HERE = [
    *filter(None, map(_debian, ("linux-source-6.1", "linux-source-6.12"))),
    *map(Path, os.environ.get("TREES", "").split()),
]
on_each_tree = pytest.mark.parametrize("tree", HERE, ids=lambda tree: tree.name)
for_each_change = pytest.mark.parametrize("change", QUESTIONS, ids=lambda change: change.name)


@cache
def object_of(tree: Path, arch: str) -> build.Built:
    """What `check` builds; one CPU where no test has several of them."""
    return build.build(targets.get(arch), tree, targets.smp() if arch in MAIN else ())


def is_row(built: build.Built) -> bool:
    """Whether the tree is one of those that the rows were compared with, or an update of it."""
    return tuple(int(part) for part in built.version.split(".")[:2]) == of_version(built.version).tree.number


def arch_for(change: Change) -> str:
    return next(name for name in ("x86_64", *MAIN) if name.startswith(QUESTIONS[change].family))


def without(release: Release, change: Change) -> Release:
    return replace(release, changes=release.tree.changes - {change})


def with_(release: Release, change: Change) -> Release:
    return replace(release, changes=release.tree.changes | {change})


def test_every_change_that_a_scenario_can_show_has_one():
    values = {Change.RISCV_HUGE_VMAP, Change.RISCV_SV39_LOWER, Change.ARM64_MODULES_2G}  # the tree tells them
    elsewhere = {
        Change.VMAP_NODES,  # the allocator itself
        Change.VREALLOC,  # there or not: the tree is asked (object/compat.py)
        Change.ARM64_BLOCKS_WITH_PTDUMP,  # needs a configuration: test_config.py
        Change.ARM64_SET_MEMORY_REFUSES_HUGE,  # set_memory_*() is read, not run
        Change.ARM64_MULTI_CONT_PTE,  # of a patch
        Change.VMAP_PFN_SETS,  # barriers, which the model has not: a rule (object/rules.py)
    }
    assert set(QUESTIONS) == set(Change) - values - elsewhere


@pytest.mark.parametrize("change", [one for one in Change if one.value.since[0].isdigit()], ids=lambda one: one.name)
def test_the_first_tree_that_has_a_change_is_the_one_it_names(change):
    number = tuple(map(int, change.value.since.split(".")))
    first = min(tree.number for tree in TREES if change in tree.changes)
    assert first == number


@for_each_change
def test_a_model_without_the_change_does_something_else(change):
    """On the scenario that asks for it: a fact that is dropped from the model is noticed."""
    first = next(release for release in ROWS if release.has(change))
    arch, cpus = arch_for(change), QUESTIONS[change].cpus
    scenario = question(change, first.on(arch))
    with_it, other = (
        ModelSide(release.on(arch), release, {}, cpus=cpus).run(scenario) for release in (first, without(first, change))
    )
    assert difference(scenario, with_it, other, ("with", "without")) or with_it.results != other.results


@needs_kernel
@pytest.mark.slow
@on_each_tree
@for_each_change
def test_the_tree_has_the_change_exactly_if_its_row_says_so(tree, change):
    cpus = QUESTIONS[change].cpus
    built = object_of(tree, arch_for(change))
    row = of_version(built.version)
    if not is_row(built):
        pytest.skip("a tree between two rows: what it took over early is asked, not known")
    if not built.has_nodes and cpus > 1:
        pytest.skip("no pools before struct vmap_node")
    if QUESTIONS[change].wild and not row.has(change):
        pytest.skip("the tree runs wild with it, for seconds")
    name, kernel, config = built.target.arch, ObjectSide(built, cpus=cpus), model_config(built)
    scenario = question(change, row.on(name))
    if scenario is None:
        pytest.skip("the address space does not begin where a PUD block does")
    other = without(row, change) if row.has(change) else with_(row, change)
    ours, wrong = (
        ModelSide(release.on(name), release, config, cpus=cpus, guided=not built.has_nodes) for release in (row, other)
    )
    assert compare(scenario, ours, kernel) == ""
    # A model that says "not defined" differs from nothing; then it is what it says that differs.
    assert compare(scenario, wrong, kernel) != "" or wrong.run(scenario).results != kernel.run(scenario).results


@needs_kernel
@pytest.mark.slow
@on_each_tree
@pytest.mark.parametrize("arch", targets.TARGETS)
def test_model_and_tree_do_the_same(tree, arch):
    if arch not in MAIN and tree.name.startswith("linux-source-6.1-") and not LONG:
        pytest.skip("a build of their own, for what differs by page size or levels alone: make nightly")
    built = object_of(tree, arch)
    facts = facts_of(built)
    assert built.guessed == () and (facts.notes == () or not is_row(built))
    verdict = check(
        Plan(built, None, facts.release, model_config(built), seed=4), some(480 if arch in MAIN else 160), jobs=1
    )
    assert verdict.difference == "", f"{verdict.scenario}: {verdict.difference}"


@needs_kernel
@pytest.mark.slow
@on_each_tree
@pytest.mark.parametrize("arch", MAIN)
def test_model_and_tree_do_the_same_in_sequences_of_four_cpus(tree, arch):
    built = object_of(tree, arch)
    release = facts_of(built).release
    verdict = check(Plan(built, None, release, model_config(built), seed=4, calls=50, cpus=4), 8, jobs=1)
    assert verdict.difference == "", f"{verdict.scenario}: {verdict.difference}"


@needs_kernel
@pytest.mark.slow
@on_each_tree
@pytest.mark.parametrize("arch", MAIN)
def test_the_judges_find_nothing_in_the_tree(tree, arch):
    built = object_of(tree, arch)
    plan = Plan(built, None, facts_of(built).release, model_config(built), seed=5, verify=True)
    verdict = check(plan, 40, jobs=1)
    assert verdict.difference == "" and verdict.found.translated > 0, f"{verdict.scenario}: {verdict.difference}"
    assert check(replace(plan, verify=False, faults=True, seed=6), 2, jobs=1).difference == ""


@needs_kernel
@pytest.mark.slow
@on_each_tree
@pytest.mark.parametrize(
    "arch, example, call",
    [
        ("arm64-4k", EXAMPLE, "batched_vmap"),
        ("x86_64", EXAMPLE, "batched_vmap"),
        ("arm64-4k", EXAMPLE.with_name("batched_ranges.c"), "ranges_vmap"),
    ],
    ids=["arm64-4k", "x86_64", "ranges-arm64-4k"],
)
def test_the_examples_are_what_mm_unstable_predicts(tree, arch, example, call):
    built = build.build(targets.get(arch), tree, targets.smp(), snippet=example, call=call)
    facts = facts_of(built)
    assert facts.release.name.startswith("mm-unstable over")
    verdict = check(Plan(built, None, facts.release, model_config(built), seed=2), 60, jobs=1)
    assert verdict.difference == "", f"{verdict.scenario}: {verdict.difference}"


def test_trees_that_are_not_here_are_named():
    """No test of code: it says what the tests above did not run."""
    here = {of_version(build.check_tree(tree)).tree.version for tree in HERE}
    missing = [tree.compared for tree in TREES if tree.version not in here]
    if missing:
        pytest.skip(f"not run: Linux {', '.join(missing)}; name their trees with TREES=")


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """6.12 as if a stable update had taken PTE_DIRTY out of PAGE_KERNEL."""
    tree = tmp_path_factory.mktemp("trees") / "tree"
    header = "arch/arm64/include/asm/pgtable-prot.h"
    return changed_tree(tree, header, "(PROT_NORMAL | PTE_DIRTY)", "(PROT_NORMAL)")


@needs_kernel
class TestValuesThatATreeTells:
    @pytest.mark.slow
    def test_a_stable_backport_is_no_difference_and_is_said(self, clean):
        built = object_of(clean, "arm64-4k")
        facts = facts_of(built)
        assert any("PAGE_KERNEL is 0x68000000000703" in note for note in facts.notes)
        plan = Plan(built, None, facts.release, model_config(built), seed=1)
        assert check(plan, 30, jobs=1).difference == ""
        row = replace(plan, release=of_version(built.version))
        assert "store" in check(row, 30, jobs=1).difference

    @pytest.mark.slow
    def test_compared_with_its_base_a_tree_is_said_to_differ_there_and_nowhere_else(self, clean):
        ours, base = object_of(clean, "arm64-4k"), object_of(build.tree_of(), "arm64-4k")
        facts, others = facts_of(ours), facts_of(base)
        (note,) = between(facts, others, "arm64-4k")
        assert note == "PAGE_KERNEL is 0x68000000000703 (the base: 0xe8000000000703)"
        verdict = check(Plan(ours, base, facts.release, model_config(ours), seed=1), 30, jobs=1)
        assert "bits that differ: 55" in verdict.difference  # PTE_DIRTY
        alike = Plan(base, base, others.release, model_config(base), seed=1)
        assert between(others, others, "arm64-4k") == [] and check(alike, 30, jobs=1).difference == ""

    def test_hugetlb_page_comes_from_the_configuration_that_was_built(self):
        assert model_config(object_of(build.tree_of(), "arm64-4k"))["HUGETLB_PAGE"]
        assert not model_config(object_of(build.tree_of(), "x86_64"))["HUGETLB_PAGE"]


@needs_kernel
@pytest.mark.slow
@pytest.mark.parametrize("arch", ["arm64-4k", "x86_64"])
def test_a_vmap_that_maps_the_first_block_everywhere_is_found_within_a_hundred_scenarios(arch, tmp_path):
    """It was "same" once: of 2,694 vmap() calls one made a PMD block."""
    text = EXAMPLE.read_text()
    right, wrong = "struct page *page = batch_page(b, addr);", "struct page *page = b->pages[0];"
    assert text.count(right) == 2  # the walker of PTEs, then that of PMDs
    broken = tmp_path / "broken.c"
    head, middle, tail = text.split(right)
    broken.write_text(head + right + middle + wrong + tail)
    built = build.build(targets.get(arch), snippet=broken, call="batched_vmap")
    facts = facts_of(built)
    verdict = check(Plan(built, None, facts.release, model_config(built), seed=1), 100, jobs=1)
    assert verdict.difference != ""


@needs_kernel
def test_a_scenario_that_goes_through_a_leaf_is_no_difference():
    """Once in some 70,000 scenarios: the model said BUG(), the object read where no memory is."""
    steps = parse("area 1; map @0 0x0+1536,0x0+512,0x0+1536,0x0+512,0x0+512 21; range @0 1 0x0")
    built = object_of(build.tree_of(), "x86_64")
    row = of_version(built.version)
    sides = ModelSide(row.on("x86_64"), row, model_config(built)), ObjectSide(built)
    assert [side.run(steps).results[-1] for side in sides] == ["goes through a leaf"] * 2
    assert compare(steps, *sides) == ""


@needs_kernel
@pytest.mark.parametrize(
    "arch, steps",
    [
        ("arm64-4k", "vmap 0x1000000000"),  # its struct page would be at address 0
        ("x86_64", "tables 0; vmap 0x0 flags=0x104"),  # vunmap() of what failed purges: the area is to be reset
        ("x86_64", "memory 0; vmalloc 2049 flags=0x100"),  # free_vm_area() of one without its page array does not
    ],
)
def test_what_only_6_1_does_is_followed(arch, steps):
    tree = _debian("linux-source-6.1")
    if tree is None:
        pytest.skip("Debian's 6.1 is not here")
    built = object_of(tree, arch)
    ours, theirs = Plan(built, None, facts_of(built).release, model_config(built), seed=1).sides()
    assert compare(parse(steps), ours, theirs) == ""


@needs_kernel
def test_a_warning_of_a_renamed_function_is_the_same_and_hides_nothing():
    tree = _debian("linux-source-6.1")
    if tree is None:
        pytest.skip("Debian's 6.1 is not here")
    base, ours = ObjectSide(object_of(tree, "x86_64"), "the base"), ObjectSide(object_of(build.tree_of(), "x86_64"))
    told = compare(parse("vfree 0x1234"), base, ours)  # __vunmap() was renamed; vfree() warns, too, since
    assert "event 1\n  the base:   nothing" in told and "nonexistent vm area" in told


@needs_kernel
def test_failing_allocations_are_not_tried_on_vmap_alone():
    built = object_of(build.tree_of(), "arm64-4k")
    plan = Plan(built, None, of_version(built.version), {}, seed=1)
    first, failing = (
        {step.call for number in range(20) for step in one.generator().scenario(number).steps}
        for one in (plan, replace(plan, faults=True))
    )
    assert first == {"vmap", "vunmap", "aliases"} and {"vmalloc", "ioremap"} <= failing


def test_a_survey_of_no_tree_is_bad_input(tmp_path):
    words = [*VMAPLAB, "object", "survey", "--tree", str(tmp_path), "--arch", "x86_64"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "") and "tree: " in done.stderr


@needs_kernel
def test_a_review_tries_no_boot_argument_that_the_kernel_does_not_parse():
    """riscv has none of BOOT_ARGS before HAVE_ARCH_HUGE_VMAP."""
    tree = _debian("linux-source-6.1")
    if tree is None:
        pytest.skip("Debian's 6.1 is not here")
    subject = of_objects([object_of(tree, "riscv64-sv48")], [])
    assert list(coupling(subject, "riscv64-sv48")) == []


class Answering(ObjectSide):
    """The kernel's own code, whose last step came to something else."""

    last: int | str

    def _play(self, *arguments, **keywords):
        run = super()._play(*arguments, **keywords)
        return run._replace(results=[*run.results[:-1], self.last])


@needs_kernel
@pytest.mark.parametrize(
    "arch, steps",
    [
        ("x86_64", "area 1; map @0 0x0+1536,0x0+512,0x0+1536,0x0+512,0x0+512 21; range @0 1 0x0"),
        ("riscv64-sv48", "area 1; range @0 512 0x0; range @0 512 0x0"),  # below its RAM: no linear address
        ("riscv64-sv48", "area 1; range @0 512 0x0; range @0 262144 0x0"),
    ],
)
def test_of_two_trees_both_must_go_through_a_leaf(arch, steps):
    steps, built = parse(steps), object_of(build.tree_of(), arch)
    assert compare(steps, ObjectSide(built, "the base"), ObjectSide(built, "the tree")) == ""
    other = Answering(built, "the tree")
    other.last = 0
    assert "goes through a leaf" in compare(steps, ObjectSide(built, "the base"), other)
    assert "goes through a leaf" in compare(steps, other, ObjectSide(built, "the base"))


@needs_kernel
def test_the_spare_page_of_pud_free_pmd_page_is_no_table():
    steps = parse("area 262144; range @0 1 0x40000; unrange @0 1; range @0 262144 0x40000")
    built = object_of(build.tree_of(), "x86_64")
    row = of_version(built.version)
    assert compare(steps, ModelSide(row.on("x86_64"), row, model_config(built)), ObjectSide(built)) == ""


@needs_kernel
@pytest.mark.slow
def test_a_survey_understands_debians_tree_and_says_why_not_of_a_broken_one(tmp_path):
    (one,) = survey(build.tree_of(), ["riscv64-sv39"])
    assert one.understood and one.facts and one.facts.row.name == "linux-6.12"
    (tmp_path / "Makefile").write_text("VERSION = 6\nPATCHLEVEL = 99\nSUBLEVEL = 0\n")
    (other,) = survey(tmp_path, ["riscv64-sv39"])
    assert not other.understood and other.why.startswith("tree: ")
