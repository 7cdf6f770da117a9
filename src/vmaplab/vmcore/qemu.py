# SPDX-License-Identifier: GPL-2.0-only
"""Memory of a virtual machine: the file that backs its RAM, or QEMU itself, asked by QMP while the machine runs."""

from __future__ import annotations

import json
import os
import re
import socket
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from vmaplab.errors import InputError
from vmaplab.vmcore.layouts.base import Layout
from vmaplab.vmcore.memory import InFile, Range, Ranged, Unreadable

_SECONDS = 30
_MOST_ANSWER = 1 << 22
_MOST_EVENTS = 10_000
_PIECE = 1 << 16
"""Bytes that are asked for at once, and kept."""
_MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64", "riscv64": "EM_RISCV"}
_GIB = 1 << 30
_SHARED = "/dev/shm"


def ram_layouts(size: int, layout: Layout | None) -> list[list[Range]]:
    """Where a machine of QEMU can have ``size`` bytes of RAM: a PC has a gap below 4 GiB in larger ones.

    :param layout: of its kernel's architecture; None: as it is in the file.
    """
    if layout is None or layout.ram_base:
        return [[Range(layout.ram_base if layout else 0, size, 0)]]
    gaps = (low for low in (2 * _GIB, 3 * _GIB) if size > low)  # q35, pc
    split = [[Range(0, low, 0), Range(4 * _GIB, size - low, low)] for low in gaps]
    return [[Range(0, size, 0)], *split]


class RamFile(InFile):
    """A file that backs the RAM of a virtual machine (memory-backend-file with share=on)."""

    live = True


class Qmp:
    """A QMP connection over a Unix socket.

    :raises InputError: if nobody answers there.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"'{path}'"
        try:
            self._line = socket.socket(socket.AF_UNIX)
            self._line.settimeout(_SECONDS)
            self._line.connect(str(path))
            self._buffer = b""
            greeting = self._answer()
        except OSError as error:
            raise InputError(f"cannot connect to {self.name}: {error.strerror or error}") from None
        if "QMP" not in greeting:
            raise InputError(f"{self.name} is no QMP socket: it does not greet as QEMU does")
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: Any) -> Any:
        """What QEMU returns.

        :raises InputError: with QEMU's words if it refuses, or if it is gone.
        """
        try:
            self._line.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            for _ in range(_MOST_EVENTS):
                if "event" not in (answer := self._answer()):
                    break
        except OSError as error:
            raise InputError(f"QEMU at {self.name} does not answer: {error.strerror or error}") from None
        if "return" not in answer:
            said = answer.get("error")
            why = said.get("desc") if isinstance(said, dict) else said
            raise InputError(f"QEMU at {self.name} refuses {command}: {str(why)[:200]}")
        return answer["return"]

    def _answer(self) -> dict[str, Any]:
        try:
            found = json.loads(self._read_line())
        except (ValueError, RecursionError):
            raise InputError(f"{self.name} does not speak QMP, or was closed") from None
        if not isinstance(found, dict):
            raise InputError(f"{self.name} does not speak QMP")
        return found

    def _read_line(self) -> bytes:
        """A line, whole within the limits of time and size, or what there is of it."""
        ends, whole = time.monotonic() + _SECONDS, bytearray(self._buffer)
        while b"\n" not in whole[-(1 << 16) :] and len(whole) < _MOST_ANSWER:
            if time.monotonic() > ends:
                raise TimeoutError(f"no answer in {_SECONDS} s")
            piece = self._line.recv(1 << 16)
            if not piece:
                break
            whole += piece
        line, _, self._buffer = bytes(whole).partition(b"\n")
        return line


class QemuMemory(Ranged):
    """The RAM of a running virtual machine.

    QEMU writes what is asked for to a file of ours (``pmemsave``): it has to run on this machine.
    """

    live = True

    def __init__(self, path: Path) -> None:
        self._qmp = Qmp(path)
        listing = self._qmp.ask("human-monitor-command", **{"command-line": "info mtree -f"})
        super().__init__(f"QEMU at {self._qmp.name}", _ram_of(str(listing)))
        if not self.ranges:
            raise InputError(f"{self.name} tells of no RAM")
        try:
            told = self._qmp.ask("query-target")
            self.machine = _MACHINES.get(str(told.get("arch")), "") if isinstance(told, dict) else ""
        except InputError:
            self.machine = ""  # an older QEMU
        where = _SHARED if os.access(_SHARED, os.W_OK) else None
        self._room = tempfile.NamedTemporaryFile(prefix="vmaplab-", dir=where)  # noqa: SIM115 - as long as this is there
        self._kept = lru_cache(maxsize=(64 << 20) // _PIECE)(self._saved)

    def _saved(self, start: int, size: int) -> bytes:
        self._qmp.ask("pmemsave", val=start, size=size, filename=self._room.name)
        with Path(self._room.name).open("rb") as file:
            found = file.read(size)
        if len(found) < size:
            raise Unreadable(f"{self.name} gives {len(found)} of {size} bytes at physical address {start:#x}")
        return found

    def _pread(self, offset: int, size: int) -> bytes:
        if size > 4 * _PIECE:
            return self._saved(offset, size)
        # No more than RAM: to read a device can have effects.
        one = next(it for it in self.ranges if it.start <= offset < it.start + it.size)
        first = max(offset & -_PIECE, one.start)
        last = min(offset + size + _PIECE - 1 & -_PIECE, one.start + one.size)
        return self._kept(first, last - first)[offset - first :][:size]


def _ram_of(listing: str) -> list[Range]:
    """RAM in QEMU's ``info mtree -f``: of the view that the address space "memory" has."""
    for view in listing.split("FlatView #")[1:]:
        if 'AS "memory"' not in view:
            continue
        found = re.findall(r"^[ \t]*([0-9a-f]{16})-([0-9a-f]{16}) \(prio -?\d+, ram\)", view, re.MULTILINE)
        bounds = [(int(first, 16), int(last, 16) + 1) for first, last in found]
        return [Range(start, end - start, start) for start, end in bounds]
    return []
