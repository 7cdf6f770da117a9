# SPDX-License-Identifier: GPL-2.0-only
"""A booted kernel in QEMU: its RAM as an array, and calls of its functions."""

from __future__ import annotations

import mmap
import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab._cache import cache_root
from vmaplab.boot.build import Bootable
from vmaplab.errors import InputError, KernelFault

RAM_BYTES = 1 << 30
BOOT_SECONDS, CALL_SECONDS = 60, 20
"""How long to wait for a kernel that comes up, and for a call that returns."""
_READY = b"vmaplab is ready"
_ALIGN = 1 << 16
_LOADED = 1 << 27
"""Kernels are loaded below this offset in RAM."""
_SAID = 1 << 16
_PANIC = b"Kernel panic"
_DIES_OF = re.compile(
    rb"kernel BUG at [\w./-]+:\d+!|Unable to handle [ -~]{1,80}|Kernel panic - not syncing: [ -~]{1,80}"
)


SLOT = np.dtype(
    [
        ("request", "<u8"),
        ("done", "<u8"),
        ("function", "<u8"),
        ("arguments", "<u8", 8),
        ("result", "<u8"),
        ("told", "<u8"),
    ]
)
"""A call, as agent.h has it: it is to be made when ``request`` changes, and was when ``done`` is the same; and how many
bytes the kernel has printed."""


class Head(NamedTuple):
    """What the kernel says of itself: see agent.h."""

    box: int
    box_phys: int
    words: int
    vmap: int
    page0: int
    page_bytes: int
    root: int
    vmalloc_start: int
    vmalloc_end: int
    page_kernel: int
    gfp_kernel: int
    page_shift: int
    request_at: int
    said_at: int
    words_at: int


class Guest:
    """One kernel that runs until :meth:`close`, or until whoever made it ends.

    :param kernel: what to boot; ``append``: its boot arguments; ``cpus``: of the machine; ``more``: options of QEMU.
    :ivar ram: all of its memory, from :attr:`base` on.
    :ivar words: memory that nothing else uses, as words, at ``head.words`` there.
    :ivar seconds: from QEMU's start until the kernel answered; ``slide``: how far it is from where it was linked.
    """

    def __init__(self, kernel: Bootable, append: str = "", cpus: int = 1, more: tuple[str, ...] = ()) -> None:
        self.kernel, self.base = kernel, kernel.board.ram_base
        started = time.monotonic()
        room = Path(tempfile.mkdtemp(prefix="vmaplab-", dir=room_for_ram()))
        self._process: subprocess.Popen[bytes] | None = None
        self.ram: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)
        try:
            self._process = self._start(room / "ram", append, cpus, more)
            self.ram = self._memory(room / "ram", started)
            box = self._ready(started)
        except OSError as error:
            self.close()
            raise InputError(f"cannot boot in {room.parent}: {error.strerror or error}") from None
        except BaseException:
            self.close()
            raise
        finally:
            shutil.rmtree(room, ignore_errors=True)  # whoever has it mapped keeps it
        self.seconds = time.monotonic() - started
        known = self.ram[box + 16 : box + 16 + 8 * len(Head._fields)].view("<u8")
        self.head = head = Head(*map(int, known))
        slot = self.ram[box + head.request_at : box + head.request_at + SLOT.itemsize].view(SLOT)
        self._request, self._slot, self._told = 0, slot, slot["told"]
        self._said = self.ram[box + head.said_at : box + head.said_at + _SAID]
        self._heard = int(self._told[0])
        self.words = self.ram[box + head.words_at :][: 8 << 20].view("<u8")
        self.slide = head.vmap - kernel.symbols["vmap"]

    def _start(self, ram: Path, append: str, cpus: int, more: tuple[str, ...]) -> subprocess.Popen[bytes]:
        board, size = self.kernel.board, RAM_BYTES
        words = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        words += [*board.command, "-cpu", board.cpus[self.kernel.target.arch], "-accel", "tcg", "-m", f"{size >> 20}M"]
        words += ["-smp", str(cpus)]
        words += ["-object", f"memory-backend-file,id=ram,size={size},mem-path={ram},share=on"]
        words += ["-nodefaults", "-no-user-config", "-display", "none", "-serial", "none", "-monitor", "none"]
        words += [*more, "-no-reboot", "-kernel", str(self.kernel.image)]
        line = " ".join(filter(None, ["panic=-1", board.append.get(self.kernel.target.arch, ""), append]))
        words += ["-append", line]  # so a panic ends QEMU
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def _memory(self, ram: Path, started: float) -> NDArray[np.uint8]:
        while not ram.exists() or ram.stat().st_size < RAM_BYTES:
            self._alive(started)
            time.sleep(0.002)
        with ram.open("r+b") as file:
            return np.frombuffer(mmap.mmap(file.fileno(), RAM_BYTES), dtype=np.uint8)

    def _ready(self, started: float) -> int:
        """Where in RAM the kernel says that it is up."""
        where = np.frombuffer(_READY, dtype="<u8")
        while True:
            words = self.ram[:_LOADED].reshape(-1, _ALIGN)[:, :16].view("<u8")
            hit = np.flatnonzero((words[:, 0] == where[0]) & (words[:, 1] == where[1]))
            if len(hit):
                return int(hit[0]) * _ALIGN
            self._alive(started)
            time.sleep(0.01)

    def _alive(self, started: float) -> None:
        """:raises InputError: if QEMU has ended, or the kernel does not come up."""
        if self._process is not None and self._process.poll() is not None:
            if words := _last_words(self.ram):
                raise InputError(f"{self.kernel.code} does not come up on {self.kernel.target.arch}: {words}")
            said = self._process.stderr.read().decode(errors="replace") if self._process.stderr else ""
            raise InputError(f"{self.kernel.board.command[0]} ended: {' '.join(said.split())[-300:]}")
        if time.monotonic() - started > BOOT_SECONDS:
            self.close()
            raise InputError(f"{self.kernel.code} does not come up in {BOOT_SECONDS} s on {self.kernel.target.arch}")

    def call(self, function: str, *arguments: int) -> int:
        """Call a function of the kernel, with up to eight arguments in registers; its result, 64 bits.

        :raises KernelFault: if it does not return; the kernel is of no use then.
        :raises InputError: if there is no such function.
        """
        slot, done = self._slot, self._slot["done"]
        slot["function"] = self.address_of(function)
        slot["arguments"][0, : len(arguments)] = [one % (1 << 64) for one in arguments]
        self._request += 1
        slot["request"] = self._request
        turns, started = 0, 0.0
        while done[0] != self._request:
            turns += 1
            if turns % 4096 == 0:
                started = started or time.monotonic()
                said = self._tail()
                if (
                    self._process is None
                    or self._process.poll() is not None
                    or _PANIC in said
                    or time.monotonic() - started > CALL_SECONDS
                ):
                    why = _cause(said) or f"{function}() does not return in {CALL_SECONDS} s"
                    self.close()
                    raise KernelFault(why)
        return int(slot["result"][0])

    def address_of(self, function: str) -> int:
        """Where a function of the kernel is.

        :raises InputError: if there is no such function.
        """
        if function not in self.kernel.symbols:
            raise InputError(f"{self.kernel.code} has no function {function}()")
        return (self.kernel.symbols[function] + self.slide) % (1 << 64)

    def _tail(self) -> bytes:
        """What was printed last, as far as it is kept."""
        total = int(self._told[0])
        turned = np.roll(self._said, -(total % _SAID)) if total > _SAID else self._said[:total]
        return turned.tobytes()

    def said(self) -> str:
        """What the kernel has printed since the last call of this."""
        total = int(self._told[0])
        new, self._heard = min(total - self._heard, _SAID), total
        return self._tail()[-new:].decode(errors="replace") if new else ""

    def close(self) -> None:
        """End it."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        if self._process.stderr:
            self._process.stderr.close()


def room_for_ram() -> Path:
    """Where RAM that is a file is best: in memory, if there is room."""
    shared = Path("/dev/shm")
    if shared.is_dir() and os.access(shared, os.W_OK):
        found = os.statvfs(shared)
        if found.f_bavail * found.f_frsize > RAM_BYTES // 2:
            return shared
    room = cache_root() / "boot"
    room.mkdir(parents=True, exist_ok=True)
    return room


def _last_words(ram: NDArray[np.uint8]) -> str:
    """Of what a kernel has died of before it could say so: its messages are in its memory."""
    found = [one[0].decode() for one in _DIES_OF.finditer(ram[:_LOADED].data) if b"%" not in one[0]]
    return next((text for mark in ("BUG at", "Unable", "panic") for text in found if mark in text), "")


def _cause(said: bytes) -> str:
    """Why a kernel has stopped, in its own words: its BUG or fault, with the function."""
    lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
    marks = ("kernel BUG at", "Unable to handle", "BUG: ", "Oops", "Internal error", "Kernel panic")
    first = next((number for mark in marks for number, line in enumerate(lines) if mark in line), None)
    if first is None:
        return ""
    where = next((line for line in lines[first:] if line.startswith(("pc :", "RIP:", "epc :"))), "")
    return f"{lines[first]}{f' ({where})' if where else ''}"
