# SPDX-License-Identifier: GPL-2.0-only
"""Entries bit by bit, and the order in which the kernel stores them."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from facts import ARCHES
from vmaplab import Kernel
from vmaplab.config import complete_config
from vmaplab.pgtable.geometry import GEOMETRY_NUMBERS, numbers, unpacked
from vmaplab.vmalloc.batch import Batching, batching_of
from vmaplab.vmalloc.calls import Options, how_of, options_of

PAGE, TABLE, CONT = 0x00E8_0000_0000_0703, 0x1000_0000_0000_0003, 1 << 52


@pytest.mark.parametrize(
    ("arch", "prot", "start", "end"),
    [
        ("arm64-4k", 0xE8000000000703, 0xFFFF800080000000, 0xFFFFFDFFBF800000),
        ("arm64-16k", 0xE8000000000703, 0xFFFF800080000000, 0xFFFFFF7FBF800000),
        ("arm64-64k", 0xE8000000000703, 0xFFFF800080000000, 0xFFFFFFDFBF800000),
        ("x86_64", 0x8000000000000163, 0xFFFFC90000000000, 0xFFFFE8FFFFFFFFFF),
        ("riscv64-sv39", 231, 0xFFFFFFD600000000 - (1 << 36), 0xFFFFFFD600000000),
        ("riscv64-sv48", 231, 0xFFFFAF8000000000 - (1 << 45), 0xFFFFAF8000000000),
        ("riscv64-sv57", 231, 0xFF60000000000000 - (1 << 54), 0xFF60000000000000),
        ("powerpc64-radix", 0x8000 << 48 | 398, 0xC008000000000000, 0xC00A000000000000),
        ("powerpc-8xx-16k", 301, 0xC9000000, 0xFF000000),
    ],
)
def test_constants_are_those_that_a_compiler_made_of_the_6_12_headers(arch, prot, start, end):
    known = ARCHES[arch]
    assert (known.pgprot_nx(known.page_kernel), known.vmalloc_start, known.vmalloc_end) == (prot, start, end)


def stores(arch: str, pfns: list[int], release: str = "mm-unstable") -> list[int]:
    mapping = Kernel(arch, release=release, record=True).vmap(np.array(pfns, dtype=np.uint64))
    return [event.value for event in mapping.events if event.kind == "store"]


@pytest.mark.parametrize(
    ("arch", "pfn", "entry"),
    [
        ("arm64-4k", 0x12345, 0x12345 << 12 | PAGE),
        ("arm64-16k", 0x12345, 0x12345 << 14 | PAGE),
        ("arm64-64k", 0x12345, 0x12345 << 16 | PAGE),
        ("x86_64", 0x12345, 0x12345 << 12 | 0x8000000000000163),
        ("x86_64-la57", 0x12345, 0x12345 << 12 | 0x8000000000000163),
        ("riscv64-sv39", 0x12345, 0x12345 << 10 | 0xE7),
        ("riscv64-sv48", 0x12345, 0x12345 << 10 | 0xE7),
        ("riscv64-sv57", 0x12345, 0x12345 << 10 | 0xE7),
        ("powerpc64-radix", 0x12345, 0x12345 << 16 | 0xC00000000000018E),
        ("powerpc-8xx", 0x12345, 0x12345 << 12 | 0x125),
        ("powerpc-8xx-16k", 0x12345, 0x12345 << 14 | 0x12D),
        ("loongarch64", 0x12345, 0x12345 << 14 | 0x1D3),
    ],
)
def test_base_page_entry(arch, pfn, entry):
    written = stores(arch, [pfn])
    assert written[-ARCHES[arch].cells :] == [entry] * ARCHES[arch].cells


@pytest.mark.parametrize(
    ("arch", "pages", "entry"),
    [
        ("arm64-4k", 512, 0x1000 << 12 | PAGE & ~2),
        ("x86_64", 512, 0x1000 << 12 | 0x80000000000001E3),
        ("riscv64-sv48", 512, 0x1000 << 10 | 0xE7),
        ("powerpc64-radix", 32, 0x1000 << 16 | 0xC00000000000018E),
    ],
)
def test_pmd_block_entry(arch, pages, entry):
    assert stores(arch, list(range(0x1000, 0x1000 + pages)))[-1] == entry


@pytest.mark.parametrize(
    ("arch", "entries"),
    [
        ("arm64-4k", [0x1000000 + page * 0x1000 | PAGE | CONT for page in range(16)]),
        ("powerpc-8xx", [0x1000000 + page * 0x1000 | 0x125 | 0x008 for page in range(4)] * 1),
    ],
)
def test_smallest_group_has_its_bits_in_every_entry(arch, entries):
    assert stores(arch, list(range(0x1000, 0x1000 + len(entries))))[-len(entries) :] == entries


@pytest.mark.parametrize(("arch", "pages"), [("powerpc-8xx", 128), ("powerpc-8xx-16k", 32)])
def test_8xx_512k_group_fills_128_cells_4k_apart_with_the_512k_bits(arch, pages):
    first = 0x400 << ARCHES[arch].page_shift
    flags = ARCHES[arch].page_kernel | 0x808
    written = stores(arch, list(range(0x400, 0x400 + pages)))[-128:]
    assert written == [first + cell * 0x1000 | flags for cell in range(128)]


def test_table_entries_point_to_the_table_allocated_just_before():
    for arch in ARCHES:
        mapping = Kernel(arch, record=True).vmap(np.array([7], dtype=np.uint64))
        events = [event for event in mapping.events if event.kind in ("store", "table_alloc")]
        tables = [event.addr for event in events if event.kind == "table_alloc"]
        values = [event.value for event in events if event.kind == "store"][: len(tables)]
        decode = {"arm64": lambda v: v & ~0xFFF & ((1 << 48) - 1), "x86": lambda v: v & ~0xFFF}
        decode |= {"riscv": lambda v: v >> 10 << 12, "loongarch": lambda v: v & ((1 << 48) - 1)}
        decode["powerpc"] = lambda v: v & ((1 << 60) - 1) & ~0xFF
        assert [decode[ARCHES[arch].family](value) for value in values] == tables, arch
        assert len(tables) == len(ARCHES[arch].levels) - 1


def test_events_come_in_the_kernels_order():
    mapping = Kernel("arm64-4k", record=True).vmap(np.arange(0x1000, 0x1010, dtype=np.uint64))
    kinds = [event.kind for event in mapping.events]
    assert kinds == ["table_alloc", "store"] * 3 + ["store"] * 16 + ["flush_cache_vmap"]
    leaf_stores = [event.addr for event in mapping.events if event.kind == "store"][3:]
    assert leaf_stores == list(range(leaf_stores[0], leaf_stores[0] + 128, 8))
    assert mapping.events[-1][1:4] == (mapping.addr, mapping.addr + 0x10000, 0x10000)


def test_big_endian_entries_are_stored_big_endian():
    kernel = Kernel("powerpc64-radix")
    kernel.vmap(np.array([0x12345], dtype=np.uint64))
    assert struct.pack(">Q", 0x12345 << 16 | 0xC00000000000018E) in kernel.table_memory.dump()


def test_empty_loongarch_tables_point_to_invalid_tables_and_hold_global_ptes():
    kernel = Kernel("loongarch64")
    mapping = kernel.vmap(np.array([0x12345], dtype=np.uint64))
    words = np.frombuffer(kernel.table_memory.dump(), dtype=np.uint64)
    assert set((words >> np.uint64(60)).tolist()) == {0, 9}
    assert np.count_nonzero(words == 0x40) == 2 * 2048 - 1
    kernel.vunmap(mapping.addr)
    words = np.frombuffer(kernel.table_memory.dump(), dtype=np.uint64)
    assert np.count_nonzero(words == 0x40) == 2 * 2048


def test_x86_pat_bit_moves_in_a_large_page_and_nx_is_forced():
    prot = 0x163 | 0x80  # PAT, and executable
    pfns = np.arange(0x1000, 0x1000 + 513, dtype=np.uint64)
    mapping = Kernel("x86_64", record=True).vmap(pfns, prot=prot)
    values = [event.value for event in mapping.events if event.kind == "store"]
    assert 0x1000000 | 0x80000000000011E3 in values
    assert values[-1] == 0x1200000 | 0x80000000000001E3


@pytest.mark.parametrize("config", [{}, {"KMSAN": True}, {"HAVE_ARCH_HUGE_VMAP": False}], ids=str)
@pytest.mark.parametrize("arch", sorted(ARCHES))
def test_a_packed_setup_is_unpacked_to_what_went_in(arch, config):
    """What compiled calls take as one array of numbers, and index by hand."""
    for release in ("linux-6.12", "suggested", "mm-unstable"):
        mapper = Kernel(arch, release, config=config)._mapper
        options = complete_config(mapper._arch, config)
        batching = batching_of(mapper._arch, mapper._release.rules, options, (), mapper.g.shift[1])
        assert unpacked(mapper.setup, 0) == mapper.g
        assert unpacked(mapper.setup, GEOMETRY_NUMBERS) == mapper._meta_g
        assert options_of(mapper.setup) == mapper.options
        assert tuple(how_of(mapper.setup)) == tuple(numbers(batching).tolist())
        assert len(mapper.setup) == 2 * GEOMETRY_NUMBERS + len(Options._fields) + len(Batching._fields)
