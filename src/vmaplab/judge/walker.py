# SPDX-License-Identifier: GPL-2.0-only
"""List every entry that a table memory holds, level by level, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vmaplab.judge.format import CANNOT, EVERYTHING, U64, Bools, Format

ENTRY = np.dtype(
    [
        ("va", "u8"),
        ("size", "u8"),
        ("phys", "u8"),
        ("attributes", "u8"),
        ("group", "u1"),
        ("rights", "u1"),
    ]
)
"""A valid entry that ends a walk: ``size`` bytes at ``va`` go to ``phys``; see ``Decoded`` for the rest."""


@dataclass(frozen=True)
class Walk:
    """Everything that the MMU can reach from a root.

    :param entries: ``ENTRY``, ascending ``va``.
    :param tables: ``phys -> level`` of each table, the root aside.
    :param complaints: entries that no MMU would take, and tables that are not where tables can be; one line each.
    """

    entries: NDArray[Any]
    tables: dict[int, int]
    complaints: list[str]

    def leaves_of(self, vas: U64) -> tuple[U64, U64]:
        """Addresses and sizes of the leaves that map ``vas``; size 0 where none does."""
        if not len(self.entries):
            return vas, np.zeros_like(vas)
        at = np.searchsorted(self.entries["va"], vas, side="right") - 1
        entries = self.entries[np.maximum(at, 0)]
        group = entries["group"].astype(np.uint64)
        size = np.maximum(entries["size"].astype(np.uint64), np.where(group > 0, np.uint64(1) << group, np.uint64(0)))
        start = entries["va"] & ~(size - np.uint64(1))
        return start, np.where((at >= 0) & (vas - start < size), size, np.uint64(0))

    def leaf_of(self, va: int) -> tuple[int, int] | None:
        """[start, end) of the leaf that maps ``va``."""
        start, size = (int(one[0]) for one in self.leaves_of(np.array([va], dtype=np.uint64)))
        return (start, start + size) if size else None

    @classmethod
    def nothing(cls) -> Walk:
        """Where nothing is mapped."""
        return cls(np.zeros(0, dtype=ENTRY), {}, [])


class Holder(Protocol):
    """What holds tables."""

    words: NDArray[Any]

    def find(self, tables: U64, count: int) -> tuple[U64, Bools]:
        """Where in :attr:`words` the tables of ``count`` entries at these addresses begin, and which are there."""


class Memory:
    """Physical memory that can hold tables: one stretch of it.

    :param memory: its bytes; ``base``: physical address of the first.
    :param entry: dtype of a stored entry.
    :ivar words: as entries.
    """

    def __init__(self, memory: NDArray[np.uint8], base: int, entry: str) -> None:
        self.words: NDArray[Any] = memory[: len(memory) // np.dtype(entry).itemsize * np.dtype(entry).itemsize].view(
            entry
        )
        self._base = np.uint64(base)

    def find(self, tables: U64, count: int) -> tuple[U64, Bools]:
        """Where in :attr:`words` the tables of ``count`` entries at these addresses begin, and which are there."""
        size = self.words.itemsize
        first = (tables - self._base) // np.uint64(size)
        there = (tables >= self._base) & (first + np.uint64(count) <= np.uint64(len(self.words)))
        return first, there & (tables % np.uint64(count * size) == 0)


def walk(memory: NDArray[np.uint8], base: int, root: int, form: Format, start: int = 0, end: int = 1 << 64) -> Walk:
    """Walk the tables in ``memory``, whose first byte lies at physical address ``base``: see :func:`walk_in`."""
    return walk_in(Memory(memory, base, form.entry), root, form, start, end)


def walk_in(memory: Holder, root: int, form: Format, start: int = 0, end: int = 1 << 64) -> Walk:
    """Walk the tables in ``memory``.

    A table that two entries point to must be empty (LoongArch's invalid tables are).

    :param start: only what maps part of [start, end) is looked at.
    """
    first_va = np.uint64(start & ~form.kernel_half)
    last_va = np.uint64((end - 1) & ~form.kernel_half if end < 1 << 64 else (1 << 64) - 1)
    found: list[NDArray[Any]] = []
    tables: dict[int, int] = {}
    complaints: list[str] = []
    phys = np.array([root], dtype=np.uint64)
    offsets = np.zeros(1, dtype=np.uint64)
    allowed = np.full(1, EVERYTHING, dtype=np.uint8)
    for level in range(len(form.levels) - 1, -1, -1):
        shift, bits = form.levels[level]
        count = 1 << bits
        first, inside = memory.find(phys, count)
        lost = np.flatnonzero(~inside)
        if len(lost) > _MOST_TOLD:
            complaints.append(f"{len(lost)} tables are said to be where none is")
        for where, offset in zip(phys[lost[:_MOST_TOLD]].tolist(), offsets[lost[:_MOST_TOLD]].tolist(), strict=True):
            complaints.append(
                f"the table for {form.kernel_half | offset:#x} is said to be at {where:#x}: no table is there"
            )
        phys, first, offsets, allowed = phys[inside], first[inside], offsets[inside], allowed[inside]
        if level < len(form.levels) - 1:
            phys, first, offsets, allowed = _once(memory, form, level, (phys, first, offsets, allowed), complaints)
            tables.update(dict.fromkeys(phys.tolist(), level))
        # Which words of each table lie in the range.
        lowest = np.maximum(first_va, offsets) - offsets >> np.uint64(shift)
        highest = np.minimum(last_va - offsets >> np.uint64(shift), np.uint64(count - 1))
        spans = (highest - lowest).astype(np.int64) + 1
        table = np.repeat(np.arange(len(first)), spans)
        index = np.repeat(lowest, spans) + (np.arange(len(table)) - np.repeat(np.cumsum(spans) - spans, spans)).astype(
            np.uint64
        )
        entries = memory.words[first[table] + index].astype(np.uint64)
        if not form.zero_counts:
            there = np.flatnonzero(entries)
            table, index, entries = table[there], index[there], entries[there]
        it = form.decode(level, entries)
        va = offsets[table] | index << np.uint64(shift)
        if len(stray := np.flatnonzero(it.valid & (it.bad != 0))):
            for at in stray[:4].tolist():
                why = CANNOT[it.bad[at] - 1]
                complaints.append(f"the entry {int(entries[at]):#x} for {form.kernel_half | int(va[at]):#x}: {why}")
        rights = it.rights & allowed[table]
        leaf = it.valid & it.leaf
        leaves = np.empty(int(leaf.sum()), dtype=ENTRY)
        leaves["va"] = va[leaf] | np.uint64(form.kernel_half)
        leaves["size"] = 1 << shift
        leaves["phys"], leaves["attributes"] = it.phys[leaf], it.attributes[leaf]
        leaves["group"], leaves["rights"] = it.group[leaf], rights[leaf]
        found.append(leaves)
        lower = it.valid & ~it.leaf & (it.bad == 0)
        phys, offsets, allowed = it.phys[lower], va[lower], rights[lower]
    listed = np.concatenate(found)
    return Walk(listed[np.argsort(listed["va"], kind="stable")], tables, complaints)


def look_up(memory: NDArray[np.uint8], base: int, root: int, form: Format, addr: int) -> int | None:
    """The physical address that ``addr`` translates to, by the tables as :func:`walk` takes them; None if to none."""
    itemsize, table = np.dtype(form.entry).itemsize, root
    for level in range(len(form.levels) - 1, -1, -1):
        shift, bits = form.levels[level]
        at = table - base + ((addr >> shift) & ((1 << bits) - 1)) * itemsize
        if not 0 <= at < len(memory):
            return None
        it = form.decode(level, memory[at : at + itemsize].view(form.entry).astype(np.uint64))
        if not it.valid[0]:
            return None
        table = int(it.phys[0])
        if it.leaf[0]:
            return table + (addr & ((1 << shift) - 1))
    return None


_MOST_TOLD = 64
"""Complaints of a kind that are worded."""
Tables = tuple[U64, U64, U64, NDArray[np.uint8]]


def _once(memory: Holder, form: Format, level: int, tables: Tables, complaints: list[str]) -> Tables:
    """``tables`` without those that several entries point to, which must be empty."""
    phys, _, offsets, _ = tables
    if len(phys) < 2:
        return tables
    _, at, times = np.unique(phys, return_index=True, return_counts=True)
    if len(at) == len(phys):
        return tables
    for shared in at[times > 1].tolist():
        if _empty(memory, form, level, int(phys[shared])):
            continue
        va = form.kernel_half | int(offsets[shared])
        complaints.append(f"the table at {int(phys[shared]):#x} is reached twice, for {va:#x} and elsewhere")
    kept = np.sort(at[times == 1])
    first_, second, third, fourth = (column[kept] for column in tables)
    return first_, second, third, fourth


def _empty(memory: Holder, form: Format, level: int, table: int) -> bool:
    """Whether nothing is mapped below the table at physical address ``table``."""
    while True:
        count = 1 << form.levels[level][1]
        first, there = memory.find(np.array([table], dtype=np.uint64), count)
        raw = memory.words[int(first[0]) :][:count].astype(np.uint64) if there[0] else memory.words[:0]
        it = form.decode(level, raw[raw != 0])
        if (it.valid & it.leaf).any():
            return False
        lower = np.unique(it.phys[it.valid & ~it.leaf])
        if not len(lower):
            return True
        if len(lower) > 1 or level == 0:
            return False
        table, level = int(lower[0]), level - 1
