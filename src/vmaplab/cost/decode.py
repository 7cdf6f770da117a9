# SPDX-License-Identifier: GPL-2.0-only
"""The basic blocks of a trace as operations, in arrays that compiled code reads."""

from __future__ import annotations

import importlib
from typing import NamedTuple

import capstone
import numpy as np
from numpy.typing import NDArray

from vmaplab.cost.executed import Executed
from vmaplab.cost.isa.base import REGISTERS, Kind
from vmaplab.trace import Ints

OWN = "vmaplab_"
"""What the names of our own functions begin with: none of them is the kernel's."""
NOTHING = REGISTERS - 1
"""A register that is always ready, and that nobody waits for."""


class Decoded(NamedTuple):
    """The operations of all basic blocks, one block after the other.

    :param bounds: of block ``n`` the operations ``bounds[n]`` to ``bounds[n + 1]`` - 1.
    :param kinds: of each operation; ``reads``: four registers of each, ``writes``: two.
    :param accesses: how many it makes.
    :param ends: whether it is the last one of its instruction.
    :param starts: address of each block; ``after``: where it ends; signed, as those of the trace.
    """

    bounds: Ints
    kinds: NDArray[np.int8]
    reads: NDArray[np.int8]
    writes: NDArray[np.int8]
    accesses: NDArray[np.int8]
    ends: NDArray[np.bool_]
    starts: Ints
    after: Ints


def decode(executed: Executed) -> Decoded:
    """The operations of a trace's blocks."""
    isa = importlib.import_module(f"vmaplab.cost.isa.{executed.family}")
    machine = capstone.Cs(*isa.DISASSEMBLER)
    machine.detail = True
    bounds, rows = [0], []
    for block in executed.code:
        for one in machine.disasm(block.data, block.address):
            ops = isa.ops_of(one)
            rows += [(op, number == len(ops) - 1) for number, op in enumerate(ops)]
        bounds.append(len(rows))
    reads = [(tuple(op.reads) + (NOTHING,) * 4)[:4] for op, _ in rows]
    writes = [(tuple(op.writes) + (NOTHING,) * 2)[:2] for op, _ in rows]
    starts = np.array([block.address for block in executed.code], dtype=np.uint64)
    lengths = np.array([len(block.data) for block in executed.code], dtype=np.uint64)
    return Decoded(
        np.array(bounds, dtype=np.int64),
        np.array([op.kind for op, _ in rows], dtype=np.int8),
        np.array(reads, dtype=np.int8).reshape(-1, 4),
        np.array(writes, dtype=np.int8).reshape(-1, 2),
        np.array([op.accesses for op, _ in rows], dtype=np.int8),
        np.array([last for _, last in rows], dtype=np.bool_),
        starts.view(np.int64),
        (starts + lengths).view(np.int64),
    )


def instructions_of(executed: Executed) -> dict[str, int]:
    """Instructions by function, of a trace; what is answered in place of a function, and our own code, is left out."""
    decoded = decode(executed)
    lengths = np.add.reduceat(np.append(decoded.ends.astype(np.int64), 0), decoded.bounds[:-1])
    lengths[decoded.bounds[:-1] == decoded.bounds[1:]] = 0
    times = np.bincount(executed.blocks, minlength=len(executed.code))
    found: dict[str, int] = {}
    for block, name, length, count in zip(executed.code, executed.names, lengths.tolist(), times.tolist(), strict=True):
        if count and not block.answered and not name.startswith(OWN):
            found[name] = found.get(name, 0) + length * count
    return found


KINDS = len(Kind)
