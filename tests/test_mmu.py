# SPDX-License-Identifier: GPL-2.0-only
"""The emulated MMUs and the independent walker: they agree with each other, and notice every kind of wrong entry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrays import page_arrays
from facts import ARCHES
from vmaplab import Kernel, VmapError, release
from vmaplab.errors import Violation
from vmaplab.judge import FORMATS, invariants
from vmaplab.judge.format import EXEC, USER, WRITE
from vmaplab.judge.mmu import FETCH, READ, Mmu
from vmaplab.judge.mmu import WRITE as STORE
from vmaplab.judge.proof import Prover
from vmaplab.judge.walker import walk

EMULATED = [name for name, form in FORMATS.items() if form.machine]


def look(kernel: Kernel):
    return walk(kernel.live_tables(), kernel.arch.table_base, kernel.table_root, FORMATS[kernel.arch.name])


def machine(kernel: Kernel) -> Mmu:
    made = Mmu(FORMATS[kernel.arch.name], kernel.arch.table_base, kernel.table_root)
    made.load(kernel.live_tables())
    return made


def pages(addr: int, count: int, size: int):
    return np.uint64(addr) + np.arange(count, dtype=np.uint64) * np.uint64(size)


def test_every_architecture_has_a_format():
    assert FORMATS.keys() == ARCHES.keys()
    assert {name for name in ARCHES if name.startswith(("arm64", "x86", "riscv", "powerpc64"))} == set(EMULATED)


@given(st.sampled_from(EMULATED), st.sampled_from(sorted(release.RELEASES)), page_arrays(max_pages=300))
def test_walker_and_mmu_see_the_same(arch, name, pfns):
    kernel = Kernel(arch, name)
    mapping = kernel.vmap(pfns)
    size = kernel.arch.page_size
    va, phys = invariants.spread(look(kernel).entries, np.uint64(size))
    assert va.tolist() == pages(mapping.addr, len(pfns), size).tolist()
    for access in (READ, STORE):
        to, taken = machine(kernel).translate(va, access)
        assert taken.all() and np.array_equal(to, phys)
    assert not machine(kernel).translate(va, FETCH)[1].any()


@pytest.mark.parametrize("arch", EMULATED)
def test_the_mmu_reaches_every_part_of_its_physical_addresses(arch):
    kernel = Kernel(arch)
    bits = min(FORMATS[arch].machine_bits - kernel.arch.page_shift, kernel.arch.addressable_pages.bit_length() - 1)
    pfns = [*(1 << bit for bit in range(bits)), (1 << bits) - 1]
    mapping = kernel.vmap(pfns)
    to, taken = machine(kernel).translate(pages(mapping.addr, len(pfns), kernel.arch.page_size), READ)
    assert taken.all() and (to >> np.uint64(kernel.arch.page_shift)).tolist() == pfns


def test_frames_beyond_the_emulated_cpu_are_counted_not_claimed():
    kernel = Kernel("x86_64")
    mapping = kernel.vmap([1, (1 << 28) - 1, 1 << 28, 1 << 33])
    prover = Prover(FORMATS["x86_64"], kernel.arch.table_base, kernel.table_root)
    prover.load(kernel.live_tables())
    va = pages(mapping.addr, 4, 4096)
    assert prover.check(va, np.array([1, (1 << 28) - 1, 1 << 28, 1 << 33], dtype=np.uint64) << np.uint64(12), 4096) == 2
    assert prover.beyond == 2


@pytest.mark.parametrize("arch", EMULATED)
@pytest.mark.parametrize("bit", range(64))
def test_an_mmu_and_the_walker_judge_a_flipped_bit_alike(arch, bit):
    """One bit of one leaf entry flipped: what the walker takes, the MMU takes, and to the same frame."""
    kernel = Kernel(arch)
    addr = kernel.vmap([0x12345]).addr
    memory = kernel._mapper.memory._words
    at = int(np.flatnonzero(memory)[-1])
    memory[at] ^= np.int64(-(1 << 63) if bit == 63 else 1 << bit)
    form, found = FORMATS[arch], look(kernel)
    va = pages(addr, 1, kernel.arch.page_size)
    if len(found.entries) and int(found.entries["phys"][0]) >> form.machine_bits:
        return  # beyond what the emulated CPU can address
    read = machine(kernel).translate(va, READ)
    if found.complaints or not len(found.entries):
        strict = _MORE_THAN_THE_EMULATOR.get(form.manual.split()[0], ())
        assert not read[1][0] or bit in strict
        return
    entry = found.entries[0]
    if entry["rights"] & USER and arch.startswith("riscv"):
        assert not read[1][0]  # the kernel must not touch a user page while sstatus.SUM is clear
        return
    assert read[1][0] and int(read[0][0]) == int(entry["phys"])
    assert bool(machine(kernel).translate(va, STORE)[1][0]) == bool(entry["rights"] & WRITE)
    assert bool(machine(kernel).translate(va, FETCH)[1][0]) == bool(entry["rights"] & EXEC) or entry["rights"] & USER


_MORE_THAN_THE_EMULATOR = {"RISC-V": {6, 7, *range(54, 64)}, "Power": {bit ^ 56 for bit in (7, 8, 12, 13, 14, 15)}}
"""Bits on which the walker is stricter: Unicorn's RISC-V sets A and D by itself and does not look at bits 63 to 54. Its
POWER10 sets R and C (8 and 7; ``^ 56``: of a big-endian entry) and does not look at 15 to 12, below a page's frame."""


def test_an_incomplete_group_is_built_entry_by_entry():
    kernel = Kernel("arm64-4k")
    kernel.vmap(range(0x1000, 0x1020))
    entries = walk(kernel.live_tables(), kernel.arch.table_base, kernel.table_root, FORMATS["arm64-4k"]).entries
    assert (
        invariants.as_built(entries, 4096)["size"].tolist()
        == invariants.leaves(entries, 4096)["size"].tolist()
        == [65536] * 2
    )
    assert invariants.as_built(entries[1:], 4096)["size"].tolist() == [4096] * 15 + [65536]
    assert not len(invariants.as_built(entries[:0], 4096))


class TestTheWalker:
    def test_a_table_that_two_entries_lead_to_is_a_complaint(self):
        kernel = Kernel("x86_64")
        kernel.vmap([1, 2])
        memory = kernel._mapper.memory._words
        at = int(np.flatnonzero(memory)[0])
        memory[at + 1] = memory[at]
        assert "is reached twice" in look(kernel).complaints[0]

    def test_a_table_outside_the_table_memory_is_a_complaint(self):
        kernel = Kernel("arm64-4k")
        kernel.vmap([1, 2])
        memory = kernel._mapper.memory._words
        memory[int(np.flatnonzero(memory)[0])] += 1 << 30
        assert "no table is there" in look(kernel).complaints[0]

    def test_rights_of_upper_entries_count(self):
        kernel = Kernel("x86_64")
        kernel.vmap([1, 2])
        memory = kernel._mapper.memory._words
        memory[int(np.flatnonzero(memory)[0])] &= ~2  # the PGD entry takes the right to write
        assert not (look(kernel).entries["rights"] & WRITE).any()

    @pytest.mark.parametrize("arch", ARCHES)
    def test_nothing_is_mapped_in_a_fresh_kernel(self, arch):
        found = look(Kernel(arch))
        assert not len(found.entries) and not found.complaints and not found.tables


@pytest.mark.parametrize("arch", EMULATED)
def test_a_failed_mapping_leaves_faults(arch):
    kernel = Kernel(arch, max_tables=len(ARCHES[arch].levels) - 1)
    start = kernel.vmap([5]).addr
    many = 2 << ARCHES[arch].levels[0].bits
    with pytest.raises(VmapError):
        kernel.vmap(range(3, 3 + 2 * many, 2))
    va = pages(start + 2 * kernel.arch.page_size, many, kernel.arch.page_size)
    assert not machine(kernel).translate(va, READ)[1].any()


def test_the_prover_names_the_first_wrong_page():
    kernel = Kernel("riscv64-sv48")
    mapping = kernel.vmap([7, 9, 11])
    prover = Prover(FORMATS["riscv64-sv48"], kernel.arch.table_base, kernel.table_root)
    prover.load(kernel.live_tables())
    wrong = np.array([7, 8, 11], dtype=np.uint64) << np.uint64(12)
    with pytest.raises(Violation, match=f"{mapping.addr + 4096:#x} goes to PFN 0x9 instead of 0x8"):
        prover.check(pages(mapping.addr, 3, 4096), wrong, 4096)
    with pytest.raises(Violation, match="is mapped: nothing should be mapped there"):
        prover.check(pages(mapping.addr, 2, 4096), np.array([7, 9], dtype=np.uint64) << np.uint64(12), 4096)
