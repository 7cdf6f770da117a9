# SPDX-License-Identifier: GPL-2.0-only
"""Captures page arrays of 8 MiB from this machine's memory while it fills: anonymous memory, huge or not, and files.

python benchmarks/arrays.py COUNT DIR   (as root: others see no page frames)

Each array is the page frames behind 8 MiB that were touched in order, from /proc/self/pagemap: ``huge-*.npy`` with
MADV_HUGEPAGE, ``small-*.npy`` with MADV_NOHUGEPAGE, ``file-*.npy`` of a file that was written in pieces of one size,
4 KiB to 1 MiB. Buffers are given back in random order, so that later ones find a used machine.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import sys
import tempfile
from pathlib import Path

import numpy as np

SIZE, HUGE = 8 << 20, 2 << 20
KINDS = ("huge", "small", "file")
MOST = 900
"""Buffers that are kept at a time."""


def frames(address: int) -> np.ndarray:
    """The page frames behind ``SIZE`` bytes."""
    page = os.sysconf("SC_PAGE_SIZE")
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        entries = np.frombuffer(os.pread(pagemap.fileno(), SIZE // page * 8, address // page * 8), dtype="<u8")
    if not (entries >> np.uint64(63)).all():
        raise SystemExit("not all pages are present: is there enough memory?")
    found: np.ndarray = entries & np.uint64((1 << 55) - 1)
    if not found.any():
        raise SystemExit("the kernel hid the page frames: run this as root")
    return found


def anonymous(advice: int) -> tuple[mmap.mmap, int]:
    """Anonymous memory, touched."""
    held = mmap.mmap(-1, SIZE + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held.madvise(advice)
    start = ctypes.addressof(ctypes.c_char.from_buffer(held)) + HUGE - 1 & -HUGE
    ctypes.memset(start, 1, SIZE)
    return held, start


def of_file(path: Path, piece: int) -> tuple[mmap.mmap, int]:
    """The page cache of a file that was written in pieces."""
    with path.open("w+b", buffering=0) as file:
        for _ in range(SIZE // piece):
            file.write(b"1" * piece)
        held = mmap.mmap(file.fileno(), SIZE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(held))
    for offset in range(0, SIZE, 4096):
        held[offset]
    return held, start


def main() -> None:
    count, folder = int(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(1)
    held: list[tuple[mmap.mmap, Path | None]] = []
    with tempfile.TemporaryDirectory(dir=folder.parent) as room:
        for number in range(count):
            kind, path = draw.choice(KINDS), None
            if kind == "file":
                path = Path(room) / str(number)
                buffer, start = of_file(path, 1 << draw.randrange(12, 21))
            else:
                buffer, start = anonymous(mmap.MADV_HUGEPAGE if kind == "huge" else mmap.MADV_NOHUGEPAGE)
            np.save(folder / f"{kind}-{number:05}.npy", frames(start))
            held.append((buffer, path))
            while len(held) > draw.randrange(MOST // 4, MOST):
                gone, path = held.pop(draw.randrange(len(held)))
                del gone
                if path:
                    path.unlink()


if __name__ == "__main__":
    main()
