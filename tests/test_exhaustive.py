# SPDX-License-Identifier: GPL-2.0-only
"""Small-scope exhaustion on a tiny architecture: every array shape of up to 10 pages, every offset, every release."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from tiny import FORMAT, START, TINY, frames, shapes
from vmaplab import Kernel, release
from vmaplab.check.optimum import best_address, optimum
from vmaplab.errors import Violation
from vmaplab.judge import invariants
from vmaplab.judge.walker import walk
from vmaplab.judge.witness import Witness
from vmaplab.vmalloc.calls import map_pages, unmap

PAGES = 10
WINDOW = 32  # pages of address space for each array
PAGE = 4096


@pytest.fixture(scope="module")
def arrays():
    """All arrays one after the other, and where each begins."""
    parts = [frames(shape) for shape in shapes(PAGES)]
    return np.concatenate(parts), np.cumsum([0, *map(len, parts)])


@njit
def map_each(setup, tables, pfns, starts, base, prots):
    for number in range(len(starts) - 1):
        pages = pfns[starts[number] : starts[number + 1]]
        if map_pages(setup, tables, base + number * WINDOW * PAGE, len(pages) * PAGE, pages, 12, True, prots, prots):
            return number
    return -1


@njit
def unmap_each(setup, tables, starts, base):
    for number in range(len(starts) - 1):
        unmap(setup, tables, base + number * WINDOW * PAGE, (starts[number + 1] - starts[number]) * PAGE)


def test_the_shapes_are_all_there(arrays):
    """Compositions of up to 10 pages, with every alignment that a leaf in the run can see."""
    small = {tuple(shape) for shape in shapes(4)}
    assert ((0, 1), (3, 2), (0, 1)) in small and ((5, 4),) in small and len(small) == 1 + 5 + 13 + 45
    assert len(arrays[1]) - 1 == sum(1 for _ in shapes(PAGES)) > 50_000


@pytest.mark.slow
@pytest.mark.parametrize("name", release.RELEASES)
def test_no_shape_breaks_an_invariant_at_any_offset(arrays, name):
    pfns, starts = arrays
    sizes = np.diff(starts)
    for offset in range(8):
        kernel = Kernel(TINY, name)
        mapper, base = kernel._mapper, START - (1 << 64) + offset * PAGE
        tables = mapper.tables_for((len(starts) + 1) * WINDOW * PAGE)
        failed = map_each(mapper.setup, tables, pfns, starts, base, mapper.prots(None))
        assert failed == -1
        first = np.repeat(np.arange(len(sizes)) * WINDOW - starts[:-1], sizes)
        va = np.uint64(START) + (first + np.arange(len(pfns)) + offset).astype(np.uint64) * np.uint64(PAGE)
        found = walk(kernel.live_tables(), TINY.table_base, kernel.table_root, FORMAT)
        assert not found.complaints
        invariants.alignment(found.entries)
        invariants.groups(found.entries, FORMAT)
        actual = invariants.spread(found.entries, np.uint64(PAGE))
        invariants.bijection(actual, (va, pfns.astype(np.uint64) * np.uint64(PAGE)), PAGE)
        invariants.rights(found.entries, FORMAT, [(START, 1 << 64 - 1, FORMAT.data_rights)])
        assert len(invariants.leaves(found.entries, PAGE)) == len(kernel.leaves(START, START + (1 << 35)))
        assert len(found.tables) == kernel.table_memory.tables_in_use
        best = sum(len(optimum(TINY, pfns[a:b].astype(np.uint64), START + offset * PAGE)) for a, b in
                   zip(starts[:-1:97].tolist(), starts[1::97].tolist(), strict=True))  # fmt: skip
        assert best <= _tlb_entries(kernel, starts, base, 97)
        unmap_each(mapper.setup, mapper.memory.tables(), starts, base)
        assert not len(walk(kernel.live_tables(), TINY.table_base, kernel.table_root, FORMAT).entries)


def _tlb_entries(kernel, starts, base, step):
    """Of each ``step``-th array."""
    total = 0
    for number in range(0, len(starts) - 1, step):
        addr = (base + number * WINDOW * PAGE) % (1 << 64)
        total += len(kernel.leaves(addr, addr + int(starts[number + 1] - starts[number]) * PAGE))
    return total


def _fewest(pfns: list[int], first: int) -> int:
    """TLB entries of the best of all ways to cut the array into leaves, tried one after the other."""
    best = [0] + [99] * len(pfns)
    for end in range(1, len(pfns) + 1):
        for size in (1, 4, 8):
            start = end - size
            if start < 0 or (first + start) % size or pfns[start] % size:
                continue
            if pfns[start:end] == list(range(pfns[start], pfns[start] + size)):
                best[end] = min(best[end], best[start] + 1)
    return best[-1]


def test_the_optimum_is_the_best_of_all_mappings():
    for shape in shapes(7):
        pfns = frames(shape).astype(np.uint64)
        for offset in range(8):
            leaves = optimum(TINY, pfns, START + offset * PAGE)
            assert len(leaves) == _fewest(pfns.tolist(), offset)
            assert int(leaves["size"].sum()) == len(pfns) * PAGE


def test_the_best_address_is_the_best_of_all_offsets():
    for shape in shapes(6):
        pfns = frames(shape).astype(np.uint64)
        fewest = min(_fewest(pfns.tolist(), offset) for offset in range(8))
        assert _fewest(pfns.tolist(), (best_address(TINY, pfns, START) - START) // PAGE) == fewest


@pytest.mark.slow
@pytest.mark.parametrize("name", release.RELEASES)
def test_whole_kernels_of_the_tiny_architecture_hold_every_invariant(name):
    """Areas, flushes and tables too: every shape of up to 5 pages, two mappings of it at a time."""
    witness = Witness(Kernel(TINY, name, record=True), form=FORMAT)
    for shape in shapes(5):
        pfns = frames(shape)
        first, second = witness.vmap(pfns), witness.vmap(pfns)
        assert first.addr + first.size < second.addr or second.addr + second.size < first.addr
        witness.vunmap(first.addr)
        witness.vunmap(second.addr)
    witness.close()


def test_a_wrong_page_of_the_tiny_architecture_is_noticed():
    witness = Witness(Kernel(TINY, record=True), form=FORMAT)
    witness.vmap(range(8, 16))
    memory = witness.kernel._mapper.memory._words
    memory[np.flatnonzero(memory)[-1]] ^= 1 << 15
    with pytest.raises(Violation):
        witness.vmap([1, 2])
