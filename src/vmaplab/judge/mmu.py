# SPDX-License-Identifier: GPL-2.0-only
"""A CPU whose MMU translates: the table memory is its RAM, Unicorn's softmmu walks it."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Mapping
from typing import Any

import numpy as np
import unicorn
from numpy.typing import NDArray
from unicorn.unicorn_py3.unicorn import uclib

from vmaplab._jit import foreign, jit
from vmaplab.judge.format import U64, Format

READ, WRITE, FETCH = unicorn.UC_PROT_READ, unicorn.UC_PROT_WRITE, unicorn.UC_PROT_EXEC
_PAGE = 4096
_NO_RESERVE = 0x4000
"""MAP_NORESERVE, which Python's mmap does not name."""
_MOST_SPAN = 1 << 45
"""Bytes of a machine's RAM, of which only what is written takes memory."""

# int uc_vmem_translate(uc, address, access, &physical)
uc_vmem_translate = foreign(uclib, "uc_vmem_translate", ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_void_p)


@jit
def _translate(engine: int, addresses: U64, access: int, out: U64, out_at: int, refused: NDArray[np.int32]) -> None:
    for index in range(len(addresses)):
        refused[index] = uc_vmem_translate(engine, addresses[index], access, out_at + 8 * index)


class Mmu:
    """A machine with page tables in its RAM, whose CPU is in kernel mode with the MMU on.

    :param form: the format; it must have a machine.
    :param base: physical address of the table memory.
    :param root: physical address of the top table.
    """

    def __init__(self, form: Format, base: int, root: int) -> None:
        assert form.machine is not None
        self._uc = form.machine(root)
        self._base = base
        self._ram: NDArray[Any] = np.zeros(0, dtype=np.uint8)

    def load(self, memory: NDArray[np.uint8]) -> None:
        """Copy ``memory``, a dump of the table memory, to the machine's RAM and flush the TLB."""
        if len(memory) > len(self._ram):
            if len(self._ram):
                self._uc.mem_unmap(self._base, len(self._ram))
            size = 1 << max(len(memory) - 1, _PAGE - 1).bit_length()
            spare = np.zeros(size + _PAGE, dtype=np.uint8)
            skip = -spare.ctypes.data % _PAGE
            self._ram = spare[skip : skip + size]
            rights = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
            self._uc.mem_map_ptr(self._base, size, rights, self._ram.ctypes.data)
        self._ram[: len(memory)] = memory
        self._ram[len(memory) :] = 0
        self._uc.ctl(unicorn.UC_CTL_TLB_FLUSH, unicorn.UC_CTL_IO_WRITE)

    def take(self, ram: NDArray[np.uint8]) -> None:
        """Make ``ram``, whole pages at a page, the machine's."""
        self._ram = ram
        self._uc.mem_map_ptr(self._base, len(ram), unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE, ram.ctypes.data)

    def write(self, at: int, content: NDArray[np.uint8]) -> None:
        """Write to a physical address of RAM that nothing was translated from yet."""
        self._ram[at - self._base :][: len(content)] = content

    def translate(self, addresses: U64, access: int) -> tuple[U64, NDArray[np.bool_]]:
        """Have the MMU translate for ``access`` (READ, WRITE, FETCH): physical addresses, and whether it took each."""
        out = np.zeros(len(addresses), dtype=np.uint64)
        refused = np.zeros(len(addresses), dtype=np.int32)
        _translate(self._uc._uch.value, addresses, access, out, out.ctypes.data, refused)
        return out, refused == 0


def sparse(form: Format, root: int, tables: Mapping[int, NDArray[Any]]) -> Mmu | None:
    """A machine whose RAM has ``tables``, by their physical addresses, and nothing else.

    :return: None where the emulated CPU cannot address them.
    """
    low = min(tables, default=0) & -(1 << 21)
    high = max((at + words.nbytes for at, words in tables.items()), default=0) + _PAGE - 1 & -_PAGE
    if not tables or high > 1 << form.machine_bits or high - low > _MOST_SPAN:
        return None
    try:
        ram = mmap.mmap(-1, high - low, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE)
    except OSError:
        return None
    machine = Mmu(form, low, root)
    machine.take(np.frombuffer(ram, dtype=np.uint8))
    for at, words in tables.items():
        machine.write(at, words.view(np.uint8))
    return machine
