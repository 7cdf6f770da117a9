# SPDX-License-Identifier: GPL-2.0-only
"""A CPU that runs the linked object: memory, calls, traps, limits. Unicorn does the work.

No MMU is on: the image, the linear map and this project's own data lie at the addresses where the kernel's
code expects them. Every store to the page tables and every basic block passes a hook compiled by numba.
"""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import capstone
import numpy as np
import unicorn
from numpy.typing import NDArray
from unicorn.unicorn_py3.unicorn import HOOK_CODE_CFUNC, uclib

from vmaplab.cost.executed import Code, Executed
from vmaplab.errors import InputError, KernelFault, Unprovided
from vmaplab.object import hooks
from vmaplab.object.bind import ANSWERS, NOWHERE, OWN, SILENCE, UNREACHED, ZEROES, ZEROES_STEP
from vmaplab.object.build import Built
from vmaplab.object.image import Image
from vmaplab.object.standin import Answers
from vmaplab.trace import L_WARN, Ints, signed, unsigned

EXIT = ANSWERS  # where a call returns to
STACK = 0x3000_0000  # relative to the image's base, as those below
STACK_BYTES = 1 << 16
SHADOW = 0x3400_0000
PER_CPU = 0x3800_0000
OWN_DATA = 0x4000_0000
PAGE = 1 << 12  # granularity of what is mapped


_running: list[Emulator] = []
_LATER_S = 0.1


def _on_sigint(number: int, frame: Any) -> None:
    """An exception must not cross Unicorn's C code, or LLVM's: stop the CPU, and raise it when that is over."""
    if _running:
        _running[0].interrupt()
    elif any("llvmlite" in one.f_code.co_filename for one in _frames(frame)):
        threading.Timer(_LATER_S, signal.raise_signal, [number]).start()
    else:
        raise KeyboardInterrupt


def _frames(frame: Any) -> Iterator[Any]:
    while frame is not None:
        yield frame
        frame = frame.f_back


class Emulator:
    """One CPU with the image of ``built`` loaded.

    :param rest: answers the functions that are not in the image.
    :param log_lines: room for table stores and other events of one call.
    :cvar most_blocks: how many basic blocks one call may execute before it counts as a loop.
    :ivar image: symbols, lines and bug table of what is loaded.
    :ivar ran: per byte of the code, not 0 where a basic block begins that has run: its bytes, 255 at most.
    """

    most_blocks = 1 << 27

    def __init__(self, built: Built, rest: Answers, log_lines: int = 1 << 16) -> None:
        self.family = family = built.target.family
        self.base = family.image_base
        self.image = Image(built.image)
        self._rest = rest
        self._back: int | None = None
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            with suppress(ValueError):  # not in the main thread: interrupts come elsewhere
                signal.signal(signal.SIGINT, _on_sigint)
        self._uc = uc = unicorn.Uc(*family.uc, family.cpu)
        self._uch = uc._uch  # Unicorn's binding takes 5 us for a register, the library 0.5
        uc.ctl_set_tlb_mode(unicorn.UC_TLB_VIRTUAL)
        self._memory: list[tuple[int, NDArray[np.uint8]]] = []
        self._callbacks: list[Any] = []
        self._fault: KernelFault | Unprovided | None = None
        self._error: BaseException | None = None
        self._texts: list[str] = []
        self._writable: list[NDArray[np.uint8]] = []
        self._counter: Ints = np.zeros(0, dtype=np.int64)
        self._traced: Ints = np.zeros(0, dtype=np.int64)
        self._blocks: dict[tuple[int, int], tuple[int, int, int, int]] = {}
        self._load()
        self._stack_top = self.base + STACK + STACK_BYTES
        self.map(self.base + STACK, STACK_BYTES)
        self.map(self.base + SHADOW, PAGE)
        start, end = self.image.text
        lines_end = 8 * (hooks.LOG + 4 * log_lines)
        words = lines_end + (end - start) * 2 + 7 >> 3
        self._control: Ints = np.zeros(words + PAGE // hooks.STEP + hooks.ROW * hooks.QUEUE_ROOM, dtype=np.int64)
        self._control[hooks.ROOM] = log_lines
        self._control[hooks.MASK], self._control[hooks.LIVE] = family.live
        self.ran: NDArray[np.uint8] = self._control.view(np.uint8)[lines_end : lines_end + end - start]
        self._control[hooks.RAN : hooks.TEXT_BYTES + 1] = lines_end, lines_end + end - start, signed(start), end - start
        self._find_barriers()
        self._answer_calls(words)
        self._add_hook(unicorn.UC_HOOK_BLOCK, hooks.on_block.address, self._control, 1, 0)
        self._value = ctypes.c_uint64()
        self._value_at = ctypes.byref(self._value)
        uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._on_invalid_memory)
        uc.hook_add(unicorn.UC_HOOK_INTR, self._on_interrupt)
        uc.hook_add(unicorn.UC_HOOK_INSN_INVALID, self._on_invalid_instruction)
        self.on_unmapped: Callable[[int], bool] = lambda address: False

    # -- memory -------------------------------------------------------------------------------------

    def map(self, address: int, size: int, rights: int = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE) -> NDArray[Any]:
        """Put zeroed memory at ``address``; returns it, shape (size,), uint8, shared with the CPU."""
        size = -(-size // PAGE) * PAGE
        spare = np.zeros(size + PAGE, dtype=np.uint8)
        skip = -spare.ctypes.data % PAGE
        room = spare[skip : skip + size]
        self._uc.mem_map_ptr(address, size, rights, room.ctypes.data)
        self._memory.append((address, room))
        return room

    def map_kept(self, address: int, size: int) -> None:
        """Put zeroed memory at ``address`` that belongs to the image's state."""
        self._writable.append(self.map(address, size))

    def unmap(self, address: int) -> None:
        """Take away what :meth:`map` put there."""
        for index, (start, room) in enumerate(self._memory):
            if start == address:
                self._uc.mem_unmap(start, len(room))
                del self._memory[index]
                return

    def view(self, address: int, size: int) -> NDArray[np.uint8]:
        """The memory at ``address``, shared with the CPU.

        :raises KernelFault: if nothing is mapped there.
        """
        for start, room in self._memory:
            if start <= address and address + size <= start + len(room):
                return room[address - start : address - start + size]
        raise KernelFault(f"a pointer to {address:#x}, where no memory is")

    def write(self, address: int, data: bytes) -> None:
        """Write to the machine's memory, as its CPU would: what is there only on demand comes into being.

        :raises KernelFault: if nothing is mapped there.
        """
        while data:
            part = min(len(data), PAGE - address % PAGE)
            try:
                room = self.view(address, part)
            except KernelFault:
                if not self.on_unmapped(address):
                    raise
                room = self.view(address, part)
            room[:] = np.frombuffer(data[:part], dtype=np.uint8)
            address, data = address + part, data[part:]

    def text(self, address: int, most: int = 256) -> str:
        """The C string at ``address``; empty if there is none."""
        for start, room in self._memory:
            if start <= address < start + len(room):
                return bytes(room[address - start : address - start + most]).split(b"\0")[0].decode(errors="replace")
        return ""

    def _load(self) -> None:
        family, base = self.family, self.base
        for start, data, writable, executable in self.image.segments:
            rights = unicorn.UC_PROT_READ
            rights |= unicorn.UC_PROT_WRITE if writable else 0
            rights |= unicorn.UC_PROT_EXEC if executable else 0
            room = self.map(start, len(data), rights)
            room[: len(data)] = np.frombuffer(data, dtype=np.uint8)
            if writable:
                self._writable.append(room)
        for start, code in ((base + ANSWERS, family.ret), (base + SILENCE, family.ret_zero)):
            room = self.map(start, PAGE, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
            for address in self.image.stubs(start, start + PAGE):
                room[address - start :][: len(code)] = np.frombuffer(code, dtype=np.uint8)
        self._names = self.image.stubs(base + ANSWERS, base + ANSWERS + PAGE)
        zeroes = self.image.stubs(base + ZEROES, base + NOWHERE)
        if zeroes:
            self._writable.append(self.map(base + ZEROES, ZEROES_STEP * len(zeroes)))
        self._lost = self.image.stubs(base + NOWHERE, base + UNREACHED)

    def _answer_calls(self, words: int) -> None:
        """Have calls of what is not in the image answered; ``words``: those of the control array before the queue."""
        control, family, begin = self._control, self.family, self.base + ANSWERS
        control[hooks.STUBS], control[hooks.RETURNS], control[hooks.QUEUE] = (
            signed(begin),
            words,
            words + PAGE // hooks.STEP,
        )
        control[hooks.FIRST : hooks.THIRD + 1] = family.arguments[:3]
        control[hooks.RESULT], control[hooks.POINTER] = family.result, family.stack
        control[hooks.LINK] = -1 if family.link is None else family.link
        self.set_apart(1 << 63, (1 << 63) - 1)
        queued = {at: self._rest.queued[name] for at, name in self._names.items() if name in self._rest.queued}
        end, begin = begin + PAGE, begin + hooks.STEP
        for address in [*sorted(queued), end]:
            if begin < address:
                self._on_code(begin, address - 1, self._answered)
            begin = address + hooks.STEP
        for address, argument in queued.items():
            if argument is not None:
                control[words + (address - self.base - ANSWERS) // hooks.STEP] = argument + 1
            self._add_hook(unicorn.UC_HOOK_CODE, hooks.on_queued.address, control, address, address)

    def set_apart(self, address: int, size: int) -> None:
        """Calls whose first argument lies in [address, address + size) are not queued: what they do is seen at once."""
        self._control[hooks.APART : hooks.APART_BYTES + 1] = signed(address), size

    def _on_code(self, begin: int, end: int, action: Callable[[int], None]) -> None:
        """Call ``action`` with the address before an instruction in [begin, end] runs. Past Unicorn's slow binding."""

        def called(_uc: Any, address: int, _size: int, _data: Any) -> None:
            try:
                action(address)
            except KernelFault as fault:
                self._stop(fault)
            except BaseException as error:  # a bug of ours, or an interrupt: not for C code to see
                self._error = error
                self._uc.emu_stop()

        callback = HOOK_CODE_CFUNC(called)
        self._callbacks.append(callback)
        code = ctypes.cast(callback, ctypes.c_void_p).value
        self._add_hook(unicorn.UC_HOOK_CODE, code, None, begin, end)

    def interrupt(self) -> None:
        """End the call that runs with KeyboardInterrupt."""
        self._error = KeyboardInterrupt()
        self._uc.emu_stop()

    def _stop(self, fault: KernelFault) -> None:
        self._fault = self._fault or fault
        self._uc.emu_stop()

    # -- calls --------------------------------------------------------------------------------------

    def call(self, function: str, *arguments: int) -> int:
        """Call ``function`` and return its result, unsigned.

        :raises KernelFault: if it does not come back, or does what no kernel may do.
        """
        family = self.family
        start = self.image.address(function)
        stack = self._stack_top - 64
        for register, value in zip(family.arguments, arguments, strict=False):
            self.set_register(register, value)
        if family.link is None:
            stack -= 8
            self.view(stack, 8).view("<u8")[0] = self.base + EXIT
        else:
            self.set_register(family.link, self.base + EXIT)
        self.set_register(family.stack, stack)
        if family.shadow is not None:
            self.set_register(family.shadow, self.base + SHADOW)
        self._allow_blocks()
        self._control[hooks.OPEN] = 0
        self._control[hooks.LAST] = self._control[hooks.QUEUED] = 0
        self._counter[2 : 1 + len(self._counter) // 2] = 0
        self._traced[: hooks.EVENTS] = 0
        self._enter(start)
        return self.register(family.result)

    def _allow_blocks(self) -> None:
        self._control[hooks.BUDGET] = self.most_blocks

    def _enter(self, start: int) -> None:
        """Run from ``start`` on until the call returns, or something stops the CPU.

        :raises KernelFault: if it does what no kernel may do.
        """
        self._fault = self._error = None
        control, end = self._control, self.base + EXIT
        _running.append(self)
        try:
            control[hooks.ASKED] = 0
            self._uc.emu_start(start, end)
            while control[hooks.ASKED] and self._error is None:  # an interrupt can come while the CPU stands
                address, control[hooks.ASKED] = unsigned(int(control[hooks.ASKED])), 0
                self._answered(address)
                if (start := self._return()) != end and self._error is None:
                    self._uc.emu_start(start, end)
        except unicorn.UcError as error:
            if self._fault is None:
                self._fault = KernelFault(f"{error} in {self.where()}")
        except KernelFault as fault:
            self._fault = self._fault or fault
        finally:
            _running.clear()
        try:
            self._catch_up()
        except KernelFault as fault:  # it came before all else
            self._fault = fault
        if self._error is not None:
            raise self._error
        if self._fault is None and self._control[hooks.BUDGET] < 0:
            self._fault = KernelFault(f"{self.most_blocks} basic blocks and no end: a loop in {self.where()}")
        if self._fault is not None:
            raise self._fault

    def argument(self, number: int) -> int:
        """Argument ``number`` of the function that is being answered, unsigned."""
        return self.register(self.family.arguments[number])

    def caller(self) -> str:
        """The function that called what is being answered."""
        return self.image.symbol(self.return_address() - 1)[0]  # a call that never returns can be a function's last one

    def return_address(self) -> int:
        """Where the function that is being answered returns to."""
        if self._back is not None:
            return self._back
        link = self.family.link
        if link is None:
            return int(self.view(self.register(self.family.stack), 8).view("<u8")[0])
        return self.register(link)

    def place(self, address: int) -> str:
        """The function that calls what returns to ``address``, and file and line."""
        return self.image.place_in_source(address - 1)

    def object_at(self, address: int) -> str:
        """The variable that holds ``address``; "" if none does."""
        return self.image.object_at(address)

    def zero_at(self, address: int) -> str:
        """The data that nothing defines and that holds ``address``; "" if none does."""
        start = address - (address - self.base) % ZEROES_STEP
        return self.image.symbol(start)[0] if self.base + ZEROES <= start < self.base + NOWHERE else ""

    @property
    def open_store(self) -> int:
        """Physical address of the last live entry whose store no barrier has completed in this call; 0 if none.

        1 if one has, and what has to follow it does not.
        """
        if self._control[hooks.OPEN]:
            hooks.complete(self._control, self._control.view(np.uint8))
        return int(self._control[hooks.OPEN])

    def _last(self) -> str:
        """The function whose basic block ran last."""
        address = unsigned(int(self._control[hooks.LAST]))
        return self.image.symbol(address)[0] or f"{address:#x}"

    def where(self) -> str:
        """The function, and the offset in it, at which the CPU stands."""
        address = self.register(self.family.program_counter)
        name, offset = self.image.symbol(address)
        return f"{name}+{offset:#x}" if name else f"{address:#x}"

    def set_register(self, register: int, value: int) -> None:
        """Set a register for the calls to come."""
        self._value.value = value
        uclib.uc_reg_write(self._uch, register, self._value_at)

    def register(self, register: int) -> int:
        """A register of 64 bits, unsigned."""
        uclib.uc_reg_read(self._uch, register, self._value_at)
        return int(self._value.value)

    def _answered(self, address: int) -> None:
        self._catch_up()
        self.set_register(self.family.result, self._rest.answer(self._names[address], self.argument) & (1 << 64) - 1)

    def _return(self) -> int:
        """Return from the function that was answered; gives where to."""
        address = self.return_address()
        if self.family.link is None:
            self.set_register(self.family.stack, self.register(self.family.stack) + 8)
        return address

    def _catch_up(self) -> None:
        """Let what is queued have its effect."""
        control = self._control
        if count := int(control[hooks.QUEUED]):
            control[hooks.QUEUED] = 0
            rows = control[control[hooks.QUEUE] :][: hooks.ROW * count].reshape(-1, hooks.ROW)
            row: list[int] = []
            try:
                for row in self._rest.at_once(rows, self._names).tolist():
                    stub, *arguments, self._back, _ = map(unsigned, row)
                    self._rest.answer(self._names[stub], arguments.__getitem__)
            except KernelFault:  # what came after that call did not happen
                control[hooks.LOGGED] = min(row[-1], int(control[hooks.ROOM]))
                del self._texts[int((self.logged[:, 0] == L_WARN).sum()) :]
                raise
            finally:
                self._back = None

    # -- what is seen -------------------------------------------------------------------------------

    def watch_tables(self, address: int, size: int, phys: int) -> None:
        """From now on log each store to [address, address + size), which lies at physical address ``phys``."""
        self._control[hooks.OFFSET] = signed((phys - address) % (1 << 64))
        self._add_hook(unicorn.UC_HOOK_MEM_WRITE, hooks.on_write.address, self._control, address, address + size - 1)

    def _find_barriers(self) -> None:
        """Note which instructions store, complete a store, and have to follow that."""
        code = self.image.code
        words = np.frombuffer(code[: len(code) & -4], dtype="<u4")
        kinds = self._control.view(np.uint8)[self._control[hooks.ORDERS] :][: 4 * len(words) : 4]
        numbers = hooks.STORES, hooks.COMPLETES, hooks.FOLLOWS
        for number, (mask, value) in zip(numbers, self.family.barriers, strict=False):
            kinds[words & np.uint32(mask) == value] = number

    def _add_hook(self, kind: int, code: int | None, data: Ints | None, begin: int, end: int) -> None:
        """Have the machine code at ``code`` called, with a pointer to ``data``, for what happens in [begin, end]."""
        status = uclib.uc_hook_add(
            self._uch,
            ctypes.byref(ctypes.c_size_t()),
            kind,
            code,
            None if data is None else data.ctypes.data,
            ctypes.c_uint64(begin),
            ctypes.c_uint64(end),
        )
        if status:
            raise unicorn.UcError(status)

    def log(self, kind: int, address: int, value: int, size: int) -> None:
        """Add an event to the log, in order with the stores."""
        control = self._control
        line = int(control[hooks.LOGGED])
        control[hooks.LOGGED] += 1
        if line < control[hooks.ROOM]:
            row = kind, signed(address), signed(value), signed(size % (1 << 64))
            control[hooks.LOG + 4 * line : hooks.LOG + 4 * line + 4] = row

    def log_text(self, text: str) -> None:
        """Add a warning to the log."""
        self._texts.append(text)
        self.log(L_WARN, len(self._texts) - 1, 0, 0)

    @property
    def logged(self) -> Ints:
        """The rows that :meth:`take_log` would give, as many as there is room for; a view."""
        lines = min(int(self._control[hooks.LOGGED]), int(self._control[hooks.ROOM]))
        return self._control[hooks.LOG : hooks.LOG + 4 * lines].reshape(-1, 4)

    def take_log(self) -> tuple[Ints, list[str]]:
        """What was logged since the last time: rows (kind, address, value, size), shape (n, 4), and warnings.

        :raises KernelFault: if it was more than there is room for.
        """
        lines, room = int(self._control[hooks.LOGGED]), int(self._control[hooks.ROOM])
        self._control[hooks.LOGGED] = 0
        texts, self._texts = self._texts, []
        if lines > room:
            raise KernelFault(f"{lines} events in one call; there is room for {room}")
        return self._control[hooks.LOG : hooks.LOG + 4 * lines].reshape(-1, 4).copy(), texts

    # -- state --------------------------------------------------------------------------------------

    @property
    def writable(self) -> list[NDArray[np.uint8]]:
        """The memory that belongs to the image's state."""
        return self._writable

    @property
    def warnings(self) -> list[str]:
        """The warnings since :meth:`take_log`."""
        return self._texts

    def image_state(self) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        """The image's writable memory as it is now, for :meth:`restore_image`."""
        return [(room, room.copy()) for room in self._writable]

    def restore_image(self, state: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
        """Put back what :meth:`image_state` saw."""
        for room, kept in state:
            room[:] = kept

    # -- counting -----------------------------------------------------------------------------------

    def count_instructions(self) -> None:
        """Count what each call executes, for :meth:`counts`."""
        start, end = self.image.text
        self._counter = np.zeros(2 + 2 * (end - start), dtype=np.int64)
        self._counter[:2] = signed(start), end - start
        self._add_hook(unicorn.UC_HOOK_BLOCK, hooks.on_counted_block.address, self._counter, start, end - 1)

    def counts(self) -> tuple[int, int, int, int] | None:
        """Instructions, loads, stores and barriers that the last call executed, ours aside; None if not counted."""
        if not len(self._counter):
            return None
        start, length = self.image.text[0], int(self._counter[1])
        times, sizes = self._counter[2 : 2 + length].copy(), self._counter[2 + length :]
        first, last = (self.image.address(name) - start for name in OWN)
        times[first:last] = 0
        total = [0, 0, 0, 0]
        for offset in np.flatnonzero(times).tolist():
            block = self._block(start + offset, int(sizes[offset]))
            for index, number in enumerate(block):
                total[index] += number * int(times[offset])
        return total[0], total[1], total[2], total[3]

    def trace_execution(self, events: int) -> None:
        """Keep the basic blocks and memory accesses of each call, up to so many of each, for :meth:`executed`."""
        self._traced = np.zeros(hooks.HEAD + 3 * events, dtype=np.int64)
        self._traced[hooks.EVENTS] = events
        self._add_hook(unicorn.UC_HOOK_BLOCK, hooks.on_traced_block.address, self._traced, 1, 0)
        kinds = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
        self._add_hook(kinds, hooks.on_traced_access.address, self._traced, 1, 0)

    def executed(self) -> Executed | None:
        """What the last call executed, ours and what is answered for it included; None if that is not kept.

        :raises KernelFault: if it was more than there is room for.
        """
        if not len(self._traced):
            return None
        blocks, accesses, room = (int(self._traced[at]) for at in (hooks.BLOCKS, hooks.ACCESSES, hooks.EVENTS))
        if max(blocks, accesses) > room:
            raise KernelFault(f"{max(blocks, accesses)} events in one call; there is room for {room}")
        rows = self._traced[hooks.HEAD :][: 2 * blocks].reshape(-1, 2)
        found, which = self._told_apart(rows[:, 0] - signed(self.base), rows[:, 1] & 0xFFFF)
        where = self._traced[hooks.HEAD + 2 * room :][:accesses].copy()
        code = [
            Code(self.base + at, bytes(self.view(self.base + at, size)), self.base + at in self._names)
            for at, size in found
        ]
        names = [self._names.get(one.address) or self._inside(one.address) for one in code]
        first = np.append(rows[:, 1] >> 16, accesses)
        return Executed(self.family.name, code, names, which, first, where)

    def _inside(self, address: int) -> str:
        """The function that has the code there; what lies behind them all is of none."""
        name, offset = self.image.symbol(address)
        return name if offset < self.image.sizes.get(name, 1 << 62) else "out of line"

    def _told_apart(self, offsets: Ints, sizes: Ints) -> tuple[list[tuple[int, int]], NDArray[np.uint32]]:
        """The different basic blocks, offset and size, and which of them each is; sorting would take longest of all."""
        start, end = (address - self.base for address in self.image.text)
        inside = (start <= offsets) & (offsets < end)
        known = np.zeros(end - start, dtype=np.int64)
        known[offsets[inside] - start] = sizes[inside]
        which = np.zeros(len(offsets), dtype=np.uint32)
        if not (known[offsets[inside] - start] == sizes[inside]).all():  # one of them was cut at times
            inside[:] = False
            known[:] = 0
        numbers = np.cumsum(known > 0) - 1
        which[inside] = numbers[offsets[inside] - start]
        found = [(start + int(at), int(known[at])) for at in np.flatnonzero(known)]
        others, numbers = np.unique(offsets[~inside] << 16 | sizes[~inside], return_inverse=True)
        which[~inside] = len(found) + numbers
        return found + [(int(one) >> 16, int(one) & 0xFFFF) for one in others], which

    def _block(self, address: int, size: int) -> tuple[int, int, int, int]:
        """Instructions, loads, stores and barriers of a basic block."""
        known = self._blocks.get((address, size))
        if known is None:
            code = bytes(self.view(address, size))
            found = [
                self.family.classify(mnemonic, operands)
                for _, _, mnemonic, operands in capstone.Cs(*self.family.disassembler).disasm_lite(code, address)
            ]
            loads, stores, barriers = (sum(kinds) for kinds in zip(*found, strict=True)) if found else (0, 0, 0)
            known = self._blocks[address, size] = len(found), loads, stores, barriers
        return known

    # -- traps --------------------------------------------------------------------------------------

    def trap_at(self, address: int, action: Callable[[], None], goes_on: bool) -> None:
        """Run ``action`` when the CPU reaches the trapping instruction at ``address``; it can then do nothing."""
        if goes_on:
            self._disarm(address)
        self._on_code(address, address, lambda _: action())

    def _disarm(self, address: int) -> None:
        """Put an instruction that does nothing in the place of a trapping one."""
        code = capstone.Cs(*self.family.disassembler).disasm_lite(bytes(self.view(address, 4)), 0)
        length = next((size for _, size, _, _ in code), 0)
        if length not in self.family.nop:
            raise InputError(f"vmaplab: the bug table names {address:#x}, which is no trap that vmaplab knows")
        self._uc.mem_write(address, self.family.nop[length])

    def _on_invalid_memory(self, _uc: Any, access: int, address: int, size: int, _value: int, _data: Any) -> bool:
        fetch = access in (unicorn.UC_MEM_FETCH_UNMAPPED, unicorn.UC_MEM_FETCH_PROT)
        write = access in (unicorn.UC_MEM_WRITE_UNMAPPED, unicorn.UC_MEM_WRITE_PROT)
        protected = access in (unicorn.UC_MEM_FETCH_PROT, unicorn.UC_MEM_WRITE_PROT, unicorn.UC_MEM_READ_PROT)
        name = self._lost.get(address)
        if fetch and name:
            self._fault = Unprovided(f"vmaplab: {self._last()}() calls {name}(), which vmaplab does not answer")
        elif fetch:
            self._fault = KernelFault(f"{self._last()} jumps to {address:#x}, where no code is")
        elif not protected and self.on_unmapped(address):
            return True
        else:
            below = self.base + STACK - address
            if 0 < below <= STACK_BYTES:
                self._fault = KernelFault(f"{self.where()} overflows the stack of {STACK_BYTES >> 10} KiB")
                return False
            verb = "writes to" if write else "reads from"
            what = "which is read-only" if protected else "where no memory is"
            self._fault = KernelFault(f"{self.where()} {verb} {address:#x}, {what}")
        return False

    def _on_interrupt(self, _uc: Any, number: int, _data: Any) -> None:
        self._stop(KernelFault(f"exception {number} in {self.where()}"))

    def _on_invalid_instruction(self, _uc: Any, _data: Any) -> bool:
        self._fault = KernelFault(f"an instruction that the CPU does not know in {self.where()}")
        return False
