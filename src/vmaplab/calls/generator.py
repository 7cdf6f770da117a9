# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios at random, for one architecture."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vmaplab.arch import Arch
from vmaplab.calls.effects import Ends, Maps, Reserves
from vmaplab.calls.flags import VM_FLUSH_RESET_PERMS, VM_MAP, VM_NO_GUARD, VM_SPARSE
from vmaplab.calls.kinds import merged
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario, parse
from vmaplab.calls.table import STEPS, Call
from vmaplab.config import BOOT_ARGS
from vmaplab.pages.runs import Pfns, array_of
from vmaplab.pages.shapes import Shapes
from vmaplab.pfn import NULL_PFN
from vmaplab.vmalloc.area import LAZY_MAX_BYTES

UNALIGNED = "range to no page"
"""Among the calls that a generator can be without: vmap_page_range() whose end is not page-aligned."""

OF_A_PUD = "range of a PUD"
"""Likewise: vmap_page_range() of a whole PUD, which can need hundreds of tables."""

WINDOW = "vmalloc in a window"
"""Likewise: what can fail for want of addresses, between given ones or in all: the tree's own allocator can tell."""

_TAKE = {call.word: call for call in STEPS.values() if isinstance(call, Call) and call.weight}
"""The calls that take address space."""


def _ender(word: str) -> Call:
    """The call that ends what the step ``word`` has begun."""
    effect = _TAKE[word].effect
    assert isinstance(effect, Maps | Reserves)
    ender = STEPS[effect.ends]
    assert isinstance(ender, Call)
    return ender


@dataclass
class Generator:
    """Random scenarios for one architecture; scenario ``number`` of ``seed`` is always the same.

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
    _arrays: list[Pfns] = field(init=False)
    _kept: list[Scenario] = field(init=False)

    def __post_init__(self) -> None:
        first = self.arrays_first and not self.calls
        self.boot_args = (*(BOOT_ARGS if self.arch.huge_vmap else ("",)), *self.arch.boot_args)
        self._arrays = Shapes(self.arch).corpus() if first else []
        self._kept = [] if not first or self.only_vmap or self.short else self._corpus()

    def _corpus(self) -> list[Scenario]:
        """The scenarios in the package that run all code that many random ones ran (tools/corpus.py)."""
        path = Path(__file__).parent / "corpus" / f"{self.arch.name}.txt"
        found = []
        for line in path.read_text().splitlines() if path.is_file() else []:
            scenario = parse(line)
            cpus = max((step.pages for step in scenario.steps if step.call == "cpu"), default=0)
            windowed = any(step.call == "vmalloc" and step.addr for step in scenario.steps)
            words = {step.call for step in scenario.steps} | ({WINDOW} if windowed else set())
            if cpus < self.cpus and not words & self.without and scenario.boot_args in ("", *self.boot_args):
                found.append(scenario)
        return found

    @property
    def fixed(self) -> int:
        """How many scenarios are the same for every seed."""
        return len(self._arrays) + len(self._kept)

    def scenario(self, number: int) -> Scenario:
        """Scenario ``number``: first the arrays that tell policies apart, then the package's, then random ones."""
        if number < len(self._arrays):
            mapped = Operation("vmap", pfns=self._arrays[number], flags=VM_MAP), Operation("vunmap", 0)
            return Scenario(mapped if self.only_vmap else (*mapped, Operation("aliases")))
        if number < self.fixed:
            return self._kept[number - len(self._arrays)]
        return _Draw(self, random.Random(self.seed << 40 | number)).scenario()


class _Draw:
    """One scenario that is being drawn: a :class:`~vmaplab.calls.kinds.Source`.

    :ivar large: whether a vmalloc() may be so large that its page array is vmalloc'ed too.
    """

    def __init__(self, of: Generator, rng: random.Random) -> None:
        self._of, self.rng, self._arch = of, rng, of.arch
        self.pages, self.frames = of.pages, of.arch.addressable_pages
        self.start, self.page = of.arch.vmalloc_start, of.arch.page_size
        self.block = 1 << (of.arch.levels[1].shift - of.arch.page_shift)
        self.large = True
        self._lazy = of.cpus.bit_length() * LAZY_MAX_BYTES >> of.arch.page_shift  # lazy_max_pages()

    def scenario(self) -> Scenario:
        """It."""
        rng = self.rng
        if self._of.calls:
            return self._mixed()
        if not self._of.only_vmap:
            roll = rng.random()
            if roll < 0.12:
                return self._over_tables()
            if roll < 0.15 and not self._of.short and "map_ram" not in self._of.without:
                return self._full_blocks()
            if roll < 0.18 and not self._of.short:
                return self._pools()
            if roll < 0.21 and not self._of.short and "map_pages" not in self._of.without:
                return self._sparse()
            if roll < 0.6 and not self._of.short:
                return _Swarm(self._of, rng).scenario()
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
        for kind in _TAKE[word].form:
            fields = merged(fields, kind.draw(self, limit))
        if WINDOW in self._of.without and word == "vmalloc":
            fields |= {"addr": 0, "pfn": 0}
        return Operation(word, **fields)

    def _end(self, number: int, word: str, step: Operation) -> Operation:
        """The step that ends what step ``number`` has begun; now and then by another page of the area."""
        ender = _ender(word)
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
        words = [word for word in _TAKE if word not in of.without]
        weights = [_TAKE[word].weight for word in words]
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
        return [Operation("vread", number, offset, pages=rng.randrange(1, 2 * self.pages))]

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

    # -- walkers at given addresses -----------------------------------------------------------------

    def _over_tables(self) -> Scenario:
        """A range of a whole block over tables that are there already, and unmapping that cuts it.

        The first area lies at the start of the address space, so that it is known what is aligned there.
        """
        rng, arch = self.rng, self._arch
        page = arch.page_size
        most = 2 if OF_A_PUD in self._of.without else 3
        blocks = [level.shift for level in arch.levels[1:most] if level.leaf and level.shift <= 30]
        shift = rng.choice(blocks or [arch.levels[1].shift])
        span = 1 << shift - arch.page_shift
        first = -arch.vmalloc_start % (1 << shift) // page  # pages to where it is aligned
        room = first + span * rng.choice((1, 1, 2)) + rng.randrange(3)
        steps = [Operation("area", pages=room, flags=VM_MAP)]
        inner = [1, 2, self.block >> 4 or 1, *([self.block] if shift > arch.levels[1].shift else [])]
        for _ in range(rng.randrange(1, 4)):
            pages = rng.choice(inner)
            at = first + (rng.randrange(span - pages + 1) & -pages)
            steps.append(Operation("range", 0, at, pages=pages, pfn=self._chunk(pages)))
            if rng.random() < 0.95:
                steps.append(Operation("unrange", 0, at, pages=pages))
        if rng.random() < 0.2:  # nothing can be allocated for the change any more
            steps.append(Operation("tables", pages=rng.randrange(12)))
        steps.append(Operation("range", 0, first, pages=span, pfn=self._chunk(span)))
        if rng.random() < 0.3:
            steps.append(Operation("lookup", 0, first + rng.randrange(span)))
        for _ in range(rng.randrange(3)):
            at = rng.randrange(span)
            pages = rng.choice((1, 2, span - at, rng.randrange(1, span - at + 1)))
            steps.append(Operation("unrange", 0, first + at, pages=min(pages, span - at)))
        if rng.random() < 0.1 and UNALIGNED not in self._of.without:
            steps.append(Operation("range", 0, first, pages=rng.randrange(1, span), pfn=1 << 16, flags=page >> 1))
        steps.append(Operation("vunmap", 0))
        return Scenario(tuple(steps))

    # -- sparse areas -----------------------------------------------------------------------------

    def _sparse(self) -> Scenario:
        """Pages mapped into areas with VM_SPARSE and without, inside, at the end and beyond, and unmapped again."""
        rng = self.rng
        steps: list[Operation] = []
        for _ in range(rng.randrange(1, 3)):
            flags = rng.choice((VM_SPARSE, VM_SPARSE, VM_SPARSE, VM_MAP, VM_SPARSE | VM_NO_GUARD))
            steps.append(Operation("area", pages=rng.choice((1, 3, 16, 70, 600)), flags=flags))
        areas = len(steps)
        for _ in range(rng.randrange(2, 14)):
            number = rng.randrange(areas)
            room = steps[number].pages
            pages = rng.choice((1, 1, 2, rng.randrange(1, room + 1), room))
            at = rng.choice((0, rng.randrange(room), room - pages, room - pages + 1, room))
            roll = rng.random()
            if roll < 0.55:
                pfns = array_of([(self.frame((1 << 18) - pages), pages)])
                steps.append(Operation("map_pages", number, max(at, 0), pfns=pfns))
            elif roll < 0.85:
                steps.append(Operation("unmap_pages", number, max(at, 0), pages=pages))
            else:
                steps.append(Operation("vread" if rng.random() < 0.5 else "lookup", number, max(at, 0), pages=pages))
        steps += [Operation("vunmap", number) for number in range(areas)]
        return Scenario(tuple(steps), "", 1 << 18)

    # -- pools --------------------------------------------------------------------------------------

    def _pools(self) -> Scenario:
        """Many areas of one size or two, which purges put into the pools of their nodes and take a share from."""
        rng, of = self.rng, self._of
        sizes = [rng.choice((1, 1, 2, 5, 255))] * rng.choice((1, 3)) + [rng.choice((1, 3))]
        steps: list[Operation] = []
        for _ in range(rng.randrange(1, 4)):
            live = []
            if of.cpus > 1:
                steps.append(Operation("cpu", pages=rng.randrange(of.cpus)))
            for _ in range(rng.randrange(2, 14)):
                live.append(len(steps))
                steps.append(Operation("area", pages=rng.choice(sizes), flags=VM_MAP))
            steps += [Operation("vunmap", number) for number in live[rng.randrange(2) :]]
            steps += [Operation("aliases")] * rng.choice((1, 1, 2, 3))
            if "shrink" not in of.without and rng.random() < 0.1:
                steps.append(Operation("shrink"))
        steps += [Operation("area", pages=rng.choice(sizes), flags=VM_MAP) for _ in range(rng.randrange(1, 9))]
        return Scenario(tuple(steps), "", 1 << 18)

    # -- vmap blocks ------------------------------------------------------------------------------

    def _full_blocks(self) -> Scenario:
        """Vmap blocks that fill, and are unmapped in any order, wholly or nearly; flushes in between."""
        rng, of = self.rng, self._of
        size = rng.choice((64, 64, 32, 33, 48)) if of.arch.bits_per_long == 64 else 32
        steps: list[Operation] = []
        live: list[int] = []
        for _ in range(rng.randrange(14, 40)):
            if of.cpus > 1 and rng.random() < 0.05:
                steps.append(Operation("cpu", pages=rng.randrange(of.cpus)))
            live.append(len(steps))
            steps.append(Operation("map_ram", pfns=array_of([(self.frame(1 << 18) & -64, size)])))
        rng.shuffle(live)
        for number in live[rng.choice((0, 0, 0, 1, 3)) :]:
            if rng.random() < 0.06:
                steps.append(Operation("aliases"))
            steps.append(Operation("unmap_ram", number, pages=size))
        steps.append(Operation("aliases"))
        return Scenario(tuple(steps), "", 1 << 18)

    def _chunk(self, pages: int) -> int:
        """A page frame that is, most times, aligned to ``pages``, or else to what keeps the entries few."""
        rng = self.rng
        first = (1 << 18) + rng.randrange(1 << 20)
        align = pages if rng.random() < 0.9 else self.block if pages > self.block else 1
        return first & -(1 << (align - 1).bit_length())

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


_ENDERS = {"vfree": ("vfree", "vfree", "vfree_atomic", "vunmap"), "vunmap": ("vunmap", "vunmap", "vunmap", "vfree")}
"""With which calls an area is ended, by the one that is right; wrong ones are few."""


class _Swarm(_Draw):
    """A sequence that has few kinds of calls and few sizes, so that blocks, pools and tables fill, and shortages.

    What is chosen for a whole sequence is chosen at random: which calls, how large, how often one ends, on how many
    CPUs, what is short.
    """

    def __init__(self, of: Generator, rng: random.Random) -> None:
        super().__init__(of, rng)
        self._limit = 1 << 18
        self._steps: list[Operation] = []
        self._live: dict[int, str] = {}
        self._gone: list[int] = []
        arch, block = of.arch, self.block
        group = 1 << (arch.groups[-1].shift if arch.groups else arch.page_shift) - arch.page_shift
        space = arch.vmalloc_end - arch.vmalloc_start + 1 >> arch.page_shift
        few = rng.randrange(1, 5)
        self._sizes = rng.choice(
            (
                (1, 2, 3),
                (few,),
                (1, 4, 16),
                (1, 16, 64, 65),
                (rng.choice((32, 33, 64)),),
                (group, group + 1, 2 * group),
                (min(block, 2048), min(block, 2048) + 1, 1),
                (1, 130, 257, 300),
                (1, 2, 5) if WINDOW in of.without else (space // 3, space // 2, self._lazy // 2, 1, 2),
                (self._lazy // 3, self._lazy // 5, 1, 7),
                tuple(rng.randrange(1, 2 * of.pages) for _ in range(3)),
            )
        )
        self._interior = rng.choice((0.0, 0.1, 0.5))
        self._stay = rng.choice((1, 4, 12, 40))
        self.large = rng.random() < 0.3

    def some_pages(self) -> int:
        """A number of pages, of the few that the sequence has."""
        size = self.rng.choice(self._sizes)
        return size if size <= 4096 and self.rng.random() < 0.9 else super().some_pages()

    def scenario(self) -> Scenario:
        """It."""
        rng, of = self.rng, self._of
        words = [word for word in _TAKE if word not in of.without]
        chosen = rng.sample(words, rng.randrange(1, min(4, len(words)) + 1))
        weights = [rng.choice((1, 1, 3, 10)) for _ in chosen]
        boot_args = rng.choice(of.boot_args) if rng.random() < 0.1 else ""
        if rng.random() < 0.3:
            self._short_of_something()
        if rng.random() < 0.15:  # so much address space that what follows starts the purge
            self._add(Operation("area", pages=self._lazy - rng.randrange(2 * self.pages), flags=VM_MAP))
            self._add(Operation("vunmap", len(self._steps) - 1))
        length = rng.choice((4, 8, 8, 16, 16, 32, 60))
        others = rng.choice((0.05, 0.2, 0.4))
        while len(self._steps) < length:
            if of.cpus > 1 and rng.random() < 0.15:
                self._add(Operation("cpu", pages=rng.randrange(of.cpus)))
            roll = rng.random()
            if self._live and roll < (0.25 if len(self._live) < self._stay else 0.75):
                self._end_one(rng.choice(list(self._live)))
            elif self._live and roll < 0.25 + others:
                self._look_at(rng.choice(list(self._live)))
            elif roll < 0.3 + others:
                self._around()
            else:
                (word,) = rng.choices(chosen, weights)
                self._take(word)
        if rng.random() < 0.5:
            for number in rng.sample(list(self._live), len(self._live)):
                self._end_one(number)
            if rng.random() < 0.5:
                self._add(Operation("aliases"))
        return Scenario(tuple(self._steps), boot_args, self._limit)

    def _add(self, step: Operation) -> None:
        self._steps.append(step)

    def _take(self, word: str) -> None:
        """A call that takes address space, and maps what it is given."""
        step = self._taking(word, self._limit)
        size = self.rng.choice(self._sizes)
        # An area can be nearly all the address space that there is.
        if word == "area" or (word == "vmalloc" and size <= 4096 and self.rng.random() < 0.8):
            step = step._replace(pages=size)
        elif word == "ioremap" and size <= 4096 and self.rng.random() < 0.6:
            step = step._replace(pages=size, pfn=min(step.pfn, self.frames - size))
        elif word in ("vmap", "map_ram") and step.pfns is not None and size <= 600 and self.rng.random() < 0.6:
            first = self.frame(self._limit - size) & -(1 << self.rng.randrange(10))
            step = step._replace(pfns=array_of([(first, size)]))
        self._live[len(self._steps)] = word
        self._add(step)

    def _end_one(self, number: int) -> None:
        """End what step ``number`` has begun: as it should be, mostly; by any address in it."""
        rng, word = self.rng, self._live.pop(number)
        step = self._end(number, word, self._steps[number])._replace(offset=0)
        if step.call in _ENDERS:
            wrong = rng.random() < 0.03
            calls = _ENDERS[step.call]
            step = step._replace(call=calls[3] if wrong else rng.choice(calls[:3]))
            if rng.random() < self._interior and step.call != "vfree_atomic":
                step = step._replace(offset=rng.randrange(self._steps[number].length + 1))
        self._add(step)
        self._gone.append(number)

    def _look_at(self, number: int) -> None:
        """A call about what stays; into an area that is only reserved, the walkers."""
        if self._live[number] == "area" and self.rng.random() < 0.5 and self._steps[number].pages < 1 << 20:
            self._into_area(lambda step: self._add(step), number, self._steps[number].pages, self._limit)
            return
        small = self._live[number] == "vmalloc" and self._steps[number].length <= 64
        if small and "vrealloc" not in self._of.without and self.rng.random() < 0.3:
            del self._live[number]
            self._live[len(self._steps)] = "vmalloc"
            self._add(Operation("vrealloc", number, pages=self.rng.choice((1, self._steps[number].length + 1, 40))))
            return
        for step in self._look_or_change(self._live, self._steps, self._limit):
            self._add(step)

    def _around(self) -> None:
        """A call that is about no mapping, a wrong one, or a shortage that begins or ends."""
        rng, roll = self.rng, self.rng.random()
        calls = [word for word in ("aliases", "aliases", "info", "shrink") if word not in self._of.without]
        if roll < 0.7:
            self._add(Operation(rng.choice(calls)))
        elif roll < 0.85:
            self._add(self._wrong([] if self.large else self._gone))
        else:
            self._short_of_something()

    def _short_of_something(self) -> None:
        """Page tables, or pages for vmalloc(), or large blocks of them, are short from here on, or are not any more."""
        rng, roll = self.rng, self.rng.random()
        if roll < 0.4:
            self._add(Operation("tables", pages=rng.choice((rng.randrange(12), rng.randrange(40), 1 << 20))))
        else:
            pages = rng.choice((rng.randrange(8), rng.randrange(3000), 1 << 20, 1 << 20))
            self._add(Operation("memory", pages=pages, pfn=rng.choice((-1, 0, rng.randrange(11)))))
