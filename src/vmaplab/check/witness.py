"""A kernel that is watched: every call is followed by a look at everything that must hold.

What must hold, from the view of one who only sees the calls, their results, the events and the bytes of the
table memory:

- each page of an area goes to the frame that it was given, each with the right to write and without the right to
  execute, and nothing else is mapped anywhere: no guard page, no page outside an area, nothing that was not given;
- leaves are aligned, virtually and physically; a group of PTEs is complete, its entries agree;
- areas do not overlap, guard pages included, and lie in the vmalloc space;
- cache flushes cover what is mapped and unmapped: those of a mapping are exactly its area;
- what was unmapped leaves no entry; the tables stay, and each one in use can be reached from the root;
- a call that fails leaves nothing mapped;
- entries go through invalid and a TLB flush before they change; freed tables and addresses likewise (:mod:`.shadow`).

No code that maps, walks or decodes is used here; formats come from :mod:`vmaplab.mmu`. In common with the model are
the words: kinds of events, flags, the bounds of an architecture's address space.
"""

from __future__ import annotations

import errno
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmaplab.check import invariants
from vmaplab.check.shadow import Rows, Shadow, joined
from vmaplab.errors import InputError, Violation, VmapError
from vmaplab.kernel import NUMA_NO_NODE, Kernel
from vmaplab.mapping import Mapping
from vmaplab.mmu import FORMATS, walker
from vmaplab.mmu.format import U64, Format
from vmaplab.mmu.proof import Prover
from vmaplab.mmu.walker import Walk
from vmaplab.pages.array import page_array
from vmaplab.pgtable.memory import L_FLUSH_VMAP, L_FLUSH_VUNMAP
from vmaplab.vmalloc.flags import VM_FLUSH_RESET_PERMS, VM_MAP, VM_NO_GUARD, VM_SPARSE

if TYPE_CHECKING:
    from vmaplab.object.kernel import ObjectKernel

Ints = NDArray[np.int64]
NOTHING = -1
MAX_ADDR = (1 << 64) - 4096
"""Above it are no addresses but negative errnos."""
WITH_METADATA = ("vmap", "vmalloc", "vm_map_ram", "vmap_pages_range_noflush", "vm_area_map_pages")
"""Calls for whose pages KMSAN maps shadow and origin."""


P = ParamSpec("P")
T = TypeVar("T")


def _watched(method: Callable[Concatenate[Witness, P], T]) -> Callable[Concatenate[Witness, P], T]:
    """A call that is judged; once the witness is blind, it is the kernel's alone."""

    @wraps(method)
    def call(self: Witness, /, *args: P.args, **keywords: P.kwargs) -> T:
        if self.blind:
            result: T = getattr(self.kernel, method.__name__)(*args, **keywords)
            return result
        return method(self, *args, **keywords)

    return call


@dataclass
class Held:
    """An area in use.

    :param end: first address behind it and its guard page, if it has one.
    :param pfns: per page its frame, or NOTHING.
    :param rights: what its entries allow (``vmaplab.mmu.format``); None where the caller asked for others.
    :param metadata: per page, whether KMSAN has a shadow page and an origin page for it.
    :param sparse: vm_area_map_pages() may map in it.
    :param nested: the area of its page array, if that is in the vmalloc space too.
    """

    addr: int
    end: int
    pfns: Ints
    call: str
    rights: int | None
    metadata: NDArray[np.bool_]
    sparse: bool = False
    nested: list[int] = field(default_factory=list)


class Witness:
    """The calls of ``kernel``, each followed by a look at all invariants.

    :param kernel: the model with ``record=True``, or the kernel's own code; it must not have mapped anything yet.
    :param form: the format of its page tables, if the architecture is none of ``FORMATS``.
    :param mmu: have an emulated MMU translate too, where there is one for the format.
    :raises Violation: from any call.
    :ivar walk: all that was mapped after the last call.
    :ivar prover: the emulated MMU, or None.
    :ivar translated: pages that the MMU translated so far.
    :ivar allocations_tried: allocations since the last ``fail()``, when :meth:`close` began.
    :ivar blind: why nothing is judged any more, or "".
    """

    def __init__(self, kernel: Kernel | ObjectKernel, form: Format | None = None, mmu: bool = False) -> None:
        if not kernel.records:
            raise InputError("a kernel that is watched keeps its events: Kernel(..., record=True)")
        self.kernel = kernel
        self.form = form = form or FORMATS[kernel.arch.name].booted(kernel.boot_args)
        self._page = kernel.arch.page_size
        arch = kernel.arch
        self._quarter = 0  # from an address to its KMSAN shadow, and from there to its origin
        if isinstance(kernel, Kernel) and kernel.config["KMSAN"]:
            self._quarter = (arch.vmalloc_end - arch.vmalloc_start + 1) // 4 // self._page * self._page
        # KMSAN clears its metadata without flush_cache_vunmap() and flushes the TLB after it has mapped others.
        self._meta = arch.vmalloc_start + self._quarter, arch.vmalloc_start + 3 * self._quarter
        self._shadow = Shadow(form, arch.table_base, kernel.table_root, self._meta if self._quarter else (0, 0))
        self._held: dict[int, Held] = {}
        self.walk = Walk.nothing()
        if len(self._look().entries):
            raise InputError("a kernel that is watched is watched from boot on; this one has mapped something")
        self.prover = Prover(form, arch.table_base, kernel.table_root) if mmu and form.machine else None
        self._handed = kernel.log_pages()
        self._objects, self._pages, self._free = kernel.live_objects, kernel.taken_pages, kernel.free_bytes
        self.blind = ""
        self.translated = 0
        self.allocations_tried = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)

    # -- the calls ----------------------------------------------------------------------------------

    @_watched
    def vmap(self, pfns: ArrayLike, flags: int = VM_MAP, prot: int | None = None) -> Mapping:
        """``vmap()``."""
        run = partial(self.kernel.vmap, pfns, flags, prot)
        return self._maps("vmap", pfns, run, prot, flags=flags & ~VM_NO_GUARD)

    @_watched
    def vm_map_ram(self, pfns: ArrayLike, node: int = NUMA_NO_NODE) -> Mapping:
        """``vm_map_ram()``: an area of its own or part of a vmap block, without a guard page."""
        return self._maps("vm_map_ram", pfns, partial(self.kernel.vm_map_ram, pfns, node), flags=VM_NO_GUARD)

    @_watched
    def vmap_pfn(self, pfns: ArrayLike, prot: int | None = None) -> Mapping:
        """``vmap_pfn()``."""
        return self._maps("vmap_pfn", pfns, partial(self.kernel.vmap_pfn, pfns, prot), prot, memory=False)

    @_watched
    def vmalloc(self, size: int, flags: int = 0, node: int = NUMA_NO_NODE) -> Mapping:
        """``__vmalloc_node_range()``."""
        seen = len(self.kernel.log)
        mapping = self._made("vmalloc", lambda: self.kernel.vmalloc(size, flags, node))
        count = -(-size // self._page)
        handed = np.concatenate([np.zeros(0, dtype=np.uint64), *self._handed]).astype(np.int64)
        actual = self._look()
        pfns = self._frames(actual, mapping.addr, mapping.addr + count * self._page)
        if (pfns == NOTHING).any():
            raise Violation(f"vmalloc() leaves page {int(np.flatnonzero(pfns == NOTHING)[0])} of {count} unmapped")
        starts = actual.entries["va"]
        spans = joined(starts, starts + actual.entries["size"])
        mapped = next(end for start, end in spans if start <= mapping.addr < end) - mapping.addr
        largest = 1 << max(self.kernel.arch.levels[1].shift, *(group.shift for group in self.kernel.arch.groups), 0)
        if mapped >= size + largest:  # a huge vmalloc() is rounded up to whole leaves
            raise Violation(f"vmalloc() of {size} bytes maps {mapped}")
        # What was handed out last is what is mapped: after the pages of the page array, and after failed attempts.
        pfns = handed[max(len(handed) - mapped // self._page, 0) :]
        self._unshared(pfns, mapping.addr)
        rights = self.form.data_rights
        held = self._hold(mapping.addr, pfns, "vmalloc", rights, flags)
        self._page_array(actual, held, handed[: len(handed) - len(pfns)], len(pfns) * 8)
        self._settle("vmalloc", seen, mapping, actual=actual)
        return mapping

    def vzalloc(self, size: int, node: int = NUMA_NO_NODE) -> Mapping:
        """``vzalloc_node()``: what it adds to ``vmalloc()``, zeroes, is not looked at."""
        return self.vmalloc(size, node=node)

    @_watched
    def ioremap(self, phys: int, size: int, prot: int | None = None) -> Mapping:
        """``ioremap()``."""
        seen = len(self.kernel.log)
        mapping = self._made("ioremap", lambda: self.kernel.ioremap(phys, size, prot))
        first, last = phys // self._page, (phys + size - 1) // self._page
        rights = self.form.device_rights if prot is None else None
        self._hold(mapping.addr, np.arange(first, last + 1, dtype=np.int64), "ioremap", rights)
        self._settle("ioremap", seen, mapping)
        return mapping

    @_watched
    def get_vm_area(self, size: int, flags: int = VM_MAP) -> Any:
        """``get_vm_area()``."""
        seen = len(self.kernel.log)
        area = self.kernel.get_vm_area(size, flags)
        pages = -(-size // self._page)
        addr = area if isinstance(area, int) else area.addr
        nothing = np.full(pages, NOTHING, dtype=np.int64)
        self._hold(addr, nothing, "get_vm_area", self.form.data_rights, flags)
        self._settle("get_vm_area", seen)
        return area

    @_watched
    def vunmap(self, addr: int) -> None:
        """``vunmap()``."""
        self._remove("vunmap", addr)

    @_watched
    def vfree(self, addr: int) -> None:
        """``vfree()``."""
        self._remove("vfree", addr)

    @_watched
    def iounmap(self, addr: int) -> None:
        """``iounmap()``."""
        self._remove("iounmap", addr)

    @_watched
    def vm_unmap_ram(self, addr: int, count: int) -> None:
        """``vm_unmap_ram()``."""
        held = self._held.get(addr)
        if held is None or held.call != "vm_map_ram" or len(held.pfns) != count:
            if held or self._holding(addr) or self._in_ram(addr):
                self._lose_sight("vm_unmap_ram() of what vm_map_ram() has not mapped so")
            held = None
        self._ends("vm_unmap_ram", [held] if held else [], partial(self.kernel.vm_unmap_ram, addr, count))

    @_watched
    def vmap_pages_range_noflush(self, addr: int, pfns: ArrayLike, shift: int | None = None) -> None:
        """``vmap_pages_range_noflush()``."""
        given = page_array(pfns).astype(np.int64)
        self._over(
            "vmap_pages_range_noflush", addr, given, lambda: self.kernel.vmap_pages_range_noflush(addr, pfns, shift)
        )

    @_watched
    def vmap_page_range(self, addr: int, end: int, phys: int, prot: int | None = None) -> None:
        """``vmap_page_range()``."""
        given = phys // self._page + np.arange((end - addr) // self._page, dtype=np.int64)
        if (end - addr) % self._page:
            self._lose_sight("vmap_page_range() of a range that does not end at a page")
        self._over("vmap_page_range", addr, given, lambda: self.kernel.vmap_page_range(addr, end, phys, prot))

    @_watched
    def vunmap_range(self, addr: int, end: int) -> None:
        """``vunmap_range()``."""
        given = np.full((end - addr) // self._page, NOTHING, dtype=np.int64)
        self._over("vunmap_range", addr, given, lambda: self.kernel.vunmap_range(addr, end))

    @_watched
    def vm_area_map_pages(self, area: Any, start: int, pfns: ArrayLike) -> None:
        """``vm_area_map_pages()``; ``area``: what :meth:`get_vm_area` returned, or its address."""
        given = page_array(pfns).astype(np.int64)
        run = partial(self.kernel.vm_area_map_pages, area, start, pfns)
        self._into_sparse("vm_area_map_pages", area, start, given, run)

    @_watched
    def vm_area_unmap_pages(self, area: Any, start: int, end: int) -> None:
        """``vm_area_unmap_pages()``."""
        given = np.full(max(end - start, 0) // self._page, NOTHING, dtype=np.int64)
        run = partial(self.kernel.vm_area_unmap_pages, area, start, end)
        self._into_sparse("vm_area_unmap_pages", area, start, given, run)

    @_watched
    def vmalloc_to_pfn(self, addr: int) -> int:
        """``vmalloc_to_pfn()``."""
        addr = operator.index(addr)
        held = self._holding(addr)
        index = (addr - held.addr) // self._page if held else 0
        wanted = int(held.pfns[index]) if held and index < len(held.pfns) else NOTHING
        try:
            pfn = self.kernel.vmalloc_to_pfn(addr)
        except VmapError:
            if wanted != NOTHING:
                raise Violation(f"vmalloc_to_page() finds nothing at {addr:#x}, where PFN {wanted:#x} is") from None
            raise
        if pfn != wanted:
            raise Violation(f"vmalloc_to_page() finds PFN {pfn:#x} at {addr:#x} instead of {_frame(wanted)}")
        return pfn

    @_watched
    def vm_unmap_aliases(self) -> None:
        """``vm_unmap_aliases()``: nothing stays in a TLB after it."""
        seen = len(self.kernel.log)
        self.kernel.vm_unmap_aliases()
        self._settle("vm_unmap_aliases", seen)
        if self._shadow.stale:
            raise Violation("vm_unmap_aliases() leaves unmapped addresses without a TLB flush")

    @property
    def cpu(self) -> int:
        """The CPU that makes the next calls."""
        return self.kernel.cpu

    @cpu.setter
    def cpu(self, number: int) -> None:
        self.kernel.cpu = number

    def run(self, operations: Any) -> None:
        """Not watched.

        :raises InputError: always.
        """
        raise InputError("a kernel that is watched makes one call at a time: vmaplab.vmalloc.operation.perform()")

    def close(self) -> None:
        """Undo everything, and see that nothing is lost: no area, no page, no object of the kernel's."""
        self.allocations_tried = self.kernel.allocations
        self.kernel.fail(())
        if self.blind:
            return
        nested = {addr for held in self._held.values() for addr in held.nested}
        for addr, held in list(self._held.items()):
            if held.call == "vm_map_ram":
                self.vm_unmap_ram(addr, len(held.pfns))
            elif addr not in nested:
                self._remove({"vmalloc": "vfree", "ioremap": "iounmap"}.get(held.call, "vunmap"), addr)
        self.vm_unmap_aliases()
        kept = self._kept()
        if lost := self._free - self.kernel.free_bytes - sum(end - start for start, end in kept):
            raise Violation(f"when everything is unmapped, {lost} bytes of address space are missing")
        if lost := self.kernel.live_objects - self._objects - 2 * len(kept):  # a struct vmap_block has a vmap_area
            raise Violation(f"when everything is unmapped, {lost} objects are still allocated")
        if self.kernel.taken_pages > self._pages:
            raise Violation(f"when everything is freed, {self.kernel.taken_pages - self._pages} pages are missing")

    def _kept(self) -> list[tuple[int, int]]:
        """The vmap blocks that stay where nothing is in use, after a purge.

        One of which less than a quarter is left is given back (``purge_fragmented_block()``). Where a quarter is enough
        for any request, a CPU asks for a second one only then.
        """
        kept = self._ram()
        for start, end in kept:
            if start % (end - start):
                raise Violation(f"when everything is unmapped, [{start:#x}, {end:#x}) of vm_map_ram() is still in use")
        pages = {(end - start) // self._page for start, end in kept}
        if len(kept) > self.kernel.cpus and min(pages) // 4 >= self.kernel.arch.bits_per_long:
            raise Violation(f"when everything is unmapped, {len(kept)} vmap blocks stay, more than one per CPU")
        return kept

    def _maps(
        self,
        call: str,
        pfns: ArrayLike,
        run: Callable[[], Mapping],
        prot: int | None = None,
        memory: bool = True,
        flags: int = 0,
    ) -> Mapping:
        """A call that maps ``pfns``; ``memory``: it refuses what is no memory, or else what is."""
        given, seen = page_array(pfns).astype(np.int64), len(self.kernel.log)
        mapping = self._made(call, run)
        limit = min(self.kernel.total_pages or 1 << 62, self.kernel.arch.addressable_pages)
        wrong = np.flatnonzero(((given < 0) | (given >= limit)) == memory)
        if len(wrong):
            what = "NULL or not valid" if memory else "memory"
            raise Violation(f"{call}() maps page {int(wrong[0])}, which is {what}, and reports no error")
        self._hold(mapping.addr, given, call, self.form.data_rights if prot is None else None, flags)
        self._settle(call, seen, mapping)
        return mapping

    def _made(self, call: str, run: Callable[[], Mapping]) -> Mapping:
        """What ``run`` maps; if it refuses, everything is looked at first."""
        seen = len(self.kernel.log)
        try:
            return run()
        except VmapError:
            self._settle(call, seen)
            raise

    # -- what is expected ---------------------------------------------------------------------------

    def _hold(self, addr: int, pfns: Ints, call: str, rights: int | None, flags: int = 0) -> Held:
        """Remember a new area, after a look at where it lies; ``flags``: of the area."""
        arch, end = self.kernel.arch, addr + (len(pfns) + (not flags & VM_NO_GUARD)) * self._page
        sparse = flags & (VM_SPARSE | VM_NO_GUARD | VM_FLUSH_RESET_PERMS) == VM_SPARSE
        held = Held(addr, end, pfns, call, rights, np.full((len(pfns), 2), call in WITH_METADATA), sparse)
        start, stop = arch.vmalloc_start, self._meta[0] - 1 if self._quarter else arch.vmalloc_end
        if call == "ioremap" and arch.ioremap_start:
            start, stop = arch.ioremap_start, arch.ioremap_end
        if addr > MAX_ADDR:
            raise Violation(f"{call}() returns ERR_PTR(-{errno.errorcode.get((1 << 64) - addr)}) instead of NULL")
        if addr % self._page or not start <= addr < end <= stop + 1:
            raise Violation(f"{call}() takes [{addr:#x}, {end:#x}), outside [{start:#x}, {stop:#x})")
        for other in self._held.values():
            if addr < other.end and other.addr < end:
                theirs = f"[{other.addr:#x}, {other.end:#x}) of {other.call}()"
                raise Violation(f"{call}() takes [{addr:#x}, {end:#x}), which overlaps {theirs}")
        self._held[addr] = held
        return held

    def _holding(self, addr: int) -> Held | None:
        return next((held for held in self._held.values() if held.addr <= addr < held.end), None)

    def _lose_sight(self, why: str) -> None:
        """From now on nothing is judged: what the call does is not defined, or not told by what can be seen."""
        self.blind = self.blind or why

    def _remove(self, call: str, addr: int) -> None:
        whole = addr - addr % self._page if call == "iounmap" else addr
        held = None
        if whole and whole % self._page == 0:
            held = self._holding(whole)
            if held.call == "vm_map_ram" if held else self._in_ram(whole):
                self._lose_sight(f"{call}() of what vm_map_ram() has mapped")
        if held is not None and held.call == "vmalloc" and (call != "vfree" or self._is_nested(held)):
            self._lose_sight(f"{call}() of an area whose pages somebody else has to free")
        gone = [held] if held is not None else []
        if held is not None and call == "vfree":
            gone += [self._held[nested] for nested in held.nested]
        self._ends(call, gone, partial(getattr(self.kernel, call), addr))

    def _ends(self, call: str, gone: list[Held], run: Callable[[], None]) -> None:
        """A call that returns nothing and ends the areas ``gone``."""
        seen = len(self.kernel.log)
        try:
            run()
        except VmapError as error:
            if error.bug or error.undefined:
                self._lose_sight("the kernel met a BUG()" if error.bug else "what the kernel does is not defined")
                raise
            gone = []
        if self.blind:
            return
        for held in gone:
            del self._held[held.addr]
            self._exactly(call, self.kernel.log.rows(seen), L_FLUSH_VUNMAP, held.addr, held.end)
        self._settle(call, seen)

    def _is_nested(self, held: Held) -> bool:
        return any(held.addr in other.nested for other in self._held.values())

    def _ram(self) -> list[tuple[int, int]]:
        """The areas and blocks of vm_map_ram(), by /proc/vmallocinfo; a block may have no page in use."""
        lines = [line.split() for line in self.kernel.vmalloc_info().splitlines()]
        bounds = [words[0].split("-") for words in lines if words[-1] == "vm_map_ram"]
        return [(int(start, 16), int(end, 16)) for start, end in bounds]

    def _in_ram(self, addr: int) -> bool:
        return any(start <= addr < end for start, end in self._ram())

    def _into_sparse(self, call: str, area: Any, start: int, given: Ints, run: Callable[[], None]) -> None:
        """A call that refuses what is not inside an area with VM_SPARSE."""
        held = self._holding(area if isinstance(area, int) else area.addr)
        end = start + len(given) * self._page
        limit = self.kernel.total_pages or self.kernel.arch.addressable_pages
        if held and held.sparse and held.addr <= start < end < held.end and len(given) <= limit:
            self._over(call, start, given, run)
            return
        seen = len(self.kernel.log)
        refused = None
        try:
            run()
        except VmapError as error:
            refused = error
        self._settle(call, seen)
        if refused:
            raise refused

    def _over(self, call: str, addr: int, given: Ints, run: Callable[[], None]) -> None:
        """A call that maps or unmaps at given addresses; ``given``: what each page is to become."""
        seen = len(self.kernel.log)
        held = self._holding(addr)
        first = (addr - held.addr) // self._page if held else 0
        if held is None or first + len(given) > len(held.pfns):
            self._lose_sight(f"{call}() works outside of any area")
            run()
            return
        clears = call in ("vunmap_range", "vm_area_unmap_pages")
        cuts = clears and self._cuts_block(addr, addr + len(given) * self._page)
        there = slice(first, first + len(given))
        before = held.pfns.copy()
        strict = clears or not (before[there] != NOTHING).any()
        failed = None
        try:
            run()
        except VmapError as error:
            if error.bug or error.undefined:
                self._lose_sight("the kernel met a BUG()" if error.bug else "what the kernel does is not defined")
                raise
            failed = error
        wanted = before.copy()
        wanted[there] = given
        actual = self._look()
        if failed or clears:
            wanted = self._partly(actual, held, before, wanted, there, failed is not None)
        held.pfns = wanted
        if call != "vmap_page_range":
            held.metadata[there] = call in WITH_METADATA
        if failed and self._quarter:  # how far KMSAN came
            for number in (0, 1):
                start = held.addr + (number + 1) * self._quarter
                found = self._frames(actual, start, start + len(before) * self._page)
                held.metadata[there, number] = found[there] != NOTHING
        if clears and self._cuts_group(actual, addr, addr + len(given) * self._page):
            self._lose_sight(f"{call}() clears part of a group of PTEs")
        if cuts:  # it goes as a whole, and only the range is flushed
            self._lose_sight(f"{call}() clears part of a block")
        self._settle(call, seen, strict=strict, actual=actual)
        if failed:
            raise failed
        if not self.blind and not call.endswith("_noflush"):
            kind = L_FLUSH_VUNMAP if clears else L_FLUSH_VMAP
            self._exactly(call, self.kernel.log.rows(seen), kind, addr, addr + len(given) * self._page)

    def _partly(self, now: Walk, held: Held, before: Ints, wanted: Ints, there: slice, failed: bool) -> Ints:
        """What a walker that stopped midway, or that cleared whole leaves, left: each page as before or as wanted."""
        actual = self._frames(now, held.addr, held.addr + len(before) * self._page)
        allowed = actual == wanted
        allowed[there] |= (actual[there] == before[there]) & failed
        start, end = held.addr + there.start * self._page, held.addr + there.stop * self._page
        gone = np.flatnonzero(~allowed & (actual == NOTHING))
        # A block or group that the range cuts goes as a whole.
        first, size = self._leaves_of(self.walk, np.uint64(held.addr) + gone.astype(np.uint64) * np.uint64(self._page))
        allowed[gone] = (size > 0) & (first < np.uint64(end)) & (np.uint64(start) < first + size)
        return np.where(allowed, actual, wanted)

    def _cuts_group(self, left: Walk, start: int, end: int) -> bool:
        """Whether a range begins or ends within a group of PTEs of which it cleared the rest."""
        before, behind = self._leaf_of(left, start - self._page), self._leaf_of(left, end)
        return (before is not None and start < before[1]) or (behind is not None and behind[0] < end)

    def _cuts_block(self, start: int, end: int) -> bool:
        """Whether a range begins or ends within a block."""
        small = 1 << self.form.levels[1][0]
        ends = self._leaf_of(self.walk, start), self._leaf_of(self.walk, end - self._page)
        return any(
            leaf is not None and leaf[1] - leaf[0] >= small and (leaf[0] < start or end < leaf[1]) for leaf in ends
        )

    @staticmethod
    def _leaves_of(before: Walk, vas: U64) -> tuple[U64, U64]:
        """Addresses and sizes of the leaves that mapped ``vas`` in an earlier walk; size 0 where none did."""
        if not len(before.entries):
            return vas, np.zeros_like(vas)
        at = np.searchsorted(before.entries["va"], vas, side="right") - 1
        entries = before.entries[np.maximum(at, 0)]
        group = entries["group"].astype(np.uint64)
        size = np.maximum(entries["size"].astype(np.uint64), np.where(group > 0, np.uint64(1) << group, np.uint64(0)))
        start = entries["va"] & ~(size - np.uint64(1))
        return start, np.where((at >= 0) & (vas - start < size), size, np.uint64(0))

    def _leaf_of(self, before: Walk, va: int) -> tuple[int, int] | None:
        """The leaf that mapped ``va`` in an earlier walk."""
        start, size = (int(one[0]) for one in self._leaves_of(before, np.array([va], dtype=np.uint64)))
        return (start, start + size) if size else None

    def _unshared(self, pfns: Ints, addr: int) -> None:
        """Pages that vmalloc() took from the allocator belong to nobody else."""
        if len(np.unique(pfns)) < len(pfns):
            raise Violation("vmalloc() maps a page twice")
        for held in self._held.values():
            if held.call == "vmalloc" and held.addr != addr and len(np.intersect1d(held.pfns, pfns)):
                raise Violation(f"vmalloc() at {addr:#x} maps a page of the area at {held.addr:#x}")

    def _page_array(self, actual: Walk, held: Held, handed: Ints, size: int) -> None:
        """The array of page pointers of a large area lies in an area of its own; ``handed``: pages for it, last."""
        if size <= self._page:
            return
        pages = -(-size // self._page)
        known = self._expected()[0]
        va, _ = invariants.spread(actual.entries, np.uint64(1 << self.form.levels[0][0]))
        outside = (va < np.uint64(self._meta[0])) | (va >= np.uint64(self._meta[1]))
        new = np.setdiff1d(va[outside], known)
        if len(new):
            pfns = handed[max(len(handed) - pages, 0) :]
            held.nested.append(self._hold(int(new[0]), pfns, "vmalloc", self.form.data_rights).addr)

    # -- what is there ------------------------------------------------------------------------------

    def _look(self) -> Walk:
        kernel = self.kernel
        found = walker.walk(kernel.live_tables(), kernel.arch.table_base, kernel.table_root, self.form)
        if found.complaints:
            raise Violation(found.complaints[0])
        return found

    def _frames(self, actual: Walk, start: int, end: int) -> Ints:
        """Per page of [start, end) its frame, or NOTHING."""
        pages = np.full(max(end - start, 0) // self._page, NOTHING, dtype=np.int64)
        va, phys = invariants.spread(actual.entries, np.uint64(self._page))
        inside = (va >= np.uint64(start)) & (va < np.uint64(end)) & (va % np.uint64(self._page) == 0)
        pages[((va[inside] - np.uint64(start)) // np.uint64(self._page)).astype(np.int64)] = (
            phys[inside] // np.uint64(self._page)
        ).astype(np.int64)
        return pages

    def _expected(self) -> tuple[U64, U64]:
        """Virtual and physical address of each granule that must be mapped, ascending."""
        granule = 1 << self.form.levels[0][0]
        cells = np.arange(self._page // granule, dtype=np.uint64) * np.uint64(granule)
        vas, physes = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.uint64)]
        for held in sorted(self._held.values(), key=lambda held: held.addr):
            pages = np.flatnonzero(held.pfns != NOTHING)
            va = np.uint64(held.addr) + pages.astype(np.uint64) * np.uint64(self._page)
            phys = held.pfns[pages].astype(np.uint64) * np.uint64(self._page)
            vas.append((va[:, None] + cells).ravel())
            physes.append((phys[:, None] + cells).ravel())
        return np.concatenate(vas), np.concatenate(physes)

    # -- the look after each call ---------------------------------------------------------------------

    def _settle(
        self,
        call: str,
        seen: int,
        mapping: Mapping | None = None,
        strict: bool = True,
        actual: Walk | None = None,
    ) -> None:
        """Look at everything.

        :param mapping: what the call has just made.
        :param strict: the caller did not map over its own mapping.
        :param actual: what is mapped now, if that is known already.
        """
        self._handed.clear()
        rows = self.kernel.log.rows(seen)
        if self.blind or (not len(rows) and mapping is None):
            return
        changes = self._shadow.follow(rows, strict)
        self.walk = actual = actual or self._look()
        va, phys = expected = self._expected()
        invariants.groups(actual.entries, self.form)
        invariants.alignment(actual.entries)
        self._places(actual, expected)
        self._flushed(call, rows, changes.made, changes.cleared, undone=mapping is None)
        if mapping is not None:
            self._exactly(call, rows, L_FLUSH_VMAP, mapping.addr, mapping.addr + self._size(mapping.addr))
            self._reported(call, mapping)
        self._bounded(call, rows, mapping is None)
        reached, used = actual.tables.keys(), self._shadow.tables
        for table in used - reached:
            raise Violation(f"the table at {table:#x} is allocated, but no entry leads to it")
        for table in reached - used:
            raise Violation(f"an entry leads to a table at {table:#x}, where none is allocated")
        if self.prover:
            writable = np.ones(len(va), dtype=bool)
            for held in (held for held in self._held.values() if held.rights is None):
                writable &= (va < np.uint64(held.addr)) | (va >= np.uint64(held.end))
            self.prover.load(self.kernel.live_tables())
            self.translated += self.prover.check(va, phys, 1 << self.form.levels[0][0], writable)

    def _size(self, addr: int) -> int:
        """Bytes mapped of the area at ``addr``."""
        return len(self._held[addr].pfns) * self._page

    def _reported(self, call: str, mapping: Mapping) -> None:
        """What the call reports of its mapping is what is there."""
        size = self._size(mapping.addr)
        inside = (self.walk.entries["va"] >= np.uint64(mapping.addr)) & (
            self.walk.entries["va"] <= np.uint64(mapping.addr + size - 1)
        )
        actual = invariants.leaves(self.walk.entries[inside], self._page)
        told = mapping.leaves[mapping.leaves["va"] <= np.uint64(mapping.addr + size - 1)]
        if not np.array_equal(told, actual) or mapping.cost.tlb_entries != len(mapping.leaves):
            raise Violation(f"{call}() reports {len(told)} leaves that are not the {len(actual)} that the tables hold")
        if mapping.size > size:
            raise Violation(f"{call}() reports {mapping.size} bytes and has mapped {size}")

    def _flushed(self, call: str, rows: Rows, made: tuple[U64, U64], cleared: tuple[U64, U64], undone: bool) -> None:
        """Cache flushes cover each new leaf and each old one; ``undone``: the call may have failed and undone it."""
        for kind, (starts, ends), what in (
            (L_FLUSH_VMAP, made, "mapped without a flush_cache_vmap() over it"),
            (L_FLUSH_VUNMAP, cleared, "unmapped without a flush_cache_vunmap() over it"),
        ):
            if not len(starts) or (kind == L_FLUSH_VMAP and call.endswith("_noflush")):
                continue
            missed = (starts < np.uint64(self._meta[0])) | (starts >= np.uint64(self._meta[1]))
            for first, last in rows[rows[:, 0] == kind, 1:3].view(np.uint64).tolist():
                top = np.uint64((last - 1) % (1 << 64))
                missed &= ~((starts >= np.uint64(first)) & (ends - np.uint64(1) <= top))
            if kind == L_FLUSH_VMAP and undone:
                missed &= ~np.isin(starts, cleared[0])
            if call in ("vmap", "vmalloc", "ioremap") and kind == L_FLUSH_VUNMAP and not rows[rows[:, 0] == kind].size:
                missed[:] = False  # an ioremap() that clears a lower table in the way
            if missed.any():
                raise Violation(f"{call}(): {int(starts[np.flatnonzero(missed)[0]]):#x} is {what}")

    def _exactly(self, call: str, rows: Rows, kind: int, start: int, end: int) -> None:
        """One cache flush is for exactly [start, end)."""
        flushes = rows[rows[:, 0] == kind, 1:3].view(np.uint64).tolist()
        if [start, end % (1 << 64)] not in flushes:
            told = ", ".join(f"[{first:#x}, {last:#x})" for first, last in flushes) or "nothing"
            raise Violation(f"{call}() flushes {told} from the cache instead of [{start:#x}, {end:#x})")

    def _bounded(self, call: str, rows: Rows, failed: bool) -> None:
        """No cache flush reaches beyond an area: in use, or given up in this call; ``failed``: it may have failed."""
        areas = [(held.addr, held.end) for held in self._held.values()]
        areas += rows[rows[:, 0] == L_FLUSH_VUNMAP, 1:3].view(np.uint64).tolist()
        for first, last in rows[rows[:, 0] == L_FLUSH_VMAP, 1:3].view(np.uint64).tolist():
            meta = self._quarter and not self.kernel.arch.vmalloc_start <= first < self._meta[0]
            if not meta and not any(start <= first and last <= end for start, end in areas):
                why = "which is no area that is in use or was given up" if failed else "which is no area"
                raise Violation(f"{call}() calls flush_cache_vmap() for [{first:#x}, {last:#x}), {why}")

    def _places(self, actual: Walk, expected: tuple[U64, U64]) -> None:
        """Each page where it should be, with the right rights, and nothing else."""
        granule = np.uint64(1 << self.form.levels[0][0])
        there, to = invariants.spread(actual.entries, granule)
        if self._meta[0] < self._meta[1]:
            meta = (there >= np.uint64(self._meta[0])) & (there < np.uint64(self._meta[1]))
            if self._quarter and not np.array_equal(there[meta], np.sort(self._metadata())):
                raise Violation("KMSAN metadata is not mapped for exactly the pages that are mapped")
            self._metadata_apart(there, to)
            there, to = there[~meta], to[~meta]
        invariants.bijection((there, to), expected, self._page)
        areas = [(held.addr, held.end, held.rights) for held in self._held.values()]
        invariants.rights(actual.entries, self.form, areas)

    def _metadata_apart(self, there: U64, to: U64) -> None:
        """No frame holds both data and KMSAN metadata of it, or both its shadow and its origin."""
        for held in self._held.values() if self._quarter else ():
            parts = []
            for number in range(3):
                start = np.uint64(held.addr + number * self._quarter)
                part = (there >= start) & (there < start + np.uint64(held.end - held.addr))
                parts.append(to[part])
            frames = [np.unique(part) for part in parts]
            if len(np.unique(np.concatenate(frames))) < sum(map(len, frames)):
                raise Violation(f"the KMSAN metadata of the area at {held.addr:#x} shares frames with it")

    def _metadata(self) -> U64:
        """Where KMSAN maps shadow and origin pages, a granule each."""
        granule = np.uint64(1 << self.form.levels[0][0])
        cells = np.arange(self._page // int(granule), dtype=np.uint64) * granule
        found = [np.zeros(0, dtype=np.uint64)]
        for held in self._held.values():
            for number in (0, 1):
                pages = np.flatnonzero(held.metadata[:, number]).astype(np.uint64) * np.uint64(self._page)
                start = np.uint64(held.addr + (number + 1) * self._quarter)
                found.append((start + pages[:, None] + cells).ravel())
        return np.concatenate(found)


def _frame(pfn: int) -> str:
    return "nothing" if pfn == NOTHING else f"PFN {pfn:#x}"
