# SPDX-License-Identifier: GPL-2.0-only
"""What the stores, allocations and flushes of a kernel mean, told from its events alone.

Break-before-make (Arm ARM D8.16.1; Intel SDM vol. 3A 4.10.4.3; RISC-V Privileged Architecture 12.2.1): an entry that
the MMU may have cached goes through invalid and a TLB flush before it gets another size or output address, and
a table is freed only when nothing leads to it any more, not even in a TLB.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from copy import copy
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import Violation
from vmaplab.judge.format import CANNOT, EVERYTHING, U64, Bools, Decoded, Format
from vmaplab.judge.walker import ENTRY
from vmaplab.trace import L_FLUSH_TLB, L_FLUSH_VMAP, L_STORE, L_TABLE_ALLOC, L_TABLE_FREE

Rows = NDArray[np.int64]
Span = tuple[int, int]


class Spans:
    """A set of addresses, as disjoint ranges."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def __bool__(self) -> bool:
        return bool(self._spans)

    @property
    def first(self) -> int | None:
        """The lowest address."""
        return self._spans[0][0] if self._spans else None

    def copy(self) -> Spans:
        """Another one with the same addresses."""
        other = Spans()
        other._spans = list(self._spans)
        return other

    def add(self, starts: U64, ends: U64) -> None:
        """Add ranges [start, end), in any order."""
        spans = sorted([*self._spans, *joined(starts, ends)])
        self._spans = []
        for start, end in spans:
            if self._spans and start <= self._spans[-1][1]:
                self._spans[-1] = self._spans[-1][0], max(end, self._spans[-1][1])
            else:
                self._spans.append((start, end))

    def remove(self, start: int, end: int) -> None:
        """Take [start, end) out."""
        kept = []
        for first, last in self._spans:
            if last <= start or end <= first:
                kept.append((first, last))
                continue
            if first < start:
                kept.append((first, start))
            if end < last:
                kept.append((end, last))
        self._spans = kept

    def meet(self, starts: U64, ends: U64) -> int | None:
        """An address that one of the ranges has in common with the set."""
        for start, end in joined(starts, ends) if self._spans else []:
            at = bisect_right(self._spans, (start, 1 << 65)) - 1
            if at >= 0 and self._spans[at][1] > start:
                return start
            if at + 1 < len(self._spans) and self._spans[at + 1][0] < end:
                return self._spans[at + 1][0]
        return None


def joined(starts: U64, ends: U64) -> list[Span]:
    """The ranges [start, end) with neighbours joined, ascending; they do not overlap."""
    if not len(starts):
        return []
    order = np.argsort(starts, kind="stable")
    starts, ends = starts[order], ends[order]
    cut = np.flatnonzero(starts[1:] != ends[:-1]) + 1
    firsts = np.concatenate([[0], cut])
    lasts = np.concatenate([cut, [len(starts)]]) - 1
    return [(int(a), int(b) or 1 << 64) for a, b in zip(starts[firsts], ends[lasts], strict=True)]


class Change(NamedTuple):
    """The leaf entries that came and went, in the order in which they did.

    :param made: ``vmaplab.judge.walker.ENTRY``; ``made_rows``: which event each comes of.
    :param cleared: likewise.
    :param altered: addresses whose translation changed, and no leaf came or went: an entry got other permissions in
        place, or a table was cut off that had leaves, or was not freed then.
    """

    made: NDArray[Any]
    made_rows: Rows
    cleared: NDArray[Any]
    cleared_rows: Rows
    altered: list[int]


class History:
    """The table memory as the events tell it, and what a TLB may still hold.

    :param form: the format of the entries.
    :param base: physical address of the table memory.
    :param root: physical address of the top table.
    :param unjudged: [start, end) of addresses that may be mapped again without a TLB flush.
    :ivar stale: addresses whose translation was cleared and not flushed from the TLB since.
    """

    def __init__(self, form: Format, base: int, root: int, unjudged: Span = (0, 0)) -> None:
        self._form, self._base, self._unjudged = form, base, unjudged
        self._item = np.dtype(form.entry).itemsize
        top = len(form.levels) - 1
        size = self._item << form.levels[top][1]
        self._words: U64 = np.zeros((root + size - base) // self._item, dtype=np.uint64)
        self._tables: dict[int, tuple[int, int]] = {root: (top, size)}  # -> level, bytes
        self._va = {root: form.kernel_half}  # what the table's first entry maps
        self._allowed = {root: EVERYTHING}  # what the entries on the way to a table allow
        self._parent: dict[int, int] = {}  # of a table that an entry leads to
        self._cut: dict[int, bool] = {}  # a table that no entry leads to any more -> flushed since
        self._starts: list[int] = [root]
        self._root = root
        self._made: list[tuple[NDArray[Any], Rows]] = []
        self._cleared: list[tuple[NDArray[Any], Rows]] = []
        self._altered: list[int] = []
        self._unlinked: dict[int, int] = {}  # a table that was cut off since -> what it mapped
        self.stale = Spans()

    def copy(self) -> History:
        """Another one that has seen the same."""
        other = History.__new__(History)
        vars(other).update({name: value if name == "_form" else copy(value) for name, value in vars(self).items()})
        other.stale = self.stale.copy()
        return other

    @property
    def cached(self) -> tuple[tuple[Span, ...], tuple[tuple[int, bool], ...]]:
        """What a TLB and a paging-structure cache may still hold: addresses, and tables that were cut off."""
        return tuple(self.stale._spans), tuple(sorted(self._cut.items()))

    @property
    def tables(self) -> set[int]:
        """Physical addresses of the tables in use, the root aside."""
        return self._tables.keys() - {self._root}

    def follow(self, rows: Rows, strict: bool = True) -> Change:
        """Take in what happened, in order.

        :param rows: as an event log has them: (kind, address, value, size).
        :param strict: false where the caller maps over what it has mapped: then only the books are kept.
        :raises Violation: for what breaks the rules above.
        """
        self._made, self._cleared, self._altered, self._unlinked = [], [], [], {}
        kinds = rows[:, 0]
        start, others = 0, np.flatnonzero((kinds != L_STORE) & (kinds < L_FLUSH_VMAP))
        for at in [*others.tolist(), len(rows)]:
            stores = start + np.flatnonzero(kinds[start:at] == L_STORE)
            if len(stores):
                self._stores(rows[stores, 1].view(np.uint64), rows[stores, 2].view(np.uint64), stores, strict)
            start = at + 1
            if at < len(rows):
                kind, addr, value, size = (int(number) for number in rows[at])
                if kind == L_TABLE_ALLOC:
                    self._alloc(addr, value, size)
                elif kind == L_TABLE_FREE:
                    self._free(addr, strict)
                elif kind == L_FLUSH_TLB:
                    self._flush(addr % (1 << 64), addr % (1 << 64) + value - addr)
        altered = [*self._altered, *self._unlinked.values()]
        return Change(*_in_order(self._made), *_in_order(self._cleared), altered)

    def _alloc(self, table: int, entry_log: int, size: int) -> None:
        if table in self._tables:
            raise Violation(f"the table at {table:#x} is allocated twice")
        level = max(number for number, (shift, _) in enumerate(self._form.levels) if shift <= entry_log)
        self._tables[table] = level, size
        insort(self._starts, table)
        end = (table + size - self._base) // self._item
        if end > len(self._words):
            self._words = np.concatenate([self._words, np.zeros(max(end, len(self._words)), dtype=np.uint64)])

    def _free(self, table: int, strict: bool) -> None:
        if table not in self._tables:
            raise Violation(f"a table at {table:#x} is freed, where none is in use")
        above = table
        while above in self._parent:
            above = self._parent[above]
        if strict and above == self._root:
            raise Violation(f"the table at {table:#x} is freed while an entry leads to it")
        if strict and not self._cut.get(above, True):
            raise Violation(f"the table at {table:#x} is freed before the TLB flush that makes the MMU forget it")
        size = self._tables.pop(table)[1]
        self._starts.remove(table)
        self._parent.pop(table, None)
        self._cut.pop(table, None)
        self._unlinked.pop(table, None)
        first = (table - self._base) // self._item
        self._words[first : first + size // self._item] = 0

    def _flush(self, start: int, end: int) -> None:
        self.stale.remove(start, end)
        for table in self._cut:
            va = self._va[table]
            span = 1 << self._form.levels[self._tables[table][0] + 1][0]
            self._cut[table] |= self._form.any_flush or (start < va + span and va < max(end, start + 1))

    def _stores(self, where: U64, values: U64, rows: Rows, strict: bool) -> None:
        """Stores without anything between them."""
        owner = np.searchsorted(np.array(self._starts, dtype=np.uint64), where, side="right") - 1
        owners, which = np.unique(owner, return_inverse=True)
        tables = [self._starts[number] if number >= 0 else -1 for number in owners.tolist()]
        sizes = [self._tables.get(table, (0, 0)) for table in tables]
        ends = np.array([max(table + size, 0) for table, (_, size) in zip(tables, sizes, strict=True)], dtype=np.uint64)
        if len(outside := np.flatnonzero(where >= ends[which])):
            at = int(outside[0])
            raise Violation(f"{int(values[at]):#x} is stored at {int(where[at]):#x}, where no page table is")
        index = ((where - np.uint64(self._base)) // np.uint64(self._item)).astype(np.int64)
        level = np.array([number for number, _ in sizes])[which]
        if len(where) > 1 and len(cuts := np.flatnonzero(self._unlinks(level, index))):
            for first, last in pairwise(sorted({0, len(where), *cuts.tolist(), *(cuts + 1).tolist()})):
                self._stores(where[first:last], values[first:last], rows[first:last], strict)
            return
        old = self._replace(index, values)
        slot = (where - np.array(tables, dtype=np.uint64)[which]) // np.uint64(self._item)
        seen = len(self._made)
        for one in np.unique(level).tolist()[::-1]:  # from the top: what leads to a table says what the table maps
            its = np.flatnonzero(level == one)
            vas = np.array([self._va.get(table, 0) for table in tables], dtype=np.uint64)[which[its]]
            vas += slot[its] << np.uint64(self._form.levels[one][0])
            self._changes(
                one, old[its], values[its], vas, rows[its], [tables[at] for at in which[its].tolist()], strict
            )
        if strict:
            self._reused(self._made[seen:], self._cleared[seen:])

    def _unlinks(self, level: NDArray[np.int64], index: NDArray[np.int64]) -> Bools:
        """Which stores may replace an entry that leads to a table: each of them is a step of its own.

        What the table maps is to be told from what is in it then.
        """
        found = np.zeros(len(index), dtype=np.bool_)
        upper = np.flatnonzero(level > 0)
        words = self._words[index[upper]]
        for one in np.unique(level[upper]).tolist() if self._form.zero_counts or words.any() else []:
            its = level[upper] == one
            was = self._form.decode(one, words[its])
            found[upper[its]] = self._present(was) & ~was.leaf
        again = np.ones(len(upper), dtype=np.bool_)
        again[np.unique(index[upper], return_index=True)[1]] = False
        found[upper] |= again
        return found

    def _replace(self, index: NDArray[np.int64], values: U64) -> U64:
        """Store; returns what each store replaced, also where an entry is stored several times."""
        old = self._words[index]
        order = np.argsort(index, kind="stable")
        again = np.flatnonzero(index[order][1:] == index[order][:-1]) + 1
        old[order[again]] = values[order[again - 1]]
        self._words[index] = values  # the last one stays
        return old

    def _changes(self, level: int, old: U64, new: U64, va: U64, rows: Rows, tables: list[int], strict: bool) -> None:
        """The stores to entries of one level, in order; ``tables``: to which table each."""
        was, now = self._form.decode(level, old), self._form.decode(level, new)
        before, after = self._present(was), self._present(now)
        switched = before & after & ((was.leaf != now.leaf) | (was.phys != now.phys) | (was.group != now.group))
        if strict and switched.any():
            bad = int(np.flatnonzero(switched)[0])
            raise Violation(
                f"the entry for {int(va[bad]):#x} goes from {int(old[bad]):#x} to {int(new[bad]):#x} "
                "without going through invalid (break-before-make)"
            )
        self._altered += va[before & after & (old != new)].tolist()
        astray = now.valid & ~now.leaf & ~after & ~self._is_invalid_table(now.phys)
        if strict and astray.any():
            bad = int(np.flatnonzero(astray)[0])
            raise Violation(
                f"the entry {int(new[bad]):#x} for {int(va[bad]):#x} leads to {int(now.phys[bad]):#x}: "
                "no table is there"
            )
        wrong = np.flatnonzero(now.valid & (now.bad != 0))
        if strict and len(wrong):
            bad = int(wrong[0])
            raise Violation(f"the entry {int(new[bad]):#x} for {int(va[bad]):#x}: {CANNOT[now.bad[bad] - 1]}")
        given = np.uint8(self._form.data_rights)
        less = np.flatnonzero(after & ~now.leaf & (now.rights & given != given))
        if strict and len(less):
            bad = int(less[0])
            raise Violation(
                f"the entry {int(new[bad]):#x} for {int(va[bad]):#x} leaves less to its table than data has"
            )
        span = np.uint64(1 << self._form.levels[level][0])
        gone = before & was.leaf & ~(after & now.leaf)
        come = after & now.leaf & ~(before & was.leaf)
        if strict and come.any() and (found := self.stale.meet(va[come], va[come] + span)) is not None:
            raise Violation(f"{found:#x} is mapped again before the TLB flush of what was mapped there")
        allowed = np.array([self._allowed.get(table, EVERYTHING) for table in tables], dtype=np.uint8)
        self._made.append((_entries(now, va, span, come, allowed), rows[come]))
        self._cleared.append((_entries(was, va, span, gone, allowed), rows[gone]))
        self.stale.add(va[gone], va[gone] + span)
        self.stale.remove(*self._unjudged)
        for change in np.flatnonzero((before & ~was.leaf) | (after & ~now.leaf)).tolist():
            if before[change] and not was.leaf[change]:
                child = int(was.phys[change])
                del self._parent[child]
                self._cut[child] = False
                self._unlinked[child] = int(va[change])
                starts, ends = self._leaves_below(child)
                self._altered += starts[:1].tolist()
                self.stale.add(starts, ends)
            if after[change] and not now.leaf[change]:
                child = int(now.phys[change])
                if child in self._parent:
                    raise Violation(f"a second entry, for {int(va[change]):#x}, leads to the table at {child:#x}")
                self._parent[child] = tables[change]
                self._cut.pop(child, None)
                self._va[child] = int(va[change])
                self._allowed[child] = self._allowed.get(tables[change], EVERYTHING) & int(now.rights[change])

    def _present(self, it: Decoded) -> Bools:
        """Valid, and no pointer to one of LoongArch's invalid tables."""
        present = it.valid.copy()
        for index in np.flatnonzero(it.valid & ~it.leaf).tolist():
            present[index] = int(it.phys[index]) in self._tables
        return present

    def _is_invalid_table(self, phys: U64) -> Bools:
        """Whether these are LoongArch's invalid tables, which an empty upper entry points to."""
        found: Bools = (phys >= np.uint64(self._base)) & (phys < np.uint64(self._root)) & self._form.zero_counts
        return found

    def disagrees(self, memory: NDArray[np.uint8]) -> int | None:
        """Physical address of an entry that is another one in ``memory`` than the events say, or None."""
        if self._form.zero_counts:  # a table begins with pointers to the invalid ones, which nothing tells
            return None
        words = memory[: len(memory) // self._item * self._item].view(self._form.entry)
        count = min(len(words), len(self._words))
        other = np.flatnonzero(words[:count] != self._words[:count])
        return self._base + int(other[0]) * self._item if len(other) else None

    def _reused(self, made: list[tuple[NDArray[Any], Rows]], cleared: list[tuple[NDArray[Any], Rows]]) -> None:
        """No address gets a new leaf, of whatever size, after its old one has gone and without a flush between."""
        for gone, gone_rows in cleared:
            for come, come_rows in made:
                if not len(gone) or not len(come):
                    continue
                whole = ~(np.maximum(gone["size"][0], come["size"][0]) - np.uint64(1))
                order = np.argsort(gone_rows, kind="stable")
                where, at = np.unique(gone["va"][order] & whole, return_index=True)
                since = gone_rows[order][at]
                index = np.minimum(np.searchsorted(where, come["va"] & whole), len(where) - 1)
                late = (where[index] == come["va"] & whole) & (come_rows > since[index])
                if late.any():
                    va = int(come["va"][np.flatnonzero(late)[0]])
                    raise Violation(f"{va:#x} is mapped again before the TLB flush of what was mapped there")

    def _leaves_below(self, table: int) -> tuple[U64, U64]:
        """The ranges of the leaves that a table and those below it hold."""
        level, size = self._tables[table]
        first = (table - self._base) // self._item
        entries = self._words[first : first + size // self._item]
        it = self._form.decode(level, entries)
        present = self._present(it)
        shift = np.uint64(self._form.levels[level][0])
        va = np.uint64(self._va[table]) + (np.arange(len(entries), dtype=np.uint64) << shift)
        leaf = present & it.leaf
        starts, ends = [va[leaf]], [va[leaf] + (np.uint64(1) << shift)]
        for child in it.phys[present & ~it.leaf].tolist():
            below = self._leaves_below(child)
            starts.append(below[0])
            ends.append(below[1])
        return np.concatenate(starts), np.concatenate(ends)


def _entries(it: Decoded, va: U64, span: np.uint64, chosen: Bools, allowed: NDArray[np.uint8]) -> NDArray[Any]:
    found = np.empty(np.count_nonzero(chosen), dtype=ENTRY)
    found["va"], found["size"], found["phys"] = va[chosen], span, it.phys[chosen]
    found["attributes"], found["group"], found["rights"] = (
        it.attributes[chosen],
        it.group[chosen],
        (it.rights & allowed)[chosen],
    )
    return found


def _in_order(parts: list[tuple[NDArray[Any], Rows]]) -> tuple[NDArray[Any], Rows]:
    entries = np.concatenate([np.zeros(0, dtype=ENTRY), *(part for part, _ in parts)])
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *(number for _, number in parts)])
    order = np.argsort(rows, kind="stable")
    return entries[order], rows[order]
