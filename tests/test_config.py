# SPDX-License-Identifier: GPL-2.0-only
"""What configuration and boot arguments change."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from vmaplab import Kernel, VmapError
from vmaplab.release import RELEASES

K, M = 1 << 10, 1 << 20
BATCHING = [name for name, release in RELEASES.items() if release.rules.batches]


def run(first: int, pages: int) -> np.ndarray:
    return np.arange(first, first + pages, dtype=np.uint64)


@pytest.mark.parametrize("release", BATCHING)
def test_without_huge_vmap_nothing_is_scanned_and_all_is_base_pages(release):
    mapping = Kernel("arm64-4k", release, config={"HAVE_ARCH_HUGE_VMAP": False}).vmap(run(0x1000, 1024))
    assert (mapping.cost.pages_scanned, mapping.cost.leaves) == (0, 1024)


@pytest.mark.parametrize("release", BATCHING)
def test_without_hugetlb_page_the_walker_stores_base_pages_but_still_makes_blocks(release):
    kernel = Kernel("arm64-4k", release, config={"HUGETLB_PAGE": False})
    assert kernel.vmap(run(0x1000, 256)).cost.leaves == 256
    assert kernel.vmap(run(0x1000, 512)).cost.leaves == 1


def test_without_vmemmap_a_run_is_cut_at_the_section_boundary():
    section = (1 << 27) >> 12
    pfns = run(section - 256, 512)
    with_vmemmap = Kernel("arm64-4k", "series-v4").vmap(pfns).cost
    cut = Kernel("arm64-4k", "series-v4", config={"SPARSEMEM_VMEMMAP": False}).vmap(pfns).cost
    # 511 comparisons find the whole run; then the second half is looked at again.
    assert with_vmemmap.pages_scanned == 511 + 255
    # The comparison across the boundary is made, and then the section numbers differ.
    assert cut.pages_scanned == 256 + 255
    assert with_vmemmap.leaves == cut.leaves == 32


def test_v3_cuts_at_the_section_boundary_what_it_would_otherwise_refuse_as_misaligned():
    section = (1 << 27) >> 12
    pfns = run(section - 256, 512)
    assert Kernel("arm64-4k", "series-v3").vmap(pfns).cost.leaves == 512
    assert Kernel("arm64-4k", "series-v3", config={"SPARSEMEM_VMEMMAP": False}).vmap(pfns).cost.leaves == 32


def test_ptdump_forbids_block_leaves_on_arm64_6_12_only():
    for release, leaf in (("linux-6.12", 4 * K), ("linux-6.18", 2 * M)):
        kernel = Kernel("arm64-4k", release, config={"PTDUMP_DEBUGFS": True})
        sizes = set(kernel.ioremap(0x4000_0000, 2 * M).leaves["size"].tolist())
        assert sizes == {leaf}


@pytest.mark.parametrize("release", sorted(RELEASES))
class TestKmsan:
    def test_metadata_is_mapped_first_and_flushed(self, release):
        kernel = Kernel("x86_64", release, config={"KMSAN": True}, record=True)
        mapping = kernel.vmap(run(0x1000, 3))
        quarter = 8 << 40
        flushes = [event[:3] for event in mapping.events if event.kind.startswith("flush")]
        start, end = mapping.addr, mapping.addr + 3 * 4 * K
        meta = [(start + quarter, end + quarter), (start + 2 * quarter, end + 2 * quarter)]
        assert flushes == (
            [("flush_tlb_kernel_range", *span) for span in meta]
            + [("flush_cache_vmap", *span) for span in meta]
            + [("flush_cache_vmap", start, end)]
        )
        assert [len(kernel.leaves(*span)) for span in meta] == [3, 3]
        kernel.vunmap(mapping.addr)
        assert [len(kernel.leaves(*span)) for span in [*meta, (start, end)]] == [0, 0, 0]

    def test_its_failure_maps_nothing_and_still_flushes_the_range(self, release):
        kernel = Kernel("x86_64", release, config={"KMSAN": True}, record=True, max_tables=1)
        with pytest.raises(VmapError) as caught:
            kernel.vmap(run(0x1000, 3))
        assert caught.value.errno == errno.ENOMEM
        start = kernel.arch.vmalloc_start
        assert ("flush_cache_vmap", start, start + 3 * 4 * K) in [event[:3] for event in kernel.events]
        assert len(kernel.leaves(start, start + 4 * 4 * K)) == 0

    def test_the_cost_is_that_of_the_mapping_alone(self, release):
        pfns = run(0x1000, 700)
        plain = Kernel("x86_64", release).vmap(pfns).cost
        checked = Kernel("x86_64", release, config={"KMSAN": True}).vmap(pfns).cost
        assert dict(plain) == dict(checked)


def test_flush_after_failure_covers_the_whole_area():
    kernel = Kernel("arm64-4k", record=True)
    pfns = run(0x1000, 40)
    pfns[20] = 2**64 - 1
    with pytest.raises(VmapError):
        kernel.vmap(pfns)
    start = kernel.arch.vmalloc_start
    flushes = [event[:3] for event in kernel.events if event.kind.startswith("flush")]
    assert flushes == [
        ("flush_cache_vmap", start, start + 40 * 4 * K),
        ("flush_cache_vunmap", start, start + 41 * 4 * K),
    ]


def test_areas_are_aligned_from_the_series_on():
    for release, aligned in (("linux-6.18", False), ("series-v3", True)):
        kernel = Kernel("arm64-4k", release)
        kernel.vmap([1])
        assert (kernel.vmap(run(0x1000, 512)).addr % (2 * M) == 0) is aligned
        assert (kernel.vmap(run(0x1000, 16)).addr % (64 * K) == 0) is aligned


def test_alignment_degrades_when_no_aligned_area_is_free():
    kernel = Kernel("powerpc-8xx")
    start, end = kernel.arch.vmalloc_start, kernel.arch.vmalloc_end
    # Leave one hole of 600 KiB that starts 16 KiB, not 512 KiB, aligned.
    kernel.get_vm_area(16 * K - 4 * K)
    kernel.get_vm_area(600 * K - 4 * K)
    kernel.get_vm_area(end - start - 16 * K - 600 * K - 4 * K)
    hole = kernel.areas[1]
    kernel.vunmap(hole.addr)
    mapping = kernel.vmap(run(0x1000, 140))
    assert mapping.addr == start + 16 * K
    assert set(mapping.leaves["size"].tolist()) == {16 * K}
