# SPDX-License-Identifier: GPL-2.0-only
"""Any sequence of calls, with allocations that fail: a Hypothesis state machine, every call watched by the judges.

``VMAPLAB_STEPS`` sets how many calls are made in all (default 8,000; ``make nightly``: 200,000).
"""

from __future__ import annotations

import os
from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from facts import ARCHES
from vmaplab import Kernel, VmapError, release
from vmaplab.calls.flags import VM_ALLOW_HUGE_VMAP, VM_SPARSE
from vmaplab.judge.witness import Witness

pytestmark = pytest.mark.slow

STEPS = int(os.environ.get("VMAPLAB_STEPS", "8000"))
PER_MACHINE = 50
LIVE = 4
"""Areas in use at most: each is looked at after each call."""
PARTS = 8
"""Test functions, so that several CPUs share them."""

arrays = st.lists(
    st.tuples(
        st.integers(0, 1 << 14),
        st.integers(0, 9),
        st.integers(0, 3),
        st.sampled_from([1, 2, 3, 16, 17, 48] * 4 + [512]),
    ),
    min_size=1,
    max_size=4,
)
"""Runs: (number, log2 of their alignment, pages behind that, pages)."""


failures = st.one_of(st.just(set()), st.sets(st.integers(0, 8), max_size=2))
"""Which allocations of a call fail, counted from 0."""


class Calls(RuleBasedStateMachine):
    """One kernel: any architecture, release and configuration, and the calls that it gets."""

    count: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.kernel: Witness
        self.frames: int
        self.held: list[tuple[str, tuple[int, ...]]] = []
        """The call that ends each area in use, and what it takes."""
        self.sparse: list[tuple[int, int]] = []

    @initialize(
        arch=st.sampled_from(sorted(ARCHES)),
        name=st.sampled_from(sorted(release.RELEASES)),
        boot=st.sampled_from(["", "nohugeiomap", "nohugevmalloc"]),
        kmsan=st.booleans(),
        cpus=st.sampled_from([1, 1, 2, 5]),
    )
    def boot(self, arch, name, boot, kmsan, cpus) -> None:
        self.frames = min(1 << 18, ARCHES[arch].addressable_pages >> 2)  # KMSAN's metadata lies in the rest
        more = {"config": {"KMSAN": kmsan}, "total_pages": self.frames, "cpus": cpus, "debug": cpus > 1}
        self.kernel = Witness(Kernel(arch, name, boot, record=True, **more), mmu=True, every=16)

    def call(self, failing, name, *arguments):
        """What the call returns, or None where it fails."""
        self.kernel.fail(failing)
        self.count[name] += 1
        try:
            return getattr(self.kernel, name)(*arguments)
        except VmapError:
            self.count[f"{name} fails"] += 1
        return None

    def maps(self, ends, failing, name, *arguments):
        mapping = self.call(failing, name, *arguments)
        if mapping:
            pages = (len(arguments[0]),) if name == "vm_map_ram" else ()
            self.held.append((ends, (mapping.addr, *pages)))

    def pfns(self, parts) -> list[int]:
        return [
            ((number << align) + behind + page) % self.frames
            for number, align, behind, pages in parts
            for page in range(pages)
        ]

    @classmethod
    def calls(cls) -> int:
        return sum(number for name, number in cls.count.items() if "fails" not in name)

    @precondition(lambda self: len(self.held) < LIVE)
    @rule(parts=arrays, failing=failures)
    def vmap(self, parts, failing) -> None:
        self.maps("vunmap", failing, "vmap", self.pfns(parts))

    @precondition(lambda self: len(self.held) < LIVE)
    @rule(parts=arrays, failing=failures)
    def vm_map_ram(self, parts, failing) -> None:
        self.maps("vm_unmap_ram", failing, "vm_map_ram", self.pfns(parts))

    @precondition(lambda self: len(self.held) < LIVE)
    @rule(first=st.integers(-3, 1 << 12), pages=st.integers(1, 12), failing=failures)
    def vmap_pfn(self, first, pages, failing) -> None:
        self.maps("vunmap", failing, "vmap_pfn", range(self.frames + first, self.frames + first + pages))

    @precondition(lambda self: len(self.held) < LIVE)
    @rule(pages=st.sampled_from([1, 2, 7, 16, 33, 100] * 6 + [511, 512, 600]), huge=st.booleans(), failing=failures)
    def vmalloc(self, pages, huge, failing) -> None:
        size = pages * self.kernel.arch.page_size
        self.maps("vfree", failing, "vmalloc", size, VM_ALLOW_HUGE_VMAP if huge else 0)

    @precondition(lambda self: len(self.held) < LIVE)
    @rule(
        number=st.integers(0, 4000),
        align=st.integers(0, 12),
        pages=st.sampled_from([1, 3, 16, 40] * 6 + [512, 700, 1024]),
        failing=failures,
    )
    def ioremap(self, number, align, pages, failing) -> None:
        page = self.kernel.arch.page_size
        self.maps("iounmap", failing, "ioremap", (number << align) % self.frames * page, pages * page)

    @precondition(lambda self: len(self.held) < LIVE)
    @rule(pages=st.integers(1, 200), failing=failures)
    def area(self, pages, failing) -> None:
        area = self.call(failing, "get_vm_area", pages * self.kernel.arch.page_size, VM_SPARSE)
        if area:
            self.held.append(("vunmap", (area.addr,)))
            self.sparse.append((area.addr, pages))

    @precondition(lambda self: self.sparse)
    @rule(parts=arrays, which=st.integers(0, LIVE), behind=st.integers(0, 201), failing=failures)
    def vm_area_map_pages(self, parts, which, behind, failing) -> None:
        """Also over what is mapped, and beyond the end, which is refused."""
        addr, pages = self.sparse[which % len(self.sparse)]
        behind %= pages + 1
        pfns = self.pfns(parts)[: max(pages - behind, 1)]
        self.call(failing, "vm_area_map_pages", addr, addr + behind * self.kernel.arch.page_size, pfns)

    @precondition(lambda self: self.sparse)
    @rule(which=st.integers(0, LIVE), behind=st.integers(0, 201), pages=st.integers(1, 64))
    def vm_area_unmap_pages(self, which, behind, pages) -> None:
        addr, whole = self.sparse[which % len(self.sparse)]
        page = self.kernel.arch.page_size
        start = addr + behind % whole * page
        self.call(set(), "vm_area_unmap_pages", addr, start, start + pages * page)

    @precondition(lambda self: self.kernel.cpus > 1)
    @rule(number=st.integers(0, 4))
    def another_cpu(self, number) -> None:
        self.kernel.cpu = number % self.kernel.cpus

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 1 << 16), purge=st.booleans())
    def unmap(self, which, purge) -> None:
        call, arguments = self.held.pop(which % len(self.held))
        self.sparse = [area for area in self.sparse if area[0] != arguments[0]]
        self.count[call] += 1
        getattr(self.kernel, call)(*arguments)
        if purge:
            self.kernel.vm_unmap_aliases()

    def teardown(self) -> None:
        if hasattr(self, "kernel"):
            self.kernel.close()
            assert not self.kernel.blind, "not all calls were judged"


@pytest.mark.parametrize("part", range(PARTS))
def test_no_sequence_of_calls_breaks_an_invariant(part):
    class Part(Calls):
        count: ClassVar[Counter[str]] = Counter()

    Part.TestCase.settings = settings(
        max_examples=max(1, STEPS // PARTS // PER_MACHINE // 2),
        stateful_step_count=PER_MACHINE,
        deadline=None,
        derandomize=False,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    while Part.calls() < STEPS // PARTS:
        run_state_machine_as_test(Part, settings=Part.TestCase.settings)
    print(f"{Part.calls()} calls: {dict(Part.count)}")
