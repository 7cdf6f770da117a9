# SPDX-License-Identifier: GPL-2.0-only
"""Sequences that matter: what fills, what is short, what one call leaves to the next; the rest is at random."""

from __future__ import annotations

from vmaplab.calls.draw import OF_A_PUD, UNALIGNED, WINDOW, Draw
from vmaplab.calls.flags import VM_DMA_COHERENT, VM_MAP, VM_NO_GUARD, VM_SPARSE, VM_USERMAP
from vmaplab.calls.operation import Operation
from vmaplab.calls.options import ALIGN, BY, FUNCTION, GFP, GFP_FLAGS, HUGE, VM_FLAGS
from vmaplab.calls.scenario import Scenario
from vmaplab.pages.runs import array_of


class Motifs(Draw):
    """Sequences that matter, in which little is left to chance."""

    def scenario(self) -> Scenario:
        """One of them."""
        return self._over_tables() if self._of.short or self.rng.random() < 0.37 else self._motif()

    def _motif(self) -> Scenario:
        """One of the sequences that matter; each needs a call that the tree may not have."""
        motifs = (
            (self._full_blocks, "map_ram", 3),
            (self._pools, "", 3),
            (self._sparse, "map_pages", 3),
            (self._reallocated, "vrealloc", 2),
            (self._short_of_blocks, "", 4),
            (self._exactly, WINDOW, 2),
            (self._for_users, "", 2),
            (self._counted_in_millions, "", 0.5),
        )
        there = [(make, weight) for make, word, weight in motifs if word not in self._of.without]
        return self.rng.choices([make for make, _ in there], [weight for _, weight in there])[0]()

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
            at = first + rng.choice((0, span - pages, *[rng.randrange(span - pages + 1) & -pages] * 2))
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

    def _chunk(self, pages: int) -> int:
        """A page frame that is, most times, aligned to ``pages``, or else to what keeps the entries few."""
        rng = self.rng
        first = (1 << 18) + rng.randrange(1 << 20)
        align = pages if rng.random() < 0.9 else self.block if pages > self.block else 1
        return first & -(1 << (align - 1).bit_length())

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

    def _full_blocks(self) -> Scenario:
        """Vmap blocks that fill, and are unmapped in any order, wholly or nearly; flushes in between."""
        rng, of = self.rng, self._of
        size = rng.choice((64, 64, 32, 33, 48)) if of.arch.bits_per_long == 64 else 32
        sizes = [size] * rng.randrange(14, 40)
        if rng.random() < 0.3:  # down to single pages, so that one of them is the last of its block
            sizes = [64] * rng.choice((3, 7, 15)) + [32, 16, 8, 4, 2, 1, 1, rng.choice((1, 64))]
        steps: list[Operation] = []
        live: list[int] = []
        for size in sizes:
            if of.cpus > 1 and rng.random() < 0.05:
                steps.append(Operation("cpu", pages=rng.randrange(of.cpus)))
            live.append(len(steps))
            steps.append(Operation("map_ram", pfns=array_of([(self.frame(1 << 18) & -64, size)])))
        if rng.random() < 0.7:
            rng.shuffle(live)
        for number in live[rng.choice((0, 0, 0, 1, 3)) :]:
            if rng.random() < 0.06:
                steps.append(Operation("aliases"))
            steps.append(Operation("unmap_ram", number, pages=steps[number].length))
        again = Operation("map_ram", pfns=array_of([(0x100, 1)]))
        steps.append(again if rng.random() < 0.3 else Operation("aliases"))
        return Scenario(tuple(steps), "", 1 << 18)

    def _reallocated(self) -> Scenario:
        """An area whose size goes down and up again, in place and not."""
        rng = self.rng
        most = rng.choice((2, 5, 20))
        flags = [GFP_FLAGS.put(number) for number in range(len(GFP))]
        chosen = GFP_FLAGS.put(GFP.index("GFP_KERNEL|__GFP_ZERO")) if rng.random() < 0.5 else 0
        steps = [Operation("vmalloc", pages=rng.randrange(1, most + 1), flags=chosen)]
        for _ in range(rng.randrange(2, 8)):
            gfp = rng.choice(flags) if rng.random() < 0.2 else chosen
            pages = rng.choice((rng.randrange(1, most + 1), 1, most, steps[-1].pages + 1, 2 * most))
            steps.append(Operation("vrealloc", len(steps) - 1, pages=pages, flags=gfp))
        steps.append(Operation("vfree", len(steps) - 1))
        return Scenario(tuple(steps), "", 1 << 18)

    def _short_of_blocks(self) -> Scenario:
        """Huge vmalloc()s where no large pages are left, or too few: what they fall back to, and what is then freed."""
        rng, block = self.rng, min(self.block, 2048)
        huge, gfp = HUGE.put(1), [GFP_FLAGS.put(number) for number in range(len(GFP))]
        steps = [Operation("vmalloc", pages=rng.choice((1, 3, 5)), flags=0) for _ in range(rng.randrange(3))]
        steps += [Operation("vfree", 0)] * (len(steps) > 1 and rng.random() < 0.5)
        if rng.random() < 0.2:
            steps.append(Operation("signal", pages=1))
        most = rng.choice((1 << 20, 1 << 20, block + rng.randrange(block), 2 * block, rng.randrange(block)))
        steps.append(Operation("memory", pages=most, pfn=rng.choice((-1, 0, 1, 3, block.bit_length() - 2, 9))))
        live = []
        for _ in range(rng.randrange(1, 5)):
            pages = rng.choice((block, block + 1, 2 * block, 2 * block + 3, 16, 33, 600))
            live.append(len(steps))
            steps.append(Operation("vmalloc", pages=pages, flags=huge | rng.choice((0, 0, gfp[-1], rng.choice(gfp)))))
            if rng.random() < 0.5:
                steps.append(Operation("lookup", live[-1], rng.randrange(pages)))
        steps += [Operation("vfree", number) for number in rng.sample(live, rng.randrange(len(live) + 1))]
        return Scenario(tuple(steps), "", rng.choice((1 << 18, None)))

    def _exactly(self) -> Scenario:
        """Bounds that leave room for one area alone, aligned, between areas that stay: as large as it, or not quite."""
        rng = self.rng
        align = 1 << rng.randrange(1, 8)
        pages = rng.choice((300, 257, 400)) if rng.random() < 0.7 else rng.randrange(1, 20)
        first = self.start + -self.start % (align * self.page)
        behind = (first - self.start) // self.page + align * rng.randrange(1, 4)
        steps = [Operation("area", pages=behind - 1, flags=VM_MAP), Operation("area", pages=pages, flags=VM_MAP)]
        steps += [Operation("area", pages=rng.randrange(1, 9), flags=VM_MAP) for _ in range(rng.randrange(4))]
        steps += [Operation("vunmap", 1), Operation("aliases")]
        if "shrink" not in self._of.without and rng.random() < 0.7:
            steps.append(Operation("shrink"))
        at, room = self.start + behind * self.page, pages + 1 + rng.choice((0, 0, 0, -1, 1))
        for _ in range(2):
            flags = ALIGN.put(rng.choice((align, align, 2 * align, 1)).bit_length() - 1)
            steps.append(Operation("vmalloc", pages=pages, flags=flags, addr=at, pfn=room))
        return Scenario(tuple(steps), "", 1 << 18)

    def _for_users(self) -> Scenario:
        """Areas that a process may map, from their start on or from behind it; some of them are not for users."""
        rng = self.rng
        steps: list[Operation] = []
        for _ in range(rng.randrange(1, 4)):
            pages = rng.choice((1, 4, 16, 33, 70, 200))
            kind = rng.random()
            number = len(steps)
            if kind < 0.5:
                steps.append(Operation("vmalloc", pages=pages, flags=VM_FLAGS.put(VM_USERMAP)))
            elif kind < 0.7:
                steps.append(Operation("vmalloc", pages=pages, flags=FUNCTION.put(BY.index("vmalloc_user"))))
            else:
                flags = rng.choice((VM_MAP | VM_USERMAP, VM_MAP | VM_DMA_COHERENT, VM_MAP))
                steps.append(Operation("vmap", pfns=array_of([(self.frame(1 << 18) & -256, pages)]), flags=flags))
            for _ in range(rng.randrange(1, 5)):
                inner = rng.choice((0, 0, rng.randrange(pages)))
                left = pages - inner
                first = rng.choice((0, 0, rng.randrange(left), left, 1 << 52, (1 << 52) - rng.randrange(1, 4)))
                count = rng.choice((1, left, max(left - first, 1), left + 1, (1 << 52) - 3))
                steps.append(Operation("remap", number, inner, pages=count, pfn=first))
        return Scenario(tuple(steps), "", 1 << 18)

    def _counted_in_millions(self) -> Scenario:
        """More pages than 20 bits count, of which no table can be had; then few of them."""
        rng = self.rng
        words = [word for word in ("vmap", "map_ram") if word not in self._of.without]
        steps = [Operation("tables", pages=0)]
        for _ in range(rng.randrange(1, 3)):
            pages = (1 << 20) + rng.choice((0, 1, 1, 3, 64))
            steps.append(Operation(rng.choice(words), pfns=array_of([(rng.randrange(1 << 10), pages)]), flags=VM_MAP))
        steps += [Operation("info")] * ("info" not in self._of.without)
        steps += [Operation("tables", pages=1 << 20), Operation("vmap", pfns=array_of([(0x200, 2)]), flags=VM_MAP)]
        return Scenario(tuple(steps))
