# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's allocators, as the vmalloc code meets them: slab, the page allocator, memory for page tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.errors import KernelFault, Undefined
from vmaplab.object.standin import Cpu, stands_for
from vmaplab.pages import heap
from vmaplab.trace import L_TABLE_ALLOC, L_TABLE_FREE

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


class GfpBits(NamedTuple):
    """``__GFP_ZERO``, ``_DIRECT_RECLAIM``, ``_ACCOUNT``, ``_NOFAIL``, ``_DMA`` or ``_DMA32``, ``_HIGHMEM``."""

    zero: int = 0
    reclaim: int = 0
    account: int = 0
    nofail: int = 0
    low: int = 0
    highmem: int = 0


class Memory:
    """What the rest of the kernel holds, for one emulated machine, and how it hands out memory.

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
        work callbacks areas messages copied text printed inserted dirty accounted lent charged direct buddy
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
        self._answers: dict[str, Callable[[Callable[[int], int]], int | None]] = {}
        self.reset()

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

    @property
    def objects(self) -> Counter[tuple[int, int]]:
        """The same ones: (bytes, what the call that allocated them returned to) -> how many."""
        places = self._places
        return Counter((size, places.get(at, 0)) for at, size in self._objects.items() if at not in self._nodes)

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

    def _give_back_all(self, pages: NDArray[np.uint64], orders: NDArray[np.int64]) -> bool:
        """Take back blocks by page structs and orders, if they are different pages and nothing is to be said of any."""
        if self._whole or self.direct or self.buddy is None or (orders & 0xFFFF_FFFF).any():
            return False
        pfns = [self.pfn_of(page) for page in pages.tolist()]
        different = set(pfns)
        if len(different) < len(pfns) or not different <= self._owned:
            return False
        for kept in (self._owned, self.dirty, self.accounted, self.lent):
            kept.difference_update(different)
        self.buddy.free_pages(np.array(pfns, dtype=np.uint64))
        return True

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


def _copied(fields: dict[str, Any]) -> dict[str, Any]:
    """A copy of each field; lists in a dict are copied too."""
    copied = {name: value if type(value) in _PLAIN else value.copy() for name, value in fields.items()}
    for name in ("_free_objects", "_free_tables"):
        copied[name] = {key: list(one) for key, one in copied[name].items()}
    return copied


_PLAIN = (int, type(None))


def _room(size: int) -> int:
    """Bytes of slab memory that an object of ``size`` bytes and its red zone take."""
    return -(-size // _ALIGN) * _ALIGN + _ALIGN
