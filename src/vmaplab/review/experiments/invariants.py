# SPDX-License-Identifier: GPL-2.0-only
"""The experiment ``invariants``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from vmaplab.calls.flags import VM_MAP
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario
from vmaplab.errors import KernelFault, Violation, VmapError
from vmaplab.judge import FORMATS
from vmaplab.judge.invariants import as_built
from vmaplab.judge.walker import walk
from vmaplab.judge.witness import Witness
from vmaplab.mapping import LEAF_DTYPE
from vmaplab.pages.shapes import Shapes
from vmaplab.pfn import NULL_PFN
from vmaplab.review.experiments.base import (
    Experiment,
    given_table,
    map_command,
    smallest,
)
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Pfns, Subject, Table


def invariants(subject: Subject, arch: str) -> Iterator[Finding]:
    """Every array of the corpus under the eyes of the judges, with allocations failing too."""
    target = subject.arch(arch)

    def broken(pfns: Pfns) -> Broken:
        """What goes wrong with ``pfns``: as it is, twice, and with each allocation failing."""
        if (pfns >= np.uint64(target.addressable_pages)).any():
            return _must_refuse(subject, arch, pfns)
        failing = -1
        try:
            kernel = Witness(subject.boot(arch, ()), mmu=True)
            first, second = kernel.vmap(pfns), kernel.vmap(pfns)
            if first.addr < second.addr + second.size and second.addr < first.addr + first.size:
                return Broken("the same array mapped twice gives areas that overlap")
            kernel.vunmap(first.addr)
            tried = kernel.kernel.allocations
            kernel.close()
            for failing in range(tried if len(pfns) < 64 else 0):
                kernel = Witness(subject.boot(arch, ()))
                kernel.fail([failing])
                with suppress(VmapError):
                    kernel.vunmap(kernel.vmap(pfns).addr)
                kernel.close()
        except (Violation, KernelFault) as found:
            subject.restart()
            return Broken(str(found), isinstance(found, KernelFault), failing)
        except VmapError as error:
            return Broken(f"vmap() refuses: {error}")
        return Broken("")

    arrays = Shapes(target).corpus()
    arrays += [array for pages in arrays if len(pages) < 64 for array in _spoiled(pages, target.addressable_pages)]
    shown, told = next(((pfns, told) for pfns in arrays if (told := broken(pfns)).text), (None, Broken("")))
    if shown is None:
        return
    pfns = shown
    if not told.fault:  # a fault of the kernel's code can take seconds to show
        pfns = smallest(shown, lambda smaller: broken(smaller).text != "")
        told = broken(pfns)
    ours = _as_built(subject, arch, pfns)
    finder = FORMATS[arch].cpu if told.text.startswith("the MMU: ") else "the invariants"
    cost = "found when the kernel's code ran" if told.fault else f"found by {finder}"
    command = (*map_command(subject, arch, pfns), "--verify")
    if told.failing >= 0:
        cost = f"when allocation {told.failing} (from 0) fails; the tables show what is built when none fails"
        words = [word for word in subject.command if word != "--object"]
        steps = (Operation("fail", pages=told.failing, pfn=-1), Operation("vmap", pfns=pfns, flags=VM_MAP))
        scenario = str(Scenario(steps, subject.boot_args))
        command = ("check", "--faults", "--arch", arch, *words, "--scenario", scenario)
    yield Finding(
        "invariants",
        "broken",
        told.text,
        arch,
        pfns,
        ours,
        given_table(target, pfns, ours.addr),
        subject.name,
        "the pages that it was given",
        cost,
        (command,),
    )


def _as_built(subject: Subject, arch: str, pfns: Pfns) -> Table:
    """What the tables hold after ``vmap(pfns)``, in the area and a little around it, as the walker lists it."""
    target = subject.arch(arch)
    try:
        kernel = subject.boot(arch, ())
        addr = kernel.vmap(pfns).addr
        found = walk(kernel.live_tables(), target.table_base, kernel.table_root, FORMATS[arch]).entries
    except (VmapError, KernelFault):
        subject.restart()
        return Table(target.vmalloc_start, np.zeros(0, dtype=LEAF_DTYPE))
    around, page = np.uint64(64 * target.page_size), np.uint64(target.page_size)
    end = np.uint64(addr) + np.uint64(len(pfns)) * page
    near = found[(found["va"] + around >= np.uint64(addr)) & (found["va"] < end + around)]
    return Table(addr, as_built(near, target.page_size))


class Broken(NamedTuple):
    """What went wrong, if anything: in words; whether the kernel's code itself did; which allocation failed, or -1."""

    text: str
    fault: bool = False
    failing: int = -1


def _spoiled(pfns: Pfns, limit: int) -> Iterator[Pfns]:
    """``pfns`` with a NULL page, and with one that is not valid: first, in the middle, last."""
    for wrong in (NULL_PFN, limit):
        for place in sorted({0, len(pfns) // 2, len(pfns) - 1}):
            array = pfns.copy()
            array[place] = wrong
            yield array


def _must_refuse(subject: Subject, arch: str, pfns: Pfns) -> Broken:
    """An array that no kernel maps: it has to be refused, and to leave nothing."""
    try:
        kernel = Witness(subject.boot(arch, ()))
        with suppress(VmapError):
            kernel.vmap(pfns)
        kernel.close()
    except (Violation, KernelFault) as found:
        subject.restart()
        return Broken(str(found), isinstance(found, KernelFault))
    return Broken("")


EXPERIMENT = Experiment(
    1,
    "invariants",
    (
        "is every mapping right, and does every failure leave nothing behind? (tried: runs of each leaf's size, "
        "aligned or not, alone and mixed, twice at a time; NULL and invalid pages; each allocation failing)"
    ),
    invariants,
)
