# SPDX-License-Identifier: GPL-2.0-only
"""A CPU that stops after so many instructions, and that logs what they touch.

There is one of it, which takes the place of each CPU in turn: registers are put away and taken back, the memory is
common to all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import numpy as np
import unicorn

from vmaplab.object.build import Built
from vmaplab.object.emulator import EXIT, STACK, STACK_BYTES, Emulator
from vmaplab.object.standin import Answers
from vmaplab.race import hooks
from vmaplab.race.marks import kinds_of
from vmaplab.trace import Ints, signed

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

    def __init__(self, built: Built, rest: Answers, log_lines: int = 1 << 16) -> None:
        super().__init__(built, rest, log_lines)
        start, end = self.image.text
        kinds = kinds_of(self.image, built.target.family, built.tree)
        words = hooks.LOG + hooks.COLUMNS * ROOM_ROWS
        trace = words + (len(kinds) + 7 >> 3)
        self._touched: Ints = np.zeros(trace + hooks.TRACE_ROOM, dtype=np.int64)
        self._touched.view(np.uint8)[8 * words : 8 * words + len(kinds)] = kinds
        head = self._touched
        head[hooks.H_ROOM], head[hooks.H_KINDS], head[hooks.H_TRACE] = ROOM_ROWS, 8 * words, trace
        head[hooks.H_TRACED] = -1
        head[hooks.H_TEXT], head[hooks.H_TEXT_BYTES] = signed(start), end - start
        low = self.base + STACK + STACK_BYTES  # those of the CPUs follow that of calls that do not overlap
        self.map(low, hooks.CPUS * STACK_BYTES)
        head[hooks.H_STACKS], head[hooks.H_STACKS_END] = signed(low), signed(low + hooks.CPUS * STACK_BYTES)
        told = {"from": hooks.H_FROM, "take": hooks.H_TAKE, "drop": hooks.H_DROP, "rcu": hooks.H_RCU}
        for name, index in told.items():
            head[index] = signed(self.image.address(f"vmaplab_told_{name}"))
        self._add_hook(unicorn.UC_HOOK_CODE, hooks.on_instruction.address, head, start, end - 1)
        self._add_hook(unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE, hooks.on_access.address, head, 1, 0)
        head[hooks.H_LEFT] = -1
        self.now: Cpu | None = None
        self._waits = False
        self._traps: dict[int, Callable[[], None]] = {}

    def trap_at(self, address: int, action: Callable[[], None], goes_on: bool) -> None:
        """As the emulator's. A hook for each would cost each instruction: Unicorn goes through all of them."""
        if goes_on:
            self._disarm(address)
        head = self._touched
        head.view(np.uint8)[int(head[hooks.H_KINDS]) + address - self.image.text[0]] |= hooks.TRAP
        self._traps[address] = action

    def _enter(self, start: int) -> None:
        """Run, and do at traps what is to be done there."""
        head = self._touched
        head[hooks.H_TRAPPED] = 0
        while True:
            super()._enter(start)
            start = self.register(self.family.program_counter)
            if head[hooks.H_TRAPPED] != 1:
                return
            self._traps[start]()
            head[hooks.H_TRAPPED] = 2  # it goes on from there

    # -- what a CPU does ----------------------------------------------------------------------------

    def begin(self, trace: bool = False) -> None:
        """Forget what was logged; from here on all is.

        :param trace: keep which instructions are executed, for :attr:`trace`.
        """
        self._touched[hooks.H_ROWS], self._touched[hooks.H_TRACED] = 0, 0 if trace else -1

    @property
    def trace(self) -> Ints:
        """The instructions that were executed since :meth:`begin`, in order; as many as there is room for."""
        first, count = int(self._touched[hooks.H_TRACE]), int(self._touched[hooks.H_TRACED])
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
        head[hooks.H_LEFT], head[hooks.H_ON], head[hooks.H_KEEP] = instructions, 1, keep
        head[hooks.H_CPU], head[hooks.H_DONE] = cpu.number, cpu.done
        head[hooks.H_INSIDE], head[hooks.H_ENTERED] = cpu.inside, cpu.entered
        self._allow_blocks()
        self.now, self._waits = cpu, False
        try:
            self._enter(self.register(self.family.program_counter))
        finally:
            self.now = None
            cpu.done, cpu.inside, cpu.entered = (
                int(head[hooks.H_DONE]),
                int(head[hooks.H_INSIDE]),
                int(head[hooks.H_ENTERED]),
            )
            head[hooks.H_LEFT], head[hooks.H_ON] = -1, 0
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
        if head[hooks.H_ON]:
            when = head[hooks.H_ENTERED] if head[hooks.H_INSIDE] else head[hooks.H_DONE] - 1  # before the call
            self._add_row(kind | int(head[hooks.H_CPU]) << 32, head[hooks.H_AT], signed(address), when, size)

    def note_order(self, cpu: int, what: int, done: int) -> None:
        """Add to the log that ``cpu`` comes after who has noted the same ``what``, as one who takes the same lock.

        :param done: instructions that it has executed.
        """
        for kind in (hooks.TAKE, hooks.DROP):
            self._add_row(kind | cpu << 32, 0, signed(what), done, done)

    def _add_row(self, *row: int) -> None:
        """A row of the log, but OLD, if there is room for it."""
        head = self._touched
        number = int(head[hooks.H_ROWS])
        if number < ROOM_ROWS:
            at = hooks.LOG + hooks.COLUMNS * number
            head[at : at + hooks.COLUMNS] = *row, 0
            head[hooks.H_ROWS] += 1

    @property
    def done(self) -> int:
        """Instructions that the CPU that runs has executed."""
        return int(self._touched[hooks.H_DONE])

    @property
    def touched(self) -> Ints:
        """The log since :meth:`begin`, shape (n, hooks.COLUMNS); a view."""
        rows = int(self._touched[hooks.H_ROWS])
        return self._touched[hooks.LOG : hooks.LOG + hooks.COLUMNS * rows].reshape(-1, hooks.COLUMNS)
