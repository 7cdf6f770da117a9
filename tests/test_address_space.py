# SPDX-License-Identifier: GPL-2.0-only
"""Areas, nodes, pools, lazy freeing, vmap blocks: what a sequence of calls leaves in the address space."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from effort import some
from facts import ARCHES
from object_support import needs_kernel, object_of
from vmaplab import InputError, Kernel, VmapError
from vmaplab import release as releases
from vmaplab.calls.flags import VM_ALLOW_HUGE_VMAP, VM_MAP, VM_MAP_PUT_PAGES, VM_NO_GUARD, VM_SPARSE
from vmaplab.calls.generator import Generator
from vmaplab.calls.operation import Operation
from vmaplab.check.campaign import check
from vmaplab.check.plan import Plan
from vmaplab.check.replay import replay
from vmaplab.errors import Violation
from vmaplab.mapping import ZEROES, Part
from vmaplab.object import targets
from vmaplab.object.build import build
from vmaplab.vmalloc import area as space_of
from vmaplab.vmalloc.address_space import AddressSpace
from vmaplab.vmalloc.consistency import check_space
from vmaplab.vmalloc.tree import END, FREE, LARGEST, LEFT, RED, START

PAGES = np.arange(0x10000, 0x10010, dtype=np.uint64)
MAIN = ("arm64-4k", "x86_64", "riscv64-sv48")


class TestAgainstTheKernelsOwnCode:
    pytestmark = needs_kernel

    @pytest.mark.slow
    @pytest.mark.parametrize("arch", targets.TARGETS)
    def test_sequences_of_mixed_calls_do_the_same(self, arch):
        plan = Plan(object_of(arch), None, releases.get("linux-6.12"), {}, seed=7, calls=50)
        verdict = check(plan, some(600 if arch in MAIN else 100), jobs=1)
        assert verdict.difference == "", f"{verdict.scenario}: {verdict.difference}"
        assert verdict.calls >= 50 * verdict.cases

    @pytest.mark.slow
    @pytest.mark.parametrize("arch", MAIN)
    def test_sequences_of_mixed_calls_from_four_cpus_do_the_same(self, arch):
        built = build(targets.get(arch), config=targets.smp())
        plan = Plan(built, None, releases.get("linux-6.12"), {}, seed=8, calls=50, cpus=4)
        verdict = check(plan, some(250), jobs=1)
        assert verdict.difference == "", f"{verdict.scenario}: {verdict.difference}"

    def test_a_model_without_pools_is_found_out(self, monkeypatch):
        built = build(targets.get("x86_64"), config=targets.smp())
        monkeypatch.setattr("vmaplab.kernel.MAX_NODES", 1)
        plan = Plan(built, None, releases.get("linux-6.12"), {}, seed=8, calls=50, cpus=4)
        assert check(plan, 40, jobs=1).difference != ""


@pytest.mark.parametrize("cpus", [1, 3, 200])
@pytest.mark.parametrize("arch", ARCHES)
def test_the_structures_agree_after_each_of_many_calls(arch, cpus):
    generator = Generator(ARCHES[arch], seed=5, pages=64, calls=40, cpus=cpus)
    for number in range(2):
        scenario = generator.scenario(number)
        kernel = Kernel(arch, "linux-6.12", total_pages=1 << 18, cpus=cpus, debug=True)
        assert len(replay(kernel, scenario)) >= 1


DAMAGE = {
    "a block begins elsewhere": lambda space, free, busy: _change(space.blocks.row, (busy, START), 2),
    "a free block is shorter": lambda space, free, busy: _change(space.blocks.row, (free, END), -2),
    "the largest block is forgotten": lambda space, free, busy: _change(space.blocks.row, (free, LARGEST), -2),
    "the root is red": lambda space, free, busy: _change(space.blocks.row, (free, RED), 1),
    "an area is lost": lambda space, free, busy: _change(space.blocks.roots, 2, -space.blocks.roots[2]),
    "a loose end": lambda space, free, busy: _change(space.blocks.row, (free, LEFT), busy),
    "a wrong count": lambda space, free, busy: _change(space.state, space_of.BUSY_AREAS, 1),
    "a wrong sum": lambda space, free, busy: _change(space.state, space_of.LAZY, 1),
}


def _change(array, where, by):
    array[where] += by


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_noticed(what):
    kernel = Kernel("arm64-4k", cpus=1)
    for number in range(5):
        mapping = kernel.vmap(PAGES)
        if number % 2:
            kernel.vunmap(mapping.addr)
            kernel.vm_unmap_aliases()
    space = kernel._space.space
    check_space(kernel._space)
    DAMAGE[what](space, int(space.blocks.roots[FREE]), int(space.blocks.roots[2]))
    with pytest.raises(Violation, match="inconsistent"):
        check_space(kernel._space)


class TestPools:
    def test_a_freed_area_comes_back_to_its_cpu_only(self):
        kernel = Kernel("x86_64", cpus=4)
        kernel.cpu = 2
        first = kernel.vmap(PAGES).addr
        kernel.cpu = 0
        kernel.vunmap(first)
        kernel.vm_unmap_aliases()
        assert kernel.vmap(PAGES).addr != first
        kernel.cpu = 2
        assert kernel.vmap(PAGES).addr == first

    def test_more_cpus_let_more_wait(self):
        """lazy_max_pages() is 32 MiB times fls(cpus)."""
        for cpus, times in ((1, 1), (2, 2), (3, 2), (4, 3), (128, 8)):
            kernel = Kernel("arm64-4k", cpus=cpus)
            kernel.vunmap(kernel.get_vm_area((times * 32 << 20) - 4096).addr)
            assert kernel.waiting_bytes == times * 32 << 20
            kernel.vunmap(kernel.get_vm_area(1).addr)
            assert kernel.waiting_bytes == 0

    def test_a_cpu_that_there_is_not(self):
        with pytest.raises(InputError, match="no CPU 4"):
            Kernel("x86_64", cpus=4).cpu = 4
        with pytest.raises(InputError, match="cpus is 0"):
            Kernel("x86_64", cpus=0)


class TestExhaustion:
    def test_a_full_space_is_enomem_and_what_waited_is_used(self):
        kernel = Kernel("powerpc-8xx")
        size = kernel.arch.vmalloc_end - kernel.arch.vmalloc_start
        most = kernel.get_vm_area(size - (1 << 20))
        with pytest.raises(VmapError) as caught:
            kernel.vmap(np.arange(300))
        assert caught.value.errno == errno.ENOMEM
        kernel.vunmap(most.addr)
        assert kernel.vmap(np.arange(300)).addr == kernel.arch.vmalloc_start

    def test_dirty_vmap_blocks_are_given_up_for_it(self):
        """reclaim_and_purge_vmap_areas() frees the blocks that nobody uses."""
        kernel = Kernel("powerpc-8xx", debug=True)
        block = kernel.vm_map_ram(PAGES[:4])
        kernel.vm_unmap_ram(block.addr, 4)
        size = kernel.arch.vmalloc_end - kernel.arch.vmalloc_start
        assert kernel.get_vm_area(size - 4096).addr == kernel.arch.vmalloc_start


class TestVmMapRam:
    def test_small_ones_share_a_block_and_large_ones_do_not(self):
        kernel = Kernel("arm64-4k", debug=True)
        first, second = kernel.vm_map_ram(PAGES[:3]), kernel.vm_map_ram(PAGES)
        assert first.addr % (4 << 20) == 0 and second.addr == first.addr + 4 * 4096
        large = kernel.vm_map_ram(np.arange(65))
        assert large.addr < first.addr or large.addr >= first.addr + (4 << 20)
        kernel.vm_unmap_ram(large.addr, 65)
        kernel.vm_unmap_ram(first.addr, 3)
        assert kernel.vmalloc_to_pfn(second.addr) == PAGES[0]
        with pytest.raises(VmapError):
            kernel.vmalloc_to_pfn(first.addr)

    def test_a_block_is_freed_when_all_of_it_was_used(self):
        kernel = Kernel("x86_64", debug=True)
        mapped = [kernel.vm_map_ram(np.arange(64)).addr for _ in range(16)]
        assert mapped[-1] - mapped[0] == 15 * 64 * 4096
        for addr in mapped:
            kernel.vm_unmap_ram(addr, 64)
        assert kernel.vmalloc_info().count("unpurged") == 1

    def test_each_cpu_has_its_own_block(self):
        kernel = Kernel("x86_64", cpus=2, debug=True)
        first = kernel.vm_map_ram(PAGES).addr
        kernel.cpu = 1
        assert abs(kernel.vm_map_ram(PAGES).addr - first) >= 4 << 20

    @pytest.mark.parametrize(
        ("addr", "count"), [(0, 1), (0x1000, 1), (0xFFFF800080000001, 1), (0xFFFF800080000000, 1), (0x1234, 100)]
    )
    def test_what_was_not_mapped_is_a_bug(self, addr, count):
        with pytest.raises(VmapError) as caught:
            Kernel("arm64-4k").vm_unmap_ram(addr, count)
        assert caught.value.bug

    def test_no_pages_warn(self):
        kernel = Kernel("arm64-4k")
        with pytest.raises(VmapError):
            kernel.vm_map_ram([])
        assert kernel.warnings == ["vm_map_ram() of no pages"]

    def test_a_block_that_vfree_took_away_comes_back_with_a_warning(self):
        """unlink_va() finds that the node is in no tree, and the area goes on to wait for the purge."""
        kernel = Kernel("x86_64", debug=True)
        mapped = [kernel.vm_map_ram(np.arange(64)).addr for _ in range(16)]
        with pytest.raises(VmapError):
            kernel.vfree(mapped[0])
        for addr in mapped:
            kernel.vm_unmap_ram(addr, 64)
        assert "RB_EMPTY_NODE" in kernel.warnings[-1] and "unpurged" in kernel.vmalloc_info()


class TestOtherCalls:
    def test_vmap_pfn_maps_what_is_no_memory_and_refuses_the_rest(self):
        kernel = Kernel("x86_64", total_pages=1 << 18)
        mapping = kernel.vmap_pfn([1 << 18, 1 << 19])
        assert mapping.leaves["pfn"].tolist() == [1 << 18, 1 << 19]
        with pytest.raises(VmapError) as caught:
            kernel.vmap_pfn([1 << 18, 5])
        assert (caught.value.errno, kernel.warnings) == (errno.EINVAL, ["PFN valid"])
        assert len(kernel.areas) == 1

    def test_a_sparse_area_takes_pages_inside_only(self):
        kernel = Kernel("riscv64-sv48")
        area = kernel.get_vm_area(16 * 4096, VM_SPARSE)
        kernel.vm_area_map_pages(area, area.addr + 4096, PAGES[:4])
        assert kernel.vmalloc_to_pfn(area.addr + 4096) == PAGES[0]
        kernel.vm_area_unmap_pages(area, area.addr + 4096, area.addr + 3 * 4096)
        assert kernel.vmalloc_to_pfn(area.addr + 3 * 4096) == PAGES[2]
        for start, error in ((area.addr + 16 * 4096, errno.ERANGE), (area.addr - 4096, errno.ERANGE)):
            with pytest.raises(VmapError) as caught:
                kernel.vm_area_map_pages(area.addr, start, PAGES[:1])
            assert caught.value.errno == error
        dense = kernel.get_vm_area(4096)
        with pytest.raises(VmapError) as caught:
            kernel.vm_area_map_pages(dense, dense.addr, PAGES[:1])
        assert caught.value.errno == errno.EINVAL and len(kernel.warnings) == 1

    def test_vread_reads_zeroes_from_holes_and_ioremap(self):
        kernel = Kernel("arm64-4k")
        first = kernel.vmap(PAGES[:2])
        kernel.ioremap(0x4000_0000, 4096)
        second = kernel.vmap([0x77])
        there = kernel.vread(first.addr + 100, second.addr + 4096 - first.addr - 100)
        assert there == [
            Part(0, 2 * 4096 - 100, (0x10000 << 12) + 100),
            Part(2 * 4096 - 100, second.addr - first.addr - 2 * 4096, ZEROES),
            Part(second.addr - first.addr - 100, 4096, 0x77 << 12),
        ]

    def test_vmallocinfo_has_the_kernels_lines(self):
        kernel = Kernel("arm64-4k", "linux-6.12")
        kernel.vmap(PAGES)
        gone = kernel.vmalloc(4096)
        kernel.vmalloc(2 << 20, VM_ALLOW_HUGE_VMAP)
        kernel.ioremap(0x4000_0000, 8192)
        kernel.vm_map_ram(PAGES)
        kernel.vfree(gone.addr)
        assert kernel.vmalloc_info().splitlines() == [
            "0xffff800080000000-0xffff800080011000   69632 vmap",
            "0xffff800080014000-0xffff800080017000   12288 phys=0x0000000040000000 ioremap",
            "0xffff800080200000-0xffff800080401000 2101248 pages=512 vmalloc",
            "0xffff800080800000-0xffff800080c00000 4194304 vm_map_ram",
            "0xffff800080011000-0xffff800080013000    8192 unpurged vm_area",
        ]

    def test_vzalloc_and_nodes(self):
        kernel = Kernel("x86_64")
        assert kernel.vzalloc(8192, node=0).cost.pages == 2
        with pytest.raises(InputError, match="no NUMA node 3"):
            kernel.vmalloc(4096, node=3)

    def test_an_area_of_vm_map_ram_that_vfree_gets_is_lost(self):
        """remove_vm_area() takes it out of the tree and finds that it has no vm_struct."""
        kernel = Kernel("x86_64", debug=True)
        addr = kernel.vm_map_ram(np.arange(65)).addr
        with pytest.raises(VmapError):
            kernel.vfree(addr)
        assert kernel.vmalloc_info() == "" and "nonexistent" in kernel.warnings[0]


class TestSetMemory:
    @pytest.mark.parametrize(
        ("arch", "error", "outcome", "safe"),
        [
            ("arm64-4k", errno.EINVAL, "refused", True),
            ("x86_64", 0, "split", True),
            ("riscv64-sv48", 0, "whole", False),
            ("powerpc64-radix", errno.EINVAL, "refused", True),
        ],
    )
    def test_part_of_a_block_of_a_huge_vmalloc(self, arch, error, outcome, safe):
        kernel = Kernel(arch, "linux-6.12")
        addr = kernel.vmalloc(2 << 20, VM_ALLOW_HUGE_VMAP).addr
        found = kernel.set_memory(addr + kernel.arch.page_size, 3)
        (hazard,) = found.hazards
        assert (found.errno, hazard.outcome, hazard.safe) == (error, outcome, safe)
        assert (hazard.va, hazard.size, hazard.pages) == (addr, 2 << 20, 3)

    def test_arm64_refuses_vmap_and_from_6_16_every_huge_vmalloc(self):
        kernel = Kernel("arm64-4k", "linux-6.18")
        assert kernel.set_memory(kernel.vmap(PAGES).addr, 2).errno == errno.EINVAL
        small = kernel.vmalloc(4 * 4096, VM_ALLOW_HUGE_VMAP)
        assert kernel.set_memory(small.addr, 1).errno == errno.EINVAL
        old = Kernel("arm64-4k", "linux-6.12")
        assert old.set_memory(old.vmalloc(4 * 4096, VM_ALLOW_HUGE_VMAP).addr, 1).errno == 0

    def test_a_group_on_8xx_is_torn_by_ioremap_and_refused_of_vmalloc(self):
        kernel = Kernel("powerpc-8xx", "linux-6.12")
        mapping = kernel.ioremap(0x80000, 512 << 10)
        (hazard,) = kernel.set_memory(mapping.addr + 4096, 1).hazards
        assert (hazard.outcome, hazard.safe, hazard.size) == ("torn", False, 512 << 10)
        assert kernel.set_memory(kernel.vmalloc(512 << 10, VM_ALLOW_HUGE_VMAP).addr, 1).errno == errno.EINVAL

    def test_whole_leaves_and_small_pages_are_no_hazard(self):
        kernel = Kernel("x86_64", "linux-6.12")
        addr = kernel.vmalloc(4 << 20, VM_ALLOW_HUGE_VMAP).addr
        assert kernel.set_memory(addr, 512) == kernel.set_memory(addr, 1024)
        assert not kernel.set_memory(addr, 512).hazards
        assert kernel.set_memory(addr + (4 << 20), 1).errno == errno.EFAULT  # the guard page

    def test_riscv_follows_the_pages_of_an_area_that_owns_none(self):
        kernel = Kernel("riscv64-sv48", "linux-6.12")
        assert kernel.set_memory(kernel.vmap(PAGES).addr, 1).oops

    @pytest.mark.parametrize(("addr", "pages"), [(1, 1), (4096, 0), (1 << 64, 1), (-4096, 1)])
    def test_a_range_that_is_none(self, addr, pages):
        with pytest.raises(InputError, match="whole pages"):
            Kernel("x86_64").set_memory(addr, pages)


def test_kmsan_has_room_for_tables_of_three_ranges_that_straddle_a_boundary():
    kernel = Kernel("x86_64", config={"KMSAN": True}, total_pages=1 << 20)
    for level in kernel.arch.levels[1:]:
        pages = (1 << level.shift) // 4096 - 9
        if pages < 1 << 20:
            kernel.get_vm_area(pages * 4096)
            assert kernel.vmap(PAGES).cost.leaves == 16


def test_kmsan_leaves_the_last_page_of_its_quarter_out():
    """VMALLOC_END is the last byte there, so no area ends behind it."""
    kernel = Kernel("x86_64", config={"KMSAN": True})
    quarter = (kernel.arch.vmalloc_end - kernel.arch.vmalloc_start + 1) // 4
    with pytest.raises(VmapError):
        kernel.get_vm_area(quarter - 4096)
    assert kernel.get_vm_area(quarter - 2 * 4096).end == kernel.arch.vmalloc_start + quarter - 4096


def test_what_vm_unmap_ram_frees_is_forgotten():
    """An area that owned pages leaves nothing to the next one at its address."""
    kernel = Kernel("x86_64", debug=True)
    addr = kernel.vmalloc(100 * 4096).addr
    kernel.vm_unmap_ram(addr, 100)
    kernel.vm_unmap_aliases()
    assert kernel.get_vm_area(100 * 4096).addr == addr and kernel.vmalloc_info().endswith(" vmap\n")


def test_a_look_into_a_pool_that_finds_nothing_changes_nothing():
    """The block that is not aligned goes to the end of its pool only if the search goes on to succeed."""
    kernel = Kernel("x86_64", cpus=2)
    taken = [kernel.get_vm_area(3 * 4096).addr for _ in range(3)]
    for addr in taken:
        kernel.vunmap(addr)
    kernel.vm_unmap_aliases()
    space, bounds = kernel._space, kernel._vmalloc_range
    before = space.space.pools.copy(), space.space.blocks.chain.copy()
    assert before[0].any()
    assert space.alloc(4 * 4096, 1 << 46, *bounds, 0, 0, VM_MAP) == space_of.NOTHING_FREE
    after = space.space.pools, space.space.blocks.chain
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_large_areas_need_no_memory_to_be_given_up():
    kernel = Kernel("x86_64", record=True)
    kernel.vunmap(kernel.get_vm_area(1 << 44).addr)
    kernel.vunmap_range(0xFFFF_C900_0000_0000, 0xFFFF_E900_0000_0000)


def test_an_area_for_ioremap_is_aligned_in_vmap_too():
    kernel = Kernel("x86_64")
    kernel.get_vm_area(4096)
    assert kernel.vmap(PAGES, VM_MAP | 1).addr % (16 * 4096) == 0


class TestBadInput:
    @pytest.mark.parametrize("addr", [0x1000, 0xFFFF_C900_0000_0001, 0xFFFF_C900_0000_3000, -4096, 1 << 63])
    @pytest.mark.parametrize("call", ["vunmap", "vfree"])
    def test_freeing_what_is_not_there_warns(self, call, addr):
        kernel = Kernel("x86_64", debug=True)
        with pytest.raises(VmapError) as caught:
            getattr(kernel, call)(addr)
        assert caught.value.errno == errno.EINVAL and f"Trying to {call}() nonexistent" in kernel.warnings[-1]

    def test_freeing_twice_and_in_the_middle(self):
        kernel = Kernel("x86_64", debug=True)
        addr = kernel.vmalloc(16 * 4096).addr
        kernel.vfree(addr + 4 * 4096)  # any page of an area stands for it
        with pytest.raises(VmapError):
            kernel.vfree(addr)

    @pytest.mark.parametrize("size", [0, -1, -4096, 1 << 63, (1 << 64) - 1, 1 << 70])
    def test_sizes_that_are_none(self, size):
        kernel = Kernel("x86_64", debug=True)
        for call in (kernel.vmalloc, kernel.get_vm_area, kernel.vzalloc):
            with pytest.raises(VmapError) as caught:
                call(size)
            assert caught.value.errno in (errno.EINVAL, errno.ENOMEM)
        assert not kernel.areas


operations = st.lists(
    st.one_of(
        st.tuples(st.just("vmap"), st.integers(1, 40), st.sampled_from([VM_MAP] * 8 + [VM_MAP | VM_NO_GUARD, 0x100])),
        st.tuples(st.just("vmap"), st.sampled_from([0, 1 << 19]), st.just(VM_MAP)),
        st.tuples(st.just("vunmap"), st.integers(0, 60), st.just(0)),
        st.tuples(st.just("cpu"), st.integers(0, 1), st.just(0)),
        st.tuples(st.sampled_from(["vmalloc", "map_ram"]), st.integers(1, 70), st.just(0)),
        st.tuples(st.sampled_from(["aliases", "tables"]), st.integers(0, 40), st.just(0)),
    ),
    max_size=50,
)


class TestRun:
    def build(self, drawn) -> list[Operation]:
        made: list[Operation] = []
        for call, number, flags in drawn:
            if call in ("vmap", "map_ram"):
                pfns = np.arange(0x1000, 0x1000 + number, dtype=np.uint64)
                if number % 7 == 3:
                    pfns[-1] = (1 << 64) - 1  # a NULL page
                made.append(Operation(call, pfns=pfns, flags=flags))
            elif call == "vunmap":
                ref = number if number < len(made) else -1
                made.append(Operation(call, ref, addr=0 if ref >= 0 else number << 12))
            else:
                made.append(Operation(call, pages=number))
        return made

    @pytest.mark.slow
    @settings(max_examples=150, deadline=None)
    @given(operations, st.sampled_from(["arm64-4k", "x86_64", "powerpc-8xx-16k"]), st.booleans())
    def test_a_batch_is_the_same_as_its_calls_one_at_a_time(self, drawn, arch, kmsan):
        made = self.build(drawn)
        config = {"KMSAN": kmsan}
        batch = Kernel(arch, cpus=2, total_pages=1 << 16, config=config)
        single = Kernel(arch, cpus=2, total_pages=1 << 16, config=config, record=True)
        assert batch.run(made) == single.run(made)
        assert batch.vmalloc_info() == single.vmalloc_info() and batch.warnings == single.warnings
        assert (batch.cpu, batch.taken_pages) == (single.cpu, single.taken_pages)
        assert np.array_equal(batch.live_tables(), single.live_tables())
        check_space(batch._space)

    def test_mappings_made_before_keep_their_leaves(self):
        kernel = Kernel("arm64-4k")
        before = kernel.vmap(PAGES)
        owned = kernel.vmap(PAGES, VM_MAP | VM_MAP_PUT_PAGES)
        results = kernel.run(
            [
                Operation("vunmap", addr=before.addr),
                Operation("vmap", pfns=PAGES + np.uint64(5), flags=VM_MAP),
                Operation("vfree", addr=owned.addr),
            ]
        )
        assert results[0] == results[2] == 0 and results[1] > 0
        assert before.leaves["pfn"][0] == PAGES[0]

    @pytest.mark.slow
    def test_a_million_areas(self):
        kernel = Kernel("x86_64")
        addresses = kernel.run([Operation("vmap", pfns=PAGES[:1], flags=VM_MAP)] * 1_000_000)
        assert len(set(addresses)) == 1_000_000 == len(kernel.areas)
        assert addresses[-1] == addresses[0] + 999_999 * 8192

    @pytest.mark.parametrize(
        ("wrong", "told"),
        [
            ([Operation("vmop")], "unknown operation 'vmop'"),
            ([Operation("vunmap", 0)], "refers to operation 0, which is not before it"),
            ([Operation("cpu", pages=9)], "no CPU 9"),
            ([Operation("vmap", pfns=np.zeros((2, 2)), flags=VM_MAP)], "one dimension"),
            ([Operation("vmap", flags=VM_MAP)], "page"),
            ([Operation("map_ram")], "no page array"),
            ([Operation("vunmap", 1 << 70)], "'ref' of an operation"),
            ([Operation("vunmap", addr="there")], "no address"),
            ([("vunmap", 0)], "Operation"),
            ([Operation("vmap", pfns=PAGES, flags=VM_MAP), Operation("cpu", pages=7)], "no CPU 7"),
        ],
    )
    def test_operations_that_are_none(self, wrong, told):
        with pytest.raises(InputError, match=told):
            Kernel("arm64-4k").run(wrong)


class TestBounds:
    """Where an area may be is told in pages; what a page cannot tell is told beside."""

    @pytest.mark.parametrize(("odd", "found"), [(0, True), (1, False)])
    def test_an_aligned_area_fills_a_range_only_to_the_byte(self, odd, found):
        """__alloc_vmap_area(): a range of exactly the size needs no room for the alignment; x86's ends a byte early."""
        pages = 64 - odd
        space = AddressSpace(12, (1 << 40, (1 << 40) + (64 << 12) - odd))
        for start, size in ((1 << 12, (1 << 40) - (1 << 12)), ((1 << 40) + (pages << 12), (1 << 50))):
            assert space.alloc(size, 1 << 12, start, start + size, 0, 0, VM_MAP) >= 0  # nothing is free around it
        block = space.alloc(pages << 12, 1 << 14, 1 << 40, (1 << 40) + (64 << 12) - odd, 0, 0, VM_MAP)
        assert (block >= 0) is found

    def test_pools_serve_the_vmalloc_space_alone(self):
        start, end = 1 << 40, (1 << 40) + (64 << 12)
        space = AddressSpace(12, (start, end), cpus=2)
        tables = Kernel("x86_64")._mapper.tables(0)
        first = space.alloc(4 << 12, 1 << 12, start, end, 0, 0, VM_MAP)
        space.unlink(first)
        space.free(first)
        space.purge(tables)
        other = space.alloc(4 << 12, 1 << 12, start, end - (1 << 12), 0, 0, VM_MAP)
        assert space.bounds(other)[0] == start + (4 << 12)
        again = space.alloc(4 << 12, 1 << 12, start, end, 0, 0, VM_MAP)
        assert space.bounds(again)[0] == start


@pytest.mark.parametrize(("release", "waits"), [("linux-7.1", 2), ("linux-6.12", 0)])
def test_of_two_works_the_one_that_was_queued_first_runs_first(release, waits):
    """What reclaims address space queues the purge; a later work frees the area of the vmalloc() that fails then."""
    kernel = Kernel("riscv64-sv48", release, total_pages=1 << 18, cpus=4, max_tables=0)
    area = kernel.get_vm_area(23552 << 12)
    kernel.vunmap(area.addr)
    with pytest.raises(VmapError):
        kernel.vm_map_ram([0])
    start = kernel.arch.vmalloc_start + (0x36 << 12)
    with pytest.raises(VmapError):
        kernel.vmalloc(4096, start=start, end=start + (4 << 12))
    assert kernel.waiting_bytes == waits << 12
