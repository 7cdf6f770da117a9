# SPDX-License-Identifier: GPL-2.0-only
"""The witness of calls: what it lets pass and what it does not, on the model and on the kernel's own code."""

from __future__ import annotations

import errno
import json
import re
import subprocess
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from command import VMAPLAB
from facts import ARCHES
from object_support import changed_tree, needs_kernel, object_of
from vmaplab import NULL_PFN, InputError, Kernel, VmapError
from vmaplab.calls.flags import VM_MAP, VM_MAP_PUT_PAGES, VM_NO_GUARD, VM_SPARSE
from vmaplab.calls.generator import Generator
from vmaplab.calls.scenario import parse
from vmaplab.check.campaign import check
from vmaplab.check.faults import fail_each
from vmaplab.check.one import check_one
from vmaplab.check.plan import Plan
from vmaplab.check.sides import ModelSide
from vmaplab.errors import KernelFault, Violation
from vmaplab.judge import FORMATS
from vmaplab.judge.batch import MOST
from vmaplab.judge.flushes import flushed, flushes_of
from vmaplab.judge.history import History, Spans
from vmaplab.judge.walker import ENTRY
from vmaplab.judge.witness import Witness
from vmaplab.object import build, targets
from vmaplab.object.kernel import ObjectKernel
from vmaplab.release import RELEASES
from vmaplab.trace import L_FLUSH_TLB, L_FLUSH_VMAP, L_FLUSH_VUNMAP, L_STORE, L_TABLE_ALLOC, L_TABLE_FREE


def vmaplab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VMAPLAB, *words], capture_output=True, text=True, timeout=300)


class TestBreakBeforeMake:
    """Event by event, on a table memory of x86_64: a PGD at 0x1000, tables behind it."""

    PGD, PUD, PMD, PTE = 0x1000, 0x2000, 0x3000, 0x4000
    TABLE, PAGE, LARGE = 0x67, 0x8000000000000163, 0x80000000000001E3
    VA = 0xFFFF800000000000

    def history(self) -> History:
        history = History(FORMATS["x86_64"], 0x1000, self.PGD)
        rows = []
        for entry, table, log in (
            (self.PGD + 8 * 256, self.PUD, 30),
            (self.PUD, self.PMD, 21),
            (self.PMD, self.PTE, 12),
        ):
            rows += [(L_TABLE_ALLOC, table, log, 4096), (L_STORE, entry, table | self.TABLE, 8)]
        rows.append((L_STORE, self.PTE, 0x5000 | self.PAGE, 8))
        self.follow(history, *rows)
        return history

    def follow(self, history, *rows) -> None:
        history.follow(np.array([[n - (1 << 64) if n >> 63 else n for n in row] for row in rows], dtype=np.int64))

    def flush(self, start, end):
        return L_FLUSH_TLB, start, end, end - start

    def test_an_entry_goes_through_invalid_and_a_flush(self):
        history = self.history()
        self.follow(history, (L_STORE, self.PTE, 0, 8), self.flush(self.VA, self.VA + 4096))
        self.follow(history, (L_STORE, self.PTE, 0x7000 | self.PAGE, 8))

    def test_another_frame_without_invalid_is_a_violation(self):
        with pytest.raises(Violation, match="without going through invalid"):
            self.follow(self.history(), (L_STORE, self.PTE, 0x7000 | self.PAGE, 8))

    def test_other_permissions_of_the_same_frame_are_none(self):
        self.follow(self.history(), (L_STORE, self.PTE, 0x5000 | self.PAGE & ~2, 8))

    def test_a_table_that_becomes_a_block_at_once_is_a_violation(self):
        with pytest.raises(Violation, match="without going through invalid"):
            self.follow(self.history(), (L_STORE, self.PMD, 0x200000 | self.LARGE, 8))

    def test_invalid_without_a_flush_is_not_enough(self):
        with pytest.raises(Violation, match="mapped again before the TLB flush"):
            self.follow(self.history(), (L_STORE, self.PTE, 0, 8), (L_STORE, self.PTE, 0x7000 | self.PAGE, 8))

    def test_a_flush_of_other_addresses_is_not_enough(self):
        history = self.history()
        self.follow(history, (L_STORE, self.PTE, 0, 8), self.flush(self.VA + 4096, self.VA + 8192))
        with pytest.raises(Violation, match="mapped again before the TLB flush"):
            self.follow(history, (L_STORE, self.PTE, 0x7000 | self.PAGE, 8))

    def test_a_block_over_addresses_that_were_not_flushed_is_a_violation(self):
        history = self.history()
        self.follow(history, (L_STORE, self.PTE, 0, 8), (L_STORE, self.PMD, 0, 8), (L_TABLE_ALLOC, 0x5000, 12, 4096))
        with pytest.raises(Violation, match="mapped again before the TLB flush"):
            self.follow(history, (L_STORE, self.PMD, 0x200000 | self.LARGE, 8))

    def test_a_table_is_freed_after_its_entry_is_cleared_and_flushed(self):
        clear, free = (L_STORE, self.PMD, 0, 8), (L_TABLE_FREE, self.PTE, 12, 4096)
        self.follow(self.history(), clear, self.flush(self.VA, self.VA + 4096), free)
        with pytest.raises(Violation, match="while an entry leads to it"):
            self.follow(self.history(), free)
        with pytest.raises(Violation, match="before the TLB flush"):
            self.follow(self.history(), clear, free)

    def test_a_table_below_one_that_was_cut_off_can_be_freed(self):
        flush = self.flush(self.VA, self.VA + (1 << 30))
        self.follow(self.history(), (L_STORE, self.PUD, 0, 8), flush, (L_TABLE_FREE, self.PTE, 12, 4096))

    def test_a_store_where_no_table_is_is_a_violation(self):
        with pytest.raises(Violation, match="where no page table is"):
            self.follow(self.history(), (L_STORE, 0x9000, 5, 8))
        with pytest.raises(Violation, match="where no page table is"):
            self.follow(self.history(), (L_STORE, 0x800, 5, 8))


def test_spans_are_added_joined_and_cut():
    spans = Spans()
    spans.add(np.array([10, 30, 20], dtype=np.uint64), np.array([20, 40, 30], dtype=np.uint64))
    spans.remove(15, 35)
    inside = [
        start for start in range(5, 45) if spans.meet(np.array([start], np.uint64), np.array([start + 1], np.uint64))
    ]
    assert inside == [*range(10, 15), *range(35, 40)]
    spans.add(np.array([2**64 - 4096], dtype=np.uint64), np.array([0], dtype=np.uint64))
    assert spans.meet(np.array([2**64 - 1], np.uint64), np.array([0], np.uint64)) == 2**64 - 1


class TestTheModel:
    @pytest.mark.parametrize("arch", ARCHES)
    @pytest.mark.parametrize("name", RELEASES)
    def test_random_scenarios_hold_on_every_architecture_and_release(self, arch, name):
        """Walker calls over what is mapped, partial unmaps, failures: everything that the differential test runs."""
        side = ModelSide(ARCHES[arch], RELEASES[name], {}, verify=True)
        generator = Generator(ARCHES[arch], seed=5, pages=64)
        for number in range(12):
            scenario = generator.scenario(number)
            assert side.run(scenario).fault == "", str(scenario)

    @pytest.mark.slow
    @pytest.mark.parametrize("config", [{}, {"KMSAN": True}])
    def test_each_allocation_can_fail_and_each_pair(self, config):
        for arch in ("arm64-4k", "x86_64", "powerpc-8xx"):
            side = ModelSide(ARCHES[arch], RELEASES["series-v4"], config)
            found = fail_each(side, parse("vmap 0x1000+600; vmalloc 40; ioremap 0x8000+512; vunmap @0; vmap 0x3001+20"))
            assert found.finding == "" and found.runs > 30

    def test_the_failing_allocation_is_the_one_that_was_named(self):
        for number, what in enumerate(("area", "page table", "page table", "page table")):
            kernel = Kernel("arm64-4k", "linux-6.12")
            kernel.fail([number])
            with pytest.raises(VmapError, match=f"no memory for .*{what}"):
                kernel.vmap([number])
            kernel.fail([4])
            kernel.vmap([1])
            assert kernel.allocations == 1 + 4 - max(number, 1)  # tables made before the failure are there

    def test_a_null_page_that_is_mapped_is_a_violation(self):
        witness = Witness(Kernel("x86_64", record=True))
        with pytest.raises(VmapError):
            witness.vmap([1, NULL_PFN])
        witness.vmap([1])

    def test_a_lookup_that_is_wrong_is_a_violation(self, monkeypatch):
        witness = Witness(Kernel("x86_64", record=True))
        addr = witness.vmap([5, 6]).addr
        assert witness.vmalloc_to_pfn(addr + 4096) == 6
        monkeypatch.setattr(witness.kernel, "_vmalloc_to_pfn", lambda _: 7)
        with pytest.raises(Violation, match="finds PFN 0x7"):
            witness.vmalloc_to_pfn(addr)

    def test_leaves_asked_for_after_the_range_was_mapped_anew_are_all_there(self):
        kernel = Kernel("x86_64")
        mapping = kernel.vmap(range(0x10000, 0x12000))  # 16 blocks
        kernel.vunmap_range(mapping.addr, mapping.addr + mapping.size)
        kernel.vmap_pages_range_noflush(mapping.addr, range(0x40001, 0x44001, 2))
        assert len(mapping.leaves) == 8192

    @pytest.mark.parametrize("pfns", [[-1], [2**65], "abc", None, [1.5]])
    def test_what_is_no_page_array_is_refused_as_without_a_witness(self, pfns):
        with pytest.raises(InputError):
            Witness(Kernel("x86_64", record=True)).vmap(pfns)

    def test_a_kernel_that_cannot_be_watched_is_refused(self):
        with pytest.raises(InputError, match="record=True"):
            Witness(Kernel("x86_64"))
        kernel = Kernel("x86_64", record=True)
        kernel.vmap([1])
        with pytest.raises(InputError, match="from boot on"):
            Witness(kernel)

    def test_an_area_without_a_guard_page_is_none(self):
        witness = Witness(Kernel("x86_64", record=True))
        witness.get_vm_area(4096, VM_MAP | VM_NO_GUARD)
        witness.get_vm_area(4096)
        witness.close()

    def test_a_witness_that_lost_sight_leaves_the_calls_to_the_kernel(self):
        """Half of an area is given back as if it were all: the addresses of the area are free again, and taken."""
        witness = Witness(Kernel("x86_64", record=True))
        addr = witness.vm_map_ram(range(0x100, 0x164)).addr
        witness.vm_unmap_ram(addr + 50 * 4096, 100)
        assert witness.blind
        witness.vm_unmap_aliases()
        assert witness.vm_map_ram(range(0x200, 0x264)).addr == addr
        witness.close()

    def test_what_changes_nothing_is_no_reason_to_lose_sight(self):
        witness = Witness(Kernel("x86_64", record=True))
        addr = witness.vm_map_ram(range(0x100, 0x164)).addr
        for call in (lambda: witness.vm_unmap_ram(addr + (1 << 20), 100), lambda: witness.vunmap(addr + 0x123)):
            with pytest.raises(VmapError):
                call()
            assert not witness.blind
        witness.close()

    @pytest.mark.parametrize("call", ["vmap", "vmalloc"])
    def test_any_area_with_vm_sparse_can_be_unmapped_in_part(self, call):
        witness = Witness(Kernel("x86_64", record=True))
        addr = getattr(witness, call)(*(([1, 2, 3], VM_MAP | VM_SPARSE) if call == "vmap" else (12288, VM_SPARSE))).addr
        witness.vm_area_unmap_pages(addr, addr + 4096, addr + 8192)
        with pytest.raises(VmapError):
            witness.vmalloc_to_pfn(addr + 4096)
        witness.close()

    def test_bad_arguments_leave_the_expectations_alone(self):
        witness = Witness(Kernel("x86_64", record=True))
        area = witness.get_vm_area(20 * 4096, VM_SPARSE)
        for pfns, behind in ([[1, 2], 1], [[], 0]):
            with pytest.raises(InputError):
                witness.vm_area_map_pages(area, area.addr + behind, pfns)
        witness.vm_area_map_pages(area, area.addr, [1, 2])
        assert not witness.blind
        witness.close()

    def test_an_err_ptr_is_no_address(self, monkeypatch):
        witness = Witness(Kernel("x86_64", record=True))
        mapping = witness.kernel.vmap([1])
        mapping.addr = (1 << 64) - 12
        monkeypatch.setattr(witness.kernel, "_vmap", lambda *_: mapping)
        with pytest.raises(Violation, match=r"returns ERR_PTR\(-ENOMEM\) instead of NULL"):
            witness.vmap([1])

    def test_prot_given_by_the_caller_is_the_callers(self):
        witness = Witness(Kernel("x86_64", record=True), mmu=True)
        witness.vmap([5], prot=0x8000000000000161)  # PAGE_KERNEL_RO
        witness.vmap([6])


@needs_kernel
class TestTheKernelsOwnCode:
    def test_scenarios_are_compared_and_watched(self):
        plan = Plan(object_of("arm64-4k"), None, RELEASES["linux-6.12"], {}, seed=11, verify=True)
        verdict = check(plan, 60)
        assert verdict.difference == "" and verdict.found.translated > 10_000

    @pytest.mark.slow
    @pytest.mark.parametrize("arch", ["arm64-4k", "x86_64", "riscv64-sv48"])
    def test_long_sequences_of_several_cpus_are_compared_and_watched(self, arch):
        built = build.build(targets.get(arch), config=targets.smp())
        plan = Plan(built, None, RELEASES["linux-6.12"], {}, seed=5, verify=True, calls=50, cpus=4)
        verdict = check(plan, 24, jobs=1)
        assert verdict.difference == "" and verdict.found.translated > 100_000 and verdict.found.partly < 10

    @pytest.mark.slow
    def test_allocations_of_long_sequences_fail(self):
        plan = Plan(object_of("x86_64"), None, RELEASES["linux-6.12"], {}, seed=6, pages=32, faults=True, calls=12)
        verdict = check(plan, 2, jobs=1)
        assert verdict.difference == "" and verdict.found.failures > 100

    def test_a_vmap_block_that_is_lost_is_a_violation(self):
        """In the kernel as it is: vunmap() of what vm_map_ram() mapped takes the block out of the tree."""
        witness = Witness(ObjectKernel(object_of("arm64-4k")))
        addr = witness.vm_map_ram([1, 2, 3]).addr
        witness.kernel.vunmap(addr)
        with pytest.raises(Violation, match="4194304 bytes of address space are missing"):
            witness.close()

    def test_pages_that_are_not_the_kernels_cannot_be_freed(self):
        witness = Witness(ObjectKernel(object_of("arm64-4k")))
        addr = witness.vmap([0x1000, 0x1001], VM_MAP | VM_MAP_PUT_PAGES).addr
        with pytest.raises(KernelFault, match="frees page frame 0x1000, which it does not own"):
            witness.vfree(addr)

    def test_vzalloc_goes_on_when_sight_is_lost(self):
        witness = Witness(ObjectKernel(object_of("arm64-4k")))
        witness.vzalloc(4096)
        witness.vunmap(witness.vm_map_ram([1]).addr)
        assert witness.blind and witness.vzalloc(4096).addr
        with pytest.raises(InputError, match="there is no NUMA node 1"):
            witness.vzalloc(4096, node=1)

    def test_a_bug_after_which_nothing_is_judged_is_no_finding(self):
        plan = Plan(object_of("arm64-4k"), None, RELEASES["linux-6.12"], {}, seed=1, faults=True)
        verdict = check_one(plan, parse("vmalloc 512; unmap_ram @0 9"))
        assert verdict.word == "holds" and verdict.found.partly == 2

    def test_allocations_fail(self):
        plan = Plan(object_of("riscv64-sv48"), None, RELEASES["linux-6.12"], {}, seed=3, pages=32, faults=True)
        verdict = check(plan, 5)
        assert verdict.difference == "" and verdict.found.failures > 100

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "right, wrong, told",
        [
            (
                "\t\tvunmap(area->addr);\n\t\treturn NULL;",
                "\t\treturn NULL;",
                "which is no area|nothing should be mapped there",
            ),
            (
                "\t\tflush_tlb_kernel_range(start, end);\n\n\t\t/* One extra",
                "\n\t\t/* One extra",
                "without a TLB flush|before the TLB flush",
            ),
            (
                "\t\tkfree(area);\n\t\treturn NULL;",
                "\t\treturn NULL;",
                r"1 object is still allocated: 1 of \d+ bytes that __get_vm_area_node\(\)",
            ),
        ],
        ids=["a failed vmap() does not unmap", "the purge does not flush", "a failed allocation leaks the vm_struct"],
    )
    def test_broken_trees_are_found(self, tmp_path, right, wrong, told):
        tree = changed_tree(tmp_path / "tree", "mm/vmalloc.c", right, wrong)
        built = build.build(targets.get("arm64-4k"), tree)
        faults = Plan(built, None, RELEASES["linux-6.12"], {}, seed=1, pages=32, faults=True)
        verdict = check(faults, 20)
        assert re.search(told, verdict.difference), verdict.difference
        again = check_one(faults, parse(str(verdict.scenario)))
        assert again.difference

    def test_one_object_kernel_is_watched_like_the_model(self):
        witness = Witness(ObjectKernel(object_of("x86_64")), mmu=True)
        addr = witness.vmap(range(0x1000, 0x1400)).addr
        witness.vunmap(addr)
        witness.close()
        assert witness.translated == 1024 and witness.prover.faults > 1024


class TestTheCommandLine:
    def test_map_verify_says_what_was_proved(self):
        done = vmaplab("map", "pfns:0x1000+32", "--verify")
        assert done.returncode == 0
        assert "Unicorn's arm64 CPU translates 32 pages" in done.stdout and "2 groups of PTEs" in done.stdout

    @pytest.mark.parametrize("arch, why", [("loongarch64", "Unicorn has no LoongArch"), ("powerpc-8xx", "no 8xx")])
    def test_map_verify_says_what_no_mmu_proves(self, arch, why):
        done = vmaplab("map", "pfns:0x1000+32", "--verify", "--arch", arch)
        assert "not proved by an MMU: " in done.stdout and why in done.stdout

    def test_map_verify_as_json(self):
        told = json.loads(vmaplab("map", "pfns:0x10000000+4,0x3", "--arch", "x86_64", "--verify", "--json").stdout)
        assert (told["proof"]["translated"], told["proof"]["beyond"], told["proof"]["tables"]) == (1, 4, 3)

    def test_a_fail_step_is_not_for_comparing(self):
        done = vmaplab("check", "--scenario", "fail 1; vmap 0x1")
        assert (done.returncode, done.stdout) == (2, "") and "--faults" in done.stderr


def _wrong_frame(kernel):
    inner = kernel._vmap

    def vmap(pfns, flags, prot):
        return inner(np.append(pfns[:-1], pfns[-1:] + np.uint64(1)), flags, prot)

    kernel._vmap = vmap


def _a_page_less(kernel):
    inner = kernel._vmap
    kernel._vmap = lambda pfns, flags, prot: inner(pfns[:-1], flags, prot)


def after(kernel, name, then):
    """Have ``then`` called with what a call of the model returns."""
    inner = getattr(kernel, f"_{name}")

    def call(*arguments):
        made = inner(*arguments)
        then(made)
        return made

    setattr(kernel, f"_{name}", call)


def before(kernel, name, first):
    """Have ``first`` called with the arguments of a call of the model."""
    inner = getattr(kernel, f"_{name}")

    def call(*arguments):
        first(*arguments)
        return inner(*arguments)

    setattr(kernel, f"_{name}", call)


def _refuses_and_stays(kernel):
    def refuse(_mapping):
        raise VmapError(errno.ENOMEM, "made up")

    after(kernel, "vmap", refuse)


def _another_address(kernel):
    def change(mapping):
        mapping.addr += 4096

    after(kernel, "vmap", change)


def _without(kind):
    def change(kernel):
        log = kernel.log
        extend = log.extend
        log.extend = lambda rows: extend(rows[rows[:, 0] != kind])

    return change


FAULTS = {
    "a page goes to another frame": _wrong_frame,
    "a page is left out": _a_page_less,
    "what failed stays mapped": _refuses_and_stays,
    "another address is returned": _another_address,
    "nothing is flushed from the cache where something is mapped": _without(L_FLUSH_VMAP),
    "nothing is flushed from the cache where something is unmapped": _without(L_FLUSH_VUNMAP),
    "nothing is flushed from the TLB": _without(L_FLUSH_TLB),
}


@pytest.mark.parametrize("arch", ["arm64-4k", "x86_64", "powerpc-8xx"])
@pytest.mark.parametrize("every", [1, 16])
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_unmapped_again_before_anybody_looks_is_judged_all_the_same(fault, every, arch):
    kernel = Kernel(arch, record=True)
    FAULTS[fault](kernel)
    witness = Witness(kernel, mmu=True, every=every)
    with pytest.raises(Violation):
        for _ in range(3):
            with suppress(VmapError):
                witness.vunmap(witness.vmap(range(0x100, 0x110)).addr)
            witness.vm_unmap_aliases()
        witness.close()


@pytest.mark.parametrize("arch", ["arm64-4k", "powerpc-8xx"])
def test_a_finding_among_many_calls_names_the_address(arch):
    kernel = Kernel(arch, record=True)
    start = kernel.arch.vmalloc_start
    _a_page_less(kernel)
    witness = Witness(kernel, every=16)
    for _ in range(2):
        witness.get_vm_area(kernel.arch.page_size)
    addr = witness.vmap([5, 6, 7]).addr
    assert addr > start
    with pytest.raises(Violation, match=f"^{addr + 2 * kernel.arch.page_size:#x} is not mapped$"):
        witness.close()


class TestNothingHidesBehindAnotherLook:
    @pytest.mark.parametrize("every", [1, 16])
    def test_a_vunmap_that_does_nothing_is_named(self, every):
        kernel = Kernel("x86_64", record=True)
        kernel._vunmap = lambda addr: None
        witness = Witness(kernel, every=every)
        area = witness.get_vm_area(4096)
        with pytest.raises(Violation, match=r"^vunmap\(\) flushes nothing from the cache instead of"):
            witness.vunmap(area.addr)
            witness.close()

    @pytest.mark.parametrize("every", [1, 16])
    def test_a_prot_of_the_callers_that_stays_executable_is_noticed(self, every):
        kernel = Kernel("x86_64", record=True)
        prots = kernel._mapper.prots

        def executable(prot):
            return prots(prot) & np.int64((1 << 63) - 1)

        kernel._mapper.prots = executable
        witness = Witness(kernel, every=every)
        with pytest.raises(Violation, match="can be written and executed"):
            witness.vunmap(witness.vmap([1, 2], prot=kernel.arch.page_kernel).addr)
            witness.close()

    @pytest.mark.parametrize("every", [1, 16])
    @pytest.mark.parametrize(("arch", "bit"), [("x86_64", 1), ("x86_64-la57", 1)])
    def test_a_table_that_leaves_no_right_to_write_is_noticed(self, arch, bit, every):
        facts = Kernel(arch).arch
        levels = tuple(replace(level, table_bits=level.table_bits & ~(1 << bit)) for level in facts.levels)
        witness = Witness(Kernel(replace(facts, levels=levels), record=True), every=every)
        with pytest.raises(Violation):
            witness.vunmap(witness.vmap([1, 2]).addr)
            witness.close()

    @pytest.mark.parametrize("every", [1, 16])
    def test_more_bytes_reported_than_mapped_are_noticed(self, every):
        kernel = Kernel("x86_64", record=True)

        def longer(mapping):
            mapping.size += 4096

        after(kernel, "vmap", longer)
        witness = Witness(kernel, every=every)
        with pytest.raises(Violation, match="reports 12288 bytes and has mapped 8192"):
            witness.vunmap(witness.vmap([1, 2]).addr)
            witness.close()

    def test_a_walker_without_flushes_that_clears_leaves_in_its_way_is_noticed(self):
        """What it maps its caller flushes; what it takes away nobody does."""
        rows = np.zeros((0, 4), dtype=np.int64)
        entry = np.zeros(1, dtype=ENTRY)
        entry["va"], entry["size"] = 0xFFFFC90000000000, 4096
        nothing = np.zeros(0, dtype=ENTRY)
        flushes = flushes_of(rows)
        flushed("a walker", flushes, entry, nothing, (0, 0), flushes_mapped=False, undone=True)
        with pytest.raises(Violation, match="unmapped without a flush_cache_vunmap"):
            flushed("a walker", flushes, nothing, entry, (0, 0), flushes_mapped=False, undone=True)

    @pytest.mark.parametrize("every", [0, -1, MOST + 1])
    def test_so_many_calls_cannot_be_judged_together(self, every):
        with pytest.raises(InputError, match=f"1 to {MOST} calls"):
            Witness(Kernel("x86_64", record=True), every=every)

    def test_as_many_as_can_be_are_judged_together(self):
        witness = Witness(Kernel("x86_64-la57", record=True), mmu=True, every=MOST)
        for number in range(3 * MOST):
            witness.vunmap(witness.vmap([number, number + 1]).addr)
        witness.close()

    @pytest.mark.parametrize("every", [1, 16])
    @pytest.mark.parametrize(
        ("arch", "flipped"),
        [("x86_64", 63), ("x86_64", 1), ("x86_64", 4), ("arm64-4k", 53), ("riscv64-sv39", 3), ("powerpc64-radix", 0)],
    )
    def test_a_leaf_that_is_changed_in_place_is_noticed(self, arch, flipped, every):
        kernel = Kernel(arch, record=True)
        after(kernel, "vmap", lambda mapping: store(kernel, mapping.addr, lambda entry: entry ^ 1 << flipped))
        with pytest.raises(Violation):
            in_turns(Witness(kernel, every=every))

    @pytest.mark.parametrize("every", [1, 16])
    def test_a_table_that_is_taken_away_and_comes_back_is_noticed(self, every):
        kernel, kept = Kernel("x86_64", record=True), []
        after(kernel, "vmap", lambda mapping: kept.append((mapping.addr, store(kernel, mapping.addr, lambda _: 0, 1))))
        before(kernel, "vunmap", lambda addr: store(kernel, addr, lambda _: kept.pop()[1], 1))
        with pytest.raises(Violation):
            in_turns(Witness(kernel, every=every))

    @pytest.mark.parametrize("every", [1, 16])
    def test_an_entry_that_leads_to_no_table_is_noticed(self, every):
        kernel = Kernel("x86_64", record=True)
        beside = 5 << 21
        after(kernel, "vmap", lambda mapping: store(kernel, mapping.addr + beside, lambda _: 0x12345067, 1))
        before(kernel, "vunmap", lambda addr: store(kernel, addr + beside, lambda _: 0, 1))
        with pytest.raises(Violation, match="leads to 0x12345000: no table is there"):
            in_turns(Witness(kernel, every=every))

    @pytest.mark.parametrize("arch", ["x86_64", "arm64-4k", "riscv64-sv39"])
    @pytest.mark.parametrize("every", [1, 16])
    def test_a_vunmap_that_clears_the_entry_of_the_pgd_is_told(self, arch, every):
        """The tables below it are gone with it, also from what the events say of later calls."""
        kernel = Kernel(arch, record=True)
        top = len(kernel.arch.levels) - 1
        before(kernel, "vunmap", lambda addr: store(kernel, addr, lambda _: 0, top))
        with pytest.raises(Violation):
            in_turns(Witness(kernel, every=every))

    @pytest.mark.parametrize("every", [1, 16])
    def test_memory_that_is_not_what_was_stored_is_noticed(self, every):
        kernel = Kernel("x86_64", record=True)
        witness = Witness(kernel, every=every)
        witness.vmap([1, 2])
        words = kernel._mapper.memory._words
        words[np.flatnonzero(words)[-1] + 8] = 0x2000  # not present
        with pytest.raises(Violation, match="is not what was stored there last"):
            witness.vmap([3, 4])
            witness.close()

    @pytest.mark.parametrize("arch", ARCHES)
    def test_a_prot_of_the_callers_is_judged_alike(self, arch):
        """What the tables forbid need not be forbidden by the leaf (UXN of arm64)."""
        facts = Kernel(arch).arch
        for bit in range(8 * facts.entry_bytes):
            watched = []
            for calls in (1, 16):
                witness = Witness(Kernel(arch, record=True), every=calls)
                try:
                    witness.vunmap(witness.vmap([1, 2], prot=facts.page_kernel ^ 1 << bit).addr)
                    witness.close()
                    watched.append("holds")
                except Violation:
                    watched.append("does not")
            assert watched[0] == watched[1], bit

    @pytest.mark.parametrize("every", [1, 16])
    def test_each_report_is_looked_at(self, every):
        kernel = Kernel("arm64-4k", record=True)

        def longer(mapping):
            mapping.size += 4096 * (mapping.size > 8192)

        after(kernel, "vmap", longer)
        witness = Witness(kernel, every=every)
        with pytest.raises(Violation, match="reports 16384 bytes and has mapped 12288"):
            for pages in ([1, 2], [1, 2, 3]):
                witness.vunmap(witness.vmap(pages).addr)
            witness.close()

    @pytest.mark.parametrize("every", [1, 16])
    def test_what_is_mapped_and_unmapped_by_one_call_is_flushed(self, every):
        kernel = Kernel("x86_64", record=True)

        def again(mapping):
            entry = store(kernel, mapping.addr, lambda _: 0)
            kernel._mapper.flush(L_FLUSH_TLB, mapping.addr, mapping.addr + 4096)
            store(kernel, mapping.addr, lambda _: entry)

        after(kernel, "vmap", again)
        with pytest.raises(Violation, match=r"is unmapped without a flush_cache_vunmap\(\) over it"):
            in_turns(Witness(kernel, every=every))

    def test_the_mmu_sees_what_is_unmapped_at_once(self):
        witness = Witness(Kernel("x86_64", record=True), mmu=True, every=16)
        in_turns(witness)
        assert witness.translated >= 3 * 2

    def test_a_pfn_beyond_32_bits_is_cut_off(self):
        witness = Witness(Kernel("powerpc-8xx-16k", record=True, total_pages=1 << 18))
        assert witness.vmalloc_to_pfn(witness.vmap_pfn([(1 << 18) + 5]).addr) == 5

    @pytest.mark.parametrize("every", [1, 16])
    def test_what_the_kernel_refuses_is_refused_by_a_witness_too(self, every):
        witness = Witness(Kernel("x86_64", record=True), every=every)
        addr = witness.vmap([1, 2]).addr
        witness.vunmap(addr)
        for call in (witness.vunmap, witness.vfree):
            with pytest.raises(VmapError, match="there is no area"):
                call(addr)
        with pytest.raises(VmapError, match="is not page-aligned"):
            witness.vunmap(0x1234)
        witness.close()

    @pytest.mark.parametrize("every", [1, 16])
    def test_an_area_that_is_there_cannot_be_refused(self, every):
        kernel = Kernel("x86_64", record=True)

        def refuse(addr):
            raise VmapError(errno.EINVAL, "no")

        before(kernel, "vunmap", refuse)
        with pytest.raises(Violation, match=r"^vunmap\(\) refuses the area at 0xffffc90000000000, which is there"):
            in_turns(Witness(kernel, every=every))

    def test_a_frame_that_is_no_number_is_told(self):
        kernel = Kernel("x86_64", record=True)
        witness = Witness(kernel)
        addr = witness.vmap([1, 2]).addr
        kernel._vmalloc_to_pfn = lambda addr: None
        with pytest.raises(Violation, match="finds None at"):
            witness.vmalloc_to_pfn(addr)


def in_turns(witness):
    for _ in range(3):
        witness.vunmap(witness.vmap([1, 2]).addr)
    witness.close()


def store(kernel, addr, change, level=0):
    """Change the entry that maps ``addr`` at a level, as a store that is seen; what was there."""
    memory, form = kernel._mapper.memory, FORMATS[kernel.arch.name]
    words = memory._words.view(form.entry)
    table, item = kernel.table_root, np.dtype(form.entry).itemsize
    for one in range(len(form.levels) - 1, level - 1, -1):
        shift, bits = form.levels[one]
        phys = table + item * (addr >> shift & (1 << bits) - 1)
        entry = int(words[(phys - memory.base) // item])
        table = int(form.decode(one, np.array([entry], dtype=np.uint64)).phys[0])
    words[(phys - memory.base) // item] = now = change(entry)
    kernel.log.add(L_STORE, phys, now, item)
    return entry
