# SPDX-License-Identifier: GPL-2.0-only
"""The experiment ``lost``."""

from __future__ import annotations

from collections.abc import Iterator

from vmaplab.arch import Arch
from vmaplab.check.optimum import optimum
from vmaplab.pages.shapes import Shapes
from vmaplab.review.experiments.base import (
    Experiment,
    against_best,
    smallest,
)
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Pfns, Subject


def _kind(arch: Arch, pages: int) -> str:
    """What a leaf of ``pages`` pages is on ``arch``."""
    block = len(arch.levels) > 1 and arch.levels[1].leaf and pages << arch.page_shift == 1 << arch.levels[1].shift
    return "PMD block" if block else "contiguous-PTE group"


def lost(subject: Subject, arch: str) -> Iterator[Finding]:
    """Aligned runs, which any policy could map with its largest leaves."""
    target = subject.arch(arch)
    shapes = Shapes(target)
    run = shapes.run
    for pages in shapes.leaves:
        size = pages << target.page_shift

        def loses(pfns: Pfns, size: int = size) -> bool:
            ours = subject.map(arch, pfns)
            best = optimum(target, pfns, ours.addr)
            return bool((best["size"] == size).any() and not (ours.leaves["size"] >= size).any())

        arrays = [run(pages), run(2 * pages), run(3 * pages), run(pages + 1)]
        losing = [pfns for pfns in arrays if loses(pfns)]
        if not losing:
            continue
        kind, never = _kind(target, pages), len(losing) == len(arrays)
        headline = f"{'no' if never else 'not always'} {kind}s where the array and the area allow them"
        yield against_best(subject, arch, "lost", f"{kind} {never}", headline, smallest(losing[0], loses))


EXPERIMENT = Experiment(3, "lost", "is a larger leaf left unused on aligned runs?", lost)
