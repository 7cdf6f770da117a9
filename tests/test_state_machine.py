"""Any sequence of calls, with allocations that fail: a Hypothesis state machine, every call watched by the judges.

``VMAPLAB_STEPS`` sets how many calls are made in all (default 200,000).
"""

from __future__ import annotations

import os
from collections import Counter
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from vmaplab import Kernel, VmapError, release
from vmaplab.arch import ARCHES
from vmaplab.check.witness import Witness
from vmaplab.vmalloc.flags import VM_ALLOW_HUGE_VMAP

pytestmark = pytest.mark.slow

STEPS = int(os.environ.get("VMAPLAB_STEPS", "200000"))
PER_MACHINE = 50
LIVE = 5
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
        self.held: list[tuple[str, int]] = []

    @initialize(
        arch=st.sampled_from(sorted(ARCHES)),
        name=st.sampled_from(sorted(release.RELEASES)),
        boot=st.sampled_from(["", "nohugeiomap", "nohugevmalloc"]),
        kmsan=st.booleans(),
    )
    def boot(self, arch, name, boot, kmsan) -> None:
        self.frames = min(1 << 18, ARCHES[arch].addressable_pages >> 2)  # KMSAN's metadata lies in the rest
        kernel = Kernel(arch, name, boot, config={"KMSAN": kmsan}, record=True, total_pages=self.frames)
        self.kernel = Witness(kernel, mmu=True)

    def call(self, failing, name, *arguments):
        self.kernel.fail(failing)
        self.count[name] += 1
        try:
            mapping = getattr(self.kernel, name)(*arguments)
        except VmapError:
            self.count[f"{name} fails"] += 1
        else:
            self.held.append((name, mapping.addr))

    @classmethod
    def calls(cls) -> int:
        return sum(number for name, number in cls.count.items() if "fails" not in name)

    @precondition(lambda self: len(self.held) < LIVE)
    @rule(parts=arrays, failing=failures)
    def vmap(self, parts, failing) -> None:
        pfns = [
            ((number << align) + behind + page) % self.frames
            for number, align, behind, pages in parts
            for page in range(pages)
        ]
        self.call(failing, "vmap", pfns)

    @precondition(lambda self: len(self.held) < LIVE)
    @rule(pages=st.sampled_from([1, 2, 7, 16, 33, 100] * 6 + [511, 512, 600]), huge=st.booleans(), failing=failures)
    def vmalloc(self, pages, huge, failing) -> None:
        size = pages * self.kernel.arch.page_size
        self.call(failing, "vmalloc", size, VM_ALLOW_HUGE_VMAP if huge else 0)

    @precondition(lambda self: len(self.held) < LIVE)
    @rule(
        number=st.integers(0, 4000),
        align=st.integers(0, 12),
        pages=st.sampled_from([1, 3, 16, 40] * 6 + [512, 700, 1024]),
        failing=failures,
    )
    def ioremap(self, number, align, pages, failing) -> None:
        page = self.kernel.arch.page_size
        self.call(failing, "ioremap", (number << align) % self.frames * page, pages * page)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 1 << 16), purge=st.booleans())
    def unmap(self, which, purge) -> None:
        name, addr = self.held.pop(which % len(self.held))
        call = {"vmap": "vunmap", "vmalloc": "vfree", "ioremap": "iounmap"}[name]
        self.count[call] += 1
        getattr(self.kernel, call)(addr)
        if purge:
            self.kernel.vm_unmap_aliases()

    def teardown(self) -> None:
        if hasattr(self, "kernel"):
            self.kernel.close()


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
