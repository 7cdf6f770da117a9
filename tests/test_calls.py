# SPDX-License-Identifier: GPL-2.0-only
"""The table of calls: what follows from an entry, and that it is the same everywhere."""

from __future__ import annotations

import random
import runpy
from pathlib import Path

import numpy as np
import pytest

from vmaplab import InputError, Kernel, VmapError
from vmaplab.calls.generator import Generator
from vmaplab.calls.scenario import Scenario, parse, text_of
from vmaplab.calls.table import STEPS, Call, Calls, perform
from vmaplab.machine import Machine

ROOT = Path(__file__).parent.parent
CALLS = [step for step in STEPS.values() if isinstance(step, Call)]
BEFORE = "pages 0x40000; vmap 0x100+64"


@pytest.mark.parametrize("step", STEPS.values(), ids=lambda step: step.word)
def test_an_example_can_be_read_and_is_written_the_same_again(step):
    steps = parse(f"{BEFORE}; {step.example}").steps
    assert len(steps) == 2
    assert text_of(steps[1]) == step.example
    assert steps[1].call == step.word


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.word)
def test_the_model_has_every_call(call):
    assert callable(getattr(Kernel, call.inner))
    scenario = parse(f"pages 0x40000; area 512 flags=0x1000; {call.example}")
    kernel = Kernel("arm64-4k", total_pages=scenario.total_pages, cpus=2)
    area = perform(kernel, scenario.steps[0], 0)
    try:
        perform(kernel, scenario.steps[1], area.addr)
    except VmapError as error:
        assert str(error)


def test_the_manual_has_the_table():
    tool = runpy.run_path(str(ROOT / "tools" / "calls.py"))
    text = (ROOT / "docs" / "calls.md").read_text()
    assert tool["table"]() in text


def test_every_call_that_takes_an_area_says_what_ends_it():
    for call in CALLS:
        ends = getattr(call.effect, "ends", None)
        assert ends is None or ends in STEPS


def test_whatever_has_a_weight_is_drawn():
    generator = Generator(Kernel("x86_64").arch, seed=3, calls=50, cpus=2)
    drawn = {step.call for number in range(40) for step in generator.scenario(number).steps}
    assert {call.word for call in CALLS if call.weight} <= drawn


def test_a_random_scenario_is_read_back_as_it_is_written():
    for arch in ("arm64-4k", "powerpc-8xx"):
        for calls in (0, 30):
            generator = Generator(Kernel(arch).arch, seed=7, calls=calls)
            for number in random.Random(1).sample(range(500), 30):
                scenario = generator.scenario(number)
                assert str(parse(str(scenario))) == str(scenario)


class Recorder(Calls):
    """A machine that does nothing but keep what came through the door."""

    def __init__(self) -> None:
        self.arch = Kernel("arm64-4k").arch
        self.seen: list[tuple[str, tuple]] = []

    def _invoke(self, call, arguments):
        self.seen.append((call.method, arguments))


Recorder.__abstractmethods__ = frozenset()  # the rest of it is not asked for


def test_all_calls_go_through_one_door_with_their_arguments_complete():
    machine = Recorder()
    machine.vmap([1, 2])
    machine.vmap(pfns=np.array([3], dtype=np.uint64), prot=7)
    machine.vzalloc(4096)
    machine.vunmap(-4096)
    (name, (pfns, flags, prot)), (_, (_, _, seven)), (vmalloc, given), (_, (addr,)) = machine.seen
    assert (name, pfns.dtype, pfns.tolist(), flags, prot) == ("vmap", np.uint64, [1, 2], 4, None)
    assert (seven, vmalloc, given, addr) == (7, "vmalloc", (4096, 0, -1, 1, None, None, 0, 0), (1 << 64) - 4096)


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("vmap", ([[1]],)),
        ("vmap", ([-1],)),
        ("vmap", ([1], 1 << 32)),
        ("vmap", ([1], 4, 1 << 64)),
        ("vmalloc", (4096, 0, 3)),
        ("vunmap_range", (4096, 4096)),
        ("vunmap_range", (0, 4097)),
        ("vmap_page_range", (0, 4096, 1)),
        ("vmap_pages_range_noflush", (0, [1, 2, 3], 13)),
        ("vm_area_map_pages", (0, 0, [])),
    ],
)
def test_bad_arguments_are_refused_before_any_machine_sees_them(call, arguments):
    machine = Recorder()
    with pytest.raises(InputError):
        getattr(machine, call)(*arguments)
    assert not machine.seen


def test_a_wrong_number_of_arguments_is_a_type_error():
    with pytest.raises(TypeError):
        Recorder().vunmap()
    with pytest.raises(TypeError):
        Recorder().vmap([1], 4, None, 9)
    with pytest.raises(TypeError):
        Recorder().vmap([1], flag=3)


def test_a_machine_without_its_rest_is_none():
    with pytest.raises(TypeError, match="abstract"):
        Machine()


def test_a_scenario_that_is_cut_says_so():
    text = Scenario(parse("vmap " + ",".join(f"{2 * n:#x}" for n in range(1, 60))).steps).short()
    assert len(text) == 60
    assert text.endswith(" ...")
