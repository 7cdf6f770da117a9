# SPDX-License-Identifier: GPL-2.0-only
"""What a run built, told from its events: leaves by size, and how often a leaf took the place of tables.

A verdict is worth what it looked at; this is printed beside it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from vmaplab.judge.format import Format
from vmaplab.pages.array import size_text
from vmaplab.trace import L_STORE, L_TABLE_ALLOC, L_TABLE_FREE, Ints


@dataclass
class Seen:
    """What some scenarios built.

    :param leaves: bytes of a leaf -> how many were stored; a group of PTEs is one.
    :param replaced: leaves that took the place of tables.
    :param undefined: scenarios that ended in what is not defined.
    :param guided: scenarios in which the model took the addresses of areas from the object.
    """

    leaves: Counter[int] = field(default_factory=Counter)
    replaced: int = 0
    undefined: int = 0
    guided: int = 0

    def add(self, other: Seen) -> None:
        """Take in what others built."""
        self.leaves.update(other.leaves)
        self.replaced += other.replaced
        self.undefined += other.undefined
        self.guided += other.guided

    def __str__(self) -> str:
        sizes = ", ".join(f"{count} x {size_text(size)}" for size, count in sorted(self.leaves.items(), reverse=True))
        told = [f"leaves: {sizes or 'none'}"]
        if self.replaced:
            told.append(f"{self.replaced} took the place of tables")
        if self.undefined:
            told.append(f"{self.undefined} scenarios ended early in what is not defined: they go through a leaf")
        if self.guided:
            told.append("addresses of areas taken from the object")
        return "; ".join(told)


def built(rows: Ints, form: Format, root: int) -> Seen:
    """What the events ``rows`` of a run from boot on built.

    :param root: physical address of the top table.
    """
    seen, top = Seen(), len(form.levels) - 1
    kinds = rows[:, 0]
    allocated = rows[kinds == L_TABLE_ALLOC]
    stores = np.flatnonzero((kinds == L_STORE) & (rows[:, 2] != 0))
    if not len(stores):
        return seen
    shifts = np.array([shift for shift, _ in form.levels])
    levels = np.searchsorted(shifts, allocated[:, 2], side="right") - 1
    bases = np.concatenate([[root], allocated[:, 1]])
    order = np.argsort(bases, kind="stable")
    which = order[np.searchsorted(bases[order], rows[stores, 1], side="right") - 1]
    level = np.concatenate([[top], levels])[which]
    freed = np.zeros(len(rows) + 1, dtype=np.bool_)
    freed[1:] = kinds == L_TABLE_FREE
    for one in range(top + 1):
        its = stores[level == one]
        if not len(its):
            continue
        entries = form.decode(one, rows[its, 2].view(np.uint64))
        leaf = entries.valid & entries.leaf
        grouped = entries.group[leaf].astype(np.int64)
        size = 1 << int(shifts[one])
        for group, count in zip(*np.unique(grouped, return_counts=True), strict=True):
            bytes_ = 1 << int(group) if group else size
            seen.leaves[bytes_] += int(count) * size // bytes_
        if one:
            seen.replaced += int((leaf & freed[its]).sum())
    return seen
