# SPDX-License-Identifier: GPL-2.0-only
"""Page arrays as the dma-buf system heap allocates them from a buddy allocator.

``Buddy`` is one zone of the page allocator: blocks of order 0 to 10, split on allocation, coalesced on
free. ``system_heap`` is the policy of drivers/dma-buf/heaps/system_heap.c: the largest of the
orders 8, 4, 0 that fits what is left, and never a larger order again after a failure.

A live machine has more than one client of its page allocator. The heap therefore takes turns with others
(``clients``): with two, its order-8 blocks have foreign blocks between them; with one, blocks taken
from an unfragmented zone follow each other and make longer runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab._jit import jit
from vmaplab.arch import Arch
from vmaplab.errors import InputError
from vmaplab.pgtable.geometry import i64
from vmaplab.trace import Ints

MAX_PAGE_ORDER = 10
ORDERS = (8, 4, 0)
NONE = -1
DEFAULT_ZONE_PAGES = 1 << 18  # what vmalloc() takes its pages from, if total_pages does not say
_MANY = 16  # of the largest blocks, for a zone to have those
_SPARE = 4096  # pages that are kept beyond what is needed
MAX_ZONE_PAGES = 1 << 22  # a page costs the simulated allocator 9 bytes of ours


class Zone(NamedTuple):
    """The free lists of a zone; pages are numbered from ``first``."""

    first: int
    next: NDArray[np.int32]
    prev: NDArray[np.int32]
    order: NDArray[np.int8]  # order of the free block that starts here, or NONE
    head: Ints  # first free block of each order, or NONE
    free: Ints  # shape (1,): free pages


@jit
def _push(zone: Zone, page: int, order: int) -> None:
    """``__add_to_free_list()``, at the head."""
    after = zone.head[order]
    zone.next[page], zone.prev[page] = after, NONE
    if after != NONE:
        zone.prev[after] = page
    zone.head[order] = page
    zone.order[page] = order


@jit
def _pop(zone: Zone, page: int) -> None:
    """``__del_page_from_free_list()``."""
    before, after = zone.prev[page], zone.next[page]
    if before != NONE:
        zone.next[before] = after
    else:
        zone.head[zone.order[page]] = after
    if after != NONE:
        zone.prev[after] = before
    zone.order[page] = NONE


@jit
def alloc_block(zone: Zone, order: int) -> int:
    """``__rmqueue_smallest()``: the number of the first page of a block, or NONE."""
    for current in range(order, len(zone.head)):
        page = i64(zone.head[current])
        if page != NONE:
            _pop(zone, page)
            while current > order:  # expand(): the upper halves go back
                current -= 1
                _push(zone, page + (1 << current), current)
            zone.free[0] -= 1 << order
            return page
    return NONE


@jit
def free_block(zone: Zone, page: int, order: int) -> None:
    """``__free_one_page()``: coalesce with free buddies as far as that goes."""
    zone.free[0] += 1 << order
    pages = len(zone.order)
    while order < len(zone.head) - 1:
        buddy = ((page + zone.first) ^ (1 << order)) - zone.first
        if buddy < 0 or buddy + (1 << order) > pages or zone.order[buddy] != order:
            break
        _pop(zone, buddy)
        page = min(page, buddy)
        order += 1
    _push(zone, page, order)


@jit
def free_pages(zone: Zone, pfns: Ints) -> None:
    """Free single pages, in order."""
    for pfn in pfns:
        free_block(zone, pfn - zone.first, 0)


@jit
def fill_zone(zone: Zone) -> None:
    """Free all memory, as ``memblock_free_all()`` does; lowest addresses first in each list."""
    page = len(zone.order)
    while page > 0:
        order = len(zone.head) - 1
        while (page + zone.first) & ((1 << order) - 1) or page < 1 << order:
            order -= 1
        page -= 1 << order
        zone.free[0] += 1 << order
        _push(zone, page, order)


@jit
def alloc_pages(zone: Zone, order: int, out: Ints) -> int:
    """Fill ``out`` with PFNs of blocks of ``order``; returns how many pages were filled."""
    filled = 0
    while filled < len(out):
        page = alloc_block(zone, order)
        if page == NONE:
            break
        for offset in range(1 << order):
            out[filled + offset] = zone.first + page + offset
        filled += 1 << order
    return filled


@jit
def system_heap(zone: Zone, orders: Ints, clients: int, start: int, out: Ints, stop: int, state: Ints) -> int:
    """Fill ``out[start:stop]`` for the first of ``clients`` that take turns; returns where it stopped.

    ``state`` keeps each client's ``max_order`` index and pages left, shape (2 * clients,), between calls.
    """
    filled = start
    while filled < stop:
        for client in range(clients):
            left = state[2 * client + 1]
            page = NONE
            while left > 0 and state[2 * client] < len(orders):  # alloc_largest_available()
                order = orders[state[2 * client]]
                if left >= 1 << order:
                    page = alloc_block(zone, order)
                    if page != NONE:
                        break
                state[2 * client] += 1
            if page == NONE:
                if client == 0:
                    return filled
                continue
            state[2 * client + 1] -= 1 << order
            if client == 0:
                for offset in range(1 << order):
                    out[filled + offset] = zone.first + page + offset
                filled += 1 << order
    return filled


@jit
def free_blocks(zone: Zone, starts: Ints, orders: NDArray[np.int8]) -> None:
    """Put blocks, none of which has a free buddy, on the lists of a zone; the last ones come first."""
    for index in range(len(starts)):
        order = i64(orders[index])
        _push(zone, starts[index], order)
        zone.free[0] += 1 << order


class Buddy:
    """A zone of the page allocator, all free at first.

    :param first: PFN of the first page; ``filled``: False, if nothing is free yet.
    :param pages: how many pages the zone has.
    :param max_order: MAX_PAGE_ORDER, the largest block.
    :ivar handed: what :meth:`alloc_pages` gave, if somebody put a list here.
    :ivar most: how many pages can be in use at a time; ``largest``: the largest order that can be had, if not all.
    """

    handed: list[NDArray[np.uint64]] | None = None
    most = 1 << 62
    largest: int | None = None

    def __init__(self, first: int, pages: int, max_order: int = MAX_PAGE_ORDER, filled: bool = True) -> None:
        self.zone = Zone(
            first=first,
            next=np.full(pages, NONE, dtype=np.int32),
            prev=np.full(pages, NONE, dtype=np.int32),
            order=np.full(pages, NONE, dtype=np.int8),
            head=np.full(max_order + 1, NONE, dtype=np.int64),
            free=np.zeros(1, dtype=np.int64),
        )
        if filled:
            fill_zone(self.zone)

    def copy(self) -> Buddy:
        """Another zone in the same state."""
        other = Buddy.__new__(Buddy)
        other.most, other.largest = self.most, self.largest
        zone = self.zone
        other.zone = Zone(
            zone.first, zone.next.copy(), zone.prev.copy(), zone.order.copy(), zone.head.copy(), zone.free.copy()
        )
        return other

    def limit(self, most: int, largest: int | None = None) -> None:
        """Let at most ``most`` pages be in use, in blocks of any order, or of ``largest`` at most.

        :raises InputError: if there are no such blocks.
        """
        orders = len(self.zone.head) - 1
        if largest is not None and largest > orders:
            raise InputError(f"there are no blocks of order {largest}: MAX_PAGE_ORDER is {orders}")
        self.most, self.largest = most, largest

    @property
    def free(self) -> int:
        """Free pages."""
        return int(self.zone.free[0])

    def alloc_pages(self, order: int, count: int, nofail: bool = False) -> NDArray[np.uint64]:
        """``count`` pages in blocks of ``order``; fewer if the zone runs out. Shape (n,), PFNs.

        :param nofail: with __GFP_NOFAIL: only the zone is the limit.
        """
        there = max(self.most - self.taken, 0) if self.largest is None or order <= self.largest else 0
        there = count if nofail else there
        out = np.zeros(min(count, there & -(1 << order)), dtype=np.int64)
        pages = out[: alloc_pages(self.zone, order, out)].view(np.uint64)
        if self.handed is not None:
            self.handed.append(pages)
        return pages

    def spans(self, pfn: int, count: int) -> bool:
        """Whether ``count`` pages from ``pfn`` on lie in the zone."""
        first = int(self.zone.first)
        return first <= pfn and pfn + count <= first + len(self.zone.order)

    def free_pages(self, pfns: NDArray[np.uint64]) -> None:
        """Free ``pfns`` page by page, as ``vfree()`` does."""
        free_pages(self.zone, pfns.view(np.int64))

    @property
    def taken(self) -> int:
        """Pages that are in use."""
        return len(self.zone.order) - self.free

    def unusable_index(self, order: int) -> float:
        """Share of the free memory that cannot serve an allocation of ``order``: 0 to 1.

        The "unusable free space index" of /sys/kernel/debug/extfrag.
        """
        heads = self.zone.order[self.zone.order != NONE].astype(np.int64)
        usable = int((1 << heads[heads >= order]).sum())
        return 1 - usable / self.free if self.free else 0.0


def zone_of_blocks(first: int, counts: Sequence[int], seed: int) -> Buddy:
    """A zone with so many free blocks of each order, as /proc/buddyinfo counts them; all else is in use.

    Where they lie, and which is taken first, is drawn: no file tells. Each has its buddy in use beside it, the largest
    ones, too.

    :param first: PFN of the first page, a multiple of the pages of two of the largest blocks.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    order = np.repeat(np.arange(len(counts) - 1, -1, -1), list(reversed(counts)))
    slots = np.int64(2) << order  # the largest first, so that each is aligned
    starts = np.cumsum(slots) - slots + (rng.integers(0, 2, len(order)) << order)
    buddy = Buddy(first, int(slots.sum()), len(counts) - 1, filled=False)
    taken = rng.permutation(len(order))
    free_blocks(buddy.zone, starts[taken], order[taken].astype(np.int8))
    return buddy


def fragmented(pages: int, fragmentation: float, pageblock: int = ORDERS[0]) -> list[int]:
    """Free blocks of each order in a zone with ``pages`` free, a share of which lies in blocks below ``pageblock``.

    The rest lies in blocks of MAX_PAGE_ORDER, or of ``pageblock`` in a small zone. The larger the share, the smaller
    its blocks: where one page of every 2^(n+1) stays in use, there is one free block of each order up to n, and n goes
    from ``pageblock`` - 1 down to 0: single pages, which is all that there is with 1.
    """
    counts = [0] * (MAX_PAGE_ORDER + 1)
    largest = min(math.floor((1 - fragmentation) * pageblock), pageblock - 1)
    block = MAX_PAGE_ORDER if pages >= _MANY << MAX_PAGE_ORDER else pageblock
    counts[block] = round((1 - fragmentation) * pages / (1 << block))
    units, rest = divmod(max(pages - (counts[block] << block), 0), (2 << largest) - 1)
    for order in range(largest + 1):
        counts[order] += units + (rest >> order & 1)
    return counts


def enough(counts: Sequence[int], pages: int, orders: Sequence[int]) -> list[int]:
    """As many of the free blocks as ``pages`` can need, if ``orders`` are tried: a machine has more than can matter."""
    kept, need = [0] * len(counts), pages + _SPARE
    for order, above in zip(orders, (len(counts), *orders), strict=False):
        for size in range(order, above):
            kept[size] = min(counts[size], -(-need >> size))
            need = max(need - (kept[size] << size), _SPARE)
    return kept


class Taken(NamedTuple):
    """A buffer.

    :param pfns: its pages.
    :param blocks: the free blocks of each order that there were; None in a fresh zone.
    """

    pfns: NDArray[np.uint64]
    blocks: Sequence[int] | None


def allocate(
    pages: int,
    ram_base_pfn: int,
    fragmentation: float = 0.0,
    seed: int = 0,
    orders: tuple[int, ...] = ORDERS,
    clients: int = 2,
    blocks: Sequence[int] | None = None,
) -> Taken:
    """The pages of one system-heap buffer, in the order of its scatterlist: PFNs, shape (``pages``,).

    :param fragmentation: share of the zone's free memory in blocks smaller than order 8, 0 to 1: see
        :func:`fragmented`; 0: the zone is fresh.
    :param blocks: free blocks of each order that the zone has, instead.
    :param orders: what the heap tries, largest first.
    :param clients: how many clients allocate in turn, each a buffer of the same size.
    :raises InputError: if a value is out of range.
    """
    if not 0 <= fragmentation <= 1:
        raise InputError(f"fragmentation is {fragmentation}; it goes from 0 to 1")
    if not orders or list(orders) != sorted(set(orders), reverse=True) or not 0 <= orders[-1] <= orders[0] <= 10:
        raise InputError(f"orders are {'/'.join(map(str, orders))}; write descending numbers from 10 to 0")
    if orders[-1] != 0 and pages % (1 << orders[-1]):
        raise InputError(f"{pages} pages cannot be made of blocks of order {orders[-1]}; end the orders with 0")
    if not 1 <= clients <= 64:
        raise InputError(f"clients is {clients}; it goes from 1 to 64")
    most = clients * pages
    if blocks is not None and (free := sum(count << order for order, count in enumerate(blocks))) < most:
        raise InputError(f"the zone has {free} free pages, and {clients} clients want {pages} each")
    if blocks is None and fragmentation:
        blocks = fragmented(most, fragmentation, max(orders[0], ORDERS[0]))
    if blocks is None:
        buddy = Buddy(ram_base_pfn, -(-most // 1024) * 1024)
    else:
        buddy = zone_of_blocks(ram_base_pfn, enough(blocks, most, orders), seed)
    out = np.zeros(pages, dtype=np.int64)
    state = np.array([0, pages] * clients, dtype=np.int64)
    levels = np.array(orders, dtype=np.int64)
    filled = system_heap(buddy.zone, levels, clients, 0, out, pages, state)
    if filled < pages:
        raise InputError(
            f"the zone is too fragmented for orders {'/'.join(map(str, orders))}: {filled} of {pages} pages; "
            "end the orders with 0 or lower the fragmentation"
        )
    return Taken(out.view(np.uint64), blocks)


def zone_of(arch: Arch, total_pages: int | None) -> Buddy:
    """The page allocator that vmalloc() takes its pages from, all free."""
    first = 0 if total_pages else arch.ram_base >> arch.page_shift
    room = (1 << (arch.phys_bits - arch.page_shift)) - first
    return _free_zone(first, min(total_pages or DEFAULT_ZONE_PAGES, MAX_ZONE_PAGES, room), arch.max_page_order).copy()


@lru_cache(maxsize=2)
def _free_zone(first: int, pages: int, max_order: int) -> Buddy:
    return Buddy(first, pages, max_order)
