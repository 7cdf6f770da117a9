# SPDX-License-Identifier: GPL-2.0-only
"""The page tables of a kernel whose memory is read: found as they are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.judge.format import U64, Bools, Decoded, Format
from vmaplab.vmcore.memory import PhysicalMemory, Unreadable

MOST_BYTES = 12 << 20
"""Of tables that are looked at in one walk; 1.5 million leaves."""


class TablePages:
    """Tables out of physical memory, as :func:`vmaplab.judge.walker.walk_in` takes them.

    :ivar words: all that were read, one after the other.
    :ivar places: physical address of each -> where its entries are in ``words``, and how many.
    :ivar full: whether some were left out because there were too many.
    """

    def __init__(self, memory: PhysicalMemory, form: Format) -> None:
        self._memory, self._dtype = memory, np.dtype(form.entry)
        self.words: NDArray[Any] = np.zeros(1 << 16, dtype=self._dtype)
        self.places: dict[int, tuple[int, int]] = {}
        self._used = self._asked = 0
        self.full = False

    @property
    def effort(self) -> int:
        """Bytes of the tables that were read, and some for each that was sought."""
        return self._used * self._dtype.itemsize + 64 * self._asked

    def find(self, tables: U64, count: int) -> tuple[U64, Bools]:
        """Where the tables of ``count`` entries at these addresses begin in :attr:`words`, and which are there."""
        self._asked += len(tables)
        first = np.zeros(len(tables), dtype=np.uint64)
        there = np.zeros(len(tables), dtype=bool)
        for number, table in enumerate(tables.tolist()):
            place = self.places.get(table) or self._read(table, count)
            if place is not None and place[1] == count:
                first[number], there[number] = place[0], True
        return first, there

    def _read(self, table: int, count: int) -> tuple[int, int] | None:
        size = count * self._dtype.itemsize
        if table % size:
            return None
        if (self._used + count) * self._dtype.itemsize > MOST_BYTES:
            self.full = True
            return None
        try:
            raw = self._memory.read_phys(table, size)
        except Unreadable:
            return None
        if self._used + count > len(self.words):
            self.words = np.concatenate([self.words, np.zeros_like(self.words)])
        self.words[self._used : self._used + count] = np.frombuffer(raw, dtype=self._dtype)
        self.places[table] = place = self._used, count
        self._used += count
        return place


class Translation:
    """Virtual addresses to physical ones, one by one; tables that were seen are remembered decoded."""

    _MOST_ENTRIES = 1 << 20

    def __init__(self, memory: PhysicalMemory, form: Format, root: int) -> None:
        self._memory, self._form, self._root = memory, form, root
        self._levels = [(shift, (1 << bits) - 1) for shift, bits in form.levels]
        self._tables: dict[tuple[int, int], tuple[list[bool], list[bool], list[int]]] = {}

    def phys(self, va: int) -> tuple[int, int]:
        """The physical address of ``va``, and how many bytes from there on belong to the same leaf.

        :raises Unreadable: if it is not mapped, or a table of it cannot be read.
        """
        table = self._root
        for level in range(len(self._levels) - 1, -1, -1):
            shift, mask = self._levels[level]
            valid, leaf, phys = self._tables.get((level, table)) or self._decoded(level, table)
            index = va >> shift & mask
            if not valid[index]:
                break
            table = phys[index]
            if leaf[index]:
                within = va & (1 << shift) - 1
                return table + within, (1 << shift) - within
        raise Unreadable(f"{self._memory.name}: the kernel does not map {va:#x}")

    def _decoded(self, level: int, table: int) -> tuple[list[bool], list[bool], list[int]]:
        count, dtype = self._levels[level][1] + 1, np.dtype(self._form.entry)
        raw = np.frombuffer(self._memory.read_phys(table, count * dtype.itemsize), dtype=dtype).astype(np.uint64)
        it: Decoded = self._form.decode(level, raw)
        if len(self._tables) * count >= self._MOST_ENTRIES:
            self._tables.clear()
        found = (it.valid & (it.bad == 0)).tolist(), it.leaf.tolist(), it.phys.tolist()
        self._tables[level, table] = found
        return found
