# SPDX-License-Identifier: GPL-2.0-only
"""Physical memory of another kernel: what all sources have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from vmaplab.errors import InputError
from vmaplab.vmcore.bytesource import Bytes

NOTE = b"VMCOREINFO\0"
MOST_NOTE = 1 << 16
"""Bytes of VMCOREINFO at most; the kernel's has a page."""
_MOST_RANGES = 1 << 16
_FRAME = 1 << 12


class Unreadable(InputError):  # noqa: N818 - about a place in memory
    """A physical address that the source does not have: excluded from it, cut off, or no memory."""


class Range(NamedTuple):
    """``size`` bytes from physical address ``start`` on, at ``offset`` of the source."""

    start: int
    size: int
    offset: int


class PhysicalMemory(ABC):
    """Physical memory that can be read.

    :param name: what messages call it.
    :ivar machine: ``EM_X86_64`` and the like where the source tells, or "".
    :ivar note: VMCOREINFO, where the source has it apart from memory, or b"".
    :ivar live: whether the kernel runs while it is read.
    """

    live = False

    def __init__(self, name: str) -> None:
        self.name, self.machine, self.note = name, "", b""

    @abstractmethod
    def read_phys(self, start: int, size: int) -> bytes:
        """``size`` bytes from physical address ``start`` on.

        :raises Unreadable: if one of them is not there.
        """

    @abstractmethod
    def frames(self) -> Iterator[tuple[int, bytes]]:
        """All memory, piece by piece, each with its physical address, which is one of a frame."""

    def notes(self) -> Iterator[bytes]:
        """What can be VMCOREINFO: what the source has apart, or else each that is in memory."""
        if self.note:
            yield self.note
            return
        for start, piece in self.frames():
            at = piece.find(NOTE)
            while at >= 0:
                # An ELF note: sizes of name and text, type, name, text; the kernel has it at the start of a page.
                if at % _FRAME == 12:
                    size = int.from_bytes(piece[at - 8 : at - 4], "little")
                    if 0 < size <= MOST_NOTE:
                        with suppress(Unreadable):
                            yield self.read_phys(start + at + 12, size)
                at = piece.find(NOTE, at + 1)


class Ranged(PhysicalMemory):
    """Memory in ranges of something that can be read at an offset."""

    def __init__(self, name: str, ranges: list[Range]) -> None:
        super().__init__(name)
        if len(ranges) > _MOST_RANGES:
            raise InputError(f"{name} has {len(ranges)} ranges of memory, more than {_MOST_RANGES}")
        self.ranges: list[Range] = []
        for one in sorted((one for one in ranges if one.size > 0), key=lambda one: (one.start, -one.size)):
            end = self.ranges[-1].start + self.ranges[-1].size if self.ranges else 0
            cut = max(end - one.start, 0)  # /proc/kcore has the image of the kernel twice
            if cut < one.size:
                self.ranges.append(Range(one.start + cut, one.size - cut, one.offset + cut))
        self._starts = [one.start for one in self.ranges]

    @abstractmethod
    def _pread(self, offset: int, size: int) -> bytes:
        """Bytes at ``offset``; fewer where it ends."""

    def _data_from(self, offset: int) -> int:
        """Where at ``offset`` or behind it something was written."""
        return offset

    def _held(self) -> int:
        """Bytes that the source can have in all; ranges that say more have the same ones."""
        return sum(one.size for one in self.ranges)

    def read_phys(self, start: int, size: int) -> bytes:
        """As in :class:`PhysicalMemory`; it may go from one range to the next."""
        found = b""
        while len(found) < size:
            at = start + len(found)
            number = bisect_right(self._starts, at) - 1
            one = self.ranges[number] if number >= 0 else None
            if one is None or at >= one.start + one.size:
                raise Unreadable(f"{self.name} does not have physical address {at:#x}")
            count = min(size - len(found), one.start + one.size - at)
            piece = self._pread(one.offset + at - one.start, count)
            if not piece:
                raise Unreadable(f"{self.name} is cut off: it ends before physical address {at:#x}")
            found = found + piece if found else piece
        return found

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """As in :class:`PhysicalMemory`, 4 MiB at a time."""
        step, left = 1 << 22, max(self._held(), 0)
        for one in self.ranges:
            at = -one.start % _FRAME
            while at < one.size and left > 0:
                written = self._data_from(one.offset + at) - one.offset
                at = max(at, at + (written - at & -_FRAME))
                piece = self._pread(one.offset + at, min(step, one.size - at)) if at < one.size else b""
                if not piece:
                    break
                yield one.start + at, piece
                at += step
                left -= len(piece)


class InFile(Ranged):
    """Memory in ranges of a file."""

    def __init__(self, file: Bytes, ranges: list[Range]) -> None:
        super().__init__(file.name, ranges)
        self._file = file

    def _pread(self, offset: int, size: int) -> bytes:
        return self._file.pread(offset, size)

    def _data_from(self, offset: int) -> int:
        return self._file.data_from(offset)

    def _held(self) -> int:
        return min(super()._held(), self._file.size)
