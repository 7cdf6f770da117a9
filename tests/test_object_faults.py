# SPDX-License-Identifier: GPL-2.0-only
"""Kernel code that goes wrong ends as one clear finding: no hang, no crash, nothing of the host touched."""

from __future__ import annotations

import signal
import time

import numpy as np
import pytest

from object_support import changed_tree, needs_kernel, object_of
from vmaplab.calls.scenario import parse
from vmaplab.check.differential import compare
from vmaplab.check.one import check_one
from vmaplab.check.plan import Plan
from vmaplab.check.tree import facts_of, model_config
from vmaplab.errors import InputError, KernelFault, Unprovided, VmapError
from vmaplab.object import build, hooks, targets
from vmaplab.object.kernel import ObjectKernel
from vmaplab.release import RELEASES

pytestmark = needs_kernel

FAULTS = {
    "for (;;) barrier();": "no end: a loop in wrong_vmap",
    "((void (*)(void))0x1234000)();": "wrong_vmap jumps to 0x1234000, where no code is",
    "*(volatile long *)0x1000 = 1;": "wrong_vmap+.* writes to 0x1000, where no memory is",
    "return (void *)*(volatile long *)0xdead0000;": "wrong_vmap+.* reads from 0xdead0000, where no memory is",
    "*(volatile long *)wrong_vmap = 1;": "writes to .*, which is read-only",
    "BUG();": "BUG at .*wrong.c:[0-9]+ wrong_vmap",
    "kfree(pages);": "wrong_vmap frees .*, which is no object in use",
    "{ void *p = kmalloc(count, GFP_KERNEL); kfree(p); kfree(p); }": "frees .*, which is no object in use",
    "{ volatile char deep[64]; deep[0] = 1; return wrong_vmap(pages, count, flags, prot) + deep[0]; }": (
        "wrong_vmap.* overflows the stack of 64 KiB"
    ),
    "pages[count] = pages[0];": "writes to .*, where no memory is",
    'panic("no more of %d", 7);': "panic in wrong_vmap: no more of 7",
    "for (;;) set_pte(pte_offset_kernel((pmd_t *)pmd_off_k(VMALLOC_START), VMALLOC_START), __pte(1));": "wrong_vmap",
}
HEAD = """
#include <linux/fs.h>
void *wrong_vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot);
void *wrong_vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)
{
	%s
	return NULL;
}
"""


@pytest.fixture
def wrong(tmp_path):
    """Builds an object whose vmap() does as it is told."""

    def of(statement: str, arch: str = "arm64-4k"):
        snippet = tmp_path / "wrong.c"
        snippet.write_text(HEAD % statement)
        return object_of.__wrapped__(arch, snippet, "wrong_vmap")

    return of


def test_a_function_that_nobody_answers_cannot_be_run_and_is_no_finding(wrong):
    built = wrong('return filp_open("/etc/passwd", 0, 0);')
    told = r"^vmaplab: wrong_vmap\(\) calls filp_open\(\), which vmaplab does not answer$"
    with pytest.raises(Unprovided, match=told):
        ObjectKernel(built).vmap([1])
    with pytest.raises(InputError, match=told):
        check_one(Plan(built, None, RELEASES["linux-6.12"], {}, 1), parse("vmap 0x1"))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """Builds an object with all of FAULTS, each in a vmap() of its own; gives one, and what is said of it."""
    snippet = tmp_path_factory.mktemp("faults") / "wrong.c"
    names = {statement: f"wrong_vmap_{number}_" for number, statement in enumerate(FAULTS)}
    snippet.write_text("".join((HEAD % one).replace("wrong_vmap", name) for one, name in names.items()))

    def of(statement: str, arch: str = "arm64-4k"):
        built = object_of.__wrapped__(arch, snippet, names[statement])
        return built, FAULTS[statement].replace("wrong_vmap", names[statement])

    return of


@pytest.mark.slow
@pytest.mark.parametrize("statement", FAULTS)
def test_it_is_said_what_the_code_did_and_where(faulty, statement):
    built, told = faulty(statement)
    kernel = ObjectKernel(built)
    started = time.monotonic()
    with pytest.raises(KernelFault, match=told):
        kernel.vmap([1, 2, 3])
    assert time.monotonic() - started < 60


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["x86_64", "riscv64-sv48"])
@pytest.mark.parametrize("statement", list(FAULTS)[::2])
def test_on_other_architectures_too(faulty, arch, statement):
    built, told = faulty(statement, arch)
    with pytest.raises(KernelFault, match=told):
        ObjectKernel(built).vmap([1, 2, 3])


def test_a_check_reports_it_as_a_difference(wrong):
    built = wrong("BUG();")
    verdict = check_one(Plan(built, None, RELEASES["linux-6.12"], {}, 1), parse("vmap 0x1"))
    assert "the model:  returns 0xffff800080000000\n  the object: BUG at" in verdict.difference


def test_a_snippet_that_does_not_compile_shows_the_compilers_error(wrong):
    with pytest.raises(InputError, match=r"wrong.c:6.*error.*no_such_thing"):
        wrong("no_such_thing = 1;")


def test_a_symbol_that_is_not_there_is_named(tmp_path):
    snippet = tmp_path / "empty.c"
    snippet.write_text("")
    with pytest.raises(InputError, match="no_vmap"):
        ObjectKernel(object_of.__wrapped__("arm64-4k", snippet, "no_vmap")).vmap([1])


def test_null_is_enomem():
    with pytest.raises(VmapError) as caught:
        ObjectKernel(object_of("arm64-4k"), max_tables=1).vmap([1, 2])
    assert caught.value.errno == 12


def test_the_same_fault_on_two_trees_is_no_agreement(wrong):
    """Where both sides stop, nothing was compared."""
    built = wrong("*(volatile long *)0x1000 = 1;")
    assert (
        "where no memory is" in check_one(Plan(built, built, RELEASES["linux-6.12"], {}, 1), parse("vmap 1")).difference
    )


def test_what_outlives_a_scenario_is_not_called_the_same(tmp_path):
    snippet = tmp_path / "state.c"
    snippet.write_text(
        "void *state_vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)\n"
        "{ pages[0]->private++; return pages[0]->private == 1 ? vmap(pages, count, flags, prot) : NULL; }\n"
    )
    built = object_of.__wrapped__("arm64-4k", snippet, "state_vmap")
    verdict = check_one(Plan(built, None, RELEASES["linux-6.12"], {}, 1), parse("vmap 0x100+3; vunmap @0"))
    assert verdict.difference == ""
    ours, theirs = Plan(built, None, RELEASES["linux-6.12"], {}, 1).sides()
    for _ in range(3):  # page structs are as new in each scenario
        assert compare(parse("vmap 0xc00000000+3; vunmap @0"), ours, theirs) == ""


def test_a_snippet_whose_vmap_returns_anything_is_compared_and_found(tmp_path):
    snippet = tmp_path / "anything.c"
    snippet.write_text("void anything(void);\nvoid anything(void) { }\n")
    built = object_of.__wrapped__("arm64-4k", snippet, "anything")
    plan = Plan(built, None, facts_of(built).release, model_config(built), 1)
    assert plan.release.name == "linux-6.12"  # it is no batching that comes out otherwise
    assert "the model:  returns 0xffff800080000000" in check_one(plan, parse("vmap 0x1")).difference


@pytest.mark.parametrize("arch", targets.MAIN)
def test_nothing_is_seen_of_what_comes_behind_a_page_that_is_freed_twice(wrong, arch):
    """The CPU goes on when pages are freed; what they were is looked at later."""
    twice = "{ struct page *page = alloc_page(GFP_KERNEL); __free_page(page); __free_page(page); %s }"
    store = "WRITE_ONCE(*(unsigned long *)init_mm.pgd, 0); *(volatile long *)0x1000 = 1;"
    kernel = ObjectKernel(wrong(twice % store, arch))
    for _ in range(2):
        with pytest.raises(KernelFault, match=r"wrong_vmap frees page frame 0x[0-9a-f]+, which is not allocated"):
            kernel.vmap([1])
        assert len(kernel.log.rows()) == 0 and kernel.taken_pages == 0
        kernel.reset()


@pytest.mark.parametrize("arch", targets.MAIN)
def test_more_pages_than_the_queue_has_room_for_are_read_and_freed(arch):
    kernel, pages = ObjectKernel(object_of(arch)), 2 * hooks.QUEUE_ROOM + 99
    size = kernel.arch.page_size
    area = kernel.vmalloc(pages * size)
    assert kernel.taken_pages >= pages  # and those of the array of pages
    parts = kernel.vread(area.addr, pages * size)
    read = [np.arange(part.phys // size, (part.phys + part.size) // size) for part in parts]
    assert np.array_equal(np.concatenate(read), area.leaves["pfn"].astype(np.int64))
    kernel.vfree(area.addr)
    assert kernel.taken_pages == 0


def test_an_interrupt_ends_a_call_whose_answers_wait(wrong):
    """It comes while the CPU stands, because nothing of Python runs beside it."""
    kernel = ObjectKernel(wrong("for (;;) mod_memcg_page_state(pages[0], 0, 0);"))
    before = signal.signal(signal.SIGALRM, lambda *_: kernel._cpu.interrupt())
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with pytest.raises(KeyboardInterrupt):
            kernel.vmap([1])
        assert kernel._cpu._control[hooks.BUDGET] > 0  # it did not end by itself
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_a_spare_page_that_is_never_freed_is_found(tmp_path):
    """pud_free_pmd_page() of x86 takes a page to remember the tables of the next level in."""
    tree = changed_tree(tmp_path / "tree", "arch/x86/mm/pgtable.c", "free_page((unsigned long)pmd_sv);", "")
    built = build.build(targets.get("x86_64"), tree)
    plan = Plan(built, None, facts_of(built).release, model_config(built), 1)
    told = check_one(plan, parse("area 1; range @0 1 0x0; range @0 262144 0x0")).difference
    assert "a page that holds no table is never freed" in told
