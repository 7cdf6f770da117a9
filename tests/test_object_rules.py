# SPDX-License-Identifier: GPL-2.0-only
"""Rules for what a call leaves behind: locks, the task's state, barriers, pages, the entries of the top level."""

from __future__ import annotations

from functools import cache

import pytest

from bugs import BUGS, seeded
from object_support import SNIPPETS, needs_kernel
from vmaplab.calls.scenario import parse
from vmaplab.check.one import check_one
from vmaplab.check.plan import Plan
from vmaplab.check.tree import facts_of, model_config
from vmaplab.errors import KernelFault, Violation
from vmaplab.object import build, targets
from vmaplab.object.build import Built
from vmaplab.object.kernel import ObjectKernel

SNIPPET = SNIPPETS / "rules.c"

pytestmark = needs_kernel


@cache
def machine(arch: str, call: str) -> ObjectKernel:
    return ObjectKernel(build.build(targets.get(arch), None, targets.smp(), SNIPPET, call), cpus=targets.CPUS)


FINDINGS = {
    "keeps_lock": r"^keeps_lock\(\) returns with some_lock held, which keeps_lock\(\) .*took$",
    "takes_twice": r"takes_twice\(\) .*takes a lock that it holds: some_lock",
    "releases_another": r"releases_another\(\) .*releases what it does not hold: free_vmap_area_lock",
    "keeps_mutex": r"returns with some_mutex held",
    "keeps_semaphore": r"returns with some_rwsem held",
    "releases_for_writing": r"releases a lock in another way than it was taken: some_rwsem",
    "allocates_under_lock": r"^__get_vm_area_node allocates memory and may sleep for it, with some_lock held",
    "mutex_under_lock": r"may sleep for a lock while it must not: some_mutex",
    "keeps_rcu": r"returns with rcu_read_lock\(\) nesting 0x1; it was 0x0",
    "keeps_preemption_off": r"returns with preempt_count\(\) 0x1; it was 0x0",
    "keeps_interrupts_off": r"returns with irqs_disabled\(\) 0x1; it was 0x0",
    "keeps_scope": r"returns with current->flags 0x40000; it was 0x0",
    "keeps_lazy_mode": r"returns in lazy MMU mode, which keeps_lazy_mode\(\) .*entered",
    "frees_part": r"frees a block of order 0 of page frame \w+, which was allocated with order 2 and never split",
    "frees_first": r"frees a block of order 0 of page frame \w+, which was allocated with order 2 and never split",
    "frees_twice": r"frees page frame \w+, which is not allocated",
    "miscounts": r"^nr_vmalloc_pages is 1, and 0 pages are allocated$",
}


@pytest.mark.parametrize("call", FINDINGS)
@pytest.mark.parametrize("arch", ["arm64-4k", "x86_64", "riscv64-sv48"])
def test_what_is_left_otherwise_is_told(arch, call):
    with pytest.raises((Violation, KernelFault), match=FINDINGS[call]):
        machine(arch, call).vmap([0x100, 0x105])


@pytest.mark.parametrize("arch", ["arm64-4k", "x86_64", "riscv64-sv48"])
def test_what_is_left_as_it_was_is_no_finding(arch):
    kernel = machine(arch, "nothing_wrong")
    kernel.vunmap(kernel.vmap([0x100, 0x105]).addr)
    kernel.check_heap()


@pytest.mark.parametrize(
    "call, told", [("no_dsb", r"of the entry at 0x\w+ without a DSB"), ("no_isb", "without an ISB")]
)
def test_a_store_of_a_live_entry_needs_both_barriers(call, told):
    with pytest.raises(Violation, match=told):
        machine("arm64-4k", call).vmap([0x100])
    machine("arm64-4k", "both_barriers").vmap([0x100])


def plan_of(built: Built) -> Plan:
    return Plan(built, None, facts_of(built).release, model_config(built), 1, cpus=targets.CPUS)


QUICK = {
    "sync-skipped-on-error": "arch_sync_kernel_mappings",
    "one-node-looked-up": "nonexistent",
    "nofs-scope-kept": "flags",
}
"""Bugs that are put back here, and a word that the finding has; all of them: ``python tests/bugs.py``."""


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_a_bug_of_the_field_is_found_by_the_scenario_that_shows_it(tmp_path, name):
    bug = BUGS[name]
    built = build.build(targets.get(bug.arch), seeded(name, tmp_path), targets.smp())
    found = check_one(plan_of(built), parse(bug.scenario))
    assert QUICK[name] in found.difference
    sound = build.build(targets.get(bug.arch), None, targets.smp())
    assert check_one(plan_of(sound), parse(bug.scenario)).difference == ""
