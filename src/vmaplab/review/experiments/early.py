# SPDX-License-Identifier: GPL-2.0-only
"""The experiment ``early``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vmaplab.check.optimum import optimum
from vmaplab.pages.runs import runs
from vmaplab.pages.shapes import Shapes, joined
from vmaplab.review.experiments.base import (
    Experiment,
    against_best,
    smallest,
)
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Pfns, Subject


def early(subject: Subject, arch: str) -> Iterator[Finding]:
    """Runs behind scattered pages."""
    target = subject.arch(arch)
    shapes = Shapes(target)
    run = shapes.run
    for pages in shapes.leaves:
        small = run(pages, 1, 7)  # nothing larger than a page fits into it
        orders = {
            f"a run of {pages}, then {pages} misaligned": joined(run(pages), small),
            f"{pages} misaligned, then a run of {pages}": joined(small, run(pages)),
            f"{pages} misaligned, then two runs of {pages}": joined(small, shapes.pieces(2 * pages, pages)),
            f"a run of {pages}, {pages} misaligned, a run of {pages}": joined(run(pages), small, run(pages, 0, 2)),
        }

        def excess(pfns: Pfns) -> float:
            ours = subject.map(arch, pfns)
            return ours.entries / len(optimum(target, pfns, ours.addr))

        def backwards(pfns: Pfns) -> Pfns:
            """The same runs, the longest and best aligned first."""
            parts = sorted(runs(pfns), key=lambda part: (-part[1], -(part[0] & -part[0])))
            return joined(*(np.arange(first, first + count, dtype=np.uint64) for first, count in parts))

        def stops(pfns: Pfns) -> bool:
            """Mapped badly in this order, and well in the other."""
            return len(runs(pfns)) > 1 and excess(pfns) > 1.4 and excess(backwards(pfns)) < 1.1

        shown = next((pfns for pfns in orders.values() if stops(pfns)), None)
        if shown is None:
            continue
        rows = [("array", "TLB entries", "best possible")]
        for name, array in orders.items():
            table = subject.map(arch, array)
            rows.append((name, str(table.entries), str(len(optimum(target, array, table.addr)))))
        headline = "a run behind small chunks is not mapped as it would be in front of them"
        pfns = smallest(shown, stops)
        yield against_best(subject, arch, "early", "small first", headline, pfns, evidence=tuple(rows))
        return


EXPERIMENT = Experiment(7, "early", "does it matter whether small chunks come first?", early)
