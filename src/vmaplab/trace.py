# SPDX-License-Identifier: GPL-2.0-only
"""What a call leaves behind: events in order, as compact rows and in words."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# Kinds of a row: (kind, address, value, size).
L_STORE, L_TABLE_ALLOC, L_TABLE_FREE, L_FLUSH_TLB, L_FLUSH_VMAP, L_FLUSH_VUNMAP, L_WARN, L_SYNC = range(8)


def signed(value: int) -> int:
    """The 64-bit two's complement reading of an unsigned ``value``."""
    return value - (1 << 64) if value >= 1 << 63 else value


def unsigned(value: int) -> int:
    """The reverse of :func:`signed`."""
    return int(value) % (1 << 64)


class WarnOn(IntEnum):
    """The kernel's WARN_ON()s, one each: what the model says, and how the line of the source can be told.

    The first eight are met by compiled code, which counts them as bits.
    """

    words: str
    source: str

    def __new__(cls, number: int, words: str, source: str) -> WarnOn:
        """A member with more than its number."""
        one = int.__new__(cls, number)
        one._value_ = number
        one.words, one.source = words, source
        return one

    ENTRY_SET = 0, "an entry is already set", r"!pte_none"
    NULL_PAGE = 1, "NULL page", r"WARN_ON\(!page\)"
    PFN_INVALID = 2, "PFN not valid", r"!pfn_valid"
    BLOCK_CUT = 3, "unmapped a block of which part is outside the range", r"next - addr < P[MU]D_SIZE"
    GROUP_STARTED = 4, "unmapped a contiguous group from its middle on", r"!IS_ALIGNED\(addr, size\)"
    GROUP_CUT = 5, "unmapped a contiguous group whose end is outside the range", r"end - addr < size"
    THROUGH_LEAF = 6, "a walk goes through a leaf", r"(?!)"
    END_UNALIGNED = 7, "a range whose end is not page-aligned", r"!PAGE_ALIGNED\(end - addr\)"
    PFN_VALID = 8, "PFN valid", r"WARN_ON_ONCE\(pfn_valid"
    RESET_PERMS = 9, "vmap() does not take VM_FLUSH_RESET_PERMS", r"VM_FLUSH_RESET_PERMS"
    NO_GUARD = 10, "vmap() does not take VM_NO_GUARD; dropped", r"VM_NO_GUARD"
    BAD_ADDRESS = 11, "bad address", r"Trying to \w+\(\) bad address"
    NO_AREA = 12, "nonexistent vm area", r"Trying to \w+\(\) nonexistent"
    NO_BYTES = 13, "vmalloc() of 0 bytes", r"WARN_ON_ONCE\(!size\)"
    NOT_SPARSE = 14, "a sparse area without VM_SPARSE", r"VM_SPARSE"
    NO_TREE = 15, "RB_EMPTY_NODE", r"RB_EMPTY_NODE"
    NO_PAGES = 16, "vm_map_ram() of no pages", r"WARN_ON\(size == 0\)"
    NO_RAM = 17, "vm_unmap_ram() where no area is", r"WARN_ON_ONCE\(!va\)"
    POOL_MIXED = 18, "a pool has an area of another size", r"WARN_ON_ONCE\(err\)"
    TOO_FAR = 19, "areas of pcpu_get_vm_areas() that no address space holds", r"WARN_ON\(true\)"

    @classmethod
    def of(cls, line: str) -> int:
        """Which one a line of the kernel's source is, or a number of its own for one that is none of these."""
        return next((one for one in cls if re.search(one.source, line)), 1000 + crc32(line.encode()))


class Event(NamedTuple):
    """One thing that the kernel did.

    ``kind`` and the meaning of the numbers:

    - ``store``: ``addr`` is the physical address of an entry, ``value`` what was stored, ``size`` its bytes;
    - ``table_alloc``, ``table_free``: ``addr`` physical, ``value`` log2 of what one entry maps, ``size`` bytes;
    - ``flush_tlb_kernel_range``, ``flush_cache_vmap``, ``flush_cache_vunmap``: virtual [``addr``, ``value``),
      ``size`` bytes;
    - ``arch_sync_kernel_mappings``: virtual [``addr``, ``value``), of the kernel's own code alone;
    - ``warn``: ``text`` says which WARN_ON() fired.
    """

    kind: str
    addr: int = 0
    value: int = 0
    size: int = 0
    text: str = ""


_KINDS = {
    L_STORE: "store",
    L_TABLE_ALLOC: "table_alloc",
    L_TABLE_FREE: "table_free",
    L_FLUSH_TLB: "flush_tlb_kernel_range",
    L_FLUSH_VMAP: "flush_cache_vmap",
    L_FLUSH_VUNMAP: "flush_cache_vunmap",
    L_WARN: "warn",
    L_SYNC: "arch_sync_kernel_mappings",
}


class EventLog:
    """What happened, in order: rows (kind, address, value, size) of signed ints, made :class:`Event` when asked for.

    A warning's row has the number of its text as address, and which it is, :class:`WarnOn`, as value.

    :ivar texts: the warnings.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._rows: Ints = np.zeros((64, 4), dtype=np.int64)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def _room(self, more: int) -> None:
        if self._length + more > len(self._rows):
            rows = np.zeros((2 * (self._length + more), 4), dtype=np.int64)
            rows[: self._length] = self._rows[: self._length]
            self._rows = rows

    def add(self, kind: int, addr: int, value: int, size: int) -> None:
        """Append one row; unsigned numbers will do."""
        self._room(1)
        self._rows[self._length] = kind, signed(addr), signed(value), size
        self._length += 1

    def extend(self, rows: Ints) -> None:
        """Append rows, shape (n, 4)."""
        count = len(rows)
        if count:
            self._room(count)
            self._rows[self._length : self._length + count] = rows
            self._length += count

    def warn(self, which: int, text: str) -> None:
        """Append a warning."""
        self.texts.append(text)
        self.add(L_WARN, len(self.texts) - 1, which, 0)

    def rows(self, start: int = 0, end: int | None = None) -> Ints:
        """The rows from ``start`` to ``end``, shape (n, 4); not to be changed."""
        return self._rows[: self._length][start:end]

    def events(self, start: int = 0, end: int | None = None) -> list[Event]:
        """The same as events."""
        return [
            Event("warn", text=self.texts[addr])
            if kind == L_WARN
            else Event(_KINDS[kind], unsigned(addr), unsigned(value), size)
            for kind, addr, value, size in self.rows(start, end).tolist()
        ]
