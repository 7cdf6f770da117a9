# SPDX-License-Identifier: GPL-2.0-only
"""What goes wrong, goes wrong as in the kernel: same errno, same page, nothing left mapped, no table lost."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrays import page_arrays
from facts import ARCHES
from vmaplab import InputError, Kernel, VmapError
from vmaplab.calls.flags import VM_FLUSH_RESET_PERMS, VM_MAP_PUT_PAGES, VM_NO_GUARD
from vmaplab.release import RELEASES

arches = st.sampled_from(sorted(ARCHES))
releases = st.sampled_from(sorted(RELEASES))


def reachable_tables(kernel: Kernel) -> int:
    """Tables below the PGD that a walk of the dump finds."""
    arch, memory = kernel.arch, kernel.table_memory
    order = "big" if arch.big_endian else "little"
    data, size = memory.dump(), arch.entry_bytes

    def count(table: int, level: int) -> int:
        if level == 0:
            return 0
        found = 0
        for index in range(1 << arch.levels[level].bits):
            at = table - memory.base + index * size
            entry = int.from_bytes(data[at : at + size], order)
            phys = ((entry & arch.table_mask) >> arch.table_shift[1]) << arch.table_shift[0]
            invalid = arch.invalid_tables and phys < memory.root
            if entry == 0 or invalid or entry & arch.leaf_test[0] == arch.leaf_test[1] != 0:
                continue
            found += 1 + count(phys, level - 1)
        return found

    return count(memory.root, len(arch.levels) - 1)


@given(arches, releases, page_arrays(max_pages=1200), st.integers(0, 5))
def test_running_out_of_table_memory_leaves_nothing_mapped_and_no_table_lost(arch, release, pfns, tables):
    kernel = Kernel(arch, release=release, max_tables=tables)
    array = np.array(pfns, dtype=np.uint64)
    start, size = kernel.arch.vmalloc_start, len(pfns) * kernel.arch.page_size
    try:
        mapping = kernel.vmap(array)
    except VmapError as error:
        assert error.errno == errno.ENOMEM
        assert "no memory for a page table" in str(error)
        assert len(kernel.leaves(start, start + size)) == 0
        assert kernel.areas == []
        assert kernel.table_memory.tables_in_use == tables == reachable_tables(kernel)
        kernel.table_memory.set_limit(None)
        mapping = kernel.vmap(array)  # memory came back
    assert [kernel.vmalloc_to_pfn(mapping.addr + i * kernel.arch.page_size) for i in range(len(pfns))] == pfns
    assert kernel.table_memory.tables_in_use == reachable_tables(kernel)


@given(releases, page_arrays(max_pages=900), st.integers(0, 899), st.sampled_from(["null", "invalid", "busy"]))
def test_a_bad_page_stops_every_release_and_is_named(release, pfns, where, what):
    where %= len(pfns)
    kernel = Kernel("arm64-4k", release=release, total_pages=1 << 20)
    start = kernel.arch.vmalloc_start
    array = np.array(pfns, dtype=np.uint64)
    if what == "busy":
        kernel.vmap_page_range(start + where * 4096, start + (where + 1) * 4096, 0x5000)
    else:
        array[where] = 2**64 - 1 if what == "null" else (1 << 30) + 3
    old = not RELEASES[release].rules.unified_walker
    wanted = {"null": errno.ENOMEM, "invalid": errno.EINVAL, "busy": errno.EBUSY}[what]
    try:
        mapping = kernel.vmap(array)
    except VmapError as error:
        assert error.errno == (errno.ENOMEM if old else wanted)
        if what != "busy":
            assert f"page {where} " in str(error)
        assert len(kernel.leaves(start, start + (len(pfns) + 1) * 4096)) == 0
        assert kernel.areas == []
    else:
        # A store of groups looks at its first entry only, and a block replaces the table below it: so does the kernel.
        leaf = next(leaf for leaf in mapping.leaves if leaf["va"] <= start + where * 4096 < leaf["va"] + leaf["size"])
        assert what == "busy"
        assert leaf["size"] > 4096


def test_more_pages_than_the_machine_has_is_enomem():
    with pytest.raises(VmapError, match="10 pages, but the machine has 9") as caught:
        Kernel("x86_64", total_pages=9).vmap(np.zeros(10, dtype=np.uint64))
    assert caught.value.errno == errno.ENOMEM


@pytest.mark.parametrize("arch", sorted(ARCHES))
@pytest.mark.parametrize("release", ["linux-6.18", "mm-unstable"])
def test_more_ram_than_the_architecture_can_address_makes_no_pfn_valid(arch, release):
    widest = ARCHES[arch].addressable_pages
    kernel = Kernel(arch, release, total_pages=2**63)
    assert kernel.vmap([widest - 1]).leaves["pfn"].tolist() == [widest - 1]
    with pytest.raises(VmapError, match="not valid"):
        kernel.vmap(range(widest - 3, widest + 1))


def test_no_pages_is_einval():
    with pytest.raises(VmapError) as caught:
        Kernel("x86_64").vmap([])
    assert caught.value.errno == errno.EINVAL


def test_vm_flush_reset_perms_is_refused_with_a_warning():
    kernel = Kernel("x86_64")
    with pytest.raises(VmapError) as caught:
        kernel.vmap([1], flags=VM_FLUSH_RESET_PERMS)
    assert (caught.value.errno, len(kernel.warnings), kernel.areas) == (errno.EINVAL, 1, [])


def test_vm_no_guard_is_dropped_with_a_warning():
    kernel = Kernel("x86_64")
    mapping = kernel.vmap([1], flags=VM_NO_GUARD)
    assert kernel.find_vm_area(mapping.addr).size == 2 * 4096
    assert kernel.warnings == ["vmap() does not take VM_NO_GUARD; dropped"]


def test_vm_map_put_pages_hands_the_pages_over():
    kernel = Kernel("x86_64")
    mapping = kernel.vmap([5, 9], flags=VM_MAP_PUT_PAGES)
    assert kernel.find_vm_area(mapping.addr).pages.tolist() == [5, 9]
    assert kernel.find_vm_area(kernel.vmap([5]).addr).pages is None
    kernel.vfree(mapping.addr)
    assert kernel.find_vm_area(mapping.addr) is None


def test_every_area_is_followed_by_a_guard_page():
    kernel = Kernel("x86_64")
    first, second = kernel.vmap([1, 2]), kernel.vmap([3])
    assert second.addr == first.addr + 3 * 4096
    with pytest.raises(VmapError):
        kernel.vmalloc_to_pfn(first.addr + 2 * 4096)


def test_address_space_that_is_full_is_enomem_after_a_purge():
    kernel = Kernel("powerpc-8xx", record=True)
    big = kernel.get_vm_area(800 << 20)
    kernel.vunmap(kernel.vmap([1]).addr)
    with pytest.raises(VmapError, match="address space") as caught:
        kernel.get_vm_area(800 << 20)
    assert caught.value.errno == errno.ENOMEM
    assert any(event.kind == "flush_tlb_kernel_range" for event in kernel.events)
    kernel.vunmap(big.addr)
    assert kernel.get_vm_area(800 << 20).addr == big.addr


@pytest.mark.parametrize("addr", [4096, 0xFFFFC90000003000, 0xFFFFC90000000001, -4096])
def test_vunmap_where_there_is_no_area_is_einval_with_a_warning(addr):
    kernel = Kernel("x86_64")
    kernel.vmap([1, 2])
    with pytest.raises(VmapError) as caught:
        kernel.vunmap(addr)
    warned = 2 if addr % 4096 else 1  # the address, and that nothing is there
    assert (caught.value.errno, len(kernel.warnings), len(kernel.areas)) == (errno.EINVAL, warned, 1)


@pytest.mark.parametrize("call", ["vunmap", "vfree", "iounmap", "vmalloc_to_pfn"])
@pytest.mark.parametrize("addr", [1 << 64, 1 << 70, -(1 << 63) - 1])
def test_what_has_more_than_64_bits_is_no_address(call, addr):
    with pytest.raises(InputError, match="is no address"):
        getattr(Kernel("x86_64"), call)(addr)


@pytest.mark.parametrize("addr", [0, 4096, 0xFFFFC90000002000, -4096])
def test_vmalloc_to_pfn_where_nothing_is_mapped_is_einval(addr):
    kernel = Kernel("x86_64")
    kernel.vmap([1, 2])
    with pytest.raises(VmapError, match="nothing is mapped") as caught:
        kernel.vmalloc_to_pfn(addr)
    assert caught.value.errno == errno.EINVAL


def test_vunmap_of_0_does_nothing_and_of_a_page_in_the_middle_unmaps_the_area():
    kernel = Kernel("x86_64")
    mapping = kernel.vmap([1, 2, 3])
    kernel.vunmap(0)
    kernel.vfree(0)
    assert len(kernel.areas) == 1
    kernel.vunmap(mapping.addr + 4096)
    assert (kernel.areas, kernel.warnings) == ([], [])
    assert mapping.leaves["pfn"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "pfns",
    [
        [-1],
        [True, 2.0],
        "12",
        7,
        [[]],
        [1.5],
        ["x"],
        [[1, 2], [3, 4]],
        [2**64],
        None,
        object(),
        np.array([1.0]),
        [1, None],
    ],
)
def test_what_is_no_page_array_is_refused(pfns):
    with pytest.raises(InputError):
        Kernel("x86_64").vmap(pfns)


@pytest.mark.parametrize("dtype", ["u8", "i8", "u4", ">u8"])
def test_page_arrays_of_any_integer_type_are_taken(dtype):
    mapping = Kernel("x86_64").vmap(np.array([3, 1, 2], dtype=dtype))
    assert mapping.leaves["pfn"].tolist() == [3, 1, 2]


def test_leaves_asked_for_after_vunmap_are_those_of_the_mapping():
    kernel = Kernel("x86_64")
    mapping = kernel.vmap([3, 1])
    kernel.vunmap(mapping.addr)
    kernel.vmap([7, 8])
    assert mapping.leaves["pfn"].tolist() == [3, 1]


@pytest.mark.parametrize(
    "keywords",
    [
        {"release": "v9"},
        {"boot_args": "nohugeiomp"},
        {"config": {"KASAN": True}},
        {"config": {"KMSAN": 1}},
        {"total_pages": 0},
        {"max_tables": -1},
        {"total_pages": 1.5},
        {"max_tables": "a"},
        {"config": "KMSAN=y"},
        {"boot_args": None},
    ],
)
def test_unknown_names_and_values_are_refused(keywords):
    with pytest.raises(InputError):
        Kernel("x86_64", **keywords)


def test_what_is_no_protection_value_is_refused():
    kernel = Kernel("powerpc-8xx", total_pages=np.int64(1000))
    with pytest.raises(InputError, match="no protection value"):
        kernel.vmap([1], prot=1 << 32)
    with pytest.raises(InputError, match="no protection value"):
        kernel.ioremap(0, 4096, prot=-1)
    assert kernel.areas == []


def test_a_range_beyond_this_machines_memory_is_refused():
    kernel = Kernel("x86_64-la57")
    start = kernel.arch.vmalloc_start
    with pytest.raises(InputError, match="table memory"):
        kernel.vmap_page_range(start, start + (1 << 52), 0)


def test_huge_vmap_cannot_be_switched_on_where_the_architecture_lacks_it():
    with pytest.raises(InputError, match="does not select"):
        Kernel("loongarch64", config={"HAVE_ARCH_HUGE_VMAP": True})
