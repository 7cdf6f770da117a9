"""What the rest of the kernel answers when the vmalloc code calls it: slab, page allocator, printk, workqueues.

Names are the kernel's, without the ``_noprof`` that allocation profiling appends since 6.10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.errors import KernelFault
from vmaplab.pages import heap
from vmaplab.pgtable.memory import L_FLUSH_TLB, L_FLUSH_VMAP, L_FLUSH_VUNMAP, L_TABLE_ALLOC, L_TABLE_FREE

if TYPE_CHECKING:
    from vmaplab.object.emulator import Emulator

_SILENT = """
__raw_spin_lock_init __rwlock_init __init_rwsem lockdep_init_map_type lock_acquire lock_release
preempt_schedule preempt_schedule_notrace preempt_count_add preempt_count_sub __might_sleep __might_resched
trace_hardirqs_on trace_hardirqs_off lockdep_rcu_suspicious debug_lockdep_rcu_enabled __preempt_count_dec_and_test
__this_cpu_preempt_check
mutex_lock mutex_lock_nested mutex_unlock mutex_init __mutex_init down_read up_read down_write up_write
_raw_spin_lock _raw_spin_unlock _raw_spin_lock_irqsave _raw_spin_unlock_irqrestore _raw_spin_lock_bh
_raw_spin_unlock_bh _raw_read_lock _raw_read_unlock _raw_write_lock _raw_write_unlock
queued_spin_lock_slowpath __local_bh_enable_ip __local_bh_disable_ip __cond_resched __cond_resched_lock
synchronize_rcu rcu_barrier __rcu_read_lock __rcu_read_unlock
schedule_timeout_uninterruptible blocking_notifier_call_chain
shrinker_register split_page arch_sync_kernel_mappings dump_page mod_node_page_state
debug_check_no_obj_freed debug_check_no_locks_freed __sync_icache_dcache flush_icache_pte flush_icache_all
_printk set_direct_map_default set_direct_map_invalid set_direct_map_default_noflush
set_direct_map_invalid_noflush
"""
SILENT = frozenset(_SILENT.split())
"""Functions without an effect that vmalloc could see; they return 0."""

TABLE_LEVELS = {"__pte_alloc_kernel": 0, "__pmd_alloc": 1, "__pud_alloc": 2, "__p4d_alloc": 3}
"""Which level of table a function of mm/memory.c allocates, 0 being the PTE level."""

HEAP_BYTES = 1 << 26
_ALIGN = 64
_NEW, _FREED, _RED = b"\x5a", b"\x6b", b"\xbb"  # slab's POISON_INUSE, POISON_FREE, SLUB_RED_INACTIVE
_FORMAT = re.compile(r"%(?:[-+ #0]*\d*(?:\.\d+)?)(?:hh|h|ll|l|z)?([a-zA-Z%])[A-Za-z]?")


class Rest:
    """The rest of the kernel, for one emulated machine.

    :param arch: the architecture, for the size and place of page tables.
    :param tables_end: first physical address after the page tables' memory.
    :ivar heap_start: address of the slab memory ``heap``; set by the owner, as is ``cpu``.
    :ivar limit: how many page tables can exist.
    :ivar work: work that waits to be run, in order: address of the ``struct work_struct`` -> CPU asked for.
    :ivar callbacks: of ``call_rcu()``, in order: addresses of the ``struct rcu_head`` and of the function.
    :ivar messages: what was printed with a WARN() since the owner last looked.
    :ivar copied: what vread_iter() copied: page struct, offset and bytes.
    :ivar text: what was printed to a seq_file, without the names of callers.
    """

    def __init__(self, arch: Arch, tables_end: int) -> None:
        self._arch = arch
        self._memory_end = tables_end
        self.cpu: Emulator
        self.heap_start = 0
        self.heap = memoryview(bytearray())
        self.gfp_zero = 0
        self.bulk_array = 0
        self.pages_of: Callable[[NDArray[np.uint64]], NDArray[np.uint64]] = lambda pfns: pfns
        self.first_table = 0  # physical address of the first table after the PGD
        self.page_of: Callable[[int], int] = lambda pfn: 0
        self.pfn_of: Callable[[int], int] = lambda page: 0
        self.virt_of: Callable[[int], int] = lambda phys: 0
        self.limit: int | None = None
        self.buddy: heap.Buddy | None = None
        self.make_buddy: Callable[[], heap.Buddy]
        self.attempts = 0
        self._failing: frozenset[int] = frozenset()
        self._caches: dict[int, int] = {}
        self._answers: dict[str, Callable[[], int | None]] = {}
        for name in ANSWERED:
            self._answers[name] = self._answers[f"{name}_noprof"] = getattr(self, f"_do_{name}")
        self.reset()

    def reset(self) -> None:
        """Forget everything that was allocated."""
        self.work: dict[int, int] = {}
        self.callbacks: list[tuple[int, int]] = []
        self.messages: list[str] = []
        self.copied: list[tuple[int, int, int]] = []
        self.text: list[str] = []
        self._objects: dict[int, int] = {}
        self._nodes: set[int] = set()  # those of them that are nodes of an xarray
        self._free_objects: dict[int, list[int]] = {}
        self._next_object = 0
        self._next_table = self.first_table
        self._tables: dict[int, int] = {}  # physical address -> level, -1 for a spare page
        self._free_tables: dict[int, list[int]] = {}
        self.buddy = None

    def state(self) -> tuple[Any, ...]:
        """What :meth:`restore` needs to come back to this moment."""
        free = {size: list(addresses) for size, addresses in self._free_objects.items()}
        return dict(self._objects), set(self._nodes), free, dict(self._caches), self._next_object

    def restore(self, state: tuple[Any, ...]) -> None:
        """Back to a moment before any page was allocated."""
        self.reset()
        objects, nodes, free, caches, self._next_object = state
        self._objects, self._nodes, self._caches = dict(objects), set(nodes), dict(caches)
        self._free_objects = {size: list(addresses) for size, addresses in free.items()}

    @property
    def tables(self) -> dict[int, int]:
        """The page tables in use: physical address -> level."""
        return self._tables

    @property
    def free_tables(self) -> list[int]:
        """The page tables that were freed and wait to be used again, physical addresses."""
        return [phys for level, free in self._free_tables.items() if level >= 0 for phys in free]

    @property
    def tables_end(self) -> int:
        """First physical address after what was ever a table."""
        return self._next_table

    @property
    def heap_used(self) -> int:
        """Bytes of slab memory that were ever in use."""
        return self._next_object

    @property
    def live_objects(self) -> int:
        """Slab objects allocated now, nodes of xarrays aside: which of them stay depends on the indices in use."""
        return len(self._objects) - len(self._nodes)

    def answer(self, name: str) -> int:
        """The result of the kernel's function ``name``, whose arguments are in the registers."""
        return self._answers[name]() or 0

    def fail(self, numbers: Iterable[int]) -> None:
        """Let the allocations with these numbers fail, counted from 0 from now on."""
        self.attempts, self._failing = 0, frozenset(numbers)

    def _refuses(self) -> bool:
        """Whether the allocation that is tried now fails."""
        self.attempts += 1
        return self.attempts - 1 in self._failing

    def log_pages(self) -> list[NDArray[np.uint64]]:
        """A list to which the page allocator adds what it hands out from now on."""
        buddy = self._buddy()
        buddy.handed = []
        return buddy.handed

    @property
    def taken_pages(self) -> int:
        """Pages of the page allocator that are in use, tables aside."""
        return self.buddy.taken if self.buddy else 0

    # -- slab ---------------------------------------------------------------------------------------

    def _alloc(self, size: int, gfp: int) -> int:
        """An object of ``size`` bytes, with a red zone behind it; 0 if there is no memory."""
        if self._refuses():
            return 0
        room = _room(size)
        free = self._free_objects.get(room)
        offset = free.pop() if free else self._next_object
        if offset == self._next_object:
            if offset + room > HEAP_BYTES:
                return 0
            self._next_object += room
        elif self.heap[offset : offset + room] != _FREED * room:
            raise KernelFault(f"something wrote to {self.heap_start + offset:#x} after that object was freed")
        self.heap[offset : offset + size] = (b"\0" if gfp & self.gfp_zero else _NEW) * size
        self.heap[offset + size : offset + room] = _RED * (room - size)
        self._objects[self.heap_start + offset] = size
        return self.heap_start + offset

    def _free(self, address: int) -> None:
        if not address:
            return
        self._nodes.discard(address)
        size = self._objects.pop(address, -1)
        if size < 0:
            raise KernelFault(f"{self.cpu.caller()} frees {address:#x}, which is no object in use")
        room = self._intact(address, size)
        offset = address - self.heap_start
        self.heap[offset : offset + room] = _FREED * room
        self._free_objects.setdefault(room, []).append(offset)

    def _intact(self, address: int, size: int) -> int:
        """The bytes that the object at ``address`` takes.

        :raises KernelFault: if its red zone was written to.
        """
        offset = address - self.heap_start
        room = _room(size)
        if self.heap[offset + size : offset + room] != _RED * (room - size):
            raise KernelFault(f"something wrote behind the object of {size} bytes at {address:#x}")
        return room

    def check_heap(self) -> None:
        """Look at the red zones of all objects.

        :raises KernelFault: if one was written to.
        """
        for address, size in self._objects.items():
            self._intact(address, size)

    def _do___kmem_cache_create_args(self) -> int:
        cache = self._alloc(_ALIGN, self.gfp_zero)
        self._caches[cache] = self.cpu.argument(1)
        return cache

    _do_kmem_cache_create = _do___kmem_cache_create_args  # until 6.11

    def _do_kmem_cache_alloc(self) -> int:
        cache, gfp = self.cpu.argument(0), self.cpu.argument(1)
        if cache not in self._caches:
            raise KernelFault(f"{self.cpu.caller()} allocates from {cache:#x}, which is no kmem_cache")
        return self._alloc(self._caches[cache], gfp)

    _do_kmem_cache_alloc_node = _do_kmem_cache_alloc

    def _do_kmem_cache_alloc_lru(self) -> int:
        node = self._alloc(1024, self.gfp_zero)  # an xarray node, from a cache that boot made; its constructor zeroes
        if node:
            self._nodes.add(node)
        return node

    def _do_kmem_cache_free(self) -> None:
        self._free(self.cpu.argument(1))

    def _do_kfree(self) -> None:
        self._free(self.cpu.argument(0))

    def _do_kvfree_call_rcu(self) -> None:
        self._free(self.cpu.argument(1))

    def _do___kmalloc(self) -> int:
        return self._alloc(self.cpu.argument(0), self.cpu.argument(1))

    _do___kmalloc_node = _do___kmalloc

    def _do___kmalloc_cache(self) -> int:
        return self._alloc(self.cpu.argument(2), self.cpu.argument(1))

    def _do___kmalloc_cache_node(self) -> int:
        return self._alloc(self.cpu.argument(3), self.cpu.argument(1))

    _do_kmalloc_trace, _do_kmalloc_node_trace = _do___kmalloc_cache, _do___kmalloc_cache_node  # until 6.10

    def _do_shrinker_alloc(self) -> int:
        return self._alloc(4096, self.gfp_zero)

    # -- pages --------------------------------------------------------------------------------------

    def _table(self, level: int) -> int:
        """A page for a table of ``level`` (-1: for other use), physical; 0 if there is none."""
        if self._refuses() or (self.limit is not None and len(self._tables) >= self.limit):
            return 0
        size = self._arch.page_size
        free = self._free_tables.get(level)
        phys = free.pop() if free else self._next_table
        if not free and phys == self._next_table:
            if phys + size > self._memory_end:
                return 0
            self._next_table += size
        self._tables[phys] = level
        self.cpu.view(self.virt_of(phys), size)[:] = 0
        if level >= 0:
            self.cpu.log(L_TABLE_ALLOC, phys, self._arch.levels[level].shift, size)
        return phys

    def _free_table(self, phys: int) -> None:
        level = self._tables.pop(phys)
        self._free_tables.setdefault(level, []).append(phys)
        if level >= 0:
            self.cpu.log(L_TABLE_FREE, phys, self._arch.levels[level].shift, self._arch.page_size)

    def _do___alloc_pages(self) -> int:
        level = TABLE_LEVELS.get(self.cpu.caller())
        if level is not None:
            phys = self._table(level)
            return self.page_of(phys >> self._arch.page_shift) if phys else 0
        order = self.cpu.argument(1)
        pages = self._buddy().alloc_pages(order, 0 if self._refuses() else 1 << order)
        return self.page_of(int(pages[0])) if len(pages) else 0

    def _buddy(self) -> heap.Buddy:
        if self.buddy is None:
            self.buddy = self.make_buddy()
        return self.buddy

    _do_alloc_pages = _do___alloc_pages

    def _do_alloc_pages_bulk(self) -> int:
        count = 0 if self._refuses() else self.cpu.argument(3)
        pages = self._buddy().alloc_pages(0, count)
        self.cpu.write(self.cpu.argument(self.bulk_array), self.pages_of(pages).tobytes())
        return len(pages)

    _do___alloc_pages_bulk = _do_alloc_pages_bulk  # until 6.9

    def _do_get_free_pages(self) -> int:
        phys = self._table(TABLE_LEVELS.get(self.cpu.caller(), -1))
        return self.virt_of(phys) if phys else 0

    _do_get_zeroed_page = _do___get_free_pages = _do_get_free_pages  # every page is zeroed; __ until 6.9

    def _give_back(self, pfn: int, order: int) -> None:
        phys = pfn << self._arch.page_shift
        if phys in self._tables:
            self._free_table(phys)
        elif self.buddy is not None and self.buddy.spans(pfn, 1 << order):
            self.buddy.free_pages(np.arange(pfn, pfn + (1 << order), dtype=np.uint64))
        else:
            raise KernelFault(f"{self.cpu.caller()} frees page frame {pfn:#x}, which it does not own")

    def _do___free_pages(self) -> None:
        self._give_back(self.pfn_of(self.cpu.argument(0)), self.cpu.argument(1) & 0xFF)

    def _do_free_pages(self) -> None:
        address = self.cpu.argument(0)
        phys = (address - self.virt_of(0)) % (1 << 64)
        if address:
            self._give_back(phys >> self._arch.page_shift, self.cpu.argument(1) & 0xFF)

    # -- what is seen -------------------------------------------------------------------------------

    def _range(self, kind: int) -> None:
        start, end = self.cpu.argument(0), self.cpu.argument(1)
        self.cpu.log(kind, start, end, end - start)

    def _do_flush_tlb_kernel_range(self) -> None:
        self._range(L_FLUSH_TLB)

    _do_vmaplab_flush_tlb_kernel_range = _do_flush_tlb_kernel_range

    def _do_vmaplab___flush_tlb_kernel_pgtable(self) -> None:
        start = self.cpu.argument(0)
        self.cpu.log(L_FLUSH_TLB, start, start, 0)

    def _do_vmaplab_flush_cache_vmap(self) -> None:
        self._range(L_FLUSH_VMAP)

    def _do_vmaplab_flush_cache_vunmap(self) -> None:
        self._range(L_FLUSH_VUNMAP)

    def _do___warn_printk(self) -> None:
        self.messages.append(self._formatted(0))

    def _do_warn_alloc(self) -> None:
        return None

    def _formatted(self, first: int) -> str:
        """The message of a printk whose format is argument ``first``, with what its registers hold."""
        number = first

        def value(match: re.Match[str]) -> str:
            nonlocal number
            kind = match[1]
            if kind == "%":
                return "%"
            number += 1
            if number >= len(self.cpu.family.arguments):
                return "..."
            given = self.cpu.argument(number)
            if kind == "s":
                return self.cpu.text(given)
            return f"{given:#x}" if kind == "p" else f"{given:x}" if kind == "x" else str(given)

        return _FORMAT.sub(value, self.cpu.text(self.cpu.argument(first))).strip().lstrip("\x01234567")

    def _do_copy_page_to_iter_nofault(self) -> int:
        page, offset, size = (self.cpu.argument(number) for number in range(3))
        self.copied.append((page, offset, size))
        return size

    def _do_seq_printf(self) -> None:
        form = self.cpu.text(self.cpu.argument(1))
        if "%pS" in form:
            return
        numbers = [self.cpu.argument(2 + number) for number in range(form.count("%"))]
        if "%pa" in form:
            numbers = [int(self.cpu.view(numbers[0], 8).view("<u8")[0])]
        self.text.append(_printed(form, numbers))

    def _do_seq_putc(self) -> None:
        self.text.append(chr(self.cpu.argument(1) & 0xFF))

    def _do_seq_puts(self) -> None:
        self.text.append(self.cpu.text(self.cpu.argument(1)))

    _do___seq_puts = _do_seq_puts

    def _do_seq_write(self) -> None:
        self.text.append(self.cpu.view(self.cpu.argument(1), self.cpu.argument(2)).tobytes().decode())

    # -- the rest -----------------------------------------------------------------------------------

    def _do_down_read_trylock(self) -> int:
        return 1

    def _do_mutex_trylock(self) -> int:
        return 1

    def _do_lock_is_held_type(self) -> int:
        return 1

    def _do_rcu_is_watching(self) -> int:
        return 1

    def _do_queue_work_on(self) -> int:
        work = self.cpu.argument(2)
        if work in self.work:
            return 0
        self.work[work] = self.cpu.argument(0)
        return 1

    def _do_call_rcu(self) -> None:
        self.callbacks.append((self.cpu.argument(0), self.cpu.argument(1)))

    def _do_vmaplab_take_work(self) -> int:
        return self.work.pop(self.cpu.argument(0), -1)

    def _do_panic(self) -> None:
        raise KernelFault(f"panic in {self.cpu.caller()}: {self._formatted(0)}")


def _printed(form: str, numbers: list[int]) -> str:
    """``form`` with its conversions: ``%pK``, ``%pa`` and numbers, of a width or none."""
    given = iter(numbers)

    def value(match: re.Match[str]) -> str:
        number = next(given)
        if match[2] == "pK":
            return f"{number:016x}"
        if match[2] == "pa":
            return f"0x{number:016x}"
        return format(number, f"{match[1]}d")

    return re.sub(r"%(\d*)(pK|pa|l?[du])", value, form)


def _room(size: int) -> int:
    """Bytes of slab memory that an object of ``size`` bytes and its red zone take."""
    return -(-size // _ALIGN) * _ALIGN + _ALIGN


ANSWERED = frozenset(name.removeprefix("_do_") for name in dir(Rest) if name.startswith("_do_"))
"""Functions that :class:`Rest` answers."""
