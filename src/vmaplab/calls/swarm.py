# SPDX-License-Identifier: GPL-2.0-only
"""Sequences of few kinds of calls and few sizes, at random."""

from __future__ import annotations

import random

from vmaplab.calls.draw import TAKE, WINDOW, Draw, Options
from vmaplab.calls.flags import VM_MAP
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario
from vmaplab.pages.runs import array_of

_ENDERS = {"vfree": ("vfree", "vfree", "vfree_atomic", "vunmap"), "vunmap": ("vunmap", "vunmap", "vunmap", "vfree")}
"""With which calls an area is ended, by the one that is right; wrong ones are few."""


class Swarm(Draw):
    """A sequence that has few kinds of calls and few sizes, so that blocks, pools and tables fill, and shortages.

    What is chosen for a whole sequence is chosen at random: which calls, how large, how often one ends, on how many
    CPUs, what is short.
    """

    def __init__(self, of: Options, rng: random.Random) -> None:
        super().__init__(of, rng)
        self._limit = 1 << 18
        self._steps: list[Operation] = []
        self._live: dict[int, str] = {}
        self._gone: list[int] = []
        arch, block = of.arch, self.block
        group = 1 << (arch.groups[-1].shift if arch.groups else arch.page_shift) - arch.page_shift
        space = arch.vmalloc_end - arch.vmalloc_start + 1 >> arch.page_shift
        few = rng.randrange(1, 5)
        wraps = (1 << arch.bits_per_long) - arch.vmalloc_start >> arch.page_shift  # from there to the last address
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
                (1, 2, 5) if WINDOW in of.without else (wraps, wraps - 1, wraps + rng.randrange(1, 40), 1, 3),
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
        words = [word for word in TAKE if word not in of.without]
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
            if rng.random() < 0.15:
                self._add(Operation("signal", pages=rng.randrange(2)))
            pages = rng.choice((rng.randrange(8), rng.randrange(3000), 1 << 20, 1 << 20))
            self._add(Operation("memory", pages=pages, pfn=rng.choice((-1, 0, rng.randrange(11)))))
