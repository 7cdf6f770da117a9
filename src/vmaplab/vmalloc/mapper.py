"""Mapping and unmapping ranges of one kernel's page tables: walkers, KMSAN metadata, flushes, events, warnings."""

from __future__ import annotations

import errno
from collections.abc import Mapping as Dict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.config import geometry_of
from vmaplab.errors import InputError, VmapError
from vmaplab.mapping import LEAF_DTYPE, EventLog
from vmaplab.pgtable.geometry import LARGEST_SHIFT, Ints, signed, unsigned
from vmaplab.pgtable.memory import (
    L_FLUSH_TLB,
    L_FLUSH_VMAP,
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
from vmaplab.vmalloc.batch import batching_of, vmap_batched, vmap_pages_range

_WARNINGS = {
    W_BUSY: "an entry is already set",
    W_NULL: "NULL page",
    W_INVALID: "PFN not valid",
    W_PARTIAL: "unmapped part of a contiguous group or of a block",
}


class Mapper:
    """The page tables of a kernel, and the calls that change them. Addresses are unsigned, sizes in bytes.

    :ivar log: what happened, in order, if ``record``.
    :ivar warnings: which WARN_ON() fired, in order.
    """

    def __init__(
        self,
        arch: Arch,
        release: Release,
        config: Dict[str, bool],
        boot_args: tuple[str, ...],
        total_pages: int | None,
        max_tables: int | None,
        record: bool,
    ) -> None:
        self._arch, self._release, self._kmsan = arch, release, config["KMSAN"]
        self.record = record
        self.log = EventLog()
        self.warnings: list[str] = []
        self.g = geometry_of(arch, release, config, total_pages)
        self._meta_g = geometry_of(arch, release, config, None)
        self._rewalk = not release.unified_walker
        self._batching = batching_of(arch, release, config, boot_args, self.g.shift[1])
        self.memory = TableMemory(self.g, max_tables)
        huge_ioremap = config["HAVE_ARCH_HUGE_VMAP"] and "nohugeiomap" not in boot_args
        self._ioremap_max_page_shift = LARGEST_SHIFT if huge_ioremap else arch.page_shift
        self.quarter = (arch.vmalloc_end - arch.vmalloc_start + 1) // 4 & -arch.page_size

    def warn(self, text: str) -> None:
        """Record that a WARN_ON() fired."""
        self.warnings.append(text)
        if self.record:
            self.log.warn(text)

    def flush(self, kind: int, start: int, end: int) -> None:
        """Record a cache or TLB flush of [start, end)."""
        if self.record:
            self.log.add(kind, start, end, end - start)

    def map_array(
        self,
        addr: int,
        size: int,
        pages: Ints,
        prot: int | None,
        shift: int,
        *,
        batch: bool = False,
        flush: bool = True,
    ) -> Ints:
        """Map ``pages`` at ``addr``, KMSAN metadata first, then flush whatever happened; returns the counters.

        :param prot: protection value, before ``pgprot_nx()``; PAGE_KERNEL if None.
        :param shift: log2 of the chunks in which the pages are contiguous and aligned.
        :param flush: flush_cache_vmap() at the end.
        :param batch: look for larger chunks, as ``vmap()`` does from the series on.
        :raises VmapError: as the walker stopped; what was mapped before stays.
        """
        start, end = signed(addr), signed(addr) + size
        err, tables = self._map_kmsan(addr, size, pages, shift) if self._kmsan else (0, None)
        if not err:
            tables = self._tables(start, end)
            prots = self._prots(prot)
            if batch and self._release.unified_walker:
                err = vmap_batched(tables, self.g, self._batching, pages, start, end, prots)
            else:
                err = vmap_pages_range(tables, self.g, pages, start, end, shift, self._rewalk, prots)
            self._finish(tables)
        if flush:
            self.flush(L_FLUSH_VMAP, addr, addr + size)
        assert tables is not None
        if err:
            bug = bool(tables.state[WARNED] & W_BUSY) and shift != self._arch.page_shift and self._rewalk
            raise VmapError(self._returned(err), self._why(tables, pages), bug)
        return tables.cost

    def map_linear(self, addr: int, end: int, phys: int, prot: int) -> Ints:
        """``vmap_page_range()``: one descent, leaves up to ``ioremap_max_page_shift``, then flush; returns counters.

        :raises VmapError: as the walker stopped; EBUSY where the kernel has a BUG() because an entry is set.
        """
        start, stop = signed(addr), signed(addr) + end - addr
        tables = self._tables(start, stop)
        shift = self._ioremap_max_page_shift
        first = np.array([phys >> self._arch.page_shift], dtype=np.int64)
        err = map_range(tables, self.g, first, 0, True, start, stop, shift, self._prots(prot))
        self._finish(tables)
        self.flush(L_FLUSH_VMAP, addr, end)
        if err:
            busy = tables.state[WARNED] & W_BUSY
            raise VmapError(errno.EBUSY if busy else self._returned(err), self._why(tables, first), bool(busy))
        return tables.cost

    def unmap(self, addr: int, size: int) -> None:
        """``vunmap_range_noflush()``: clear all entries of the range, KMSAN metadata first."""
        if self._kmsan:
            shadows = [addr + number * self.quarter for number in (1, 2)]
            for shadow in shadows:
                self._clear(shadow, size)
            for shadow in shadows:
                self.flush(L_FLUSH_VMAP, shadow, shadow + size)
        self._clear(addr, size)

    def _clear(self, addr: int, size: int) -> None:
        """``__vunmap_range_noflush()``."""
        pages = size >> self._arch.page_shift
        lines = pages * self._arch.cells + 2 * self.g.words[0] if self.record else 0
        tables = self.memory.tables(log_lines=lines)
        unmap_range(tables, self.g, signed(addr), signed(addr) + size)
        self._finish(tables)

    def translate(self, addr: int) -> int:
        """The PFN that ``addr`` maps to, or -1."""
        return int(translate(self.memory.tables(), self.g, signed(addr)))

    def leaves(self, start: int, end: int, most: int | None = None) -> NDArray[Any]:
        """The leaves that map part of [start, end), as ``LEAF_DTYPE``, ascending.

        :param most: how many there are likely to be, if the caller knows.
        """
        if most is None:
            most = min((end - start) >> self._arch.page_shift, self.memory.words_in_use) + 1
        first, last = signed(start), signed(start) + end - start
        while True:
            room = np.zeros((most, 3), dtype=np.int64)
            found = list_leaves(self.memory.tables(), self.g, first, last, room)
            if found <= most:
                return room[:found].view(LEAF_DTYPE).reshape(-1)
            most = found  # the range was mapped anew since

    def _why(self, tables: Tables, pages: Ints) -> str:
        """Why the walker stopped, and at which page."""
        index = int(tables.state[STOPPED])
        warned = int(tables.state[WARNED])
        if warned & (W_NULL | W_INVALID):
            pfn = unsigned(int(pages[index]))
            what = "is NULL" if warned & W_NULL else f"has PFN {pfn:#x}, not valid here"
            return f"page {index} {what}"
        what = "an entry is already set" if warned & W_BUSY else "no memory for a page table"
        return f"{what} at page {index}"

    def _prots(self, prot: int | None) -> Ints:
        """Per level, what surrounds the PFN in a leaf mapped with ``pgprot_nx(prot)``."""
        prot = self._arch.page_kernel if prot is None else prot
        if not 0 <= prot < 1 << 8 * self._arch.entry_bytes:
            raise InputError(f"{prot:#x} is no protection value of {self._arch.name}")
        nx = self._arch.pgprot_nx(prot)
        return np.array([signed(self._arch.leaf_prot(nx, level)) for level in range(self.g.top + 1)], dtype=np.int64)

    def _finish(self, tables: Tables) -> None:
        """Take over what a walker logged and warned of."""
        if self.record:
            self.log.extend(tables.log[: tables.state[LOGGED]])
        for bit, text in _WARNINGS.items():
            if tables.state[WARNED] & bit and (bit != W_PARTIAL or self._release.warns_on_partial_unmap):
                self.warn(text)

    def _tables(self, start: int, end: int) -> Tables:
        """The walkers' arrays for mapping the (signed) range, with room for its tables and events."""
        self.memory.reserve(start, end)
        if not self.record:
            return self.memory.tables()
        pages = (end - start) >> self._arch.page_shift
        tables = sum(((end - start) >> level.shift) + 2 for level in self._arch.levels[1:])
        return self.memory.tables(log_lines=pages * self._arch.cells + 4 * tables + 16)

    def _returned(self, err: int) -> int:
        """What the outermost walker returns when an inner level stopped with ``err``."""
        return errno.ENOMEM if err and not self._release.inner_errors else int(err)

    def _map_kmsan(self, addr: int, size: int, pages: Ints, shift: int) -> tuple[int, Tables]:
        """``kmsan_vmap_pages_range_noflush()``: map shadow and origin pages a quarter and a half further on.

        Which pages hold the metadata is decided at boot; here PFN bits that no array uses stand for it.
        """
        g = self._meta_g
        ranges = []
        for _ in range(2):  # s_pages, o_pages
            if not self.memory.attempt():
                return errno.ENOMEM, self._tables(0, 0)
        for number in (1, 2):
            start = signed(addr + number * self.quarter)
            bit = np.int64(self._arch.addressable_pages >> number)
            meta = np.where(pages < 0, pages, pages ^ bit)
            tables = self._tables(start, start + size)
            err = vmap_pages_range(tables, g, meta, start, start + size, shift, self._rewalk, self._prots(None))
            self._finish(tables)
            if err:
                return err, tables
            ranges.append((unsigned(start), unsigned(start) + size))
        for kind in (L_FLUSH_TLB, L_FLUSH_VMAP):
            for first, last in ranges:
                self.flush(kind, first, last)
        return 0, tables
