# SPDX-License-Identifier: GPL-2.0-only
"""The experiment ``alignment``."""

from __future__ import annotations

from collections.abc import Iterator

from vmaplab.check.optimum import optimum
from vmaplab.pages.runs import runs
from vmaplab.pages.shapes import Shapes
from vmaplab.review.experiments.base import (
    CLIFF,
    Experiment,
    against_best,
    powers,
    smallest,
)
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Pfns, Subject


def alignment(subject: Subject, arch: str) -> Iterator[Finding]:
    """Runs whose frames are aligned to less than their length."""
    target = subject.arch(arch)
    shapes = Shapes(target)
    run, leaves = shapes.run, shapes.leaves
    if not leaves:
        return

    def off(pfns: Pfns) -> bool:
        """A run that is mapped badly, and would be mapped well if its first frame were aligned."""
        if len(runs(pfns)) != 1:
            return False
        ours = subject.map(arch, pfns)
        if ours.entries < CLIFF * len(optimum(target, pfns, ours.addr)):
            return False
        aligned = run(len(pfns))
        good = subject.map(arch, aligned)
        return good.entries < CLIFF * len(optimum(target, aligned, good.addr)) and good.entries < len(pfns)

    for length in powers(2 * leaves[0], 2 * leaves[-1]):
        for offset in powers(1, length // 2)[::-1]:
            if off(run(length, offset)):
                headline = "a run aligned to less than its length falls off a cliff, not down a step"
                shown = smallest(run(length, offset), off)
                table = _alignments(subject, arch, max(2 * leaves[0], min(256, leaves[-1])))
                yield against_best(subject, arch, "alignment", "cliff", headline, shown, evidence=table)
                return


def _alignments(subject: Subject, arch: str, length: int) -> tuple[tuple[str, ...], ...]:
    """TLB entries of a run of ``length`` pages by the alignment of its first frame."""
    rows: list[tuple[str, ...]] = [(f"{length} pages aligned to", "TLB entries", "best possible")]
    for offset in powers(1, length)[::-1]:
        pfns = Shapes(subject.arch(arch)).run(length, offset % length)
        ours = subject.map(arch, pfns)
        rows.append((str(offset), str(ours.entries), str(len(optimum(subject.arch(arch), pfns, ours.addr)))))
    return tuple(rows)


EXPERIMENT = Experiment(
    4, "alignment", "does a run that is aligned to less than its length fall off a cliff?", alignment
)
