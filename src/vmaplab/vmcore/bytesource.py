# SPDX-License-Identifier: GPL-2.0-only
"""Files that are read at offsets: plain, or flattened by makedumpfile so that they can be written to a pipe."""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path

from vmaplab.errors import InputError

_MAGIC = b"makedumpfile\0\0\0\0"
_HEADER = 4096
_MOST_READ = 1 << 28
_MOST_PIECES, _MOST_OVERLAPPING = 1 << 20, 1 << 16


class PlainFile:
    """A file, or /proc/kcore: something that has a size perhaps, and can be read at offsets.

    :raises InputError: if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.name = f"'{path}'"
        try:
            kind = path.stat().st_mode
            if stat.S_ISDIR(kind):
                raise InputError(f"{self.name} is a directory")
            if not stat.S_ISREG(kind) and not stat.S_ISBLK(kind):
                raise InputError(f"{self.name} is no file that can be read at offsets: write it to one first")
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"cannot read {self.name}: {error.strerror}") from None
        self.size = os.fstat(self._fd).st_size

    def pread(self, offset: int, size: int) -> bytes:
        """Bytes at ``offset``, fewer where the file ends."""
        if not 0 <= offset < 1 << 63:
            return b""
        try:
            return os.pread(self._fd, size, offset)
        except OSError as error:
            raise InputError(f"cannot read {self.name}: {error.strerror}") from None

    def data_from(self, offset: int) -> int:
        """Where at ``offset`` or behind it something was written; the offset itself where that is not known."""
        try:
            return os.lseek(self._fd, offset, os.SEEK_DATA)
        except OSError as error:
            return self.size if error.errno == errno.ENXIO else offset

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)


class Flattened:
    """The file that a flattened one describes: pieces, each with the offset that it belongs to; later ones count.

    makedumpfile -F writes it, and QEMU's dump-guest-memory; makedumpfile's IMPLEMENTATION has the format.
    """

    def __init__(self, file: PlainFile) -> None:
        self._file, self.name = file, file.name
        pieces: list[tuple[int, int, int]] = []  # offset, size, where it is
        at = _HEADER
        while True:
            head = file.pread(at, 16)
            offset, size = int.from_bytes(head[:8], "big", signed=True), int.from_bytes(head[8:], "big", signed=True)
            if len(head) == 16 and offset == size == -1:
                break
            at += 16
            if len(head) < 16 or offset < 0 or size <= 0 or at + size > file.size:
                raise InputError(f"{file.name} is flattened and cut off, or broken, at byte {at}")
            if pieces and pieces[-1][0] + pieces[-1][1] == offset and pieces[-1][2] + pieces[-1][1] == at:
                pieces[-1] = (pieces[-1][0], pieces[-1][1] + size, pieces[-1][2])
            else:
                pieces.append((offset, size, at))
            if len(pieces) > _MOST_PIECES:
                raise InputError(f"{file.name} is flattened into more than {_MOST_PIECES} pieces")
            at += size
        laid_out = _laid_out(pieces)
        if laid_out is None:
            raise InputError(f"{file.name} is flattened into {len(pieces)} pieces that lie over each other")
        self._pieces = laid_out
        self._starts = [start for start, _, _ in self._pieces]
        self.size = max((start + size for start, size, _ in self._pieces), default=0)

    def data_from(self, offset: int) -> int:
        """Where at ``offset`` or behind it something was written."""
        number = max(bisect_right(self._starts, offset) - 1, 0)
        for start, size, _ in self._pieces[number : number + 2]:
            if offset < start + size:
                return max(offset, start)
        return self.size

    def pread(self, offset: int, size: int) -> bytes:
        """Bytes at ``offset`` of the file that is described; zeros where nothing was written."""
        size = max(min(size, self.size - offset), 0)
        if size > _MOST_READ:
            raise InputError(f"{self.name} is flattened, and {size} bytes of it are wanted at once: it is broken")
        out = bytearray(size)
        number = max(bisect_right(self._starts, offset) - 1, 0)
        while number < len(self._pieces) and self._starts[number] < offset + size:
            start, length, at = self._pieces[number]
            first, last = max(offset, start), min(offset + size, start + length)
            if first < last:
                out[first - offset : last - offset] = self._file.pread(at + first - start, last - first)
            number += 1
        return bytes(out)


def _laid_out(pieces: list[tuple[int, int, int]]) -> list[tuple[int, int, int]] | None:
    """Pieces in ascending order, none over another: of those that overlap, the later counts; None if too many do."""
    ordered = sorted(pieces)
    if all(one[0] + one[1] <= other[0] for one, other in pairwise(ordered)):
        return ordered
    if len(pieces) > _MOST_OVERLAPPING:
        return None
    cuts = sorted({edge for start, size, _ in pieces for edge in (start, start + size)})
    where = {edge: number for number, edge in enumerate(cuts)}
    owner: list[tuple[int, int] | None] = [None] * len(cuts)
    following = list(range(len(cuts)))  # the next stretch that nobody has, by halving paths
    for start, size, at in reversed(pieces):
        number = where[start]
        while True:
            while following[number] != number:
                following[number] = following[following[number]]
                number = following[number]
            if number >= where[start + size]:
                break
            owner[number] = (start, at)
            following[number] = number + 1
    return [
        (edge, cuts[number + 1] - edge, one[1] + edge - one[0])
        for number, (edge, one) in enumerate(zip(cuts, owner, strict=True))
        if one is not None
    ]


Bytes = PlainFile | Flattened


def open_bytes(path: Path) -> Bytes:
    """The file, or what it describes if it is flattened.

    :raises InputError: if it cannot be opened.
    """
    file = PlainFile(path)
    return Flattened(file) if file.pread(0, len(_MAGIC)) == _MAGIC else file
