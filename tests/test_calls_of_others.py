# SPDX-License-Identifier: GPL-2.0-only
"""Calls that other parts of the kernel make: per-CPU areas, pages for processes, what is said of an address."""

from __future__ import annotations

import errno
import random

import numpy as np
import pytest

from bugs import BUGS, seeded
from object_support import needs_kernel
from vmaplab import InputError, Kernel, VmapError
from vmaplab.calls.flags import VM_ALLOC, VM_FLUSH_RESET_PERMS, VM_MAP, VM_USERMAP
from vmaplab.calls.scenario import parse
from vmaplab.check.campaign import check_all
from vmaplab.check.one import check_one
from vmaplab.check.plan import Plan
from vmaplab.check.tree import facts_of, model_config
from vmaplab.object import build, targets
from vmaplab.trace import L_FLUSH_TLB

PAGE = 4096
MAIN = targets.MAIN


def kernel_of(arch="x86_64", **options) -> Kernel:
    return Kernel(arch, "linux-6.12", total_pages=1 << 18, **options)


def naive_base(kernel: Kernel, offsets, sizes, align) -> int | None:
    """The highest base below which nothing higher fits: tried one by one from the top of a small space."""
    taken = [(area.addr, area.end) for area in kernel.areas]
    start, end = kernel.arch.vmalloc_start, kernel.arch.vmalloc_end & -align
    base = end - max(at + size for at, size in zip(offsets, sizes, strict=True))
    while base >= -(-start // align) * align:
        spans = [(base + at, base + at + size) for at, size in zip(offsets, sizes, strict=True)]
        if not any(first < stop and begin < last for first, last in spans for begin, stop in taken):
            return base
        base -= align
    return None


class TestPerCpuAreas:
    def test_they_lie_as_asked_as_high_as_can_be_and_without_guards(self):
        kernel = kernel_of(cpus=2)
        made = kernel.pcpu_get_vm_areas([0, 64 * PAGE], [8 * PAGE, 8 * PAGE], 4 * PAGE)
        end = kernel.arch.vmalloc_end & -(4 * PAGE)
        assert [(area.addr, area.size) for area in made.areas] == [
            (end - 72 * PAGE, 8 * PAGE),
            (end - 8 * PAGE, 8 * PAGE),
        ]
        assert [area.flags for area in kernel.areas] == [VM_ALLOC, VM_ALLOC]
        kernel.pcpu_free_vm_areas(made.addr)
        assert kernel.areas == []
        kernel.vm_unmap_aliases()
        assert kernel.waiting_bytes == 0

    @pytest.mark.parametrize("seed", range(40))
    def test_among_others_they_lie_where_trying_every_address_puts_them(self, seed):
        rng = random.Random(seed)
        kernel = kernel_of("powerpc-8xx", debug=True, cpus=2)
        top = (kernel.arch.vmalloc_end - kernel.arch.vmalloc_start) // PAGE
        kernel.get_vm_area((top - 400) * PAGE)
        for _ in range(rng.randrange(1, 30)):
            kernel.get_vm_area(PAGE * rng.randrange(1, 12))
        for area in rng.sample(kernel.areas[1:], len(kernel.areas) // 2):
            kernel.vunmap(area.addr)
        kernel.vm_unmap_aliases()
        for _ in range(3):
            align = PAGE << rng.randrange(3)
            sizes = [align * rng.randrange(1, 6) for _ in range(rng.randrange(1, 4))]
            offsets, at = [], 0
            for size in sizes:
                offsets.append(at)
                at += size + align * rng.randrange(12)
            together = list(zip(offsets, sizes, strict=True))
            rng.shuffle(together)
            offsets, sizes = map(list, zip(*together, strict=True))
            wanted = naive_base(kernel, offsets, sizes, align)
            try:
                found = kernel.pcpu_get_vm_areas(offsets, sizes, align).addr - offsets[0]
            except VmapError:
                found = None
            assert found == wanted

    def test_without_room_it_purges_and_tries_again(self):
        kernel = kernel_of("powerpc-8xx", cpus=2)
        size = kernel.arch.vmalloc_end - kernel.arch.vmalloc_start
        kernel.get_vm_area(size - (16 << 20))
        area = kernel.get_vm_area((16 << 20) - 4 * PAGE)
        with pytest.raises(VmapError) as caught:
            kernel.pcpu_get_vm_areas([0], [8 * PAGE], PAGE)
        assert caught.value.errno == errno.ENOMEM
        kernel.vunmap(area.addr)
        assert kernel.waiting_bytes
        assert kernel.pcpu_get_vm_areas([0], [8 * PAGE], PAGE).addr + 8 * PAGE == kernel.arch.vmalloc_end
        assert not kernel.waiting_bytes

    def test_too_far_apart_warns(self):
        kernel = kernel_of("powerpc-8xx", cpus=2)
        with pytest.raises(VmapError):
            kernel.pcpu_get_vm_areas([0, 1 << 30], [PAGE, PAGE], PAGE)
        assert "no address space holds" in kernel.warnings[0]

    @pytest.mark.parametrize(
        ("offsets", "sizes", "align"),
        [([0], [PAGE], 2 * PAGE), ([0, PAGE], [2 * PAGE, PAGE], PAGE), ([], [], PAGE), ([0], [0], PAGE), ([0], [8], 8)],
    )
    def test_what_the_kernel_has_a_bug_on_for_is_refused(self, offsets, sizes, align):
        with pytest.raises(InputError):
            kernel_of(cpus=2).pcpu_get_vm_areas(offsets, sizes, align)

    def test_areas_that_somebody_else_has_freed_end_in_a_bug(self):
        kernel = kernel_of(cpus=2)
        made = kernel.pcpu_get_vm_areas([0, 16 * PAGE], [PAGE, PAGE], PAGE)
        kernel.vunmap(made.areas[1].addr)
        with pytest.raises(VmapError) as caught:
            kernel.pcpu_free_vm_areas(made.addr)
        assert caught.value.bug


class TestPagesForProcesses:
    def test_a_process_gets_the_pages_of_the_area_in_order(self):
        kernel = kernel_of()
        area = kernel.vmalloc(16 * PAGE, by="vmalloc_user")
        pfns = [kernel.vmalloc_to_pfn(area.addr + number * PAGE) for number in range(16)]
        assert kernel.remap_vmalloc_range_partial(area.addr, 0, 16 * PAGE) == pfns
        assert kernel.remap_vmalloc_range_partial(area.addr, 13, 3 * PAGE - 5) == pfns[13:]

    @pytest.mark.parametrize(
        ("at", "pgoff", "size"),
        [(0, 0, 17 * PAGE), (0, 13, 4 * PAGE), (5, 0, PAGE), (0, 1 << 52, PAGE), (0, 1, (1 << 64) - PAGE)],
    )
    def test_more_than_there_is_or_what_overflows_is_einval(self, at, pgoff, size):
        kernel = kernel_of()
        area = kernel.vmalloc(16 * PAGE, flags=VM_USERMAP)
        with pytest.raises(VmapError) as caught:
            kernel.remap_vmalloc_range_partial(area.addr + at, pgoff, size)
        assert caught.value.errno == errno.EINVAL

    def test_an_area_that_is_not_for_users_is_einval(self):
        kernel = kernel_of()
        for addr in (kernel.vmalloc(PAGE).addr, kernel.vmap(np.arange(2)).addr):
            with pytest.raises(VmapError):
                kernel.remap_vmalloc_range_partial(addr, 0, PAGE)
        addr = kernel.vmap(np.arange(2), flags=VM_MAP | VM_USERMAP).addr
        assert kernel.remap_vmalloc_range_partial(addr, 1, PAGE) == [1]

    def test_no_bytes_would_never_end(self):
        kernel = kernel_of()
        with pytest.raises(InputError, match="does not end"):
            kernel.remap_vmalloc_range_partial(kernel.vmalloc(PAGE, by="vmalloc_user").addr, 0, 0)


def test_what_is_said_of_an_address_is_of_its_node_alone():
    kernel = kernel_of(cpus=4)
    area = kernel.vmalloc(40 * PAGE)
    assert kernel.vmalloc_dump_obj(area.addr + 5) == f"40-page vmalloc region starting at {area.addr:#x}"
    assert kernel.vmalloc_dump_obj(area.addr + 16 * PAGE) == ""
    assert kernel.vmalloc_dump_obj(0) == ""
    assert kernel_of().vmalloc_dump_obj(kernel_of().arch.vmalloc_start) == ""


def test_pages_whose_direct_map_is_reset_are_flushed_with_what_waits():
    kernel = kernel_of(record=True)
    area = kernel.vmalloc(3 * PAGE, flags=VM_FLUSH_RESET_PERMS)
    pfns = [kernel.vmalloc_to_pfn(area.addr + number * PAGE) for number in range(3)]
    seen = len(kernel.log)
    kernel.vfree(area.addr)
    rows = kernel.log.rows(seen)
    ((start, end),) = rows[rows[:, 0] == L_FLUSH_TLB, 1:3].view(np.uint64).tolist()
    linear = kernel.arch.linear
    assert (start, end) == (linear + min(pfns) * PAGE, area.addr + 4 * PAGE)


def test_the_size_alone_is_what_vmalloc_takes():
    with pytest.raises(InputError, match="takes no flags"):
        kernel_of().vmalloc(PAGE, flags=VM_USERMAP, by="vzalloc")


HOLES = "area 1; area 300; area 1; area 300; area 1; vunmap @1; vunmap @3; aliases; area 100"
ZERO = "gfp=GFP_KERNEL|__GFP_ZERO"
NOFAIL = "gfp=GFP_KERNEL|__GFP_NOFAIL"
SAME = (
    f"memory 3; vmalloc 16 {NOFAIL}; vmalloc 3; vfree @1; vmalloc 3; tables 1; vmalloc 600 {NOFAIL}; vmalloc 1",
    f"memory 600 0; vmalloc 512 huge {NOFAIL}; vmalloc 1100 huge {NOFAIL}; vfree @1; info",
    f"vmalloc 3 at=0xffff800080000000+2 {NOFAIL}",
    f"signal 1; vmalloc 512 huge {NOFAIL}; memory 700; vmalloc 300; vmalloc 300 {NOFAIL}; signal 0; vmalloc 3",
    "vmap_put 16; info; dump @0; vfree @0; vmap_put 512; vfree @4; memory 4; vmap_put 5; tables 0; vmap_put 2",
    "map_ram 0x100+5; map_ram 0x200+3; unmap_ram @0 5; vread @1 20 +512; vread @0 9 +8; vmalloc 5; vread @5+1 3 +4000",
    "tables 0; map_ram 0x0+1048577; vmap 0x5+1048577; tables 100; vmap 0x1+3",
    "vmalloc 16 by=vmalloc_user; remap @0+8 9 0x0",
    "vmalloc 8; vrealloc 0x0 4; vrealloc 0x0 0; vfree @1",
    "percpu 0+8,64+8 align=4; map @0 0x100+4 12; lookup @0+3; info; dump @0; dump @0+70; percpu_free @0; aliases",
    "area 1; percpu 16+16,512+16 align=16; percpu 0+500,1024+500; percpu_free @1; percpu_free @1; info",
    "percpu 0+1,68719476736+1; percpu 0+1,4294967296+1; info",
    "vmalloc 16 by=vmalloc_user; remap @0 16 0x0; remap @0 4 0xd; remap @0+2 4 0x2; remap @0 1 0x10000000000000",
    "vmap 0x100+16 flags=0xc; remap @0 16 0x0; vunmap @0; area 4 flags=0x8; remap @3 1 0x0",
    "vmalloc 16 flags=0x100; vmalloc 3 flags=0x40; vfree @0; info; vmalloc 512 huge flags=0x100; vfree @4",
    f"vmalloc 4 {ZERO}; vrealloc @0 1 {ZERO}; vrealloc @1 4 {ZERO}; vrealloc @2 9 {ZERO}; vrealloc @3 20; vfree @4",
    "vmalloc 4; dump @0+4; dump @0+5; vmap 0x0+40; dump @3+33; dump 0x1000",
)


def found_in(arch, tree, scenario):
    built = build.build(targets.get(arch), tree, targets.smp())
    return check_one(Plan(built, None, facts_of(built).release, model_config(built), 1, cpus=4), parse(scenario))


@pytest.mark.slow
@needs_kernel
def test_what_differs_on_several_architectures_is_told_of_each(tmp_path):
    tree = seeded("one-node-looked-up", tmp_path)
    plans = []
    for arch in ("arm64-4k", "x86_64"):
        built = build.build(targets.get(arch), tree, targets.smp())
        plans.append(Plan(built, None, facts_of(built).release, model_config(built), 1, cpus=4, sample=8))
    told = check_all(plans, 200, jobs=2)
    assert [verdict.plan.arch.name for verdict in told] == ["arm64-4k", "x86_64"]
    for verdict in told:
        assert verdict.word in ("DIFFERENT", "VIOLATION") and verdict.shrunk.startswith("shrunk")
        assert verdict.scenario is not None and len(verdict.scenario.steps) < 6
        assert check_one(verdict.plan, verdict.scenario).difference == verdict.difference
        assert verdict.ran is not None and verdict.cases > 0 and verdict.also is not None


@needs_kernel
class TestInTheKernelsOwnCode:
    @pytest.mark.parametrize("scenario", SAME)
    @pytest.mark.parametrize("arch", MAIN)
    def test_the_same_comes_of_them(self, arch, scenario):
        assert found_in(arch, None, scenario).difference == ""

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("bug", "scenario", "told"),
        [
            ("vrealloc-copies-nothing", "vmalloc 1; vrealloc @0 2", "loses what was in the memory: byte 0"),
            (
                "vrealloc-leaves-old-bytes",
                f"vmalloc 2 {ZERO}; vrealloc @0 1 {ZERO}; vrealloc @1 2 {ZERO}",
                "in byte 4096",
            ),
            ("vzalloc-does-not-zero", "vmalloc 1 by=vzalloc", "nobody has zeroed"),
            ("direct-map-not-flushed", "vmalloc 2 flags=0x100; vfree @0", "flush"),
            ("direct-map-not-reset", "vmalloc 512 huge flags=0x100; vfree @0", "direct map"),
            ("memcg-not-undone", "vmalloc 1 gfp=GFP_KERNEL_ACCOUNT; vfree @0", "MEMCG_VMALLOC is 1, and 0 pages"),
            ("tables-not-nofs", "vmalloc 1 gfp=GFP_NOFS", "its caller asked for GFP_NOFS"),
            (
                "nofail-huge-falls-back-to-pages",
                "memory 1000 0; vmalloc 512 huge gfp=GFP_KERNEL|__GFP_NOFAIL",
                "step 1",
            ),
            ("nofail-returns-null", "memory 3; vmalloc 16 gfp=GFP_KERNEL|__GFP_NOFAIL", "NULL"),
            ("free-tree-not-propagated", HOLES, "subtree_max_size is"),
            ("free-areas-not-merged", "area 300; area 1; vunmap @0; aliases", "was not merged with"),
            ("list-out-of-order", "area 1; area 1; area 1; vunmap @0; aliases; area 1", "do not have the same ones"),
            ("highmem-always", "vmalloc 1 by=vmalloc_32", "of a low zone and of __GFP_HIGHMEM"),
            ("put-pages-counted", "vmap_put 3; vfree @0", "nr_vmalloc_pages is -3"),
            ("remap-offset-unchecked", "vmalloc 4 flags=0x8; remap @0 2 0x3", "EINVAL"),
            ("percpu-overlaps", "percpu 0+2; percpu 0+2; percpu_free @0; aliases; percpu 0+3", "percpu"),
            ("block-cleared-as-bad", "vmalloc 512 huge; vfree @0", "meets a bad entry, and clears it"),
            ("vrealloc-forgets-size", "vmalloc 9; vrealloc @0 4; vrealloc @1 8; vrealloc @2 20", "loses what was in"),
            ("vread-stale-address", BUGS["vread-stale-address"].scenario, "step 6"),
        ],
    )
    def test_a_bug_there_is_found(self, tmp_path, bug, scenario, told):
        assert told in found_in("x86_64", seeded(bug, tmp_path), scenario).difference
