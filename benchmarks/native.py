# SPDX-License-Identifier: GPL-2.0-only
"""A real CPU as the judge of the timing: the same code run here, and traced and timed on the nearest core's model.

    python benchmarks/native.py [FILE]

x86_64 only. The kernel's own object cannot run in user space: its linear map, vmemmap and code are linked to addresses
of the kernel's half, which no process can map. So native/fill.c does work of the same kind: tables filled one entry at
a time with the checks that a kernel makes of each page, and a run at a time. Prints cycles by both, and the ratio.
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import unicorn
from elftools.elf.elffile import ELFFile
from numpy.typing import NDArray
from unicorn import x86_const

import document
from document import table
from vmaplab.cost.core import Corner
from vmaplab.cost.cores import cores
from vmaplab.cost.executed import Code, Executed
from vmaplab.cost.time import band_of

SOURCE = Path(__file__).parent / "native" / "fill.c"
FLAGS = ("-O2", "-fno-tree-vectorize", "-fno-builtin", "-fno-stack-protector", "-fcf-protection=none")
SHARED = ("-shared", "-fPIC")
PAGES = 25600
ROUNDS = 41
CORE = "Zen4"
WORK = ("one_by_one", "in_runs", "adds", "multiplies", "chase", "branches", "fences")
STACK, RETURN = 0x7000_0000, 0x7100_0000


class World:
    """What fill.c works on, in memory of this process, which the emulator sees at the same addresses.

    :param pages: pointers to descriptors, or what a loop reads.
    """

    def __init__(self, pages: NDArray[np.uint64], descriptors: int) -> None:
        self.pages = pages
        count = len(pages)
        self.tables = np.zeros((-(-count // 512), 512), dtype=np.uint64)
        self.pointers = np.array([row.ctypes.data for row in self.tables], dtype=np.uint64)
        self.sections = np.full((4096, 2), 3, dtype=np.uint64)
        head = [
            pages.ctypes.data,
            count,
            descriptors,
            self.sections.ctypes.data,
            4096,
            self.pointers.ctypes.data,
            0x163,
        ]
        self.head = np.array(head, dtype=np.uint64)

    @property
    def arrays(self) -> list[NDArray[np.uint64]]:
        return [self.head, self.pages, self.tables, self.pointers, self.sections]


def world_of(name: str) -> World:
    """Blocks of 256 pages, none behind the one before; or what a loop wants."""
    base = 0x10_0000_0000
    if name == "chase":
        room = np.zeros(512, dtype=np.uint64)  # in L1, in an order that no prefetcher guesses
        order = np.random.default_rng(1).permutation(512)
        room[order] = room.ctypes.data + 8 * np.roll(order, -1).astype(np.uint64)
        world = World(room, base)
        world.head[1] = PAGES
        world.head[0] = room.ctypes.data + 8 * int(order[0])
        return world
    if name == "branches":
        return World(np.random.default_rng(2).integers(0, 1 << 40, PAGES).astype(np.uint64), base)
    blocks = np.arange(PAGES // 256, dtype=np.uint64)[::-1] * np.uint64(256 * 64)
    pages = (blocks[:, None] + np.arange(256, dtype=np.uint64) * np.uint64(64)).ravel() + np.uint64(base)
    return World(pages, base)


def native(library: ctypes.CDLL, name: str, world: World) -> float:
    """Median of the seconds of a call."""
    function, clear = getattr(library, name), library.clear
    at = ctypes.c_void_p(world.head.ctypes.data)
    took, random = [], np.random.default_rng(3)
    for _ in range(ROUNDS):
        if name in ("one_by_one", "in_runs"):
            clear(at)
        if name == "branches":  # else a predictor learns them by heart
            world.pages[:] = random.integers(0, 1 << 40, PAGES).astype(np.uint64)
        started = time.perf_counter_ns()
        function(at)
        took.append(time.perf_counter_ns() - started)
    return median(took) / 1e9


def traced(path: Path, name: str, world: World) -> Executed:
    """What a call executes, in the emulator."""
    with path.open("rb") as file:
        elf = ELFFile(file)
        symbols = {one.name: one["st_value"] for one in elf.get_section_by_name(".dynsym").iter_symbols()}
        segments = [(one["p_vaddr"], one.data()) for one in elf.iter_segments() if one["p_type"] == "PT_LOAD"]
    machine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64)
    for start, data in segments:
        first = start & -4096
        machine.mem_map(first, -(-(start + len(data) - first) // 4096) * 4096)
        machine.mem_write(start, data)
    machine.mem_map(STACK, 1 << 16)
    machine.mem_map(RETURN, 4096)
    mapped: set[int] = set()
    for array in world.arrays:
        at = array.ctypes.data
        for page in range(at & -4096, at + array.nbytes, 4096):
            if page not in mapped:
                mapped.add(page)
                machine.mem_map(page, 4096)
    for array in world.arrays:
        machine.mem_write(array.ctypes.data, array.tobytes())
    blocks: list[tuple[int, int, int]] = []
    accesses: list[int] = []
    machine.hook_add(unicorn.UC_HOOK_BLOCK, lambda _u, at, size, _d: blocks.append((at, size, len(accesses))))
    kinds = unicorn.UC_HOOK_MEM_READ | unicorn.UC_HOOK_MEM_WRITE
    machine.hook_add(kinds, lambda _u, _kind, at, _size, _value, _d: accesses.append(at))
    machine.reg_write(x86_const.UC_X86_REG_RDI, world.head.ctypes.data)
    stack = STACK + (1 << 15)
    machine.mem_write(stack, RETURN.to_bytes(8, "little"))
    machine.reg_write(x86_const.UC_X86_REG_RSP, stack)
    machine.emu_start(symbols[name], RETURN)
    known = {one: number for number, one in enumerate(dict.fromkeys((at, size) for at, size, _ in blocks))}
    code = [Code(at, bytes(machine.mem_read(at, size))) for at, size in known]
    which = np.array([known[at, size] for at, size, _ in blocks], dtype=np.uint32)
    first = np.array([*(begin for _, _, begin in blocks), len(accesses)], dtype=np.int64)
    return Executed("x86", code, [name] * len(code), which, first, np.array(accesses, dtype=np.int64))


def rows() -> list[list[str]]:
    """Cycles an item, by the core's model and here, and how the two kinds of filling compare."""
    core = cores()[CORE]
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "fill.so"
        subprocess.run(["gcc", *FLAGS, *SHARED, "-o", path, SOURCE], check=True)
        library = ctypes.CDLL(str(path))
        found: dict[str, tuple[float, float, float, float]] = {}
        ghz = 8 * PAGES / native(library, "adds", world_of("adds")) / 1e9  # a chain of additions is a cycle each
        for name in WORK:
            world = world_of(name)
            here = native(library, name, world) * ghz * 1e9 / PAGES
            if name in ("one_by_one", "in_runs"):
                library.clear(ctypes.c_void_p(world.head.ctypes.data))
            band = band_of(traced(path, name, world), core)
            found[name] = *(band.at(corner).cycles / PAGES for corner in Corner), here
    told = []
    for name, (fast, usual, slow, here) in found.items():
        told.append([name, f"{usual:.2f}", f"{fast:.2f} .. {slow:.2f}", f"{here:.2f}", f"{usual / here:.2f}"])
    ours, theirs = (found["one_by_one"][at] / found["in_runs"][at] for at in (1, 3))
    told.append(["one_by_one / in_runs", f"{ours:.2f}x", "", f"{theirs:.2f}x", f"{ours / theirs:.2f}"])
    print(f"{ghz:.2f} GHz", file=sys.stderr)
    return told


def main() -> None:
    if platform.machine() != "x86_64":
        raise SystemExit("this machine is no x86_64: nothing here is a judge of its core")
    head = ["cycles an item", f"{cores()[CORE].title}, timed", "band", "this machine", "timed / here"]
    document.publish(table(head, rows()), "native")


if __name__ == "__main__":
    main()
