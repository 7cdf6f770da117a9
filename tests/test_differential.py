# SPDX-License-Identifier: GPL-2.0-only
"""The model against two naive ones: what leaves there are and what they cost, and what the tables translate to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrays import page_arrays
from facts import ARCHES
from naive_translate import Ram, translate
from naive_vmap import ARCHES as NAIVE_ARCHES
from naive_vmap import Naive
from vmaplab import Kernel
from vmaplab.release import RELEASES

arches = st.sampled_from(sorted(ARCHES))
releases = st.sampled_from(sorted(RELEASES))


def leaves_of(mapping) -> list[tuple[int, int, int]]:
    return [tuple(int(value) for value in leaf) for leaf in mapping.leaves]


def assert_as_naive(arch: str, release: str, pfns: list[int], boot_args: str = "", **config: bool) -> None:
    kernel = Kernel(arch, release=release, boot_args=boot_args, config=config)
    mapping = kernel.vmap(np.array(pfns, dtype=np.uint64))
    naive = Naive(arch, release, "nohugeiomap" in boot_args, config.get("HAVE_ARCH_HUGE_VMAP", True)).run(pfns)
    assert leaves_of(mapping) == naive.leaves
    assert dict(mapping.cost) == naive.cost


def test_naive_model_knows_every_architecture():
    assert set(NAIVE_ARCHES) == set(ARCHES)


@given(arches, releases, page_arrays())
def test_leaves_and_cost_equal_the_naive_model(arch, release, pfns):
    assert_as_naive(arch, release, pfns)


@given(arches, releases, page_arrays(max_pages=600))
def test_nohugeiomap_and_no_huge_vmap_equal_the_naive_model(arch, release, pfns):
    assert_as_naive(arch, release, pfns, boot_args="nohugeiomap")
    assert_as_naive(arch, release, pfns, HAVE_ARCH_HUGE_VMAP=False)


@pytest.mark.parametrize("arch", sorted(ARCHES))
@pytest.mark.parametrize("release", sorted(RELEASES))
def test_large_mixed_arrays_equal_the_naive_model(arch, release):
    rng = np.random.default_rng(len(arch) * 100 + len(release))
    pfns: list[int] = []
    top = 1 << (18 if "16k" in arch else 20 if "8xx" in arch else 24)
    while len(pfns) < 9000:
        order = int(rng.integers(0, 12))
        base = int(rng.integers(0, top >> 13)) << 12
        pfns += range(base, base + (1 << order))
    assert_as_naive(arch, release, pfns)


class Machine:
    """A dump of a kernel's tables, for translating."""

    def __init__(self, kernel: Kernel) -> None:
        self.arch = kernel.arch.name
        memory = kernel.table_memory
        self.ram, self.root = Ram(memory.base, memory.dump()), memory.root

    def pfn(self, va: int) -> int | None:
        phys = translate(self.arch, self.ram, self.root, va)
        return None if phys is None else phys >> ARCHES[self.arch].page_shift


@given(arches, releases, page_arrays(max_pages=500), page_arrays(max_pages=200))
def test_every_page_is_reachable_and_nothing_else_until_unmapped(arch, release, first, second):
    kernel = Kernel(arch, release=release)
    size = kernel.arch.page_size
    mapped = {}
    areas = []
    for pfns in (first, second):
        mapping = kernel.vmap(np.array(pfns, dtype=np.uint64))
        areas.append(mapping.addr)
        mapped |= {mapping.addr + index * size: pfn for index, pfn in enumerate(pfns)}
    machine = Machine(kernel)
    for va, pfn in mapped.items():
        assert machine.pfn(va) == pfn
        assert kernel.vmalloc_to_pfn(va + size - 1) == pfn
    neighbourhood = {va + step * size for va in mapped for step in (-1, 1)} - set(mapped)
    assert all(machine.pfn(va) is None for va in neighbourhood if va >= kernel.arch.vmalloc_start)
    for addr in areas:
        kernel.vunmap(addr)
    machine = Machine(kernel)
    assert all(machine.pfn(va) is None for va in mapped)
    assert not len(kernel.leaves(min(mapped), max(mapped) + size))
    assert not kernel.warnings


@given(arches, page_arrays(max_pages=400))
def test_all_releases_map_the_same_pages_at_the_same_address(arch, pfns):
    for release in RELEASES:
        kernel = Kernel(arch, release=release)
        mapping = kernel.vmap(np.array(pfns, dtype=np.uint64))
        spread = [
            int(pfn) + page for _, size, pfn in mapping.leaves for page in range(int(size) // kernel.arch.page_size)
        ]
        assert (mapping.addr, spread) == (kernel.arch.vmalloc_start, pfns)
