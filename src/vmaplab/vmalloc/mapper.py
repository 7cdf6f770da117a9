# SPDX-License-Identifier: GPL-2.0-only
"""Mapping and unmapping ranges of one kernel's page tables: walkers, KMSAN metadata, flushes, events, warnings."""

from __future__ import annotations

import errno
from collections.abc import Mapping as Dict
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.changes import Change
from vmaplab.config import geometry_of
from vmaplab.errors import InputError, VmapError
from vmaplab.mapping import LEAF_DTYPE
from vmaplab.pgtable.geometry import LARGEST_SHIFT, numbers
from vmaplab.pgtable.memory import (
    COMPILED_WARNINGS,
    LOGGED,
    STOPPED,
    W_BUSY,
    W_INVALID,
    W_LEAF,
    W_NULL,
    W_UNALIGNED,
    WARNED,
    TableMemory,
    Tables,
)
from vmaplab.pgtable.unmap import list_leaves, translate
from vmaplab.pgtable.walk import map_range
from vmaplab.release import Release
from vmaplab.trace import L_FLUSH_VMAP, L_WARN, EventLog, Ints, WarnOn, signed, unsigned
from vmaplab.vmalloc.batch import batching_of
from vmaplab.vmalloc.calls import Options, Setup, map_pages, unmap

_ALL = tuple(WarnOn)
_PARTIAL = (WarnOn.BLOCK_CUT, WarnOn.GROUP_STARTED, WarnOn.GROUP_CUT)


class Mapper:
    """The page tables of a kernel, and the calls that change them. Addresses are unsigned, sizes in bytes.

    :ivar log: what happened, in order, if ``record``.
    :ivar warnings: which WARN_ON() fired, in order.
    :ivar setup: the kernel, as compiled calls take it; ``options``: a part of it.
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
        self._arch, self._release = arch, release
        self._inner_errors = release.has(Change.INNER_ERRORS)
        self.record = record
        self.log = EventLog()
        self.warnings: list[str] = []
        self.g = g = geometry_of(arch, config, total_pages)
        self.memory = TableMemory(g, max_tables)
        huge_ioremap = config["HAVE_ARCH_HUGE_VMAP"] and "nohugeiomap" not in boot_args
        self._ioremap_max_page_shift = LARGEST_SHIFT if huge_ioremap else arch.page_shift
        self.quarter = (arch.vmalloc_end - arch.vmalloc_start + 1) // 4 & -arch.page_size
        self._vmalloc_end = vmalloc_end = arch.vmalloc_start + self.quarter - 1 if config["KMSAN"] else arch.vmalloc_end
        self._meta_g = geometry_of(arch, config, None)
        self.options = Options(
            batches=int(release.rules.unified_walker),
            rewalk=int(not release.rules.unified_walker),
            kmsan=int(config["KMSAN"]),
            quarter=self.quarter,
            meta_bit=arch.addressable_pages >> 1,
            aligns_area=int(release.rules.aligns_area),
            unit=arch.page_shift,
            vstart=arch.vmalloc_start >> arch.page_shift,
            vend=vmalloc_end >> arch.page_shift,
            whole=int(vmalloc_end % arch.page_size == 0),
        )
        how = batching_of(arch, release.rules, config, boot_args, g.shift[1])
        self.setup = numbers(Setup(g, self._meta_g, self.options, how))
        self._known_prots: dict[int, Ints] = {}

    @property
    def vmalloc_range(self) -> tuple[int, int]:
        """VMALLOC_START and VMALLOC_END."""
        return self._arch.vmalloc_start, self._vmalloc_end

    def warn(self, which: WarnOn, text: str = "") -> None:
        """Record that a WARN_ON() fired; ``text``: in other words than its own."""
        self.warnings.append(text or which.words)
        if self.record:
            self.log.warn(which, text or which.words)

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
        tables = self.tables_for(size)
        prots, meta = self.prots(prot), self.prots(None)
        err = map_pages(self.setup, tables, signed(addr), size, pages, shift, batch, prots, meta)
        self.finish(tables)
        if flush:
            self.flush(L_FLUSH_VMAP, addr, addr + size)
        self._check_defined(tables, addr)
        if err:
            large = shift != self._arch.page_shift and not self._release.rules.unified_walker
            bug = bool(tables.state[WARNED] & W_BUSY) and large
            raise VmapError(self.returned(err), self.why(tables, pages), bug)
        return tables.cost.copy()

    def map_linear(self, addr: int, end: int, phys: int, prot: int) -> Ints:
        """``vmap_page_range()``: one descent, leaves up to ``ioremap_max_page_shift``, then flush; returns counters.

        :raises VmapError: as the walker stopped; EBUSY where the kernel has a BUG() because an entry is set.
        """
        tables = self.tables_for(end - addr)
        shift = self._ioremap_max_page_shift
        first = np.array([phys >> self._arch.page_shift], dtype=np.int64)
        start, stop = signed(addr), signed(addr) + end - addr
        err = map_range(tables, self.g, first, 0, True, start, stop, shift, self.prots(prot))
        self.finish(tables)
        self.flush(L_FLUSH_VMAP, addr, end)
        self._check_defined(tables, addr)
        if tables.state[WARNED] & W_UNALIGNED and not self._inner_errors:
            raise VmapError(errno.EFAULT, f"the range ends at {end:#x}: the walker runs past it", undefined=True)
        if err:
            busy = tables.state[WARNED] & W_BUSY
            returned = err if self._inner_errors else errno.ENOMEM
            raise VmapError(errno.EBUSY if busy else int(returned), self.why(tables, first), bool(busy))
        return tables.cost.copy()

    def map_pfns(self, addr: int, size: int, pfns: Ints, prot: int) -> Ints:
        """``apply_to_page_range()`` as ``vmap_pfn()`` calls it: a special base page each; returns the counters.

        :raises VmapError: EINVAL for a PFN that is valid, ENOMEM; what was mapped before stays.
        """
        tables = self.tables_for(size)
        refused = (pfns >= 0) & (pfns < self.g.pfn_limit)
        prots = self.prots(prot).copy()
        prots[0] |= signed(self._arch.pte_special)
        frames = np.where(refused, -2, pfns & self.g.pfn_mask)
        start = signed(addr)
        page_shift = self._arch.page_shift
        err = map_range(tables, self._meta_g, frames, 0, False, start, start + size, page_shift, prots)
        self.finish(tables, {WarnOn.PFN_INVALID: WarnOn.PFN_VALID})
        if err:
            at = int(tables.state[STOPPED])
            told = f"page {at} has PFN {pfns[at]:#x}, which is memory" if refused[at] else self.why(tables, pfns)
            raise VmapError(int(err), told)
        return tables.cost.copy()

    def _check_defined(self, tables: Tables, addr: int) -> None:
        """What a walker does that takes a leaf for a table depends on what is in the page that the leaf maps.

        :raises VmapError: if it did; it is ``undefined``.
        """
        if tables.state[WARNED] & W_LEAF:
            raise VmapError(errno.EFAULT, f"the walk from {addr:#x} on goes through a leaf", undefined=True)

    def unmap(self, addr: int, size: int) -> None:
        """``vunmap_range_noflush()``: clear all entries of the range, KMSAN metadata first."""
        tables = self.tables(size, maps=False)
        unmap(self.setup, tables, signed(addr), size)
        self.finish(tables)

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
            leaves = np.empty(most, dtype=LEAF_DTYPE)
            room = leaves.view(np.int64).reshape(most, 3)
            found = list_leaves(self.memory.tables(), self.g, first, last, room)
            if found <= most:
                return leaves[:found]
            most = found  # the range was mapped anew since

    def why(self, tables: Tables, pages: Ints) -> str:
        """Why the walker stopped, and at which page."""
        index = int(tables.state[STOPPED])
        warned = int(tables.state[WARNED])
        if warned & (W_NULL | W_INVALID):
            pfn = unsigned(int(pages[index]))
            what = "is NULL" if warned & W_NULL else f"has PFN {pfn:#x}, not valid here"
            return f"page {index} {what}"
        if warned & W_UNALIGNED:
            return "the end of the range is not page-aligned"
        what = "an entry is already set" if warned & W_BUSY else "no memory for a page table"
        return f"{what} at page {index}"

    def prots(self, prot: int | None) -> Ints:
        """Per level, what surrounds the PFN in a leaf mapped with ``pgprot_nx(prot)``."""
        prot = self._arch.page_kernel if prot is None else prot
        known = self._known_prots.get(prot)
        if known is None:
            if not 0 <= prot < 1 << 8 * self._arch.entry_bytes:
                raise InputError(f"{prot:#x} is no protection value of {self._arch.name}")
            nx = self._arch.pgprot_nx(prot)
            levels = range(self.g.top + 1)
            known = np.array([signed(self._arch.leaf_prot(nx, level)) for level in levels], dtype=np.int64)
            self._known_prots[prot] = known
        return known

    def finish(self, tables: Tables, others: Dict[WarnOn, WarnOn] = MappingProxyType({})) -> None:
        """Take over what a compiled call logged and warned of.

        :param others: which warnings are others in this call.
        """
        warned = int(tables.state[WARNED])
        if not warned and not self.record:
            return
        fired = [one for one in _ALL[:COMPILED_WARNINGS] if warned >> one & 1 and self._warns(one)] if warned else []
        if self.record:
            rows = tables.log[: tables.state[LOGGED]]
            if warned:
                bits = [-(1 << one) for one in fired]
                rows = rows[(rows[:, 0] != L_WARN) | np.isin(rows[:, 1], bits)].copy()
                for at in np.flatnonzero(rows[:, 0] == L_WARN).tolist():
                    which = _ALL[(-int(rows[at, 1])).bit_length() - 1]
                    which = others.get(which, which)
                    rows[at, 1], rows[at, 2] = len(self.log.texts), which
                    self.log.texts.append(which.words)
            self.log.extend(rows)
        self.warnings += [others.get(one, one).words for one in fired]

    def _warns(self, which: WarnOn) -> bool:
        """Whether this release warns so."""
        if which in _PARTIAL:
            return self._release.has(Change.PARTIAL_UNMAP_WARNS)
        return which is not WarnOn.THROUGH_LEAF

    def tables_for(self, size: int) -> Tables:
        """The tables for a compiled call about ``size`` bytes: room for what it allocates and logs."""
        self.reserve(size)
        return self.tables(size)

    def reserve(self, size: int) -> None:
        """Have room for the tables that mapping ``size`` bytes can need, KMSAN's metadata included."""
        self.memory.reserve(size, 3 if self.options.kmsan else 1)

    def tables(self, size: int, maps: bool = True) -> Tables:
        """The tables for a call that sees to its room itself; ``maps``: it may do more than clear entries."""
        lines = 0
        if self.record:
            tables = sum((size >> level.shift) + 2 for level in self._arch.levels[1:])
            lines = (size >> self._arch.page_shift) * self._arch.cells + 4 * tables + 2 * int(self.g.words[0])
            lines *= 6 if self.options.kmsan else 2  # mapped, and unmapped when that fails
            if not maps:
                lines = min(lines, self.memory.words_in_use + 2 * int(self.g.words[0]) + 16)
        return self.memory.tables(log_lines=lines)

    def returned(self, err: int) -> int:
        """What the outermost walker of page arrays returns when an inner level stopped with ``err``."""
        return errno.ENOMEM if err and not self._release.rules.unified_walker else int(err)
