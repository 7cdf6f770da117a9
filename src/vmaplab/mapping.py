# SPDX-License-Identifier: GPL-2.0-only
"""What calls return: a mapping, an area, what a reader gets, what set_memory_*() would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.cost.counters import Cost
from vmaplab.trace import Event

LEAF_DTYPE = np.dtype([("va", "<u8"), ("size", "<u8"), ("pfn", "<u8")])
"""One leaf: virtual address, bytes, first PFN."""
_SHOWN = 10


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

    def _repr_html_(self) -> str:
        """For notebooks: where it is, its first leaves, its counters."""
        leaves = self.leaves
        rows = "".join(
            f"<tr><td>{va:#x}</td><td>{size >> 10} KiB</td><td>{pfn:#x}</td></tr>"
            for va, size, pfn in leaves[:_SHOWN].tolist()
        )
        more = f"<tr><td colspan=3>... and {len(leaves) - _SHOWN} more</td></tr>" * (len(leaves) > _SHOWN)
        cost = "".join(f"<tr><td>{name}</td><td>{count}</td></tr>" for name, count in dict(self.cost).items())
        return (
            f"<p>{self.cost.pages} pages ({self.size >> 10} KiB) at <code>{self.addr:#x}</code></p>"
            f"<table><tr><th>address</th><th>leaf</th><th>first PFN</th></tr>{rows}{more}</table>"
            f"<table><tr><th>cost</th><th></th></tr>{cost}</table>"
        )


@dataclass(frozen=True)
class VmArea:
    """``struct vm_struct``: an area of address space, addresses as unsigned ints.

    :param addr: first address.
    :param size: bytes, the guard page included.
    :param flags: ``VM_*``.
    :param pages: the pages that the area owns, if any, as PFNs.
    :param pages_addr: address of the page array of a ``vmalloc`` area, if that is in vmalloc space itself.
    :param order: log2 of the pages of its chunks.
    :param phys: physical address of what ``ioremap()`` maps, or None.
    :param allocated: its pages came from the page allocator, though vmalloc() did not ask for them.
    :param together: the areas of one ``pcpu_get_vm_areas()``, itself among them, or None.
    """

    addr: int
    size: int
    flags: int
    pages: NDArray[np.uint64] | None = None
    pages_addr: int = 0
    order: int = 0
    phys: int | None = None
    allocated: bool = False
    together: VmAreas | None = field(default=None, compare=False, repr=False)

    @property
    def end(self) -> int:
        """First address after the area and its guard page."""
        return self.addr + self.size


@dataclass(frozen=True)
class VmAreas:
    """Areas that were taken together.

    :param areas: in the order in which they were asked for.
    """

    areas: tuple[VmArea, ...]

    @property
    def addr(self) -> int:
        """Of the first one that was asked for."""
        return self.areas[0].addr


ZEROES = -1


class Part(NamedTuple):
    """A part of what is read.

    :param at: first byte of it in the reader's buffer.
    :param size: bytes.
    :param phys: physical address that it is copied from, or ZEROES.
    """

    at: int
    size: int
    phys: int


def parts_of(parts: list[tuple[int, int]]) -> list[Part]:
    """Parts of (bytes, physical address) one behind the other, those that continue the last one joined to it."""
    found: list[Part] = []
    at = 0
    for size, phys in parts:
        last = found[-1] if found else None
        if last and (phys == last.phys == ZEROES or (last.phys != ZEROES and phys == last.phys + last.size)):
            found[-1] = last._replace(size=last.size + size)
        elif size:
            found.append(Part(at, size, phys))
        at += size
    return found


class Hazard(NamedTuple):
    """A leaf that is larger than a page and that the range touches in a way that matters.

    :param va: its virtual address; ``size`` in bytes; ``pfn`` its first page frame.
    :param pages: how many of its pages are in the range.
    :param outcome: ``split``, ``refused``, ``whole`` (all of it changes) or ``torn`` (entries of a group differ).
    :param safe: whether every address keeps one right translation throughout.
    :param text: the same in words.
    """

    va: int
    size: int
    pfn: int
    pages: int
    outcome: str
    safe: bool
    text: str


@dataclass(frozen=True)
class SetMemory:
    """The outcome for a range.

    :param errno: what the call returns, positive; 0 if it succeeds.
    :param why: why it does not, or "".
    :param oops: the kernel follows a NULL pointer instead of returning.
    :param hazards: the leaves concerned, ascending.
    :param unmapped: pages of the range that nothing maps.
    """

    errno: int
    why: str
    oops: bool
    hazards: tuple[Hazard, ...]
    unmapped: int
