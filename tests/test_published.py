# SPDX-License-Identifier: GPL-2.0-only
"""The C that stands for 6.16 and for the series: right, and as much cheaper as the series' authors say in direction."""

from __future__ import annotations

import numpy as np
import pytest

import published
from object_support import needs_kernel, object_of
from published import BASE, INSTEAD, MIB, SERIES, WORKLOADS, order_8_blocks, shift_of
from vmaplab import NULL_PFN, InputError, Kernel, VmapError
from vmaplab.judge.witness import Witness
from vmaplab.object.kernel import ObjectKernel

pytestmark = needs_kernel
RELEASES = [BASE, SERIES]


def pair(release: str, boot_args: str = "") -> tuple[ObjectKernel, Kernel]:
    built = object_of(published.ARCH, published.SNIPPET)
    return ObjectKernel(built, boot_args, instead=INSTEAD[release]), Kernel(published.ARCH, release, boot_args)


def run(first: int, pages: int) -> np.ndarray:
    return np.arange(first, first + pages, dtype=np.uint64)


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    ("phys", "size"),
    [
        (published.DEVICE, MIB),
        (0x4000_0000, 4 * MIB),
        (0x4001_0000, MIB),
        (0x4000_1000, MIB),
        (0x4000_0000, MIB + 0x13000),
        (0x4000_0000, 0x1000),
        (0x4000_0000, 1 << 30),
    ],
)
def test_ioremap_makes_the_models_leaves(release, phys, size):
    kernel, model = pair(release)
    ours, theirs = Witness(kernel, mmu=size < 8 * MIB).ioremap(phys, size), model.ioremap(phys, size)
    assert (ours.addr, ours.leaves.tolist()) == (theirs.addr, theirs.leaves.tolist())
    assert ours.cost.entries_stored == theirs.cost.entries_stored


def test_ioremap_without_huge_mappings_makes_base_pages():
    kernel, _ = pair(SERIES, "nohugeiomap")
    assert set(kernel.ioremap(published.DEVICE, MIB).leaves["size"].tolist()) == {4096}


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("mib", [1, 3])
@pytest.mark.parametrize("shift", [12, 16])
def test_pages_in_chunks_make_the_models_leaves(release, mib, shift):
    kernel, model = pair(release)
    pfns = order_8_blocks(mib)
    witness = Witness(kernel, mmu=True)
    addr = witness.get_vm_area(mib * MIB).addr
    witness.vmap_pages_range_noflush(addr, pfns, shift)
    model.vmap_pages_range_noflush(addr, pfns, shift)
    assert kernel.leaves(addr, addr + mib * MIB).tolist() == model.leaves(addr, addr + mib * MIB).tolist()
    witness.close()


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    "pfns",
    [
        order_8_blocks(5),
        run(0x1010, 256),
        run(0x10000, 1200),
        np.concatenate([order_8_blocks(1), run(0x9000, 16), run(0xA001, 5)]),
    ],
)
def test_vmap_makes_the_models_leaves(release, pfns):
    kernel, model = pair(release)
    witness = Witness(kernel, mmu=True)
    ours, theirs = witness.vmap(pfns), model.vmap(pfns)
    assert (ours.size, ours.leaves.tolist()) == (theirs.size, theirs.leaves.tolist())
    assert ours.cost.entries_stored == theirs.cost.entries_stored
    witness.close()


@pytest.mark.parametrize("release", RELEASES)
def test_a_null_page_ends_vmap_and_leaves_nothing(release):
    kernel, _ = pair(release)
    witness = Witness(kernel)
    with pytest.raises(VmapError):
        witness.vmap(np.array([*range(0x1000, 0x1020), NULL_PFN], dtype=np.uint64))
    witness.close()


@pytest.mark.parametrize("work", WORKLOADS, ids=lambda work: work.name)
def test_every_ratio_has_the_published_direction(work):
    old, base, series = (work.cost(release) for release in ("linux-6.12", BASE, SERIES))
    assert work.published > 1
    assert base.instructions > series.instructions < old.instructions
    assert base.loads + base.stores > series.loads + series.stores
    assert base.pte_set_calls >= series.pte_set_calls
    assert base.barriers < old.barriers


def test_huge_vmalloc_of_6_12_maps_base_pages():
    assert [shift_of(release, MIB) for release in INSTEAD] == [12, 16, 16]


def test_only_some_calls_can_be_replaced():
    with pytest.raises(InputError, match="vunmap"):
        ObjectKernel(object_of(published.ARCH, published.SNIPPET), instead={"vunmap": "mine"})
