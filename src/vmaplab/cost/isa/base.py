# SPDX-License-Identifier: GPL-2.0-only
"""What a core sees of an instruction: kinds of operations, and the registers that tie them together."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    """What an operation does, as far as its time depends on it."""

    ALU = 0
    SHIFT = 1
    """Bitfields, and arithmetic on a shifted register."""
    MUL = 2
    DIV = 3
    LOAD = 4
    STORE = 5
    COND = 6
    """A branch that is taken or not."""
    JUMP = 7
    CALL = 8
    INDIRECT = 9
    RET = 10
    SYNC = 11
    """A barrier that waits until all accesses before it are done: dsb, mfence, fence rw,rw."""
    ORDER = 12
    """One that orders them: dmb, lfence, fence r,rw."""
    FLUSH = 13
    """What comes after it is fetched anew: isb, fence.i."""
    ATOMIC = 14
    SYSTEM = 15
    """What waits for all before it: writes of system registers, TLB maintenance."""
    NOP = 16
    VECTOR = 17
    STATUS = 18
    """A read of a system register that waits for nothing."""
    SYNC_STORES = 19
    """As SYNC, for stores alone: dsb ishst."""
    ORDER_STORES = 20
    """As ORDER: dmb ishst, sfence, fence w,w."""


REGISTERS = 64
"""Numbers of registers: 0 to 59 as an architecture has them."""
ADDRESS, VALUE = 61, 62
"""Between the operations of one instruction."""


class Op(NamedTuple):
    """A part of an instruction.

    :param reads: registers, four at most; ``writes``: two at most.
    :param accesses: how many of the trace's it makes.
    """

    kind: Kind
    reads: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    accesses: int = 0


def words(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())
