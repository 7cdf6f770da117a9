# SPDX-License-Identifier: GPL-2.0-only
"""Which lines ran, and which of those that a tree changes."""

from __future__ import annotations

import random

import numpy as np
import pytest

from object_support import changed_tree, needs_kernel, object_of
from vmaplab.calls.scenario import parse
from vmaplab.calls.vary import MOST_STEPS, tame, vary
from vmaplab.check.coverage import VMALLOC, Coverage, changes_ran, functions_of, guard_of, spans
from vmaplab.check.one import careless, check_one
from vmaplab.check.plan import Plan
from vmaplab.object import build, targets
from vmaplab.release import RELEASES
from vmaplab.report.as_json import word_of
from vmaplab.report.checks import changed_text

SOURCE = """\
static int one(int a)
{
\tif (a > 1 &&
\t    a < 5) {
\t\tfirst();
\t\treturn 1;
\t}
\tfor (;;)
\t\tsecond();
}
EXPORT_SYMBOL(one);

struct kind {
\tint a;
};
int
two(void)
{
\treturn 2;
}
"""


def test_functions_have_their_first_and_last_line(tmp_path):
    path = tmp_path / "source.c"
    path.write_text(SOURCE)
    assert [tuple(one) for one in functions_of(path)] == [("one", 1, 10), ("two", 17, 20)]


@pytest.mark.parametrize("line, guard", [(5, 3), (6, 3), (9, 8), (19, 0)])
def test_a_line_is_guarded_by_the_condition_above_it(line, guard):
    lines = SOURCE.splitlines()
    number, text = guard_of(lines, line)
    assert number == guard and (not guard or lines[guard - 1].split()[0] in text)


def test_lines_are_told_as_spans():
    assert spans([1, 2, 3, 7, 9, 10]) == [(1, 3), (7, 7), (9, 10)]


@pytest.mark.parametrize(
    "text, there",
    [
        ("vmap 0x1; vunmap @0", True),
        ("vmap 0x1; vunmap @0; vunmap @0", False),
        ("vfree 0x1000", False),
        ("vmalloc 1; vrealloc @0 9; vfree @1", True),
        ("vmalloc 1; vrealloc @0 9; vfree @0", False),
    ],
)
def test_only_what_ends_nothing_twice_is_joined_with_others(text, there):
    assert tame(parse(text)) is there


def test_variations_refer_to_steps_before_them():
    kept = [parse("vmalloc 3; area 5; vfree @0; vunmap @1"), parse("map_ram 0x1+4; aliases; unmap_ram @0 4")]
    rng = random.Random(1)
    for _ in range(300):
        steps = vary(kept, rng).steps
        assert 0 < len(steps) <= MOST_STEPS + 3
        assert all(step.ref < number for number, step in enumerate(steps))
        assert tame(vary(kept, rng))


@pytest.mark.parametrize(
    "text, expected",
    [
        ("vmap 0x1; vunmap @0", False),
        ("vmalloc 1; vfree_atomic @0", False),
        ("area 1; range @0 1 0x5", True),
        ("map_ram 0x1; vunmap @0", True),
        ("vunmap 0x5000", True),
    ],
)
def test_a_bug_is_the_caller_s_where_it_asks_for_one(text, expected):
    assert careless(parse(text)) is expected


@needs_kernel
class TestObject:
    def plan(self, built, **given):
        return Plan(built, None, RELEASES["linux-6.12"], {}, 1, **given)

    def coverage(self, built, text):
        verdict = check_one(self.plan(built), parse(text))
        assert verdict.difference == "" and verdict.ran is not None
        return Coverage.of(built, verdict.ran)

    def test_what_ran_is_what_the_steps_call(self):
        found = self.coverage(object_of("arm64-4k"), "vmap 0x1+3; vunmap @0")
        by_name = {one.function.name: one for one in found.functions()}
        assert by_name["vmap"].ran > 5 and by_name["vunmap"].ran > 5 and by_name["vm_unmap_aliases"].ran == 0
        source = (found.built.tree / VMALLOC).read_text().splitlines()
        ran = {source[line - 1].strip() for line in found.ran[VMALLOC]}
        assert "err = vmap_pages_p4d_range(pgd, addr, next, prot, pages, &nr, &mask);" in ran
        assert "err = -EBUSY;" not in ran
        lines, reachable, all_lines = found.reached()
        assert 150 < lines < reachable < all_lines
        ways, taken = found.branches()
        assert 0.05 < taken / ways < 0.6

    def test_more_steps_run_more(self):
        built = object_of("x86_64")
        less, more = self.coverage(built, "vmap 0x1"), self.coverage(built, "vmap 0x1; map_ram 0x5; vunmap @0; aliases")
        assert less.ran[VMALLOC] < more.ran[VMALLOC]
        assert less.code == more.code

    def test_line_numbers_are_those_of_the_source(self):
        image = Coverage.of(object_of("riscv64-sv39"), np.zeros(1 << 20, dtype=np.uint8))
        functions = {one.name: one for one in functions_of(image.built.tree / VMALLOC)}
        first, last = functions["vunmap"][1:]
        assert {line for line in image.code[VMALLOC] if first <= line <= last}

    @pytest.mark.slow
    def test_changed_lines_that_no_step_ran_are_named(self, tmp_path):
        warned = '\tif (unlikely(!vm)) {\n\t\tWARN(1, KERN_ERR "Trying to vunmap()'
        wrong = warned.replace("\tif", "\tmight_sleep();\n\tif")
        wrong = wrong.replace("\tWARN", "\tWRITE_ONCE(vmap_initialized, true);\n\t\tWARN")
        tree = changed_tree(tmp_path / "tree", VMALLOC, warned, wrong)
        built = build.build(targets.get("arm64-4k"), tree)
        changed = changes_ran([self.coverage(built, "vmap 0x1")], build.tree_of())
        assert changed is not None and changed.counts[0] == 0 and len(changed.missing) == changed.counts[1] == 1
        changed = changes_ran([self.coverage(built, "vfree 0x1000; vunmap 0x1000")], None)
        assert changed is not None and changed.counts == (1, 1) and not changed.missing and changed.silent == 1

    @pytest.mark.slow
    def test_a_changed_call_that_a_header_has_inline_counts_as_a_line(self, tmp_path):
        right = "\t\tspin_lock(&vn->busy.lock);\n\t\tva = __find_vmap_area(addr, &vn->busy.root);\n\t\tspin_unlock"
        tree = changed_tree(tmp_path / "tree", VMALLOC, right, right.replace("&vn->busy.lock", "&(vn->busy.lock)"))
        built = build.build(targets.get("x86_64"), tree, targets.smp())
        changed = changes_ran([self.coverage(built, "vmalloc 1; dump @0")], None)
        assert changed is not None and (changed.counts, changed.silent) == ((0, 1), 0)
        changed = changes_ran([self.coverage(built, "ioremap 0x0+1; vrealloc @0 1")], None)
        assert changed is not None and changed.counts == (1, 1)

    def test_a_tree_changes_nothing_of_itself(self):
        assert changes_ran([self.coverage(object_of("arm64-4k"), "vmap 0x1")], None) is None

    def test_a_change_of_which_the_object_has_nothing_is_told(self, tmp_path):
        size = "size = PAGE_ALIGN(size + offset);"
        tree = changed_tree(tmp_path / "tree", "mm/ioremap.c", size, "size = PAGE_ALIGN(size);")
        built = build.build(targets.get("arm64-4k"), tree)
        changed = changes_ran([self.coverage(built, "vmap 0x1")], None)
        assert changed is not None and (changed.code, changed.elsewhere) == ({}, ("mm/ioremap.c",))
        verdict = check_one(self.plan(built), parse("vmap 0x1"))
        assert word_of(verdict, changed) == "same where it looked"
        assert "of mm/ioremap.c, which differs too, it has nothing" in changed_text(changed)
