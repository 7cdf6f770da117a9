# SPDX-License-Identifier: GPL-2.0-only
"""Cases out of the review mail, worked by hand: what every release builds on every architecture."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from facts import ARCHES
from naive_translate import Ram, translate
from vmaplab import Kernel, VmapError
from vmaplab.release import RELEASES

K, M = 1 << 10, 1 << 20
OLD = ("linux-6.1", "linux-6.12", "linux-6.18", "linux-6.19", "linux-7.1")
NEW = ("series-v3", "suggested", "series-v4", "mm-unstable")
X86_RISCV = ("x86_64", "x86_64-la57", "riscv64-sv39", "riscv64-sv48", "riscv64-sv57")
NULL = 2**64 - 1


def run(first: int, pages: int) -> list[int]:
    return list(range(first, first + pages))


def sizes(arch: str, release: str, pfns: list[int], **keywords) -> dict[int, int]:
    mapping = Kernel(arch, release=release, **keywords).vmap(np.array(pfns, dtype=np.uint64))
    found, counts = np.unique(mapping.leaves["size"], return_counts=True)
    return dict(zip(found.tolist(), counts.tolist(), strict=True))


def expect(pfns: list[int], table: dict[str, dict[str, dict[int, int]]], **keywords) -> None:
    """``table``: architecture -> release -> leaves by size; what is not named is base pages only."""
    for arch in ARCHES.values():
        base = {arch.page_size: len(pfns)}
        for release in RELEASES:
            wanted = table.get(arch.name, {}).get(release, base)
            assert sizes(arch.name, release, pfns, **keywords) == wanted, (arch.name, release)


def all_new(leaves: dict[int, int]) -> dict[str, dict[int, int]]:
    return dict.fromkeys(NEW, leaves)


def but_v3(leaves: dict[int, int]) -> dict[str, dict[int, int]]:
    return dict.fromkeys(NEW[1:], leaves)


ORDER_8_BLOCKS = run(0x1000, 256) + run(0x5000, 256) + run(0x3000, 256) + run(0x9000, 256)


def test_order_8_blocks():
    expect(
        ORDER_8_BLOCKS,
        {
            "arm64-4k": all_new({64 * K: 64}),
            "arm64-16k": all_new({2 * M: 8}),
            "arm64-64k": all_new({2 * M: 32}),
            "powerpc64-radix": but_v3({2 * M: 32}),
            "powerpc-8xx": all_new({512 * K: 8}),
            "powerpc-8xx-16k": all_new({512 * K: 32}),
        },
    )


def test_v3_drops_to_base_pages_when_2_to_the_8_pages_are_aligned_to_2_to_the_4():
    expect(
        run(0x1010, 256),
        {"arm64-4k": but_v3({64 * K: 16}), "powerpc-8xx": but_v3({16 * K: 64})},
    )


def test_v3_gives_x86_and_riscv_no_pmd_leaf_for_pmd_sized_runs():
    wanted = dict.fromkeys(X86_RISCV, but_v3({2 * M: 2}))
    wanted["arm64-4k"] = all_new({2 * M: 2})
    wanted["arm64-16k"] = all_new({2 * M: 8})
    wanted["arm64-64k"] = all_new({2 * M: 32})
    wanted["powerpc64-radix"] = but_v3({2 * M: 32})
    wanted["powerpc-8xx"] = all_new({512 * K: 8})
    wanted["powerpc-8xx-16k"] = all_new({512 * K: 32})
    expect(run(0x1000, 512) + run(0x3000, 512), wanted)


def test_nohugeiomap_takes_v3_its_huge_mappings_and_no_other_release():
    expect(
        ORDER_8_BLOCKS,
        {
            "arm64-4k": but_v3({64 * K: 64}),
            "arm64-16k": but_v3({2 * M: 8}),
            "arm64-64k": but_v3({2 * M: 32}),
            "powerpc64-radix": but_v3({2 * M: 32}),
            "powerpc-8xx": but_v3({512 * K: 8}),
            "powerpc-8xx-16k": but_v3({512 * K: 32}),
        },
        boot_args="nohugeiomap",
    )


@pytest.mark.parametrize("release", NEW)
def test_ascending_orders_stop_the_scan_at_the_first_small_page(release):
    descending = run(0x1000, 256) + run(0x4000, 16) + [0x7003]
    ascending = [0x7003] + run(0x4000, 16) + run(0x1000, 256)
    assert sizes("arm64-4k", release, descending) == {64 * K: 17, 4 * K: 1}
    assert sizes("arm64-4k", release, ascending) == {4 * K: 273}
    assert sizes("arm64-4k", release, ascending[1:]) == {64 * K: 17}


@pytest.mark.parametrize("release", OLD)
def test_before_the_series_vmap_makes_base_pages_only(release):
    assert sizes("arm64-4k", release, run(0x1000, 512)) == {4 * K: 512}


def test_v4_rescans_a_long_misaligned_run_and_mm_unstable_does_not():
    def scanned(release: str, pages: int) -> int:
        pfns = np.arange((1 << 20) + 16, (1 << 20) + 16 + pages, dtype=np.uint64)
        return Kernel("arm64-4k", release=release).vmap(pfns).cost.pages_scanned

    # Chunks double from 16 pages on; v4 looks at all that is left for each of them.
    assert scanned("mm-unstable", 8192) < 2 * 8192
    assert scanned("series-v4", 8192) > 8 * 8192
    assert scanned("series-v4", 1 << 16) > 11 * (1 << 16)


def test_review_rescans_quadratically():
    scanned = [
        Kernel("arm64-4k", release="suggested").vmap(np.arange(16, 16 + n, dtype=np.uint64)).cost.pages_scanned
        for n in (256, 512)
    ]
    assert scanned[1] > 3.5 * scanned[0]


class TestNullPageInABatch:
    PFNS = run(0x1000, 256) + [NULL] + run(0x5000, 256)

    @pytest.mark.parametrize("arch", sorted(ARCHES))
    @pytest.mark.parametrize("release", sorted(RELEASES))
    def test_fails_with_enomem_at_that_page_and_leaves_nothing_mapped(self, arch, release):
        kernel = Kernel(arch, release=release, record=True)
        with pytest.raises(VmapError, match="page 256 is NULL") as caught:
            kernel.vmap(np.array(self.PFNS, dtype=np.uint64))
        assert caught.value.errno == errno.ENOMEM
        assert kernel.areas == []
        start = kernel.arch.vmalloc_start
        assert len(kernel.leaves(start, start + 1000 * kernel.arch.page_size)) == 0
        assert kernel.warnings == ["NULL page"]
        size = len(self.PFNS) * kernel.arch.page_size
        assert ("flush_cache_vmap", start, start + size) in [event[:3] for event in kernel.events]


@pytest.mark.parametrize("release", sorted(RELEASES))
def test_invalid_pfn_is_enomem_in_the_old_walker_and_einval_in_the_new(release):
    kernel = Kernel("arm64-4k", release=release, total_pages=0x2000)
    with pytest.raises(VmapError, match="page 256 has PFN 0x2000") as caught:
        kernel.vmap(np.array(run(0x1000, 256) + [0x2000], dtype=np.uint64))
    assert caught.value.errno == (errno.ENOMEM if release in OLD else errno.EINVAL)


@pytest.mark.parametrize("release", sorted(RELEASES))
def test_entry_already_set_is_enomem_in_the_old_walker_and_ebusy_in_the_new(release):
    kernel = Kernel("arm64-4k", release=release)
    start = kernel.arch.vmalloc_start
    kernel.vmap_page_range(start + 40 * 4 * K, start + 41 * 4 * K, 0x123000)
    with pytest.raises(VmapError, match="already set at page 40") as caught:
        kernel.vmap(np.arange(1, 200, 2, dtype=np.uint64))
    assert caught.value.errno == (errno.ENOMEM if release in OLD else errno.EBUSY)
    assert len(kernel.leaves(start, start + M)) == 0  # vunmap() of the area takes the stranger along


def _crossings() -> list[tuple[str, str]]:
    return [(arch.name, level.name) for arch in ARCHES.values() for level in arch.levels[1:]]


@pytest.mark.parametrize(("arch", "level"), _crossings())
@pytest.mark.parametrize("release", ["linux-6.12", "series-v3", "mm-unstable"])
def test_range_that_crosses_a_boundary_of_each_level(arch, level, release):
    kernel = Kernel(arch, release=release)
    shift = next(item.shift for item in kernel.arch.levels if item.name == level)
    start, page = kernel.arch.vmalloc_start, kernel.arch.page_size
    boundary = ((start >> shift) + 1) << shift
    if boundary + 4000 * page > kernel.arch.vmalloc_end:
        pytest.skip("the vmalloc space has no such boundary")
    before = 700 * page
    if boundary - before > start:  # fill the space up to there; with a guard page
        kernel.get_vm_area(boundary - before - page - start)
    pfns = np.array(run(0x4000, 1024) + run(0x9010, 300) + run(0x2000, 256), dtype=np.uint64)
    mapping = kernel.vmap(pfns)
    assert mapping.addr <= boundary < mapping.addr + mapping.size or mapping.addr == start
    memory = kernel.table_memory
    ram = Ram(memory.base, memory.dump())
    for index in range(0, len(pfns)):
        phys = translate(arch, ram, memory.root, mapping.addr + index * page)
        assert phys == int(pfns[index]) * page
    assert translate(arch, ram, memory.root, mapping.addr + mapping.size) is None
