# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own code as a machine whose CPUs call at the same time, by a schedule."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.effects import Purges
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import text_of
from vmaplab.calls.table import call_of, perform
from vmaplab.errors import InputError, KernelFault, Undefined, Violation
from vmaplab.judge import invariants
from vmaplab.judge.history import History
from vmaplab.object.build import Built
from vmaplab.object.family import ATOMIC, RELEASES
from vmaplab.object.kernel import ObjectKernel
from vmaplab.pages.heap import Buddy
from vmaplab.race import promises
from vmaplab.race.digest import digest
from vmaplab.race.hooks import ADDRESS, BARRIER, CPUS, DROP, FLUSH, OLD, WHAT, WHEN, WRITE
from vmaplab.race.played import Lowered, Played, Segment, Store
from vmaplab.race.quarantine import Quarantine
from vmaplab.race.schedule import Schedule, Turn
from vmaplab.race.stepper import Cpu, Stepper, Stopped
from vmaplab.trace import L_FLUSH_VMAP, Ints

WORKERS = 2
"""CPUs that run works: one that drains, and one that helps it."""
ZONE = 1 << 12
"""Pages that vmalloc() can have here: few, so that the page allocator is soon as it was."""
_SLOT = 1 << 16
_UNKNOWN = 0x6D17_0000_0000_0000
"""Stands for an address that a call of the same CPU will return: this, and 2^32 for each call before that one."""
_SWITCHES = 10_000
_KEPT_WALKS = 64
_PATIENCE = 1 << 20  # instructions after which another CPU gets the turn: this one may wait for what that does
_MOST_YIELDS = 8
_BLOCKS = 1 << 20  # that calls which overlap can take at a stretch: they are short


class Overlap(ObjectKernel):
    """One machine, whose calls can overlap.

    :param built: an object with CONFIG_SMP and CONFIG_PREEMPT.
    :param callers: CPUs that call at the same time, 2 to CPUS. Up to WORKERS more run the works that are queued.
    """

    _emulator = Stepper
    _others = Quarantine
    _cpu: Stepper
    _rest: Quarantine

    def __init__(self, built: Built, callers: int = 2, boot_args: str | Iterable[str] = ()) -> None:
        if not 2 <= callers <= CPUS:
            raise InputError(f"2 to {CPUS} CPUs can call at the same time, not {callers}")
        most = min(CPUS, int(built.config.get("NR_CPUS", CPUS)))
        cpus = max(callers, min(callers + WORKERS, most))
        self._workers = range(callers, cpus)
        self._capturing: list[Any] | None = None
        self._walks: dict[bytes, tuple[NDArray[np.uint64], Ints]] = {}
        self._found: dict[tuple[int, tuple[int, ...]], int | None] = {}
        self._first_seen: History | None = None
        self._seen: dict[Any, History | Violation] = {}
        super().__init__(built, boot_args, cpus=cpus)

    def _boot(self, count: bool) -> None:
        super()._boot(count)
        cpu, rest, page = self._cpu, self._rest, self.arch.page_shift
        first = 0 if self.total_pages else self.arch.ram_base >> page
        rest.make_buddy = lambda: Buddy(first, ZONE, min(self.arch.max_page_order, 10))
        rest.atomic = lambda: self._rules.atomic(cpu.now.number if cpu.now else None)
        self._registers = []
        for number in range(self.cpus):
            task = cpu.call("vmaplab_task_of", number)
            if cpu.family.task is not None:
                cpu.set_register(cpu.family.task, task)
            if cpu.call("vmaplab_set_cpu", number) != number:
                raise InputError(f"{self.code} has no CPU numbers where vmaplab puts them")
            self._registers.append(cpu._uc.context_save())
        cpu._uc.context_restore(self._registers[0])
        cpu.most_blocks = _BLOCKS
        self._held_count = cpu.view(cpu.image.address("vmaplab_held_count"), 8).view("<u8")
        self._held = cpu.view(cpu.image.address("vmaplab_held"), 32 * 64).view("<u8").reshape(-1, 4)
        told = (cpu.image.address(f"vmaplab_told_{name}") for name in ("from", "take", "drop", "rcu"))
        self._told = [cpu.view(address, 8).view("<u8") for address in told]
        cpu.take_log()
        self._kept = cpu.image_state(), rest.state(), cpu.view(rest.heap_start, rest.heap_used).copy()

    # -- what is called -----------------------------------------------------------------------------

    def lower(self, step: Operation, addr: int, slot: int) -> Lowered:
        """The call in C that ``step`` is, its arrays in memory that no other ``slot`` uses.

        :raises InputError: if it is none, or does not fit.
        """
        call = call_of(step)
        if call is None:
            raise InputError(f"'{step.call}' is no call; calls that overlap are calls alone")
        room, out = self._input, self._out
        self._input, self._out = room[slot * _SLOT : (slot + 1) * _SLOT], out + slot * _SLOT
        self._capturing = []
        try:
            perform(self, step, addr)
        except _Captured:
            function, *arguments = self._capturing
            self._cpu.image.address(function)
            return Lowered(step, function, tuple(arguments), call)
        finally:
            self._input, self._out, self._capturing = room, out, None
            self._forbid("")
        raise InputError(f"'{text_of(step)}' does not call the kernel: {addr:#x} is no address for it")

    def _put(self, array: NDArray[np.uint64]) -> int:
        if self._capturing is None:
            return super()._put(array)
        if 8 * len(array) > _SLOT - 64:
            raise InputError(f"{len(array)} words for a call that overlaps another; there is room for {_SLOT // 8 - 8}")
        self._input[64 : 64 + 8 * len(array)].view(np.uint64)[:] = array
        return self._out + 64

    def _call(self, function: str, *arguments: int) -> int:
        if self._capturing is None:
            return super()._call(function, *arguments)
        self._capturing += [function, *arguments]
        raise _Captured

    # -- moments ------------------------------------------------------------------------------------

    def moment(self) -> Any:
        """All that the calls so far have left, for :meth:`go_back`."""
        cpu, rest, arch = self._cpu, self._rest, self.arch
        pages = {chunk: room.copy() for chunk, room in self._page_structs.items()}
        used = rest.tables_end - arch.table_base
        spare = self._table_bytes[:used].copy()
        seen = History(self._form, arch.table_base, self.table_root)
        seen.follow(self.log.rows(0), strict=False)
        heap = cpu.view(rest.heap_start, rest.heap_used).copy()
        return cpu.image_state(), rest.state(), heap, spare, pages, seen

    def go_back(self, moment: Any) -> None:
        """Back to that moment."""
        cpu, rest = self._cpu, self._rest
        image, state, heap, tables, pages, seen = moment
        if seen is not self._first_seen:
            self._first_seen, self._seen = seen, {}
        self._table_bytes[: rest.tables_end - self.arch.table_base] = 0
        self._table_bytes[: len(tables)] = tables
        cpu.restore_image(image)
        rest.restore(state)
        rest.fail(())
        cpu.view(rest.heap_start, len(heap))[:] = heap
        for chunk in self._page_structs:
            if chunk in pages:
                self._page_structs[chunk][:] = pages[chunk]
            else:
                self._new_page_structs(chunk)
        if self._demanded:
            self._drop(lambda address: True)
        cpu.take_log()

    def standing(self) -> tuple[bytes, int, int]:
        """The state of the machine where no CPU runs, in short: the same for two schedules that left the same."""
        cpu, rest = self._cpu, self._rest
        if not self._held_count[0]:
            self._held[:] = 0  # what was told of locks is no state
            for word in self._told:
                word[0] = 0
        used = rest.tables_end - self.arch.table_base
        rooms = [*cpu.writable, cpu.view(rest.heap_start, rest.heap_used), self._table_bytes[:used]]
        rooms += self._page_structs.values()
        number = 0
        for room in rooms:
            number = hash((number, *digest(room[: len(room) & -8].view(np.uint64))))
        fields = vars(rest)
        kept = [fields[name] for name in rest.changing if name not in ("buddy", "known")]
        return marshal.dumps([kept, cpu.warnings]), number, rest.taken_pages

    def seen(self, calls: Sequence[promises.Call] = ()) -> History:
        """What the page tables and their flushes have come to since the moment, and what a TLB may still hold.

        The TLB and the paging-structure cache of each CPU are filled at any time: they hold all that was ever to be
        had, until a flush. Schedules with the same stores and flushes are judged once.

        :param calls: those that overlapped.
        :raises Violation: if a walker of another CPU may see what it must not.
        """
        assert self._first_seen is not None  # there was a moment
        rows = self._cpu.logged
        purges = promises.owed(calls)
        told = rows if purges else rows[rows[:, 0] < L_FLUSH_VMAP]  # purges count all events
        key = told.tobytes(), purges
        if key not in self._seen:
            for old in list(self._seen)[: 1 - _KEPT_WALKS]:
                del self._seen[old]
            try:
                self._seen[key] = seen = self._first_seen.copy()
                promises.follow(seen, rows, purges)
            except Violation as error:
                self._seen[key] = Violation(f"the MMU of another CPU: {error}")
        known = self._seen[key]
        if isinstance(known, Violation):
            raise known
        return known

    # -- schedules ----------------------------------------------------------------------------------

    def play(self, bodies: Sequence[Sequence[Lowered]], schedule: Schedule, trace: bool = False) -> Played:
        """Let each CPU make its calls, ``bodies[cpu]`` one after the other, by ``schedule``.

        :param trace: keep which instructions are executed, for :meth:`stack`.
        """
        cpu, image = self._cpu, self._cpu.image
        played = Played(results=[[] for _ in bodies])
        cpus = [Cpu(number, self._registers[number]) for number in range(self.cpus)]
        running = {number for number, body in enumerate(bodies) if body}
        plan = list(schedule)
        working = self._rest.working
        buffers: dict[int, list[Store]] = {}
        yields = turns = 0
        under_way: dict[int, promises.Call] = {}
        cpu.begin(trace)

        def start(one: Cpu) -> None:
            number = len(played.results[one.number])
            call = bodies[one.number][number]
            one.context = self._registers[one.number]
            known = played.results[one.number]
            cpu.prepare(one, image.address(call.function), tuple(_known(value, known) for value in call.arguments))

        def work(one: Cpu) -> None:
            queued = self._rest.work
            item = next(item for item in queued if item not in working.values())
            working[one.number] = item
            one.context = self._registers[one.number]
            cpu.prepare(one, image.address("vmaplab_run_work"), (item, queued.pop(item) % (1 << 32)))
            cpu.note_order(one.number, item, one.done)
            running.add(one.number)
            played.finished.discard(one.number)

        try:
            for number in running:
                start(cpus[number])
            while running or self._idle():
                ready = {number for number in running if not self._waits(cpus[number])} | self._idle()
                if not ready:
                    raise KernelFault(self._deadlock([cpus[it] for it in sorted(running)]))
                turn = self._next(plan, ready)
                turns += 1
                number, count, late = turn
                patience = _PATIENCE >> 5 if yields else _PATIENCE
                patient = 0 <= count <= patience
                one, row, before, begins = cpus[number], len(cpu.touched), cpus[number].done, number not in running
                if begins:
                    work(one)
                if number not in under_way:
                    entry = None if number in working else bodies[number][len(played.results[number])].call
                    purges = entry is not None and isinstance(entry.effect, Purges)
                    name = entry.method if entry else ""
                    under_way[number] = promises.Call(name, purges, turns, len(cpu.logged))
                    played.calls.append(under_way[number])
                for store in buffers.pop(number, ()):
                    cpu.view(store.address, store.size)[:] = store.new
                try:
                    why = cpu.run(one, count if patient else patience, keep=bool(late))
                except KernelFault:
                    played.ran(Segment(number, before, one.done, row, 0, (), begins))
                    raise
                if self._demanded:
                    self._drop(lambda address: self._look_up(address) is None)
                if late and why is Stopped.SWITCHED and patient:
                    buffers[number], late = self._delay(row, before, late)
                if lost := [at for at in turn.late if at not in late and at < one.done - before]:
                    played.astray = f"instruction {lost[0]} of a turn of CPU {number} stores nothing that can come late"
                played.ran(Segment(number, before, one.done, row, one.lock, late, begins))
                if why is Stopped.SWITCHED and not patient:
                    yields += 1
                    others = running - {number}
                    if not others or yields > _MOST_YIELDS:
                        raise KernelFault(f"CPU {number} executes {one.done} instructions, and no end")
                    rest = Turn(number, count - patience if count >= 0 else -1, late)
                    plan[:0] = [Turn(number, 37 * yields), *map(Turn, sorted(others)), rest]  # it may hold their lock
                if len(played.segments) > _SWITCHES:
                    raise KernelFault(f"{_SWITCHES} switches and no end: the CPUs wait for each other")
                if why is Stopped.RETURNED:
                    call = under_way.pop(number)
                    call.last, call.end = turns, len(cpu.logged)
                if why is Stopped.RETURNED and number in working:
                    cpu.note_order(number, working.pop(number), one.done)
                    running.discard(number)
                    played.finished.add(number)
                    if count > one.done - before:
                        played.astray = f"the work of CPU {number} is over after {one.done - before} instructions"
                elif why is Stopped.RETURNED:
                    played.results[number].append(cpu.register(cpu.family.result))
                    if len(played.results[number]) < len(bodies[number]):
                        start(one)
                        left = count - (one.done - before)
                        if count < 0 or left > 0:
                            later = tuple(at - (one.done - before) for at in turn.late if at >= one.done - before)
                            plan.insert(0, Turn(number, left if count >= 0 else -1, later))
                    else:
                        running.discard(number)
                        played.finished.add(number)
                        if count > one.done - before:
                            played.astray = f"the calls of CPU {number} are over after {one.done} instructions in all"
            if plan and not yields and not played.astray:
                played.astray = f"CPU {plan[0].cpu} has nothing to run in one of its turns"
        except Undefined:
            raise
        except KernelFault as fault:
            played.fault = str(fault)
        played.rows = cpu.touched
        cpu._uc.context_restore(self._registers[0])
        return played

    def _next(self, plan: list[Turn], ready: set[int]) -> Turn:
        """Who of those that can runs now, and for how long."""
        for at, turn in enumerate(plan):
            if turn.cpu in ready:
                return plan.pop(at)
        return Turn(min(ready))

    def _delay(self, row: int, start: int, late: tuple[int, ...]) -> tuple[list[Store], tuple[int, ...]]:
        """Take back the stores of instructions ``late`` of what was run last, and say which could be.

        :param row: the first row of the log of what was run; ``start``: instructions before it.
        """
        cpu, touched = self._cpu, self._cpu.touched[row:]
        rows = touched[np.searchsorted(touched[:, WHEN], start + min(late)) :].tolist()
        found: list[Store] = []
        kept: set[int] = set()
        later: list[tuple[int, int]] = []
        for one in reversed(rows):
            kind, bits, size, address = one[WHAT] & 0xFF, one[WHAT] >> 8 & 0xFF, one[WHAT] >> 16 & 0xFFFF, one[ADDRESS]
            if kind in (BARRIER, DROP, FLUSH) or (kind == WRITE and bits & RELEASES):
                break
            if kind != WRITE:
                continue
            again = any(first < address + size and address < end for first, end in later)
            if one[WHEN] - start in late and size <= 8 and not again and not bits & ATOMIC:
                memory = cpu.view(address % (1 << 64), size)
                found.append(Store(address % (1 << 64), size, memory.copy()))
                memory[:] = np.frombuffer(np.int64(one[OLD]).tobytes()[:size], dtype=np.uint8)
                kept.add(one[WHEN] - start)
            later.append((address, address + size))
        return found[::-1], tuple(sorted(kept))

    def _waits(self, one: Cpu) -> bool:
        """Whether a CPU waits for a lock that another still holds, or for a work that another runs."""
        if not one.lock:
            return False
        if one.lock in self._rest.working.values():
            return True
        count = int(self._held_count[0])
        return any(lock == one.lock and cpu != one.number for lock, _, _, cpu in self._held[:count].tolist())

    def _idle(self) -> set[int]:
        """The worker that can take a work next, if there is one that nobody runs."""
        rest = self._rest
        if not rest.work.keys() - rest.working.values():
            return set()
        return set([number for number in self._workers if number not in rest.working][:1])

    def _deadlock(self, cpus: list[Cpu]) -> str:
        told = [
            f"CPU {one.number} waits in {self._cpu.place(one.place)} for {self._rest.lock_name(one.lock)}"
            for one in cpus
            if one.lock
        ]
        return "a deadlock: " + ", ".join(told)

    def mapped(self) -> tuple[NDArray[np.uint64], Ints]:
        """Address of each page that is mapped, ascending, and its frame: what a walker finds.

        Most schedules of the same calls leave the same tables, which are walked once.
        """
        used = self._rest.tables_end - self.arch.table_base
        tables = self._table_bytes[:used].tobytes()
        if tables not in self._walks:
            if len(self._walks) >= _KEPT_WALKS:
                self._walks.clear()
            va, phys = invariants.spread(self._walk(0, 1 << 64).entries, np.uint64(self.arch.page_size))
            self._walks[tables] = va, (phys >> np.uint64(self.arch.page_shift)).astype(np.int64)
        return self._walks[tables]

    def _look_up(self, addr: int) -> int | None:
        key = addr, digest(self._table_bytes[: self._rest.tables_end - self.arch.table_base].view(np.uint64))
        if key not in self._found:
            if len(self._found) >= _KEPT_WALKS:
                self._found.clear()
            self._found[key] = super()._look_up(addr)
        return self._found[key]

    def finish(self, calls: Sequence[promises.Call] = ()) -> History:
        """Run what was queued, on CPU 0, and look at what has to hold when nothing is under way.

        Returns what a TLB may still hold.

        :param calls: those that overlapped.
        :raises KernelFault: if it does not hold; Violation, likewise.
        """
        cpu, rest = self._cpu, self._rest
        self._run_queued()
        rest.grace()
        if self._held_count[0]:
            lock, place = self._held[0, :2].tolist()
            raise KernelFault(f"{rest.lock_name(lock)} is still held at the end; {cpu.place(place)} took it")
        self._rules.settled()
        rest.check_heap()
        self._rules.trees_hold()
        seen = self.seen(calls)
        for start, end in seen.cached[0]:
            if address := cpu.call("vmaplab_free_within", start, end):
                raise Violation(f"{address:#x} is free, and a TLB may still hold what was mapped there")
        return seen

    def purge(self, seen: History) -> None:
        """Let vm_unmap_aliases() run when all is over: a TLB holds nothing then that was unmapped.

        :param seen: from :meth:`finish`.
        :raises Violation: if one may.
        """
        self._cpu.take_log()
        self._cpu.call("vm_unmap_aliases")
        rows = self._cpu.take_log()[0]
        seen = seen.copy()
        seen.follow(rows[rows[:, 0] < L_FLUSH_VMAP])
        if (address := seen.stale.first) is not None:
            raise Violation(
                f"all is over, vm_unmap_aliases() returns, and a TLB may still hold what was mapped at {address:#x}"
            )


class _Captured(Exception):  # noqa: N818 - no error: what is called is known
    pass


def unknown(call: int) -> int:
    """What stands for the address that call number ``call`` of the same CPU will return."""
    return _UNKNOWN + (call << 32)


def _known(value: int, results: list[int]) -> int:
    """An argument, once what it stands for is known."""
    if value >> 48 != _UNKNOWN >> 48:
        return value
    call = (value - _UNKNOWN) >> 32
    return (results[call] + value - unknown(call)) % (1 << 64)
