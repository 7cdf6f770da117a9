# SPDX-License-Identifier: GPL-2.0-only
"""One kernel address space: an architecture, a release, boot arguments and a configuration."""

from __future__ import annotations

import errno
import operator
import weakref
from collections.abc import Iterable
from collections.abc import Mapping as Dict
from contextlib import nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab import release as releases
from vmaplab.arch import Arch
from vmaplab.calls.flags import (
    VM_ALLOC,
    VM_ALLOW_HUGE_VMAP,
    VM_DMA_COHERENT,
    VM_FLUSH_RESET_PERMS,
    VM_IOREMAP,
    VM_MAP,
    VM_MAP_PUT_PAGES,
    VM_NO_GUARD,
    VM_SPARSE,
    VM_USERMAP,
)
from vmaplab.calls.operation import Operation
from vmaplab.calls.options import BY, GFP, TAKE_GFP
from vmaplab.calls.table import Call, absent_from, check_cpu, outcome
from vmaplab.changes import Change
from vmaplab.config import booted, complete_config, parse_boot_args
from vmaplab.cost.counters import C_LEAVES, Cost
from vmaplab.errors import InputError, VmapError
from vmaplab.machine import Machine
from vmaplab.mapping import LEAF_DTYPE, Mapping, Part, SetMemory, VmArea, VmAreas
from vmaplab.pages import heap
from vmaplab.pages.runs import Pfns
from vmaplab.pgtable.memory import TableMemory
from vmaplab.release import Release
from vmaplab.trace import L_FLUSH_TLB, L_FLUSH_VMAP, L_FLUSH_VUNMAP, EventLog, Ints, WarnOn, signed
from vmaplab.vmalloc.address_space import AddressSpace
from vmaplab.vmalloc.area import MAX_NODES, NO_ROOM, NO_VM, NOTHING_FREE, NOWHERE, VMAP_BLOCK, VMAP_RAM
from vmaplab.vmalloc.batch import arch_vmap_pte_supported_shift, vm_shift
from vmaplab.vmalloc.block import VmapBlock, VmapBlocks
from vmaplab.vmalloc.calls import NO_TABLES, OTHER, free_unmap_vmap_area, map_area, remove_vm_area, run, vmap
from vmaplab.vmalloc.consistency import check_space
from vmaplab.vmalloc.info import vmalloc_info
from vmaplab.vmalloc.mapper import Mapper
from vmaplab.vmalloc.operation import MAX_ERRNO, Batch
from vmaplab.vmalloc.set_memory import set_memory
from vmaplab.vmalloc.vread import vread

_SPARSE = {
    VM_FLUSH_RESET_PERMS: (True, WarnOn.RESET_PERMS, "a sparse area with VM_FLUSH_RESET_PERMS"),
    VM_NO_GUARD: (True, WarnOn.NO_GUARD, "a sparse area with VM_NO_GUARD"),
    VM_SPARSE: (False, WarnOn.NOT_SPARSE, "a sparse area without VM_SPARSE"),
}
"""Flags that an area must not have (True) or must have for vm_area_map_pages(), and how the kernel warns."""


_FLAGS_OF = {"vmalloc_huge": VM_ALLOW_HUGE_VMAP, "vmalloc_user": VM_USERMAP, "vmalloc_32_user": VM_USERMAP}
"""Flags that members of the vmalloc() family give their areas; SHMLBA, to which the last two align, is a page."""


class Kernel(Machine):
    """A kernel's vmalloc address space and its page tables.

    >>> from vmaplab import Kernel, pages
    >>> kernel = Kernel("arm64-4k", release="series-v4")
    >>> mapping = kernel.vmap(pages.load("heap:1M", arch="arm64-4k"))
    >>> mapping.cost.pages, mapping.cost.tlb_entries
    (256, 16)

    :param arch: name of an architecture, see ``vmaplab arches``; or an ``Arch``.
    :param release: name of a release or patch version, see ``vmaplab releases``; or a ``Release``.
    :param boot_args: ``nohugeiomap``, ``nohugevmalloc``, on arm64 ``kpti=1``; a string or several.
    :param total_pages: pages of RAM: PFNs from there on are not valid, larger arrays are refused.
    :param config: ``{"KMSAN": True, "HUGETLB_PAGE": False, ...}``, without ``CONFIG_``.
    :param record: keep the events of each call.
    :param max_tables: page tables that can be allocated before the kernel runs out of memory.
    :param cpus: CPUs of the machine, and CONFIG_NR_CPUS: with several, each of them (up to 128) has a node with pools
        of free areas, and more address space waits before a purge. :attr:`cpu` says which one calls.
    :param debug: look at the address-space structures after each call, and raise :class:`~vmaplab.errors.Violation`
        if they do not agree.
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
        cpus: int = 1,
        debug: bool = False,
    ) -> None:
        self.release: Release = release if isinstance(release, Release) else releases.get(release)
        as_configured = arch if isinstance(arch, Arch) else self.release.on(arch)
        self.boot_args = parse_boot_args(as_configured, boot_args)
        self.arch: Arch = booted(as_configured, self.boot_args)
        self.config = complete_config(self.arch, config)
        self.total_pages = total_pages = _at_least("total_pages", total_pages, 1)
        max_tables = _at_least("max_tables", max_tables, 0)
        self._mapper = Mapper(self.arch, self.release, self.config, self.boot_args, total_pages, max_tables, record)
        self._g = self._mapper.g
        self.cpus = _at_least("cpus", cpus, 1) or 1
        self._cpu, self._debug = 0, debug
        self._vmalloc_range = self._mapper.vmalloc_range
        nodes = MAX_NODES if self.arch.bits_per_long == 64 and self.release.has(Change.VMAP_NODES) else 1
        quarter = self.release.has(Change.DECAY_QUARTER)
        self._space = AddressSpace(self.arch.page_shift, self._vmalloc_range, self.cpus, nodes, quarter)
        self._refuses_reset_perms = self.release.has(Change.VMAP_REFUSES_RESET_PERMS)
        self._percpu: dict[int, VmAreas] = {}  # what pcpu_get_vm_areas() gave, by the address of the first area
        self._absent = absent_from(self.release)
        self._killed = False  # a fatal signal is pending
        self._drains_first = False  # whether the purge was queued before the first of these:
        self._failed: list[int] = []  # areas of vmalloc()s that failed, which wait for cleanup_vm_area_work()
        self._blocks = VmapBlocks(self.arch, self.arch.vmalloc_start, self.cpus)
        self._ioremap_range = self._vmalloc_range
        if self.arch.ioremap_start:
            self._ioremap_range = self.arch.ioremap_start, self.arch.ioremap_end
        self._mappings: weakref.WeakValueDictionary[int, Mapping] = weakref.WeakValueDictionary()
        self._buddy: heap.Buddy | None = None

    @property
    def cpu(self) -> int:
        """The CPU that makes the next calls, from 0 on."""
        return self._cpu

    @cpu.setter
    def cpu(self, number: int) -> None:
        self._cpu = check_cpu(number, self.cpus)

    # -- the calls ----------------------------------------------------------------------------------

    def _invoke(self, call: Call, arguments: tuple[Any, ...]) -> Any:
        """Do the call; the purge that it queues (``drain_vmap_work``) runs when it is over."""
        if call.word in self._absent:
            raise InputError(f"{self.release.name} has no {call.prototype.name}()")
        try:
            return getattr(self, call.inner)(*arguments)
        finally:
            self._run_works()
            if self._debug:
                check_space(self._space)

    def _run_works(self) -> None:
        """What the call has queued, in order: ``drain_vmap_area_work()`` and ``cleanup_vm_area_work()``."""
        if self._failed and self._drains_first and self._space.drain_queued:
            self._purge()
        if self._failed:
            self._cleanup_failed()
        if self._space.drain_queued:
            self._purge()

    def _vmap(self, array: Pfns, flags: int, prot: int | None) -> Mapping:
        seen = len(self.log)
        if flags & VM_FLUSH_RESET_PERMS and self._refuses_reset_perms:
            self._mapper.warn(WarnOn.RESET_PERMS)
            raise VmapError(errno.EINVAL, "vmap() does not take VM_FLUSH_RESET_PERMS")
        if flags & VM_NO_GUARD:
            self._mapper.warn(WarnOn.NO_GUARD)
            flags &= ~VM_NO_GUARD
        if self.total_pages is not None and len(array) > self.total_pages:
            raise VmapError(errno.ENOMEM, f"{len(array)} pages, but the machine has {self.total_pages}")
        if not len(array):
            raise VmapError(errno.EINVAL, "no pages to map")
        mapper, space = self._mapper, self._space
        ints, prots, meta = array.view(np.int64), mapper.prots(prot), mapper.prots(None)
        size = len(array) << self.arch.page_shift
        tables, err = mapper.tables(size), NOTHING_FREE
        while space.given is None:
            err, block = vmap(mapper.setup, tables, space.space, ints, self._cpu, flags, prots, meta)
            if err >= 0:
                break
            if err == NO_TABLES:
                mapper.reserve(size)
            elif err == NO_ROOM:
                space.grow()
            else:  # no such area at once: purge, align less
                break
            tables = mapper.tables(size)
        if err < 0:
            block = self._vmap_block(size, flags)
            tables = mapper.tables_for(size)
            err = map_area(mapper.setup, tables, space.space, block, ints, prots, meta)
        mapper.finish(tables)
        if err:
            error = VmapError(mapper.returned(err), mapper.why(tables, ints))
            if flags & VM_FLUSH_RESET_PERMS:
                self._vm_unmap_aliases()
            raise error
        addr, _ = space.bounds(block)
        if flags & VM_MAP_PUT_PAGES:
            space.own(addr, pages=array)
        return self._mapping(addr, size, tables.cost.copy(), seen, block)

    def _vmap_put_pages(self, size: int) -> Mapping:
        count = size >> self.arch.page_shift
        buddy, pages = self._page_allocator(), np.zeros(0, dtype=np.uint64)
        if self._mapper.memory.attempt():
            pages = buddy.alloc_pages(0, count)
        try:
            if len(pages) < count:
                raise VmapError(errno.ENOMEM, f"no {count} pages")
            mapping = self._vmap(pages, VM_MAP | VM_MAP_PUT_PAGES, None)
        except VmapError:
            buddy.free_pages(pages[::-1])  # the last one first
            raise
        self._space.own(mapping.addr, allocated=True)
        return mapping

    def _vunmap(self, addr: int) -> None:
        if addr:
            block = self._free_vm_area(addr, "vunmap")
            if self._space.vm_flags(block) & VM_FLUSH_RESET_PERMS and not self._refuses_reset_perms:
                self._vm_unmap_aliases()

    def _free_vm_area(self, addr: int, call: str = "free_vm_area") -> int:
        """``free_vm_area()``: the area goes, and nothing of its permissions is put back; the block."""
        block = self._remove_area(addr, call)
        self._space.disown(block)
        return block

    def _vfree(self, addr: int) -> None:
        if not addr:
            return
        area = self._space.pop_area(self._remove_area(addr, "vfree"))
        if area.flags & VM_FLUSH_RESET_PERMS:
            self._vm_reset_perms(area)
        if area.pages_addr and not self._space.find_vmap_area(area.pages_addr):
            raise VmapError(errno.EFAULT, f"the page array of {addr:#x} is not mapped any more: an oops", bug=True)
        if area.pages is not None and (area.flags & VM_ALLOC or area.allocated):
            self._page_allocator().free_pages(area.pages)
        if area.pages_addr:
            self._vfree(area.pages_addr)

    def _vm_reset_perms(self, area: VmArea) -> None:
        """``vm_reset_perms()``: one flush of what waits, and of the linear addresses of the area's pages."""
        start, end = NOWHERE, 0
        if area.pages is not None and len(area.pages):
            start = self.arch.linear + (int(area.pages.min()) << self.arch.page_shift)
            end = self.arch.linear + (int(area.pages.max()) + 1 << self.arch.page_shift)
        self._unmap_aliases(start, end)

    def _vfree_atomic(self, addr: int) -> None:
        if addr and self._mapper.translate(addr) < 0:  # its first word becomes a struct llist_node
            raise VmapError(errno.EFAULT, f"vfree_atomic() writes to {addr:#x}, where nothing is mapped", bug=True)
        self._vfree(addr)  # delayed_vfree_work(), when the call is over

    def _vmalloc(
        self, size: int, flags: int, node: int, align: int, start: int | None, end: int | None, gfp: int, by: int
    ) -> Mapping:
        if by:
            flags = _FLAGS_OF.get(BY[by], 0)
        seen = len(self.log)
        if not size:
            self._mapper.warn(WarnOn.NO_BYTES)
            raise VmapError(errno.EINVAL, "vmalloc() of 0 bytes")
        total = self.total_pages or self.arch.addressable_pages
        if size >> self.arch.page_shift > total:
            raise VmapError(errno.ENOMEM, f"{size} bytes exceed the machine's {total} pages")
        shift = self.arch.page_shift
        allowed = self.config["HAVE_ARCH_HUGE_VMALLOC"] and "nohugevmalloc" not in self.boot_args
        if flags & VM_ALLOW_HUGE_VMAP and allowed:
            shift = vm_shift(self._g, size)
        low, high = self._vmalloc_range
        where = low if start is None else start, high if end is None else end, align
        nofail = BY[by] in TAKE_GFP and "__GFP_NOFAIL" in GFP[gfp]
        with self._mapper.memory.without_end() if nofail else nullcontext():
            try:
                return self._vmalloc_once(size, shift, flags, seen, where, nofail)
            except VmapError as error:
                if shift == self.arch.page_shift or error.undefined:
                    raise
                return self._vmalloc_once(size, self.arch.page_shift, flags, seen, where, nofail)

    def _vrealloc(self, addr: int, size: int, gfp: int) -> Mapping:
        seen, area = len(self.log), self.find_vm_area(addr)
        if not size:
            self._vfree(addr)
            raise VmapError(errno.EINVAL, "vrealloc() to 0 bytes frees")
        if not addr:
            return self.vmalloc(size, gfp=gfp)
        if area is None:
            self._mapper.warn(WarnOn.NO_AREA, f"Trying to vrealloc() nonexistent vm area ({addr:#x})")
            raise VmapError(errno.EINVAL, f"there is no area at {addr:#x}")
        if size <= area.end - area.addr - self._guard(area.flags):
            return self._mapping(addr, size, self._mapper.tables(0).cost.copy(), seen)
        mapping = self.vmalloc(size, gfp=gfp)
        self._vfree(addr)
        return mapping

    def _shrink(self) -> None:
        self._space.shrink()

    def _vmalloc_once(
        self,
        size: int,
        shift: int,
        flags: int,
        seen: int,
        where: tuple[int, int, int] | None = None,
        nofail: bool = False,
    ) -> Mapping:
        """One attempt: area, page array, pages in chunks of ``shift``, mapping.

        :param where: between which addresses, and how aligned.
        :param nofail: with __GFP_NOFAIL, so that pages of order 0 are always there, and nobody returns without an area.
        """
        page_shift = self.arch.page_shift
        size = -(-size >> shift) << shift
        low, high, align = where or (*self._vmalloc_range, 1)
        try:
            addr = self._area(size, max(align, 1 << shift), VM_ALLOC | flags, (low, high))
        except VmapError:
            if nofail:
                reason = f"no {size} bytes of address space aligned to {max(align, 1 << shift):#x}: __GFP_NOFAIL waits"
                raise VmapError(errno.ENOMEM, reason, undefined=True) from None
            raise
        count, order = size >> page_shift, shift - page_shift
        pointer = self.arch.bits_per_long // 8
        try:
            if count * pointer > self.arch.page_size:  # the array of struct page pointers is vmalloc'ed too
                self._space.own(addr, pages_addr=self._page_array(count * pointer, seen, nofail))
            elif not self._mapper.memory.attempt():
                raise VmapError(errno.ENOMEM, "no memory for the page array")
        except (VmapError, InputError):
            self._give_up(addr)
            raise
        try:
            pages = self._vm_area_alloc_pages(order, count, nofail)
            self._space.own(addr, pages=pages, order=order)
            if len(pages) < count:
                raise VmapError(errno.ENOMEM, f"no pages of order {order} left")
            counters = self._mapper.map_array(addr, size, pages.view(np.int64), None, shift)
        except (VmapError, InputError):
            self._give_up(addr)
            raise
        return self._mapping(addr, size, counters, seen)

    def _page_array(self, size: int, seen: int, nofail: bool) -> int:
        """The area of a page array that is vmalloc'ed too."""
        return self._vmalloc_once(size, self.arch.page_shift, 0, seen, nofail=nofail).addr

    def _vm_area_alloc_pages(self, order: int, count: int, nofail: bool) -> NDArray[np.uint64]:
        """``vm_area_alloc_pages()``: ``count`` pages in chunks of ``order``, fewer if there are no more.

        :param nofail: with __GFP_NOFAIL, which large pages do not have; with it no signal ends the attempt.
        """
        if not self._mapper.memory.attempt():
            return np.zeros(0, dtype=np.uint64)
        buddy, pages, left = self._page_allocator(), [np.zeros(0, dtype=np.uint64)], count
        if self.release.has(Change.LARGE_ORDERS_FIRST):
            most, large = self.arch.max_page_order, min(count.bit_length() - 1, self.arch.max_page_order)
            while large > order and left:
                chunk = buddy.alloc_pages(large, 1 << large)
                if not len(chunk):
                    most = large = large - 1
                    continue
                pages.append(chunk)
                left -= len(chunk)
                large = min(most, left.bit_length() - 1)
        if order and self._killed and not (nofail and not self.release.has(Change.NOFAIL_ORDER_0)):
            return np.concatenate(pages)
        nofail = nofail and not order
        pages.append(buddy.alloc_pages(order, left, nofail))
        if nofail and len(pages[-1]) < left:
            raise VmapError(errno.ENOMEM, "no pages are left, and __GFP_NOFAIL waits", undefined=True)
        return np.concatenate(pages)

    def _give_up(self, addr: int) -> None:
        """What a failed vmalloc() does with its area: at once, or ``defer_vm_area_cleanup()``."""
        if not self._failed:
            self._drains_first = self._space.drain_waits
        self._failed.append(addr)
        if not self.release.has(Change.DEFERRED_CLEANUP):
            self._cleanup_failed()

    def _cleanup_failed(self) -> None:
        """``cleanup_vm_area_work()``: the newest first; an area without a page array owns no pages yet."""
        while self._failed:
            addr = self._failed.pop()
            area = self.find_vm_area(addr)
            if area is not None and area.pages is None:
                self._free_vm_area(addr)
            else:
                self._vfree(addr)

    def _ioremap(self, phys: int, size: int, prot: int | None) -> Mapping:
        seen = len(self.log)
        start = phys & -self.arch.page_size
        length = -(-(phys + size - start) >> self.arch.page_shift) << self.arch.page_shift
        addr = self._area(length, 1, VM_IOREMAP, self._ioremap_range)
        self._space.own(addr, phys=start)
        value = self.arch.ioremap_prot if prot is None else prot
        try:
            counters = self._mapper.map_linear(addr, addr + length, start, value)
        except (VmapError, InputError):
            self._vunmap(addr)
            raise
        return self._mapping(addr, length, counters, seen)

    def _iounmap(self, addr: int) -> None:
        self._vunmap(addr & -self.arch.page_size)

    def _vm_map_ram(self, array: Pfns, node: int) -> Mapping:
        seen, count = len(self.log), len(array)
        size = count << self.arch.page_shift
        if not count:
            self._mapper.warn(WarnOn.NO_PAGES)
            raise VmapError(errno.EINVAL, "no pages to map")
        if count <= self._blocks.max_alloc:
            addr = self._vb_alloc(count)
        else:
            if not self._mapper.memory.attempt():
                raise VmapError(errno.ENOMEM, "no memory for the area")
            addr, _ = self._space.bounds(self._alloc_vmap_area(size, 1, NO_VM, self._vmalloc_range, VMAP_RAM))
        try:
            counters = self._mapper.map_array(addr, size, array.view(np.int64), None, self.arch.page_shift)
        except (VmapError, InputError):
            self._vm_unmap_ram(addr, count)
            raise
        return self._mapping(addr, size, counters, seen)

    def _vb_alloc(self, count: int) -> int:
        """``vb_alloc()``, and ``new_vmap_block()`` if no block has room."""
        order = (count - 1).bit_length()
        addr = self._blocks.alloc(order, self._cpu)
        if not addr:
            size = self._blocks.size
            if not self._mapper.memory.attempt():
                raise VmapError(errno.ENOMEM, "no memory for the vmap block")
            block = self._alloc_vmap_area(size, size, NO_VM, self._vmalloc_range, VMAP_RAM | VMAP_BLOCK)
            addr, _ = self._space.bounds(block)
            self._blocks.new(block, addr, order, self._cpu)
        return addr

    def _vm_unmap_ram(self, addr: int, count: int) -> None:
        start, end = self._vmalloc_range
        if not addr or not start <= addr <= end or addr & (self.arch.page_size - 1):
            raise VmapError(errno.EINVAL, f"vm_unmap_ram() of {addr:#x}", bug=True)
        size = count << self.arch.page_shift
        if count > self._blocks.max_alloc:
            self._unmap_ram_area(addr)
            return
        vb = self._blocks.at(addr)
        self._mapper.flush(L_FLUSH_VUNMAP, addr, addr + size)
        if vb is None or not count:
            raise VmapError(errno.EINVAL, f"vm_unmap_ram() of {count} pages at {addr:#x}, in no vmap block", bug=True)
        order = (count - 1).bit_length()
        self._last_look(addr)
        self._blocks.use_ends(vb, addr, order)
        self._mapper.unmap(addr, size)
        if self._blocks.dirties(vb, addr, order):
            if vb.free:
                raise VmapError(errno.EINVAL, f"the vmap block at {vb.start:#x} is dirtier than it was used", bug=True)
            self._free_vmap_block(vb)

    def _unmap_ram_area(self, addr: int) -> None:
        """``vm_unmap_ram()`` of an area of its own."""
        mapper, space = self._mapper, self._space
        block = space.find_vmap_area(addr)
        if not block:
            mapper.warn(WarnOn.NO_RAM, f"vm_unmap_ram() of {addr:#x}, where no area is")
            raise VmapError(errno.EINVAL, f"there is no area at {addr:#x}")
        tables = mapper.tables(self._look_back(addr), maps=False)
        space.unlink(block)
        space.disown(block)
        free_unmap_vmap_area(mapper.setup, tables, space.space, block)
        mapper.finish(tables)

    def _vmap_pfn(self, array: Pfns, prot: int | None) -> Mapping:
        seen, size = len(self.log), len(array) << self.arch.page_shift
        if not size:
            raise VmapError(errno.EINVAL, "no pages to map")
        addr = self._area(size, 1, VM_IOREMAP)
        value = self.arch.page_kernel if prot is None else prot
        try:
            counters = self._mapper.map_pfns(addr, size, array.view(np.int64), value)
        except (VmapError, InputError):
            self._vunmap(addr)
            raise
        self._mapper.flush(L_FLUSH_VMAP, addr, addr + size)
        return self._mapping(addr, size, counters, seen)

    def _vm_area_map_pages(self, area: int, start: int, array: Pfns) -> None:
        size = len(array) << self.arch.page_shift
        self._check_sparse(area, start, start + size)
        self._mapper.map_array(start, size, array.view(np.int64), None, self.arch.page_shift)

    def _vm_area_unmap_pages(self, area: int, start: int, end: int) -> None:
        self._check_sparse(area, start, end)
        self._vunmap_range(start, end)

    def _pcpu_get_vm_areas(self, offsets: tuple[int, ...], sizes: tuple[int, ...], align: int) -> VmAreas:
        if self.cpus == 1:
            raise InputError("pcpu_get_vm_areas() is there with CONFIG_SMP=y alone; say --cpus 2, or more")
        start, end = self._vmalloc_range
        if (end & -align) - (start + align - 1 & -align) < max(map(operator.add, offsets, sizes)):
            self._mapper.warn(WarnOn.TOO_FAR)
            raise VmapError(errno.ENOMEM, "the areas are farther from each other than the vmalloc space is large")
        if not self._mapper.memory.attempt():
            raise VmapError(errno.ENOMEM, "no memory for the areas")
        base = self._space.pcpu_get_vm_areas(offsets, sizes, align)
        if base is None:
            self._reclaim()
            base = self._space.pcpu_get_vm_areas(offsets, sizes, align)
        if base is None:
            raise VmapError(errno.ENOMEM, f"no address space for {len(sizes)} areas that lie so")
        areas = VmAreas(tuple(VmArea(base + at, size, VM_ALLOC) for at, size in zip(offsets, sizes, strict=True)))
        for area in areas.areas:
            self._space.own(area.addr, together=areas)
        self._percpu[areas.addr] = areas
        return areas

    def _pcpu_free_vm_areas(self, addr: int) -> None:
        taken = self._percpu.pop(addr, None)
        if taken is None:
            raise VmapError(errno.EINVAL, f"not called: pcpu_get_vm_areas() gave no areas that begin at {addr:#x}")
        for area in taken.areas:
            found = self.find_vm_area(area.addr)
            if found is None or found.together is not taken:
                raise VmapError(errno.EINVAL, f"somebody else has freed the area at {area.addr:#x}", bug=True)
            self._vunmap(area.addr)

    def _remap_vmalloc_range_partial(self, kaddr: int, pgoff: int, size: int) -> list[int]:
        page, most = self.arch.page_size, 1 << self.arch.bits_per_long
        size = -(-size // page) * page % most
        area = self.find_vm_area(kaddr)
        if pgoff * page >= most or kaddr % page or area is None:
            raise VmapError(errno.EINVAL, f"no area at {kaddr:#x}, or no page {pgoff} behind it")
        if not area.flags & (VM_USERMAP | VM_DMA_COHERENT):
            raise VmapError(errno.EINVAL, "an area without VM_USERMAP and without VM_DMA_COHERENT")
        if size + pgoff * page > area.end - area.addr - self._guard(area.flags):
            raise VmapError(errno.EINVAL, f"{size} bytes from page {pgoff} on are more than the area has")
        start = kaddr + pgoff * page
        found = [self._mapper.translate(addr) for addr in range(start, start + (size or page), page)]
        if -1 in found:
            raise VmapError(errno.EFAULT, f"nothing is mapped at {start + found.index(-1) * page:#x}", bug=True)
        return found

    def _vmalloc_dump_obj(self, addr: int) -> str:
        addr = -(-addr // self.arch.page_size) * self.arch.page_size % (1 << self.arch.bits_per_long)
        area = self._space.find_in_node(addr)
        if area is None:
            return ""
        pages = 0 if area.pages is None else len(area.pages)
        return f"{pages}-page vmalloc region starting at {area.addr:#x}"

    def _guard(self, flags: int) -> int:
        """Bytes of the guard page of an area."""
        return 0 if flags & VM_NO_GUARD else self.arch.page_size

    def _check_sparse(self, area: int, start: int, end: int) -> None:
        """``check_sparse_vm_area()``; ENOENT where there is none, which no caller in the kernel tries."""
        found = self.find_vm_area(area)
        if found is None:
            raise VmapError(errno.ENOENT, f"there is no area at {area:#x}")
        for flag, (wrong, which, text) in _SPARSE.items():
            if bool(found.flags & flag) is wrong:
                self._mapper.warn(which, text)
                raise VmapError(errno.EINVAL, f"the area at {found.addr:#x} has flags {found.flags:#x}")
        guard = self.arch.page_size
        if (end - start) >> self.arch.page_shift > (self.total_pages or self.arch.addressable_pages):
            raise VmapError(errno.E2BIG, f"{end - start} bytes exceed the machine's memory")
        if start < found.addr or end > found.end - guard:
            raise VmapError(errno.ERANGE, f"[{start:#x}, {end:#x}) is not inside the area")

    def _vmap_page_range(self, addr: int, end: int, phys: int, prot: int | None) -> None:
        value = self.arch.page_kernel if prot is None else prot
        self._mapper.map_linear(addr, end, phys, value)

    def _vmap_pages_range_noflush(self, addr: int, array: Pfns, shift: int) -> None:
        size = len(array) << self.arch.page_shift
        if not self.config["HAVE_ARCH_HUGE_VMALLOC"]:  # __vmap_pages_range_noflush(): each page of its own
            shift = self.arch.page_shift
        self._mapper.map_array(addr, size, array.view(np.int64), None, shift, flush=False)

    def _vunmap_range(self, addr: int, end: int) -> None:
        self._mapper.flush(L_FLUSH_VUNMAP, addr, end)
        self._mapper.unmap(addr, end - addr)
        self._mapper.flush(L_FLUSH_TLB, addr, end)

    def _vmalloc_to_pfn(self, addr: int) -> int:
        pfn = self._mapper.translate(addr)
        if pfn < 0:
            raise VmapError(errno.EINVAL, f"nothing is mapped at {addr:#x}")
        return pfn

    def find_vm_area(self, addr: int) -> VmArea | None:
        """``find_vm_area(addr)``: the area that holds ``addr``, or None."""
        return self._space.find(addr)

    def _get_vm_area(self, size: int, flags: int) -> VmArea:
        size = self._unsigned_long(-(-size >> self.arch.page_shift) << self.arch.page_shift)
        if not size:
            raise VmapError(errno.EINVAL, "no area of 0 bytes")
        addr = self._area(size, 1, flags)
        area = self.find_vm_area(addr)
        assert area is not None
        return area

    def run(self, operations: Iterable[Operation]) -> list[int]:
        """Do ``operations`` in order, as fast as compiled code can: 16 pages are mapped and unmapped in microseconds.

        vmap() and vunmap() are compiled, if the kernel neither records nor debugs; all others are the calls above.

        :returns: what each operation returns: an address, a number, or ``-errno`` where it fails.
        :raises InputError: for an operation that is none, or one that refers to a later one.
        """
        batch = Batch(list(operations), self.arch, self.total_pages, self._cpu, self.cpus)
        mapper, space, results = self._mapper, self._space, batch.results
        prots, alone = mapper.prots(None), self.records or self._debug
        number = 0
        while number < len(results):
            done = number
            if batch.kinds[number] != OTHER and not alone:
                tables = mapper.tables(0)
                done = int(run(mapper.setup, tables, space.space, *batch.arrays, prots, results, number, batch.cpu))
                self._cpu = int(batch.cpu[0])
                mapper.finish(tables)
            if done > number:
                number = done
                last = int(results[done - 1])
                if -MAX_ERRNO <= last < 0:
                    results[done - 1] = -mapper.returned(-last)
                continue
            try:
                value = outcome(self, batch.operations[number], batch.address(number))
            except VmapError as error:
                value = -(error.errno or errno.EINVAL)
            results[number], batch.cpu[0] = signed(value), self._cpu
            number += 1
        return batch.returns()

    def _vread(self, addr: int, count: int) -> list[Part]:
        return vread(self._space, self._blocks, self._mapper, self.arch.page_shift, addr, count)

    def _set_memory(self, addr: int, numpages: int) -> SetMemory:
        leaves = self.leaves(addr, addr + numpages * self.arch.page_size)
        return set_memory(self.arch, leaves, self.find_vm_area(addr), addr, numpages)

    def _ptdump(self) -> None:
        """The walk changes nothing; of what it prints nothing is modelled."""

    def _vmalloc_info(self) -> str:
        return "".join(f"{line}\n" for line in vmalloc_info(self._space, self.arch.bits_per_long))

    @property
    def code(self) -> str:
        """Whose code this is: the release's name."""
        return self.release.name

    @property
    def areas(self) -> list[VmArea]:
        """The areas in use, ascending."""
        return self._space.areas

    @property
    def waiting_bytes(self) -> int:
        """Bytes of address space that were given up and wait for the purge."""
        return self._space.waiting_bytes

    @property
    def table_root(self) -> int:
        """Physical address of the PGD."""
        return self._mapper.memory.root

    @property
    def live_objects(self) -> int:
        """Areas allocated now, those that wait for the purge included, and vmap blocks."""
        return self._space.allocated + len(self._blocks)

    @property
    def free_bytes(self) -> int:
        """Bytes of address space that no area has and that wait for no purge."""
        return self._space.free_bytes

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

    @property
    def keeps_metadata(self) -> bool:
        """Whether KMSAN maps shadow and origin beside each page."""
        return self.config["KMSAN"]

    def fail(self, numbers: Iterable[int]) -> None:
        """Let allocations fail: those with these numbers, counted from 0 from now on, two at most.

        Counted are areas, page tables, page arrays, the pages of a vmalloc(), KMSAN's arrays.
        """
        self._mapper.memory.fail(numbers)

    @property
    def allocations(self) -> int:
        """Allocations tried since the last :meth:`fail`, or since boot."""
        return self._mapper.memory.attempts

    def _vm_unmap_aliases(self) -> None:
        self._unmap_aliases(NOWHERE, 0)

    def _unmap_aliases(self, start: int, end: int) -> None:
        """``_vm_unmap_aliases()``: [start, end) is flushed too, if it is not empty."""
        gone, spans = self._blocks.aliases()
        for vb in gone:
            self._free_vmap_block(vb)
        start, end = min([start, *(span[0] for span in spans)]), max([end, *(span[1] for span in spans)])
        if not self._purge(start, end) and end:
            self._mapper.flush(L_FLUSH_TLB, start, end)

    def reserve(self, areas: Iterable[tuple[int, int]]) -> None:
        """Have areas in use that begin and end there, as another kernel has since boot."""
        for start, end in areas:
            self._block(end - start, self.arch.page_size, VM_NO_GUARD, (start, end))

    def place_areas(self, addresses: list[int]) -> None:
        """Let the next areas have these addresses, in order, as another allocator chose them."""
        self._space.given = addresses

    def limit_pages(self, most: int, largest: int | None = None) -> None:
        """Let vmalloc() have at most ``most`` pages at a time, in blocks of any order, or of ``largest`` at most."""
        self._page_allocator().limit(most, largest)

    def set_signal(self, pending: bool) -> None:
        """Let a fatal signal be pending for the task that calls, or none."""
        self._killed = pending

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
    def log(self) -> EventLog:
        """The same, in the compact form in which it is kept."""
        return self._mapper.log

    @property
    def warnings(self) -> list[str]:
        """Which WARN_ON() fired so far, in order."""
        return self._mapper.warnings

    def _unsigned_long(self, size: int) -> int:
        """``size`` as the kernel's C code would see it."""
        return operator.index(size) % (1 << self.arch.bits_per_long)

    def _vmap_block(self, size: int, flags: int) -> int:
        """An area for vmap(): aligned so that batching can work, if the release cares for that."""
        aligns = [1]
        if self.release.rules.aligns_area:
            aligns = [1 << vm_shift(self._g, size), 1 << arch_vmap_pte_supported_shift(self._g, size), 1]
        for align in aligns[:-1]:
            try:
                return self._block(size, align, flags)
            except VmapError:
                continue
        return self._block(size, aligns[-1], flags)

    def _area(self, size: int, align: int, flags: int, bounds: tuple[int, int] | None = None) -> int:
        """As :meth:`_block`; returns the address."""
        return self._space.bounds(self._block(size, align, flags, bounds))[0]

    def _block(self, size: int, align: int, flags: int, bounds: tuple[int, int] | None = None) -> int:
        """``__get_vm_area_node()``; ENOMEM when no address space is left even after a purge."""
        if flags & VM_IOREMAP:
            order = (size - 1).bit_length()
            align = 1 << min(max(order, self.arch.page_shift), self.arch.ioremap_max_order)
        guard = self._guard(flags)
        if not self._mapper.memory.attempt():
            raise VmapError(errno.ENOMEM, "no memory for the area")
        whole = self._unsigned_long(size + guard)
        if not whole:
            raise VmapError(errno.ENOMEM, f"{size} bytes and a guard page are more than an unsigned long holds")
        return self._alloc_vmap_area(whole, align, flags, bounds or self._vmalloc_range)

    def _alloc_vmap_area(self, size: int, align: int, vm: int, bounds: tuple[int, int], flags: int = 0) -> int:
        """``alloc_vmap_area()``: a block; when there is none, once more after all that can be was given back."""
        align = max(align, self.arch.page_size)
        if self._space.finds_another_size(size, align, *bounds, self._cpu):
            self._mapper.warn(WarnOn.POOL_MIXED)
        for purged in (False, True):
            block = self._space.alloc(size, align, *bounds, self._cpu, flags, vm)
            if block >= 0:
                return block
            if not purged:
                self._reclaim()
        raise VmapError(errno.ENOMEM, f"no {size} bytes of address space, guard page included, aligned to {align:#x}")

    def _reclaim(self) -> None:
        """``reclaim_and_purge_vmap_areas()``."""
        for vb in self._blocks.fragmented():
            self._free_vmap_block(vb)
        self._purge(full=True)

    def _free_vmap_block(self, vb: VmapBlock) -> None:
        """``free_vmap_block()``."""
        self._blocks.forget(vb)
        if not self._space.busy_or_stray(vb.block):
            raise VmapError(errno.EINVAL, f"the vmap block at {vb.start:#x} was given away before", bug=True)
        if not self._space.unlink(vb.block):
            self._mapper.warn(WarnOn.NO_TREE, f"RB_EMPTY_NODE: the vmap block at {vb.start:#x} is in no tree")
        self._space.free(vb.block)

    def _remove_area(self, addr: int, call: str) -> int:
        """``remove_vm_area()``: unmap, then free lazily; the block."""
        mapper, space = self._mapper, self._space
        if addr & (self.arch.page_size - 1):
            mapper.warn(WarnOn.BAD_ADDRESS, f"Trying to vfree() bad address ({addr:#x})")
            if self.release.has(Change.CALLER_WARNS_TOO):
                mapper.warn(WarnOn.NO_AREA, f"Trying to {call}() nonexistent vm area ({addr:#x})")
            raise VmapError(errno.EINVAL, f"{addr:#x} is not page-aligned")
        size = 0
        if self.records or (self._mappings and addr not in self._mappings):
            size = self._look_back(addr)
        else:
            self._last_look(addr)
        tables = mapper.tables(size, maps=False)
        block = remove_vm_area(mapper.setup, tables, space.space, addr >> space.unit)
        if not block:
            mapper.warn(WarnOn.NO_AREA, f"Trying to {call}() nonexistent vm area ({addr:#x})")
            raise VmapError(errno.EINVAL, f"there is no area at {addr:#x}")
        mapper.finish(tables)
        return int(block)

    def _look_back(self, addr: int) -> int:
        """Let the mapping in the block that holds ``addr`` see its leaves before they go; the block's bytes."""
        block = self._space.find_vmap_area(addr)
        if not block:
            return 0
        start, end = self._space.bounds(block)
        self._last_look(start)
        return end - start

    def _last_look(self, addr: int) -> None:
        """Let the mapping at ``addr`` see its leaves before they go."""
        mapping = self._mappings.pop(addr, None)
        if mapping is not None:
            mapping.leaves  # noqa: B018 - the owner may ask for them later

    def _purge(self, start: int = NOWHERE, end: int = 0, full: bool = False) -> bool:
        """``__purge_vmap_area_lazy()``; whether anything waited."""
        tables = self._mapper.tables(0)
        purged = self._space.purge(tables, start, end, full)
        self._mapper.finish(tables)
        return purged > 0

    def _page_allocator(self) -> heap.Buddy:
        if self._buddy is None:
            self._buddy = heap.zone_of(self.arch, self.total_pages)
        return self._buddy

    def _mapping(self, addr: int, size: int, counters: Ints, seen: int, block: int = 0) -> Mapping:
        """What a call returns; ``block``: the area's, if it is known."""
        log, until = self._mapper.log, len(self._mapper.log)
        mapping = Mapping(
            addr,
            size,
            lambda _: Cost.of(size >> self.arch.page_shift, counters),
            lambda: self._mapper.leaves(addr, addr + size, int(counters[C_LEAVES])),
            lambda: log.events(seen, until),
        )
        self._mappings[addr] = mapping
        self._space.track(block or self._space.find_vmap_area(addr))
        return mapping


def _at_least(name: str, value: int | None, least: int) -> int | None:
    """``value`` as an int, if it is one from ``least`` on, or None."""
    try:
        number = None if value is None else operator.index(value)
    except TypeError:
        number = least - 1
    if number is not None and number < least:
        raise InputError(f"{name} is {value!r}; it is a whole number, at least {least}")
    return number
