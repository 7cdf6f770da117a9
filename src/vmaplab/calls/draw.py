# SPDX-License-Identifier: GPL-2.0-only
"""Steps at random, for one architecture: their arguments, short sequences and long ones of all calls."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vmaplab.arch import Arch
from vmaplab.calls.effects import Ends, Maps, Reserves
from vmaplab.calls.flags import VM_FLUSH_RESET_PERMS, VM_MAP, VM_NO_GUARD
from vmaplab.calls.kinds import merged
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.table import STEPS, Call
from vmaplab.config import BOOT_ARGS
from vmaplab.pages.runs import Pfns, array_of
from vmaplab.pfn import NULL_PFN
from vmaplab.vmalloc.area import LAZY_MAX_BYTES

UNALIGNED = "range to no page"
"""Among the calls that a generator can be without: vmap_page_range() whose end is not page-aligned."""

OF_A_PUD = "range of a PUD"
"""Likewise: vmap_page_range() of a whole PUD, which can need hundreds of tables."""

WINDOW = "vmalloc in a window"
"""Likewise: what can fail for want of addresses, between given ones or in all: the tree's own allocator can tell."""

TAKE = {call.word: call for call in STEPS.values() if isinstance(call, Call) and call.weight}
"""The calls that take address space."""


def ender_of(word: str) -> Call:
    """The call that ends what the step ``word`` has begun."""
    effect = TAKE[word].effect
    assert isinstance(effect, Maps | Reserves)
    ender = STEPS[effect.ends]
    assert isinstance(ender, Call)
    return ender


@dataclass
class Options:
    """What is drawn.

    :param arch: the architecture.
    :param seed: any whole number.
    :param pages: pages of a usual array; some are larger.
    :param only_vmap: no calls but vmap() and those that prepare and undo it.
    :param calls: so many calls of all kinds, as a machine makes them that runs for a while; 0 for short scenarios.
    :param cpus: the CPUs that make them in turn.
    :param without: calls that are not made.
    :param arrays_first: begin with the arrays that tell policies apart.
    :param short: short scenarios alone.
    """

    arch: Arch
    seed: int
    pages: int = 256
    only_vmap: bool = False
    calls: int = 0
    cpus: int = 1
    without: frozenset[str] = frozenset()
    arrays_first: bool = True
    short: bool = False
    boot_args: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.cpus == 1:  # the per-CPU allocator is another one without SMP
            self.without |= {"percpu"}
        self.boot_args = (*(BOOT_ARGS if self.arch.huge_vmap else ("",)), *self.arch.boot_args)


class Draw:
    """One scenario that is being drawn: a :class:`~vmaplab.calls.kinds.Source`.

    :ivar large: whether a vmalloc() may be so large that its page array is vmalloc'ed too.
    """

    def __init__(self, of: Options, rng: random.Random) -> None:
        self._of, self.rng, self._arch = of, rng, of.arch
        self.pages, self.frames = of.pages, of.arch.addressable_pages
        self.start, self.page = of.arch.vmalloc_start, of.arch.page_size
        self.block = 1 << (of.arch.levels[1].shift - of.arch.page_shift)
        self.large = True
        self._lazy = of.cpus.bit_length() * LAZY_MAX_BYTES >> of.arch.page_shift  # lazy_max_pages()

    def scenario(self) -> Scenario:
        """A short one, or with ``calls`` a long one."""
        if self._of.calls:
            return self._mixed()
        rng = self.rng
        boot_args = rng.choice(self._of.boot_args) if rng.random() < 0.1 else ""
        total_pages = 1 << 18 if rng.random() < 0.3 else None
        steps: list[Operation] = []
        kinds: list[str] = []  # what each step began: its call while it is mapped, "" otherwise

        def add(step: Operation, kind: str = "") -> None:
            steps.append(step)
            kinds.append(kind)

        if rng.random() < 0.5:
            add(Operation("area", pages=self.some_pages(), flags=VM_MAP), "area")
        if rng.random() < 0.1:  # so much address space that freeing it, or what follows, starts the purge
            add(Operation("area", pages=self._lazy - rng.randrange(self.pages), flags=VM_MAP), "area")
            if rng.random() < 0.8:
                add(Operation("vunmap", len(steps) - 1))
                kinds[-2] = ""
        if rng.random() < 0.12:
            add(Operation("tables", pages=rng.randrange(8)))
        calls = 1 if rng.random() < 0.7 else rng.randrange(2, 10)
        for _ in range(calls):
            self._step(add, steps, kinds, total_pages or self.frames)
        for step, kind in enumerate(kinds):
            if kind and rng.random() < (0.2 if kind == "area" else 0.8):
                add(self._end(step, kind, steps[step]))
        return Scenario(tuple(steps), boot_args, total_pages)

    def _step(self, add: Callable[..., None], steps: list[Operation], kinds: list[str], limit: int) -> None:
        rng, only_vmap = self.rng, self._of.only_vmap
        roll = rng.random()
        mapped = [number for number, kind in enumerate(kinds) if kind]
        if roll < 0.15 and mapped:
            number = rng.choice(mapped)
            if kinds[number] == "area" and not only_vmap and rng.random() < 0.7:
                self._into_area(add, number, steps[number].pages, limit)
            else:
                add(self._end(number, kinds[number], steps[number]))
                kinds[number] = ""
        elif roll < 0.2 and mapped:
            add(Operation("lookup", rng.choice(mapped), rng.randrange(self.pages)))
        elif roll < 0.24:
            add(Operation("area", pages=self.some_pages(), flags=VM_MAP), "area")
        elif roll < 0.27 and not only_vmap:
            add(Operation("tables", pages=rng.randrange(12)))
        elif roll < 0.34 and not only_vmap:
            add(self._taking("vmalloc", limit), "vmalloc")
        elif roll < 0.42 and not only_vmap:
            add(self._taking("ioremap", limit), "ioremap")
        else:
            flags = VM_MAP
            if rng.random() < 0.02:
                flags |= rng.choice((VM_FLUSH_RESET_PERMS, VM_NO_GUARD))
            add(Operation("vmap", pfns=self.array(limit), flags=flags), "vmap")

    def _taking(self, word: str, limit: int) -> Operation:
        """A step that takes address space, its arguments at random."""
        fields: dict[str, Any] = {}
        for kind in TAKE[word].form:
            fields = merged(fields, kind.draw(self, limit))
        if WINDOW in self._of.without and word == "vmalloc":
            fields |= {"addr": 0, "pfn": 0}
        return Operation(word, **fields)

    def _end(self, number: int, word: str, step: Operation) -> Operation:
        """The step that ends what step ``number`` has begun; now and then by another page of the area."""
        ender = ender_of(word)
        if isinstance(ender.effect, Ends) and ender.effect.counted:
            assert step.pfns is not None
            return Operation(ender.word, number, pages=len(step.pfns))
        return Operation(ender.word, number, 1 if self.rng.random() < 0.02 else 0)

    # -- as a machine makes them that runs for a while ----------------------------------------------

    def _mixed(self) -> Scenario:
        """Calls of all kinds, of which up to a dozen mappings stay at a time."""
        rng, of = self.rng, self._of
        boot_args = rng.choice(of.boot_args) if rng.random() < 0.1 else ""
        total_pages = 1 << 18
        steps: list[Operation] = []
        live: dict[int, str] = {}
        gone: list[int] = []
        words = [word for word in TAKE if word not in of.without]
        weights = [TAKE[word].weight for word in words]
        # Freeing twice can free the page array of a large vmalloc() that is in use: what that does is not defined.
        self.large = rng.random() < 0.5
        if rng.random() < 0.3:  # so much address space that what follows starts the purge
            steps += [Operation("area", pages=self._lazy - rng.randrange(2 * self.pages), flags=VM_MAP)]
            steps += [Operation("vunmap", 0)]
        while len(steps) < of.calls:
            if of.cpus > 1 and rng.random() < 0.3:
                steps.append(Operation("cpu", pages=rng.randrange(of.cpus)))
            roll = rng.random()
            if live and roll < (0.2 if len(live) < 12 else 0.8):
                chosen = rng.choice(list(live))
                steps.append(self._end(chosen, live.pop(chosen), steps[chosen]))
                gone.append(chosen)
            elif live and roll < 0.4:
                steps += self._look_or_change(live, steps, total_pages)
            elif roll < 0.44:
                steps.append(self._wrong([] if self.large else gone))
            elif roll < 0.49:
                steps.append(Operation(rng.choice([word for word in ("aliases", "info") if word not in of.without])))
            elif roll < 0.5:  # memory is short for a while
                steps.append(Operation("tables", pages=rng.choice((rng.randrange(30), 1 << 20, 1 << 20))))
            else:
                (word,) = rng.choices(words, weights)
                live[len(steps)] = word
                steps.append(self._taking(word, total_pages))
        return Scenario(tuple(steps), boot_args, total_pages)

    def _look_or_change(self, live: dict[int, str], steps: list[Operation], limit: int) -> list[Operation]:
        """A call about a mapping that stays."""
        rng, without = self.rng, self._of.without
        number = rng.choice(list(live))
        step = steps[number]
        if live[number] == "percpu":
            return [Operation(rng.choice(("lookup", "dump")), number, rng.randrange(step.length))]
        if live[number] == "area":
            if "map_pages" in without:
                return [Operation("lookup", number, rng.randrange(step.pages))]
            offset = rng.randrange(step.pages)
            pages = rng.randint(1, min(step.pages - offset, 64) + (rng.random() < 0.1))
            if rng.random() < 0.3:
                return [Operation("unmap_pages", number, offset, pages=pages)]
            return [Operation("map_pages", number, offset, pfns=self.array(limit)[:pages])]
        offset = rng.randrange(step.length + 1)
        if rng.random() < 0.5 or "vread" in without:
            return [Operation(rng.choice(("lookup", "lookup", "dump")), number, offset)]
        if rng.random() < 0.25:
            return [self._remapped(number, offset)]
        more = 8 * rng.randrange(1, self.page // 8) if rng.random() < 0.3 else 0
        return [Operation("vread", number, offset, pages=rng.randrange(1, 2 * self.pages), flags=more)]

    def _remapped(self, number: int, offset: int) -> Operation:
        """A process maps part of an area; now and then more than there is."""
        pages, rng = self.rng.choice((1, 2, 16, 1 << 40, (1 << 52) - 3)), self.rng
        first = rng.choice((0, 0, 1, 3, offset, 1 << 52, (1 << 52) - 1))
        return Operation("remap", number, rng.choice((0, 0, 0, offset)), pages=pages, pfn=first)

    def _wrong(self, gone: list[int]) -> Operation:
        """A call that frees what is not there, or not any more."""
        rng, arch = self.rng, self._arch
        call = rng.choice(("vunmap", "vfree"))
        if gone and rng.random() < 0.6:
            return Operation(call, rng.choice(gone))
        return Operation(call, addr=rng.choice((0x1000, arch.vmalloc_end + 1 & -arch.page_size, 0x1234)))

    def _into_area(self, add: Callable[..., None], number: int, room: int, limit: int) -> None:
        """Walker calls into a reserved area, not always once per entry."""
        rng, arch = self.rng, self._arch
        offset = rng.randrange(room)
        pages = rng.randrange(1, room - offset + 1)
        roll = rng.random()
        if roll < 0.4:
            shift = arch.page_shift
            pfns = self.array(limit)[:pages]
            if rng.random() < 0.4:  # chunks of a larger shift, as huge vmalloc hands them over
                order = rng.choice((1, 2, 4, arch.levels[1].bits))
                chunks = pages >> order
                if not chunks:
                    return
                offset &= -(1 << order)
                shift += order
                firsts = [self.frame(limit - (1 << order)) & -(1 << order) for _ in range(chunks)]
                pfns = array_of([(first, 1 << order) for first in firsts])
            add(Operation("map", number, offset, pfns=pfns, flags=shift))
        elif roll < 0.7:
            first = self.frame(limit - pages) & -(1 << rng.randrange(12))
            add(Operation("range", number, offset, pages=pages, pfn=first))
        else:
            add(Operation("unrange", number, offset, pages=pages))

    # -- arguments ----------------------------------------------------------------------------------

    def some_pages(self) -> int:
        """A number of pages, some of them around the size of a block."""
        rng = self.rng
        roll = rng.random()
        if roll < 0.1:
            return (
                self.block * rng.randrange(1, 3) + rng.randrange(-2, 3) if self.block <= 2048 else rng.randrange(1, 99)
            )
        if roll < 0.3:
            return 1 << rng.randrange(self.pages.bit_length())
        return rng.randrange(1, self.pages + 1)

    def frame(self, limit: int) -> int:
        """A page frame, most times one of memory that ends before ``limit``."""
        rng = self.rng
        roll = rng.random()
        if roll < 0.05:
            return rng.randrange(64)
        if roll < 0.1:
            return max(limit - rng.randrange(1, 2 * self.pages), 0)
        if roll < 0.2:
            return rng.randrange(max(limit, 1))
        return (1 << 16) + rng.randrange(1 << 17)

    def aligned_frame(self, limit: int) -> int:
        """A page frame with zeroes at its end, as many as an entry can need."""
        return self.frame(limit) & -(1 << self.rng.randrange(self._arch.levels[1].bits + 3))

    def array(self, limit: int) -> Pfns:
        """A page array shaped like real ones."""
        rng = self.rng
        if self.block <= 2048 and rng.random() < 0.12:
            return self._spoil(self._leafy(limit), limit)
        want = self.pages if rng.random() < 0.7 else self.some_pages()
        shape = rng.random()
        if shape < 0.2:  # every page alone
            base = self.frame(limit)
            steps = np.random.default_rng(rng.getrandbits(32)).integers(2, 9, want, dtype=np.uint64)
            pfns = np.minimum(np.uint64(base) + np.cumsum(steps), np.uint64(limit - 1))
            return self._spoil(pfns[:: rng.choice((1, -1))].copy(), limit)
        parts: list[tuple[int, int]] = []
        left = want
        orders = [rng.randrange(10) for _ in range(rng.randrange(1, 4))]
        if shape < 0.6:
            orders.sort(reverse=rng.random() < 0.7)
        while left > 0 and len(parts) < 64:
            order = orders[min(len(parts) * len(orders) // 8, len(orders) - 1)]
            count = min(1 << order, left)
            if shape > 0.9:
                count = rng.randrange(1, left + 1)
            align = order if rng.random() < 0.7 else rng.randrange(order + 1)
            first = self.frame(limit) & -(1 << align)
            parts.append((min(first, max(limit - count, 0)), min(count, limit)))
            left -= count
        return self._spoil(array_of(parts), limit)

    def _leafy(self, limit: int) -> Pfns:
        """Runs around the sizes of the leaves: block-sized ones at aligned places, some a page more or less."""
        rng = self.rng
        groups = [1 << group.shift - self._arch.page_shift for group in self._arch.groups if group.shift > 12] or [16]
        large = rng.random() < 0.5
        parts = []
        for _ in range(rng.randrange(1, 4)):
            pages = self.block if large else rng.choice(groups) * rng.choice((1, 1, 2, 3))
            first = self.frame(max(limit - 2 * pages, 1)) & -pages
            if rng.random() < 0.25:
                first, pages = first + rng.randrange(2), max(pages + rng.randrange(-1, 2), 1)
            parts.append((min(first, max(limit - pages, 0)), min(pages, limit)))
        return array_of(parts)

    def _spoil(self, pfns: Pfns, limit: int) -> Pfns:
        """Now and then a page that no kernel maps."""
        roll = self.rng.random()
        if roll < 0.04:
            pfns[self.rng.randrange(len(pfns))] = NULL_PFN
        elif roll < 0.08:
            pfns[self.rng.randrange(len(pfns))] = limit + self.rng.randrange(1 << self.rng.randrange(1, 20))
        return pfns
