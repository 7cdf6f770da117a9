"""One kernel address space: an architecture, a release, boot arguments and a configuration."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Iterable
from collections.abc import Mapping as Dict
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmaplab import arch as arches
from vmaplab import release as releases
from vmaplab.arch import Arch
from vmaplab.config import LARGEST_SHIFT, batching_of, complete_config, geometry_of, parse_boot_args
from vmaplab.cost import Cost
from vmaplab.errors import InputError, VmapError
from vmaplab.mapping import LEAF_DTYPE, Event, Mapping, events_of
from vmaplab.pages import heap
from vmaplab.pages.array import check_page_size, page_array
from vmaplab.pgtable.geometry import Ints, signed, unsigned
from vmaplab.pgtable.memory import (
    LOGGED,
    STOPPED,
    W_BUSY,
    W_INVALID,
    W_NULL,
    W_PARTIAL,
    WARNED,
    TableMemory,
    Tables,
)
from vmaplab.pgtable.unmap import list_leaves, translate, unmap_range
from vmaplab.pgtable.walk import map_range
from vmaplab.release import Release
from vmaplab.vmalloc.area import AddressSpace, VmArea
from vmaplab.vmalloc.batch import (
    arch_vmap_pte_supported_shift,
    vm_shift,
    vmap_batched,
    vmap_pages_range,
)
from vmaplab.vmalloc.flags import (
    VM_ALLOC,
    VM_ALLOW_HUGE_VMAP,
    VM_FLUSH_RESET_PERMS,
    VM_IOREMAP,
    VM_MAP,
    VM_MAP_PUT_PAGES,
    VM_NO_GUARD,
)

LAZY_MAX_BYTES = 32 << 20  # lazy_max_pages() of one CPU

_WARNINGS = {
    W_BUSY: "an entry is already set",
    W_NULL: "NULL page",
    W_INVALID: "PFN not valid",
    W_PARTIAL: "unmapped part of a contiguous group or of a block",
}


class Kernel:
    """A kernel's vmalloc address space and its page tables.

    >>> from vmaplab import Kernel, pages
    >>> kernel = Kernel("arm64-4k", release="series-v4")
    >>> mapping = kernel.vmap(pages.load("heap:1M", arch="arm64-4k"))
    >>> mapping.cost.pages, mapping.cost.tlb_entries
    (256, 16)

    :param arch: name of an architecture, see ``vmaplab arches``.
    :param release: name of a release or patch version, see ``vmaplab releases``; or a ``Release``.
    :param boot_args: ``nohugeiomap``, ``nohugevmalloc``; a string or several.
    :param total_pages: pages of RAM: PFNs from there on are not valid, larger arrays are refused.
    :param config: ``{"KMSAN": True, "HUGETLB_PAGE": False, ...}``, without ``CONFIG_``.
    :param record: keep the events of each call.
    :param max_tables: page tables that can be allocated before the kernel runs out of memory.
    :raises InputError: for a name that is not known.
    """

    def __init__(
        self,
        arch: str,
        release: str | Release = releases.DEFAULT,
        boot_args: str | Iterable[str] = (),
        *,
        total_pages: int | None = None,
        config: Dict[str, bool] | None = None,
        record: bool = False,
        max_tables: int | None = None,
    ) -> None:
        self.arch: Arch = arches.get(arch)
        self.release: Release = release if isinstance(release, Release) else releases.get(release)
        self.boot_args = parse_boot_args(boot_args)
        self.config = complete_config(self.arch, config)
        if total_pages is not None and total_pages < 1:
            raise InputError(f"total_pages is {total_pages}; a machine has at least one page")
        if max_tables is not None and max_tables < 0:
            raise InputError(f"max_tables is {max_tables}; it cannot be negative")
        self.total_pages = total_pages
        self.record = record
        self.events: list[Event] = []
        self.warnings: list[str] = []
        self._g = geometry_of(self.arch, self.release, self.config, total_pages)
        pmd_shift = self._g.shift[1]
        self._batching = batching_of(self.arch, self.release, self.config, self.boot_args, pmd_shift)
        self._memory = TableMemory(self._g, max_tables)
        self._quarter = (self.arch.vmalloc_end - self.arch.vmalloc_start + 1) // 4 & -self.arch.page_size
        vmalloc_end = self.arch.vmalloc_end
        if self.config["KMSAN"]:
            vmalloc_end = self.arch.vmalloc_start + self._quarter
        self._space = AddressSpace(self.arch.vmalloc_start, vmalloc_end, LAZY_MAX_BYTES)
        self._io_space = (
            AddressSpace(self.arch.ioremap_start, self.arch.ioremap_end, LAZY_MAX_BYTES)
            if self.arch.ioremap_start
            else self._space
        )
        self._mappings: weakref.WeakValueDictionary[int, Mapping] = weakref.WeakValueDictionary()
        self._buddy: heap.Buddy | None = None

    # -- the calls ----------------------------------------------------------------------------------

    def vmap(self, pfns: ArrayLike, flags: int = VM_MAP, prot: int | None = None) -> Mapping:
        """``vmap(pages, count, flags, prot)``.

        :param pfns: one PFN per page, in mapping order; ``2**64 - 1`` is a NULL page.
        :param flags: ``VM_*`` of :mod:`vmaplab.vmalloc.flags`.
        :param prot: protection value; PAGE_KERNEL if None. The kernel applies ``pgprot_nx()``.
        :raises VmapError: as the kernel fails; nothing stays mapped then.
        :raises InputError: if ``pfns`` is no array of page frame numbers, or of another page size.
        """
        array = page_array(pfns)
        check_page_size(pfns, self.arch)
        seen = self._begin()
        if flags & VM_FLUSH_RESET_PERMS:
            self._warn("vmap() does not take VM_FLUSH_RESET_PERMS")
            raise VmapError(errno.EINVAL, "vmap() does not take VM_FLUSH_RESET_PERMS")
        if flags & VM_NO_GUARD:
            self._warn("vmap() does not take VM_NO_GUARD; dropped")
            flags &= ~VM_NO_GUARD
        if self.total_pages is not None and len(array) > self.total_pages:
            raise VmapError(errno.ENOMEM, f"{len(array)} pages, but the machine has {self.total_pages}")
        if not len(array):
            raise VmapError(errno.EINVAL, "no pages to map")
        size = len(array) << self.arch.page_shift
        area = self._vmap_area(size, flags)
        ints = array.view(np.int64)
        err, tables = self._map_array(area.addr, size, ints, self._prots(prot), self.arch.page_shift, vmap=True)
        self._flush("flush_cache_vmap", area.addr, area.addr + size)
        if err:
            reason = self._why(tables, err, ints)
            self.vunmap(area.addr)
            raise VmapError(err, reason)
        if flags & VM_MAP_PUT_PAGES:
            area.pages = array
        return self._mapping(area, size, tables, seen)

    def vunmap(self, addr: int) -> None:
        """``vunmap(addr)``: clear the entries, free the area lazily; the pages stay their owner's.

        As in the kernel, any page of an area stands for the area, and address 0 for none.

        :raises VmapError: EINVAL if there is no area at ``addr`` (a warning in the kernel).
        """
        if addr:
            self._remove_area(addr, "vunmap")

    def vfree(self, addr: int) -> None:
        """``vfree(addr)``: as :meth:`vunmap`, and the pages that the area owns are freed.

        :raises VmapError: EINVAL if there is no area at ``addr`` (a warning in the kernel).
        """
        if not addr:
            return
        area = self._remove_area(addr, "vfree")
        if area.pages is not None and area.flags & VM_ALLOC:
            self._page_allocator().free_pages(area.pages)
        if area.pages_addr:
            self.vfree(area.pages_addr)

    def vmalloc(self, size: int, flags: int = 0) -> Mapping:
        """``__vmalloc_node_range(size, ...)`` with PAGE_KERNEL on any node.

        :param size: bytes.
        :param flags: VM_ALLOW_HUGE_VMAP for what ``vmalloc_huge()`` does.
        :raises VmapError: ENOMEM, or EINVAL for a size of 0.
        """
        seen = self._begin()
        if size <= 0:
            self._warn("vmalloc() of 0 bytes")
            raise VmapError(errno.EINVAL, f"vmalloc() of {size} bytes")
        if self.total_pages is not None and size >> self.arch.page_shift > self.total_pages:
            raise VmapError(errno.ENOMEM, f"{size} bytes exceed the machine's {self.total_pages} pages")
        shift = self.arch.page_shift
        allowed = self.config["HAVE_ARCH_HUGE_VMALLOC"] and "nohugevmalloc" not in self.boot_args
        if flags & VM_ALLOW_HUGE_VMAP and allowed:
            shift = vm_shift(self._g, size)
        try:
            return self._vmalloc(size, shift, flags, seen)
        except VmapError:
            if shift == self.arch.page_shift:
                raise
            return self._vmalloc(size, self.arch.page_shift, flags, seen)

    def _vmalloc(self, size: int, shift: int, flags: int, seen: int) -> Mapping:
        """One attempt: area, page array, pages in chunks of ``shift``, mapping."""
        page_shift = self.arch.page_shift
        size = -(-size >> shift) << shift
        area = self._area(size, 1 << shift, VM_ALLOC | flags)
        count = size >> page_shift
        buddy = self._page_allocator()
        if count * 8 > self.arch.page_size:  # the array of struct page pointers is vmalloc'ed too
            area.pages_addr = self._vmalloc(count * 8, page_shift, 0, seen).addr
        area.order = shift - page_shift
        pages = buddy.alloc_pages(area.order, count)
        area.pages = pages
        if len(pages) < count:
            self.vfree(area.addr)
            raise VmapError(errno.ENOMEM, f"no pages of order {area.order} left")
        ints = pages.view(np.int64)
        err, tables = self._map_array(area.addr, size, ints, self._prots(None), shift, vmap=False)
        self._flush("flush_cache_vmap", area.addr, area.addr + size)
        if err:
            reason = self._why(tables, err, ints)
            self.vfree(area.addr)
            raise VmapError(err, reason)
        return self._mapping(area, size, tables, seen)

    def ioremap(self, phys: int, size: int, prot: int | None = None) -> Mapping:
        """``ioremap()``: map a physical range; the mapping starts at the page that holds ``phys``.

        :param phys: physical address, bytes.
        :param size: bytes.
        :param prot: protection value; that of ``ioremap()`` on this architecture if None.
        :raises VmapError: EINVAL for an empty range or one that wraps, ENOMEM.
        """
        seen = self._begin()
        if size <= 0 or phys < 0 or phys + size > 1 << self.arch.phys_bits:
            raise VmapError(errno.EINVAL, f"no physical range of {size} bytes at {phys:#x}")
        start = phys & -self.arch.page_size
        length = -(-(phys + size - start) >> self.arch.page_shift) << self.arch.page_shift
        area = self._area(length, 1, VM_IOREMAP, self._io_space)
        value = self.arch.ioremap_prot if prot is None else prot
        err, tables = self._map_linear(area.addr, area.addr + length, start, value)
        if err:
            reason = self._why(tables, err, np.zeros(0, dtype=np.int64))
            self.vunmap(area.addr)
            raise VmapError(err, reason)
        return self._mapping(area, length, tables, seen)

    def iounmap(self, addr: int) -> None:
        """``iounmap(addr)``: as :meth:`vunmap`."""
        self._remove_area(addr & -self.arch.page_size, "iounmap")

    def vmap_page_range(self, addr: int, end: int, phys: int, prot: int | None = None) -> None:
        """``vmap_page_range()``: map a physical range at given addresses, without an area.

        :raises VmapError: EBUSY if an entry is set already (a BUG() in the kernel), ENOMEM.
        :raises InputError: if an address is not page-aligned or the range is empty.
        """
        if addr >= end or (addr | end | phys) & (self.arch.page_size - 1):
            raise InputError(f"[{addr:#x}, {end:#x}) at {phys:#x} is empty or not page-aligned")
        value = self.arch.page_kernel if prot is None else prot
        err, tables = self._map_linear(addr, end, phys, value)
        if err:
            raise VmapError(err, self._why(tables, err, np.zeros(0, dtype=np.int64)))

    def vmalloc_to_pfn(self, addr: int) -> int:
        """``vmalloc_to_pfn(addr)``: the page frame that ``addr`` maps to.

        :raises VmapError: EINVAL if nothing is mapped there.
        """
        pfn = -1
        if 0 <= addr < 1 << 64:
            pfn = translate(self._memory.tables(), self._g, signed(addr))
        if pfn < 0:
            raise VmapError(errno.EINVAL, f"nothing is mapped at {addr:#x}")
        return int(pfn)

    def find_vm_area(self, addr: int) -> VmArea | None:
        """``find_vm_area(addr)``: the area that holds ``addr``, or None."""
        return self._space.find(addr) or self._io_space.find(addr)

    def get_vm_area(self, size: int, flags: int = VM_MAP) -> VmArea:
        """``get_vm_area(size, flags)``: reserve address space without mapping anything.

        :param size: bytes, without the guard page.
        :raises VmapError: ENOMEM if there is no such space, EINVAL for a size that is not positive.
        """
        if size <= 0:
            raise VmapError(errno.EINVAL, f"no area of {size} bytes")
        return self._area(-(-size >> self.arch.page_shift) << self.arch.page_shift, 1, flags)

    @property
    def areas(self) -> list[VmArea]:
        """The areas in use, ascending."""
        spaces = [self._space] if self._io_space is self._space else [self._space, self._io_space]
        return [area for space in spaces for area in space.areas]

    @property
    def table_memory(self) -> TableMemory:
        """The page tables, as bytes at physical addresses."""
        return self._memory

    def leaves(self, start: int, end: int) -> NDArray[Any]:
        """All leaves that map part of [start, end), as ``LEAF_DTYPE``, ascending."""
        if not 0 <= start < end <= 1 << 64:
            return np.zeros(0, dtype=LEAF_DTYPE)
        most = min((end - start) >> self.arch.page_shift, self._memory.words_in_use) + 1
        room = np.zeros((most, 3), dtype=np.int64)
        found = list_leaves(self._memory.tables(), self._g, signed(start), signed(start) + end - start, room)
        return room[:found].copy().view(LEAF_DTYPE).reshape(-1)

    # -- what the calls share -----------------------------------------------------------------------

    def _prots(self, prot: int | None) -> Ints:
        """Per level, what surrounds the PFN in a leaf mapped with ``pgprot_nx(prot)``."""
        nx = self.arch.pgprot_nx(self.arch.page_kernel if prot is None else prot)
        return np.array([signed(self.arch.leaf_prot(nx, level)) for level in range(self._g.top + 1)], dtype=np.int64)

    def _begin(self) -> int:
        """Where the events of a call that starts now begin."""
        return len(self.events)

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        if self.record:
            self.events.append(Event("warn", text=text))

    def _flush(self, kind: str, start: int, end: int) -> None:
        if self.record:
            self.events.append(Event(kind, start, end, end - start))

    def _finish(self, tables: Tables) -> None:
        """Take over what a walker logged and warned of."""
        if self.record:
            self.events += events_of(tables.log[: tables.state[LOGGED]])
        for bit, text in _WARNINGS.items():
            if tables.state[WARNED] & bit and (bit != W_PARTIAL or self.release.warns_on_partial_unmap):
                self._warn(text)

    def _tables(self, start: int, end: int) -> Tables:
        """The walkers' arrays for mapping the (signed) range, with room for its tables and events."""
        self._memory.reserve(start, end)
        if not self.record:
            return self._memory.tables()
        pages = (end - start) >> self.arch.page_shift
        tables = sum(((end - start) >> level.shift) + 2 for level in self.arch.levels[1:])
        return self._memory.tables(log_lines=pages * self.arch.cells + 4 * tables + 16)

    def _map_array(
        self, addr: int, size: int, pages: Ints, prots: Ints, shift: int, *, vmap: bool
    ) -> tuple[int, Tables]:
        """Map ``pages``, KMSAN metadata first; returns 0 or an errno, and the walker's arrays."""
        if self.config["KMSAN"]:
            err, tables = self._map_kmsan(addr, size, pages, shift)
            if err:
                return err, tables
        start, end = signed(addr), signed(addr) + size
        tables = self._tables(start, end)
        if vmap and self.release.unified_walker:
            err = vmap_batched(tables, self._g, self._batching, pages, start, end, prots)
        else:
            rewalk = not self.release.unified_walker
            err = vmap_pages_range(tables, self._g, pages, start, end, shift, rewalk, prots)
        self._finish(tables)
        return self._returned(err), tables

    def _returned(self, err: int) -> int:
        """What the outermost walker returns when an inner level stopped with ``err``."""
        return errno.ENOMEM if err and not self.release.inner_errors else int(err)

    def _map_kmsan(self, addr: int, size: int, pages: Ints, shift: int) -> tuple[int, Tables]:
        """``kmsan_vmap_pages_range_noflush()``: map shadow and origin pages a quarter and a half further on.

        Which pages hold the metadata is decided at boot; here PFN bits that no array uses stand for it.
        """
        g = geometry_of(self.arch, self.release, self.config, None)
        rewalk = not self.release.unified_walker
        ranges = []
        for number in (1, 2):
            start = signed(addr + number * self._quarter)
            bit = np.int64(1) << (self.arch.phys_bits - self.arch.page_shift - number)
            meta = np.where(pages < 0, pages, pages ^ bit)
            tables = self._tables(start, start + size)
            err = vmap_pages_range(tables, g, meta, start, start + size, shift, rewalk, self._prots(None))
            self._finish(tables)
            if err:
                return self._returned(err), tables
            ranges.append((unsigned(start), unsigned(start) + size))
        for kind in ("flush_tlb_kernel_range", "flush_cache_vmap"):
            for first, last in ranges:
                self._flush(kind, first, last)
        return 0, tables

    def _map_linear(self, addr: int, end: int, phys: int, prot: int) -> tuple[int, Tables]:
        """``vmap_page_range()``: descend once, leaves up to ``ioremap_max_page_shift``, then flush."""
        start, stop = signed(addr), signed(addr) + end - addr
        tables = self._tables(start, stop)
        huge = self.config["HAVE_ARCH_HUGE_VMAP"] and "nohugeiomap" not in self.boot_args
        shift = LARGEST_SHIFT if huge else self.arch.page_shift
        first = np.array([phys >> self.arch.page_shift], dtype=np.int64)
        err = map_range(tables, self._g, first, 0, True, start, stop, shift, self._g.top, self._prots(prot))
        self._finish(tables)
        self._flush("flush_cache_vmap", addr, end)
        busy = tables.state[WARNED] & W_BUSY
        return (errno.EBUSY if busy else self._returned(err)), tables

    def _why(self, tables: Tables, err: int, pages: Ints) -> str:
        """Why the walker stopped, and at which page."""
        index = int(tables.state[STOPPED])
        warned = int(tables.state[WARNED])
        if warned & (W_NULL | W_INVALID):
            pfn = unsigned(int(pages[index]))
            what = "is NULL" if warned & W_NULL else f"has PFN {pfn:#x}, not valid here"
            return f"page {index} {what}"
        what = "an entry is already set" if warned & W_BUSY else "no memory for a page table"
        return f"{what} at page {index}"

    def _vmap_area(self, size: int, flags: int) -> VmArea:
        """An area for vmap(): aligned so that batching can work, if the release cares for that."""
        aligns = [1]
        if self.release.aligns_area:
            aligns = [1 << vm_shift(self._g, size), 1 << arch_vmap_pte_supported_shift(self._g, size), 1]
        for align in aligns[:-1]:
            try:
                return self._area(size, align, flags)
            except VmapError:
                continue
        return self._area(size, aligns[-1], flags)

    def _area(self, size: int, align: int, flags: int, space: AddressSpace | None = None) -> VmArea:
        """``__get_vm_area_node()``; ENOMEM when no address space is left even after a purge."""
        space = space or self._space
        if flags & VM_IOREMAP:
            order = (size - 1).bit_length()
            align = 1 << min(max(order, self.arch.page_shift), self.arch.ioremap_max_order)
        guard = 0 if flags & VM_NO_GUARD else self.arch.page_size
        align = max(align, self.arch.page_size)
        area = space.alloc(size + guard, align, flags)
        if area is None:
            self._purge(space)
            area = space.alloc(size + guard, align, flags)
        if area is None:
            raise VmapError(errno.ENOMEM, f"no {size + guard} bytes of address space aligned to {align:#x}")
        return area

    def _remove_area(self, addr: int, call: str) -> VmArea:
        """``remove_vm_area()``: unmap, then free lazily."""
        if addr & (self.arch.page_size - 1):
            self._warn(f"Trying to {call}() bad address ({addr:#x})")
            raise VmapError(errno.EINVAL, f"{addr:#x} is not page-aligned")
        area = self.find_vm_area(addr)
        if area is None:
            self._warn(f"Trying to {call}() nonexistent vm area ({addr:#x})")
            raise VmapError(errno.EINVAL, f"there is no area at {addr:#x}")
        mapping = self._mappings.pop(area.addr, None)
        if mapping is not None:
            mapping.leaves  # noqa: B018 - the owner may ask for them later
        self._flush("flush_cache_vunmap", area.addr, area.end)
        if self.config["KMSAN"]:
            for number in (1, 2):
                self._unmap(area.addr + number * self._quarter, area.size)
            for number in (1, 2):
                shadow = area.addr + number * self._quarter
                self._flush("flush_cache_vmap", shadow, shadow + area.size)
        self._unmap(area.addr, area.size)
        space = self._space if self._space.find(area.addr) is area else self._io_space
        if space.remove(area):
            self._purge(space)
        return area

    def _unmap(self, addr: int, size: int) -> None:
        pages = size >> self.arch.page_shift
        lines = pages * self.arch.cells + 2 * int(self._g.words[0]) if self.record else 0
        tables = self._memory.tables(log_lines=lines)
        unmap_range(tables, self._g, signed(addr), signed(addr) + size)
        self._finish(tables)

    def _purge(self, space: AddressSpace) -> None:
        span = space.purge()
        if span:
            self._flush("flush_tlb_kernel_range", *span)

    def _page_allocator(self) -> heap.Buddy:
        if self._buddy is None:
            first = 0 if self.total_pages else self.arch.ram_base >> self.arch.page_shift
            room = (1 << (self.arch.phys_bits - self.arch.page_shift)) - first
            self._buddy = heap.Buddy(first, self.total_pages or min(1 << 18, room))
        return self._buddy

    def _mapping(self, area: VmArea, size: int, tables: Tables, seen: int) -> Mapping:
        addr = area.addr
        cost = Cost.of(size >> self.arch.page_shift, tables.cost)

        def list_them() -> NDArray[Any]:
            room = np.zeros((cost.leaves, 3), dtype=np.int64)
            list_leaves(self._memory.tables(), self._g, signed(addr), signed(addr) + size, room)
            return room.view(LEAF_DTYPE).reshape(-1)

        mapping = Mapping(addr, size, cost, self.events[seen:], list_them)
        self._mappings[addr] = mapping
        return mapping
