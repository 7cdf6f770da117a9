# SPDX-License-Identifier: GPL-2.0-only
"""Several CPUs of a booted kernel that map and unmap at the same time; what is mapped then is what has to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.boot.build import Bootable
from vmaplab.boot.machine import BootedKernel, Step
from vmaplab.calls.flags import VM_MAP
from vmaplab.errors import KernelFault, Violation
from vmaplab.judge import FORMATS, invariants
from vmaplab.judge.format import U64

EACH = 100
"""Calls of a program."""
_MOST_PAGES = 48
_LIVE = 12
"""So many mappings of a CPU are alive at most."""
_BLOCK = 128
"""Pages of a vmap block at least (VMAP_BBMAP_BITS_MIN); one can stay when all of it is given back."""
_BY_VMALLOC = 1 << 8
"""How vmaplab_vmalloc() is told that vmalloc() is meant."""


class Live(NamedTuple):
    """What a call has mapped and none has ended.

    :param pfns: that must be there; None where the kernel took pages of its own.
    :param guard: pages behind it that its area has, too.
    """

    addr: int
    pages: int
    pfns: U64 | None
    guard: int
    cpu: int
    step: int


@dataclass
class Together:
    """What came of it.

    :param rounds: that were run; ``calls``: in them; ``pages``: that were mapped at their ends.
    :param difference: what is wrong, "" if nothing; ``round``: in which.
    """

    kernel: Bootable
    cpus: int
    rounds: int = 0
    calls: int = 0
    pages: int = 0
    difference: str = ""
    round: int = 0


def program(rng: np.random.Generator, frames: int) -> list[Step]:
    """Calls of one CPU: vmap(), vmalloc(), vm_map_ram(), what ends each, and vm_unmap_aliases().

    :param frames: page frames that there are.
    """
    steps: list[Step] = []
    live: list[tuple[int, int]] = []  # number of the call, pages of vm_map_ram() or 0, -1 of vmalloc()
    while len(steps) < EACH:
        kind = int(rng.integers(0, 10))
        if kind == 9:
            steps.append(Step("vm_unmap_aliases"))
        elif live and (kind >= 5 or len(live) == _LIVE):
            ref, pages = live.pop(int(rng.integers(0, len(live))))
            if pages > 0:
                steps.append(Step("vm_unmap_ram", (0, pages), ref=ref))
            else:
                steps.append(Step("vfree" if pages else "vunmap", (0,), ref=ref))
        else:
            pages = int(rng.integers(1, _MOST_PAGES + 1))
            if kind == 3:
                live.append((len(steps), -1))
                steps.append(Step("vmaplab_vmalloc", (pages, 1, 0, 0, _BY_VMALLOC, 0)))
                continue
            run = int(rng.choice([1, 4, 16]))
            starts = run * rng.integers(0, frames // run - 1, -(-pages // run))
            pfns = np.add.outer(starts, np.arange(run)).ravel()[:pages].astype(np.uint64)
            live.append((len(steps), pages if kind == 4 else 0))
            of_ram = Step("vm_map_ram", (0, pages, (1 << 32) - 1), pfns)
            steps.append(of_ram if kind == 4 else Step("vmap", (0, pages, VM_MAP), pfns))
    return steps


def check_together(
    kernel: Bootable, cpus: int, rounds: int, seed: int = 1, told: Callable[[], None] = lambda: None
) -> Together:
    """Run programs on all CPUs at once, round after round; stops at the first that is wrong.

    After each, all CPUs being idle: no call failed; each address that is alive maps its frames, and nothing else is
    mapped; the areas are those of what is alive; no page of vmalloc() is there twice; the kernel has reported nothing;
    and when all is ended, nothing is left.

    :param kernel: with CONFIG_SMP; ``cpus``: 2 or more.
    :param told: called for each round.
    """
    found = Together(kernel, cpus)
    booted = BootedKernel(kernel, cpus=cpus)
    try:
        for number in range(rounds):
            rng = np.random.Generator(np.random.PCG64([seed, number]))
            programs = [_of(booted, program(rng, (booted.total_pages or 0) - 1)) for _ in range(cpus)]
            found.round = number
            try:
                live, found.difference = _round(booted, programs)
            except (KernelFault, Violation) as fell:
                live, found.difference = [], str(fell)
            found.rounds += 1
            found.calls += cpus * EACH
            found.pages += sum(one.pages for one in live)
            told()
            if found.difference:
                break
    finally:
        booted.close()
    return found


def _of(booted: BootedKernel, steps: list[Step]) -> list[Step]:
    """The steps with what this kernel has for their arguments."""
    page, prot = booted.arch.page_size, booted.values["page_kernel"]
    named = []
    for step in steps:
        if step.function == "vmap":
            named.append(step._replace(arguments=(*step.arguments, prot)))
        elif step.function == "vmaplab_vmalloc":
            named.append(step._replace(arguments=(step.arguments[0] * page, *step.arguments[1:])))
        else:
            named.append(step)
    return named


def _round(booted: BootedKernel, programs: list[list[Step]]) -> tuple[list[Live], str]:
    """What is alive after the programs, and what is wrong."""
    page, results = booted.arch.page_size, booted.together(programs)
    live: list[Live] = []
    for cpu, (steps, came) in enumerate(zip(programs, results, strict=True)):
        ended = {step.ref for step in steps if step.ref >= 0}
        for number, (step, addr) in enumerate(zip(steps, came, strict=True)):
            if step.ref >= 0 or step.function == "vm_unmap_aliases":
                continue
            if not addr:
                return [], f"{step.function}(), call {number} of CPU {cpu}, returned NULL"
            if number not in ended:
                pages = len(step.pfns) if step.pfns is not None else step.arguments[0] // page
                live.append(Live(addr, pages, step.pfns, int(step.function != "vm_map_ram"), cpu, number))
    live.sort(key=lambda one: one.addr)
    wrong = _judged(booted, live) or booted.complaint()
    if wrong:
        return live, wrong
    for one in live:
        step = programs[one.cpu][one.step]
        end = {"vmap": "vunmap", "vmaplab_vmalloc": "vfree"}.get(step.function, "vm_unmap_ram")
        booted.end(end, one.addr, *[one.pages] * (end == "vm_unmap_ram"))
    if left := booted.left():
        return live, f"when all is ended, {left}"
    return live, booted.complaint()


def _judged(booted: BootedKernel, live: list[Live]) -> str:
    """What is wrong with what is mapped, now that nothing runs."""
    page = booted.arch.page_size
    for one, other in pairwise(live):
        if other.addr < one.addr + (one.pages + one.guard) * page:
            return f"{_text(other)} lies in {_text(one)}"
    entries = booted.since(booted.reserved)
    form = FORMATS[booted.kernel.target.arch]
    invariants.alignment(entries)
    invariants.groups(entries, form)
    va, phys = invariants.spread(entries, np.uint64(page))
    frames = (phys // np.uint64(page)).astype(np.int64) - booted.first_frame
    there = dict(zip(va.tolist(), frames.tolist(), strict=True))
    own: set[int] = set()
    for one in live:
        for number in range(one.pages):
            frame = there.pop(one.addr + number * page, None)
            if frame is None:
                return f"page {number} of {_text(one)} is not mapped"
            if one.pfns is not None and frame != one.pfns[number]:
                return f"page {number} of {_text(one)} goes to frame {frame:#x} instead of {int(one.pfns[number]):#x}"
            if one.pfns is None:
                if frame in own:
                    return f"page {number} of {_text(one)} is frame {frame:#x}, which another vmalloc() has, too"
                own.add(frame)
    if there:
        addr, frame = next(iter(there.items()))
        return f"{addr:#x} is mapped to frame {frame:#x}: nothing that is alive is there"
    return _areas(booted.areas(), booted.reserved, live, page)


def _areas(areas: NDArray[np.uint64], reserved: NDArray[np.uint64], live: list[Live], page: int) -> str:
    """Whether the areas in use are those of what is alive; vm_map_ram() has parts of larger ones."""
    known = {int(start) for start, _ in reserved}
    there = {int(start): int(end) for start, end in areas.tolist() if int(start) not in known}
    for one in live:
        if one.guard and there.get(one.addr) != one.addr + (one.pages + 1) * page:
            return f"{_text(one)} has no area of its own"
    ours = {one.addr for one in live if one.guard}
    for start, end in there.items():
        inside = any(not one.guard and start <= one.addr < end for one in live)
        pages = (end - start) // page
        is_block = pages >= _BLOCK and not pages & (pages - 1)
        if start not in ours and not inside and not is_block:
            return f"the area [{start:#x}, {end:#x}) is of nothing that is alive"
    return ""


def _text(one: Live) -> str:
    return f"{one.pages} pages at {one.addr:#x} (call {one.step} of CPU {one.cpu})"
