"""One kernel address space: an architecture, a release, boot arguments and a configuration."""

from __future__ import annotations

import errno
import operator
import weakref
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Dict
from functools import lru_cache, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmaplab import arch as arches
from vmaplab import release as releases
from vmaplab.arch import Arch
from vmaplab.config import complete_config, parse_boot_args
from vmaplab.cost import Cost
from vmaplab.errors import InputError, VmapError
from vmaplab.mapping import LEAF_DTYPE, Event, EventLog, Mapping
from vmaplab.pages import heap
from vmaplab.pages.array import check_page_size, page_array
from vmaplab.pgtable.geometry import Ints
from vmaplab.pgtable.memory import L_FLUSH_TLB, L_FLUSH_VUNMAP, TableMemory
from vmaplab.release import Release
from vmaplab.vmalloc.area import LAZY_MAX_BYTES, AddressSpace, VmArea
from vmaplab.vmalloc.batch import (
    arch_vmap_pte_supported_shift,
    vm_shift,
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
from vmaplab.vmalloc.mapper import Mapper

DEFAULT_ZONE_PAGES = 1 << 18  # what vmalloc() takes its pages from, if total_pages does not say
MAX_ZONE_PAGES = 1 << 22  # a page costs the simulated allocator 9 bytes of ours


P = ParamSpec("P")
T = TypeVar("T")


def _entry(method: Callable[Concatenate[Kernel, P], T]) -> Callable[Concatenate[Kernel, P], T]:
    """A call that can free areas: the purge that it queues (``drain_vmap_work``) runs when it is over."""

    @wraps(method)
    def call(self: Kernel, /, *args: P.args, **keywords: P.kwargs) -> T:
        try:
            return method(self, *args, **keywords)
        finally:
            if self._drain_queued:
                self._drain_queued = False
                self._purge()

    return call


class Kernel:
    """A kernel's vmalloc address space and its page tables.

    >>> from vmaplab import Kernel, pages
    >>> kernel = Kernel("arm64-4k", release="series-v4")
    >>> mapping = kernel.vmap(pages.load("heap:1M", arch="arm64-4k"))
    >>> mapping.cost.pages, mapping.cost.tlb_entries
    (256, 16)

    :param arch: name of an architecture, see ``vmaplab arches``; or an ``Arch``.
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
        arch: str | Arch,
        release: str | Release = releases.DEFAULT,
        boot_args: str | Iterable[str] = (),
        *,
        total_pages: int | None = None,
        config: Dict[str, bool] | None = None,
        record: bool = False,
        max_tables: int | None = None,
    ) -> None:
        self.arch: Arch = arch if isinstance(arch, Arch) else arches.get(arch)
        self.release: Release = release if isinstance(release, Release) else releases.get(release)
        self.boot_args = parse_boot_args(boot_args)
        self.config = complete_config(self.arch, config)
        self.total_pages = total_pages = _at_least("total_pages", total_pages, 1)
        max_tables = _at_least("max_tables", max_tables, 0)
        self._mapper = Mapper(self.arch, self.release, self.config, self.boot_args, total_pages, max_tables, record)
        self._g = self._mapper.g
        vmalloc_end = self.arch.vmalloc_end
        if self.config["KMSAN"]:
            vmalloc_end = self.arch.vmalloc_start + self._mapper.quarter
        self._space = AddressSpace(self.arch.page_shift, LAZY_MAX_BYTES)
        self._vmalloc_range = self.arch.vmalloc_start, vmalloc_end
        self._ioremap_range = self._vmalloc_range
        if self.arch.ioremap_start:
            self._ioremap_range = self.arch.ioremap_start, self.arch.ioremap_end
        self._drain_queued = False
        self._mappings: weakref.WeakValueDictionary[int, Mapping] = weakref.WeakValueDictionary()
        self._buddy: heap.Buddy | None = None

    # -- the calls ----------------------------------------------------------------------------------

    @_entry
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
            self._mapper.warn("vmap() does not take VM_FLUSH_RESET_PERMS")
            raise VmapError(errno.EINVAL, "vmap() does not take VM_FLUSH_RESET_PERMS")
        if flags & VM_NO_GUARD:
            self._mapper.warn("vmap() does not take VM_NO_GUARD; dropped")
            flags &= ~VM_NO_GUARD
        if self.total_pages is not None and len(array) > self.total_pages:
            raise VmapError(errno.ENOMEM, f"{len(array)} pages, but the machine has {self.total_pages}")
        if not len(array):
            raise VmapError(errno.EINVAL, "no pages to map")
        size = len(array) << self.arch.page_shift
        area = self._vmap_area(size, flags)
        ints = array.view(np.int64)
        try:
            counters = self._mapper.map_array(area.addr, size, ints, prot, self.arch.page_shift, batch=True)
        except (VmapError, InputError):
            self._vunmap(area.addr)
            raise
        if flags & VM_MAP_PUT_PAGES:
            area.pages = array
        return self._mapping(area, size, counters, seen)

    @_entry
    def vunmap(self, addr: int) -> None:
        """``vunmap(addr)``: clear the entries, free the area lazily; the pages stay their owner's.

        As in the kernel, any page of an area stands for the area, and address 0 for none.

        :raises VmapError: EINVAL if there is no area at ``addr`` (a warning in the kernel).
        """
        self._vunmap(addr)

    def _vunmap(self, addr: int) -> None:
        if addr:
            self._remove_area(addr, "vunmap")

    @_entry
    def vfree(self, addr: int) -> None:
        """``vfree(addr)``: as :meth:`vunmap`, and the pages that the area owns are freed.

        :raises VmapError: EINVAL if there is no area at ``addr`` (a warning in the kernel).
        """
        self._vfree(addr)

    def _vfree(self, addr: int) -> None:
        if not addr:
            return
        area = self._remove_area(addr, "vfree")
        if area.pages is not None and area.flags & VM_ALLOC:
            self._page_allocator().free_pages(area.pages)
        if area.pages_addr:
            self._vfree(area.pages_addr)

    @_entry
    def vmalloc(self, size: int, flags: int = 0) -> Mapping:
        """``__vmalloc_node_range(size, ...)`` with PAGE_KERNEL on any node.

        :param size: bytes.
        :param flags: VM_ALLOW_HUGE_VMAP for what ``vmalloc_huge()`` does.
        :raises VmapError: ENOMEM, or EINVAL for a size of 0.
        """
        seen = self._begin()
        if size <= 0:
            self._mapper.warn("vmalloc() of 0 bytes")
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
        if count * 8 > self.arch.page_size:  # the array of struct page pointers is vmalloc'ed too
            try:
                area.pages_addr = self._vmalloc(count * 8, page_shift, 0, seen).addr
            except (VmapError, InputError):
                self._vfree(area.addr)
                raise
        elif not self._mapper.memory.attempt():
            self._vfree(area.addr)
            raise VmapError(errno.ENOMEM, "no memory for the page array")
        area.order = shift - page_shift
        pages = self._page_allocator().alloc_pages(area.order, count if self._mapper.memory.attempt() else 0)
        area.pages = pages
        if len(pages) < count:
            self._vfree(area.addr)
            raise VmapError(errno.ENOMEM, f"no pages of order {area.order} left")
        try:
            counters = self._mapper.map_array(area.addr, size, pages.view(np.int64), None, shift)
        except (VmapError, InputError):
            self._vfree(area.addr)
            raise
        return self._mapping(area, size, counters, seen)

    @_entry
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
        area = self._area(length, 1, VM_IOREMAP, self._ioremap_range)
        value = self.arch.ioremap_prot if prot is None else prot
        try:
            counters = self._mapper.map_linear(area.addr, area.addr + length, start, value)
        except (VmapError, InputError):
            self._vunmap(area.addr)
            raise
        return self._mapping(area, length, counters, seen)

    def iounmap(self, addr: int) -> None:
        """``iounmap(addr)``: :meth:`vunmap` of the page that holds ``addr``."""
        self.vunmap(addr & -self.arch.page_size)

    def vmap_page_range(self, addr: int, end: int, phys: int, prot: int | None = None) -> None:
        """``vmap_page_range()``: map a physical range at given addresses, without an area.

        :raises VmapError: EBUSY if an entry is set already (a BUG() in the kernel), ENOMEM.
        :raises InputError: if an address is not page-aligned or the range is empty.
        """
        self._check_range(addr, end)
        if phys < 0 or phys & (self.arch.page_size - 1):
            raise InputError(f"{phys:#x} is no page-aligned physical address")
        value = self.arch.page_kernel if prot is None else prot
        self._mapper.map_linear(addr, end, phys, value)

    def vmap_pages_range_noflush(self, addr: int, pfns: ArrayLike, shift: int | None = None) -> None:
        """``vmap_pages_range_noflush()``: map pages at a given address, without an area and without batching.

        :param shift: log2 of the chunks in which the pages are contiguous and aligned; PAGE_SHIFT if None.
        :raises VmapError: as the walker stops; what was mapped before stays.
        :raises InputError: for an array that is not in whole chunks.
        """
        array = page_array(pfns)
        size = len(array) << self.arch.page_shift
        self._check_range(addr, addr + size)
        shift = check_chunks(self.arch, len(array), shift)
        self._mapper.map_array(addr, size, array.view(np.int64), None, shift, flush=False)

    def vunmap_range(self, addr: int, end: int) -> None:
        """``vunmap_range()``: clear every entry of [addr, end) and flush, without an area.

        :raises InputError: if an address is not page-aligned or the range is empty.
        """
        self._check_range(addr, end)
        self._mapper.flush(L_FLUSH_VUNMAP, addr, end)
        self._mapper.unmap(addr, end - addr)
        self._mapper.flush(L_FLUSH_TLB, addr, end)

    def vmalloc_to_pfn(self, addr: int) -> int:
        """``vmalloc_to_pfn(addr)``: the page frame that ``addr`` maps to.

        :raises VmapError: EINVAL if nothing is mapped there.
        """
        pfn = -1
        addr = operator.index(addr)
        if 0 <= addr < 1 << 64:
            pfn = self._mapper.translate(addr)
        if pfn < 0:
            raise VmapError(errno.EINVAL, f"nothing is mapped at {addr:#x}")
        return pfn

    def find_vm_area(self, addr: int) -> VmArea | None:
        """``find_vm_area(addr)``: the area that holds ``addr``, or None."""
        return self._space.find(addr)

    def get_vm_area(self, size: int, flags: int = VM_MAP) -> VmArea:
        """``get_vm_area(size, flags)``: reserve address space without mapping anything.

        :param size: bytes, without the guard page.
        :raises VmapError: ENOMEM if there is no such space, EINVAL for a size that is not positive.
        """
        if size <= 0:
            raise VmapError(errno.EINVAL, f"no area of {size} bytes")
        return self._area(-(-size >> self.arch.page_shift) << self.arch.page_shift, 1, flags)

    @property
    def code(self) -> str:
        """Whose code this is: the release's name."""
        return self.release.name

    @property
    def areas(self) -> list[VmArea]:
        """The areas in use, ascending."""
        return self._space.areas

    @property
    def table_root(self) -> int:
        """Physical address of the PGD."""
        return self._mapper.memory.root

    @property
    def live_objects(self) -> int:
        """Areas allocated now, those that wait for the purge included."""
        return self._space.allocated

    spare_objects = 0
    """How many more of them may stay when everything is unmapped."""

    @property
    def taken_pages(self) -> int:
        """Pages that vmalloc() holds now."""
        return self._buddy.taken if self._buddy else 0

    def log_pages(self) -> list[NDArray[np.uint64]]:
        """A list to which the page allocator adds what it hands out from now on."""
        buddy = self._page_allocator()
        buddy.handed = []
        return buddy.handed

    @property
    def records(self) -> bool:
        """Whether events are kept."""
        return self._mapper.record

    def fail(self, numbers: Iterable[int]) -> None:
        """Let allocations fail: those with these numbers, counted from 0 from now on, two at most.

        Counted are areas, page tables, page arrays, the pages of a vmalloc(), KMSAN's arrays.
        """
        self._mapper.memory.fail(numbers)

    @property
    def allocations(self) -> int:
        """Allocations tried since the last :meth:`fail`, or since boot."""
        return self._mapper.memory.attempts

    def check_heap(self) -> None:
        """The model has no heap that could be written over."""

    def vm_unmap_aliases(self) -> None:
        """``vm_unmap_aliases()``: flush and free what waits for the purge."""
        self._purge()

    def set_limit(self, max_tables: int | None) -> None:
        """Let at most ``max_tables`` page tables exist from now on."""
        self._mapper.memory.set_limit(max_tables)

    def live_tables(self) -> NDArray[np.uint8]:
        """The page tables in use, as bytes from the PGD on; free ones are zeroes."""
        return self._mapper.memory.live()

    @property
    def table_memory(self) -> TableMemory:
        """The page tables, as bytes at physical addresses."""
        return self._mapper.memory

    def leaves(self, start: int, end: int) -> NDArray[Any]:
        """All leaves that map part of [start, end), as ``LEAF_DTYPE``, ascending."""
        if not 0 <= start < end <= 1 << 64:
            return np.zeros(0, dtype=LEAF_DTYPE)
        return self._mapper.leaves(start, end)

    # -- what the calls share -----------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        """Everything that happened so far, in order, if the kernel records."""
        return self._mapper.log.events()

    @property
    def log(self) -> EventLog:
        """The same, in the compact form in which it is kept."""
        return self._mapper.log

    @property
    def warnings(self) -> list[str]:
        """Which WARN_ON() fired so far, in order."""
        return self._mapper.warnings

    def _check_range(self, addr: int, end: int) -> None:
        if not 0 <= addr < end <= 1 << 64 or (addr | end) & (self.arch.page_size - 1):
            raise InputError(f"[{addr:#x}, {end:#x}) is empty or not page-aligned")

    def _begin(self) -> int:
        """Where the events of a call that starts now begin."""
        return len(self.log)

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

    def _area(self, size: int, align: int, flags: int, bounds: tuple[int, int] | None = None) -> VmArea:
        """``__get_vm_area_node()``; ENOMEM when no address space is left even after a purge."""
        start, end = bounds or self._vmalloc_range
        if flags & VM_IOREMAP:
            order = (size - 1).bit_length()
            align = 1 << min(max(order, self.arch.page_shift), self.arch.ioremap_max_order)
        guard = 0 if flags & VM_NO_GUARD else self.arch.page_size
        align = max(align, self.arch.page_size)
        if not self._mapper.memory.attempt():
            raise VmapError(errno.ENOMEM, "no memory for the area")
        area = self._space.alloc(size + guard, align, flags, start, end)
        if area is None:
            self._purge()
            area = self._space.alloc(size + guard, align, flags, start, end)
        if area is None:
            raise VmapError(errno.ENOMEM, f"no {size} bytes of address space and a guard page, aligned to {align:#x}")
        return area

    def _remove_area(self, addr: int, call: str) -> VmArea:
        """``remove_vm_area()``: unmap, then free lazily."""
        if addr & (self.arch.page_size - 1):
            self._mapper.warn(f"Trying to {call}() bad address ({addr:#x})")
            raise VmapError(errno.EINVAL, f"{addr:#x} is not page-aligned")
        area = self.find_vm_area(addr)
        if area is None:
            self._mapper.warn(f"Trying to {call}() nonexistent vm area ({addr:#x})")
            raise VmapError(errno.EINVAL, f"there is no area at {addr:#x}")
        mapping = self._mappings.pop(area.addr, None)
        if mapping is not None:
            mapping.leaves  # noqa: B018 - the owner may ask for them later
        self._mapper.flush(L_FLUSH_VUNMAP, area.addr, area.end)
        self._mapper.unmap(area.addr, area.size)
        self._drain_queued |= self._space.remove(area)
        return area

    def _purge(self) -> None:
        span = self._space.purge()
        if span:
            self._mapper.flush(L_FLUSH_TLB, *span)

    def _page_allocator(self) -> heap.Buddy:
        if self._buddy is None:
            self._buddy = zone_of(self.arch, self.total_pages)
        return self._buddy

    def _mapping(self, area: VmArea, size: int, counters: Ints, seen: int) -> Mapping:
        addr = area.addr
        cost = Cost.of(size >> self.arch.page_shift, counters)
        log, until = self._mapper.log, len(self._mapper.log)
        mapping = Mapping(
            addr,
            size,
            lambda _: cost,
            lambda: self._mapper.leaves(addr, addr + size, cost.leaves),
            lambda: log.events(seen, until),
            _cost=cost,
        )
        self._mappings[addr] = mapping
        return mapping


def check_chunks(arch: Arch, pages: int, shift: int | None) -> int:
    """``page_shift`` of a walker call; PAGE_SHIFT if None.

    :raises InputError: if ``pages`` pages are no whole chunks of it: the kernel would read past the array.
    """
    shift = arch.page_shift if shift is None else shift
    if shift < arch.page_shift or pages % (1 << min(shift - arch.page_shift, 63)):
        raise InputError(f"{pages} pages are no whole chunks of page_shift {shift} on {arch.name}")
    return shift


def zone_of(arch: Arch, total_pages: int | None) -> heap.Buddy:
    """The page allocator that vmalloc() takes its pages from, all free."""
    first = 0 if total_pages else arch.ram_base >> arch.page_shift
    room = (1 << (arch.phys_bits - arch.page_shift)) - first
    return _free_zone(first, min(total_pages or DEFAULT_ZONE_PAGES, MAX_ZONE_PAGES, room), arch.max_page_order).copy()


@lru_cache(maxsize=2)
def _free_zone(first: int, pages: int, max_order: int) -> heap.Buddy:
    return heap.Buddy(first, pages, max_order)


def _at_least(name: str, value: int | None, least: int) -> int | None:
    """``value`` as an int, if it is one from ``least`` on, or None."""
    try:
        number = None if value is None else operator.index(value)
    except TypeError:
        number = least - 1
    if number is not None and number < least:
        raise InputError(f"{name} is {value!r}; it is a whole number, at least {least}")
    return number
