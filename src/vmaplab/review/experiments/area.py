# SPDX-License-Identifier: GPL-2.0-only
"""The experiment ``area``."""

from __future__ import annotations

from collections.abc import Iterator

from vmaplab.check.optimum import best_address, optimum
from vmaplab.pages.runs import runs
from vmaplab.pages.shapes import Shapes
from vmaplab.review.experiments.base import (
    CLIFF,
    Experiment,
    again,
    best_table,
    entries_text,
    map_command,
    smallest,
)
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Pfns, Subject


def area(subject: Subject, arch: str) -> Iterator[Finding]:
    """The same array behind areas of other sizes, and the best of all addresses."""
    target = subject.arch(arch)
    shapes = Shapes(target)
    run, leaves = shapes.run, shapes.leaves
    if not leaves:
        return
    for pages in leaves:
        pfns = run(2 * pages)
        alone = subject.map(arch, pfns)
        for before in (1, 2, pages // 2 + 1):
            behind = subject.map(arch, pfns, before=before)
            if behind.entries >= CLIFF * alone.entries:
                yield Finding(
                    "area",
                    "placed anywhere",
                    "where the area happens to lie decides which leaves can be used",
                    arch,
                    pfns,
                    behind,
                    alone,
                    f"behind an area of {before} pages",
                    "in an empty address space",
                    f"{entries_text(behind.entries)}; {alone.entries} in an empty address space",
                    (again(subject, arch, "area"),),
                )
                return

    def crooked(pfns: Pfns) -> bool:
        """A run for which another address would do, of a length that is mapped well where it is aligned."""
        ours = subject.map(arch, pfns)
        here, there = (
            len(optimum(target, pfns, addr)) for addr in (ours.addr, best_address(target, pfns, target.vmalloc_start))
        )
        single = len(runs(pfns)) == 1
        return single and here >= CLIFF * there and subject.map(arch, run(len(pfns))).entries < len(pfns)

    for pages in leaves[::-1]:
        for offset in (pages // 2, leaves[0]):
            if offset < pages and crooked(run(3 * pages, offset)):
                pfns = smallest(run(3 * pages, offset), crooked)
                ours = subject.map(arch, pfns)
                addr = best_address(target, pfns, target.vmalloc_start)
                best = best_table(target, pfns, addr)
                yield Finding(
                    "area",
                    "not congruent",
                    "the area is not placed so that addresses and frames are aligned alike",
                    arch,
                    pfns,
                    ours,
                    best,
                    subject.name,
                    f"best possible, at {addr:#x}",
                    f"{entries_text(ours.entries)}; {best.entries} at an address chosen by the first frame",
                    (map_command(subject, arch, pfns),),
                )
                return


EXPERIMENT = Experiment(5, "area", "does the area's address keep a larger leaf from being used?", area)
