"""Scenarios: short programs of vmalloc calls, as text that can be pasted, and at random.

Steps are separated by semicolons; ``@N`` is the address that step N (from 0) returned::

    boot nohugeiomap          boot arguments; first, if at all
    pages 0x100000            pages of RAM; first, if at all
    tables 3                  from here on at most 3 page tables can exist below the PGD
    fail 3 7                  of the allocations from here on, numbers 3 and 7 (or only one, from 0) fail; each side has
                              its own allocations
    cpu 2                     from here on CPU 2 calls, of a machine with several
    area 512                  get_vm_area() of 512 pages; flags=0x1000 (VM_SPARSE) may follow
    vmap 0x100+16,null,0x7    vmap() of 16 pages from PFN 0x100 on, a NULL page and PFN 7; flags=0x40 may follow
    map @0+3 0x100+16 12      vmap_pages_range_noflush() 3 pages behind @0 with page_shift 12
    range @0+0 16 0x200       vmap_page_range() of 16 pages from PFN 0x200 on; +512 may follow: 512 bytes more
    unrange @0+1 2            vunmap_range() of 2 pages
    vmalloc 512 huge          __vmalloc_node_range() of 512 pages, with VM_ALLOW_HUGE_VMAP
    ioremap 0x80000+512       ioremap() of 512 pages from PFN 0x80000 on
    map_ram 0x100+16          vm_map_ram() of 16 pages from PFN 0x100 on
    unmap_ram @1 16           vm_unmap_ram() of 16 pages
    vmap_pfn 0x80000+16       vmap_pfn() of page frames that are no memory
    map_pages @0+3 0x100+16   vm_area_map_pages() 3 pages behind the start of the sparse area @0
    unmap_pages @0+3 16       vm_area_unmap_pages()
    vunmap @1                 vunmap(); vfree @1 and iounmap @1 likewise
    aliases                   vm_unmap_aliases()
    lookup @1+5               vmalloc_to_page()
    vread @1+5 20             vread_iter() of 20 pages
    info                      the lines of /proc/vmallocinfo
    set_memory @1+5 20        what set_memory_ro() would do to 20 pages; the model alone knows

An address in hexadecimal can stand where @1 does; lines separate steps too, and # begins a comment.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vmaplab import NULL_PFN
from vmaplab.arch import Arch
from vmaplab.config import BOOT_ARGS
from vmaplab.errors import InputError
from vmaplab.pages.runs import Pfns, array_of, frame_number, page_count, parse_runs, runs, runs_text
from vmaplab.review.shapes import Shapes
from vmaplab.vmalloc.area import LAZY_MAX_BYTES
from vmaplab.vmalloc.flags import VM_FLUSH_RESET_PERMS, VM_MAP, VM_MAP_PUT_PAGES, VM_NO_GUARD, VM_SPARSE
from vmaplab.vmalloc.operation import Operation

NULL = NULL_PFN
UNALIGNED = "range to no page"
"""Among the calls that a generator can be without: vmap_page_range() whose end is not page-aligned."""


@dataclass(frozen=True)
class Scenario:
    """Steps, and the machine on which they run.

    :param boot_args: boot arguments, separated by blanks.
    :param total_pages: pages of RAM, or None for all that the architecture can address.
    """

    steps: tuple[Operation, ...]
    boot_args: str = ""
    total_pages: int | None = None

    def __str__(self) -> str:
        words = [f"boot {self.boot_args}"] if self.boot_args else []
        words += [f"pages {self.total_pages:#x}"] if self.total_pages else []
        return "; ".join([*words, *map(_text, self.steps)])

    def short(self, most: int = 60) -> str:
        """The same text, cut where it is too long for a line."""
        text = str(self)
        return text if len(text) < most else text[: most - 4] + " ..."


def _text(step: Operation) -> str:
    ref = f"@{step.ref}" if step.ref >= 0 else f"{step.addr:#x}"
    ref += f"+{step.offset}" if step.offset else ""
    flags = f" flags={step.flags:#x}" if step.flags != VM_MAP else ""
    if step.pfns is not None:
        words = runs_text(step.pfns)
        if step.call in ("map", "map_pages"):
            return f"{step.call} {ref} {words}" + (f" {step.flags}" if step.call == "map" else "")
        return f"{step.call} {words}" + (flags if step.call == "vmap" else "")
    others: dict[str, Callable[[], str]] = {
        "tables": lambda: f"tables {step.pages}",
        "fail": lambda: f"fail {step.pages}" + (f" {step.pfn}" if step.pfn >= 0 else ""),
        "cpu": lambda: f"cpu {step.pages}",
        "aliases": lambda: "aliases",
        "info": lambda: "info",
        "area": lambda: f"area {step.pages}{flags}",
        "unmap_ram": lambda: f"unmap_ram {ref} {step.pages}",
        "unmap_pages": lambda: f"unmap_pages {ref} {step.pages}",
        "vread": lambda: f"vread {ref} {step.pages}",
        "set_memory": lambda: f"set_memory {ref} {step.pages}",
        "range": lambda: f"range {ref} {step.pages} {step.pfn:#x}" + (f" +{step.flags}" if step.flags else ""),
        "unrange": lambda: f"unrange {ref} {step.pages}",
        "vmalloc": lambda: f"vmalloc {step.pages}" + (" huge" if step.flags else ""),
        "ioremap": lambda: f"ioremap {step.pfn:#x}+{step.pages}",
    }
    return others.get(step.call, lambda: f"{step.call} {ref}")()


def parse(text: str) -> Scenario:
    """The scenario that ``text`` spells.

    :raises InputError: naming the step that cannot be read.
    """
    steps: list[Operation] = []
    boot_args, total_pages = "", None
    for part in re.split(r";|\n", re.sub(r"#.*", "", text)):
        words = part.split()
        if not words:
            continue
        if words[0] == "boot" and not steps:
            boot_args = " ".join(words[1:])
            continue
        form = _FORMS.get(words[0])
        if form is None:
            raise InputError(f"'{words[0]}' is no step; the steps are {', '.join(_FORMS)}")
        try:
            if words[0] in ("boot", "pages"):
                if steps:
                    raise ValueError("it comes first, if at all")
                (total_pages,) = (frame_number(word) for word in words[1:])
                continue
            steps.append(_parse_step(words[0], words[1:], len(steps)))
        except (ValueError, IndexError, OverflowError) as error:
            why = str(error) if " " in str(error) and "literal" not in str(error) else "it does not look like that"
            raise InputError(f"the step '{part.strip()}': {why}; write '{form}'") from None
    if not steps:
        raise InputError("a scenario has one step at least, e.g. 'vmap 0x100+16; vunmap @0'")
    return Scenario(tuple(steps), boot_args, total_pages)


def _ref(word: str, before: int) -> tuple[int, int, int]:
    """The step that ``word`` points to, or -1; pages behind that; and the address, if it is no step."""
    match = re.fullmatch(r"@(\d+)(?:\+(\w+))?", word)
    if match is None:
        match = re.fullmatch(r"(0x[0-9a-f]{1,16})(?:\+(\w+))?", word)
        if match is None:
            raise ValueError(word)
        return -1, page_count(match[2] or "0"), int(match[1], 16)
    if int(match[1]) >= before:
        raise ValueError(f"there is no step {match[1]} before it")
    return int(match[1]), page_count(match[2] or "0"), 0


_FORMS = {
    "boot": "boot nohugeiomap",
    "pages": "pages 0x100000",
    "tables": "tables 3",
    "fail": "fail 3",
    "cpu": "cpu 1",
    "area": "area 512",
    "vmap": "vmap 0x100+16,null,0x7",
    "map": "map @0+3 0x100+16 12",
    "range": "range @0+0 16 0x200",
    "unrange": "unrange @0+1 2",
    "vmalloc": "vmalloc 512 huge",
    "ioremap": "ioremap 0x80000+512",
    "map_ram": "map_ram 0x100+16",
    "unmap_ram": "unmap_ram @0 16",
    "vmap_pfn": "vmap_pfn 0x80000+16",
    "map_pages": "map_pages @0+3 0x100+16",
    "unmap_pages": "unmap_pages @0+3 16",
    "aliases": "aliases",
    "vread": "vread @0 20",
    "set_memory": "set_memory @0+3 5",
    "info": "info",
    "vunmap": "vunmap @0",
    "vfree": "vfree @0",
    "iounmap": "iounmap @0",
    "lookup": "lookup @0+5",
}


def _parse_step(call: str, words: list[str], number: int) -> Operation:
    def only(count: int) -> None:
        if len(words) != count:
            raise ValueError(call)

    if call in ("aliases", "info"):
        only(0)
        return Operation(call)
    if call in ("tables", "cpu"):
        only(1)
        return Operation(call, pages=page_count(words[0]))
    if call == "fail":
        only(min(max(len(words), 1), 2))
        numbers = [page_count(word) for word in words]
        return Operation(call, pages=numbers[0], pfn=(*numbers, -1)[1])
    if call in ("vmap", "area"):
        flags = VM_MAP
        if len(words) == 2 and words[1].startswith("flags="):
            flags = frame_number(words.pop()[6:])
            if call == "vmap" and flags & VM_MAP_PUT_PAGES:
                raise ValueError("VM_MAP_PUT_PAGES hands over pages that no allocator gave")
        only(1)
        if call == "area":
            return Operation(call, pages=page_count(words[0]), flags=flags)
        return Operation(call, pfns=parse_runs(words[0]), flags=flags)
    if call in ("map_ram", "vmap_pfn"):
        only(1)
        return Operation(call, pfns=parse_runs(words[0]))
    if call == "vmalloc":
        huge = words[1:] == ["huge"]
        only(1 + huge)
        return Operation(call, pages=page_count(words[0]), flags=int(huge))
    if call == "ioremap":
        only(1)
        ranges = runs(parse_runs(words[0]))
        if len(ranges) != 1:
            raise ValueError("it takes one physical range")
        ((first, count),) = ranges
        if first == NULL:
            raise ValueError("a physical range has no NULL pages")
        return Operation(call, pfn=first, pages=count)
    ref, offset, addr = _ref(words[0], number)
    if call == "map":
        only(3)
        return Operation(call, ref, offset, pfns=parse_runs(words[1]), flags=frame_number(words[2]), addr=addr)
    if call == "map_pages":
        only(2)
        return Operation(call, ref, offset, pfns=parse_runs(words[1]), addr=addr)
    if call == "range":
        more = page_count(words.pop()[1:]) if len(words) == 4 and words[3].startswith("+") else 0
        only(3)
        pages, pfn = page_count(words[1]), frame_number(words[2])
        return Operation(call, ref, offset, pages=pages, pfn=pfn, flags=more, addr=addr)
    if call in ("unrange", "unmap_ram", "unmap_pages", "vread", "set_memory"):
        only(2)
        return Operation(call, ref, offset, pages=page_count(words[1]), addr=addr)
    if call in ("vunmap", "vfree", "iounmap", "lookup"):
        only(1)
        return Operation(call, ref, offset, addr=addr)
    raise ValueError(call)


# -- at random ------------------------------------------------------------------------------------------


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
    """

    arch: Arch
    seed: int
    pages: int = 256
    only_vmap: bool = False
    calls: int = 0
    cpus: int = 1
    without: frozenset[str] = frozenset()
    arrays_first: bool = True
    _corpus: list[Pfns] = field(init=False)
    _boot_args: tuple[str, ...] = field(init=False)
    _limit: int = field(init=False)
    _pmd: int = field(init=False)
    _lazy: int = field(init=False)

    def __post_init__(self) -> None:
        self._limit = self.arch.addressable_pages
        self._pmd = 1 << (self.arch.levels[1].shift - self.arch.page_shift)
        self._lazy = LAZY_MAX_BYTES >> self.arch.page_shift
        self._corpus = Shapes(self.arch).corpus() if self.arrays_first and not self.calls else []
        self._boot_args = (*(BOOT_ARGS if self.arch.huge_vmap else ("",)), *self.arch.boot_args)

    def scenario(self, number: int) -> Scenario:
        """Scenario ``number``: first the arrays that tell policies apart, then random ones."""
        if number < len(self._corpus):
            mapped = Operation("vmap", pfns=self._corpus[number], flags=VM_MAP), Operation("vunmap", 0)
            return Scenario(mapped if self.only_vmap else (*mapped, Operation("aliases")))
        rng = random.Random(self.seed << 40 | number)
        if self.calls:
            return self._mixed(rng)
        if not self.only_vmap and rng.random() < 0.12:
            return self._over_tables(rng)
        boot_args = rng.choice(self._boot_args) if rng.random() < 0.1 else ""
        total_pages = 1 << 18 if rng.random() < 0.3 else None
        steps: list[Operation] = []
        kinds: list[str] = []  # what each step returned: its call while it is mapped, "" otherwise

        def add(step: Operation, kind: str = "") -> None:
            steps.append(step)
            kinds.append(kind)

        if rng.random() < 0.5:
            add(Operation("area", pages=self._some_pages(rng), flags=VM_MAP), "area")
        if rng.random() < 0.1:  # so much address space that freeing it, or what follows, starts the purge
            add(Operation("area", pages=self._lazy - rng.randrange(self.pages), flags=VM_MAP), "area")
            if rng.random() < 0.8:
                add(Operation("vunmap", len(steps) - 1))
                kinds[-2] = ""
        if rng.random() < 0.12:
            add(Operation("tables", pages=rng.randrange(8)))
        calls = 1 if rng.random() < 0.7 else rng.randrange(2, 10)
        for _ in range(calls):
            self._step(rng, add, steps, kinds, total_pages or self._limit)
        for step, kind in enumerate(kinds):
            if kind and rng.random() < (0.2 if kind == "area" else 0.8):
                add(self._undo(rng, step, kind))
        return Scenario(tuple(steps), boot_args, total_pages)

    def _step(
        self,
        rng: random.Random,
        add: Callable[..., None],
        steps: list[Operation],
        kinds: list[str],
        limit: int,
    ) -> None:
        roll = rng.random()
        mapped = [number for number, kind in enumerate(kinds) if kind]
        if roll < 0.15 and mapped:
            number = rng.choice(mapped)
            if kinds[number] == "area" and not self.only_vmap and rng.random() < 0.7:
                self._into_area(rng, add, number, steps[number].pages, limit)
            else:
                add(self._undo(rng, number, kinds[number]))
                kinds[number] = ""
        elif roll < 0.2 and mapped:
            add(Operation("lookup", rng.choice(mapped), rng.randrange(self.pages)))
        elif roll < 0.24:
            add(Operation("area", pages=self._some_pages(rng), flags=VM_MAP), "area")
        elif roll < 0.27 and not self.only_vmap:
            add(Operation("tables", pages=rng.randrange(12)))
        elif roll < 0.34 and not self.only_vmap:
            pages = rng.choice((1, 2, 3, 5, 8, 16))
            if rng.random() < 0.15:  # a page array that is vmalloc'ed too, block leaves
                pages = rng.choice((min(self._pmd >> 1, 1024), min(self._pmd, 2048), 600))
            add(Operation("vmalloc", pages=pages, flags=rng.randrange(2)), "vmalloc")
        elif roll < 0.42 and not self.only_vmap:
            pages = self._some_pages(rng)
            if rng.random() < 0.3:
                pages = self._pmd * rng.randrange(1, 4)
            first = self._pfn(rng, limit) & -(1 << rng.randrange(self.arch.levels[1].bits + 3))
            add(Operation("ioremap", pfn=min(first, self._limit - pages), pages=pages), "ioremap")
        else:
            flags = VM_MAP
            if rng.random() < 0.02:
                flags |= rng.choice((VM_FLUSH_RESET_PERMS, VM_NO_GUARD))
            add(Operation("vmap", pfns=self.array(rng, limit), flags=flags), "vmap")

    def _mixed(self, rng: random.Random) -> Scenario:
        """Calls of all kinds, of which up to a dozen mappings stay at a time."""
        boot_args = rng.choice(self._boot_args) if rng.random() < 0.1 else ""
        total_pages = 1 << 18
        steps: list[Operation] = []
        live: dict[int, str] = {}
        gone: list[int] = []
        # Freeing twice can free the page array of a large vmalloc() that is in use: what that does is not defined.
        careful = rng.random() < 0.5
        if rng.random() < 0.3:  # so much address space that what follows starts the purge
            steps += [Operation("area", pages=self._lazy - rng.randrange(2 * self.pages), flags=VM_MAP)]
            steps += [Operation("vunmap", 0)]
        while len(steps) < self.calls:
            if self.cpus > 1 and rng.random() < 0.3:
                steps.append(Operation("cpu", pages=rng.randrange(self.cpus)))
            roll = rng.random()
            if live and roll < (0.2 if len(live) < 12 else 0.8):
                chosen = rng.choice(list(live))
                steps.append(self._end(rng, chosen, live.pop(chosen), steps[chosen]))
                gone.append(chosen)
            elif live and roll < 0.4:
                steps += self._look_or_change(rng, live, steps, total_pages)
            elif roll < 0.44:
                steps.append(self._wrong(rng, [] if careful else gone))
            elif roll < 0.49:
                steps.append(rng.choice((Operation("aliases"), Operation("aliases" if self.without else "info"))))
            elif roll < 0.5:  # memory is short for a while
                steps.append(Operation("tables", pages=rng.choice((rng.randrange(30), 1 << 20, 1 << 20))))
            else:
                call, step = self._begin(rng, total_pages, careful)
                if call not in self.without:
                    live[len(steps)] = call
                    steps.append(step)
        return Scenario(tuple(steps), boot_args, total_pages)

    def _over_tables(self, rng: random.Random) -> Scenario:
        """A range of a whole block over tables that are there already, and unmapping that cuts it.

        The first area lies at the start of the address space, so that it is known what is aligned there.
        """
        page = self.arch.page_size
        blocks = [level.shift for level in self.arch.levels[1:3] if level.leaf and level.shift <= 30]
        shift = rng.choice(blocks or [self.arch.levels[1].shift])
        span = 1 << shift - self.arch.page_shift
        first = -self.arch.vmalloc_start % (1 << shift) // page  # pages to where it is aligned
        room = first + span * rng.choice((1, 1, 2)) + rng.randrange(3)
        steps = [Operation("area", pages=room, flags=VM_MAP)]
        inner = [1, 2, self._pmd >> 4 or 1, *([self._pmd] if shift > self.arch.levels[1].shift else [])]
        for _ in range(rng.randrange(1, 4)):
            pages = rng.choice(inner)
            at = first + (rng.randrange(span - pages + 1) & -pages)
            steps.append(Operation("range", 0, at, pages=pages, pfn=self._block(rng, pages)))
            if rng.random() < 0.95:
                steps.append(Operation("unrange", 0, at, pages=pages))
        steps.append(Operation("range", 0, first, pages=span, pfn=self._block(rng, span)))
        for _ in range(rng.randrange(3)):
            at = rng.randrange(span)
            pages = rng.choice((1, 2, span - at, rng.randrange(1, span - at + 1)))
            steps.append(Operation("unrange", 0, first + at, pages=min(pages, span - at)))
        if rng.random() < 0.1 and UNALIGNED not in self.without:
            steps.append(Operation("range", 0, first, pages=rng.randrange(1, span), pfn=1 << 16, flags=page >> 1))
        steps.append(Operation("vunmap", 0))
        return Scenario(tuple(steps))

    def _block(self, rng: random.Random, pages: int) -> int:
        """A page frame that is, most times, aligned to ``pages``, or else to what keeps the entries few."""
        first = (1 << 18) + rng.randrange(1 << 20)
        align = pages if rng.random() < 0.9 else self._pmd if pages > self._pmd else 1
        return first & -(1 << (align - 1).bit_length())

    def _begin(self, rng: random.Random, limit: int, large: bool) -> tuple[str, Operation]:
        """A call that takes address space; ``large``: also a vmalloc() whose page array is vmalloc'ed."""
        roll = rng.random()
        few = [self._pfn(rng, limit) for _ in range(rng.randrange(1, 5))]
        if roll < 0.3:
            return "vmap", Operation("vmap", pfns=self.array(rng, limit), flags=VM_MAP)
        if roll < 0.5:
            pages = rng.choice((1, 2, 3, 16, 33, rng.randrange(1, 65), rng.randrange(1, self.pages + 64)))
            start = self._pfn(rng, limit - pages)
            return "map_ram", Operation("map_ram", pfns=array_of([(max(start, 0), pages)]))
        if roll < 0.68:
            pages = rng.choice((1, 2, 3, 5, 8, 16, 64))
            if large and rng.random() < 0.15:
                pages = rng.choice((min(self._pmd >> 1, 1024), min(self._pmd, 2048), 600))
            return "vmalloc", Operation("vmalloc", pages=pages, flags=rng.randrange(2))
        if roll < 0.8:
            pages = self._pmd * rng.randrange(1, 4) if rng.random() < 0.2 else self._some_pages(rng)
            first = self._pfn(rng, limit) & -(1 << rng.randrange(self.arch.levels[1].bits + 3))
            return "ioremap", Operation("ioremap", pfn=min(first, self._limit - pages), pages=pages)
        if roll < 0.86:
            frames = [limit + pfn for pfn in few] if rng.random() < 0.9 else few
            return "vmap_pfn", Operation("vmap_pfn", pfns=array_of([(frame, 1) for frame in frames]))
        flags = rng.choice((VM_MAP, VM_SPARSE, VM_SPARSE, VM_MAP | VM_NO_GUARD))
        return "area", Operation("area", pages=self._some_pages(rng), flags=flags)

    def _end(self, rng: random.Random, number: int, call: str, step: Operation) -> Operation:
        if call == "map_ram":
            assert step.pfns is not None
            return Operation("unmap_ram", number, pages=len(step.pfns))
        ends = {"vmap": "vunmap", "vmalloc": "vfree", "ioremap": "iounmap"}
        return Operation(ends.get(call, "vunmap"), number, 1 if rng.random() < 0.02 else 0)

    def _look_or_change(
        self, rng: random.Random, live: dict[int, str], steps: list[Operation], limit: int
    ) -> list[Operation]:
        """A call about a mapping that stays."""
        number = rng.choice(list(live))
        step = steps[number]
        if live[number] == "area":
            if "map_pages" in self.without:
                return [Operation("lookup", number, rng.randrange(step.pages))]
            offset = rng.randrange(step.pages)
            pages = rng.randint(1, min(step.pages - offset, 64) + (rng.random() < 0.1))
            if rng.random() < 0.3:
                return [Operation("unmap_pages", number, offset, pages=pages)]
            return [Operation("map_pages", number, offset, pfns=self.array(rng, limit)[:pages])]
        pages = len(step.pfns) if step.pfns is not None else step.pages
        offset = rng.randrange(pages + 1)
        if rng.random() < 0.5 or "vread" in self.without:
            return [Operation("lookup", number, offset)]
        return [Operation("vread", number, offset, pages=rng.randrange(1, 2 * self.pages))]

    def _wrong(self, rng: random.Random, gone: list[int]) -> Operation:
        """A call that frees what is not there, or not any more."""
        call = rng.choice(("vunmap", "vfree"))
        if gone and rng.random() < 0.6:
            return Operation(call, rng.choice(gone))
        return Operation(call, addr=rng.choice((0x1000, self.arch.vmalloc_end + 1 & -self.arch.page_size, 0x1234)))

    def _into_area(self, rng: random.Random, add: Callable[..., None], number: int, room: int, limit: int) -> None:
        """Walker calls into a reserved area, not always once per entry."""
        offset = rng.randrange(room)
        pages = rng.randrange(1, room - offset + 1)
        roll = rng.random()
        if roll < 0.4:
            shift = self.arch.page_shift
            pfns = self.array(rng, limit)[:pages]
            if rng.random() < 0.4:  # chunks of a larger shift, as huge vmalloc hands them over
                order = rng.choice((1, 2, 4, self.arch.levels[1].bits))
                chunks = pages >> order
                if not chunks:
                    return
                offset &= -(1 << order)
                shift += order
                firsts = [self._pfn(rng, limit - (1 << order)) & -(1 << order) for _ in range(chunks)]
                pfns = array_of([(first, 1 << order) for first in firsts])
            add(Operation("map", number, offset, pfns=pfns, flags=shift))
        elif roll < 0.7:
            first = self._pfn(rng, limit - pages) & -(1 << rng.randrange(12))
            add(Operation("range", number, offset, pages=pages, pfn=first))
        else:
            add(Operation("unrange", number, offset, pages=pages))

    def _undo(self, rng: random.Random, number: int, kind: str) -> Operation:
        call = {"vmap": "vunmap", "area": "vunmap", "vmalloc": "vfree", "ioremap": "iounmap"}[kind]
        if rng.random() < 0.02:
            return Operation(call, number, 1)  # not the start of the area, but in it
        return Operation(call, number)

    def _some_pages(self, rng: random.Random) -> int:
        roll = rng.random()
        if roll < 0.1:
            return self._pmd * rng.randrange(1, 3) + rng.randrange(-2, 3) if self._pmd <= 2048 else rng.randrange(1, 99)
        if roll < 0.3:
            return 1 << rng.randrange(self.pages.bit_length())
        return rng.randrange(1, self.pages + 1)

    def _pfn(self, rng: random.Random, limit: int) -> int:
        roll = rng.random()
        if roll < 0.05:
            return rng.randrange(64)
        if roll < 0.1:
            return max(limit - rng.randrange(1, 2 * self.pages), 0)
        if roll < 0.2:
            return rng.randrange(max(limit, 1))
        return (1 << 16) + rng.randrange(1 << 17)

    def array(self, rng: random.Random, limit: int) -> Pfns:
        """A page array shaped like real ones."""
        if self._pmd <= 2048 and rng.random() < 0.12:
            return self._spoil(rng, self._leafy(rng, limit), limit)
        want = self.pages if rng.random() < 0.7 else self._some_pages(rng)
        shape = rng.random()
        if shape < 0.2:  # every page alone
            base = self._pfn(rng, limit)
            steps = np.random.default_rng(rng.getrandbits(32)).integers(2, 9, want, dtype=np.uint64)
            pfns = np.minimum(np.uint64(base) + np.cumsum(steps), np.uint64(limit - 1))
            return self._spoil(rng, pfns[:: rng.choice((1, -1))].copy(), limit)
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
            first = self._pfn(rng, limit) & -(1 << align)
            parts.append((min(first, max(limit - count, 0)), min(count, limit)))
            left -= count
        return self._spoil(rng, array_of(parts), limit)

    def _leafy(self, rng: random.Random, limit: int) -> Pfns:
        """Runs around the sizes of the leaves: block-sized ones at aligned places, some a page more or less."""
        leaves = [1 << group.shift - self.arch.page_shift for group in self.arch.groups if group.shift > 12] or [16]
        large = rng.random() < 0.5
        parts = []
        for _ in range(rng.randrange(1, 4)):
            pages = self._pmd if large else rng.choice(leaves) * rng.choice((1, 1, 2, 3))
            first = self._pfn(rng, max(limit - 2 * pages, 1)) & -pages
            if rng.random() < 0.25:
                first, pages = first + rng.randrange(2), max(pages + rng.randrange(-1, 2), 1)
            parts.append((min(first, max(limit - pages, 0)), min(pages, limit)))
        return array_of(parts)

    def _spoil(self, rng: random.Random, pfns: Pfns, limit: int) -> Pfns:
        """Now and then a page that no kernel maps."""
        roll = rng.random()
        if roll < 0.04:
            pfns[rng.randrange(len(pfns))] = NULL
        elif roll < 0.08:
            pfns[rng.randrange(len(pfns))] = limit + rng.randrange(1 << rng.randrange(1, 20))
        return pfns


# -- smaller ones ----------------------------------------------------------------------------------------


SHRINK_S = 20.0


def shrink(scenario: Scenario, fails: Callable[[Scenario], bool], tries: int = 2000) -> Scenario:
    """The smallest scenario found that still ``fails``: fewer steps, fewer pages, rounder numbers.

    It gives up after ``tries``, or after :data:`SHRINK_S` seconds; code that loops takes seconds to show it.
    """

    def still(smaller: Scenario) -> bool:
        try:
            return fails(smaller)
        except InputError:  # too small to make sense
            return False

    stop = time.monotonic() + SHRINK_S
    again = True
    while again:
        again = False
        for smaller in _smaller(scenario):
            tries -= 1
            if tries < 0 or time.monotonic() > stop:
                return scenario
            if still(smaller):
                scenario, again = smaller, True
                break
    return scenario


def _smaller(scenario: Scenario) -> list[Scenario]:
    found = []
    steps = scenario.steps
    for size in (len(steps) // 2, len(steps) // 4, 1):
        for start in range(0, len(steps) if size else 0, max(size, 1)):
            kept = _without(steps, start, start + size)
            if kept and len(kept) < len(steps):
                found.append(replace(scenario, steps=kept))
    if scenario.boot_args:
        found.append(replace(scenario, boot_args=""))
    if scenario.total_pages:
        found.append(replace(scenario, total_pages=None))
    for number, step in enumerate(steps):
        found += [
            replace(scenario, steps=(*steps[:number], simpler, *steps[number + 1 :])) for simpler in _simpler(step)
        ]
    return found


def _without(steps: tuple[Operation, ...], start: int, end: int) -> tuple[Operation, ...]:
    """``steps`` without those from ``start`` to ``end``, and without what refers to them."""
    kept: list[Operation] = []
    new: dict[int, int] = {}
    for number, step in enumerate(steps):
        if start <= number < end or (step.ref >= 0 and step.ref not in new):
            continue
        new[number] = len(kept)
        kept.append(step._replace(ref=new[step.ref]) if step.ref >= 0 else step)
    return tuple(kept)


def _simpler(step: Operation) -> list[Operation]:
    found = []
    if step.pfns is not None:
        count = len(step.pfns)
        for size in (count // 2, count // 4, count // 8, 1):
            if 0 < size < count:
                found += [step._replace(pfns=step.pfns[size:]), step._replace(pfns=step.pfns[:-size])]
        parts = runs(step.pfns)
        if len(parts) < 40:
            for index, (first, length) in enumerate(parts):
                rounder = [bits for bits in (first & -first, first & ~(first & -first), 16) if bits < first != NULL]
                found += [
                    step._replace(pfns=array_of([*parts[:index], (value, length), *parts[index + 1 :]]))
                    for value in rounder
                ]
        if step.call == "vmap" and step.flags != VM_MAP:
            found.append(step._replace(flags=VM_MAP))
    for name in ("pages", "offset", "pfn"):
        value: int = getattr(step, name)
        least = 1 if name == "pages" and step.call != "tables" else 0
        for less in (least, value // 2, value - 1):
            if least <= less < value:
                changed: dict[str, Any] = {name: less}
                found.append(step._replace(**changed))
    return found
