"""What a call that maps returns: where, what, at what cost, and in which order it happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.cost import Cost
from vmaplab.pgtable.geometry import Ints, unsigned
from vmaplab.pgtable.memory import L_FLUSH_TLB, L_STORE, L_TABLE_ALLOC, L_TABLE_FREE

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
}


def events_of(log: Ints) -> list[Event]:
    """The events of a walker's log, shape (n, 4)."""
    return [Event(_KINDS[kind], unsigned(addr), unsigned(value), size) for kind, addr, value, size in log.tolist()]


@dataclass
class Mapping:
    """A mapping in kernel address space.

    :param addr: virtual address of the first page, unsigned.
    :param size: bytes mapped, without the guard page.
    :param cost: counters of the call that made it.
    :param events: what happened, in order, if the kernel records.
    """

    addr: int
    size: int
    cost: Cost
    events: list[Event]
    _list_leaves: Callable[[], NDArray[Any]] = field(repr=False)
    _leaves: NDArray[Any] | None = field(default=None, repr=False)

    @property
    def leaves(self) -> NDArray[Any]:
        """The leaves as the MMU saw them when the mapping was made: ``LEAF_DTYPE``, ascending ``va``.

        Read from the table memory when first asked for, or when the mapping is removed.
        """
        if self._leaves is None:
            self._leaves = self._list_leaves()
        return self._leaves
