# SPDX-License-Identifier: GPL-2.0-only
"""The experiment ``coupling``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vmaplab.pages.shapes import Shapes
from vmaplab.review.experiments.base import (
    Experiment,
    entries_text,
    map_command,
    smallest,
)
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Options, Pfns, Subject, Table, flipped


def _same(one: Table, other: Table) -> bool:
    """Whether two tables hold the same leaves, wherever their areas lie."""
    if len(one.leaves) != len(other.leaves):
        return False
    return all(
        np.array_equal(one.leaves[name] - np.uint64(shift), other.leaves[name] - np.uint64(shift_other))
        for name, shift, shift_other in (("va", one.addr, other.addr), ("size", 0, 0), ("pfn", 0, 0))
    )


def coupling(subject: Subject, arch: str) -> Iterator[Finding]:
    """Flip each boot argument and configuration option."""
    for option in subject.options:
        options = flipped(subject, arch, option)
        if options is None:
            continue

        def differs(pfns: Pfns, options: Options = options) -> bool:
            return not _same(subject.map(arch, pfns), subject.map(arch, pfns, options))

        shown = next((pfns for pfns in Shapes(subject.arch(arch)).corpus() if differs(pfns)), None)
        if shown is None:
            continue
        pfns = smallest(shown, differs)
        ours, other = subject.map(arch, pfns), subject.map(arch, pfns, options)
        word = options[0]
        yield Finding(
            "coupling",
            option,
            f"{word} changes the page tables of vmap()",
            arch,
            pfns,
            ours,
            other,
            subject.name,
            f"with {word}",
            f"{entries_text(ours.entries)}; with {word}: {other.entries}",
            (map_command(subject, arch, pfns), map_command(subject, arch, pfns, options)),
        )


EXPERIMENT = Experiment(2, "coupling", "does an option that should not matter change the page tables?", coupling)
