# SPDX-License-Identifier: GPL-2.0-only
"""A CPU that stops after so many instructions, and that logs what they touch.

There is one of it, which takes the place of each CPU in turn: registers are put away and taken back, the memory is
common to all.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np
import unicorn
from unicorn.unicorn_py3.unicorn import uclib

from vmaplab._jit import callback
from vmaplab.object.build import Built
from vmaplab.object.emulator import EXIT, NATIVE_ACCESS, NATIVE_BLOCK, STACK, STACK_BYTES, Emulator, carray, stop
from vmaplab.object.family import FENCE, RELEASES
from vmaplab.race.marks import OURS, kinds_of
from vmaplab.trace import Ints, signed

CPUS = 4
"""CPUs that can call at the same time: VMAPLAB_TASKS of support/ and one more."""

READ, WRITE, TAKE, DROP, RCU, ALLOC, FREE, BARRIER, FLUSH = range(9)
"""What a row of the log is: an access, a lock that was taken or is about to be released, how deep RCU readers' sections
are nested now, memory that was allocated or freed, a barrier between stores, a TLB flush."""

WHAT, PLACE, ADDRESS, WHEN, VALUE, OLD = range(6)
"""Columns of the log. WHAT: the kind, 256 times the bits of its instruction (:mod:`.marks`), 2^16 times the bytes, 2^32
times the CPU. PLACE: the instruction; of a lock that is taken, what the function that takes it returns to. ADDRESS:
of a lock with 1 where it is shared, and 2 where it was only tried. WHEN: instructions that its CPU has executed
before it. VALUE: what was stored, or the size of the memory; of a lock, instructions that its CPU has executed
before it asked for it. OLD: what a store replaced, where :meth:`Stepper.run` was told to keep that."""
COLUMNS = 6

(
    _LEFT,
    _DONE,
    _AT,
    _ROWS,
    _ROOM,
    _STACKS,
    _STACKS_END,
    _TEXT,
    _TEXT_BYTES,
    _CPU,
    _ON,
    _TAKE,
    _DROP,
    _RCU,
    _KINDS,
    _TRAPPED,
    _ENTERED,
    _INSIDE,
    _TRACED,
    _TRACE,
    _KEEP,
    _FROM,
    _BY,
) = range(23)
_LOG = 23
_TRACE_ROOM = 1 << 20
_TRAP = 1 << 7  # a bit of an instruction: the CPU stops there
ROOM_ROWS = 1 << 17
"""Rows that the log has room for; what comes after them is not in it."""


class Stopped(Enum):
    """Why a CPU stands still."""

    RETURNED = auto()
    SWITCHED = auto()
    WAITS = auto()


@dataclass
class Cpu:
    """One of the CPUs.

    :param number: from 0 on.
    :param context: its registers, or None before its first call.
    :param done: instructions that it has executed.
    :param lock: the lock that it waits for, or 0; ``place``: what the function that takes it returns to.
    :param inside: whether it stands in what stands for locks; ``entered``: instructions that it had executed before.
    """

    number: int
    context: Any = None
    done: int = 0
    lock: int = 0
    place: int = 0
    inside: int = 0
    entered: int = 0


class Stepper(Emulator):
    """:class:`Emulator` for calls that overlap, which are short.

    :ivar now: the CPU that runs, or None while nothing overlaps.
    """

    def __init__(self, built: Built, answer: Callable[[str], int], log_lines: int = 1 << 16) -> None:
        super().__init__(built, answer, log_lines)
        start, end = self.image.text
        kinds = kinds_of(self.image, built.target.family, built.tree)
        words = _LOG + COLUMNS * ROOM_ROWS
        trace = words + (len(kinds) + 7 >> 3)
        self._touched: Ints = np.zeros(trace + _TRACE_ROOM, dtype=np.int64)
        self._touched.view(np.uint8)[8 * words : 8 * words + len(kinds)] = kinds
        head = self._touched
        head[_ROOM], head[_KINDS], head[_TRACE] = ROOM_ROWS, 8 * words, trace
        head[_TRACED] = -1
        head[_TEXT], head[_TEXT_BYTES] = signed(start), end - start
        low = self.base + STACK + STACK_BYTES  # those of the CPUs follow that of calls that do not overlap
        self.map(low, CPUS * STACK_BYTES)
        head[_STACKS], head[_STACKS_END] = signed(low), signed(low + CPUS * STACK_BYTES)
        for index, name in ((_FROM, "from"), (_TAKE, "take"), (_DROP, "drop"), (_RCU, "rcu")):
            head[index] = signed(self.image.address(f"vmaplab_told_{name}"))
        self._add_hook(unicorn.UC_HOOK_CODE, _on_instruction.address, head, start, end - 1)
        self._add_hook(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, _on_access.address, head, 1, 0)
        head[_LEFT] = -1
        self.now: Cpu | None = None
        self._waits = False
        self._traps: dict[int, Callable[[], None]] = {}

    def trap_at(self, address: int, action: Callable[[], None], goes_on: bool) -> None:
        """As the emulator's. A hook for each would cost each instruction: Unicorn goes through all of them."""
        if goes_on:
            self._disarm(address)
        head = self._touched
        head.view(np.uint8)[int(head[_KINDS]) + address - self.image.text[0]] |= _TRAP
        self._traps[address] = action

    def _enter(self, start: int) -> None:
        """Run, and do at traps what is to be done there."""
        head = self._touched
        head[_TRAPPED] = 0
        while True:
            super()._enter(start)
            start = self.register(self.family.program_counter)
            if head[_TRAPPED] != 1:
                return
            self._traps[start]()
            head[_TRAPPED] = 2  # it goes on from there

    # -- what a CPU does ----------------------------------------------------------------------------

    def begin(self, trace: bool = False) -> None:
        """Forget what was logged; from here on all is.

        :param trace: keep which instructions are executed, for :attr:`trace`.
        """
        self._touched[_ROWS], self._touched[_TRACED] = 0, 0 if trace else -1

    @property
    def trace(self) -> Ints:
        """The instructions that were executed since :meth:`begin`, in order; as many as there is room for."""
        first, count = int(self._touched[_TRACE]), int(self._touched[_TRACED])
        return self._touched[first : first + max(count, 0)]

    def prepare(self, cpu: Cpu, function: int, arguments: tuple[int, ...]) -> None:
        """Let ``cpu`` stand where it has just called the code at ``function``.

        The registers that make it that CPU are as they are now, or as its last call left them.
        """
        family = self.family
        if cpu.context is not None:
            self._uc.context_restore(cpu.context)
        for register, value in zip(family.arguments, arguments, strict=False):
            self.set_register(register, value)
        stack = self.base + STACK + STACK_BYTES * (2 + cpu.number) - 64
        if family.link is None:
            stack -= 8
            self.view(stack, 8).view("<u8")[0] = self.base + EXIT
        else:
            self.set_register(family.link, self.base + EXIT)
        self.set_register(family.stack, stack)
        self.set_register(family.program_counter, function)
        cpu.context = self._uc.context_save()

    def run(self, cpu: Cpu, instructions: int = -1, keep: bool = False) -> Stopped:
        """Let ``cpu`` execute so many instructions, stubs aside, or all of its call.

        :param keep: what each store of 8 bytes at most replaces.
        :raises KernelFault: if it does what no kernel may do.
        """
        uc, head = self._uc, self._touched
        uc.context_restore(cpu.context)
        head[_LEFT], head[_DONE], head[_CPU], head[_ON], head[_KEEP] = instructions, cpu.done, cpu.number, 1, keep
        head[_INSIDE], head[_ENTERED] = cpu.inside, cpu.entered
        self._allow_blocks()
        self.now, self._waits = cpu, False
        try:
            self._enter(self.register(self.family.program_counter))
        finally:
            self.now = None
            cpu.done, cpu.inside, cpu.entered = int(head[_DONE]), int(head[_INSIDE]), int(head[_ENTERED])
            head[_LEFT], head[_ON] = -1, 0
        uc.context_update(cpu.context)
        if self._waits:
            return Stopped.WAITS
        return Stopped.RETURNED if self.register(self.family.program_counter) == self.base + EXIT else Stopped.SWITCHED

    def wait(self, cpu: Cpu, lock: int, place: int) -> None:
        """The CPU that runs cannot have ``lock`` now: it stops here, and asks again when it goes on."""
        if cpu.lock:  # it has been let go on
            cpu.lock = 0
            return
        cpu.lock, cpu.place = lock, place
        self._waits = True
        self._uc.emu_stop()

    def note(self, kind: int, address: int, size: int) -> None:
        """Add to the log what is being answered: that memory was allocated or freed, or a TLB flushed."""
        head = self._touched
        if head[_ON]:
            when = head[_ENTERED] if head[_INSIDE] else head[_DONE] - 1  # before the call
            self._add_row(kind | int(head[_CPU]) << 32, head[_AT], signed(address), when, size)

    def note_order(self, cpu: int, what: int, done: int) -> None:
        """Add to the log that ``cpu`` comes after who has noted the same ``what``, as one who takes the same lock.

        :param done: instructions that it has executed.
        """
        for kind in (TAKE, DROP):
            self._add_row(kind | cpu << 32, 0, signed(what), done, done)

    def _add_row(self, *row: int) -> None:
        """A row of the log, but OLD, if there is room for it."""
        head = self._touched
        number = int(head[_ROWS])
        if number < ROOM_ROWS:
            at = _LOG + COLUMNS * number
            head[at : at + COLUMNS] = *row, 0
            head[_ROWS] += 1

    @property
    def done(self) -> int:
        """Instructions that the CPU that runs has executed."""
        return int(self._touched[_DONE])

    @property
    def touched(self) -> Ints:
        """The log since :meth:`begin`, shape (n, COLUMNS); a view."""
        rows = int(self._touched[_ROWS])
        return self._touched[_LOG : _LOG + COLUMNS * rows].reshape(-1, COLUMNS)


read_memory = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t)(
    ("uc_mem_read", uclib)
)


@callback(NATIVE_BLOCK)
def _on_instruction(uc: Any, address: int, _size: int, data: Any) -> None:
    head = carray(data, (_LOG,), np.int64)
    offset = np.int64(address) - head[_TEXT]
    kind = carray(data, (head[_KINDS] + offset + 1,), np.uint8)[head[_KINDS] + offset]
    if head[_LEFT] == 0 and not (kind & OURS and head[_INSIDE]):  # what stands for locks is not to be seen half done
        stop(uc)
        return
    if kind & OURS:
        if not head[_INSIDE]:
            head[_INSIDE], head[_ENTERED] = 1, head[_DONE]
    else:
        head[_INSIDE] = 0
    if kind & _TRAP:
        if head[_TRAPPED] != 2:
            head[_TRAPPED] = 1
            stop(uc)
            return
        head[_TRAPPED] = 0
    if 0 <= head[_TRACED] < _TRACE_ROOM:
        carray(data, (head[_TRACE] + _TRACE_ROOM,), np.int64)[head[_TRACE] + head[_TRACED]] = np.int64(address)
        head[_TRACED] += 1
    if head[_LEFT] > 0:
        head[_LEFT] -= 1
    head[_DONE] += 1
    head[_AT] = np.int64(address)
    if kind & FENCE and not kind & OURS and head[_ON] and head[_ROWS] < head[_ROOM]:
        at = _LOG + COLUMNS * head[_ROWS]
        log = carray(data, (at + COLUMNS,), np.int64)
        log[at + WHAT] = np.int64(BARRIER) | head[_CPU] << 32
        log[at + PLACE] = head[_AT]
        log[at + ADDRESS] = 0
        log[at + WHEN] = head[_DONE] - 1
        head[_ROWS] += 1


@callback(NATIVE_ACCESS)
def _on_access(uc: Any, access: int, address: int, size: int, value: int, data: Any) -> None:
    head = carray(data, (_LOG,), np.int64)
    if not head[_ON]:
        return
    where = np.int64(address)
    if head[_STACKS] <= where < head[_STACKS_END]:
        return
    offset = head[_AT] - head[_TEXT]
    kinds = carray(data, (head[_KINDS] + head[_TEXT_BYTES],), np.uint8)
    bits = np.int64(kinds[head[_KINDS] + offset]) if 0 <= offset < head[_TEXT_BYTES] else np.int64(0)
    what = np.int64(WRITE) if access == unicorn.UC_MEM_WRITE else np.int64(READ)
    if bits & OURS and not bits & RELEASES:
        if what == READ:
            return
        if where == head[_FROM]:
            head[_BY] = np.int64(value)
            return
        if where == head[_TAKE]:
            what = np.int64(TAKE)
        elif where == head[_DROP]:
            what = np.int64(DROP)
        elif where == head[_RCU]:
            what = np.int64(RCU)
        else:
            return
        where = np.int64(value)
    row = head[_ROWS]
    if row < head[_ROOM]:
        log = carray(data, (_LOG + COLUMNS * (row + 1),), np.int64)
        at = _LOG + COLUMNS * row
        log[at + WHAT] = what | bits << 8 | np.int64(size) << 16 | head[_CPU] << 32
        log[at + PLACE] = head[_BY] if what == TAKE else head[_AT]
        log[at + ADDRESS] = where
        log[at + WHEN] = head[_DONE] - 1
        log[at + VALUE] = value if what == WRITE else head[_ENTERED]
        log[at + OLD] = 0
        if head[_KEEP] and what == WRITE and size <= 8:
            read_memory(uc, address, log[at + OLD :].ctypes, size)
        head[_ROWS] += 1
