# SPDX-License-Identifier: GPL-2.0-only
"""What the rest of the kernel answers when the vmalloc code calls it: slab, page allocator, printk, workqueues.

A stand-in declares the C prototype that it stands for, and gets the arguments by the names in it. Where trees differ
in the prototype, there is one stand-in for each, and the tree's own declaration chooses (:mod:`.kbuild`). Names are
the kernel's, without the ``_noprof`` that allocation profiling appends since 6.10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from vmaplab.errors import KernelFault, Undefined
from vmaplab.object.memory import FLUSHED, INVALID, OWED, Memory
from vmaplab.object.standin import StandIn, declared, stands_for
from vmaplab.trace import L_FLUSH_TLB, L_FLUSH_VMAP, L_FLUSH_VUNMAP, L_SYNC, Ints, signed

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

_BAD_ENTRY = re.compile(r"\bbad p(?:gd|4d|ud|md) ")
_FORMAT = re.compile(r"%(?:[-+ #0]*\d*(?:\.\d+)?)(?:hh|h|ll|l|z)?([a-zA-Z%])[A-Za-z]?")


class Rest(Memory):
    """The rest of the kernel, for one emulated machine: what is seen of it, and what it answers.

    :ivar queued: functions that nothing has to be known for to answer them -> the C argument that they return, or None.
        Vmalloc calls them page by page: the CPU goes on, and :meth:`at_once` does what they do for many pages.
    """

    queued: Mapping[str, int | None] = MappingProxyType(
        {
            "__free_pages": None,
            "vmaplab_mod_memcg_page_state": None,
            "copy_page_to_iter_nofault": 2,
        }
    )

    def choose(self, answers: Mapping[str, int]) -> None:
        """Answer these functions, each with the stand-in of this number."""
        for name, number in answers.items():
            one = STAND_INS[name.removesuffix("_noprof")][number]
            self._answers[name] = self._answer_of(one)

    def _answer_of(self, one: StandIn) -> Callable[[Callable[[int], int]], int | None]:
        method = getattr(self, one.method)
        reads = [(number, one.prototype.types[number].reader()) for number in one.order]
        return lambda argument: method(*[read(argument(number)) for number, read in reads])

    def answer(self, name: str, argument: Callable[[int], int]) -> int:
        """The result of the kernel's function ``name``, whose C arguments ``argument`` gives by their numbers."""
        return self._answers[name](argument) or 0

    def at_once(self, rows: Ints, names: Mapping[int, str]) -> Ints:
        """Do what calls of functions in :attr:`queued` do, as far as that is possible for many at once.

        :param rows: see :data:`.hooks.ROW`; ``names``: of the stubs.
        :returns: the calls that have to be answered one by one.
        """
        stubs = {name: signed(at) for at, name in names.items() if name in self.queued}
        if not self.accounted or self.charged is None:
            rows = rows[rows[:, 0] != stubs.get("vmaplab_mod_memcg_page_state")]
        called = np.unique(rows[:, 0]).tolist()
        if called == [stubs.get("__free_pages")] and self._give_back_all(rows[:, 1].view(np.uint64), rows[:, 2]):
            return rows[:0]
        if called == [stubs.get("copy_page_to_iter_nofault")]:
            copied = rows[:, 1].view(np.uint64).tolist(), (rows[:, 2] & 0xFFFF_FFFF).tolist(), rows[:, 3].tolist()
            self.copied += zip(*copied, strict=True)
            return rows[:0]
        return rows

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

    @stands_for("void vmaplab_mod_memcg_page_state(struct page *page, int item, int val)")
    def _mod_memcg_page_state(self, page: int, val: int) -> None:
        if self.charged is not None and self.pfn_of(page) in self.accounted:
            self.charged += val

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


STAND_INS: dict[str, list[StandIn]] = {}
"""Functions that :class:`Rest` answers: by name, a stand-in for each prototype that trees have."""
for _entry in declared:
    STAND_INS.setdefault(_entry[0].name, []).append(StandIn(*_entry))
