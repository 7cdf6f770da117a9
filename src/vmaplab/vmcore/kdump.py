# SPDX-License-Identifier: GPL-2.0-only
"""kdump-compressed, as makedumpfile and QEMU's dump-guest-memory write it: makedumpfile's IMPLEMENTATION."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np

from vmaplab.errors import InputError, not_installed
from vmaplab.vmcore.bytesource import Bytes
from vmaplab.vmcore.memory import MOST_NOTE, PhysicalMemory, Unreadable

MAGIC = b"KDUMP   "
_MACHINES = {b"x86_64": "EM_X86_64", b"aarch64": "EM_AARCH64", b"riscv64": "EM_RISCV"}
_HEADER = np.dtype(
    {
        "names": ["machine", "block_size", "sub_hdr_size", "bitmap_blocks", "max_mapnr"],
        "formats": ["S65", "<i4", "<i4", "<u4", "<u4"],
        "offsets": [12 + 4 * 65, 428, 432, 436, 440],
        "itemsize": 464,
    }
)
_SUB_HEADER = np.dtype(
    {
        "names": ["split", "offset_vmcoreinfo", "size_vmcoreinfo", "max_mapnr_64"],
        "formats": ["<i4", "<i8", "<u8", "<u8"],
        "offsets": [12, 32, 40, 96],
        "itemsize": 104,
    }
)
_DESCRIPTOR = np.dtype([("offset", "<i8"), ("size", "<u4"), ("flags", "<u4"), ("page_flags", "<u8")])
_KNOWN_FLAGS = {1: "zlib", 2: "lzo", 4: "snappy", 0x20: "zstd"}
_MOST_BITMAP = 1 << 27
"""Bytes of both bitmaps: 2 TiB of pages of 4 KiB."""
_MOST_SEARCHED, _MOST_LOST = 1 << 20, 1 << 12
_CHUNK = 64
"""Bytes of the bitmap between two numbers of a page."""


class KdumpMemory(PhysicalMemory):
    """Pages, each compressed apart, and a bitmap of those that are there.

    :raises InputError: if it is none.
    """

    def __init__(self, file: Bytes) -> None:
        super().__init__(file.name)
        self._file = file
        head = self._record(0, _HEADER, "header")
        self._block = block = int(head["block_size"])
        if not 4096 <= block <= 1 << 16 or block & (block - 1):
            raise InputError(f"{file.name} has blocks of {block} bytes, which cannot be")
        self.machine = _MACHINES.get(bytes(head["machine"]), "")  # QEMU leaves it empty
        sub = self._record(block, _SUB_HEADER, "second header")
        if sub["split"]:
            raise InputError(f"{file.name} is one part of a dump that was split; put them together (makedumpfile)")
        sub_blocks, bitmap_blocks = int(head["sub_hdr_size"]), int(head["bitmap_blocks"])
        start, size = (1 + sub_blocks) * block, bitmap_blocks * block
        if sub_blocks < 1 or not 2 * block <= size <= _MOST_BITMAP or start + size > file.size:
            raise InputError(f"{file.name} is cut off, or broken: its bitmaps are not in it")
        frames = int(sub["max_mapnr_64"]) or int(head["max_mapnr"])
        # Two bitmaps: what memory there is, and what of it is in the file.
        bitmap = np.frombuffer(file.pread(start + size // 2, size // 2), dtype=np.uint8)
        self._bitmap = bitmap[: min(-(-frames // 8), len(bitmap))]
        at = np.arange(0, len(self._bitmap), _CHUNK)
        counts = np.add.reduceat(np.bitwise_count(self._bitmap), at, dtype=np.int64) if len(at) else at
        self._before = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        if not self._before[-1]:
            raise InputError(f"{file.name} has no page of memory")
        self._descriptors = start + size
        if self._descriptors + int(self._before[-1]) * _DESCRIPTOR.itemsize > file.size:
            raise InputError(f"{file.name} is cut off, or broken: it does not describe its {self._before[-1]} pages")
        told = int(sub["size_vmcoreinfo"])
        if 0 < told <= MOST_NOTE and 0 < sub["offset_vmcoreinfo"] < file.size:
            self.note = file.pread(int(sub["offset_vmcoreinfo"]), told)
        self._page = lru_cache(maxsize=(64 << 20) // block)(self._read_page)

    def _record(self, offset: int, dtype: np.dtype[np.void], what: str) -> np.void:
        raw = self._file.pread(offset, dtype.itemsize)
        if len(raw) < dtype.itemsize:
            raise InputError(f"{self.name} is cut off in its {what}")
        found: np.void = np.frombuffer(raw, dtype=dtype)[0]
        return found

    def read_phys(self, start: int, size: int) -> bytes:
        """As in :class:`PhysicalMemory`; a page that was read is kept."""
        frame, skip = divmod(start, self._block)
        if skip + size <= self._block:
            return self._page(frame)[skip : skip + size]
        last = (start + size - 1) // self._block
        whole = b"".join(self._page(one) for one in range(frame, last + 1))
        return whole[skip : skip + size]

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """As in :class:`PhysicalMemory`, page by page; not all of what is larger than anybody would wait for."""
        tried = lost = 0
        for chunk in range(0, len(self._bitmap), 1 << 16):
            for number in np.flatnonzero(np.unpackbits(self._bitmap[chunk : chunk + (1 << 16)], bitorder="little")):
                frame, tried = chunk * 8 + int(number), tried + 1
                if tried > _MOST_SEARCHED or lost > _MOST_LOST:
                    return
                try:
                    yield frame * self._block, self._read_page(frame)
                except Unreadable:
                    lost += 1

    def _read_page(self, frame: int) -> bytes:
        byte = frame >> 3
        if not 0 <= byte < len(self._bitmap) or not self._bitmap[byte] >> (frame & 7) & 1:
            raise Unreadable(f"{self.name} does not have the page at physical address {frame * self._block:#x}")
        chunk = byte // _CHUNK
        rank = int(self._before[chunk]) + int(np.bitwise_count(self._bitmap[chunk * _CHUNK : byte]).sum())
        rank += (int(self._bitmap[byte]) & ((1 << (frame & 7)) - 1)).bit_count()
        raw = self._file.pread(self._descriptors + rank * _DESCRIPTOR.itemsize, _DESCRIPTOR.itemsize)
        if len(raw) < _DESCRIPTOR.itemsize:
            raise Unreadable(f"{self.name} is cut off: its page {frame:#x} is not described")
        about = np.frombuffer(raw, dtype=_DESCRIPTOR)[0]
        offset, size, flags = int(about["offset"]), int(about["size"]), int(about["flags"])
        if not 0 < size <= 2 * self._block or not 0 < offset < 1 << 62:
            raise Unreadable(f"{self.name} says of page {frame:#x} that it has {size} bytes at {offset:#x}")
        data = self._file.pread(offset, size)
        if len(data) < size:
            raise Unreadable(f"{self.name} is cut off: page {frame:#x} is not in it")
        kind = flags & sum(_KNOWN_FLAGS)
        if kind:
            data = _decompressor(_KNOWN_FLAGS.get(kind, ""), self.name)(data, self._block)
        if len(data) != self._block:
            raise Unreadable(f"{self.name} holds {len(data)} bytes for page {frame:#x}, not {self._block}")
        return data


@lru_cache(maxsize=8)
def _decompressor(kind: str, name: str) -> Callable[[bytes, int], bytes]:
    """What makes ``size`` bytes of compressed ones.

    :raises InputError: if this machine has no library for it.
    """
    if kind == "zlib":
        return _inflate
    if kind in ("snappy", "zstd"):
        try:
            import pyarrow as pa
        except ImportError as error:
            raise not_installed(f"{name}, compressed with {kind},", error, "arrow") from None

        codec = pa.Codec(kind)

        def unpack(data: bytes, size: int) -> bytes:
            if kind == "snappy" and _snappy_length(data) != size:
                return b""  # pyarrow would leave the rest of the page as it is
            try:
                found: bytes = codec.decompress(data, size, asbytes=True)
            except (pa.ArrowException, OSError, ValueError):
                return b""
            return found

        return unpack
    if kind == "lzo":
        try:
            from lzallright import LZOCompressor
        except ImportError as error:
            raise not_installed(f"{name}, compressed with LZO,", error, "lzo") from None

        def expand(data: bytes, size: int) -> bytes:
            try:
                return bytes(LZOCompressor.decompress(data, size))
            except Exception:  # its own, of broken data
                return b""

        return expand
    raise InputError(f"{name} has a page that is compressed in several ways at once")


def _snappy_length(data: bytes) -> int:
    """Bytes that a snappy block says it has unpacked, a varint at its start."""
    found = 0
    for number, byte in enumerate(data[:5]):
        found |= (byte & 0x7F) << 7 * number
        if byte < 0x80:
            return found
    return -1


def _inflate(data: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, size + 1)
    except zlib.error:
        return b""
