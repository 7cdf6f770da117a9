"""The kernel's own code as a :class:`~vmaplab.kernel.Kernel`: the same calls, the same :class:`Mapping`."""

from __future__ import annotations

import errno
import operator
import re
import weakref
from collections.abc import Callable, Iterable
from collections.abc import Mapping as Dict
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmaplab import NULL_PFN
from vmaplab.arch import Arch
from vmaplab.config import parse_boot_args
from vmaplab.cost import Cost
from vmaplab.errors import InputError, KernelFault, Undefined, VmapError
from vmaplab.kernel import NUMA_NO_NODE, check_chunks, check_node, zone_of
from vmaplab.mapping import LEAF_DTYPE, Event, EventLog, Mapping
from vmaplab.object.answers import FREE_TABLES, HEAP_BYTES, SPARE_PAGES, Rest
from vmaplab.object.build import Built
from vmaplab.object.emulator import OWN_DATA, PAGE, PER_CPU, Emulator
from vmaplab.pages.array import check_page_size, page_array
from vmaplab.pgtable.geometry import Geometry, Ints, geometry, signed
from vmaplab.pgtable.memory import L_STORE, L_TABLE_ALLOC, L_WARN, Tables, table_of
from vmaplab.pgtable.unmap import list_leaves, translate
from vmaplab.release import of_version
from vmaplab.vmalloc.flags import VM_MAP
from vmaplab.vmalloc.operation import check_cpu
from vmaplab.vmalloc.vread import ZEROES, Part, joined

TABLE_BYTES = 1 << 26
MAX_PAGES = 1 << 22
_INPUT = OWN_DATA + 0x1000_0000
_ROOTS = OWN_DATA + 0x2000_0000
_SCRATCH = 4096
_DEMAND = 1 << 16
_MAX_DEMAND, _KEPT_CHUNKS = 4096, 4
_FUNCTIONS = {"ioremap": "vmaplab_ioremap", "vmap_pages_range_noflush": "vmap_pages_range_noflush"}
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
)


class ObjectKernel:
    """One machine that runs the object ``built``, booted as far as ``vmalloc_init()``.

    Calls, units and errors are those of :class:`vmaplab.Kernel`; besides, any call may raise
    :class:`~vmaplab.errors.KernelFault`. ``vmap()`` returns NULL without an errno: ENOMEM stands for that.

    :param built: what :func:`vmaplab.object.build.build` gave.
    :param boot_args: any that the object itself parses.
    :param total_pages: pages of RAM, as for :class:`vmaplab.Kernel`, in whole memory sections.
    :param max_tables: page tables that can exist before the kernel runs out of memory.
    :param count: count instructions, loads, stores and barriers.
    :param cpus: CPUs that are possible and online; more than one needs an object with CONFIG_SMP.
    :param log_lines: room for the stores, allocations and flushes of one call.
    :param instead: C functions of the object that methods call in place of their own, ``{"ioremap": "my_ioremap"}``:
        with the arguments of ``vmap()``, ``vmap_pages_range_noflush()``, and of ``vmaplab_ioremap()`` in support/.
    """

    def __init__(
        self,
        built: Built,
        boot_args: str | Iterable[str] = (),
        *,
        total_pages: int | None = None,
        max_tables: int | None = None,
        count: bool = False,
        cpus: int = 1,
        log_lines: int = 1 << 16,
        instead: Dict[str, str] | None = None,
    ) -> None:
        self.built = built
        self._functions = {"vmap": built.call, **_FUNCTIONS}
        if unknown := set(instead or ()) - set(self._functions):
            raise InputError(f"{min(unknown)}() cannot be replaced; {', '.join(self._functions)} can")
        self._functions |= instead or {}
        self.arch: Arch = of_version(built.version).on(built.target.arch)
        self.boot_args = parse_boot_args(self.arch, boot_args)
        self.total_pages = total_pages
        self.cpus = operator.index(cpus)
        self._g: Geometry = geometry(  # to read tables: every leaf that the architecture has
            self.arch,
            block_leaves=True,
            group_hooks=True,
            group_maps=True,
            group_multi=True,
            pfn_limit=self.arch.addressable_pages,
        )
        self._rest = rest = Rest(self.arch, self.arch.table_base + TABLE_BYTES)
        rest.make_buddy = lambda: zone_of(self.arch, total_pages)
        self._cpu = rest.cpu = cpu = Emulator(built, rest.answer, log_lines)
        rest.choose(built.answers)
        cpu.on_unmapped = self._demand
        self._demanded: list[int] = []
        self._executed: tuple[int, int, int, int] | None = None
        self._page_structs: dict[int, NDArray[np.uint8]] = {}
        self._boot(count)
        self.log = EventLog()
        self.warnings: list[str] = []
        self._mappings: weakref.WeakValueDictionary[int, Mapping] = weakref.WeakValueDictionary()
        rest.limit = self._max_tables = max_tables

    # -- boot ---------------------------------------------------------------------------------------

    def _boot(self, count: bool) -> None:
        cpu, rest, arch, base = self._cpu, self._rest, self.arch, self._cpu.base
        if count:
            cpu.count_instructions()  # before any code is translated: what is translated already is not counted
        rest.heap_start = base + OWN_DATA
        rest.heap = cpu.map(rest.heap_start, HEAP_BYTES).data
        self._input = cpu.map(base + _INPUT, MAX_PAGES * 8)
        cpu.call("vmaplab_boot", arch.table_base, arch.table_base, self.built.target.levels)
        self.values = values = {name: cpu.call("vmaplab_value", number) for number, name in enumerate(VALUES)}
        rest.gfp_zero = values["gfp_zero"]
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
        rest.pages_of = self._page_pointers
        offset = (cpu.call("vmaplab_phys_to_virt", arch.table_base) - arch.table_base) % (1 << 64)
        rest.virt_of = lambda phys: (phys + offset) % (1 << 64)
        start = rest.virt_of(arch.table_base)
        self._table_bytes = cpu.map(start, TABLE_BYTES)
        cpu.map(start + TABLE_BYTES, SPARE_PAGES * arch.page_size)
        self._words = self._table_bytes.view(np.int64)
        used = int(self._g.words[self._g.top]) * 8
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
            huge_vmap="HAVE_ARCH_HUGE_VMAP" in self.built.config,
        )
        cpu.call("vmaplab_init")
        cpu.watch_tables(start, TABLE_BYTES, arch.table_base)
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
        self._drop(lambda address: True)
        for chunk in list(self._page_structs):
            if len(self._page_structs) > _KEPT_CHUNKS:
                cpu.unmap(chunk)
                del self._page_structs[chunk]
            else:
                self._new_page_structs(chunk)
        self.log = EventLog()
        self.warnings = []
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
            if translate(self._tables(), self._g, signed(page)) < 0:
                return False
            self._cpu.map(page, self.arch.page_size)
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

    def vmap(self, pfns: ArrayLike, flags: int = VM_MAP, prot: int | None = None) -> Mapping:
        """``vmap(pages, count, flags, prot)``, or what stands for it."""
        array = page_array(pfns)
        check_page_size(pfns, self.arch)
        pages = self._put_pages(array)
        value = self.values["page_kernel"] if prot is None else prot
        seen = len(self.log)
        function = self._functions["vmap"]
        addr = self._call(function, pages, len(array), flags, value)
        if not addr:
            raise VmapError(errno.ENOMEM, f"{function}() returned NULL")
        return self._mapping(addr, len(array) << self.arch.page_shift, seen)

    def vunmap(self, addr: int) -> None:
        """``vunmap(addr)``."""
        self._see(addr)
        self._call("vunmap", addr)

    def vfree(self, addr: int) -> None:
        """``vfree(addr)``."""
        self._see(addr)
        self._call("vfree", addr)

    def vmalloc(self, size: int, flags: int = 0, node: int = NUMA_NO_NODE) -> Mapping:
        """``__vmalloc_node_range(size, 1, VMALLOC_START, VMALLOC_END, GFP_KERNEL, PAGE_KERNEL, flags, ...)``.

        :raises InputError: for a node that the machine does not have.
        """
        check_node(node)
        seen = len(self.log)
        addr = self._call("vmaplab_vmalloc", size, flags)
        if not addr:
            raise VmapError(errno.ENOMEM, "vmalloc() returned NULL")
        return self._mapping(addr, -(-size // self.arch.page_size) * self.arch.page_size, seen)

    def ioremap(self, phys: int, size: int, prot: int | None = None) -> Mapping:
        """What ``ioremap()`` does: an area with VM_IOREMAP, and ``ioremap_page_range()``."""
        start = phys & -self.arch.page_size
        length = -(-(phys + size - start) // self.arch.page_size) * self.arch.page_size
        value = self.values["ioremap_prot"] if prot is None else prot
        seen = len(self.log)
        out = self._cpu.base + _INPUT
        self._cpu.view(out, 8).view("<i8")[0] = 0
        addr = self._call(self._functions["ioremap"], start, length, value, out)
        if not addr:
            err = -int(self._cpu.view(out, 8).view("<i8")[0]) or errno.ENOMEM
            raise VmapError(err, "ioremap() failed")
        return self._mapping(addr, length, seen)

    def iounmap(self, addr: int) -> None:
        """What ``iounmap()`` does: ``vunmap()`` of the page."""
        self.vunmap(addr & -self.arch.page_size)

    def vmap_page_range(self, addr: int, end: int, phys: int, prot: int | None = None) -> None:
        """``vmap_page_range(addr, end, phys, prot)``."""
        self._errno("vmaplab_vmap_page_range", addr, end, phys, self.values["page_kernel"] if prot is None else prot)

    def vmap_pages_range_noflush(self, addr: int, pfns: ArrayLike, shift: int | None = None) -> None:
        """``vmap_pages_range_noflush(addr, end, PAGE_KERNEL, pages, shift)``."""
        array = page_array(pfns)
        pages = self._put_pages(array)
        end = addr + (len(array) << self.arch.page_shift)
        shift = check_chunks(self.arch, len(array), shift)
        function = self._functions["vmap_pages_range_noflush"]
        # From 6.19 on it also takes GFP flags; what does not, leaves that register alone.
        self._errno(function, addr, end, self.values["page_kernel"], pages, shift, self.values["gfp_kernel"])

    def vunmap_range(self, addr: int, end: int) -> None:
        """``vunmap_range(addr, end)``."""
        self._call("vunmap_range", addr, end)

    def vm_map_ram(self, pfns: ArrayLike, node: int = NUMA_NO_NODE) -> Mapping:
        """``vm_map_ram(pages, count, node)``."""
        array = page_array(pfns)
        seen = len(self.log)
        addr = self._call("vm_map_ram", self._put_pages(array), len(array), node % (1 << 32))
        if not addr:
            raise VmapError(errno.ENOMEM, "vm_map_ram() returned NULL")
        return self._mapping(addr, len(array) << self.arch.page_shift, seen)

    def vm_unmap_ram(self, addr: int, count: int) -> None:
        """``vm_unmap_ram(mem, count)``."""
        self._see(addr)
        self._call("vm_unmap_ram", addr, count)

    def vmap_pfn(self, pfns: ArrayLike, prot: int | None = None) -> Mapping:
        """``vmap_pfn(pfns, count, prot)``."""
        array = page_array(pfns)
        value = self.values["page_kernel"] if prot is None else prot
        seen = len(self.log)
        addr = self._call("vmap_pfn", self._put(array), len(array), value)
        if not addr:
            raise VmapError(errno.ENOMEM, "vmap_pfn() returned NULL")
        return self._mapping(addr, len(array) << self.arch.page_shift, seen)

    def vm_area_map_pages(self, area: int, start: int, pfns: ArrayLike) -> None:
        """``vm_area_map_pages(area, start, end, pages)``; the area by its address."""
        array = page_array(pfns)
        end = start + (len(array) << self.arch.page_shift)
        self._errno("vmaplab_map_pages", area, start, end, self._put_pages(array))

    def vm_area_unmap_pages(self, area: int, start: int, end: int) -> None:
        """``vm_area_unmap_pages(area, start, end)``."""
        self._call("vmaplab_unmap_pages", area, start, end)

    def vread(self, addr: int, count: int) -> list[Part]:
        """``vread_iter()``: where each of ``count`` bytes comes from."""
        self._rest.copied.clear()
        self._call("vread_iter", self._cpu.base + _INPUT, addr, count)
        zeroes = self.values["zero_page"]
        shift = self.arch.page_shift
        parts = [
            (size, ZEROES if page == zeroes else (self._pfn_of(page) << shift) + offset)
            for page, offset, size in self._rest.copied
        ]
        return joined(parts)

    def vmalloc_info(self) -> str:
        """The text of ``/proc/vmallocinfo``, but for the callers."""
        self._rest.text.clear()
        self._call("vmaplab_vmallocinfo", self._cpu.base + _INPUT)
        return "".join(self._rest.text)

    def vm_unmap_aliases(self) -> None:
        """``vm_unmap_aliases()``."""
        self._call("vm_unmap_aliases")

    def vmalloc_to_pfn(self, addr: int) -> int:
        """``vmalloc_to_page(addr)``, as a PFN."""
        page = self._call("vmalloc_to_page", operator.index(addr) % (1 << 64))
        if not page:
            raise VmapError(errno.EINVAL, f"nothing is mapped at {addr:#x}")
        return self._pfn_of(page)

    def get_vm_area(self, size: int, flags: int = VM_MAP) -> int:
        """``get_vm_area(size, flags)``; returns the address of the area."""
        addr = self._call("vmaplab_get_vm_area", size, flags)
        if not addr:
            raise VmapError(errno.ENOMEM, f"no area of {size} bytes")
        return addr

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
    def executed(self) -> tuple[int, int, int, int] | None:
        """Instructions, loads, stores and barriers of the last call; None if they are not counted."""
        return self._executed

    @property
    def events(self) -> list[Event]:
        """Everything that happened so far, in order."""
        return self.log.events()

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

    records = True
    """Events are always kept."""

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

    def set_limit(self, max_tables: int | None) -> None:
        """Let at most ``max_tables`` tables exist from now on."""
        self._rest.limit = max_tables

    def leaves(self, start: int, end: int) -> NDArray[Any]:
        """All leaves that map part of [start, end), as ``LEAF_DTYPE``, ascending."""
        room = np.zeros(((end - start) >> self.arch.page_shift, 3), dtype=np.int64)
        found = list_leaves(self._tables(), self._g, signed(start), signed(start) + end - start, room)
        return room[:found].view(LEAF_DTYPE).reshape(-1)

    # -- shared -------------------------------------------------------------------------------------

    def _see(self, addr: int) -> None:
        """The owner of a mapping may ask for its leaves when it is gone."""
        for start, mapping in list(self._mappings.items()):
            if start <= addr <= start + mapping.size:  # the guard page stands for the area too
                mapping.cost  # noqa: B018
                del self._mappings[start]

    def _pfn_of(self, page: int) -> int:
        distance = (page - self._page0) % (1 << 64)
        return (distance - (1 << 64) if distance >> 63 else distance) // self._page_bytes

    def _put_pages(self, array: NDArray[np.uint64]) -> int:
        """Write ``struct page *`` for each PFN to the machine's memory; returns the address of the array."""
        if len(array) > MAX_PAGES:
            raise InputError(f"{len(array)} pages; the emulated machine takes {MAX_PAGES} in a call")
        return self._put(self._page_pointers(array))

    def _put(self, array: NDArray[np.uint64]) -> int:
        """Write ``array`` to the machine's memory, where nothing is mapped behind it; returns its address."""
        start = len(self._input) - 8 * len(array)
        self._input[start:].view(np.uint64)[:] = array
        return self._cpu.base + _INPUT + start

    def _page_pointers(self, pfns: NDArray[np.uint64]) -> NDArray[np.uint64]:
        with np.errstate(over="ignore"):
            pointers = pfns * np.uint64(self._page_bytes) + np.uint64(self._page0)
        pointers[pfns == NULL_PFN] = 0
        return pointers

    def _call(self, function: str, *arguments: int) -> int:
        """Call ``function``, then what it queued; log what happened."""
        cpu, rest = self._cpu, self._rest
        try:
            result = cpu.call(function, *arguments)
            self._executed = cpu.counts()  # what it queued is not its own
            while rest.work or rest.callbacks:
                if rest.work:
                    work = next(iter(rest.work))
                    cpu.call("vmaplab_run_work", work, rest.work.pop(work))
                else:
                    cpu.call("vmaplab_run_rcu", *rest.callbacks.pop(0))
        except Undefined:
            raise
        except KernelFault as fault:
            if (page := self._no_table(str(fault))) is not None:
                raise Undefined(f"{fault}: it goes through a leaf that maps page frame {page:#x}") from None
            if self._frees_leaf(str(fault)):
                raise Undefined(f"{fault}: it frees what a leaf maps as if it were a table") from None
            raise KernelFault(f"{fault}{self._behind(str(fault))}") from None
        finally:
            self._take_log()
        if self._demanded:
            self._drop(lambda address: translate(self._tables(), self._g, signed(address)) < 0)
        return result

    def _behind(self, fault: str) -> str:
        """What lies in front of the address that ``fault`` names, if that tells something."""
        match = re.search(r" (0x[0-9a-f]+), where no memory is$", fault)
        distance = int(match[1], 16) - (self._cpu.base + _INPUT + len(self._input)) if match else -1
        return f": word {distance // 8} behind the page array" if 0 <= distance < self.arch.page_size else ""

    def _no_table(self, fault: str) -> int | None:
        """The page frame that ``fault`` names by its address in the linear map, where only tables are."""
        match = re.search(r" (0x[0-9a-f]+), where no memory is$", fault)
        address = int(match[1], 16) if match else 0
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
        first = table_of(self._g, int(there[-2]))
        below = self._words[first : first + self.arch.page_size // 8] if first >= 0 else there[:0]
        cleared = np.append(below, there[-2])
        return bool((cleared & self._g.leaf_mask == self._g.leaf_value).any())

    def _take_log(self) -> None:
        rows, texts = self._cpu.take_log()
        first = len(self.log.texts)
        if texts:
            rows[rows[:, 0] == L_WARN, 1] += first
            self.log.texts += texts
            self.warnings += texts
        self.log.extend(rows)

    def _drop(self, gone: Callable[[int], bool]) -> None:
        """Memory in vmalloc space goes with its mapping."""
        for address in [address for address in self._demanded if gone(address)]:
            self._cpu.unmap(address)
            self._demanded.remove(address)

    def _errno(self, function: str, *arguments: int) -> None:
        result = self._call(function, *arguments) & 0xFFFF_FFFF  # an int
        err = (1 << 32) - result if result >> 31 else 0
        if err:
            raise VmapError(err, f"{function.removeprefix('vmaplab_')}() returned -{err}")

    def _tables(self) -> Tables:
        nothing = np.zeros((0, 4), dtype=np.int64)
        return Tables(self._words, np.zeros(16, dtype=np.int64), np.zeros(8, dtype=np.int64), nothing)

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
        last = np.array([tables.get(phys, self._g.top) == 0 for phys in where.tolist()], dtype=bool)
        mask, value = self._g.leaf_mask, self._g.leaf_value
        leaf = (stores[:, 2] & mask == value) | (last[inverse] if len(where) else False)
        return int((leaf & (stores[:, 2] != 0)).sum())


def _function_at(lines: list[str], line: int) -> str:
    """The function whose body has ``line`` (from 1) of a C source in kernel style; the compiler may have inlined it."""
    for text in reversed(lines[:line]):
        if text[:1].isalpha() and "(" in text and not text.rstrip().endswith((";", ":")):
            match = re.search(r"(\w+)\s*\(", text)
            return match[1] if match else ""
    return ""
