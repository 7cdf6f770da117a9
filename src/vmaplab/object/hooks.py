# SPDX-License-Identifier: GPL-2.0-only
"""What Unicorn calls at each basic block and each access, compiled; the emulator reads what they leave in arrays."""

from __future__ import annotations

import ctypes
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from unicorn.unicorn_py3.unicorn import uclib

from vmaplab._jit import callback, for_callbacks, native
from vmaplab.trace import L_STORE, Ints

STEP = 16
"""Bytes of a function that is answered."""

# Indices into the control array, which the log follows.
(
    BUDGET,
    LOGGED,
    ROOM,
    OFFSET,
    LAST,
    LENGTH,
    MASK,
    LIVE,
    OPEN,
    OPENED,
    RAN,
    ORDERS,
    TEXT,
    TEXT_BYTES,
    QUEUED,
    QUEUE,
    ASKED,
    STUBS,
    RETURNS,
    APART,
    APART_BYTES,
    FIRST,
    SECOND,
    THIRD,
    RESULT,
    LINK,
    POINTER,
    SCRATCH,
) = range(28)
LOG = 28
QUEUE_ROOM = 1 << 12
ROW = 6
"""Words of a call in the queue: the address of its stub, three arguments, where it returns to, events logged before."""
BLOCKS, ACCESSES, EVENTS, HEAD = 0, 1, 2, 4
"""Of what is executed: how many, for how many there is room, and where they begin: two words of a block, then one of an
access."""

# What an instruction of 4 bytes is, for the order of stores and barriers.
STORES, COMPLETES, FOLLOWS = 1, 2, 3

NATIVE_BLOCK = numba.types.void(numba.types.uintp, numba.types.uint64, numba.types.uint32, numba.types.voidptr)
NATIVE_ACCESS = numba.types.void(
    numba.types.uintp,
    numba.types.int32,
    numba.types.uint64,
    numba.types.int32,
    numba.types.int64,
    numba.types.voidptr,
)
stop = for_callbacks(uclib, "uc_emu_stop", ctypes.c_void_p)
read_register = for_callbacks(uclib, "uc_reg_read", ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
write_register = for_callbacks(uclib, "uc_reg_write", ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
read_memory = for_callbacks(uclib, "uc_mem_read", ctypes.c_void_p, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
carray: Any = numba.__dict__["carray"]  # numba does not say that it exports it


@native
def complete(control: Ints, data: NDArray[np.uint8]) -> None:
    """What the last basic block, which is over, does to the store that is open: see :attr:`Emulator.open_store`."""
    first = control[LAST] - control[TEXT]
    if not 0 <= first < control[TEXT_BYTES]:
        return
    stored = control[OPENED] != control[LAST]
    for at in range(first, min(first + control[LENGTH], control[TEXT_BYTES]), 4):
        kind = data[control[ORDERS] + at]
        if kind == STORES:
            stored = True
        elif kind == COMPLETES and stored and control[OPEN]:
            control[OPEN] = 1
        elif kind == FOLLOWS and control[OPEN] == 1:
            control[OPEN] = 0


@callback(NATIVE_BLOCK)
def on_block(uc: Any, address: int, size: int, data: Any) -> None:
    """A basic block begins, and the one before it is over; stops the CPU where a call has had its share of them."""
    control = carray(data, (LOG,), np.int64)
    if control[OPEN]:
        complete(control, carray(data, (control[ORDERS] + control[TEXT_BYTES],), np.uint8))
    control[BUDGET] -= 1
    control[LAST], control[LENGTH] = np.int64(address), size
    offset = np.int64(address) - control[TEXT]
    if 0 <= offset < control[TEXT_BYTES]:
        offset += control[RAN]
        ran = carray(data, (offset + 1,), np.uint8)
        ran[offset] = max(ran[offset], np.uint8(min(size, 255)))
    if control[BUDGET] < 0:
        stop(uc)


@callback(NATIVE_ACCESS)
def on_write(_uc: Any, _access: int, address: int, size: int, value: int, data: Any) -> None:
    """A store to the page tables: goes to the log."""
    control = carray(data, (LOG,), np.int64)
    line = control[LOGGED]
    control[LOGGED] += 1
    where = np.int64(address) + control[OFFSET]
    if control[MASK] and value & control[MASK] == control[LIVE]:
        control[OPEN], control[OPENED] = where, control[LAST]
    if line < control[ROOM]:
        log = carray(data, (LOG + 4 * (line + 1),), np.int64)
        at = LOG + 4 * line
        log[at] = L_STORE
        log[at + 1] = where
        log[at + 2] = value
        log[at + 3] = size


@native
def register(uc: int, number: int, control: Ints) -> int:
    """A register of the CPU."""
    read_register(uc, np.int32(number), control[SCRATCH:].ctypes.data)
    return int(control[SCRATCH])


@callback(NATIVE_BLOCK)
def on_queued(uc: int, address: int, _size: int, data: Any) -> None:
    """A call whose answer can wait goes to the queue; the CPU stops where it is of memory that is set apart."""
    control = carray(data, (LOG,), np.int64)
    first = register(uc, control[FIRST], control)
    number = control[QUEUED]
    if number == QUEUE_ROOM or 0 <= first - control[APART] < control[APART_BYTES]:
        control[ASKED] = np.int64(address)
        stop(uc)
        return
    control[QUEUED] += 1
    at = control[QUEUE] + ROW * number
    row = carray(data, (at + ROW,), np.int64)
    row[at] = np.int64(address)
    row[at + 1] = first
    row[at + 2] = register(uc, control[SECOND], control)
    row[at + 3] = register(uc, control[THIRD], control)
    if control[LINK] >= 0:
        row[at + 4] = register(uc, control[LINK], control)
    else:
        read_memory(uc, np.uint64(register(uc, control[POINTER], control)), row[at + 4 :].ctypes.data, np.uint64(8))
    row[at + 5] = control[LOGGED]
    stub = control[RETURNS] + (np.int64(address) - control[STUBS]) // STEP
    argument = carray(data, (stub + 1,), np.int64)[stub]
    if argument:
        control[SCRATCH] = row[at + argument]
        write_register(uc, np.int32(control[RESULT]), control[SCRATCH:].ctypes.data)


@callback(NATIVE_BLOCK)
def on_counted_block(_uc: Any, address: int, size: int, data: Any) -> None:
    """A basic block begins: how often each does, and how many bytes it has."""
    head = carray(data, (2,), np.int64)
    offset, length = np.int64(address) - head[0], head[1]
    counter = carray(data, (2 + 2 * length,), np.int64)
    counter[2 + offset] += 1
    counter[2 + length + offset] = size


@callback(NATIVE_BLOCK)
def on_traced_block(_uc: Any, address: int, size: int, data: Any) -> None:
    """A basic block begins: where, its bytes, and how many accesses came before it."""
    head = carray(data, (HEAD,), np.int64)
    number = head[BLOCKS]
    head[BLOCKS] += 1
    if number < head[EVENTS]:
        rows = carray(data, (HEAD + 2 * number + 2,), np.int64)
        rows[HEAD + 2 * number] = np.int64(address)
        rows[HEAD + 2 * number + 1] = head[ACCESSES] << 16 | size


@callback(NATIVE_ACCESS)
def on_traced_access(_uc: Any, _access: int, address: int, _size: int, _value: int, data: Any) -> None:
    """Memory is read or written: where."""
    head = carray(data, (HEAD,), np.int64)
    number = head[ACCESSES]
    head[ACCESSES] += 1
    if number < head[EVENTS]:
        at = HEAD + 2 * head[EVENTS] + number
        carray(data, (at + 1,), np.int64)[at] = np.int64(address)
