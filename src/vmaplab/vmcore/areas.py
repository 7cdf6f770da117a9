# SPDX-License-Identifier: GPL-2.0-only
"""The vmalloc areas of a kernel whose memory is read, and what its page tables have for each."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.flags import (
    VM_ALLOC,
    VM_ALLOW_HUGE_VMAP,
    VM_DMA_COHERENT,
    VM_IOREMAP,
    VM_MAP,
    VM_NO_GUARD,
    VM_SPARSE,
    VM_USERMAP,
)
from vmaplab.errors import InputError, Violation
from vmaplab.judge import invariants
from vmaplab.judge.format import U64
from vmaplab.judge.walker import Walk, walk_in
from vmaplab.mapping import LEAF_DTYPE
from vmaplab.vmcore.image import KernelMemory
from vmaplab.vmcore.layouts.base import symbol
from vmaplab.vmcore.memory import Unreadable
from vmaplab.vmcore.tables import MOST_BYTES, TablePages

_MOST_AREAS = 1 << 17
_MOST_NODES = 1 << 10
_MOST_PAGES = 1 << 21
"""Pages of an area that are looked at: 8 GiB of 4 KiB pages."""
_ALL_PAGES = 1 << 22
"""Pages of all areas together that are looked at."""
_ALL_TABLES = 256 << 20
"""Bytes of tables that are read for all walks together."""
_WINDOW = 1 << 32
"""Bytes of areas that are walked at once."""
_FAR = 1 << 40
"""Bytes between two areas that are not walked at once: other things can lie there."""
_MOST_WINDOWS = 1 << 10
_MOST_COMPLAINTS = 8
VMAP_RAM = 1
_WORDS = (
    (VM_IOREMAP, "ioremap"),
    (VM_ALLOC, "vmalloc"),
    (VM_MAP, "vmap"),
    (VM_USERMAP, "user"),
    (VM_DMA_COHERENT, "dma-coherent"),
    (VM_SPARSE, "sparse"),
    (VM_ALLOW_HUGE_VMAP, "huge"),
)
"""Flags of a vm_struct, as /proc/vmallocinfo words them; it does not have the last."""


@dataclass
class Area:
    """One vmap_area with its vm_struct, and what is mapped there.

    :ivar start: va_start; ``end``: va_end, the guard page included.
    :ivar flags: of the vm_struct; ``ram``: it is of vm_map_ram() and has none.
    :ivar caller: as ``%pS`` prints it.
    :ivar phys: phys_addr of the vm_struct; ``pages_at``: where its array of pages is.
    :ivar pages: PFN of each entry of vm_struct.pages, in order; None if it has none.
    :ivar leaves: as the MMU sees them, ``LEAF_DTYPE``: a complete group is one.
    :ivar va: address of each page that is mapped, ascending; ``pfn``: where it goes.
    :ivar large: it has too many pages to look at each.
    :ivar problems: what is wrong, one line each.
    """

    start: int
    end: int
    flags: int = 0
    ram: bool = False
    caller: str = ""
    phys: int = 0
    pages_at: int = 0
    vpages: bool = False
    large: bool = False
    pages: U64 | None = None
    leaves: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, dtype=LEAF_DTYPE))
    va: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    pfn: U64 = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    problems: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """What it is for, in the words of /proc/vmallocinfo."""
        if self.ram:
            return "vm_map_ram"
        words = [word for flag, word in _WORDS if self.flags & flag] + ["vpages"] * self.vpages
        return " ".join(words) or (f"flags {self.flags:#x}" if self.flags else "-")

    def size(self, page: int) -> int:
        """Bytes without the guard page, ``get_vm_area_size()``; areas of pcpu_get_vm_areas() have none."""
        percpu = self.flags & VM_ALLOC and not self.pages_at
        guard = 0 if self.ram or percpu or self.flags & VM_NO_GUARD else page
        return max(self.end - self.start - guard, 0)

    def whole(self, page: int) -> bool:
        """Whether all of it is mapped, and nothing twice: it is what one vmap() could have made."""
        count = self.size(page) // page
        return bool(count) and len(self.va) == count and int(self.va[-1]) - int(self.va[0]) == (count - 1) * page


@dataclass
class Areas:
    """All areas of a kernel.

    :ivar problems: what is wrong with no area in particular, one line each.
    :ivar tables: page tables that were read.
    :ivar translated: pages that an emulated MMU translated as the walker did; ``cpu``: which.
    """

    kernel: KernelMemory
    areas: list[Area]
    problems: list[str]
    tables: int = 0
    translated: int = 0
    cpu: str = ""

    @cached_property
    def damaged(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.problems) or any(area.problems for area in self.areas)


def read_areas(kernel: KernelMemory) -> Areas:
    """Every area that is in use, ascending, with what is mapped there, judged by walker and MMU.

    Source: ``struct vmap_area``, ``vm_struct`` and ``vmap_node`` of mm/vmalloc.c; before 6.9 there is one list.

    :raises InputError: if the kernel's areas cannot be found at all.
    """
    problems: list[str] = []
    areas = sorted(_listed(kernel, problems), key=lambda area: (area.start, area.end))
    for one, other in pairwise(areas):
        if other.start < one.end:
            other.problems.append(f"begins inside the area of {one.start:#x}")
    starts = [area.start for area in areas]
    for area in areas:
        number = bisect_right(starts, area.pages_at) - 1
        area.vpages = number >= 0 and area.pages_at < areas[number].end
    found = Areas(kernel, areas, problems)
    _look(found)
    return found


def _listed(kernel: KernelMemory, problems: list[str]) -> Iterator[Area]:
    """The areas as the kernel's lists have them."""
    offset = _offsets(kernel)
    seen: set[int] = set()
    for name, head in _heads(kernel):
        at, before = head, head
        while True:
            try:
                at, back = kernel.word(at), at
                if at == head:
                    break
                if (known := kernel.word(at + 8)) != back:
                    problems.append(f"the list of {name} is broken: {at:#x}, after {back:#x}, has {known:#x} before it")
                    break
            except Unreadable as error:
                problems.append(f"the list of {name} is broken after {before:#x}: {error}")
                break
            before = at
            if at in seen or len(seen) >= _MOST_AREAS:
                what = f"comes back to {at:#x}" if at in seen else f"has more than {_MOST_AREAS} entries"
                problems.append(f"the list of {name} is broken: it {what}")
                break
            seen.add(at)
            try:
                area = _area(kernel, at - offset["vmap_area.list"], offset)
            except Unreadable as error:
                problems.append(f"the vmap_area at {at - offset['vmap_area.list']:#x} cannot be read: {error}")
                continue
            if isinstance(area, str):
                problems.append(area)
            else:
                yield area


_MEMBERS = {
    "vmap_area": ("va_start", "va_end", "list", "vm", "flags"),
    "vm_struct": ("addr", "size", "flags", "pages", "nr_pages", "phys_addr", "caller"),
}


def _offsets(kernel: KernelMemory) -> dict[str, int]:
    """Where members are, as the kernel's types have it.

    :raises InputError: if one is not there.
    """
    found: dict[str, int] = {}
    for name, members in _MEMBERS.items():
        for member in members:
            where = kernel.types.offset(name, member)
            if where is None and (name, member) != ("vmap_area", "flags"):  # from 6.3 on
                raise InputError(f"{kernel.name}: the kernel's struct {name} has no member '{member}'")
            found[f"{name}.{member}"] = where if where is not None else -1
    return found


def _heads(kernel: KernelMemory) -> Iterator[tuple[str, int]]:
    """The lists of areas in use: one of each node, or the only one."""
    nodes, count = kernel.symbols.get("vmap_nodes"), kernel.symbols.get("nr_vmap_nodes")
    if nodes is None or count is None:
        head = kernel.symbols.get("vmap_area_list")
        if head is None and "SYMBOL(vmap_area_list)" in kernel.info:
            head = symbol(kernel.info, "vmap_area_list")
        if head is None:
            raise InputError(
                f"{kernel.name}: the kernel's symbol table has neither vmap_nodes nor vmap_area_list "
                "(CONFIG_KALLSYMS_ALL): give its ,vmlinux=FILE"
            )
        yield "vmap_area_list", head
        return
    size, busy = kernel.types.size("vmap_node"), kernel.types.offset("vmap_node", "busy.head")
    if not size or busy is None:
        raise InputError(f"{kernel.name}: the kernel has vmap_nodes, and its types have no struct vmap_node")
    first, number = kernel.word(nodes), kernel.word(count, 4)
    if not 0 < number <= _MOST_NODES:
        raise InputError(f"{kernel.name}: the kernel is said to have {number} vmap_nodes")
    for index in range(number):
        yield f"vmap_nodes[{index}]", first + index * size + busy


def _area(kernel: KernelMemory, at: int, offset: dict[str, int]) -> Area | str:
    """The area whose vmap_area is at ``at``, or what is wrong with it."""

    def member(base: int, name: str, size: int = 8) -> int:
        return kernel.word(base + offset[name], size)

    start, end = member(at, "vmap_area.va_start"), member(at, "vmap_area.va_end")
    half = kernel.form.kernel_half
    if not half <= start < end or (start | end) % kernel.page_size:
        return f"the vmap_area at {at:#x} is of [{start:#x}, {end:#x}), which is no area"
    area = Area(start, end)
    vm = member(at, "vmap_area.vm")
    if offset["vmap_area.flags"] >= 0:
        area.ram = bool(member(at, "vmap_area.flags") & VMAP_RAM)
    if not vm or area.ram:
        area.ram = True
        return area
    try:
        area.flags = member(vm, "vm_struct.flags")
        area.phys = member(vm, "vm_struct.phys_addr")
        caller = member(vm, "vm_struct.caller")
        area.caller = kernel.text_of(caller) if caller else ""
        addr, size = member(vm, "vm_struct.addr"), member(vm, "vm_struct.size")
        if (addr, size) != (start, end - start):
            area.problems.append(f"its vm_struct at {vm:#x} is of {size:#x} bytes at {addr:#x}")
        pages, count = member(vm, "vm_struct.pages"), member(vm, "vm_struct.nr_pages", 4)
        area.pages_at = pages
        if pages and count:
            area.pages = _pages(kernel, area, pages, count)
    except Unreadable as error:
        area.problems.append(f"its vm_struct at {vm:#x} cannot be read: {error}")
    return area


def _pages(kernel: KernelMemory, area: Area, where: int, count: int) -> U64 | None:
    """The PFNs of ``vm_struct.pages``; what is wrong with them is said."""
    room = area.size(kernel.page_size) // kernel.page_size
    if count > room:
        area.problems.append(f"it has {count} pages, and room for {room}")
        return None
    if count > _MOST_PAGES or kernel.vmemmap is None:
        return None
    try:
        found = np.frombuffer(kernel.read(where, 8 * count), dtype="<u8").astype(np.uint64)
    except Unreadable as error:
        area.problems.append(f"its pages at {where:#x} cannot be read: {error}")
        return None
    base, size = kernel.vmemmap
    offset = found - np.uint64(base)
    if len(bad := np.flatnonzero(offset % np.uint64(size))):
        area.problems.append(f"its pages[{bad[0]}] is {int(found[bad[0]]):#x}, which is no struct page")
        return None
    return offset // np.uint64(size)


def _look(found: Areas) -> None:
    """Walk the tables of all areas, and have an MMU translate what the walker found."""
    kernel, read, pages_seen = found.kernel, 0, 0
    for number, window in enumerate(_windows(found.areas)):
        if number == _MOST_WINDOWS or read > _ALL_TABLES:
            found.problems.append(
                f"the areas from {window[0].start:#x} on are not looked at: they are too much, or far"
            )
            break
        pages = TablePages(kernel.memory, kernel.form)
        walk = walk_in(pages, kernel.root, kernel.form, window[0].start, max(area.end for area in window))
        found.problems += walk.complaints[:_MOST_COMPLAINTS]
        if len(walk.complaints) > _MOST_COMPLAINTS:
            found.problems.append(f"and {len(walk.complaints) - _MOST_COMPLAINTS} more of the kind")
        if pages.full:
            found.problems.append(
                f"the tables from {window[0].start:#x} on have more than {MOST_BYTES >> 20} MiB: the rest is left out"
            )
        found.tables += len(walk.tables) + 1
        for area in window:
            _judge(kernel, area, walk, min(_MOST_PAGES, _ALL_PAGES - pages_seen))
            pages_seen += max(len(area.va), len(area.leaves))
        _translate(found, window, pages)
        read += pages.effort


def _windows(areas: list[Area]) -> Iterator[list[Area]]:
    """Areas that are looked at together: near each other, and not too large in all."""
    window: list[Area] = []
    size = 0
    for area in areas:
        if window and (size > _WINDOW or area.start - window[-1].end > _FAR):
            yield window
            window, size = [], 0
        window.append(area)
        size += area.end - area.start
    if window:
        yield window


def _judge(kernel: KernelMemory, area: Area, walk: Walk, most: int) -> None:
    """What the tables have for an area, and whether that is what it says of itself; of ``most`` pages at most."""
    page = kernel.page_size
    first, last = np.searchsorted(walk.entries["va"], np.array([area.start, area.end], dtype=np.uint64))
    entries = walk.entries[first:last]
    if first and (reach := walk.leaf_of(area.start)) and reach[0] < area.start:
        area.problems.append(f"a leaf that begins at {reach[0]:#x} reaches into it")
    if not len(entries):
        if area.pages is not None:
            area.problems.append(f"none of its {len(area.pages)} pages is mapped")
        return
    if len(entries) > most:
        area.large = True
        return
    area.leaves = invariants.as_built(entries, page)
    if int((entries["size"] // np.uint64(page)).sum()) > most:
        area.large = True
        return
    for rule in (invariants.alignment, lambda them: invariants.groups(them, kernel.form)):
        try:
            rule(entries)
        except Violation as error:
            area.problems.append(str(error))
    va, phys = invariants.spread(entries, np.uint64(page))
    area.va, area.pfn = va, phys // np.uint64(page)
    size = area.size(page)
    if int(va[-1]) >= area.start + size:
        at = int(va[np.searchsorted(va, np.uint64(area.start + size))])
        what = "its guard page" if at < area.end else f"{at:#x}, behind its end,"
        area.problems.append(f"{what} is mapped")
    if area.pages is not None:
        _as_listed(area, page)
    elif area.flags & VM_MAP and not area.phys and len(va) * page < size:
        area.problems.append(f"{len(va)} of its {size // page} pages are mapped")


def _as_listed(area: Area, page: int) -> None:
    """Each of ``vm_struct.pages`` is mapped in its place."""
    assert area.pages is not None
    wanted = np.uint64(area.start) + np.arange(len(area.pages), dtype=np.uint64) * np.uint64(page)
    at = np.minimum(np.searchsorted(area.va, wanted), len(area.va) - 1)
    there = area.va[at] == wanted
    wrong = np.flatnonzero(there & (area.pfn[at] != area.pages))
    if len(wrong):
        one = int(wrong[0])
        area.problems.append(
            f"{int(wanted[one]):#x} is mapped to PFN {int(area.pfn[at[one]]):#x}, and pages[{one}] is PFN "
            f"{int(area.pages[one]):#x} ({len(wrong)} of {len(area.pages)} differ)"
        )
    if not there.all():
        one = int(np.flatnonzero(~there)[0])
        area.problems.append(f"pages[{one}] of {len(area.pages)} is not mapped ({int((~there).sum())} are not)")


def _translate(found: Areas, window: Iterable[Area], pages: TablePages) -> None:
    """Have an emulated MMU translate every page that the walker found: they agree, or that is a problem."""
    form = found.kernel.form
    areas = [area for area in window if len(area.va)]
    if form.machine is None or not areas:
        return
    from vmaplab.judge.mmu import READ, sparse

    machine = sparse(form, found.kernel.root, {at: pages.words[i : i + n] for at, (i, n) in pages.places.items()})
    if machine is None:
        return
    found.cpu = form.cpu
    page = found.kernel.page_size
    for area in areas:
        phys = area.pfn * np.uint64(page)
        reach = phys < np.uint64(1 << form.machine_bits)
        to, taken = machine.translate(area.va[reach], READ)
        if len(bad := np.flatnonzero(~taken | (to != phys[reach]))):
            one = int(bad[0])
            where = f"goes to {int(to[one]):#x}" if taken[one] else "is refused"
            area.problems.append(
                f"the MMU: {int(area.va[reach][one]):#x} {where}, the walker has {int(phys[reach][one]):#x}"
            )
        found.translated += len(to)
