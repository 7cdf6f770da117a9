# SPDX-License-Identifier: GPL-2.0-only
"""What vmap() of each release would build for the pages of another kernel's areas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from vmaplab.calls.flags import VM_ALLOC, VM_DMA_COHERENT, VM_IOREMAP, VM_MAP
from vmaplab.errors import VmapError
from vmaplab.kernel import Kernel
from vmaplab.vmcore.areas import Area, Areas

_BOOT_ARGS = ("nohugeiomap", "nohugevmalloc")
"""Boot arguments that change which leaves are built."""


@dataclass
class Built:
    """One way to map the same areas.

    :ivar tlb: TLB entries of each area, by its address; None where vmap() refuses its pages.
    :ivar leaves: bytes of a leaf -> how many, of all areas together.
    """

    tlb: dict[int, int | None] = field(default_factory=dict)
    leaves: Counter[int] = field(default_factory=Counter)

    def add(self, area: Area, sizes: np.ndarray) -> None:
        """Count the leaves of an area, by their sizes."""
        self.tlb[area.start] = len(sizes)
        self.leaves.update(dict(zip(*(one.tolist() for one in np.unique(sizes, return_counts=True)), strict=True)))

    @property
    def entries(self) -> int:
        """TLB entries of all areas together."""
        return sum(one or 0 for one in self.tlb.values())


def comparable(found: Areas) -> list[Area]:
    """The areas that one vmap() could have made: pages of memory, wholly mapped, and nothing wrong with them."""
    return [area for area in found.areas if not why_not(area, found.kernel.page_size)]


def left_out(found: Areas) -> str:
    """Which areas are no page arrays, and why, ``3 damaged, 1 ioremap``; "" if all are."""
    page = found.kernel.page_size
    reasons = Counter(why for area in found.areas if (why := why_not(area, page)))
    return ", ".join(f"{count} {why}" for why, count in reasons.most_common())


def why_not(area: Area, page: int) -> str:
    """Why no vmap() could have made an area; "" if one could.

    :param page: bytes of a page.
    """
    if area.problems:
        return "damaged"
    if area.flags & VM_IOREMAP:
        return "ioremap"
    if area.phys:
        return "with a phys_addr"
    if not area.flags & (VM_ALLOC | VM_MAP | VM_DMA_COHERENT):
        return area.kind
    if area.large:
        return "too large"
    return "" if area.whole(page) else "not wholly mapped"


def boot_args(found: Areas) -> tuple[str, ...]:
    """The boot arguments of that kernel that change what vmap() builds."""
    where = found.kernel.symbols.get("saved_command_line")
    try:
        line = found.kernel.read(found.kernel.word(where), 2048) if where else b""
    except ValueError:
        line = b""
    words = line.partition(b"\0")[0].split()
    return tuple(word for word in _BOOT_ARGS if word.encode() in words)


def would(
    found: Areas, releases: Iterable[str], advance: Callable[[], None] = lambda: None
) -> tuple[Built, dict[str, Built]]:
    """How the comparable areas are mapped now, and how each release's vmap() would, each in a fresh address space.

    :param advance: called after each release.
    """
    areas, args = comparable(found), boot_args(found)
    now = Built()
    for area in areas:
        now.add(area, area.leaves["size"])
    then: dict[str, Built] = {}
    for release in releases:
        built = then[release] = Built()
        known: dict[bytes, np.ndarray | None] = {}
        for area in areas:
            # The same but for where it lies in a gigabyte of memory: mapped alike.
            start = int(area.pfn.min()) >> 18 << 18
            key = blake2b((area.pfn - np.uint64(start)).tobytes()).digest()
            if key not in known:
                try:
                    known[key] = Kernel(found.kernel.arch, release, args).vmap(area.pfn).leaves["size"]
                except VmapError:
                    known[key] = None
            if (sizes := known[key]) is None:
                built.tlb[area.start] = None
            else:
                built.add(area, sizes)
        advance()
    return now, then
