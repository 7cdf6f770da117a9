# SPDX-License-Identifier: GPL-2.0-only
"""What the rest of the kernel answers when the vmalloc code calls it: slab, page allocator, printk, workqueues.

A stand-in declares the C prototype that it stands for, and gets the arguments by the names in it. Where trees differ
in the prototype, there is one stand-in for each, and the tree's own declaration chooses (:mod:`.kbuild`). Names are
the kernel's, without the ``_noprof`` that allocation profiling appends since 6.10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.errors import KernelFault, Undefined
from vmaplab.object.family import Family
from vmaplab.pages import heap
from vmaplab.prototype import Prototype, parse
from vmaplab.trace import L_FLUSH_TLB, L_FLUSH_VMAP, L_FLUSH_VUNMAP, L_SYNC, L_TABLE_ALLOC, L_TABLE_FREE, signed


class Cpu(Protocol):
    """What is asked of the CPU that runs the code: see :class:`~vmaplab.object.emulator.Emulator`."""

    family: Family

    def argument(self, number: int) -> int: ...  # noqa: D102
    def caller(self) -> str: ...  # noqa: D102
    def return_address(self) -> int: ...  # noqa: D102
    def place(self, address: int) -> str: ...  # noqa: D102
    def object_at(self, address: int) -> str: ...  # noqa: D102
    def text(self, address: int, most: int = 256) -> str: ...  # noqa: D102
    def view(self, address: int, size: int) -> NDArray[np.uint8]: ...  # noqa: D102
    def write(self, address: int, data: bytes) -> None: ...  # noqa: D102
    def log(self, kind: int, address: int, value: int, size: int) -> None: ...  # noqa: D102


_SILENT = """
__raw_spin_lock_init __rwlock_init __init_rwsem lockdep_init_map_type lock_acquire lock_release
preempt_schedule preempt_schedule_notrace preempt_count_add preempt_count_sub __might_sleep __might_resched
trace_hardirqs_on trace_hardirqs_off lockdep_rcu_suspicious debug_lockdep_rcu_enabled __preempt_count_dec_and_test
__this_cpu_preempt_check
mutex_lock mutex_lock_nested mutex_unlock mutex_init __mutex_init down_read up_read down_write up_write
_raw_spin_lock _raw_spin_unlock _raw_spin_lock_irq _raw_spin_unlock_irq
_raw_spin_lock_irqsave _raw_spin_unlock_irqrestore _raw_spin_lock_bh
_raw_spin_unlock_bh _raw_read_lock _raw_read_unlock _raw_write_lock _raw_write_unlock
queued_spin_lock_slowpath __local_bh_enable_ip __local_bh_disable_ip __cond_resched __cond_resched_lock
synchronize_rcu rcu_barrier __rcu_read_lock __rcu_read_unlock
dump_stack blocking_notifier_call_chain
shrinker_register dump_page
flush_tlb_all debug_check_no_obj_freed debug_check_no_locks_freed __sync_icache_dcache flush_icache_pte flush_icache_all
"""
SILENT = frozenset(_SILENT.split())
"""Functions without an effect that vmalloc could see; they return 0."""

TABLE_LEVELS = {"__pte_alloc_kernel": 0, "__pmd_alloc": 1, "__pud_alloc": 2, "__p4d_alloc": 3}
"""Which level of table a function of mm/memory.c allocates, 0 being the PTE level."""

LENDER = "vmaplab_vmap_put"
"""The function of support/ that allocates pages for vmap()."""

FREE_TABLES = ("pmd_free_pte_page", "__pmd_free_pte_page", "pud_free_pmd_page")
"""Functions that free what an entry points to, without a look at whether that is a table."""

HEAP_BYTES = 1 << 26
SPARE_PAGES = 16
"""Pages behind the table memory that can be had as something else than a table, at a time."""
OWED, INVALID, FLUSHED = "not reset", "invalid, without a TLB flush since", "invalid and flushed"
"""What is known of the direct map of a page of an area with VM_FLUSH_RESET_PERMS, in words."""
_ALIGN = 64
_NEW, _FREED, _RED = b"\x5a", b"\x6b", b"\xbb"  # slab's POISON_INUSE, POISON_FREE, SLUB_RED_INACTIVE
_BAD_ENTRY = re.compile(r"\bbad p(?:gd|4d|ud|md) ")
_FORMAT = re.compile(r"%(?:[-+ #0]*\d*(?:\.\d+)?)(?:hh|h|ll|l|z)?([a-zA-Z%])[A-Za-z]?")


class GfpBits(NamedTuple):
    """``__GFP_ZERO``, ``_DIRECT_RECLAIM``, ``_ACCOUNT``, ``_NOFAIL``, ``_DMA`` or ``_DMA32``, ``_HIGHMEM``."""

    zero: int = 0
    reclaim: int = 0
    account: int = 0
    nofail: int = 0
    low: int = 0
    highmem: int = 0


class StandIn(NamedTuple):
    """One stand-in.

    :param prototype: of the function that it stands for.
    :param method: of :class:`Rest`.
    :param order: number of the C argument that each parameter of the method takes, and how it is read.
    :param trees: the kernels that declare it so, as far as vmaplab has seen them.
    """

    prototype: Prototype
    method: str
    order: tuple[int, ...]
    trees: str


F = TypeVar("F", bound=Callable[..., Any])
_declared: list[tuple[Prototype, str, tuple[int, ...], str]] = []


def stands_for(text: str, trees: str = "all") -> Callable[[F], F]:
    """Declare what a method of :class:`Rest` stands for; its parameters are among those of the prototype ``text``."""
    prototype = parse(text)

    def declare(method: F) -> F:
        code = method.__code__
        order = tuple(prototype.names.index(name) for name in code.co_varnames[1 : code.co_argcount])
        _declared.append((prototype, method.__name__, order, trees))
        return method

    return declare


class Rest:
    """The rest of the kernel, for one emulated machine.

    :param arch: the architecture, for the size and place of page tables.
    :param tables_end: first physical address after the page tables' memory.
    :ivar heap_start: address of the slab memory ``heap``; set by the owner, as is ``cpu``.
    :ivar limit: how many page tables can exist.
    :ivar work: work that waits to be run, in order: address of the ``struct work_struct`` -> CPU asked for.
    :ivar callbacks: of ``call_rcu()``, in order: addresses of the ``struct rcu_head`` and of the function.
    :ivar areas: addresses of the areas taken, in order, where the object tells them.
    :ivar gfp: the tree's values of GFP flags.
    :ivar atomic: what forbids to sleep now, in words; "" if nothing does.
    :ivar forbidden: the GFP flags that the call was given, and the bits that no allocation may have for it;
        ``scope``: the bits that the task has forbidden itself. ``waits``: that call has __GFP_NOFAIL, so that tables
        and slab objects are there when it needs them.
    :ivar counters: item of ``mod_node_page_state()`` -> the sum of its changes.
    :ivar messages: what was printed with a WARN() since the owner last looked.
    :ivar copied: what vread_iter() copied: page struct, offset and bytes.
    :ivar text: what was printed to a seq_file, without the names of callers; ``printed``: by printk().
    :ivar inserted: what vm_insert_page() got: user address and page frame.
    :ivar accounted: page frames in use that were allocated with __GFP_ACCOUNT; ``charged``: what their memory cgroup
        counts as MEMCG_VMALLOC, or None where the tree has no such counter.
    :ivar lent: page frames in use that were allocated for vmap() with VM_MAP_PUT_PAGES.
    :ivar dirty: page frames in use that were allocated without __GFP_ZERO.
    :ivar direct: page frames whose direct map somebody has to reset: OWED, INVALID, or FLUSHED since.
    :cvar changing: the fields that change from call to call.
    """

    changing: tuple[str, ...] = tuple(
        """
        work callbacks areas messages copied text printed inserted dirty accounted lent charged direct counters buddy
        _caches _objects _places _nodes _free_objects _next_object _next_table _spares _tables _free_tables _owned
        _whole
        """.split()  # noqa: SIM905
    )

    def __init__(self, arch: Arch, tables_end: int) -> None:
        self._arch = arch
        self._memory_end = tables_end
        self.cpu: Cpu
        self.heap_start = 0
        self.heap = memoryview(bytearray())
        self.gfp = GfpBits()
        self.forbidden = "", 0
        self.waits = False
        self.scope: Callable[[], int] = lambda: 0
        self.atomic: Callable[[], str] = lambda: ""
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
        self.bugs: dict[int, tuple[Callable[[str], None], int]] = {}  # struct bug_entry -> what WARN() does, its format
        self._answers: dict[str, Callable[[], int | None]] = {}
        self.reset()

    def choose(self, answers: Mapping[str, int]) -> None:
        """Answer these functions, each with the stand-in of this number."""
        for name, number in answers.items():
            one = STAND_INS[name.removesuffix("_noprof")][number]
            self._answers[name] = self._answer_of(one)

    def _answer_of(self, one: StandIn) -> Callable[[], int | None]:
        method = getattr(self, one.method)
        reads = [(number, one.prototype.types[number].reader()) for number in one.order]
        return lambda: method(*[read(self.cpu.argument(number)) for number, read in reads])

    def reset(self) -> None:
        """Forget everything that was allocated."""
        self.work: dict[int, int] = {}
        self.callbacks: list[tuple[int, int]] = []
        self.areas: list[int] = []
        self.messages: list[str] = []
        self.copied: list[tuple[int, int, int]] = []
        self.text: list[str] = []
        self.printed: list[str] = []
        self.inserted: list[tuple[int, int]] = []
        self.dirty: set[int] = set()
        self.accounted: set[int] = set()
        self.lent: set[int] = set()
        self.charged = 0 if "vmaplab_mod_memcg_page_state" in self._answers else None
        self.direct: dict[int, str] = {}
        self._objects: dict[int, int] = {}
        self._places: dict[int, int] = {}  # where each was allocated: what that call returns to
        self._nodes: set[int] = set()  # those of them that are nodes of an xarray
        self._free_objects: dict[int, list[int]] = {}
        self._next_object = 0
        self._next_table = self.first_table
        self._spares = 0
        self._tables: dict[int, int] = {}  # physical address -> level, -1 for a spare page
        self._free_tables: dict[int, list[int]] = {}
        self._owned: set[int] = set()  # page frames that were allocated, tables aside
        self._whole: dict[int, int] = {}  # first page frame of a block that was not split -> its order
        self.counters: dict[int, int] = {}
        self.buddy = None

    def state(self) -> dict[str, Any]:
        """What :meth:`restore` needs to come back to this moment."""
        fields = vars(self)
        return _copied({name: fields[name] for name in self.changing})

    def restore(self, state: dict[str, Any]) -> None:
        """Back to the moment of ``state``."""
        vars(self).update(_copied(state))

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

    def _refuses(self, gfp: int) -> bool:
        """Whether the allocation that is tried now fails.

        :raises KernelFault: if it may sleep and must not.
        """
        if gfp & self.gfp.reclaim and (why := self.atomic()):
            raise KernelFault(f"{self.cpu.caller()} allocates memory and may sleep for it, {why}")
        if gfp & self.gfp.low and gfp & self.gfp.highmem:
            raise KernelFault(
                f"{self.cpu.caller()} asks for pages of a low zone and of __GFP_HIGHMEM at once ({gfp:#x})"
            )
        asked, bits = self.forbidden
        if gfp & bits & ~self.scope():
            raise KernelFault(f"{self.cpu.caller()} allocates memory with {gfp:#x}, and its caller asked for {asked}")
        self.attempts += 1
        return self.attempts - 1 in self._failing and not self.waits

    def limit_pages(self, most: int, largest: int | None) -> None:
        """Let at most ``most`` pages be in use, tables aside, and no block above order ``largest``, if one is said."""
        self._buddy().limit(most, largest)

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
        if self._refuses(gfp):
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
        self.heap[offset : offset + size] = (b"\0" if gfp & self.gfp.zero else _NEW) * size
        self.heap[offset + size : offset + room] = _RED * (room - size)
        self._objects[self.heap_start + offset] = size
        self._places[self.heap_start + offset] = self.cpu.return_address()
        return self.heap_start + offset

    def _free(self, address: int) -> None:
        if not address:
            return
        self._nodes.discard(address)
        self._places.pop(address, None)
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
            raise KernelFault(f"something wrote behind {self._told(address, size)}")
        return room

    def _told(self, address: int, size: int) -> str:
        """A slab object, in words."""
        place = self._places.get(address)
        by = f" that {self.cpu.place(place)} allocated" if place else ""
        return f"the object of {size} bytes at {address:#x}{by}"

    def check_heap(self) -> None:
        """Look at the red zones of all objects, and for pages that hold no table: no call keeps one.

        :raises KernelFault: if a red zone was written to, or such a page is still allocated.
        """
        for address, size in self._objects.items():
            self._intact(address, size)
        kept = [phys for phys, level in self._tables.items() if level < 0]
        if kept:
            raise KernelFault(f"a page that holds no table is never freed (at {kept[0]:#x}; {len(kept)} of them)")

    @stands_for(
        "struct kmem_cache *kmem_cache_create(const char *name, unsigned int size, unsigned int align, "
        "slab_flags_t flags, void (*ctor)(void *))",
        "6.1 to 6.11",
    )
    @stands_for(
        "struct kmem_cache *__kmem_cache_create_args(const char *name, unsigned int size, "
        "struct kmem_cache_args *args, slab_flags_t flags)",
        "6.12 on",
    )
    def _kmem_cache_create(self, size: int) -> int:
        cache = self._alloc(_ALIGN, self.gfp.zero)
        self._caches[cache] = size
        return cache

    @stands_for("void *kmem_cache_alloc(struct kmem_cache *cache, gfp_t gfp)")
    @stands_for("void *kmem_cache_alloc_node(struct kmem_cache *cache, gfp_t gfp, int node)")
    def _kmem_cache_alloc(self, cache: int, gfp: int) -> int:
        if cache not in self._caches:
            raise KernelFault(f"{self.cpu.caller()} allocates from {cache:#x}, which is no kmem_cache")
        return self._alloc(self._caches[cache], gfp)

    @stands_for("void *kmem_cache_alloc_lru(struct kmem_cache *cache, struct list_lru *lru, gfp_t gfp)")
    def _kmem_cache_alloc_lru(self) -> int:
        node = self._alloc(1024, self.gfp.zero)  # an xarray node, from a cache that boot made; its constructor zeroes
        if node:
            self._nodes.add(node)
        return node

    @stands_for("void kmem_cache_free(struct kmem_cache *cache, void *object)")
    @stands_for("void kfree(const void *object)")
    def _kfree(self, object: int) -> None:  # noqa: A002 - as the prototype has it
        self._free(object)

    @stands_for("void kvfree_call_rcu(struct callback_head *head, void *object)", "6.5 on")
    def _kvfree_call_rcu(self, object: int) -> None:  # noqa: A002 - as the prototype has it
        self._free(object)

    @stands_for("void kvfree_call_rcu(struct callback_head *head, rcu_callback_t offset)", "6.1 to 6.4")
    def _kvfree_call_rcu_by_offset(self, head: int, offset: int) -> None:
        self._free(head - offset if head else offset)

    @stands_for("void *__kmalloc(size_t size, gfp_t gfp)")
    @stands_for("void *__kmalloc_node(size_t size, gfp_t gfp, int node)")
    @stands_for("void *__kmalloc_node(size_t size, kmem_buckets *buckets, gfp_t gfp, int node)", "with SLAB_BUCKETS=y")
    @stands_for("void *__kmalloc_cache(struct kmem_cache *cache, gfp_t gfp, size_t size)", "6.11 on")
    @stands_for("void *__kmalloc_cache_node(struct kmem_cache *cache, gfp_t gfp, int node, size_t size)", "6.11 on")
    @stands_for("void *kmalloc_trace(struct kmem_cache *cache, gfp_t gfp, size_t size)", "6.1 to 6.10")
    @stands_for("void *kmalloc_node_trace(struct kmem_cache *cache, gfp_t gfp, int node, size_t size)", "6.1 to 6.10")
    def _kmalloc(self, size: int, gfp: int) -> int:
        return self._alloc(size, gfp)

    @stands_for("struct shrinker *shrinker_alloc(unsigned int flags, const char *fmt, ...)", "6.7 on")
    def _shrinker_alloc(self) -> int:
        return self._alloc(4096, self.gfp.zero)

    # -- pages --------------------------------------------------------------------------------------

    def _table(self, level: int, gfp: int) -> int:
        """A page for a table of ``level`` (-1: for other use), physical; 0 if there is none."""
        short = self.limit is not None and len(self._tables) >= self.limit and not self.waits
        if self._refuses(gfp) or short:
            return 0
        size = self._arch.page_size
        free = self._free_tables.get(level)
        if level < 0 and not free:
            phys = self._memory_end + self._spares * size
            if self._spares == SPARE_PAGES:
                return 0
            self._spares += 1
        else:
            phys = free.pop() if free else self._next_table
        if phys == self._next_table:
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

    @stands_for("struct page *__alloc_pages(gfp_t gfp, unsigned int order, int node, nodemask_t *nodes)")
    @stands_for("struct page *alloc_pages(gfp_t gfp, unsigned int order)")
    def _alloc_pages(self, gfp: int, order: int) -> int:
        caller = self.cpu.caller()
        level = TABLE_LEVELS.get(caller)
        if level is not None:
            phys = self._table(level, gfp)
            return self.page_of(phys >> self._arch.page_shift) if phys else 0
        nofail = bool(gfp & self.gfp.nofail)
        pages = self._buddy().alloc_pages(order, 0 if self._refuses(gfp) else 1 << order, nofail)
        if nofail and not len(pages):
            raise Undefined(f"{self.cpu.caller()} waits for a page of order {order} that never comes")
        if not len(pages):
            return 0
        self._own(pages, gfp)
        if caller == LENDER:
            self.lent.update(pages.tolist())
        if order:
            self._whole[int(pages[0])] = order
        return self.page_of(int(pages[0]))

    def _own(self, pages: NDArray[np.uint64], gfp: int) -> None:
        """Hand out ``pages``."""
        numbers = pages.tolist()
        self._owned.update(numbers)
        if not gfp & self.gfp.zero:
            self.dirty.update(numbers)
        if gfp & self.gfp.account:
            self.accounted.update(numbers)

    @stands_for("void split_page(struct page *page, unsigned int order)")
    def _split_page(self, page: int, order: int) -> None:
        pfn = self.pfn_of(page)
        if self._whole.pop(pfn, -1) != order:
            raise KernelFault(f"{self.cpu.caller()} splits page frame {pfn:#x}, which is no block of order {order}")

    def _buddy(self) -> heap.Buddy:
        if self.buddy is None:
            self.buddy = self.make_buddy()
        return self.buddy

    @stands_for(
        "unsigned long __alloc_pages_bulk(gfp_t gfp, int node, nodemask_t *nodes, int nr_pages, "
        "struct list_head *page_list, struct page **page_array)",
        "6.1 to 6.9",
    )
    @stands_for(
        "unsigned long alloc_pages_bulk(gfp_t gfp, int node, nodemask_t *nodes, int nr_pages, "
        "struct list_head *page_list, struct page **page_array)",
        "6.10 to 6.13",
    )
    @stands_for(
        "unsigned long alloc_pages_bulk(gfp_t gfp, int node, nodemask_t *nodes, int nr_pages, "
        "struct page **page_array)",
        "6.14 on",
    )
    @stands_for(
        "unsigned long alloc_pages_bulk_array_mempolicy(gfp_t gfp, unsigned long nr_pages, struct page **page_array)",
        "6.1 to 6.13, with NUMA=y",
    )
    @stands_for(
        "unsigned long alloc_pages_bulk_mempolicy(gfp_t gfp, unsigned long nr_pages, struct page **page_array)",
        "6.14 on, with NUMA=y",
    )
    def _alloc_pages_bulk(self, gfp: int, nr_pages: int, page_array: int) -> int:
        pages = self._buddy().alloc_pages(0, 0 if self._refuses(gfp) else nr_pages)
        self._own(pages, gfp)
        self.cpu.write(page_array, self.pages_of(pages).tobytes())
        return len(pages)

    @stands_for("unsigned long __get_free_pages(gfp_t gfp, unsigned int order)", "6.1 to 6.9")
    @stands_for("unsigned long get_free_pages(gfp_t gfp, unsigned int order)", "6.10 on")
    @stands_for("unsigned long get_zeroed_page(gfp_t gfp)")
    def _get_free_page(self, gfp: int) -> int:
        phys = self._table(TABLE_LEVELS.get(self.cpu.caller(), -1), gfp)
        return self.virt_of(phys) if phys else 0  # every page is zeroed

    def _give_back(self, pfn: int, order: int) -> None:
        phys = pfn << self._arch.page_shift
        if phys in self._tables:
            self._free_table(phys)
        elif pfn not in self._owned and self.cpu.caller() in FREE_TABLES:
            raise Undefined(
                f"{self.cpu.caller()} goes through a leaf: it frees page frame {pfn:#x} as if it were a table"
            )
        elif self.buddy is None or not self.buddy.spans(pfn, 1 << order):
            raise KernelFault(f"{self.cpu.caller()} frees page frame {pfn:#x}, which it does not own")
        else:
            self._disown(pfn, order)
            self.buddy.free_pages(np.arange(pfn, pfn + (1 << order), dtype=np.uint64))

    def _disown(self, pfn: int, order: int) -> None:
        """What is freed is what was allocated: a block as a whole, or pages that were split, each once."""
        if not (order or self._whole or self.direct) and pfn in self._owned:  # nearly always
            for kept in (self._owned, self.dirty, self.accounted, self.lent):
                kept.discard(pfn)
            return
        pages = range(pfn, pfn + (1 << order))
        if not self._owned.issuperset(pages):
            raise KernelFault(f"{self.cpu.caller()} frees page frame {pfn:#x}, which is not allocated")
        blocks = self._whole.items()
        touched = [(first, size) for first, size in blocks if first < pages.stop and pfn < first + (1 << size)]
        if touched not in ([], [(pfn, order)]):
            (first, size), caller = touched[0], self.cpu.caller()
            raise KernelFault(
                f"{caller} frees a block of order {order} of page frame {first:#x}, which was allocated with order "
                f"{size} and never split"
            )
        self._whole.pop(pfn, None)
        self._owned.difference_update(pages)
        self.dirty.difference_update(pages)
        self.accounted.difference_update(pages)
        self.lent.difference_update(pages)
        for one in pages if self.direct else ():
            if one in self.direct:
                raise KernelFault(
                    f"{self.cpu.caller()} frees page frame {one:#x} of an area with VM_FLUSH_RESET_PERMS, and its "
                    f"direct map is {self.direct[one]}"
                )

    @stands_for("void __free_pages(struct page *page, unsigned int order)")
    def _free_pages_of(self, page: int, order: int) -> None:
        self._give_back(self.pfn_of(page), order)

    @stands_for("void free_pages(unsigned long addr, unsigned int order)")
    def _free_pages_at(self, addr: int, order: int) -> None:
        if addr:
            self._give_back((addr - self.virt_of(0)) % (1 << 64) >> self._arch.page_shift, order)

    # -- what is seen -------------------------------------------------------------------------------

    def _range(self, kind: int, start: int, end: int) -> None:
        self.cpu.log(kind, start, end, end - start)

    @stands_for("void flush_tlb_kernel_range(unsigned long start, unsigned long end)")
    @stands_for("void vmaplab_flush_tlb_kernel_range(unsigned long start, unsigned long end)")
    def _flush_tlb_kernel_range(self, start: int, end: int) -> None:
        for pfn, state in self.direct.items():
            if state == INVALID and start <= self.virt_of(pfn << self._arch.page_shift) < end:
                self.direct[pfn] = FLUSHED
        self._range(L_FLUSH_TLB, start, end)

    @stands_for("int set_direct_map_invalid_noflush(struct page *page)")
    def _set_direct_map_invalid_noflush(self, page: int) -> None:
        self.direct[self.pfn_of(page)] = INVALID

    @stands_for("int set_direct_map_default_noflush(struct page *page)")
    def _set_direct_map_default_noflush(self, page: int) -> None:
        pfn = self.pfn_of(page)
        if (state := self.direct.pop(pfn, OWED)) != FLUSHED:
            raise KernelFault(f"{self.cpu.caller()} resets the direct map of page frame {pfn:#x}, which is {state}")

    @stands_for("void vmaplab___flush_tlb_kernel_pgtable(unsigned long start)")
    def _flush_tlb_kernel_pgtable(self, start: int) -> None:
        self._range(L_FLUSH_TLB, start, start)

    @stands_for("void vmaplab_flush_cache_vmap(unsigned long start, unsigned long end)")
    def _flush_cache_vmap(self, start: int, end: int) -> None:
        self._range(L_FLUSH_VMAP, start, end)

    @stands_for("void vmaplab_flush_cache_vunmap(unsigned long start, unsigned long end)")
    def _flush_cache_vunmap(self, start: int, end: int) -> None:
        self._range(L_FLUSH_VUNMAP, start, end)

    @stands_for("void arch_sync_kernel_mappings(unsigned long start, unsigned long end)")
    def _arch_sync_kernel_mappings(self, start: int, end: int) -> None:
        self._range(L_SYNC, start, end)

    @stands_for("void mod_node_page_state(struct pglist_data *node, enum node_stat_item item, long delta)")
    def _mod_node_page_state(self, item: int, delta: int) -> None:
        item &= 0xFFFF_FFFF
        self.counters[item] = self.counters.get(item, 0) + signed(delta)

    @stands_for("void vmaplab_mod_memcg_page_state(struct page *page, int item, int val)")
    def _mod_memcg_page_state(self) -> None:
        if not self.accounted or self.charged is None:  # nearly always, and for each page
            return
        page, val = self.cpu.argument(0), self.cpu.argument(2)
        if self.pfn_of(page) in self.accounted:
            self.charged += (val & 0xFFFF_FFFF ^ 1 << 31) - (1 << 31)  # an int

    @stands_for("void vmaplab_misuse(const char *what, unsigned long lock, unsigned long place)")
    def _misuse(self, what: int, lock: int, place: int) -> None:
        named = f": {self.lock_name(lock)}" if lock else ""
        raise KernelFault(f"{self.cpu.place(place)} {self.cpu.text(what)}{named}")

    @stands_for("void vmaplab_wait(unsigned long lock, unsigned long place)")
    def _wait(self, lock: int, place: int) -> None:
        raise KernelFault(f"{self.cpu.place(place)} waits for ever: another CPU holds {self.lock_name(lock)}")

    def lock_name(self, lock: int) -> str:
        """What ``lock`` is: the variable that has it, or that it lies in a slab object."""
        for address, size in self._objects.items():
            if address <= lock < address + size:
                return f"a lock {lock - address} bytes into {self._told(address, size)}"
        return self.cpu.object_at(lock) or f"{lock:#x}"

    @stands_for("void vmaplab_alloc_vmap_area(unsigned long addr, unsigned long size)")
    def _alloc_vmap_area(self, addr: int) -> None:
        self.areas.append(addr)

    @stands_for("void __warn_printk(const char *fmt, ...)")
    def _warn_printk(self, fmt: int) -> None:
        self.messages.append(self._formatted(fmt, 1))

    @stands_for("void __WARN_trap(struct bug_entry *bug, ...)", "6.19 on, x86")
    @stands_for("void __SCT__WARN_trap(struct bug_entry *bug, ...)", "6.19 on, x86: the same by a static call")
    def _warn_trap(self, bug: int) -> None:
        entry = self.bugs.get(bug)
        if entry is None:
            raise KernelFault(f"{self.cpu.caller()} warns with {bug:#x}, which is no entry of the bug table")
        action, fmt = entry
        action(self._formatted(fmt, 1))

    @stands_for("void warn_alloc(gfp_t gfp, nodemask_t *nodes, const char *fmt, ...)")
    def _warn_alloc(self) -> None:
        return None

    def _formatted(self, fmt: int, first: int) -> str:
        """The message of a printk with the format at ``fmt``, whose values are the arguments from ``first`` on."""
        number = first - 1

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
            if kind == "x":
                return f"{given:#x}" if "#" in match[0] else f"{given:x}"
            return f"{given:#x}" if kind == "p" else str(given if "l" in match[0] else given & 0xFFFF_FFFF)

        return _FORMAT.sub(value, re.sub("^\x01.", "", self.cpu.text(fmt))).strip()

    @stands_for("int _printk(const char *fmt, ...)")
    def _printk(self, fmt: int) -> None:
        text = self._formatted(fmt, 1)
        if _BAD_ENTRY.search(text):  # pmd_clear_bad() and its like
            raise KernelFault(f"{self.cpu.caller()} meets a bad entry, and clears it: '{text}'")
        self.printed.append(text)

    @stands_for("int vmaplab_vm_insert_page(struct vm_area_struct *vma, unsigned long addr, struct page *page)")
    def _vm_insert_page(self, addr: int, page: int) -> None:
        if not page:
            raise KernelFault(f"BUG at vm_insert_page(), which {self.cpu.caller()} gives no page")
        self.inserted.append((addr, self.pfn_of(page)))

    @stands_for(
        "size_t copy_page_to_iter_nofault(struct page *page, unsigned int offset, size_t bytes, struct iov_iter *i)",
        "6.4 on",
    )
    def _copy_page_to_iter_nofault(self, page: int, offset: int, bytes: int) -> int:  # noqa: A002
        self.copied.append((page, offset, bytes))
        return bytes

    @stands_for("void seq_printf(struct seq_file *m, const char *fmt, ...)")
    def _seq_printf(self, fmt: int) -> None:
        form = self.cpu.text(fmt)
        if "%pS" in form:
            return
        numbers = [self.cpu.argument(2 + number) for number in range(form.count("%"))]
        if "%pa" in form:
            numbers = [int(self.cpu.view(numbers[0], 8).view("<u8")[0])]
        self.text.append(_printed(form, numbers))

    @stands_for("void seq_putc(struct seq_file *m, char c)")
    def _seq_putc(self, c: int) -> None:
        self.text.append(chr(c & 0xFF))

    @stands_for("void seq_puts(struct seq_file *m, const char *s)", "6.1 to 6.11")
    @stands_for("void __seq_puts(struct seq_file *m, const char *s)", "6.12 on")
    def _seq_puts(self, s: int) -> None:
        self.text.append(self.cpu.text(s))

    @stands_for("int seq_write(struct seq_file *m, const void *data, size_t len)")
    def _seq_write(self, data: int, len: int) -> None:  # noqa: A002
        self.text.append(self.cpu.view(data, len).tobytes().decode())

    # -- the rest -----------------------------------------------------------------------------------

    @stands_for("int down_read_trylock(struct rw_semaphore *sem)")
    @stands_for("int mutex_trylock(struct mutex *lock)")
    @stands_for("int _raw_spin_trylock(raw_spinlock_t *lock)")
    @stands_for("int lock_is_held_type(const struct lockdep_map *lock, int read)")
    @stands_for("bool rcu_is_watching(void)")
    @stands_for("int __printk_ratelimit(const char *func)")
    def _yes(self) -> int:
        return 1

    @stands_for("bool queue_work_on(int cpu, struct workqueue_struct *wq, struct work_struct *work)")
    def _queue_work_on(self, cpu: int, work: int) -> int:
        if work in self.work:
            return 0
        self.work[work] = cpu
        return 1

    @stands_for("void call_rcu(struct callback_head *head, rcu_callback_t func)")
    def _call_rcu(self, head: int, func: int) -> None:
        if func < 4096:  # no function: kfree_rcu() of TINY_RCU gives the distance to the object
            self._free(head - func)
        else:
            self.callbacks.append((head, func))

    @stands_for("long vmaplab_take_work(struct work_struct *work)")
    def _take_work(self, work: int) -> int:
        return self.work.pop(work, -1)

    @stands_for("long schedule_timeout_uninterruptible(long timeout)")
    def _schedule_timeout_uninterruptible(self) -> None:
        raise Undefined(f"{self.cpu.caller()} waits for memory, or for addresses, and nobody gives them back")

    @stands_for("void panic(const char *fmt, ...)")
    def _panic(self, fmt: int) -> None:
        raise KernelFault(f"panic in {self.cpu.caller()}: {self._formatted(fmt, 1)}")


def _copied(fields: dict[str, Any]) -> dict[str, Any]:
    """A copy of each field; lists in a dict are copied too."""
    copied = {name: value if type(value) in _PLAIN else value.copy() for name, value in fields.items()}
    for name in ("_free_objects", "_free_tables"):
        copied[name] = {key: list(one) for key, one in copied[name].items()}
    return copied


_PLAIN = (int, type(None))


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


STAND_INS: dict[str, list[StandIn]] = {}
"""Functions that :class:`Rest` answers: by name, a stand-in for each prototype that trees have."""
for _entry in _declared:
    STAND_INS.setdefault(_entry[0].name, []).append(StandIn(*_entry))
