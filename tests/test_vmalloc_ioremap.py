# SPDX-License-Identifier: GPL-2.0-only
"""Huge vmalloc and ioremap: what decides their leaves, and the per-chunk rewalk before the series."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from vmaplab import Kernel, VmapError
from vmaplab.calls.flags import VM_ALLOW_HUGE_VMAP
from vmaplab.release import RELEASES

K, M, G = 1 << 10, 1 << 20, 1 << 30
OLD = ("linux-6.1", "linux-6.12", "linux-6.18", "linux-6.19", "linux-7.1")


def sizes(mapping) -> dict[int, int]:
    leaves = mapping.leaves["size"].tolist()
    return {size: leaves.count(size) for size in sorted(set(leaves))}


@pytest.mark.parametrize("release", sorted(RELEASES))
def test_huge_vmalloc_walks_once_per_chunk_before_the_series_and_once_after(release):
    mapping = Kernel("x86_64", release).vmalloc(8 * M, VM_ALLOW_HUGE_VMAP)
    assert sizes(mapping) == {2 * M: 4}
    assert mapping.cost.walker_calls == (4 if release in OLD else 1)
    assert mapping.cost.walk_steps == (8 if release in OLD else 2)


@pytest.mark.parametrize(
    ("release", "wanted", "calls"),
    [("linux-6.12", {4 * K: 256}, 1), ("linux-6.18", {64 * K: 16}, 16), ("series-v4", {64 * K: 16}, 1)],
)
def test_huge_vmalloc_of_1m_on_arm64_gains_contiguous_ptes_in_6_16_and_one_walk_in_the_series(release, wanted, calls):
    mapping = Kernel("arm64-4k", release).vmalloc(1 * M, VM_ALLOW_HUGE_VMAP)
    assert (sizes(mapping), mapping.cost.walker_calls) == (wanted, calls)


def test_nohugevmalloc_and_a_plain_vmalloc_give_base_pages():
    assert sizes(Kernel("x86_64", boot_args="nohugevmalloc").vmalloc(4 * M, VM_ALLOW_HUGE_VMAP)) == {4 * K: 1024}
    assert sizes(Kernel("x86_64").vmalloc(4 * M)) == {4 * K: 1024}
    config = {"HAVE_ARCH_HUGE_VMALLOC": False}
    assert sizes(Kernel("x86_64", config=config).vmalloc(4 * M, VM_ALLOW_HUGE_VMAP)) == {4 * K: 1024}


def test_huge_vmalloc_falls_back_to_base_pages_when_no_large_block_is_left():
    kernel = Kernel("x86_64", "linux-6.18", total_pages=700)  # one order-9 block at most
    mapping = kernel.vmalloc(2 * M + 4 * K, VM_ALLOW_HUGE_VMAP)
    assert sizes(mapping) == {4 * K: 513}


def test_from_6_19_on_that_second_attempt_cannot_use_the_pages_of_the_first():
    """The clean-up of the failed attempt is a work: it runs when vmalloc() has returned."""
    kernel = Kernel("x86_64", "linux-6.19", total_pages=700)
    with pytest.raises(VmapError) as caught:
        kernel.vmalloc(2 * M + 4 * K, VM_ALLOW_HUGE_VMAP)
    assert caught.value.errno == errno.ENOMEM
    assert (kernel.taken_pages, kernel.areas) == (0, [])
    assert sizes(kernel.vmalloc(2 * M - 4 * K)) == {4 * K: 511}


def test_vmalloc_puts_its_page_array_into_vmalloc_space_when_it_is_larger_than_a_page():
    kernel = Kernel("x86_64")
    mapping = kernel.vmalloc(4 * M)
    assert [area.size for area in kernel.areas] == [4 * M + 4 * K, 8 * K + 4 * K]
    kernel.vfree(mapping.addr)
    assert kernel.areas == []


def test_vfree_gives_the_pages_back():
    kernel = Kernel("x86_64", total_pages=4096)
    for _ in range(20):
        kernel.vfree(kernel.vmalloc(8 * M, VM_ALLOW_HUGE_VMAP).addr)
    with pytest.raises(VmapError) as caught:
        kernel.vmalloc(64 * M)
    assert caught.value.errno == errno.ENOMEM
    assert kernel.areas == []


def test_vmalloc_whose_page_array_cannot_be_had_leaves_no_area():
    kernel = Kernel("x86_64", max_tables=0)
    with pytest.raises(VmapError) as caught:
        kernel.vmalloc(4 * M)
    assert (caught.value.errno, kernel.areas) == (errno.ENOMEM, [])


def test_vmalloc_on_a_machine_with_more_pages_than_can_be_simulated():
    assert Kernel("x86_64", total_pages=2**63).vmalloc(4 * K).cost.pages == 1


def test_iounmap_takes_any_address_of_the_first_page_and_ignores_0():
    kernel = Kernel("x86_64")
    mapping = kernel.ioremap(0xFEDC_0010, 16)
    kernel.iounmap(0)
    kernel.iounmap(mapping.addr + 0x10)
    assert (kernel.areas, kernel.warnings) == ([], [])


@pytest.mark.parametrize(("size", "error"), [(0, errno.EINVAL), (-5, errno.ENOMEM), (1 << 63, errno.ENOMEM)])
def test_a_size_of_nothing_is_einval_and_one_too_large_enomem(size, error):
    """A negative size is a large one: it is an unsigned long."""
    with pytest.raises(VmapError) as caught:
        Kernel("x86_64").vmalloc(size)
    assert caught.value.errno == error


@pytest.mark.parametrize("arch", ["arm64-4k", "x86_64", "riscv64-sv48", "powerpc64-radix"])
def test_ioremap_makes_pud_leaves(arch):
    assert sizes(Kernel(arch).ioremap(4 * G, 2 * G)) == {1 * G: 2}
    assert sizes(Kernel(arch, boot_args="nohugeiomap").ioremap(4 * G, 4 * M)) == {
        Kernel(arch).arch.page_size: 4 * M // Kernel(arch).arch.page_size
    }


@pytest.mark.parametrize("arch", ["riscv64-sv39", "arm64-16k"])
def test_ioremap_makes_no_pud_leaf_where_there_is_none(arch):
    assert 1 * G not in sizes(Kernel(arch).ioremap(4 * G, 1 * G))


def test_ioremap_prefers_the_largest_leaf_that_fits_and_is_aligned():
    mapping = Kernel("arm64-4k", "linux-6.18").ioremap(4 * G - 2 * M - 64 * K - 8 * K, 2 * G)
    assert mapping.addr % G == 0
    # The physical start is not aligned as the area is, so nothing larger than a base page fits.
    assert set(sizes(mapping)) == {4 * K}
    mapping = Kernel("arm64-4k", "linux-6.18").ioremap(4 * G, 1 * G + 2 * M + 64 * K + 4 * K)
    assert sizes(mapping) == {4 * K: 1, 64 * K: 1, 2 * M: 1, 1 * G: 1}


def test_ioremap_covers_the_pages_of_an_unaligned_range():
    mapping = Kernel("x86_64").ioremap(0xFEDC_0FFF, 2)
    assert mapping.leaves["pfn"].tolist() == [0xFEDC0, 0xFEDC1]


@pytest.mark.parametrize(("phys", "size"), [(0, 0), (-4096, 4096), (1 << 52, 4096), (0, 1 << 60)])
def test_ioremap_of_no_range_is_einval(phys, size):
    with pytest.raises(VmapError) as caught:
        Kernel("x86_64").ioremap(phys, size)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("arch", ["arm64-4k", "x86_64", "riscv64-sv48", "powerpc64-radix"])
def test_a_leaf_replaces_the_empty_tables_below_it(arch):
    kernel = Kernel(arch, record=True)
    page = kernel.arch.page_size
    start = kernel.arch.vmalloc_start & -G
    base = start if start == kernel.arch.vmalloc_start else start + G
    kernel.vmap_page_range(base, base + 5 * M, 4 * G + page)  # PTE tables, below a PMD table
    in_use = kernel.table_memory.tables_in_use
    kernel.vunmap_range(base, base + 5 * M)
    seen = len(kernel.events)
    kernel.vmap_page_range(base, base + G, 8 * G)
    events = kernel.events[seen:]
    assert kernel.leaves(base, base + G).tolist() == [(base, G, 8 * G // page)]
    freed = [event for event in events if event.kind == "table_free"]
    assert len(freed) == 4  # three PTE tables and the PMD table
    assert kernel.table_memory.tables_in_use == in_use - 4
    flushes = [index for index, event in enumerate(events) if event.kind == "flush_tlb_kernel_range"]
    last_free = max(index for index, event in enumerate(events) if event.kind == "table_free")
    leaf = max(index for index, event in enumerate(events) if event.kind == "store")
    assert flushes[-1] < last_free < leaf  # break before make


def test_freed_tables_are_used_again_and_are_empty():
    kernel = Kernel("x86_64")
    base = kernel.arch.vmalloc_start
    kernel.vmap_page_range(base, base + 2 * M, 4 * K)
    kernel.vunmap_range(base, base + 2 * M)
    kernel.vmap_page_range(base, base + 2 * M, 2 * M)
    size = len(kernel.table_memory.dump())
    kernel.vmap_page_range(base + 4 * M, base + 4 * M + 4 * K, 4 * K)
    assert len(kernel.table_memory.dump()) == size
    assert len(kernel.leaves(base + 4 * M, base + 6 * M)) == 1


def test_mapping_over_a_mapping_is_ebusy():
    kernel = Kernel("x86_64")
    base = kernel.arch.vmalloc_start
    kernel.vmap_page_range(base, base + 4 * K, 4 * K)
    with pytest.raises(VmapError) as caught:
        kernel.vmap_page_range(base, base + 8 * K, 16 * K)
    assert caught.value.errno == errno.EBUSY


def test_unmapping_part_of_a_group_clears_all_of_it_and_warns_from_6_18_on():
    kernel = Kernel("arm64-4k", "linux-6.18")
    base = kernel.arch.vmalloc_start
    kernel.vmap_page_range(base, base + 64 * K, 64 * K)
    kernel.vunmap_range(base + 4 * K, base + 4 * K + 4 * K)
    assert kernel.warnings == [
        "unmapped a contiguous group from its middle on",
        "unmapped a contiguous group whose end is outside the range",
    ]
    assert len(kernel.leaves(base, base + 64 * K)) == 0


def test_areas_are_freed_lazily_and_the_tlb_is_flushed_when_enough_wait():
    kernel = Kernel("x86_64", record=True)
    first = kernel.vmalloc(20 * M)
    kernel.vfree(first.addr)
    assert kernel.vmap([1]).addr > first.addr  # the address is not used again yet
    assert not [event for event in kernel.events if event.kind == "flush_tlb_kernel_range"]
    kernel.vfree(kernel.vmalloc(20 * M).addr)
    assert len([event for event in kernel.events if event.kind == "flush_tlb_kernel_range"]) == 1
    assert kernel.vmap([1]).addr == first.addr


def test_chunks_are_mapped_page_by_page_without_huge_vmalloc():
    """``__vmap_pages_range_noflush()`` without HAVE_ARCH_HUGE_VMALLOC: all pages of a chunk are looked at."""
    pages, block = np.arange(512, dtype=np.uint64) + np.uint64(0x200), 512 * 4 * K
    for huge, expected in ((True, {2 * M: 1}), (False, {4 * K: 512})):
        kernel = Kernel("x86_64", config={"HAVE_ARCH_HUGE_VMALLOC": huge})
        addr = -(-kernel.get_vm_area(2 * block).addr // block) * block
        kernel.vmap_pages_range_noflush(addr, pages, 21)
        leaves = kernel.leaves(addr, addr + block)
        assert {int(size): int((leaves["size"] == size).sum()) for size in np.unique(leaves["size"])} == expected
    over = Kernel("x86_64", "linux-6.12", config={"HAVE_ARCH_HUGE_VMALLOC": False})
    addr = over.get_vm_area(4 * K).addr
    over.vmap_pages_range_noflush(addr, [1, 2], 13)
    with pytest.raises(VmapError) as met:  # a warning of the small-page walker, where vmap_pte_range() has a BUG()
        over.vmap_pages_range_noflush(addr, [3, 4], 13)
    assert not met.value.bug and met.value.errno == errno.ENOMEM
