# SPDX-License-Identifier: GPL-2.0-only
"""ELF: /proc/vmcore as kdump copies it, QEMU's dump-guest-memory, and /proc/kcore."""

from __future__ import annotations

import numpy as np

from vmaplab.errors import InputError
from vmaplab.vmcore.bytesource import Bytes
from vmaplab.vmcore.memory import MOST_NOTE, NOTE, InFile, Range

MAGIC = b"\x7fELF"
MACHINES = {62: "EM_X86_64", 183: "EM_AARCH64", 243: "EM_RISCV"}
_HEADER = np.dtype(
    [("ident", "u1", 16), ("type", "<u2"), ("machine", "<u2"), ("version", "<u4"), ("entry", "<u8"), ("phoff", "<u8")]
    + [("shoff", "<u8"), ("flags", "<u4"), ("ehsize", "<u2"), ("phentsize", "<u2"), ("phnum", "<u2")]
    + [("shentsize", "<u2"), ("shnum", "<u2"), ("shstrndx", "<u2")]
)
_SEGMENT = np.dtype(
    [("type", "<u4"), ("flags", "<u4"), ("offset", "<u8"), ("vaddr", "<u8"), ("paddr", "<u8")]
    + [("filesz", "<u8"), ("memsz", "<u8"), ("align", "<u8")]
)
_CORE, _LOAD, _NOTE, _MANY = 4, 1, 4, 0xFFFF
_NOWHERE = (1 << 64) - 1
_MOST_NOTES = 1 << 24
_MOST_SEGMENTS = 1 << 12
_MOST_IN_SEGMENT = 1 << 16


class ElfMemory(InFile):
    """The PT_LOAD segments of a core file, by their physical addresses.

    :raises InputError: if it is none.
    """

    def __init__(self, file: Bytes) -> None:
        raw = file.pread(0, _HEADER.itemsize)
        if len(raw) < _HEADER.itemsize:
            raise InputError(f"{file.name} is cut off in its ELF header")
        head = np.frombuffer(raw, dtype=_HEADER)[0]
        if head["ident"][4] != 2 or head["ident"][5] != 1:
            raise InputError(f"{file.name} is no 64-bit little-endian ELF file; other kernels cannot be read")
        if head["type"] != _CORE:
            raise InputError(f"{file.name} is an ELF file, but no core file: memory of a kernel is needed")
        if int(head["machine"]) not in MACHINES:
            raise InputError(f"{file.name} is of machine {head['machine']}; known are {', '.join(MACHINES.values())}")
        count = int(head["phnum"])
        if count == _MANY:  # the number is in the first section header
            count = int.from_bytes(file.pread(int(head["shoff"]) + 44, 4), "little")
        if head["phentsize"] != _SEGMENT.itemsize or not 0 < count <= 1 << 16:
            raise InputError(f"{file.name} has {count} program headers of {head['phentsize']} bytes, which cannot be")
        raw = file.pread(int(head["phoff"]), count * _SEGMENT.itemsize)
        if len(raw) < count * _SEGMENT.itemsize:
            raise InputError(f"{file.name} is cut off in its program headers")
        segments = np.frombuffer(raw, dtype=_SEGMENT)
        loads = segments[(segments["type"] == _LOAD) & (segments["paddr"] != np.uint64(_NOWHERE))]
        super().__init__(file, [Range(int(one["paddr"]), int(one["filesz"]), int(one["offset"])) for one in loads])
        if not self.ranges:
            raise InputError(f"{file.name} has no memory: it has no PT_LOAD segment with contents")
        self.machine = MACHINES[int(head["machine"])]
        left = _MOST_NOTES  # of all segments together: one for each CPU, or one for all
        for one in segments[segments["type"] == _NOTE][:_MOST_SEGMENTS]:
            raw = file.pread(int(one["offset"]), min(int(one["filesz"]), left))
            self.note, left = self.note or note_in(raw), left - len(raw)
            if self.note or left <= 0:
                break


def note_in(notes: bytes) -> bytes:
    """VMCOREINFO among the notes of a PT_NOTE segment, or b""."""
    at = 0
    for _ in range(_MOST_IN_SEGMENT):
        if at + 12 > len(notes):
            break
        name, size = (int.from_bytes(notes[at + skip : at + skip + 4], "little") for skip in (0, 4))
        text = at + 12 + (name + 3 & ~3)
        if notes[at + 12 : at + 12 + name] == NOTE and size <= MOST_NOTE:
            return notes[text : text + size]
        at = text + (size + 3 & ~3)
    return b""
