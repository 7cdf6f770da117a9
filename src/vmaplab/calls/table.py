# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's calls, one entry each; everything else about a call follows from its entry.

An entry is a method of :class:`Calls`: its signature and docstring are what a caller sees, the annotations of its
arguments say how they are checked, and what :func:`~vmaplab.calls.entry.kernel_call` takes says how it is called in C,
written as a step, drawn at random, and what it does to the address space. :class:`~vmaplab.machine.Machine` is what has
these calls.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls import kinds, options
from vmaplab.calls.arguments import (
    NUMA_NO_NODE,
    Address,
    Area,
    Bound,
    By,
    Flags,
    Gfp,
    Int,
    Long,
    Longs,
    Node,
    Number,
    Pages,
    Power,
    Prot,
    Shift,
    extents,
    inside,
    of_the_size_alone,
    pages_inside,
    pages_of_a_page,
    physical,
    range_of_pages,
    some_bytes,
    whole_chunks,
    whole_pages,
    whole_range,
)
from vmaplab.calls.effects import (
    Asks,
    Changes,
    Effect,
    Ends,
    Maps,
    Moves,
    Purges,
    Reserves,
    cleared,
    given_pages,
    nothing_of,
    physical_range,
    physical_until,
)
from vmaplab.calls.entry import STEPS, Call, Returns, Setting, Step, kernel_call
from vmaplab.calls.flags import VM_ALLOW_HUGE_VMAP, VM_MAP
from vmaplab.calls.operation import Operation
from vmaplab.changes import Change
from vmaplab.errors import InputError
from vmaplab.mapping import Mapping, Part, SetMemory, VmArea, VmAreas

if TYPE_CHECKING:
    from vmaplab.arch import Arch
    from vmaplab.release import Release

__all__ = [
    "NUMA_NO_NODE",
    "STEPS",
    "Call",
    "Calls",
    "Returns",
    "Setting",
    "Step",
    "absent_from",
    "call_of",
    "check_cpu",
    "effect_of",
    "outcome",
    "pages_of",
    "perform",
]

PLACE = kinds.Place()


def _vmalloc_of(step: Operation, addr: int, page: int) -> tuple[Any, ...]:
    """The arguments of vmalloc() for a step; of another function of the family the size alone, and GFP flags."""
    by, gfp = options.FUNCTION.of(step), options.GFP_FLAGS.of(step)
    if by:
        return step.pages * page, 0, NUMA_NO_NODE, 1, None, None, gfp, by
    flags = options.VM_FLAGS.of(step) | (VM_ALLOW_HUGE_VMAP if options.HUGE.of(step) else 0)
    end = addr + step.pfn * page if addr else None
    return step.pages * page, flags, NUMA_NO_NODE, options.ALIGN.pages(step) * page, addr or None, end, gfp, 0


class Calls(ABC):
    """The calls of :class:`~vmaplab.machine.Machine`, and what decides who makes them and which of them fail.

    All of them raise :class:`~vmaplab.errors.VmapError` as the kernel fails, nothing staying mapped that was not before
    where nothing else is said, and :class:`~vmaplab.errors.InputError` for arguments that are none. The kernel's own
    code may also raise :class:`~vmaplab.errors.KernelFault`, and returns NULL without an errno: ENOMEM stands for that.
    """

    arch: Arch

    @property
    @abstractmethod
    def cpu(self) -> int:
        """The CPU that makes the next calls, from 0 on."""

    @cpu.setter
    @abstractmethod
    def cpu(self, number: int) -> None: ...

    @abstractmethod
    def fail(self, numbers: Iterable[int]) -> None:
        """Let allocations fail: those with these numbers, counted from 0 from now on.

        Each machine counts its own: the model areas, page tables, page arrays, the pages of a vmalloc() and KMSAN's
        arrays (two numbers at most); the kernel's own code what it asks for: slab objects, page tables, pages.
        """

    @property
    @abstractmethod
    def allocations(self) -> int:
        """Allocations tried since the last :meth:`fail`, or since boot."""

    @abstractmethod
    def set_limit(self, max_tables: int | None) -> None:
        """Let at most ``max_tables`` page tables exist from now on, that of the top level aside."""

    @abstractmethod
    def limit_pages(self, most: int, largest: int | None = None) -> None:
        """Let vmalloc() have at most ``most`` pages at a time, in blocks of any order, or of ``largest`` at most."""

    @abstractmethod
    def set_signal(self, pending: bool) -> None:
        """Let a fatal signal be pending for the task that calls, or none: some waits and loops end then."""

    @abstractmethod
    def _invoke(self, call: Call, arguments: tuple[Any, ...]) -> Any:
        """The one door: do ``call`` with ``arguments``, which are checked and complete."""

    @kernel_call(
        "void *vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)",
        "vmap",
        kinds.Runs(),
        kinds.VmapFlags(),
        example="vmap 0x100+16,null,0x7",
        help="`vmap()` of 16 pages from PFN 0x100 on, a NULL page and PFN 7; `flags=0x40` may follow",
        gives=lambda step, addr, page: (pages_of(step), step.flags),
        returns=Returns.ADDRESS,
        effect=Maps("vunmap", given_pages, memory=True, metadata=True),
        weight=30,
    )
    def vmap(self, pfns: Pages, flags: Flags = VM_MAP, prot: Prot = None) -> Mapping:
        """``vmap(pages, count, flags, prot)``.

        :param prot: PAGE_KERNEL if None. The kernel applies ``pgprot_nx()``.
        """

    @kernel_call(
        "void *__vmalloc_node_range(unsigned long size, unsigned long align, unsigned long start, unsigned long end,"
        " gfp_t gfp_mask, pgprot_t prot, unsigned long vm_flags, int node, const void *caller)",
        "vmalloc",
        kinds.AllocPages(),
        options.HUGE,
        options.ALIGN,
        options.Window(),
        options.GFP_FLAGS,
        options.VM_FLAGS,
        options.FUNCTION,
        binding="void *vmaplab_vmalloc(unsigned long size, unsigned long align, unsigned long start, unsigned long end,"
        " unsigned long how, unsigned long flags)",
        example="vmalloc 512 huge",
        help="`__vmalloc_node_range()` of 512 pages, with VM_ALLOW_HUGE_VMAP; `align=16` (pages),"
        " `at=0xffff800080000000+600` (from where, and how many pages), `gfp=GFP_NOFS` and `flags=0x100`"
        " (VM_FLUSH_RESET_PERMS) may follow, or `by=vzalloc`: that function instead",
        gives=_vmalloc_of,
        returns=Returns.ADDRESS,
        effect=Maps("vfree", None, guard=None, metadata=True),
        weight=18,
        check=of_the_size_alone,
    )
    def vmalloc(
        self,
        size: Long,
        flags: Flags = 0,
        node: Node = NUMA_NO_NODE,
        align: Power = 1,
        start: Bound = None,
        end: Bound = None,
        gfp: Gfp = "GFP_KERNEL",
        by: By = "__vmalloc_node_range",
    ) -> Mapping:
        """``__vmalloc_node_range(size, align, start, end, gfp_mask, ...)`` with PAGE_KERNEL.

        :param size: bytes.
        :param flags: ``VM_*`` beside VM_ALLOC: VM_ALLOW_HUGE_VMAP for what ``vmalloc_huge()`` does.
        :param align: of the area, bytes.
        :param start: lowest address of the area; VMALLOC_START if None. ``end``: likewise, where it has to end.
        :param gfp: the name of the GFP flags, of those that ``vmaplab.calls.options.GFP`` has.
        :param by: the function to call, of those that ``vmaplab.calls.options.BY`` has; others take the size alone.
        """

    @kernel_call(
        "void *vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)",
        "vmap_put",
        kinds.FewPages(),
        binding="void *vmaplab_vmap_put(unsigned long size)",
        example="vmap_put 16",
        help="`vmap()` with VM_MAP_PUT_PAGES of 16 pages from the page allocator: `vfree()` ends it, and frees"
        " pages and array",
        gives=lambda step, addr, page: (step.pages * page,),
        returns=Returns.ADDRESS,
        effect=Maps("vfree", None, metadata=True),
        weight=4,
        check=pages_of_a_page,
    )
    def vmap_put_pages(self, size: Long) -> Mapping:
        """``vmap(pages, count, VM_MAP | VM_MAP_PUT_PAGES, PAGE_KERNEL)`` of pages that are allocated for it.

        :param size: bytes, of as many pages as one page has room for pointers at most.
        """

    @kernel_call(
        "void *vrealloc(const void *p, size_t size, gfp_t flags)",
        "vrealloc",
        PLACE,
        kinds.AllocPages(),
        options.GFP_FLAGS,
        binding="void *vmaplab_vrealloc(unsigned long addr, unsigned long size, unsigned long how)",
        example="vrealloc @0 40",
        help="`vrealloc()` to 40 pages; `gfp=GFP_NOFS` may follow; 6.12 on",
        gives=lambda step, addr, page: (addr, step.pages * page, options.GFP_FLAGS.of(step)),
        returns=Returns.ADDRESS,
        effect=Moves("vmalloc"),
        since=Change.VREALLOC,
    )
    def vrealloc(self, addr: Address, size: Long, gfp: Gfp = "GFP_KERNEL") -> Mapping:
        """``vrealloc(p, size, flags)``: the same area where it is large enough, or a new one; 0 bytes free it."""

    def vzalloc(self, size: int, node: int = NUMA_NO_NODE) -> Mapping:
        """``vzalloc_node(size, node)``: as :meth:`vmalloc`. The pages are zeroed; no machine keeps contents."""
        return self.vmalloc(size, node=node)

    @kernel_call(
        "void *ioremap(phys_addr_t phys_addr, size_t size)",
        "ioremap",
        kinds.Range(),
        binding="void *vmaplab_ioremap(phys_addr_t start, unsigned long length, pgprot_t prot, long *out)",
        example="ioremap 0x80000+512",
        help="`get_vm_area()` and `ioremap_page_range()` of 512 pages from PFN 0x80000 on",
        gives=lambda step, addr, page: (step.pfn * page, step.pages * page),
        returns=Returns.ADDRESS,
        effect=Maps("iounmap", physical_range, device=True),
        weight=12,
        check=physical,
    )
    def ioremap(self, phys: Number, size: Long, prot: Prot = None) -> Mapping:
        """``ioremap()``: map a physical range; the mapping starts at the page that holds ``phys``.

        :param phys: physical address, bytes.
        :param size: bytes.
        :param prot: that of ``ioremap()`` on this architecture if None.
        """

    @kernel_call(
        "void *vm_map_ram(struct page **pages, unsigned int count, int node)",
        "map_ram",
        kinds.FewRuns(),
        example="map_ram 0x100+16",
        help="`vm_map_ram()`; up to 64 pages (32 on 32 bits) come from a per-CPU vmap block",
        gives=lambda step, addr, page: (pages_of(step),),
        returns=Returns.ADDRESS,
        effect=Maps("unmap_ram", given_pages, memory=True, guard=False, metadata=True),
        weight=20,
    )
    def vm_map_ram(self, pfns: Pages, node: Node = NUMA_NO_NODE) -> Mapping:
        """``vm_map_ram(pages, count, node)``: up to VMAP_MAX_ALLOC pages come from a vmap block of this CPU.

        Pages are mapped one by one in every release; there is no guard page.
        """

    @kernel_call(
        "void *vmap_pfn(unsigned long *pfns, unsigned int count, pgprot_t prot)",
        "vmap_pfn",
        kinds.Beyond(),
        example="vmap_pfn 0x80000+16",
        help="`vmap_pfn()` of page frames that are no memory: say `pages 0x40000` first, or all that the architecture"
        " can address is memory",
        gives=lambda step, addr, page: (pages_of(step),),
        returns=Returns.ADDRESS,
        effect=Maps("vunmap", given_pages, memory=False),
        weight=6,
    )
    def vmap_pfn(self, pfns: Pages, prot: Prot = None) -> Mapping:
        """``vmap_pfn(pfns, count, prot)``: page frames that are no memory, a base page each.

        :param prot: PAGE_KERNEL if None.
        """

    @kernel_call(
        "struct vm_struct *get_vm_area(unsigned long size, unsigned long flags)",
        "area",
        kinds.AreaPages(),
        kinds.Flags(),
        binding="void *vmaplab_get_vm_area(unsigned long size, unsigned long flags)",
        example="area 512 flags=0x1000",
        help="`get_vm_area()` of 512 pages; without flags VM_MAP, 0x1000 is VM_SPARSE",
        gives=lambda step, addr, page: (step.pages * page, step.flags),
        returns=Returns.ADDRESS,
        effect=Maps("vunmap", nothing_of, guard=None, quiet=True),
        weight=14,
    )
    def get_vm_area(self, size: Long, flags: Flags = VM_MAP) -> VmArea:
        """``get_vm_area(size, flags)``: reserve address space without mapping anything.

        :param size: bytes, without the guard page.
        """

    @kernel_call(
        "struct vm_struct **pcpu_get_vm_areas(const unsigned long *offsets, const size_t *sizes, int nr_vms,"
        " size_t align)",
        "percpu",
        options.Extents(),
        options.ExtentsAlign(),
        binding="void *vmaplab_percpu(unsigned long *extents, int nr_vms, size_t align, unsigned long *out)",
        example="percpu 0+8,64+8 align=4",
        help="`pcpu_get_vm_areas()` of areas of 8 pages each, the second 64 pages behind the first, as the per-CPU"
        " allocator takes them; with SMP",
        gives=lambda step, addr, page: (
            [int(number) * page for number in pages_of(step)[::2]],
            [int(number) * page for number in pages_of(step)[1::2]],
            options.ALIGN.pages(step) * page,
        ),
        returns=Returns.ADDRESS,
        effect=Reserves("percpu_free"),
        weight=5,
        check=extents,
    )
    def pcpu_get_vm_areas(self, offsets: Longs, sizes: Longs, align: Power) -> VmAreas:
        """``pcpu_get_vm_areas(offsets, sizes, nr_vms, align)``: areas that lie so to each other, as high as can be.

        :param offsets: of each area, bytes; ``sizes``: likewise. All are multiples of ``align``, and none overlap.
        """

    @kernel_call(
        "void pcpu_free_vm_areas(struct vm_struct **vms, int nr_vms)",
        "percpu_free",
        PLACE,
        binding="void vmaplab_percpu_free(void *vms, int nr_vms)",
        example="percpu_free @0",
        help="`pcpu_free_vm_areas()` of what step 0 took",
        gives=lambda step, addr, page: (addr,),
        returns=Returns.NOTHING,
        effect=Ends(together=True),
    )
    def pcpu_free_vm_areas(self, addr: Address) -> None:
        """``pcpu_free_vm_areas(vms, nr_vms)`` of the areas whose first one is at ``addr``; EINVAL if there are none."""

    @kernel_call(
        "int vm_area_map_pages(struct vm_struct *area, unsigned long start, unsigned long end, struct page **pages)",
        "map_pages",
        PLACE,
        kinds.Runs(),
        binding="int vmaplab_map_pages(void *area, unsigned long start, unsigned long end, struct page **pages)",
        example="map_pages @0+3 0x100+16",
        help="`vm_area_map_pages()` into the sparse area `@0`",
        gives=lambda step, addr, page: (addr - step.offset * page, addr, pages_of(step)),
        returns=Returns.ERRNO,
        effect=Changes(given_pages, at="start", sparse=True),
        check=pages_inside,
    )
    def vm_area_map_pages(self, area: Area, start: Number, pfns: Pages) -> None:
        """``vm_area_map_pages(area, start, end, pages)``: map pages inside an area with VM_SPARSE, one by one."""

    @kernel_call(
        "void vm_area_unmap_pages(struct vm_struct *area, unsigned long start, unsigned long end)",
        "unmap_pages",
        PLACE,
        kinds.Count(),
        binding="void vmaplab_unmap_pages(void *area, unsigned long start, unsigned long end)",
        example="unmap_pages @0+3 16",
        help="`vm_area_unmap_pages()`",
        gives=lambda step, addr, page: (addr - step.offset * page, addr, addr + step.pages * page),
        returns=Returns.NOTHING,
        effect=Changes(cleared("start"), at="start", sparse=True, clears=True, metadata=False),
        check=inside,
    )
    def vm_area_unmap_pages(self, area: Area, start: Number, end: Number) -> None:
        """``vm_area_unmap_pages(area, start, end)``, which returns nothing, also when it refuses."""

    @kernel_call(
        "void vunmap(const void *addr)",
        "vunmap",
        PLACE,
        example="vunmap @0",
        help="`vunmap()`: the pages stay their owner's",
        gives=lambda step, addr, page: (addr,),
        returns=Returns.NOTHING,
        effect=Ends(),
    )
    def vunmap(self, addr: Address) -> None:
        """``vunmap(addr)``: clear the entries, free the area lazily; the pages stay their owner's.

        As in the kernel, any page of an area stands for the area, and address 0 for none. What is no area is EINVAL
        here, and a warning in the kernel.
        """

    @kernel_call(
        "void vfree(const void *addr)",
        "vfree",
        PLACE,
        example="vfree @0",
        help="`vfree()`: as `vunmap()`, and the pages of the area are freed",
        gives=lambda step, addr, page: (addr,),
        returns=Returns.NOTHING,
        effect=Ends(frees=True),
    )
    def vfree(self, addr: Address) -> None:
        """``vfree(addr)``: as :meth:`vunmap`, and the pages that the area owns are freed."""

    @kernel_call(
        "void vfree_atomic(const void *addr)",
        "vfree_atomic",
        PLACE,
        example="vfree_atomic @0",
        help="`vfree_atomic()`: `vfree()` by a work that is queued",
        gives=lambda step, addr, page: (addr,),
        returns=Returns.NOTHING,
        effect=Ends(frees=True),
    )
    def vfree_atomic(self, addr: Address) -> None:
        """``vfree_atomic(addr)``: :meth:`vfree` by a work, which runs when the call is over."""

    @kernel_call(
        "void iounmap(volatile void *addr)",
        "iounmap",
        PLACE,
        binding="void vunmap(const void *addr)",
        example="iounmap @0",
        help="`iounmap()`: `vunmap()` of the page that holds the address",
        gives=lambda step, addr, page: (addr,),
        returns=Returns.NOTHING,
        effect=Ends(whole_page=True),
    )
    def iounmap(self, addr: Address) -> None:
        """``iounmap(addr)``: :meth:`vunmap` of the page that holds ``addr``."""

    @kernel_call(
        "void vm_unmap_ram(const void *mem, unsigned int count)",
        "unmap_ram",
        PLACE,
        kinds.Count(),
        binding="void vm_unmap_ram(const void *addr, unsigned int count)",
        example="unmap_ram @0 16",
        help="`vm_unmap_ram()`",
        gives=lambda step, addr, page: (addr, step.pages),
        returns=Returns.NOTHING,
        effect=Ends(counted=True),
    )
    def vm_unmap_ram(self, addr: Address, count: Int) -> None:
        """``vm_unmap_ram(mem, count)``, with the count that was mapped."""

    @kernel_call(
        "void vm_unmap_aliases(void)",
        "aliases",
        example="aliases",
        help="`vm_unmap_aliases()`: everything that waits is flushed and freed",
        gives=lambda step, addr, page: (),
        returns=Returns.NOTHING,
        effect=Purges(),
    )
    def vm_unmap_aliases(self) -> None:
        """``vm_unmap_aliases()``: flush and free what waits for the purge, and flush the dirty parts of vmap blocks."""

    @kernel_call(
        "unsigned long vmap_node_shrink_scan(struct shrinker *shrink, struct shrink_control *sc)",
        "shrink",
        binding="void vmaplab_shrink(void)",
        example="shrink",
        help="the shrinker of `vmap_nodes`: what their pools keep becomes free for all; 6.9 on",
        gives=lambda step, addr, page: (),
        returns=Returns.NOTHING,
        effect=Asks(),
        since=Change.VMAP_NODES,
    )
    def shrink(self) -> None:
        """``vmap_node_shrink_scan()``: all areas in the pools become free for all, as when memory is short."""

    @kernel_call(
        "int vmap_pages_range_noflush(unsigned long addr, unsigned long end, pgprot_t prot, struct page **pages,"
        " unsigned int page_shift, gfp_t gfp_mask)",
        "map",
        PLACE,
        kinds.Runs(),
        kinds.Shift(),
        example="map @0+3 0x100+16 12",
        help="`vmap_pages_range_noflush()` with page_shift 12",
        gives=lambda step, addr, page: (addr, pages_of(step), step.flags),
        returns=Returns.ERRNO,
        effect=Changes(given_pages, flushes=False),
        check=whole_chunks,
    )
    def vmap_pages_range_noflush(self, addr: Number, pfns: Pages, shift: Shift = None) -> None:
        """``vmap_pages_range_noflush()``: map pages at a given address, without an area and without batching.

        Where the walker stops, what was mapped before stays. It takes GFP flags from 6.19 on.
        """

    @kernel_call(
        "int vmap_page_range(unsigned long addr, unsigned long end, phys_addr_t phys_addr, pgprot_t prot)",
        "range",
        PLACE,
        kinds.Count(),
        kinds.Frame(),
        kinds.More(),
        binding="int vmaplab_vmap_page_range(unsigned long addr, unsigned long end, phys_addr_t phys, pgprot_t prot)",
        example="range @0 16 0x200",
        help="`vmap_page_range()` of 16 pages from PFN 0x200 on; `+512` may follow: 512 bytes more, so that the range"
        " ends at no page",
        gives=lambda step, addr, page: (
            (addr, addr + step.pages * page + step.flags, step.pfn * page) if step.pages else None
        ),
        returns=Returns.ERRNO,
        effect=Changes(physical_until, metadata=None),
        check=range_of_pages,
    )
    def vmap_page_range(self, addr: Number, end: Number, phys: Number, prot: Prot = None) -> None:
        """``vmap_page_range()``: map a physical range at given addresses, without an area.

        From 6.19 on a range that does not end at a page is EINVAL; before, nobody looks. An entry that is set already
        is EBUSY, and a BUG() in the kernel. It is ``undefined`` what a walker does that goes through a leaf or past
        the end.
        """

    @kernel_call(
        "void vunmap_range(unsigned long addr, unsigned long end)",
        "unrange",
        PLACE,
        kinds.Count(),
        example="unrange @0+1 2",
        help="`vunmap_range()` of 2 pages",
        gives=lambda step, addr, page: (addr, addr + step.pages * page) if step.pages else None,
        returns=Returns.NOTHING,
        effect=Changes(cleared("addr"), clears=True, metadata=False),
        check=whole_range,
    )
    def vunmap_range(self, addr: Number, end: Number) -> None:
        """``vunmap_range()``: clear every entry of [addr, end) and flush, without an area."""

    @kernel_call(
        "struct page *vmalloc_to_page(const void *addr)",
        "lookup",
        PLACE,
        example="lookup @0+5",
        help="`vmalloc_to_page()`",
        gives=lambda step, addr, page: (addr,),
        returns=Returns.FRAME,
        effect=Asks(),
    )
    def vmalloc_to_pfn(self, addr: Address) -> int:
        """``vmalloc_to_pfn(addr)``: the page frame that ``addr`` maps to; EINVAL if nothing is mapped there."""

    @kernel_call(
        "int remap_vmalloc_range_partial(struct vm_area_struct *vma, unsigned long uaddr, void *kaddr,"
        " unsigned long pgoff, unsigned long size)",
        "remap",
        PLACE,
        kinds.AreaPages(),
        kinds.PageOffset(),
        binding="int vmaplab_remap(unsigned long kaddr, unsigned long pgoff, unsigned long size, unsigned long uaddr)",
        example="remap @0 16 0x3",
        help="`remap_vmalloc_range_partial()` of 16 pages from page 3 of an area with VM_USERMAP on: which pages a"
        " process gets",
        gives=lambda step, addr, page: (addr, step.pfn, step.pages * page),
        returns=Returns.FRAMES,
        effect=Asks(trusts=True),
        check=some_bytes,
    )
    def remap_vmalloc_range_partial(self, kaddr: Address, pgoff: Long, size: Long) -> list[int]:
        """``remap_vmalloc_range_partial(vma, uaddr, kaddr, pgoff, size)``: the page frames that the process gets.

        :param pgoff: pages behind ``kaddr`` where to begin; ``size``: bytes.
        """

    @kernel_call(
        "bool vmalloc_dump_obj(void *object)",
        "dump",
        PLACE,
        example="dump @0+3",
        help="what `vmalloc_dump_obj()` prints of an address, without the caller",
        gives=lambda step, addr, page: (addr,),
        returns=Returns.TEXT,
        effect=Asks(),
    )
    def vmalloc_dump_obj(self, addr: Address) -> str:
        """``vmalloc_dump_obj(object)``: what it prints, but for the caller; "" where it knows no area.

        It looks in the node of the address alone (6.9 on), so an address far behind an area's start may be unknown.
        """

    @kernel_call(
        "long vread_iter(struct iov_iter *iter, const char *addr, size_t count)",
        "vread",
        PLACE,
        kinds.Count(),
        kinds.More(),
        example="vread @0+5 20",
        help="`vread_iter()` of 20 pages: where each byte comes from, parts of (offset, bytes, physical address, or -1"
        " for zeroes); `+512` may follow: from 512 bytes behind on",
        gives=lambda step, addr, page: (addr + step.flags, step.pages * page),
        returns=Returns.PARTS,
        effect=Asks(),
    )
    def vread(self, addr: Address, count: Long) -> list[Part]:
        """``vread_iter()``: where each of ``count`` bytes from ``addr`` on comes from; holes read as zeroes."""

    @kernel_call(
        "int vmalloc_info_show(struct seq_file *m, void *p)",
        "info",
        binding="void vmaplab_vmallocinfo(struct seq_file *m)",
        example="info",
        help="the lines of `/proc/vmallocinfo`, without callers: compared by `check`; `replay --info` prints them",
        gives=lambda step, addr, page: (),
        returns=Returns.TEXT,
        effect=Asks(),
    )
    def vmalloc_info(self) -> str:
        """The text of ``/proc/vmallocinfo``, but for the callers."""

    @kernel_call(
        "void ptdump_walk_pgd(struct ptdump_state *st, struct mm_struct *mm, pgd_t *pgd)",
        "ptdump",
        binding="int vmaplab_ptdump(void)",
        example="ptdump",
        help="the walk of `/sys/kernel/debug/kernel_page_tables` through vmalloc space: it changes nothing, and meets"
        " what others do to the tables meanwhile (`check --race`)",
        gives=lambda step, addr, page: (),
        returns=Returns.NOTHING,
        effect=Asks(),
    )
    def ptdump(self) -> None:
        """``ptdump_walk_pgd()`` of the vmalloc space; nothing where the kernel has none beside huge mappings."""

    @kernel_call(
        "int set_memory_ro(unsigned long addr, int numpages)",
        "set_memory",
        PLACE,
        kinds.Count(),
        example="set_memory @0+1 3",
        help="what `set_memory_ro()`, `_rw`, `_x`, `_nx` do to 3 pages; the model alone answers",
        gives=lambda step, addr, page: (addr, step.pages),
        returns=Returns.VERDICT,
        effect=Asks(),
        bound=False,
        check=whole_pages,
    )
    def set_memory(self, addr: Number, numpages: Number) -> SetMemory:
        """What ``set_memory_ro(addr, numpages)`` and its like would do, leaf by leaf; nothing is changed."""


def pages_of(step: Operation) -> NDArray[np.uint64]:
    """The page array of ``step``.

    :raises InputError: if it has none.
    """
    if step.pfns is None:
        raise InputError(f"the operation '{step.call}' has no page array")
    return step.pfns


def _set_cpu(machine: Calls, step: Operation) -> None:
    machine.cpu = step.pages


STEPS |= {
    one.word: one
    for one in (
        Setting(
            "cpu",
            (kinds.Count(0),),
            "cpu 2",
            "CPU 2 makes the calls from here on, of a machine with several",
            _set_cpu,
        ),
        Setting(
            "tables",
            (kinds.Count(0),),
            "tables 3",
            "from here on at most 3 page tables can exist below the PGD",
            lambda machine, step: machine.set_limit(step.pages),
        ),
        Setting(
            "memory",
            (kinds.Count(0), kinds.Second()),
            "memory 700 3",
            "from here on at most 700 pages of the page allocator can be in use, those that are now included, in blocks"
            " of order 3 at most; the order may be left out",
            lambda machine, step: machine.limit_pages(step.pages, None if step.pfn < 0 else step.pfn),
        ),
        Setting(
            "signal",
            (kinds.Count(0, 1),),
            "signal 1",
            "from here on a fatal signal is pending for the task, which ends a vmalloc() that looks for large pages;"
            " with 0, none is any more",
            lambda machine, step: machine.set_signal(step.pages > 0),
        ),
        Setting(
            "fail",
            (kinds.Count(0), kinds.Second()),
            "fail 3 7",
            "of the allocations from here on, counted from 0, these (one or two) fail: the model counts areas, page"
            " tables, page arrays and pages, so the numbers of `replay` are not those that `check --faults` prints;"
            " a step like others, so `@N` counts it",
            lambda machine, step: machine.fail([step.pages] if step.pfn < 0 else [step.pages, step.pfn]),
        ),
    )
}


def call_of(step: Operation) -> Call | None:
    """The entry of a step; None if it is no call."""
    entry = STEPS[step.call]
    return entry if isinstance(entry, Call) else None


def absent_from(release: Release) -> frozenset[str]:
    """The calls, by the first words of their steps, that ``release`` does not have."""
    calls = [step for step in STEPS.values() if isinstance(step, Call)]
    return frozenset(call.word for call in calls if call.since and not release.has(call.since))


def effect_of(word: str) -> Effect | None:
    """What the call of a step does; None if it is no call."""
    entry = STEPS[word]
    return entry.effect if isinstance(entry, Call) else None


def returns_of(step: Operation) -> Returns:
    """What a step returns: nothing if it is no call."""
    call = call_of(step)
    return call.returns if call else Returns.NOTHING


def perform(machine: Calls, step: Operation, addr: int) -> Any:
    """Do ``step`` on ``machine``; what the call returned, or None where nothing was called.

    :param addr: the address that it takes; where that is 0, because there was a failure before, nothing is done.
    :raises VmapError: as the call fails.
    """
    if step.ref >= 0 and not addr:
        return None
    entry = STEPS[step.call]
    if isinstance(entry, Setting):
        entry.apply(machine, step)
        return None
    assert isinstance(entry, Call)
    page = machine.arch.page_size
    arguments = entry.gives(step, addr + step.offset * page, page)
    return None if arguments is None else getattr(machine, entry.method)(*arguments)


def outcome(machine: Calls, step: Operation, addr: int) -> int:
    """As :func:`perform`; what the call came to, as one number that two machines can be compared by."""
    found = perform(machine, step, addr)
    return 0 if found is None else returns_of(step).number(found)


def check_cpu(number: int, cpus: int) -> int:
    """``number``, if it is one of ``cpus`` CPUs.

    :raises InputError: if it is none.
    """
    if not 0 <= operator.index(number) < cpus:
        raise InputError(f"there is no CPU {number}: this machine has {cpus}, from 0 on")
    return operator.index(number)
