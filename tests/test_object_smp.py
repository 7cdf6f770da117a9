# SPDX-License-Identifier: GPL-2.0-only
"""Machines with several CPUs: the kernel's own vmap nodes, pools and per-CPU blocks."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from effort import LONG
from object_support import needs_kernel, object_of
from vmaplab import InputError
from vmaplab.object import targets
from vmaplab.object.build import Built, build
from vmaplab.object.kernel import ObjectKernel
from vmaplab.pages.array import page_array

pytestmark = needs_kernel

ARCHES = ["arm64-4k", "x86_64", "riscv64-sv48"]
PFNS = np.arange(0x10000, 0x10008, dtype=np.uint64)


@cache
def smp_object(arch: str) -> Built:
    return build(targets.get(arch), config=targets.smp())


def machine(arch: str) -> ObjectKernel:
    return ObjectKernel(smp_object(arch), cpus=4, log_lines=1 << 18)


def vmap_on(kernel: ObjectKernel, cpu: int) -> int:
    kernel.cpu = cpu
    return kernel.vmap(PFNS).addr


@pytest.mark.parametrize("arch", ARCHES)
def test_a_pool_serves_its_cpu_only(arch):
    kernel = machine(arch)
    first = vmap_on(kernel, 2)
    kernel.vunmap(first)
    kernel.vm_unmap_aliases()
    assert first not in [vmap_on(kernel, cpu) for cpu in (0, 1, 3)]
    assert vmap_on(kernel, 2) == first


def test_a_pool_of_less_than_four_areas_decays_as_a_whole():
    """A quarter of it is none, and the kernel's loop counts down to 0 from there."""
    kernel = machine("x86_64")
    first = vmap_on(kernel, 2)
    kernel.vunmap(first)
    kernel.vm_unmap_aliases()
    kernel.vm_unmap_aliases()
    assert vmap_on(kernel, 1) == first


@pytest.mark.parametrize("arch", ARCHES)
def test_one_cpu_has_one_node_and_no_pools(arch):
    kernel = ObjectKernel(smp_object(arch))
    first = kernel.vmap(PFNS).addr
    kernel.vunmap(first)
    kernel.vm_unmap_aliases()
    second = kernel.vmap(PFNS[:4]).addr
    assert second == first  # from the tree of free areas: a pool has one size
    assert kernel.cpu == 0


@pytest.mark.parametrize("arch", ARCHES)
def test_a_purge_waits_for_its_helpers(arch):
    """Four times lazy_max_pages() at once, from four nodes: three helpers, and the one that waits for them."""
    kernel = machine(arch)
    small = {cpu: vmap_on(kernel, cpu) for cpu in (0, 1, 3)}
    for addr in small.values():
        kernel.vunmap(addr)
    kernel.cpu = 2
    lazy_max = 3 * (32 << 20 >> kernel.arch.page_shift)
    big = kernel.vmap(np.arange(4 * lazy_max, dtype=np.uint64)).addr
    cpu, work = kernel._cpu, kernel._rest.work
    cpu.call("vunmap", big)
    (drain,) = work
    assert work[drain] == 4  # WORK_CPU_UNBOUND
    ran = []
    known = kernel._rest._answers["vmaplab_take_work"]
    kernel._rest._answers["vmaplab_take_work"] = lambda argument: ran.append(work[argument(0)]) or known(argument)
    cpu.call("vmaplab_run_work", drain, work.pop(drain))
    assert ran == [0, 1, 2] and not work
    assert {on: vmap_on(kernel, on) for on in small} == small


@pytest.mark.parametrize("arch", ARCHES)
def test_each_cpu_has_its_own_block(arch):
    kernel = machine(arch)

    def map_ram(cpu: int) -> int:
        kernel.cpu = cpu
        return kernel._call("vm_map_ram", kernel._put_pages(page_array(PFNS)), len(PFNS), (1 << 64) - 1)

    size = len(PFNS) * kernel.arch.page_size
    first, second = map_ram(1), map_ram(2)
    assert first % (1 << 20) == second % (1 << 20) == 0
    assert map_ram(2) == second + size and map_ram(1) == first + size
    for addr in (first, second, first + size, second + size):
        kernel._call("vm_unmap_ram", addr, len(PFNS))
    kernel.vm_unmap_aliases()
    kernel.check_heap()


@pytest.mark.parametrize("arch", ARCHES)
def test_reset_comes_back_to_cpu_0_as_it_booted(arch):
    kernel = machine(arch)
    on_0 = kernel.vmap(PFNS).events
    kernel.reset()
    kernel.cpu = 3
    on_3 = kernel.vmap(PFNS).events
    kernel.vmalloc(1 << 20)
    kernel.reset()
    assert kernel.cpu == 0
    assert kernel.vmap(PFNS).events == on_0
    kernel.reset()
    kernel.cpu = 3
    assert kernel.vmap(PFNS).events == on_3


@pytest.mark.skipif(not LONG, reason="a build of its own: make nightly")
def test_lockdep_and_more_cpus_than_a_word_has_bits():
    built = build(targets.get("x86_64"), config=("SMP=y", "NR_CPUS=128", "PROVE_LOCKING=y"))
    kernel = ObjectKernel(built, cpus=100)
    first = vmap_on(kernel, 99)
    kernel.vunmap(first)
    kernel.vm_unmap_aliases()
    assert vmap_on(kernel, 98) != first and vmap_on(kernel, 99) == first
    assert not kernel.warnings


@pytest.mark.skipif(not LONG, reason="a build of its own: make nightly")
def test_per_cpu_data_that_nobody_defines_is_there_for_each_cpu():
    """riscv's spin_unlock() counts in it, on the CPU that runs."""
    built = build(targets.get("riscv64-sv48"), config=("SMP=y", "NR_CPUS=4"))  # with PREEMPT=y it calls a function
    kernel = ObjectKernel(built, cpus=4, log_lines=1 << 18)
    assert "__mmiowb_state" in built.zeroes
    offset = kernel._cpu.image.address("__mmiowb_state") - kernel._cpu.image.address("__per_cpu_start")
    assert 0 < offset < kernel._cpu.image.address("__per_cpu_end") - kernel._cpu.image.address("__per_cpu_start")


def test_cpus_that_are_not_there_are_named():
    with pytest.raises(InputError, match="built without CONFIG_SMP; for 2 CPUs build it with SMP=y NR_CPUS=2"):
        ObjectKernel(object_of("x86_64"), cpus=2)
    with pytest.raises(InputError, match="for at most 4 CPUs; for 5 CPUs build it with SMP=y NR_CPUS=5"):
        ObjectKernel(smp_object("x86_64"), cpus=5)
    with pytest.raises(InputError, match="at least one CPU, not 0"):
        ObjectKernel(smp_object("x86_64"), cpus=0)
    kernel = ObjectKernel(smp_object("x86_64"), cpus=2)
    for number in (-1, 2):
        with pytest.raises(InputError, match=f"no CPU {number}: this machine has 2"):
            kernel.cpu = number
    assert kernel.cpu == 0
