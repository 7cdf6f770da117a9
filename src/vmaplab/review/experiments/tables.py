# SPDX-License-Identifier: GPL-2.0-only
"""The experiment ``tables``."""

from __future__ import annotations

from collections.abc import Iterator

from vmaplab.pages.shapes import Shapes
from vmaplab.review.experiments.base import Experiment, against_best
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Subject


def tables(subject: Subject, arch: str) -> Iterator[Finding]:
    """A run of each leaf's size must not need a table below that leaf."""
    for pages in Shapes(subject.arch(arch)).leaves:
        pfns = Shapes(subject.arch(arch)).run(pages)
        cost = subject.map(arch, pfns).cost
        if cost is not None and cost.tlb_entries == 1 and cost.tables_allocated > len(subject.arch(arch).levels) - 1:
            yield against_best(subject, arch, "tables", "tables", "more tables than levels for one leaf", pfns)


EXPERIMENT = Experiment(9, "tables", "does one leaf need more tables than there are levels?", tables)
