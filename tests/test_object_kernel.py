# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own code answers as the model's Kernel does: the same calls, the same Mapping."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from object_support import EXAMPLE, needs_kernel, object_of
from vmaplab import NULL_PFN, InputError, Kernel, VmapError
from vmaplab.calls.flags import VM_ALLOW_HUGE_VMAP
from vmaplab.check.differential import compare
from vmaplab.check.plan import Plan
from vmaplab.object import arm64, emulator, riscv, x86
from vmaplab.object.bind import OWN
from vmaplab.object.emulator import Emulator
from vmaplab.object.kernel import ObjectKernel
from vmaplab.object.targets import TARGETS
from vmaplab.release import RELEASES

pytestmark = needs_kernel

K = 1 << 10
PFNS = np.arange(0x10000, 0x10100, dtype=np.uint64)


@pytest.mark.parametrize("arch", TARGETS)
def test_the_build_has_the_addresses_and_protections_of_the_model(arch):
    kernel = ObjectKernel(object_of(arch))
    model = kernel.arch
    assert kernel.values["page_kernel"] == model.page_kernel
    assert kernel.values["ioremap_prot"] == model.ioremap_prot
    assert kernel.values["vmalloc_start"] == model.vmalloc_start
    assert kernel.values["vmalloc_end"] == model.vmalloc_end
    assert kernel.values["section_pages"] << model.page_shift == 1 << model.section_shift
    assert 1 << (kernel.values["phys_bits"] - model.page_shift) == model.addressable_pages


@pytest.mark.parametrize("arch", TARGETS)
def test_a_mapping_has_the_models_leaves_counters_and_events(arch):
    kernel, model = ObjectKernel(object_of(arch), count=True), Kernel(arch, "linux-6.12", record=True)
    ours, theirs = kernel.vmap(PFNS), model.vmap(PFNS)
    assert (ours.addr, ours.size, ours.leaves.tolist()) == (theirs.addr, theirs.size, theirs.leaves.tolist())
    assert [event for event in ours.events if event.kind != "arch_sync_kernel_mappings"] == theirs.events
    for name in ("pages", "leaves", "tlb_entries", "entries_stored", "tables_allocated"):
        assert ours.cost[name] == theirs.cost[name]
    assert ours.cost.instructions > 10 * len(PFNS)
    assert ours.cost.loads > len(PFNS) and ours.cost.stores >= len(PFNS)
    assert kernel.vmalloc_to_pfn(ours.addr + 5 * kernel.arch.page_size) == 0x10005
    assert np.array_equal(kernel.live_tables()[: len(model.live_tables())], model.live_tables())
    kernel.vunmap(ours.addr)
    assert ours.leaves.tolist() == theirs.leaves.tolist()
    with pytest.raises(VmapError):
        kernel.vmalloc_to_pfn(ours.addr)


def test_barriers_are_counted_where_the_architecture_has_them():
    """arm64 orders each entry with dsb and isb; x86_64 needs nothing."""
    assert ObjectKernel(object_of("arm64-4k"), count=True).vmap(PFNS).cost.barriers >= 2 * len(PFNS)
    assert ObjectKernel(object_of("x86_64"), count=True).vmap(PFNS).cost.barriers == 0


@pytest.mark.parametrize("arch", ["arm64-4k", "x86_64", "riscv64-sv48"])
def test_every_instruction_is_counted_once(arch, monkeypatch):
    """Also in code that ran during boot, ours aside; the reference steps through each instruction."""
    counted = ObjectKernel(object_of(arch), count=True).vmap(PFNS[:8]).cost
    steps: list[int] = []

    def step_through(cpu: Emulator) -> None:
        start, end = cpu.image.text
        cpu._on_code(start, end - 1, steps.append)

    monkeypatch.setattr(Emulator, "count_instructions", step_through)
    kernel = ObjectKernel(object_of(arch), count=True)
    steps.clear()
    kernel.vmap(PFNS[:8])
    first, last = map(kernel._cpu.image.address, OWN)
    assert counted.instructions == sum(not first <= address < last for address in steps)


@pytest.mark.parametrize(
    "family, code, counts",
    [
        (arm64.FAMILY, "ldp x0, x1, [x2]", (1, 0, 0)),
        (arm64.FAMILY, "stp x0, x1, [x2]", (0, 1, 0)),
        (arm64.FAMILY, "ldumin x0, x1, [x2]", (1, 1, 0)),
        (arm64.FAMILY, "stadd x0, [x2]", (1, 1, 0)),
        (arm64.FAMILY, "dsb ishst", (0, 0, 1)),
        (arm64.FAMILY, "add x0, x1, x2", (0, 0, 0)),
        (x86.FAMILY, "mov rax, qword ptr [rdi]", (1, 0, 0)),
        (x86.FAMILY, "mov qword ptr [rdi], rax", (0, 1, 0)),
        (x86.FAMILY, "add qword ptr [rdi], rax", (1, 1, 0)),
        (x86.FAMILY, "cmp qword ptr [rdi], rax", (1, 0, 0)),
        (x86.FAMILY, "lock cmpxchg qword ptr [rdi], rax", (1, 1, 0)),
        (x86.FAMILY, "lock bts qword ptr [rdi], rax", (1, 1, 0)),
        (x86.FAMILY, "div qword ptr [rdi]", (1, 0, 0)),
        (x86.FAMILY, "xchg rax, qword ptr [rdi]", (1, 1, 0)),
        (x86.FAMILY, "push rbx", (0, 1, 0)),
        (x86.FAMILY, "lea rax, [rdi + 8]", (0, 0, 0)),
        (x86.FAMILY, "mfence ", (0, 0, 1)),
        (riscv.FAMILY, "c.ld a0, 0(a1)", (1, 0, 0)),
        (riscv.FAMILY, "sd a0, 0(a1)", (0, 1, 0)),
        (riscv.FAMILY, "amomaxu.d a0, a1, (a2)", (1, 1, 0)),
        (riscv.FAMILY, "sfence.vma zero, zero", (0, 0, 1)),
    ],
)
def test_loads_stores_and_barriers_are_told_apart(family, code, counts):
    mnemonic, _, operands = code.partition(" ")
    if mnemonic == "lock":
        mnemonic, _, operands = operands.partition(" ")
        mnemonic = f"lock {mnemonic}"
    assert tuple(map(int, family.classify(mnemonic, operands))) == counts


def test_batching_executes_fewer_instructions():
    plain = ObjectKernel(object_of("arm64-4k"), count=True).vmap(PFNS)
    batched = ObjectKernel(object_of("arm64-4k", EXAMPLE, "batched_vmap"), count=True).vmap(PFNS)
    assert batched.cost.tlb_entries * 16 == plain.cost.tlb_entries
    assert batched.cost.instructions < plain.cost.instructions * 0.6


@pytest.mark.parametrize("arch", TARGETS)
def test_huge_vmalloc_and_ioremap_make_block_leaves(arch):
    kernel = ObjectKernel(object_of(arch))
    size = 1 << kernel.arch.levels[1].shift
    assert kernel.vmalloc(size, VM_ALLOW_HUGE_VMAP).leaves["size"].tolist() == [size]
    assert kernel.ioremap(4 * size, size).leaves["size"].tolist() == [size]
    kernel = ObjectKernel(object_of(arch), "nohugeiomap")
    assert kernel.ioremap(4 * size, size).leaves["size"].max() == kernel.arch.page_size
    kernel = ObjectKernel(object_of(arch), ["nohugevmalloc"])
    assert kernel.vmalloc(size, VM_ALLOW_HUGE_VMAP).leaves["size"].max() == kernel.arch.page_size


def test_a_large_vmalloc_keeps_its_page_array_in_vmalloc_space():
    """The kernel's code reads and writes it there, through the tables it made."""
    kernel = ObjectKernel(object_of("x86_64"))
    made = kernel.vmalloc(4 << 20)
    assert made.cost.pages == 1024 and len(np.unique(made.leaves["pfn"])) == 1024
    before = kernel.live_objects
    kernel.vfree(made.addr)
    assert kernel.live_objects < before


@pytest.mark.parametrize("arch", TARGETS)
def test_a_warning_has_file_line_function_and_condition(arch):
    kernel = ObjectKernel(object_of(arch), total_pages=1 << 18)
    for pfns in ([1, NULL_PFN], [1, 1 << 30]):
        with pytest.raises(VmapError):
            kernel.vmap(pfns)
    null, invalid = kernel.warnings
    assert null.startswith("mm/vmalloc.c:") and "vmap_pages_pte_range: if (WARN_ON(!page))" in null
    assert "if (WARN_ON(!pfn_valid(page_to_pfn(page))))" in invalid
    kernel.vunmap(kernel.values["vmalloc_start"] + (1 << 30))
    assert "Trying to vunmap() nonexistent vm area (0x" in kernel.warnings[2]


def test_an_overwritten_mapping_is_a_bug_and_names_its_line():
    from vmaplab.errors import KernelFault

    kernel = ObjectKernel(object_of("arm64-4k"))
    addr = kernel.get_vm_area(64 * K).addr
    kernel.vmap_page_range(addr, addr + 64 * K, 1 << 30)
    with pytest.raises(KernelFault, match=r"BUG at mm/vmalloc.c:\d+ vmap_page_range.*BUG\(\)|BUG at mm/vmalloc.c"):
        kernel.vmap_page_range(addr, addr + 64 * K, 1 << 30)


def test_reset_comes_back_to_boot():
    kernel = ObjectKernel(object_of("riscv64-sv48"))
    first = kernel.vmap(PFNS).events
    kernel.vmalloc(1 << 20)
    kernel.reset()
    assert kernel.vmap(PFNS).events == first


def test_an_unknown_architecture_is_named():
    from vmaplab.object import targets

    with pytest.raises(InputError, match=r"runs on arm64-4k, .*, not on loongarch64"):
        targets.get("loongarch64")


@pytest.mark.slow
def test_a_long_run_does_not_grow():
    """What has run once, with all machines that it needs, runs again in the same memory."""
    plan = Plan(object_of("arm64-4k"), None, RELEASES["linux-6.12"], {}, 9)
    ours, theirs = plan.sides()
    generator = plan.generator()

    def some() -> int:
        for number in range(200):
            assert compare(generator.scenario(number), ours, theirs) == ""
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4 * K

    some()
    before = min(some(), some())  # the allocator itself takes and gives back some MiB
    assert min(some(), some()) - before < 20 << 20


@needs_kernel
def test_a_reader_sees_the_zero_page_where_it_is_mapped_and_zeroes_where_nothing_is():
    kernel = ObjectKernel(object_of("x86_64"), total_pages=1 << 18)
    zero = kernel._pfn_of(kernel.values["zero_page"])
    addr = kernel.vm_map_ram([zero, 5]).addr
    page = kernel.arch.page_size
    assert [tuple(part) for part in kernel.vread(addr, 3 * page)] == [
        (0, page, zero * page),
        (page, page, 5 * page),
        (2 * page, page, -1),
    ]


def test_the_kernels_code_runs_where_nothing_else_is_compiled():
    """NUMBA_DISABLE_JIT=1, as `make coverage` sets it: what the emulator calls is machine code all the same."""
    script = "from vmaplab.object import build, targets; from vmaplab.object.kernel import ObjectKernel; "
    script += "print(ObjectKernel(build.build(targets.get('x86_64'))).vmap([1, 2]).leaves['pfn'].tolist())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
    )
    assert (done.stdout, done.stderr) == ("[1, 2]\n", "")


def test_an_interrupt_in_the_compiler_waits_until_that_is_over(monkeypatch):
    """An exception in a callback of LLVM is lost, or breaks what it compiles."""
    later = []
    timer = SimpleNamespace(start=lambda: None)
    monkeypatch.setattr(emulator.threading, "Timer", lambda *words: later.append(words) or timer)
    here = SimpleNamespace(f_code=SimpleNamespace(co_filename="/site-packages/numba/core/x.py"), f_back=None)
    inside = SimpleNamespace(f_code=SimpleNamespace(co_filename="/site-packages/llvmlite/binding/x.py"), f_back=here)
    with pytest.raises(KeyboardInterrupt):
        emulator._on_sigint(2, here)
    emulator._on_sigint(2, SimpleNamespace(f_code=here.f_code, f_back=inside))
    assert [words[2] for words in later] == [[2]]
