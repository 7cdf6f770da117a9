# SPDX-License-Identifier: GPL-2.0-only
"""The experiment ``scan``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

from vmaplab.pages.shapes import Shapes
from vmaplab.review.experiments.base import (
    GROWTH,
    Experiment,
    against_best,
    powers,
)
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Pfns, Subject


def scan(subject: Subject, arch: str) -> Iterator[Finding]:
    """The effort of longer and longer arrays of one shape."""
    made = Shapes(subject.arch(arch))
    run, leaves = made.run, made.leaves or [16]
    shapes: list[tuple[str, Callable[[int], Pfns]]] = [
        ("a run", run),
        *[(f"a run that starts {late} pages late", lambda pages, late=late: run(pages, late)) for late in (1, *leaves)],
        (f"runs of {leaves[0]} pages", lambda pages: made.pieces(pages, leaves[0])),
        ("scattered pages", made.scattered),
    ]
    most = min(leaves[-1] << 5, subject.most_pages)
    sizes = [most >> 4, most >> 2, most]

    def effort(pfns: Pfns) -> float:
        cost = subject.map(arch, pfns).cost
        assert cost is not None
        return cost[subject.effort] / len(pfns)

    worst: tuple[float, str, Callable[[int], Pfns], list[float]] | None = None
    for name, shape in shapes:
        per_page = [effort(shape(pages)) for pages in sizes]
        growth = [later / earlier if earlier else math.inf if later else 1.0 for earlier, later in pairwise(per_page)]
        if min(growth) > GROWTH and (worst is None or growth[-1] > worst[0]):
            worst = growth[-1], name, shape, per_page
    if worst is None:
        return
    growth_last, name, shape, per_page = worst
    small, medium, large = per_page
    steady = large - medium < 2 * (medium - small)  # as much more with each doubling, not as many times more
    law = "as n log n" if steady else f"about as n^{1 + math.log2(growth_last) / 2:.2f}"
    # The smallest array from the smallest size on in which a page takes twice the effort.
    lengths = powers(2 * leaves[0], sizes[-1])
    longer = [pages for pages in lengths if pages > sizes[0]]
    pfns = next((shape(pages) for pages in longer if effort(shape(pages)) > 2 * small), shape(sizes[-1]))
    ours = subject.map(arch, pfns)
    assert ours.cost is not None
    unit = subject.effort.replace("_", " ")
    pairs = [(pages, effort(shape(pages))) for pages in sorted({*lengths[::2], *sizes})]
    headline = f"{name}: {unit} grow faster than linearly with its length, {law}"
    rows = (("pages", f"{unit} a page"), *((str(pages), f"{value:.1f}") for pages, value in pairs))
    cost = f"{ours.cost[subject.effort]} {unit} for {len(pfns)} pages"
    yield against_best(subject, arch, "scan", "superlinear", headline, pfns, cost, rows)


EXPERIMENT = Experiment(6, "scan", "does the scan's effort grow faster than linearly?", scan)
