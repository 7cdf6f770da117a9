# SPDX-License-Identifier: GPL-2.0-only
"""What a run built, told from its events: leaves by size, and how often a leaf took the place of tables.

A verdict is worth what it looked at; this is printed beside it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.judge.format import Format
from vmaplab.pages.array import size_text
from vmaplab.trace import L_STORE, L_TABLE_ALLOC, L_TABLE_FREE, Ints


class Stored(NamedTuple):
    """Stores to page tables, of runs with tables of one format.

    :param level: per store the level of its table.
    :param entry: what was stored, not 0.
    :param freed: whether a table was freed just before.
    """

    form: Format
    level: Ints
    entry: NDArray[np.uint64]
    freed: NDArray[np.bool_]


@dataclass
class Seen:
    """What some scenarios built.

    :param leaves: bytes of a leaf -> how many were stored; a group of PTEs is one.
    :param replaced: leaves that took the place of tables.
    :param undefined: scenarios that ended in what is not defined.
    :param guided: scenarios in which the model took the addresses of areas from the object.
    :param stored: stores that are not in ``leaves`` yet: decoding many at once is cheaper.
    """

    leaves: Counter[int] = field(default_factory=Counter)
    replaced: int = 0
    undefined: int = 0
    guided: int = 0
    stored: list[Stored] = field(default_factory=list)

    def add(self, other: Seen) -> None:
        """Take in what others built."""
        self.leaves.update(other.leaves)
        self.replaced += other.replaced
        self.undefined += other.undefined
        self.guided += other.guided
        self.stored += other.stored

    def settle(self) -> None:
        """Count what was stored."""
        if not self.stored:
            return
        form = self.stored[0].form
        level, entry, freed = (np.concatenate(column) for column in list(zip(*self.stored, strict=True))[1:])
        self.stored = []
        for one, (shift, _) in enumerate(form.levels):
            its = level == one
            entries = form.decode(one, entry[its])
            leaf = entries.valid & entries.leaf
            for group, count in zip(*np.unique(entries.group[leaf], return_counts=True), strict=True):
                size = 1 << int(group or shift)
                self.leaves[size] += (int(count) << shift) // size
            if one:
                self.replaced += int((leaf & freed[its]).sum())

    def __str__(self) -> str:
        sizes = ", ".join(f"{count} x {size_text(size)}" for size, count in sorted(self.leaves.items(), reverse=True))
        told = [f"leaves: {sizes or 'none'}"]
        if self.replaced:
            told.append(f"{self.replaced} took the place of tables")
        if self.undefined:
            what = "they go through a leaf, or wait for ever"
            count = f"{self.undefined} scenario{'s' * (self.undefined != 1)}"
            told.append(f"{count} ended early in what is not defined: {what}")
        if self.guided:
            told.append("addresses of areas taken from the object")
        return "; ".join(told)


def stored(rows: Ints, form: Format, root: int) -> Stored:
    """The stores among the events ``rows`` of a run from boot on.

    :param root: physical address of the top table.
    """
    kinds = rows[:, 0]
    allocated = rows[kinds == L_TABLE_ALLOC]
    stores = np.flatnonzero((kinds == L_STORE) & (rows[:, 2] != 0))
    levels = np.searchsorted([shift for shift, _ in form.levels], allocated[:, 2], side="right") - 1
    bases = np.concatenate([[root], allocated[:, 1]])
    order = np.argsort(bases, kind="stable")
    which = order[np.searchsorted(bases[order], rows[stores, 1], side="right") - 1]
    level = np.concatenate([[len(form.levels) - 1], levels])[which]
    return Stored(form, level, rows[stores, 2].view(np.uint64), (stores > 0) & (kinds[stores - 1] == L_TABLE_FREE))
