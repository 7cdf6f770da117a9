"""What a call that maps returns: where, what, at what cost, and in which order it happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.cost import Cost
from vmaplab.pgtable.geometry import Ints, signed, unsigned
from vmaplab.pgtable.memory import (
    L_FLUSH_TLB,
    L_FLUSH_VMAP,
    L_FLUSH_VUNMAP,
    L_STORE,
    L_TABLE_ALLOC,
    L_TABLE_FREE,
    L_WARN,
)

LEAF_DTYPE = np.dtype([("va", "<u8"), ("size", "<u8"), ("pfn", "<u8")])
"""One leaf: virtual address, bytes, first PFN."""


class Event(NamedTuple):
    """One thing that the kernel did.

    ``kind`` and the meaning of the numbers:

    - ``store``: ``addr`` is the physical address of an entry, ``value`` what was stored, ``size`` its bytes;
    - ``table_alloc``, ``table_free``: ``addr`` physical, ``value`` log2 of what one entry maps, ``size`` bytes;
    - ``flush_tlb_kernel_range``, ``flush_cache_vmap``, ``flush_cache_vunmap``: virtual [``addr``, ``value``),
      ``size`` bytes;
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
}


class EventLog:
    """What happened, in order: rows (kind, address, value, size) of signed ints, made :class:`Event` when asked for.

    A warning's row has the number of its text as address.

    :ivar texts: the warnings.
    """

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._parts: list[Ints | tuple[int, int, int, int]] = []
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, kind: int, addr: int, value: int, size: int) -> None:
        """Append one row; unsigned numbers will do."""
        self._parts.append((kind, signed(addr), signed(value), size))
        self._length += 1

    def extend(self, rows: Ints) -> None:
        """Append rows, shape (n, 4)."""
        if len(rows):
            self._parts.append(rows)
            self._length += len(rows)

    def warn(self, text: str) -> None:
        """Append a warning."""
        self.texts.append(text)
        self.add(L_WARN, len(self.texts) - 1, 0, 0)

    def rows(self, start: int = 0, end: int | None = None) -> Ints:
        """The rows from ``start`` to ``end``, shape (n, 4)."""
        if len(self._parts) > 1 or (self._parts and isinstance(self._parts[0], tuple)):
            parts = [np.array([part]) if isinstance(part, tuple) else part for part in self._parts]
            self._parts = [np.concatenate(parts)]
        whole = self._parts[0] if self._parts else np.zeros((0, 4), dtype=np.int64)
        assert not isinstance(whole, tuple)
        return whole[start:end]

    def events(self, start: int = 0, end: int | None = None) -> list[Event]:
        """The same as events."""
        return [
            Event("warn", text=self.texts[addr])
            if kind == L_WARN
            else Event(_KINDS[kind], unsigned(addr), unsigned(value), size)
            for kind, addr, value, size in self.rows(start, end).tolist()
        ]


@dataclass
class Mapping:
    """A mapping in kernel address space.

    :param addr: virtual address of the first page, unsigned.
    :param size: bytes mapped, without the guard page.
    """

    addr: int
    size: int
    _count: Callable[[NDArray[Any]], Cost] = field(repr=False)
    _list_leaves: Callable[[], NDArray[Any]] = field(repr=False)
    _list_events: Callable[[], list[Event]] = field(repr=False)
    _leaves: NDArray[Any] | None = field(default=None, repr=False)
    _cost: Cost | None = field(default=None, repr=False)

    @property
    def cost(self) -> Cost:
        """Counters of the call that made it."""
        if self._cost is None:
            self._cost = self._count(self.leaves)
        return self._cost

    @property
    def events(self) -> list[Event]:
        """What happened, in order, if the kernel records."""
        return self._list_events()

    @property
    def leaves(self) -> NDArray[Any]:
        """The leaves as the MMU saw them when the mapping was made: ``LEAF_DTYPE``, ascending ``va``.

        Read from the table memory when first asked for, or when the mapping is removed.
        """
        if self._leaves is None:
            self._leaves = self._list_leaves()
        return self._leaves
