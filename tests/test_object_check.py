# SPDX-License-Identifier: GPL-2.0-only
"""The model and the kernel's own code agree; where one of them is made wrong, the check says so."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from effort import some
from object_support import EXAMPLE, needs_kernel, object_of
from vmaplab import Kernel
from vmaplab import release as releases
from vmaplab.calls.flags import VM_IOREMAP, VM_MAP
from vmaplab.calls.generator import Generator
from vmaplab.calls.scenario import Scenario, parse
from vmaplab.calls.shrink import shrink
from vmaplab.check.campaign import check
from vmaplab.check.differential import compare
from vmaplab.check.plan import Plan
from vmaplab.check.sides import ModelSide, ObjectSide
from vmaplab.check.tree import facts_of
from vmaplab.object.kernel import ObjectKernel
from vmaplab.object.targets import TARGETS
from vmaplab.pgtable.memory import LOGGED
from vmaplab.trace import L_STORE

pytestmark = needs_kernel

MAIN = ("arm64-4k", "x86_64", "riscv64-sv48")
CASES = {arch: some(2500 if arch in MAIN else 800) for arch in TARGETS}


def plan(arch: str, release: str = "linux-6.12", snippet=None, call: str = "vmap", seed: int = 1) -> Plan:
    built = object_of(arch, snippet, call)
    wanted = releases.get(release)
    if snippet is not None:  # a patch: its rules over the tree that it is compiled in
        wanted = facts_of(built).under(wanted)
    return Plan(built, None, wanted, {}, seed)


@pytest.mark.slow
@pytest.mark.parametrize("arch", TARGETS)
def test_model_and_kernel_do_the_same_in_random_scenarios(arch):
    verdict = check(plan(arch), CASES[arch], jobs=1)
    assert verdict.difference == "", f"{verdict.scenario}: {verdict.difference}"
    assert verdict.cases == CASES[arch]


@pytest.mark.slow
@pytest.mark.parametrize("arch", TARGETS)
def test_batched_vmap_in_c_builds_what_the_model_of_mm_unstable_predicts(arch):
    verdict = check(plan(arch, "mm-unstable", EXAMPLE, "batched_vmap"), some(800), jobs=1)
    assert verdict.difference == "", f"{verdict.scenario}: {verdict.difference}"


class TestWrongModel:
    """Each fault is put into the model alone, around the compiled walkers: those do not see a patched global."""

    def find(self, arch: str = "arm64-4k", release: str = "linux-6.12", cases: int = 60) -> str:
        """The difference, shrunk; empty if none was found."""
        whole = plan(arch, release)
        return self.search(whole, ModelSide(whole.arch, whole.release, {}), cases)

    def search(self, whole: Plan, model: ModelSide, cases: int = 60) -> str:
        kernel, generator = ObjectSide(whole.built), whole.generator()
        for number in range(cases):
            if compare(generator.scenario(number), model, kernel):
                small, _ = shrink(generator.scenario(number), lambda other: bool(compare(other, model, kernel)), 300)
                return f"{small} -> {compare(small, model, kernel)}"
        return ""

    def test_nothing_is_found_where_nothing_is_wrong(self):
        assert self.find() == ""

    def test_one_bit_of_the_protection(self):
        whole = plan("arm64-4k")
        wrong = replace(whole.arch, page_kernel=whole.arch.page_kernel ^ 1 << 55)
        assert "store" in self.search(whole, ModelSide(wrong, whole.release, {}))

    def test_one_bit_of_a_table_descriptor(self):
        whole = plan("x86_64")
        levels = tuple(replace(level, table_bits=level.table_bits & ~(1 << 5)) for level in whole.arch.levels)
        wrong = replace(whole.arch, levels=levels)
        assert "store" in self.search(whole, ModelSide(wrong, whole.release, {}))

    def test_a_release_that_batches(self):
        assert "store" in self.find(release="mm-unstable")

    def test_another_order_of_stores(self, monkeypatch):
        """The same entries, in the other direction."""
        from vmaplab.vmalloc import mapper

        original = mapper.Mapper.finish

        def backwards(self, tables, *others):
            rows = tables.log[: tables.state[LOGGED]]
            stores = np.flatnonzero((rows[:, 0] == L_STORE) & (rows[:, 2] & 1 != 0))
            rows[stores] = rows[stores[::-1]].copy()
            original(self, tables, *others)

        monkeypatch.setattr(mapper.Mapper, "finish", backwards)
        assert "event" in self.find()

    def test_a_missing_flush(self, monkeypatch):
        from vmaplab.vmalloc import mapper

        monkeypatch.setattr(mapper.Mapper, "flush", lambda self, kind, start, end: None)
        assert "flush_cache_v" in self.find()

    def test_a_flush_of_the_wrong_range(self, monkeypatch):
        """Version 2 of the series flushed from the advanced address on."""
        from vmaplab.vmalloc import mapper

        original = mapper.Mapper.flush
        monkeypatch.setattr(
            mapper.Mapper, "flush", lambda self, kind, start, end: original(self, kind, min(start + 4096, end), end)
        )
        assert "flush_cache" in self.find()

    def test_a_table_too_many(self, monkeypatch):
        from vmaplab.pgtable import memory

        original = memory.TableMemory.set_limit
        monkeypatch.setattr(
            memory.TableMemory, "set_limit", lambda self, limit: original(self, limit if limit is None else limit + 1)
        )
        assert "tables" in self.find(cases=400)

    def test_an_area_that_forgets_its_guard_page(self, monkeypatch):
        from vmaplab.vmalloc import address_space

        original = address_space.AddressSpace.alloc
        monkeypatch.setattr(
            address_space.AddressSpace,
            "alloc",
            lambda self, size, *others: original(self, size - 4096, *others),
        )
        assert self.find() != ""

    def test_a_missing_warning(self, monkeypatch):
        from vmaplab.vmalloc import mapper

        monkeypatch.setattr(mapper.Mapper, "_warns", lambda self, which: False)
        assert "warning" in self.find(cases=200)


BROKEN = {
    "one bit of an entry": ("mk_pte(page, b->prot)", "pte_mkspecial(mk_pte(page, b->prot))"),
    "fifteen of sixteen": ("pte_mkcont(pfn_pte(pfn, prot)), nr)", "pte_mkcont(pfn_pte(pfn, prot)), nr - 1)"),
    "no contiguous bit": ("pte_mkcont(pfn_pte(pfn, prot))", "pfn_pte(pfn, prot)"),
    "the wrong flush": ("flush_cache_vmap(b.base, end)", "flush_cache_vmap(end, end)"),
    "no alignment": ("unsigned long aligned = pfn ? pfn & -pfn : left;", "unsigned long aligned = left;"),
    "the scan goes on": ("if (shift == PAGE_SHIFT)\n\t\t\tbreak;", "if (0)\n\t\t\tbreak;"),
    "a lost area": ("vunmap(area->addr);\n\t\treturn NULL;", "return NULL;"),
    "a swallowed error": ("\tif (err) {\n\t\tvunmap", "\tif (0) {\n\t\tvunmap"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_snippet_is_caught(fault, tmp_path):
    right, wrong = BROKEN[fault]
    text = EXAMPLE.read_text()
    assert text.count(right) >= 1
    snippet = tmp_path / "broken.c"
    snippet.write_text(text.replace(right, wrong))
    verdict = check(plan("arm64-4k", "mm-unstable", snippet, "batched_vmap"), some(800, 2), jobs=1)
    assert verdict.difference != ""


def test_a_difference_is_shrunk_to_a_few_steps_that_show_it_again():
    whole = plan("arm64-4k", "mm-unstable")
    verdict = check(whole, 100, jobs=1)
    assert verdict.scenario is not None and len(verdict.scenario.steps) <= 2
    again = compare(parse(str(verdict.scenario)), *whole.sides())
    assert again == verdict.difference != ""


def test_processes_find_what_one_process_finds():
    whole = plan("arm64-4k", "mm-unstable")
    assert check(whole, 400, jobs=2).difference == check(whole, 400, jobs=1).difference


@pytest.mark.parametrize("arch", ["arm64-4k", "riscv64-sv39"])
def test_a_scenario_is_the_same_each_time_and_survives_its_text(arch):
    generator = Generator(releases.get("linux-6.12").on(arch), seed=3)
    for number in range(200):
        scenario = generator.scenario(number)
        assert str(parse(str(scenario))) == str(scenario) == str(generator.scenario(number))
        assert isinstance(scenario, Scenario)


@pytest.mark.parametrize("arch", MAIN)
def test_areas_lie_where_the_kernel_puts_them_among_hundreds(arch):
    """The shape of the free-area tree decides which hole an aligned search finds."""
    kernel, model = ObjectKernel(object_of(arch)), Kernel(arch, "linux-6.12", record=True)
    rng = random.Random(4)
    page, live = model.arch.page_size, []
    for _ in range(1500):
        if len(live) > 300 or (live and rng.random() < 0.4):
            addr = live.pop(rng.randrange(len(live)))
            kernel.vunmap(addr)
            model.vunmap(addr)
            continue
        size = rng.choice((1, 1, 2, 3, 16, 64, 600)) * page
        flags = rng.choice((VM_MAP, VM_MAP, VM_IOREMAP))
        addr = model.get_vm_area(size, flags).addr
        assert kernel.get_vm_area(size, flags).addr == addr
        live.append(addr)
    assert np.array_equal(kernel.log.rows(), model.log.rows())
    assert any(event.kind == "flush_tlb_kernel_range" for event in model.events)
