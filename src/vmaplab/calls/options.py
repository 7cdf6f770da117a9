# SPDX-License-Identifier: GPL-2.0-only
"""What may be left out of a vmalloc() step, and how it is kept in the flags of an operation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from vmaplab.calls.flags import VM_DMA_COHERENT, VM_FLUSH_RESET_PERMS, VM_NO_GUARD, VM_USERMAP
from vmaplab.calls.kinds import Kind, Source
from vmaplab.calls.operation import Operation
from vmaplab.pages.runs import frame_number, page_count

MOST_EXTENTS = 64
"""Areas that pcpu_get_vm_areas() gets at a time here."""

GFP = ("GFP_KERNEL", "GFP_NOFS", "GFP_NOIO", "GFP_KERNEL_ACCOUNT", "GFP_KERNEL|__GFP_ZERO", "GFP_KERNEL|__GFP_NOFAIL")
"""GFP flags that a vmalloc() can have: an object's vmaplab_vmalloc() takes their place here."""

BY = (
    "__vmalloc_node_range",
    "vmalloc",
    "vzalloc",
    "vmalloc_node",
    "vzalloc_node",
    "__vmalloc",
    "vmalloc_32",
    "vmalloc_huge",
    "vmalloc_user",
    "vmalloc_32_user",
)
"""The members of the vmalloc() family: an object's vmaplab_vmalloc() takes their place here."""

ZEROING = frozenset({"vzalloc", "vzalloc_node", "vmalloc_user", "vmalloc_32_user"})
"""Those that give zeroes; ``TAKE_GFP``: those that do where their GFP flags say so."""
TAKE_GFP = frozenset({"__vmalloc_node_range", "__vmalloc", "vmalloc_huge"})


class _Bits(Kind):
    """A part of the flags of a step: ``width`` bits from bit ``at`` on, 0 if it is left out.

    :param prefix: how its word begins.
    """

    optional = True

    def __init__(self, prefix: str, at: int, width: int) -> None:
        self._prefix, self._at, self._mask = prefix, at, (1 << width) - 1 << at

    def of(self, step: Operation) -> int:
        """What the step has there."""
        return (step.flags & self._mask) >> self._at

    def put(self, number: int) -> int:
        """The flags of a step that has ``number`` there and nothing else."""
        return number << self._at

    def _number(self, word: str) -> int:
        """The number that the rest of a word spells."""
        raise NotImplementedError

    def _word(self, number: int) -> str:
        """The reverse."""
        raise NotImplementedError

    def takes(self, word: str) -> bool:
        return word.startswith(self._prefix)

    def parse(self, word: str, before: int) -> dict[str, Any]:
        return {"flags": self.put(self._number(word.removeprefix(self._prefix))) if word else 0}

    def text(self, step: Operation) -> str:
        return self._prefix + self._word(self.of(step)) if self.of(step) else ""

    def simpler(self, step: Operation) -> Iterator[Operation]:
        if self.of(step):
            yield step._replace(flags=step.flags & ~self._mask)


class Huge(_Bits):
    """``huge``: with VM_ALLOW_HUGE_VMAP."""

    def __init__(self) -> None:
        super().__init__("huge", 0, 1)

    def _number(self, word: str) -> int:
        if word:
            raise ValueError(word)
        return 1

    def _word(self, number: int) -> str:
        return ""

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        return {"flags": source.rng.randrange(2)}


class Align(_Bits):
    """``align=16``: pages to which an area is aligned."""

    def __init__(self) -> None:
        super().__init__("align=", 1, 6)

    def pages(self, step: Operation) -> int:
        """To how many pages the step aligns."""
        return 1 << self.of(step)

    def _number(self, word: str) -> int:
        pages = page_count(word)
        if pages < 1 or pages & (pages - 1):
            raise ValueError("an alignment is a power of two, pages")
        return pages.bit_length() - 1

    def _word(self, number: int) -> str:
        return str(1 << number)

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        return {"flags": self.put(source.rng.choice((0, 0, 0, 0, 1, 4, 9, 10, 14)))}


class VmFlags(_Bits):
    """``flags=0x100``: flags of an area beside those that the call gives it."""

    def __init__(self) -> None:
        super().__init__("flags=", 15, 32)

    def _number(self, word: str) -> int:
        flags = frame_number(word)
        if flags >= 1 << 32:
            raise ValueError("flags of an area have 32 bits")
        return flags

    def _word(self, number: int) -> str:
        return f"{number:#x}"

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        if source.rng.random() < 0.8:
            return {"flags": 0}
        flags = source.rng.choice((VM_USERMAP, VM_DMA_COHERENT, VM_FLUSH_RESET_PERMS, VM_NO_GUARD))
        return {"flags": self.put(flags)}


class ExtentsAlign(Align):
    """``align=16`` beside extents, which are drawn so that it fits."""

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        return {}


class Choice(_Bits):
    """``gfp=GFP_NOFS``: one of some names, the first where it is left out.

    :param share: how often another one may be drawn, 0 to 1.
    """

    def __init__(self, prefix: str, at: int, names: tuple[str, ...], share: float) -> None:
        super().__init__(prefix, at, 4)
        self._names, self._share = names, share

    def _number(self, word: str) -> int:
        if word not in self._names:
            raise ValueError(f"{self._prefix} is one of {' '.join(self._names)}")
        return self._names.index(word)

    def _word(self, number: int) -> str:
        return self._names[number]

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        chosen = source.rng.randrange(len(self._names)) if source.rng.random() < self._share else 0
        return {"flags": self.put(chosen)}


HUGE, ALIGN, GFP_FLAGS, FUNCTION = Huge(), Align(), Choice("gfp=", 7, GFP, 0.7), Choice("by=", 11, BY, 0.2)
VM_FLAGS = VmFlags()
"""The parts of the flags of a vmalloc step."""


class Window(Kind):
    """``at=0xffff800080000000+600``: where an area may lie: from an address on, so many pages."""

    optional = True

    def takes(self, word: str) -> bool:
        return word.startswith("at=")

    def parse(self, word: str, before: int) -> dict[str, Any]:
        if not word:
            return {}
        match = re.fullmatch(r"at=(0x[0-9a-f]{1,16})\+(\w+)", word)
        if match is None:
            raise ValueError(word)
        return {"addr": int(match[1], 16), "pfn": page_count(match[2])}

    def text(self, step: Operation) -> str:
        return f"at={step.addr:#x}+{step.pfn}" if step.addr else ""

    def simpler(self, step: Operation) -> Iterator[Operation]:
        if step.addr:
            yield step._replace(addr=0, pfn=0)

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        if source.rng.random() < 0.85:
            return {}
        pages = source.some_pages() * source.rng.choice((1, 2, 8))
        return {"addr": source.start + source.rng.randrange(64) * source.page, "pfn": pages}


class Extents(Kind):
    """``0+8,64+8``: areas that lie so to each other, each its distance and its size, pages; the array has both."""

    def parse(self, word: str, before: int) -> dict[str, Any]:
        reads = frame_number, page_count
        parts = [re.fullmatch(r"(\w+)\+(\w+)", part) for part in word.split(",")]
        numbers = [read(word) for part in parts if part for read, word in zip(reads, part.groups(), strict=True)]
        if len(numbers) < 2 * len(parts) or 0 in numbers[1::2] or len(parts) > MOST_EXTENTS:
            raise ValueError(f"it takes 1 to {MOST_EXTENTS} areas like 0+8,64+8: distance and size of each, pages")
        return {"pfns": np.array(numbers, dtype=np.uint64)}

    def text(self, step: Operation) -> str:
        numbers = [] if step.pfns is None else step.pfns.tolist()
        return ",".join(f"{at}+{size}" for at, size in zip(numbers[::2], numbers[1::2], strict=True))

    def simpler(self, step: Operation) -> Iterator[Operation]:
        numbers = [] if step.pfns is None else step.pfns.tolist()
        for at in range(0, len(numbers) if len(numbers) > 2 else 0, 2):
            yield step._replace(pfns=np.array(numbers[:at] + numbers[at + 2 :], dtype=np.uint64))

    def draw(self, source: Source, limit: int) -> dict[str, Any]:
        rng, align = source.rng, 1 << source.rng.choice((0, 0, 1, 4, 9))
        count = rng.choice((1, 2, 2, 3, 4))
        sizes = [align * rng.choice((1, 1, 2, rng.randrange(1, 9)))] * count
        if rng.random() < 0.5:
            sizes = [align * rng.randrange(1, 9) for _ in range(count)]
        places, end = [], align * rng.choice((0, 0, 1, rng.randrange(64)))
        for size in sizes:
            places.append((end, size))
            end += size + align * rng.choice((0, 0, 1, 16, rng.randrange(1 << 12)))
        rng.shuffle(places)
        pfns = np.array([number for place in places for number in place], dtype=np.uint64)
        return {"pfns": pfns, "flags": ALIGN.put(align.bit_length() - 1)}
