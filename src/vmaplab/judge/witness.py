# SPDX-License-Identifier: GPL-2.0-only
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
- entries go through invalid and a TLB flush before they change; freed tables and addresses likewise (:mod:`.history`).

No code that maps, walks or decodes is used here; formats come from the manuals. In common with the model are
the words: kinds of events, flags, the bounds of an architecture's address space.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.effects import MANY, NOTHING, Asks, Changes, Effect, Ends, Given, Maps, Moves, Purges, Reserves
from vmaplab.calls.flags import VM_FLUSH_RESET_PERMS, VM_NO_GUARD, VM_SPARSE
from vmaplab.calls.table import STEPS, Call, Returns
from vmaplab.errors import InputError, Violation, VmapError
from vmaplab.judge import FORMATS, invariants, walker
from vmaplab.judge.batch import MOST, Area, Done, judge
from vmaplab.judge.flushes import EVERYWHERE, bounded, exactly, flushed, flushes_of
from vmaplab.judge.format import U64, Format
from vmaplab.judge.history import History, joined
from vmaplab.judge.proof import Prover
from vmaplab.judge.walker import Walk
from vmaplab.judge.watched import Watched
from vmaplab.machine import Machine
from vmaplab.mapping import Mapping
from vmaplab.trace import Ints

Run = Callable[[], Any]
"""Has the kernel do the call that is judged."""
MAX_ADDR = (1 << 64) - 4096
"""Above it are no addresses but negative errnos."""


@dataclass
class Held:
    """An area in use.

    :param end: first address behind it and its guard page, if it has one.
    :param pfns: per page its frame, or NOTHING.
    :param rights: what its entries allow (``vmaplab.judge.format``); None where the caller asked for others.
    :param metadata: per page, whether KMSAN has a shadow page and an origin page for it.
    :param sparse: vm_area_map_pages() may map in it.
    :param nested: the area of its page array, if that is in the vmalloc space too.
    :param first: the address of the first of several that were taken together with it; 0 if it was taken alone.
    """

    addr: int
    end: int
    pfns: Ints
    call: Call
    rights: int | None
    metadata: NDArray[np.bool_]
    sparse: bool = False
    nested: list[int] = field(default_factory=list)
    first: int = 0

    @property
    def area(self) -> Area:
        """It, as it is now."""
        return Area(self.addr, self.end, self.pfns, self.rights)

    @property
    def ender(self) -> Call:
        """The call that ends it."""
        assert isinstance(self.call.effect, Maps | Reserves)
        ender = STEPS[self.call.effect.ends]
        assert isinstance(ender, Call)
        return ender

    @property
    def is_ram(self) -> bool:
        """Whether vm_map_ram() has mapped it."""
        return isinstance(self.ender.effect, Ends) and self.ender.effect.counted

    @property
    def is_own(self) -> bool:
        """Whether the kernel took the pages itself."""
        return isinstance(self.call.effect, Maps) and self.call.effect.frames is None


class Witness(Watched):
    """The calls of another machine, each followed by a look at all invariants.

    :param kernel: the model with ``record=True``, or the kernel's own code; it must not have mapped anything yet.
    :param form: the format of its page tables, if the architecture is none of ``FORMATS``.
    :param mmu: have an emulated MMU translate too, where there is one for the format.
    :param every: look at everything after so many calls, ``MOST`` at most, and judge those in between by their events
        together: what is wrong is found, but the call that is named then may be a later one.
    :raises Violation: from any call.
    :ivar walk: all that was mapped after the last call.
    :ivar prover: the emulated MMU, or None.
    :ivar translated: pages that the MMU translated so far.
    :ivar allocations_tried: allocations since the last ``fail()``, when :meth:`close` began.
    :ivar blind: why nothing is judged any more, or "".
    """

    def __init__(self, kernel: Machine, form: Format | None = None, mmu: bool = False, every: int = 1) -> None:
        if not kernel.records:
            raise InputError("a kernel that is watched keeps its events: Kernel(..., record=True)")
        if not 1 <= every <= MOST:
            raise InputError(f"1 to {MOST} calls can be judged together, not {every}")
        super().__init__(kernel)
        self.form = form = form or FORMATS[kernel.arch.name].booted(kernel.boot_args)
        self._page = kernel.arch.page_size
        arch = kernel.arch
        self._quarter = 0  # from an address to its KMSAN shadow, and from there to its origin
        if kernel.keeps_metadata:
            self._quarter = (arch.vmalloc_end - arch.vmalloc_start + 1) // 4 // self._page * self._page
        # KMSAN clears its metadata without flush_cache_vunmap() and flushes the TLB after it has mapped others.
        self._meta = arch.vmalloc_start + self._quarter, arch.vmalloc_start + 3 * self._quarter
        self._beside = self._meta if self._quarter else (0, 0)
        self._history = History(form, arch.table_base, kernel.table_root, self._beside)
        self._held: dict[int, Held] = {}
        self.walk = Walk.nothing()
        if len(self._look().entries):
            raise InputError("a kernel that is watched is watched from boot on; this one has mapped something")
        self.prover = Prover(form, arch.table_base, kernel.table_root) if mmu and form.machine else None
        self._handed = kernel.log_pages()
        self._objects, self._pages, self._free = kernel.live_objects, kernel.taken_pages, kernel.free_bytes
        self._allocated = kernel.objects
        self._judges: dict[type[Effect], Callable[[Call, Given, Run], Any]] = {
            Asks: self._asked,
            Purges: self._purged,
            Maps: self._maps,
            Reserves: self._reserves,
            Ends: self._ends,
            Moves: self._moves,
            Changes: self._changes,
        }
        self._every, self._waiting, self._first_row = every, list[Done](), 0
        self.blind = ""
        self.translated = 0
        self.allocations_tried = 0

    # -- the calls ----------------------------------------------------------------------------------

    def _invoke(self, call: Call, arguments: tuple[Any, ...]) -> Any:
        """Have the kernel do the call, and judge it by its effect; once blind, it is the kernel's alone."""
        run = partial(getattr(self.kernel, call.method), *arguments)
        if self.blind:
            return run()
        if self._waiting and not isinstance(call.effect, Asks) and not (self._may_wait(call) and self._proves(call)):
            self.catch_up()
        try:
            return self._judges[type(call.effect)](call, call.given(arguments), run)
        except (VmapError, Violation, InputError):
            raise
        except Exception:  # perhaps because a call that waits to be judged went wrong
            self._judge_waiting()
            raise

    def _may_wait(self, call: Call) -> bool:
        """Whether what ``call`` does can be judged later, by its events."""
        effect = call.effect
        told = isinstance(effect, Maps) and effect.frames is not None
        return self._every > 1 and not self._quarter and (told or isinstance(effect, Ends))

    def _proves(self, call: Call) -> bool:
        """Whether the MMU, if there is one, still sees what was mapped after ``call``."""
        return not (self.prover and isinstance(call.effect, Ends) and any(one.made for one in self._waiting))

    def catch_up(self) -> None:
        """Judge the calls that wait for that, and look at everything.

        :raises Violation: if one of them, perhaps not the last, did anything wrong.
        """
        if self._waiting:
            self._judge_waiting()
            self._everything(self._look())

    def _judge_waiting(self) -> None:
        """Judge the calls that wait for that, by their events alone."""
        done, self._waiting = self._waiting, []
        if done:
            rows = self.kernel.log.rows(self._first_row, done[-1].end)
            held = [(held.addr, held.end) for held in self._held.values()]
            judge(done, self._first_row, rows, self._history.follow(rows), self.form, self._page, held)

    def _asked(self, call: Call, given: Given, run: Run) -> Any:
        """A call that changes nothing; of what it finds, page frames are known."""
        if call.returns is not Returns.FRAME:
            return run()
        addr = given["addr"]
        held = self._holding(addr)
        index = (addr - held.addr) // self._page if held else 0
        wanted = int(held.pfns[index]) if held and index < len(held.pfns) else NOTHING
        name = call.prototype.name
        try:
            pfn: int = run()
        except VmapError:
            if wanted != NOTHING:
                raise Violation(f"{name}() finds nothing at {addr:#x}, where PFN {wanted:#x} is") from None
            raise
        if pfn != wanted:
            found = _frame(pfn) if isinstance(pfn, int) else repr(pfn)
            raise Violation(f"{name}() finds {found} at {addr:#x} instead of {_frame(wanted)}")
        return pfn

    def _purged(self, call: Call, given: Given, run: Run) -> None:
        """Nothing stays in a TLB after it."""
        seen = len(self.kernel.log)
        run()
        self._settle(call, seen)
        if self._history.stale:
            raise Violation(f"{call.method}() leaves unmapped addresses without a TLB flush")

    def _maps(self, call: Call, given: Given, run: Run) -> Any:
        """A call that takes an area."""
        effect, seen = call.effect, len(self.kernel.log)
        assert isinstance(effect, Maps)
        try:
            made = run()
        except VmapError as error:
            self._settle(call, seen, refused=True)
            if error.bug or error.undefined:
                self.catch_up()
            raise
        if effect.frames is None:
            self._hold_own(call, given, made)
        else:
            frames = effect.frames(given, self._page)
            limit = min(self.kernel.total_pages or 1 << 62, self.kernel.arch.addressable_pages)
            if effect.memory is not None:
                valid = (frames >= 0) & (frames < limit)
                if (valid != effect.memory).any():
                    what = "NULL or not valid" if effect.memory else "memory"
                    wrong = int(np.flatnonzero(valid != effect.memory)[0])
                    raise Violation(f"{call.method}() maps page {wrong}, which is {what}, and reports no error")
            if effect.memory is False:  # an entry has room for so many bits of a PFN (32-bit machines: pfn_pte())
                frames = np.where(frames >= 0, frames % self.kernel.arch.addressable_pages, frames)
            self._hold(made.addr, frames, call, given)
        self._settle(call, seen, made=None if effect.quiet else made)
        return made

    def _reserves(self, call: Call, given: Given, run: Run) -> Any:
        """A call that takes several areas."""
        seen = len(self.kernel.log)
        try:
            made = run()
        except VmapError as error:
            self._settle(call, seen, refused=True)
            if error.bug:
                self.catch_up()
            raise
        for area, size in zip(made.areas, given["sizes"], strict=True):
            held = self._hold(area.addr, np.full(size // self._page, NOTHING, dtype=np.int64), call, given)
            held.first = made.addr
        self._settle(call, seen)
        return made

    def _hold_own(self, call: Call, given: Given, mapping: Mapping) -> None:
        """Remember an area for which the kernel took the pages."""
        size = given["size"]
        count = -(-size // self._page)
        handed = np.concatenate([np.zeros(0, dtype=np.uint64), *self._handed]).astype(np.int64)
        actual = self._look()
        pfns = self._frames(actual, mapping.addr, mapping.addr + count * self._page)
        if (pfns == NOTHING).any():
            raise Violation(f"vmalloc() leaves page {int(np.flatnonzero(pfns == NOTHING)[0])} of {count} unmapped")
        starts = actual.entries["va"]
        spans = joined(starts, starts + actual.entries["size"])
        mapped = next(end for start, end in spans if start <= mapping.addr < end) - mapping.addr
        if given.get("flags", 0) & VM_NO_GUARD:  # the area of its page array can follow at once
            mapped = min(mapped, self._area_bytes(mapping.addr))
        largest = 1 << max(self.kernel.arch.levels[1].shift, *(group.shift for group in self.kernel.arch.groups), 0)
        if mapped >= size + largest:  # a huge vmalloc() is rounded up to whole leaves
            raise Violation(f"vmalloc() of {size} bytes maps {mapped}")
        # What was handed out last is what is mapped: after the pages of the page array, and after failed attempts.
        pfns = handed[max(len(handed) - mapped // self._page, 0) :]
        self._unshared(pfns, mapping.addr)
        held = self._hold(mapping.addr, pfns, call, given)
        self._page_array(call, actual, held, handed[: len(handed) - len(pfns)], len(pfns) * 8)

    def _ends(self, call: Call, given: Given, run: Run) -> None:
        """A call that returns nothing and ends an area."""
        effect, addr = call.effect, given["addr"]
        assert isinstance(effect, Ends)
        if effect.together:
            gone = self._all_of(addr)
        else:
            gone = self._counted(call, addr, given["count"]) if effect.counted else self._ended(call, effect, addr)
        seen, refused = len(self.kernel.log), None
        try:
            run()
        except VmapError as error:
            if error.bug or error.undefined:
                self._died(error)
                raise
            if gone and not self.blind:
                raise Violation(f"{call.method}() refuses the area at {gone[0].addr:#x}, which is there") from error
            gone, refused = [], error
        if not self.blind:
            for held in gone:
                del self._held[held.addr]
            self._settle(call, seen, gone=gone)
        if refused:
            raise refused

    def _moves(self, call: Call, given: Given, run: Run) -> Any:
        """A call that may give a larger area for one whose pages the kernel took."""
        effect, addr = call.effect, given["addr"]
        assert isinstance(effect, Moves)
        held = self._held.get(addr)
        if held is None or not held.is_own or self._is_nested(held) or not given["size"]:
            self._lose_sight(f"{call.method}() of what is no area whose pages it has to free")
            return run()
        seen = len(self.kernel.log)
        try:
            made = run()
        except VmapError:
            self._settle(call, seen, refused=True)
            raise
        if made.addr == addr:
            if given["size"] > len(held.pfns) * self._page:
                raise Violation(f"{call.method}() leaves {given['size']} bytes in an area of {len(held.pfns)} pages")
            self._settle(call, seen)
            return made
        larger = STEPS[effect.to]
        assert isinstance(larger, Call)
        gone = [held, *(self._held[nested] for nested in held.nested)]
        self._hold_own(larger, given, made)
        for one in gone:
            del self._held[one.addr]
        self._settle(call, seen, made=made, gone=gone)
        return made

    def _ended(self, call: Call, effect: Ends, addr: int) -> list[Held]:
        """The areas that a call ends which takes any address in one; the area of the page array goes with it."""
        whole = addr - addr % self._page if effect.whole_page else addr
        held = self._holding(whole) if whole and whole % self._page == 0 else None
        if whole and whole % self._page == 0 and (held.is_ram if held else self._in_ram(whole)):
            self._lose_sight(f"{call.method}() of what vm_map_ram() has mapped")
        if held is None:
            return []
        if held.first:
            self._lose_sight(f"{call.method}() of one of several areas that were taken together")
        if held.is_own and (not effect.frees or self._is_nested(held)):
            self._lose_sight(f"{call.method}() of an area whose pages somebody else has to free")
        return [held, *(self._held[nested] for nested in held.nested if effect.frees)]

    def _all_of(self, addr: int) -> list[Held]:
        """The areas that were taken together, by the first of them."""
        return [held for held in self._held.values() if held.first and held.first == addr]

    def _counted(self, call: Call, addr: int, count: int) -> list[Held]:
        """The area that a call ends which must be told how many pages there are."""
        held = self._held.get(addr)
        if held is not None and held.is_ram and len(held.pfns) == count:
            return [held]
        if held or self._holding(addr) or self._in_ram(addr):
            self._lose_sight(f"{call.method}() of what vm_map_ram() has not mapped so")
        return []

    def close(self) -> None:
        """Undo everything, and see that nothing is lost: no area, no page, no object of the kernel's."""
        self.allocations_tried = self.kernel.allocations
        self.kernel.fail(())
        if self.blind:
            return
        self.catch_up()
        nested = {addr for held in self._held.values() for addr in held.nested}
        for addr, held in list(self._held.items()):
            if addr not in nested and held.first in (0, addr):
                self._invoke(held.ender, (addr, len(held.pfns))[: len(held.ender.arguments)])
        self.catch_up()
        self.vm_unmap_aliases()
        kept = self._kept()
        if lost := self._free - self.kernel.free_bytes - sum(end - start for start, end in kept):
            raise Violation(f"when everything is unmapped, {lost} bytes of address space are missing")
        if lost := self.kernel.live_objects - self._objects - 2 * len(kept):  # a struct vmap_block has a vmap_area
            raise Violation(self._still_there(lost))
        if self.kernel.taken_pages > self._pages:
            raise Violation(f"when everything is freed, {self.kernel.taken_pages - self._pages} pages are missing")

    def _still_there(self, lost: int) -> str:
        """Objects that nobody freed, in words; which ones, as far as more of a place are there than at the start."""
        count = "1 object is" if lost == 1 else f"{lost} objects are"
        more = sorted((self.kernel.objects - self._allocated).items(), key=lambda it: -it[1])
        told = [
            f"{number} of {size} bytes that {self.kernel.place_text(place)} allocated" for (size, place), number in more
        ]
        return f"when everything is unmapped, {count} still allocated" + (": " + "; ".join(told[:3]) if told else "")

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

    # -- what is expected ---------------------------------------------------------------------------

    def _hold(self, addr: int, pfns: Ints, call: Call, given: Given) -> Held:
        """Remember a new area, after a look at where it lies."""
        arch, effect, flags = self.kernel.arch, call.effect, given.get("flags", 0)
        guard = isinstance(effect, Maps) and effect.guard
        if guard is None:
            guard = not flags & VM_NO_GUARD
        end = addr + (len(pfns) + guard) * self._page
        sparse = bool(guard and flags & (VM_SPARSE | VM_FLUSH_RESET_PERMS) == VM_SPARSE)
        device = isinstance(effect, Maps) and effect.device
        rights: int | None = self.form.device_rights if device else self.form.data_rights
        if given.get("prot") is not None:
            rights = None
        metadata = np.broadcast_to(np.bool_(isinstance(effect, Maps) and effect.metadata), (len(pfns), 2))
        held = Held(addr, end, pfns, call, rights, metadata if len(pfns) > MANY else metadata.copy(), sparse)
        name = call.method
        start, stop = arch.vmalloc_start, self._meta[0] - 1 if self._quarter else arch.vmalloc_end
        if device and arch.ioremap_start:
            start, stop = arch.ioremap_start, arch.ioremap_end
        if addr > MAX_ADDR:
            raise Violation(f"{name}() returns ERR_PTR(-{errno.errorcode.get((1 << 64) - addr)}) instead of NULL")
        if addr % self._page or not start <= addr < end <= stop + 1:
            raise Violation(f"{name}() takes [{addr:#x}, {end:#x}), outside [{start:#x}, {stop:#x})")
        for other in self._held.values():
            if addr < other.end and other.addr < end:
                theirs = f"[{other.addr:#x}, {other.end:#x}) of {other.call.method}()"
                raise Violation(f"{name}() takes [{addr:#x}, {end:#x}), which overlaps {theirs}")
        self._held[addr] = held
        return held

    def _holding(self, addr: int) -> Held | None:
        return next((held for held in self._held.values() if held.addr <= addr < held.end), None)

    def _lose_sight(self, why: str) -> None:
        """From now on nothing is judged: what the call does is not defined, or not told by what can be seen."""
        if not self.blind:
            self.catch_up()
            self.blind = why

    def _died(self, error: VmapError) -> None:
        """A call ended where no call ends: what was before it is judged by its events alone."""
        self._judge_waiting()
        self.blind = self.blind or ("the kernel met a BUG()" if error.bug else "what the kernel does is not defined")

    def _is_nested(self, held: Held) -> bool:
        return any(held.addr in other.nested for other in self._held.values())

    def _ram(self) -> list[tuple[int, int]]:
        """The areas and blocks of vm_map_ram(), by /proc/vmallocinfo; a block may have no page in use."""
        return [(start, end) for start, end, last in self._listed() if last == "vm_map_ram"]

    def _listed(self) -> list[tuple[int, int, str]]:
        """Start, end and last word of each line of /proc/vmallocinfo."""
        lines = [line.split() for line in self.kernel.vmalloc_info().splitlines()]
        bounds = [words[0].split("-") for words in lines]
        return [(int(start, 16), int(end, 16), words[-1]) for (start, end), words in zip(bounds, lines, strict=True)]

    def _area_bytes(self, addr: int) -> int:
        """How long the area at ``addr`` is, by /proc/vmallocinfo."""
        return next((end - addr for start, end, _ in self._listed() if start == addr), 0)

    def _in_ram(self, addr: int) -> bool:
        return any(start <= addr < end for start, end in self._ram())

    def _changes(self, call: Call, given: Given, run: Run) -> None:
        """A call that maps or unmaps where the caller says."""
        effect = call.effect
        assert isinstance(effect, Changes)
        addr, seen, frames = given[effect.at], len(self.kernel.log), effect.frames(given, self._page)
        if effect.sparse and not self._fits_sparse(given["area"], addr, len(frames)):
            try:
                run()
            except VmapError:
                self._settle(call, seen)
                raise
            self._settle(call, seen)
            return
        held = self._holding(addr)
        first = (addr - held.addr) // self._page if held else 0
        if "end" in given and given["end"] % self._page:
            self._lose_sight(f"{call.method}() of a range that does not end at a page")
        if held is None or first + len(frames) > len(held.pfns):
            self._lose_sight(f"{call.method}() works outside of any area")
        elif len(held.pfns) > MANY:
            self._lose_sight(f"{call.method}() works in an area of more than {MANY} pages")
        if held is None or self.blind:
            run()
            return
        clears = effect.clears
        cuts = clears and self._cuts_block(addr, addr + len(frames) * self._page)
        there = slice(first, first + len(frames))
        before = held.pfns.copy()
        strict = clears or not (before[there] != NOTHING).any()
        failed = None
        try:
            run()
        except VmapError as error:
            if error.bug or error.undefined:
                self._died(error)
                raise
            failed = error
        wanted = before.copy()
        wanted[there] = frames
        actual = self._look()
        if failed or clears:
            wanted = self._partly(actual, held, before, wanted, there, failed is not None)
        held.pfns = wanted
        if effect.metadata is not None:
            held.metadata[there] = effect.metadata
        if failed and self._quarter:  # how far KMSAN came
            for number in (0, 1):
                start = held.addr + (number + 1) * self._quarter
                found = self._frames(actual, start, start + len(before) * self._page)
                held.metadata[there, number] = found[there] != NOTHING
        if clears and self._cuts_group(actual, addr, addr + len(frames) * self._page):
            self._lose_sight(f"{call.method}() clears part of a group of PTEs")
        if cuts:  # it goes as a whole, and only the range is flushed
            self._lose_sight(f"{call.method}() clears part of a block")
        self._settle(call, seen, strict=strict, actual=actual)
        if failed:
            raise failed
        if not self.blind and effect.flushes:
            flushes = flushes_of(self.kernel.log.rows(seen))
            exactly(call.method, flushes.unmaps if clears else flushes.maps, addr, addr + len(frames) * self._page)

    def _fits_sparse(self, area: int, start: int, count: int) -> bool:
        """Whether ``count`` pages from ``start`` on are inside an area with VM_SPARSE."""
        held, end = self._holding(area), start + count * self._page
        limit = self.kernel.total_pages or self.kernel.arch.addressable_pages
        return bool(held and held.sparse and held.addr <= start < end < held.end and count <= limit)

    def _partly(self, now: Walk, held: Held, before: Ints, wanted: Ints, there: slice, failed: bool) -> Ints:
        """What a walker that stopped midway, or that cleared whole leaves, left: each page as before or as wanted."""
        actual = self._frames(now, held.addr, held.addr + len(before) * self._page)
        allowed = actual == wanted
        allowed[there] |= (actual[there] == before[there]) & failed
        start, end = held.addr + there.start * self._page, held.addr + there.stop * self._page
        gone = np.flatnonzero(~allowed & (actual == NOTHING))
        # A block or group that the range cuts goes as a whole.
        first, size = self.walk.leaves_of(np.uint64(held.addr) + gone.astype(np.uint64) * np.uint64(self._page))
        allowed[gone] = (size > 0) & (first < np.uint64(end)) & (np.uint64(start) < first + size)
        return np.where(allowed, actual, wanted)

    def _cuts_group(self, left: Walk, start: int, end: int) -> bool:
        """Whether a range begins or ends within a group of PTEs of which it cleared the rest."""
        before, behind = left.leaf_of(start - self._page), left.leaf_of(end)
        return (before is not None and start < before[1]) or (behind is not None and behind[0] < end)

    def _cuts_block(self, start: int, end: int) -> bool:
        """Whether a range begins or ends within a block."""
        small = 1 << self.form.levels[1][0]
        ends = self.walk.leaf_of(start), self.walk.leaf_of(end - self._page)
        return any(
            leaf is not None and leaf[1] - leaf[0] >= small and (leaf[0] < start or end < leaf[1]) for leaf in ends
        )

    def _unshared(self, pfns: Ints, addr: int) -> None:
        """Pages that vmalloc() took from the allocator belong to nobody else."""
        if len(np.unique(pfns)) < len(pfns):
            raise Violation("vmalloc() maps a page twice")
        for held in self._held.values():
            if held.is_own and held.addr != addr and len(np.intersect1d(held.pfns, pfns)):
                raise Violation(f"vmalloc() at {addr:#x} maps a page of the area at {held.addr:#x}")

    def _page_array(self, call: Call, actual: Walk, held: Held, handed: Ints, size: int) -> None:
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
            held.nested.append(self._hold(int(new[0]), pfns, call, {}).addr)

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
        areas = [(held.addr, held.pfns) for held in self._held.values() if len(held.pfns) <= MANY]
        return invariants.granules(areas, 1 << self.form.levels[0][0], self._page)

    # -- the look after each call ---------------------------------------------------------------------

    def _settle(
        self,
        call: Call,
        seen: int,
        made: Mapping | None = None,
        gone: Sequence[Held] = (),
        strict: bool = True,
        actual: Walk | None = None,
        refused: bool = False,
    ) -> None:
        """Judge a call, at once or later.

        :param made: what the call has just made.
        :param gone: the areas that it has just ended.
        :param strict: the caller did not map over its own mapping.
        :param actual: what is mapped now, if that is known already.
        :param refused: it failed.
        """
        self._handed.clear()
        if self.blind:
            return
        if self._may_wait(call):
            self._wait(call, seen, made, gone, refused)
            return
        rows = self.kernel.log.rows(seen)
        name, flushes = call.method, flushes_of(rows)
        for held in gone:
            exactly(name, flushes.unmaps, held.addr, held.end)
        if not len(rows) and made is None:
            return
        changes = self._history.follow(rows, strict)
        self._everything(actual or self._look())
        maps_flushed = not isinstance(call.effect, Changes) or call.effect.flushes
        flushed(name, flushes, changes.made, changes.cleared, self._beside, maps_flushed, undone=made is None)
        if made is not None:
            size = len(self._held[made.addr].pfns) * self._page
            exactly(name, flushes.maps, made.addr, made.addr + size)
            va = self.walk.entries["va"]
            inside = (va >= np.uint64(made.addr)) & (va <= np.uint64(made.addr + size - 1))
            invariants.reported(name, made, self.walk.entries[inside], size, self._page)
        areas = [(held.addr, held.end) for held in self._held.values()]
        # What KMSAN flushes lies beyond the rest.
        judged = (self.arch.vmalloc_start, self._meta[0]) if self._quarter else EVERYWHERE
        bounded(name, flushes, areas, judged, made is None)

    def _wait(self, call: Call, seen: int, made: Mapping | None, gone: Sequence[Held], refused: bool) -> None:
        """Remember what ``call`` had to do, until it is judged."""
        if not self._waiting:
            self._first_row = seen
        area = self._held[made.addr].area if made is not None else None
        known = any(one.told is not None and one.name == call.method for one in self._waiting)
        told = None if known else made  # of each kind of call one: to keep all of them costs more
        ended = tuple([held.area for held in gone])
        self._waiting.append(
            Done(call.method, len(self.kernel.log), area, ended, refused, told, made.size if made else 0)
        )
        if len(self._waiting) >= self._every:
            self.catch_up()

    def _everything(self, actual: Walk) -> None:
        """Look at all that is there."""
        self.walk = actual
        va, phys = expected = self._expected()
        invariants.groups(actual.entries, self.form)
        invariants.alignment(actual.entries)
        self._places(actual, expected)
        reached, used = actual.tables.keys(), self._history.tables
        for table in used - reached:
            raise Violation(f"the table at {table:#x} is allocated, but no entry leads to it")
        for table in reached - used:
            raise Violation(f"an entry leads to a table at {table:#x}, where none is allocated")
        if (other := self._history.disagrees(memory := self.kernel.live_tables())) is not None:
            raise Violation(f"the entry at {other:#x} is not what was stored there last")
        if self.prover:
            writable = np.ones(len(va), dtype=bool)
            for held in (held for held in self._held.values() if held.rights is None):
                writable &= (va < np.uint64(held.addr)) | (va >= np.uint64(held.end))
            self.prover.load(memory)
            self.translated += self.prover.check(va, phys, 1 << self.form.levels[0][0], writable)

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
