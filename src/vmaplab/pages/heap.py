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
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab._jit import allocating, jit
from vmaplab.arch import Arch
from vmaplab.errors import InputError
from vmaplab.pgtable.geometry import i64
from vmaplab.trace import Ints

MAX_PAGE_ORDER = 10
ORDERS = (8, 4, 0)
NONE = -1
DEFAULT_ZONE_PAGES = 1 << 18  # what vmalloc() takes its pages from, if total_pages does not say
MAX_ZONE_PAGES = 1 << 22  # a page costs the simulated allocator 9 bytes of ours
FREED_SHARE = 0.32  # measured: of a pageblock whose first allocation stays and of whose others every second one does


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


@allocating
def age_zone(zone: Zone, pageblock: int, orders: Ints, keep: NDArray[np.bool_], whole: NDArray[np.bool_]) -> None:
    """Allocate all of ``zone`` in blocks of the given orders, in turn, then free part of them again.

    :param pageblock: log2 of the pages of a pageblock; a multiple of it is the zone's size.
    :param keep: whether the allocation at a page stays, if its pageblock is not ``whole``; the first one of such
        a pageblock always does, so that it never becomes one free block again.
    :param whole: per pageblock, whether everything in it is freed.
    """
    pages = len(zone.order)
    taken = np.full(pages, NONE, dtype=np.int8)
    index = 0
    while zone.free[0] > 0:
        order = orders[index % len(orders)]
        page = alloc_block(zone, order)
        while page == NONE:
            order -= 1
            page = alloc_block(zone, order)
        taken[page] = order
        index += 1
    for page in range(pages):
        kept = keep[page % len(keep)] or page & ((1 << pageblock) - 1) == 0
        if taken[page] != NONE and (whole[page >> pageblock] or not kept):
            free_block(zone, page, i64(taken[page]))


class Buddy:
    """A zone of the page allocator, all free at first.

    :param first: PFN of the first page.
    :param pages: how many pages the zone has.
    :param max_order: MAX_PAGE_ORDER, the largest block.
    :ivar handed: what :meth:`alloc_pages` gave, if somebody put a list here.
    :ivar most: how many pages can be in use at a time; ``largest``: the largest order that can be had, if not all.
    """

    handed: list[NDArray[np.uint64]] | None = None
    most = 1 << 62
    largest: int | None = None

    def __init__(self, first: int, pages: int, max_order: int = MAX_PAGE_ORDER) -> None:
        self.zone = Zone(
            first=first,
            next=np.full(pages, NONE, dtype=np.int32),
            prev=np.full(pages, NONE, dtype=np.int32),
            order=np.full(pages, NONE, dtype=np.int8),
            head=np.full(max_order + 1, NONE, dtype=np.int64),
            free=np.zeros(1, dtype=np.int64),
        )
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


def make_zone(ram_base_pfn: int, pages: int, fragmentation: float, seed: int, pageblock: int = ORDERS[0]) -> Buddy:
    """A zone with at least ``pages`` free, of which the share ``fragmentation`` lies in blocks below ``pageblock``.

    With 0 the zone is fresh. Otherwise it is filled with blocks of mixed orders and freed again in
    part: some pageblocks wholly, of the others about one allocation in two.
    """
    block = 1 << pageblock
    if fragmentation == 0:
        return Buddy(ram_base_pfn, -(-pages // 1024) * 1024)
    whole_blocks = round((1 - fragmentation) * pages / block)
    half_blocks = math.ceil((pages - whole_blocks * block) / (FREED_SHARE * block))
    while True:
        rng = np.random.Generator(np.random.PCG64(seed))
        blocks = whole_blocks + half_blocks
        buddy = Buddy(ram_base_pfn, blocks * block)
        whole = np.zeros(blocks, dtype=np.bool_)
        whole[rng.permutation(blocks)[:whole_blocks]] = True
        sample = min(blocks * block, 1 << 20)
        orders = rng.integers(0, pageblock, size=sample, dtype=np.int64)
        keep = rng.random(sample) < 0.5
        age_zone(buddy.zone, pageblock, orders, keep, whole)
        if buddy.free >= pages:
            return buddy
        half_blocks += half_blocks // 20 + 1  # chance freed less than expected: a slightly larger zone


def allocate(
    pages: int,
    ram_base_pfn: int,
    fragmentation: float = 0.0,
    seed: int = 0,
    orders: tuple[int, ...] = ORDERS,
    clients: int = 2,
) -> NDArray[np.uint64]:
    """The pages of one system-heap buffer, in the order of its scatterlist: PFNs, shape (``pages``,).

    :param fragmentation: share of the zone's free memory in blocks smaller than order 8, 0 to 1.
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
    buddy = make_zone(ram_base_pfn, clients * pages, fragmentation, seed, max(orders[0], ORDERS[0]))
    out = np.zeros(pages, dtype=np.int64)
    state = np.array([0, pages] * clients, dtype=np.int64)
    levels = np.array(orders, dtype=np.int64)
    filled = system_heap(buddy.zone, levels, clients, 0, out, pages, state)
    if filled < pages:
        raise InputError(
            f"the zone is too fragmented for orders {'/'.join(map(str, orders))}: {filled} of {pages} pages; "
            "end the orders with 0 or lower the fragmentation"
        )
    return out.view(np.uint64)


def zone_of(arch: Arch, total_pages: int | None) -> Buddy:
    """The page allocator that vmalloc() takes its pages from, all free."""
    first = 0 if total_pages else arch.ram_base >> arch.page_shift
    room = (1 << (arch.phys_bits - arch.page_shift)) - first
    return _free_zone(first, min(total_pages or DEFAULT_ZONE_PAGES, MAX_ZONE_PAGES, room), arch.max_page_order).copy()


@lru_cache(maxsize=2)
def _free_zone(first: int, pages: int, max_order: int) -> Buddy:
    return Buddy(first, pages, max_order)
