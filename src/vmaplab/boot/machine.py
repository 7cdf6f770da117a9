# SPDX-License-Identifier: GPL-2.0-only
"""A booted kernel as a machine: its calls are made for real, its page tables are read from its RAM."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from vmaplab.boot.build import Bootable
from vmaplab.boot.checks import report_in
from vmaplab.boot.guest import RAM_BYTES, Guest
from vmaplab.calls.effects import Ends, Maps, Moves
from vmaplab.calls.entry import Call
from vmaplab.calls.table import STEPS
from vmaplab.config import booted
from vmaplab.cost.counters import Cost
from vmaplab.errors import InputError, KernelFault, Unprovided, VmapError
from vmaplab.judge import FORMATS, invariants, walker
from vmaplab.mapping import Mapping
from vmaplab.object.lowered import Lowered, signed_int
from vmaplab.release import of_version
from vmaplab.trace import EventLog

_MOST_AREAS = 4096
_FAIL_NTH = "vmaplab_fail_nth"
_APPEND = "no_hash_pointers"
_MARGIN = 16 << 20
_USED_WORDS = 16
"""Words of the shared memory that are no page array."""
MOST_PAGES = (1 << 20) - _USED_WORDS
"""Of an array."""
_MOST_LOOKS, _ALIKE, _MOST_LEFT = 200, 5, 64

_NOT_ASKED = frozenset(["dump", "info", "lookup", "percpu", "percpu_free", "ptdump", "remap", "vread"])
"""What answers with text or frames of the kernel's own, or wants a process or more than one CPU."""
CALLS = frozenset(word for word, one in STEPS.items() if isinstance(one, Call) and one.binding) - _NOT_ASKED
"""First words of the steps whose calls can be made."""

_OP = np.dtype([("function", "<u8"), ("ref", "<u8"), ("arguments", "<u8", 6), ("result", "<u8")])
"""A call of a program, as agent.h has it."""


class Step(NamedTuple):
    """A call of a program.

    :param function: of the kernel; ``arguments``: in registers, up to six.
    :param pfns: of which the first argument is the array of struct pages.
    :param ref: number of the call of the same program whose result is the first argument, or -1.
    """

    function: str
    arguments: tuple[int, ...] = ()
    pfns: NDArray[np.uint64] | None = None
    ref: int = -1


_VUNMAP = cast(Call, STEPS["vunmap"])


class BootedKernel(Lowered):
    """A kernel that has booted; page frames are counted from the first one of its RAM.

    What it does is not seen, only what comes of it: results, areas, page tables. A call that does not return ends it,
    and :meth:`reset` boots it anew.

    :param kernel: what :func:`vmaplab.boot.build.build` gave.
    :param cpus: of the machine; calls are made on the first, but for :meth:`together`.
    :ivar reserved: the areas of others, first and last address + 1, ascending: in use since boot, or of threads.
    :ivar boots: how many times it was booted; ``boot_seconds``: how long that took the last time.
    """

    _most_pages = MOST_PAGES
    _more: tuple[str, ...] = ()

    def __init__(self, kernel: Bootable, boot_args: str = "", cpus: int = 1) -> None:
        self.kernel, self.boot_args, self.cpus = kernel, tuple(boot_args.split()), cpus
        self.boots = 0
        self._functions = {"vmap": kernel.call, "ioremap": "vmaplab_ioremap"}
        self._form = FORMATS[kernel.target.arch].booted(self.boot_args)
        self._row = of_version(kernel.version)
        self._log = EventLog()
        self._warnings: list[str] = []
        self._complaint = ""
        self._mappings = weakref.WeakValueDictionary()
        self._live: dict[int, tuple[Call, int]] = {}  # what there is to end: by which call, and how large it is
        self._guest: Guest | None = None
        self.boot()

    def boot(self) -> None:
        """Boot it anew."""
        self.close()
        try:
            self._boot()
        except BaseException:
            self.close()
            raise

    def _boot(self) -> None:
        self._guest = guest = Guest(self.kernel, " ".join([_APPEND, *self.boot_args]), self.cpus, self._more)
        self.slide = guest.slide
        self.boots += 1
        self.boot_seconds = guest.seconds
        head, arch = guest.head, booted(self._row.on(self.kernel.target.arch), self.boot_args)
        if 1 << head.page_shift != arch.page_size:
            raise InputError(f"the kernel has pages of {1 << head.page_shift} bytes, {arch.name} has others")
        self.arch = replace(
            arch, page_kernel=head.page_kernel, vmalloc_start=head.vmalloc_start, vmalloc_end=head.vmalloc_end
        )
        self.values = {
            "page_kernel": head.page_kernel,
            "ioremap_prot": arch.ioremap_prot,
            "gfp_kernel": head.gfp_kernel,
            "vmalloc_start": head.vmalloc_start,
            "vmalloc_end": head.vmalloc_end,
        }
        self.total_pages = RAM_BYTES >> head.page_shift
        self.first_frame = guest.base >> head.page_shift
        self._page_bytes = head.page_bytes
        self._page0 = (head.page0 + self.first_frame * head.page_bytes) % (1 << 64)
        self._out = head.words
        guest.said()
        self._live.clear()
        self._nth = 0
        if _FAIL_NTH in self.kernel.symbols:
            attributes = map(guest.address_of, ("failslab", "fail_page_alloc"))
            if not self._call("vmaplab_spare_nothing", *attributes) & 0xFF:
                raise InputError(f"{self.code} spares allocations, whatever fail_nth says")
        self.reserved = self._settled()
        self._first = len(self.reserved)

    def _settled(self) -> NDArray[np.uint64]:
        """The areas in use, once no thread that still starts takes another for its stack."""
        alike, before = 0, np.empty((0, 2), dtype=np.uint64)
        for _ in range(_MOST_LOOKS):
            self._call("vmaplab_forget")
            self._call("msleep", 2)
            now = self.areas()
            alike = alike + 1 if np.array_equal(now, before) else 0
            before = now
            if alike == _ALIKE:
                break
        return before

    def close(self) -> None:
        """End it."""
        if self._guest:
            self._guest.close()
            self._guest = None

    def reset(self) -> str:
        """End everything that was mapped; if the kernel has ended, or much is left, boot anew.

        :returns: what went wrong with that; "" if nothing did.
        """
        fault = ""
        try:
            if self._nth:
                self.fail(())
            for addr, (ender, size) in list(self._live.items()):
                counted = isinstance(ender.effect, Ends) and ender.effect.counted
                with suppress(VmapError):
                    getattr(self, ender.method)(addr, *[size >> self.arch.page_shift] * counted)
            self._live.clear()
            self._call("vmaplab_forget")
            self.reserved = self.areas()
            for leaf in self.since(self.reserved):  # mapped beyond any area
                self._call("vunmap_range", int(leaf["va"]), int(leaf["va"] + leaf["size"]))
        except KernelFault as fell:
            fault = str(fell)
        if self._guest is None or len(self.reserved) > self._first + _MOST_LEFT:
            self.boot()
        self._log, self._warnings, self._complaint = EventLog(), [], ""
        self._mappings.clear()
        if self._guest:
            self._guest.said()
        return fault

    def fill(self) -> None:
        """Leave no address free below the highest area in use, nor close above; :attr:`reserved` are all areas then.

        A step that maps beyond its area then hits nothing of others; and one free area is left, whose place in a tree
        is the same whatever came before: which of several that would do the kernel takes, depends on the tree's shape.

        :raises InputError: if others take areas at the same time, time and again.
        """
        if not len(self.reserved):
            return
        for _ in range(_MOST_LOOKS):
            end, whole = self.values["vmalloc_start"], True
            areas = self.areas()
            above = max([int(after) for _, after in self.reserved.tolist()]) + _MARGIN
            for start, after in [*areas.tolist(), (above, above)]:
                if end < start:
                    whole = self._call("vmaplab_reserve", end, start) == end
                    if not whole:
                        break  # another thread was faster
                    self._live[end] = _VUNMAP, start - end
                end = max(end, after)
            if whole:
                self.reserved = self.areas()
                return
            self.reserved = areas
        raise InputError(f"{self.code} takes areas all the time: no scenario can be compared")

    # -- calls --------------------------------------------------------------------------------------

    def _invoke(self, call: Call, arguments: tuple[Any, ...]) -> Any:
        """Call the function that the table binds ``call`` to, and note what there is to end."""
        if call.word not in CALLS | {"info"} or call.binding is None:
            raise Unprovided(f"'{call.word}' is no call that a booted kernel can be asked for")
        given = call.given(arguments)
        own = getattr(self, call.inner, None)
        found: Any = own(**given) if own else self._generic(call, given)
        if isinstance(call.effect, Maps):
            ender = STEPS[call.effect.ends]
            assert isinstance(ender, Call)
            self._live[found.addr] = ender, found.size
        elif isinstance(call.effect, Ends | Moves):
            gone = self._live.pop(given["addr"] & -self.arch.page_size, None)
            if gone and isinstance(call.effect, Moves):
                self._live[found.addr] = gone[0], found.size
        return found

    def _call(self, function: str, *arguments: int) -> int:
        if self._guest is None:
            raise KernelFault("the kernel has ended")
        try:
            return self._guest.call(function, *arguments)
        except KernelFault:
            self._guest = None
            raise

    def _put(self, array: NDArray[np.uint64]) -> int:
        """Where nothing but the page array is; page frames of no memory are counted as those of memory."""
        if len(array) > self._most_pages:
            raise InputError(f"{len(array)} pages; the machine takes {self._most_pages} in a call")
        self._ram_words[_USED_WORDS : _USED_WORDS + len(array)] = array
        return self._out + 8 * _USED_WORDS

    def _values(self, given: dict[str, Any], names: tuple[str, ...]) -> dict[str, int]:
        if "pfns" in names:  # vmap_pfn() takes numbers
            given = {**given, "pfns": given["pfns"] + np.uint64(self.first_frame)}
        return super()._values(given, names)

    def _words(self, address: int, count: int) -> NDArray[np.uint64]:
        at = (address - self._out) // 8
        return self._ram_words[at : at + count]

    @property
    def _ram_words(self) -> NDArray[np.uint64]:
        if self._guest is None:
            raise KernelFault("the kernel has ended")
        return self._guest.words

    def _mapping(self, addr: int, size: int, seen: int) -> Mapping:
        pages = size >> self.arch.page_shift

        def cost(leaves: NDArray[Any]) -> Cost:
            return Cost.measured(pages, len(leaves), 0, 0, None)

        return Mapping(addr, size, cost, lambda: self.leaves(addr, addr + size), lambda: [])

    def end(self, function: str, addr: int, *arguments: int) -> None:
        """End what :meth:`together` has mapped: ``vunmap``, ``vfree`` or ``vm_unmap_ram``."""
        self._call(function, addr, *arguments)

    def left(self) -> str:
        """What is there beyond :attr:`reserved` when all is purged; "" if nothing."""
        self._call("vmaplab_forget")
        known = {int(start) for start, _ in self.reserved}
        for start, end in self.areas().tolist():
            if start not in known:
                return f"the area [{start:#x}, {end:#x}) is left"
        entries = self.since(self.reserved)
        return f"{int(entries['va'][0]):#x} is still mapped" if len(entries) else ""

    def together(self, programs: list[list[Step]]) -> list[list[int]]:
        """Run programs of equal length at the same time, each on a CPU of its own; the result of each call.

        A call that ends what failed is not made: its result is 0.
        """
        guest, each = self._guest, len(programs[0])
        if guest is None:
            raise KernelFault("the kernel has ended")
        ops = np.zeros((len(programs), each), dtype=_OP)
        room, at = self._ram_words, _USED_WORDS + ops.nbytes // 8
        for cpu, program in enumerate(programs):
            for number, step in enumerate(program):
                op = ops[cpu, number]
                op["function"] = guest.address_of(self._functions.get(step.function, step.function))
                op["ref"] = step.ref + 1
                arguments = list(step.arguments)
                if step.pfns is not None:
                    room[at : at + len(step.pfns)] = self._page_pointers(step.pfns)
                    arguments[0] = self._out + 8 * at
                    at += len(step.pfns)
                op["arguments"][: len(arguments)] = arguments
        words = ops.view("<u8").ravel()
        room[_USED_WORDS : _USED_WORDS + len(words)] = words
        start = self._out + 8 * _USED_WORDS
        if err := signed_int(self._call("vmaplab_together", start, each, len(programs))):
            raise InputError(f"{self.code} cannot run {len(programs)} programs at the same time ({err})")
        done = room[_USED_WORDS : _USED_WORDS + len(words)].view(_OP).reshape(ops.shape)
        found: list[list[int]] = done["result"].tolist()
        return found

    # -- what is there ------------------------------------------------------------------------------

    def areas(self) -> NDArray[np.uint64]:
        """The areas in use, first and last address + 1, ascending: shape (n, 2)."""
        count = self._call("vmaplab_areas", self._out, _MOST_AREAS)
        if count > _MOST_AREAS:
            raise InputError(f"{count} areas are in use, more than {_MOST_AREAS}")
        found = self._ram_words[: 2 * count].reshape(-1, 2).copy()
        return found[np.argsort(found[:, 0])]

    def walk(self, start: int, end: int) -> walker.Walk:
        """The entries that map part of [start, end), as the manual reads them; physical addresses are real ones."""
        guest = self._guest
        if guest is None:
            raise KernelFault("the kernel has ended")
        return walker.walk(guest.ram, guest.base, guest.head.root, self._form, start, end)

    def since(self, areas: NDArray[np.uint64]) -> NDArray[Any]:
        """What is mapped in vmalloc space but for these ``areas``, as :attr:`.walker.ENTRY`."""
        entries = self.walk(self.values["vmalloc_start"], self.values["vmalloc_end"]).entries
        known = np.searchsorted(areas[:, 0], entries["va"], side="right") - 1
        if not len(areas):
            return entries
        found: NDArray[Any] = entries[(known < 0) | (entries["va"] >= areas[known, 1])]
        return found

    def _vmalloc_info(self) -> str:
        count = self._call("vmaplab_info", self._out, self._ram_words.nbytes)
        return self._ram_words[: count // 8 + 1].tobytes()[:count].decode(errors="replace")

    def leaves(self, start: int, end: int) -> NDArray[Any]:
        """All leaves that map part of [start, end), as ``LEAF_DTYPE``, ascending."""
        return invariants.leaves(self.walk(start, end).entries, self.arch.page_size)

    @property
    def log(self) -> EventLog:
        """Nothing: what a booted kernel does is not seen."""
        return self._log

    @property
    def records(self) -> bool:
        """False."""
        return False

    @property
    def warnings(self) -> list[str]:
        """Which WARN() fired since :meth:`reset`, in the kernel's words; a WARN_ONCE() fires once a boot."""
        self._hear()
        return self._warnings

    def complaint(self) -> str:
        """What the kernel has reported since :meth:`reset`, BUG: and what its checks find; "" if nothing."""
        self._hear()
        return self._complaint

    def _hear(self) -> None:
        """Take in what the kernel has printed."""
        for line in self._guest.said().splitlines() if self._guest else ():
            if report := report_in(line):
                self._complaint = self._complaint or report
            elif "WARNING: " in line:
                self._warnings.append(line.partition("WARNING: ")[2])

    @property
    def code(self) -> str:
        """Whose code this is: the tree's version."""
        return self.kernel.code

    @property
    def cpu(self) -> int:
        """The CPU on which the calls run."""
        return 0

    @cpu.setter
    def cpu(self, number: int) -> None:
        if number:
            raise InputError(f"there is no CPU {number}: a booted kernel has one here")

    @property
    def table_root(self) -> int:
        """Physical address of the PGD."""
        assert self._guest is not None
        return self._guest.head.root

    def live_tables(self) -> NDArray[np.uint8]:
        """Not told: tables are anywhere in its RAM."""
        raise Unprovided("which pages of a booted kernel are page tables is not known")

    @property
    def live_objects(self) -> int:
        """Not told."""
        raise Unprovided("a booted kernel has objects of others, too")

    @property
    def free_bytes(self) -> int:
        """Bytes of address space that no area has and that wait for no purge."""
        return self._call("vmaplab_free_areas", 1)

    @property
    def taken_pages(self) -> int:
        """Not told."""
        raise Unprovided("a booted kernel has pages of others, too")

    def log_pages(self) -> list[NDArray[np.uint64]]:
        """Not told."""
        raise Unprovided("which pages a booted kernel hands out is not seen")

    def fail(self, numbers: Iterable[int]) -> None:
        """Let one allocation fail, by the kernel's own fault injection: the one with this number, from 0 from now on.

        :raises Unprovided: if that is not built in (:data:`~vmaplab.boot.build.FAULTS`), or of more than one.
        """
        several = tuple(numbers)
        if _FAIL_NTH not in self.kernel.symbols:
            raise Unprovided("no allocation of this kernel fails: it is built without FAULT_INJECTION")
        if len(several) > 1:
            raise Unprovided("the fault injection of a kernel lets one allocation of a task fail, not two")
        self._nth = several[0] + 1 if several else 0
        self._call(_FAIL_NTH, self._nth)

    @property
    def allocations(self) -> int:
        """Allocations tried since the last :meth:`fail`, up to the one that failed; 0 where none is to."""
        return self._nth - self._call("vmaplab_fail_left") if self._nth else 0

    def set_limit(self, max_tables: int | None) -> None:
        """Not to be had."""
        raise Unprovided("page tables of a booted kernel do not run out here")

    def limit_pages(self, most: int, largest: int | None = None) -> None:
        """Not to be had."""
        raise Unprovided("pages of a booted kernel do not run out here")

    def set_signal(self, pending: bool) -> None:
        """Not to be had."""
        raise Unprovided("no signal is sent to the task that calls")


def lines_of(text: str, reserved: NDArray[np.uint64]) -> list[str]:
    """The lines of /proc/vmallocinfo that are of no ``reserved`` area, without the names of callers."""
    lines = []
    for line in text.splitlines():
        bounds, size, *words = line.split()
        start = int(bounds.partition("-")[0], 16)
        if ((reserved[:, 0] <= start) & (start < reserved[:, 1])).any():
            continue
        words = [word for word in words if "+0x" not in word and not word.startswith("0xffff")]
        lines.append(" ".join([bounds, size, *words]))
    return sorted(lines)
