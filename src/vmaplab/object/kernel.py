# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own code as a :class:`~vmaplab.kernel.Kernel`: the same calls, the same :class:`Mapping`."""

from __future__ import annotations

import errno
import operator
import re
import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Dict
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.calls.flags import VM_ALLOC, VM_FLUSH_RESET_PERMS
from vmaplab.calls.options import BY, GFP, TAKE_GFP, ZEROING
from vmaplab.calls.table import check_cpu
from vmaplab.changes import Change
from vmaplab.config import parse_boot_args
from vmaplab.cost.counters import Cost
from vmaplab.cost.executed import Executed
from vmaplab.errors import InputError, KernelFault, Undefined, Violation, VmapError
from vmaplab.judge import FORMATS, invariants, walker
from vmaplab.mapping import ZEROES, Mapping, Part, VmArea, VmAreas, parts_of
from vmaplab.object.answers import Rest
from vmaplab.object.build import Built
from vmaplab.object.contents import Contents
from vmaplab.object.emulator import OWN_DATA, PAGE, PER_CPU, Emulator
from vmaplab.object.lowered import Lowered, signed_int
from vmaplab.object.memory import FREE_TABLES, HEAP_BYTES, OWED, SPARE_PAGES, GfpBits
from vmaplab.object.rules import Rules
from vmaplab.pages.heap import zone_of
from vmaplab.pfn import NULL_PFN
from vmaplab.release import of_version
from vmaplab.trace import L_STORE, L_TABLE_ALLOC, L_WARN, EventLog, Ints, WarnOn

TABLE_BYTES = 1 << 26
MAX_PAGES = 1 << 22
_INPUT = OWN_DATA + 0x1000_0000
_ROOTS = OWN_DATA + 0x2000_0000
_SCRATCH = 4096
_DEMAND = 1 << 16
_MAX_DEMAND, _KEPT_CHUNKS = 4096, 4
_DIRT = 0x5A
"""What is in pages that nobody has zeroed."""
_USER = 0x4000_0000
"""Where the process of remap_vmalloc_range_partial() maps."""
_REPLACED = ("vmap", "ioremap", "vmap_pages_range_noflush")
"""Calls whose C function can be another one."""
VALUES = (
    "gfp_zero",
    "page_kernel",
    "ioremap_prot",
    "vmalloc_start",
    "vmalloc_end",
    "page_shift",
    "warning",
    "section_pages",
    "task",
    "roots_bytes",
    "root_bytes",
    "phys_bits",
    "gfp_kernel",
    "mapcount",
    "refcount",
    "zero_page",
    "nr_cpus",
    "ioremap_max_order",
    "gfp_reclaim",
    "nr_vmalloc",
    "gfp_account",
    "gfp_fs",
    "gfp_io",
    "pf_memalloc_nofs",
    "pf_memalloc_noio",
    "task_flags",
    "gfp_nofail",
    "gfp_low",
    "gfp_highmem",
)


class ObjectKernel(Lowered):
    """One machine that runs the object ``built``, booted as far as ``vmalloc_init()``.

    Calls, units and errors are those of :class:`vmaplab.Kernel`; besides, any call may raise
    :class:`~vmaplab.errors.KernelFault`. ``vmap()`` returns NULL without an errno: ENOMEM stands for that.

    :param built: what :func:`vmaplab.object.build.build` gave.
    :param boot_args: any that the object itself parses.
    :param total_pages: pages of RAM, as for :class:`vmaplab.Kernel`, in whole memory sections.
    :param max_tables: page tables that can exist before the kernel runs out of memory.
    :param count: count instructions, loads, stores and barriers.
    :param trace: keep what each call executes, up to so many basic blocks and accesses, as :attr:`traced`.
    :param cpus: CPUs that are possible and online; more than one needs an object with CONFIG_SMP.
    :param log_lines: room for the stores, allocations and flushes of one call.
    :param instead: C functions of the object that methods call in place of their own, ``{"ioremap": "my_ioremap"}``:
        with the arguments of ``vmap()``, ``vmap_pages_range_noflush()``, and of ``vmaplab_ioremap()`` in support/.
    """

    _emulator = Emulator
    _others = Rest
    _most_pages = MAX_PAGES

    def __init__(
        self,
        built: Built,
        boot_args: str | Iterable[str] = (),
        *,
        total_pages: int | None = None,
        max_tables: int | None = None,
        count: bool = False,
        trace: int = 0,
        cpus: int = 1,
        log_lines: int = 1 << 16,
        instead: Dict[str, str] | None = None,
    ) -> None:
        self.built = built
        self._functions = {"vmap": built.call, "ioremap": "vmaplab_ioremap"}
        if unknown := set(instead or ()) - set(_REPLACED):
            raise InputError(f"{min(unknown)}() cannot be replaced; {', '.join(_REPLACED)} can")
        self._functions |= instead or {}
        self._row = of_version(built.version)
        self.arch: Arch = self._row.on(built.target.arch)
        self.boot_args = parse_boot_args(self.arch, boot_args)
        self.total_pages = total_pages
        self.cpus = operator.index(cpus)
        self._form = FORMATS[self.arch.name]
        self._rest = rest = self._others(self.arch, self.arch.table_base + TABLE_BYTES)
        rest.make_buddy = lambda: zone_of(self.arch, total_pages)
        if trace:
            rest.queued = {}  # each call is executed as it is written
        self._cpu = rest.cpu = cpu = self._emulator(built, rest, log_lines)
        rest.choose(built.answers)
        cpu.on_unmapped = self._demand
        self._demanded: list[int] = []
        self._zero_given = False
        self._executed: tuple[int, int, int, int] | None = None
        self._signalled = False
        self._page_structs: dict[int, NDArray[np.uint8]] = {}
        self._contents = Contents()
        self._percpu: dict[int, tuple[int, int]] = {}  # of pcpu_get_vm_areas(): first address -> array, its length
        self.traced: Executed | None = None
        self._room_for_trace = trace
        self._boot(count)
        self._log = EventLog()
        self._warnings: list[str] = []
        self._mappings: weakref.WeakValueDictionary[int, Mapping] = weakref.WeakValueDictionary()
        rest.limit = self._max_tables = max_tables

    # -- boot ---------------------------------------------------------------------------------------

    def _boot(self, count: bool) -> None:
        cpu, rest, arch, base = self._cpu, self._rest, self.arch, self._cpu.base
        if count:
            cpu.count_instructions()  # before any code is translated: what is translated already is not counted
        if self._room_for_trace:
            cpu.trace_execution(self._room_for_trace)
        rest.heap_start = base + OWN_DATA
        rest.heap = cpu.map(rest.heap_start, HEAP_BYTES).data
        self._input = cpu.map(base + _INPUT, MAX_PAGES * 8)
        self._out = base + _INPUT
        cpu.call("vmaplab_boot", arch.table_base, arch.table_base, self.built.target.levels)
        self.values = values = {name: cpu.call("vmaplab_value", number) for number, name in enumerate(VALUES)}
        rest.gfp, rest.scope = GfpBits(*(values[f"gfp_{name}"] for name in GfpBits._fields)), self._scope
        if cpu.family.task is not None:
            cpu.set_register(cpu.family.task, values["task"])
        self._set_up_cpus()
        if 1 << values["page_shift"] != arch.page_size:
            raise InputError(f"the object has pages of {1 << values['page_shift']} bytes, {arch.name} has others")
        cpu.map(base + _ROOTS, values["roots_bytes"] + 2 * values["root_bytes"] + _SCRATCH)
        addressable = 1 << (values["phys_bits"] - arch.page_shift)
        section = values["section_pages"]
        if (self.total_pages or 0) % section:
            raise InputError(
                f"pfn_valid() of {arch.name} goes by memory sections of {section} pages; "
                f"{self.total_pages} pages of RAM are no whole ones"
            )
        valid = min(self.total_pages or addressable, addressable)
        room = base + _ROOTS + values["roots_bytes"]
        cpu.call("vmaplab_memory", valid, self.total_pages or addressable, base + _ROOTS, room)
        self._page0 = cpu.call("vmaplab_pfn_to_page", 0)
        self._page_bytes = (cpu.call("vmaplab_pfn_to_page", 1) - self._page0) % (1 << 64)
        rest.page_of = lambda pfn: (self._page0 + pfn * self._page_bytes) % (1 << 64)
        rest.pfn_of = self._pfn_of
        tables = arch.table_base >> arch.page_shift
        cpu.set_apart(rest.page_of(tables), (TABLE_BYTES // arch.page_size + SPARE_PAGES) * self._page_bytes)
        rest.pages_of = self._page_pointers
        offset = (cpu.call("vmaplab_phys_to_virt", arch.table_base) - arch.table_base) % (1 << 64)
        rest.virt_of = lambda phys: (phys + offset) % (1 << 64)
        start = rest.virt_of(arch.table_base)
        self._table_bytes = cpu.map(start, TABLE_BYTES)
        cpu.map(start + TABLE_BYTES, SPARE_PAGES * arch.page_size)
        used = np.dtype(self._form.entry).itemsize << self._form.levels[-1][1]
        rest.first_table = arch.table_base + -(-used // arch.page_size) * arch.page_size
        rest.reset()
        self._set_up_warnings()
        for arg in self.boot_args:
            cpu.view(base + _INPUT, len(arg) + 1)[:] = np.frombuffer(arg.encode() + b"\0", dtype=np.uint8)
            if not cpu.call("vmaplab_boot_arg", base + _INPUT):
                raise InputError(f"this kernel does not parse the boot argument {arg}")
        # What the tree says of itself, after its boot arguments: those can change protections.
        for name in ("page_kernel", "ioremap_prot"):
            values[name] = cpu.call("vmaplab_value", VALUES.index(name))
        self.arch = replace(
            arch,
            page_kernel=values["page_kernel"],
            ioremap_prot=values["ioremap_prot"],
            vmalloc_start=values["vmalloc_start"],
            vmalloc_end=values["vmalloc_end"],
            ioremap_max_order=values["ioremap_max_order"],
            linear=rest.virt_of(0),
            huge_vmap="HAVE_ARCH_HUGE_VMAP" in self.built.config,
        )
        cpu.call("vmaplab_init")
        cpu.watch_tables(start, TABLE_BYTES, arch.table_base)
        forgiven = frozenset[str]() if self._row.has(Change.VMAP_PFN_SETS) else frozenset({"vmap_pfn"})
        counter = values["nr_vmalloc"] or None
        self._rules = Rules(
            cpu, rest, self._form, arch.table_base, arch.page_size, base + _INPUT + PAGE, forgiven, counter
        )
        cpu.take_log()
        self._kept = cpu.image_state(), rest.state(), cpu.view(rest.heap_start, rest.heap_used).copy()

    def _set_up_cpus(self) -> None:
        """CPU 0 keeps the linked per-CPU variables, the others get copies of them."""
        cpu, cpus, most = self._cpu, self.cpus, self.values["nr_cpus"]
        self._running_on = 0
        if cpus < 1:
            raise InputError(f"a machine has at least one CPU, not {cpus}")
        if cpus > most:
            what = "without CONFIG_SMP" if most == 1 else f"for at most {most} CPUs"
            raise InputError(f"the object is built {what}; for {cpus} CPUs build it with SMP=y NR_CPUS={cpus}")
        if cpus > 1:
            size = cpu.image.address("__per_cpu_end") - cpu.image.address("__per_cpu_start")
            stride = -(-size // PAGE) * PAGE
            cpu.map_kept(cpu.base + PER_CPU, (cpus - 1) * stride)
            cpu.call("vmaplab_add_cpus", cpus, cpu.base + PER_CPU, stride)

    def reset(self) -> None:
        """Back to the moment after boot, on CPU 0; everything mapped is forgotten."""
        cpu, rest = self._cpu, self._rest
        state, objects, heap = self._kept
        self._table_bytes[: rest.tables_end - self.arch.table_base] = 0
        cpu.restore_image(state)
        if self.cpus > 1:
            self.cpu = 0
        rest.restore(objects)
        cpu.view(rest.heap_start, len(heap))[:] = heap
        rest.limit = self._max_tables
        rest.fail(())
        self._zero_given = False
        self._contents = Contents()
        self._percpu.clear()
        if self._signalled:
            self._signalled = False
            self._rules.begin()
        self._drop(lambda address: True)
        for chunk in list(self._page_structs):
            if len(self._page_structs) > _KEPT_CHUNKS:
                cpu.unmap(chunk)
                del self._page_structs[chunk]
            else:
                self._new_page_structs(chunk)
        self._log = EventLog()
        self._warnings = []
        self._mappings.clear()
        cpu.take_log()

    def _set_up_warnings(self) -> None:
        """WARN() goes on and is told; BUG() ends the call."""
        cpu, rest, out = self._cpu, self._rest, self._cpu.base + _INPUT
        lines: dict[str, list[str]] = {}
        number = 0
        while cpu.call("vmaplab_bug", number, out):
            address, file, line, flags, form, entry = (int(value) for value in cpu.view(out, 48).view("<u8"))
            name = cpu.text(file)
            if name not in lines:
                path = self.built.tree / name
                lines[name] = path.read_text(errors="replace").splitlines() if path.is_file() else []
            source = lines[name][line - 1].strip() if 0 < line <= len(lines[name]) else ""
            function = _function_at(lines[name], line) or cpu.image.symbol(address)[0]
            text = f"{name}:{line} {function}: {source}"
            warning = bool(flags & self.values["warning"])
            told = partial(self._trapped, text, warning)
            if address:
                cpu.trap_at(address, told, warning)
            else:
                rest.bugs[entry] = told, form
            number += 1

    def _trapped(self, text: str, warning: bool, message: str = "") -> None:
        said = "; ".join([*self._rest.messages, *[message] * bool(message)])
        self._rest.messages.clear()
        if not warning:
            raise KernelFault(f"BUG at {text}")
        self._cpu.log_text(f"{text} [{said}]" if said else text)

    def _demand(self, address: int) -> bool:
        """Memory that is there only if somebody looks: page structs, and what the page tables map."""
        if len(self._demanded) + len(self._page_structs) >= _MAX_DEMAND:
            return False
        page = address & -self.arch.page_size
        if self._is_vmalloc(address):
            phys = self._look_up(page)
            if phys is None:
                return False
            dirty = phys >> self.arch.page_shift in self._rest.dirty
            self._cpu.map(page, self.arch.page_size)[:] = _DIRT if dirty else 0
            self._demanded.append(page)
            return True
        if (
            not self._is_own(address)
            and (address - self._page0) % (1 << 64) < self._page_bytes * self.arch.addressable_pages
        ):
            chunk = address & -_DEMAND
            self._page_structs[chunk] = self._cpu.map(chunk, _DEMAND)
            self._new_page_structs(chunk)
            return True
        return False

    def _is_own(self, address: int) -> bool:
        """Whether ``address`` lies in the image or beside it, or is none of the kernel's."""
        return self._cpu.base <= address < self._cpu.base + (1 << 31) or address < 1 << 32

    def _new_page_structs(self, chunk: int) -> None:
        """Pages as the page allocator hands them out: one reference, no type."""
        room = self._page_structs[chunk]
        room[:] = 0
        skip = (self._page0 - chunk) % self._page_bytes
        whole = room[skip : skip + (len(room) - skip) // self._page_bytes * self._page_bytes]
        fields = whole.reshape(-1, self._page_bytes)
        fields[:, self.values["mapcount"] : self.values["mapcount"] + 4] = 0xFF
        fields[:, self.values["refcount"]] = 1

    def _is_vmalloc(self, address: int) -> bool:
        return bool(self.values["vmalloc_start"] <= address < self.values["vmalloc_end"])

    # -- the calls ----------------------------------------------------------------------------------

    def _words(self, address: int, count: int) -> NDArray[np.uint64]:
        return self._cpu.view(address, 8 * count).view("<u8")

    def _vmalloc(self, gfp: int, by: int, **given: Any) -> Mapping:
        dirty = len(self._rest.dirty)
        self._forbid(GFP[gfp] if BY[by] in TAKE_GFP else "")
        mapping = super()._vmalloc(gfp, by, **given)
        zeroed = BY[by] in ZEROING or (BY[by] in TAKE_GFP and "__GFP_ZERO" in GFP[gfp])
        if zeroed and len(self._rest.dirty) > dirty:
            raise Violation(f"{BY[by]}() gives pages that nobody has zeroed, and was asked for zeroes")
        if given["flags"] & VM_FLUSH_RESET_PERMS:
            self._rest.direct |= dict.fromkeys(self._frames(mapping), OWED)
        self._contents.begin(mapping.addr, given["size"], zeroed)
        return mapping

    def _forbid(self, gfp: str) -> None:
        """What no allocation of the next call may do, and whether all wait for memory: it is called with ``gfp``."""
        both = self.values["gfp_fs"], self.values["gfp_io"]
        self._rest.waits = "__GFP_NOFAIL" in gfp
        self._rest.forbidden = {"GFP_NOFS": (gfp, both[0]), "GFP_NOIO": (gfp, both[0] | both[1])}.get(gfp, ("", 0))

    def _scope(self) -> int:
        """What allocations do not do, because the task is between memalloc_nofs_save(), or _noio_, and restore."""
        values = self.values
        flags = int(self._cpu.view(values["task_flags"], 4).view("<u4")[0])
        fs = values["gfp_fs"] if flags & (values["pf_memalloc_nofs"] | values["pf_memalloc_noio"]) else 0
        return fs | (values["gfp_io"] if flags & values["pf_memalloc_noio"] else 0)

    def _frames(self, mapping: Mapping) -> list[int]:
        """The page frames of what is mapped now."""
        entries = self._walk(mapping.addr, mapping.addr + mapping.size).entries
        _, phys = invariants.spread(entries, np.uint64(self.arch.page_size))
        frames: list[int] = (phys >> np.uint64(self.arch.page_shift)).tolist()
        return frames

    def _vrealloc(self, addr: int, size: int, gfp: int) -> Mapping:
        """What is in the memory goes with it; what is more is zero, if that was asked for each time."""
        kept = self._contents.write(addr, self._bytes_at)
        self._forbid(GFP[gfp])
        mapping = super()._vrealloc(addr, size, gfp)
        self._contents.move(addr, mapping.addr, size, "__GFP_ZERO" in GFP[gfp])
        self._contents.compare(mapping.addr, kept, self._bytes_at)
        return mapping

    def _bytes_at(self, page: int) -> NDArray[np.uint8] | None:
        """The memory that is mapped at ``page``, an address in vmalloc space; None if there is none."""
        if page not in self._demanded and not self._demand(page):
            return None
        return self._cpu.view(page, self.arch.page_size)

    def _pcpu_get_vm_areas(self, offsets: tuple[int, ...], sizes: tuple[int, ...], align: int) -> VmAreas:
        if not self._cpu.image.has("vmaplab_percpu"):
            raise InputError("pcpu_get_vm_areas() is there with CONFIG_SMP=y alone; say --cpus 2, or more")
        count, out = len(sizes), self._out
        extents = self._put(np.array([*offsets, *sizes], dtype=np.uint64))
        if not self._call("vmaplab_percpu", extents, count, align, out):
            raise VmapError(errno.ENOMEM, "pcpu_get_vm_areas() returned NULL")
        array, *told = (int(value) for value in self._cpu.view(out, 8 + 16 * count).view("<u8"))
        areas = tuple(VmArea(addr, size, VM_ALLOC) for addr, size in zip(told[::2], told[1::2], strict=True))
        base = (areas[0].addr - offsets[0]) % (1 << 64)
        for area, offset, size in zip(areas, offsets, sizes, strict=True):
            if (area.addr, area.size) != ((base + offset) % (1 << 64), size):
                raise Violation(
                    f"pcpu_get_vm_areas() gives {area.size:#x} bytes at {area.addr:#x} for {size:#x} at an offset of "
                    f"{offset:#x} from {base:#x}"
                )
        self._percpu[areas[0].addr] = array, count
        return VmAreas(areas)

    def _pcpu_free_vm_areas(self, addr: int) -> None:
        if addr not in self._percpu:
            raise VmapError(errno.EINVAL, f"not called: pcpu_get_vm_areas() gave no areas that begin at {addr:#x}")
        self._call("vmaplab_percpu_free", *self._percpu.pop(addr))

    def _remap_vmalloc_range_partial(self, kaddr: int, pgoff: int, size: int) -> list[int]:
        inserted, page = self._rest.inserted, self.arch.page_size
        inserted.clear()
        if err := -signed_int(self._call("vmaplab_remap", kaddr, pgoff, size, _USER)):
            raise VmapError(err, f"remap_vmalloc_range_partial() returned -{err}")
        if [addr for addr, _ in inserted] != list(range(_USER, _USER + len(inserted) * page, page)):
            raise Violation("remap_vmalloc_range_partial() does not map each page of the process in turn")
        return [pfn for _, pfn in inserted]

    def _vmalloc_dump_obj(self, addr: int) -> str:
        self._rest.printed.clear()
        known = self._call("vmalloc_dump_obj", addr) & 1
        said = "".join(self._rest.printed).partition(" allocated at ")[0]
        if known != bool(said):
            raise Violation(f"vmalloc_dump_obj() returns {known} and prints '{said}'")
        return said

    def _vread(self, addr: int, count: int) -> list[Part]:
        self._rest.copied.clear()
        self._call("vread_iter", self._out, addr, count)
        copied, shift = self._rest.copied, self.arch.page_shift
        mapped: set[int] = set()
        if self._zero_given:
            entries = self._walk(addr, min(addr + count, 1 << 64)).entries
            va, phys = invariants.spread(entries, np.uint64(self.arch.page_size))
            mapped = set(va[phys >> np.uint64(shift) == self._pfn_of(self.values["zero_page"])].tolist())
        parts: list[tuple[int, int]] = []
        for page, offset, size in copied:
            filled = page == self.values["zero_page"] and addr & -self.arch.page_size not in mapped
            parts.append((size, ZEROES if filled else (self._pfn_of(page) << shift) + offset))
            addr += size
        return parts_of(parts)

    def _vmalloc_info(self) -> str:
        self._rest.text.clear()
        self._call("vmaplab_vmallocinfo", self._out)
        return "".join(self._rest.text)

    @property
    def cpu(self) -> int:
        """The CPU on which the calls run."""
        return self._running_on

    @cpu.setter
    def cpu(self, number: int) -> None:
        number = check_cpu(number, self.cpus)
        if self.cpus > 1 and self._cpu.call("vmaplab_set_cpu", number) != number:
            raise InputError(f"{self.code} has no CPU numbers where vmaplab puts them")
        self._running_on = number

    # -- what they left -----------------------------------------------------------------------------

    @property
    def code(self) -> str:
        """Whose code this is: the tree's version."""
        return self.built.code

    @property
    def log(self) -> EventLog:
        """Everything that happened so far, in compact rows."""
        return self._log

    @property
    def warnings(self) -> list[str]:
        """Which WARN_ON() fired so far, in order, as file, line and source."""
        return self._warnings

    @property
    def executed(self) -> tuple[int, int, int, int] | None:
        """Instructions, loads, stores and barriers of the last call; None if they are not counted."""
        return self._executed

    @property
    def ran(self) -> NDArray[np.uint8]:
        """What has run of the code since boot: see :attr:`.Emulator.ran`."""
        return self._cpu.ran

    def live_tables(self) -> NDArray[np.uint8]:
        """The page tables in use, as bytes from the PGD on; free ones are zeroes. A view while none is free."""
        base, page = self.arch.table_base, self.arch.page_size
        found = self._table_bytes[: self._rest.tables_end - base]
        free = self._rest.free_tables
        if free:
            found = found.copy()
            for phys in free:
                found[phys - base : phys - base + page] = 0
        return found

    @property
    def live_objects(self) -> int:
        """Slab objects that the vmalloc code holds now, those that stand for free address space aside."""
        return self._rest.live_objects - self._cpu.call("vmaplab_free_areas", 0)

    @property
    def objects(self) -> Counter[tuple[int, int]]:
        """Slab objects in use, nodes of xarrays aside: (bytes, what their allocation returned to) -> how many."""
        return self._rest.objects

    def place_text(self, place: int) -> str:
        """Function, file and line of a place of :attr:`objects`."""
        return self._cpu.place(place)

    @property
    def free_bytes(self) -> int:
        """Bytes of address space that no area has and that wait for no purge."""
        return self._cpu.call("vmaplab_free_areas", 1)

    @property
    def null_pfn(self) -> int:
        """The PFN whose ``struct page`` would be at address 0: as good as a NULL page (arm64 of 6.1 has one)."""
        pfn, rest = divmod(-self._page0 % (1 << 64), self._page_bytes)
        return NULL_PFN if rest else pfn

    @property
    def areas_taken(self) -> list[int]:
        """Addresses of the areas taken since boot, in order; empty where the model has the same allocator."""
        return self._rest.areas

    @property
    def taken_pages(self) -> int:
        """Pages of the page allocator that are in use, tables aside."""
        return self._rest.taken_pages

    def log_pages(self) -> list[NDArray[np.uint64]]:
        """A list to which the page allocator adds what it hands out from now on."""
        return self._rest.log_pages()

    @property
    def table_root(self) -> int:
        """Physical address of the PGD."""
        return self.arch.table_base

    def fail(self, numbers: Iterable[int]) -> None:
        """Let allocations fail: those with these numbers, counted from 0 from now on.

        Counted is what the kernel's code asks for: slab objects, page tables, pages.
        """
        self._rest.fail(numbers)

    @property
    def allocations(self) -> int:
        """Allocations tried since the last :meth:`fail`, or since boot."""
        return self._rest.attempts

    def check_heap(self) -> None:
        """Look for stores behind slab objects, and for pages that were taken for a while and kept.

        :raises KernelFault: if there was one.
        """
        self._rest.check_heap()
        self._rules.trees_hold()

    def reserve(self, areas: Iterable[tuple[int, int]]) -> None:
        """Have areas in use that begin and end there, as another kernel has since boot."""
        for start, end in areas:
            if self._call("vmaplab_reserve", start, end) != start:
                raise InputError(f"{self.code} has no area [{start:#x}, {end:#x}) for what is there since boot")

    def set_signal(self, pending: bool) -> None:
        """Let a fatal signal be pending for the task that calls, or none."""
        self._cpu.call("vmaplab_signal", int(pending))
        self._rules.begin()
        self._signalled = True

    def set_limit(self, max_tables: int | None) -> None:
        """Let at most ``max_tables`` tables exist from now on."""
        self._rest.limit = max_tables

    def limit_pages(self, most: int, largest: int | None = None) -> None:
        """Let vmalloc() have at most ``most`` pages at a time, in blocks of any order, or of ``largest`` at most."""
        self._rest.limit_pages(most, largest)

    def leaves(self, start: int, end: int) -> NDArray[Any]:
        """All leaves that map part of [start, end), as ``LEAF_DTYPE``, ascending."""
        return invariants.leaves(self._walk(start, end).entries, self.arch.page_size)

    def _walk(self, start: int, end: int) -> walker.Walk:
        """The entries that map part of [start, end), read as the manual says."""
        return walker.walk(self.live_tables(), self.arch.table_base, self.table_root, self._form, start, end)

    def _look_up(self, addr: int) -> int | None:
        """The physical address that ``addr`` is mapped to."""
        return walker.look_up(self._table_bytes, self.arch.table_base, self.table_root, self._form, addr)

    # -- shared -------------------------------------------------------------------------------------

    def _put(self, array: NDArray[np.uint64]) -> int:
        """Write ``array`` to the machine's memory, where nothing is mapped behind it; returns its address."""
        start = len(self._input) - 8 * len(array)
        self._input[start:].view(np.uint64)[:] = array
        return self._cpu.base + _INPUT + start

    def _page_pointers(self, pfns: NDArray[np.uint64]) -> NDArray[np.uint64]:
        pointers = super()._page_pointers(pfns)
        # The zero page is a page of RAM as well, which somebody can have mapped.
        self._zero_given |= bool((pointers == self.values["zero_page"]).any())
        return pointers

    def _call(self, function: str, *arguments: int) -> int:
        """Call ``function``, then what it queued; log what happened."""
        cpu = self._cpu
        seen = len(self.log)
        try:
            result = cpu.call(function, *arguments)
            self._forbid("")
            self._executed, self.traced = cpu.counts(), cpu.executed()  # what it queued is not its own
            self._take_log()
            self._rules.after(function.removeprefix("vmaplab_"), self.log.rows(seen))
            self._run_queued()
            self._rules.settled()
        except Undefined:
            raise
        except KernelFault as fault:
            if self._is_vmalloc(_nowhere(str(fault))):
                raise KernelFault(f"BUG at a page fault in vmalloc space: {fault}") from None
            if (page := self._no_table(str(fault))) is not None:
                raise Undefined(f"{fault}: it goes through a leaf that maps page frame {page:#x}") from None
            if self._frees_leaf(str(fault)):
                raise Undefined(f"{fault}: it frees what a leaf maps as if it were a table") from None
            raise KernelFault(f"{fault}{self._behind(str(fault))}") from None
        finally:
            self._forbid("")
            self._take_log()
        if self._demanded and (self.log.rows(seen)[:, 0] == L_STORE).any():
            self._drop(lambda address: self._look_up(address) is None)
        return result

    def _run_queued(self) -> None:
        """Run the works and the callbacks that wait, and what they queue."""
        cpu, rest = self._cpu, self._rest
        while rest.work or rest.callbacks:
            if rest.work:
                work = next(iter(rest.work))
                cpu.call("vmaplab_run_work", work, rest.work.pop(work))
            else:
                cpu.call("vmaplab_run_rcu", *rest.callbacks.pop(0))

    def _behind(self, fault: str) -> str:
        """What lies in front of the address that ``fault`` names, if that tells something."""
        distance = _nowhere(fault) - (self._cpu.base + _INPUT + len(self._input))
        return f": word {distance // 8} behind the page array" if 0 <= distance < self.arch.page_size else ""

    def _no_table(self, fault: str) -> int | None:
        """The page frame that ``fault`` names by its address in the linear map, where only tables are."""
        address = _nowhere(fault)
        phys = address - self._rest.virt_of(0)
        if not address or self._is_own(address) or not 0 <= phys < 1 << self.arch.phys_bits:
            return None
        return phys >> self.arch.page_shift

    def _frees_leaf(self, fault: str) -> bool:
        """Whether a function that frees tables went wrong where what it cleared last was, or has, a leaf.

        riscv has no linear address for frames below its RAM: what it takes for a table's page struct is anywhere.
        """
        if not fault.startswith(tuple(f"{name}+" for name in FREE_TABLES)):
            return False
        self._take_log()
        rows = self.log.rows()
        stores = rows[rows[:, 0] == L_STORE]
        there = stores[stores[:, 1] == stores[-1, 1], 2] if len(stores) else stores[:, 2]
        if len(there) < 2 or there[-1]:
            return False
        upper = [
            self._form.decode(level, there[-2:-1].view(np.uint64)) for level in (1, 2)[: len(self._form.levels) - 1]
        ]
        if any(it.valid[0] and it.leaf[0] for it in upper):
            return True
        start = int(upper[0].phys[0]) - self.arch.table_base
        if not 0 <= start < len(self._table_bytes):
            return False
        below = self._table_bytes[start : start + self.arch.page_size].view(self._form.entry).astype(np.uint64)
        lower = [self._form.decode(level, below) for level in (0, 1)]
        return any(bool((it.valid & it.leaf).any()) for it in lower)

    def _take_log(self) -> None:
        rows, texts = self._cpu.take_log()
        first = len(self.log.texts)
        if texts:
            told = np.flatnonzero(rows[:, 0] == L_WARN)
            rows[told, 2] = [WarnOn.of(texts[number]) for number in rows[told, 1]]
            rows[told, 1] += first
            self.log.texts += texts
            self._warnings += texts
        self.log.extend(rows)

    def _drop(self, gone: Callable[[int], bool]) -> None:
        """Memory in vmalloc space goes with its mapping."""
        for address in [address for address in self._demanded if gone(address)]:
            self._cpu.unmap(address)
            self._demanded.remove(address)

    def _mapping(self, addr: int, size: int, seen: int) -> Mapping:
        log, until, pages = self.log, len(self.log), size >> self.arch.page_shift
        executed, levels = self._executed, self._rest.tables

        def cost(leaves: NDArray[Any]) -> Cost:
            rows = log.rows(seen, until)
            tables = int((rows[:, 0] == L_TABLE_ALLOC).sum())
            return Cost.measured(pages, len(leaves), self._entries(rows, levels), tables, executed)

        mapping = Mapping(addr, size, cost, lambda: self.leaves(addr, addr + size), lambda: log.events(seen, until))
        self._mappings[addr] = mapping
        return mapping

    def _entries(self, rows: Ints, tables: dict[int, int]) -> int:
        """How many of the stores were to leaf entries."""
        stores = rows[rows[:, 0] == L_STORE]
        where, inverse = np.unique(stores[:, 1] & -self.arch.page_size, return_inverse=True)
        top = len(self._form.levels) - 1
        levels = np.array([tables.get(phys, top) for phys in where.tolist()], dtype=np.int64)[inverse]
        found = 0
        for level in np.unique(levels).tolist():
            it = self._form.decode(level, stores[levels == level, 2].view(np.uint64))
            found += int((it.valid & it.leaf).sum())
        return found


def _nowhere(fault: str) -> int:
    """The address that ``fault`` names as one where no memory is, or 0."""
    match = re.search(r" (0x[0-9a-f]+), where no memory is$", fault)
    return int(match[1], 16) if match else 0


def _function_at(lines: list[str], line: int) -> str:
    """The function whose body has ``line`` (from 1) of a C source in kernel style; the compiler may have inlined it."""
    for text in reversed(lines[:line]):
        if text[:1].isalpha() and "(" in text and not text.rstrip().endswith((";", ":")):
            match = re.search(r"(\w+)\s*\(", text)
            return match[1] if match else ""
    return ""
