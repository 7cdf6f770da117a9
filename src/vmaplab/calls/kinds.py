# SPDX-License-Identifier: GPL-2.0-only
"""Kinds of arguments in a step: how they are written, which fields of an operation they fill, what is simpler.

Each also draws one at random, from what a :class:`Source` knows of an architecture.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any, Protocol

from vmaplab.calls.flags import (
    VM_ALLOW_HUGE_VMAP,
    VM_DMA_COHERENT,
    VM_FLUSH_RESET_PERMS,
    VM_MAP,
    VM_MAP_PUT_PAGES,
    VM_NO_GUARD,
    VM_SPARSE,
    VM_USERMAP,
)
from vmaplab.calls.operation import Operation
from vmaplab.pages.runs import Pfns, array_of, frame_number, page_count, parse_runs, runs, runs_text
from vmaplab.pfn import NULL_PFN


class Source(Protocol):
    """What draws arguments at random.

    :ivar rng: chooses.
    :ivar pages: of a usual page array.
    :ivar block: pages of a PMD block.
    :ivar frames: page frames that the architecture can address.
    :ivar large: whether a vmalloc() may be so large that its page array is vmalloc'ed too.
    :ivar start: lowest address of the vmalloc space; ``page``: bytes of a page.
    """

    rng: random.Random
    start: int
    page: int
    pages: int
    block: int
    frames: int
    large: bool

    def frame(self, limit: int) -> int:
        """A page frame, most times one of memory that ends before ``limit``."""

    def array(self, limit: int) -> Pfns:
        """A page array, most times of frames below ``limit``."""

    def some_pages(self) -> int:
        """A number of pages, some of them around the size of a block."""

    def aligned_frame(self, limit: int) -> int:
        """A page frame with zeroes at its end, as many as an entry can need."""


class Kind:
    """An argument that stands in the text of a step.

    :cvar optional: it may be left out at the end of a step.
    """

    optional = False

    def parse(self, word: str, before: int) -> dict[str, Any]:
        """The fields that ``word`` spells; ``before``: how many steps there are before it.

        :raises ValueError: if it is none; with words if it can be said what is wrong.
        """
        raise NotImplementedError

    def takes(self, word: str) -> bool:
        """Whether ``word`` is one of these; asked where it may be left out."""
        return True

    def text(self, step: Operation) -> str:
        """The word for ``step``, or "" where it is left out."""
        raise NotImplementedError

    def simpler(self, step: Operation) -> Iterator[Operation]:
        """``step`` with simpler ones, the simplest first."""
        return iter(())

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        """Fields at random; ``limit``: pages of RAM."""
        return {}


def _less(step: Operation, name: str, least: int) -> Iterator[Operation]:
    value: int = getattr(step, name)
    for less in (least, value // 2, value - 1):
        if least <= less < value:
            changed: dict[str, Any] = {name: less}
            yield step._replace(**changed)


class Place(Kind):
    """``@N+P``: P pages behind what step N returned; or an address in hexadecimal."""

    def parse(self, word: str, before: int) -> dict[str, Any]:
        match = re.fullmatch(r"@(\d+)(?:\+(\w+))?", word)
        if match is None:
            match = re.fullmatch(r"(0x[0-9a-f]{1,16})(?:\+(\w+))?", word)
            if match is None:
                raise ValueError(word)
            return {"offset": frame_number(match[2] or "0"), "addr": int(match[1], 16)}
        if int(match[1]) >= before:
            raise ValueError(f"there is no step {match[1]} before it")
        return {"ref": int(match[1]), "offset": frame_number(match[2] or "0")}

    def text(self, step: Operation) -> str:
        start = f"@{step.ref}" if step.ref >= 0 else f"{step.addr:#x}"
        return start + (f"+{step.offset}" if step.offset else "")

    def simpler(self, step: Operation) -> Iterator[Operation]:
        return _less(step, "offset", 0)


class Count(Kind):
    """A number of pages, or another one; ``least``: the smallest that makes sense, ``most``: the largest there is."""

    def __init__(self, least: int = 1, most: int | None = None) -> None:
        self._least, self._most = least, most

    def parse(self, word: str, before: int) -> dict[str, Any]:
        number = page_count(word)
        if self._most is not None and number > self._most:
            raise ValueError(f"it takes {self._least} to {self._most}")
        return {"pages": number}

    def text(self, step: Operation) -> str:
        return str(step.pages)

    def simpler(self, step: Operation) -> Iterator[Operation]:
        return _less(step, "pages", self._least)


class AreaPages(Count):
    """Pages of an area, which can be more than a call maps."""

    def parse(self, word: str, before: int) -> dict[str, Any]:
        return {"pages": frame_number(word)}

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        return {"pages": source.some_pages()}


class AllocPages(Count):
    """Pages that vmalloc() takes: few, or so many that the page array is vmalloc'ed too."""

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        pages = source.rng.choice((1, 2, 3, 5, 8, 16, 64))
        if source.large and source.rng.random() < 0.15:
            block = min(source.block, 2048)
            pages = source.rng.choice((min(block >> 1, 1024), block, 600, min(2 * block + 1, 2500)))
        return {"pages": pages}


class FewPages(Count):
    """Pages that a page of pointers holds."""

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        return {"pages": source.rng.choice((1, 2, 3, 16, 64, 300, 512))}


class Frame(Kind):
    """The first page frame of a range."""

    def parse(self, word: str, before: int) -> dict[str, Any]:
        return {"pfn": frame_number(word)}

    def text(self, step: Operation) -> str:
        return f"{step.pfn:#x}"

    def simpler(self, step: Operation) -> Iterator[Operation]:
        return _less(step, "pfn", 0)


class PageOffset(Frame):
    """How many pages behind an address; any unsigned long."""

    def parse(self, word: str, before: int) -> dict[str, Any]:
        number = int(word, 0)
        if not 0 <= number < 1 << 64:
            raise ValueError("it is no unsigned long")
        return {"pfn": number}


class Range(Kind):
    """``0x80000+512``: a physical range."""

    def parse(self, word: str, before: int) -> dict[str, Any]:
        ranges = runs(parse_runs(word))
        if len(ranges) != 1:
            raise ValueError("it takes one physical range")
        ((first, count),) = ranges
        if first == NULL_PFN:
            raise ValueError("a physical range has no NULL pages")
        return {"pfn": first, "pages": count}

    def text(self, step: Operation) -> str:
        return f"{step.pfn:#x}+{step.pages}"

    def simpler(self, step: Operation) -> Iterator[Operation]:
        yield from _less(step, "pages", 1)
        yield from _less(step, "pfn", 0)

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        rng = source.rng
        pages = source.block * rng.randrange(1, 4) if rng.random() < 0.2 else source.some_pages()
        return {"pfn": min(source.aligned_frame(limit), source.frames - pages), "pages": pages}


class Runs(Kind):
    """``0x100+16,null,0x7``: a page array."""

    def parse(self, word: str, before: int) -> dict[str, Any]:
        return {"pfns": parse_runs(word)}

    def text(self, step: Operation) -> str:
        return "" if step.pfns is None else runs_text(step.pfns)

    def simpler(self, step: Operation) -> Iterator[Operation]:
        pfns = step.pfns
        if pfns is None:
            return
        count = len(pfns)
        for size in (count // 2, count // 4, count // 8, 1):
            if 0 < size < count:
                yield step._replace(pfns=pfns[size:])
                yield step._replace(pfns=pfns[:-size])
        parts = runs(pfns)
        for index, (first, length) in enumerate(parts if len(parts) < 40 else []):
            rounder = [bits for bits in (first & -first, first & ~(first & -first), 16) if bits < first != NULL_PFN]
            for value in rounder:
                yield step._replace(pfns=array_of([*parts[:index], (value, length), *parts[index + 1 :]]))

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        return {"pfns": source.array(limit)}


class FewRuns(Runs):
    """A page array of one run, of sizes around those that a vmap block takes."""

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        rng = source.rng
        pages = rng.choice((1, 2, 3, 16, 33, rng.randrange(1, 65), rng.randrange(1, source.pages + 64)))
        return {"pfns": array_of([(max(source.frame(limit - pages), 0), pages)])}


class Beyond(Runs):
    """Page frames that are no memory."""

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        few = [source.frame(limit) for _ in range(source.rng.randrange(1, 5))]
        beyond = limit if source.rng.random() < 0.9 else 0
        return {"pfns": array_of([(beyond + frame, 1) for frame in few])}


class Flags(Kind):
    """``flags=0x1000``: flags of an area; VM_MAP if left out."""

    optional = True

    def takes(self, word: str) -> bool:
        return word.startswith("flags=")

    def parse(self, word: str, before: int) -> dict[str, Any]:
        return {"flags": frame_number(word.removeprefix("flags=")) if word else VM_MAP}

    def text(self, step: Operation) -> str:
        return f"flags={step.flags:#x}" if step.flags != VM_MAP else ""

    def simpler(self, step: Operation) -> Iterator[Operation]:
        if step.flags != VM_MAP:
            yield step._replace(flags=VM_MAP)

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        return {"flags": source.rng.choice((VM_MAP, VM_SPARSE, VM_SPARSE, VM_MAP | VM_NO_GUARD))}


_HARMLESS = (VM_USERMAP, VM_DMA_COHERENT, VM_ALLOW_HUGE_VMAP, VM_SPARSE)
"""Flags of an area that vmap() takes without a word."""


class VmapFlags(Flags):
    """Flags of vmap()."""

    def parse(self, word: str, before: int) -> dict[str, Any]:
        found = super().parse(word, before)
        if found["flags"] & VM_MAP_PUT_PAGES:
            raise ValueError("VM_MAP_PUT_PAGES hands over pages that no allocator gave")
        return found

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        rng = source.rng
        if rng.random() < 0.9:
            return {"flags": VM_MAP}
        return {"flags": VM_MAP | rng.choice((*_HARMLESS, VM_NO_GUARD, VM_FLUSH_RESET_PERMS))}


def merged(fields: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """``fields`` of an operation and ``more`` of them; several kinds of a step can share its flags."""
    flags = fields.get("flags", 0) | more.get("flags", 0)
    both = fields | more
    return both | {"flags": flags} if "flags" in both else both


class Shift(Kind):
    """log2 of the chunks in which pages are contiguous."""

    def parse(self, word: str, before: int) -> dict[str, Any]:
        return {"flags": frame_number(word)}

    def text(self, step: Operation) -> str:
        return str(step.flags)


class More(Kind):
    """``+512``: bytes more, so that a range ends at no page."""

    optional = True

    def takes(self, word: str) -> bool:
        return word.startswith("+")

    def parse(self, word: str, before: int) -> dict[str, Any]:
        return {"flags": page_count(word[1:]) if word else 0}

    def text(self, step: Operation) -> str:
        return f"+{step.flags}" if step.flags else ""


class Second(Kind):
    """A second number of an allocation."""

    optional = True

    def parse(self, word: str, before: int) -> dict[str, Any]:
        return {"pfn": page_count(word) if word else -1}

    def text(self, step: Operation) -> str:
        return str(step.pfn) if step.pfn >= 0 else ""

    def simpler(self, step: Operation) -> Iterator[Operation]:
        if step.pfn >= 0:
            yield step._replace(pfn=-1)
