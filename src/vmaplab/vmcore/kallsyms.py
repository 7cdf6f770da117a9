# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own symbol table, out of its memory: scripts/kallsyms.c and kernel/kallsyms.c."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping

import numpy as np

from vmaplab.errors import InputError
from vmaplab.vmcore.layouts.base import symbol

_MOST_SYMBOLS = 1 << 20
_MOST_NAMES = 1 << 26
_MOST_TOKEN, _MOST_LENGTH = 64, 512
"""Letters of a token, and tokens of a name (KSYM_NAME_LEN)."""


class Symbols:
    """Names and addresses.

    :param addresses: ascending; ``names``: of each.
    """

    def __init__(self, addresses: list[int], names: list[str]) -> None:
        self._addresses, self._names = addresses, names
        self._of = dict(zip(reversed(names), reversed(addresses), strict=True))  # of several, the first

    def get(self, name: str) -> int | None:
        """The address of ``name``, if it has one."""
        return self._of.get(name)

    def text(self, address: int) -> str:
        """``name+0x1c/0x40``, as ``%pS`` prints an address; or the address where nothing is near."""
        number = bisect_right(self._addresses, address) - 1
        if number < 0:
            return f"{address:#x}"
        start = self._addresses[number]
        end = self._addresses[min(bisect_right(self._addresses, start), len(self._addresses) - 1)]
        if address >= end:
            return f"{address:#x}"
        first = bisect_left(self._addresses, start)
        return f"{self._names[first]}+{address - start:#x}/{end - start:#x}"


def kallsyms(read: Callable[[int, int], bytes], info: Mapping[str, str]) -> Symbols:
    """The symbols of a kernel.

    :param read: ``(virtual address, size) -> bytes`` of its memory.
    :param info: its VMCOREINFO.
    :raises InputError: if they are not there, or make no sense.
    """

    def address(name: str) -> int:
        if f"SYMBOL({name})" not in info:
            raise InputError(f"VMCOREINFO does not say where {name} is: kernels before 6.0 do not; give ,vmlinux=FILE")
        return symbol(info, name)

    count = int.from_bytes(read(address("kallsyms_num_syms"), 4), "little")
    if not 0 < count <= _MOST_SYMBOLS:
        raise InputError(f"the kernel's symbol table is said to have {count} symbols")
    starts = np.frombuffer(read(address("kallsyms_token_index"), 512), dtype="<u2").tolist()
    table = _up_to(read, address("kallsyms_token_table"), max(starts) + 64)
    tokens = [table[start : max(table.find(b"\0", start, start + _MOST_TOKEN), start)] for start in starts]
    names = _names(read, address("kallsyms_names"), count, tokens)
    offsets = np.frombuffer(read(where := address("kallsyms_offsets"), 4 * count), dtype="<i4").astype(np.int64)
    stext = address("_stext")
    for found in _addresses(read, info, offsets, where):
        sought = np.flatnonzero(found == np.uint64(stext))
        if any(names[number] in ("_stext", "_text") for number in sought.tolist()):
            order = np.argsort(found, kind="stable")
            return Symbols(found[order].tolist(), [names[number] for number in order.tolist()])
    raise InputError("the kernel's symbol table does not have _stext where VMCOREINFO has it: one of them is broken")


def _addresses(
    read: Callable[[int, int], bytes], info: Mapping[str, str], offsets: np.ndarray, where: int
) -> list[np.ndarray]:
    """What the offsets can mean: it depends on release and configuration."""
    if "SYMBOL(kallsyms_relative_base)" not in info:  # from 7.0 on: relative to the place of the offset itself
        place = where + 4 * np.arange(len(offsets), dtype=np.int64).astype(np.uint64)
        return [place + offsets.astype(np.uint64)]
    start = int.from_bytes(read(symbol(info, "kallsyms_relative_base"), 8), "little")
    unsigned = np.uint64(start) + (offsets & 0xFFFFFFFF).astype(np.uint64)
    # CONFIG_KALLSYMS_ABSOLUTE_PERCPU: what is not negative is the address itself.
    below = np.uint64((start - 1) % (1 << 64)) - offsets.astype(np.uint64)
    percpu = np.where(offsets >= 0, offsets.astype(np.uint64), below)
    return [unsigned, percpu]


def _names(read: Callable[[int, int], bytes], start: int, count: int, tokens: list[bytes]) -> list[str]:
    names: list[str] = []
    data, at = b"", 0
    taken = 0
    while len(names) < count:
        # Each is its length, one byte or two, and as many tokens; the first has the type before the name.
        if at + (1 << 15) > len(data):
            piece = _up_to(read, start + taken, min(1 << 20, _MOST_NAMES - taken))
            data, at = data[at:] + piece, 0
            taken += len(piece)
        if at >= len(data):
            raise InputError("the kernel's symbol table is cut off")
        length = data[at]
        at += 1
        if length & 0x80 and at < len(data):
            length = length & 0x7F | data[at] << 7
            at += 1
        if length > _MOST_LENGTH:
            raise InputError("the kernel's symbol table is broken: a name has more than 512 letters")
        names.append(b"".join([tokens[byte] for byte in data[at : at + length]])[1:].decode("ascii", "replace"))
        at += length
    return names


def _up_to(read: Callable[[int, int], bytes], start: int, size: int) -> bytes:
    """Up to ``size`` bytes: what can be read of them, frame by frame."""
    try:
        return read(start, size) if size > 0 else b""
    except InputError:
        pass
    found = b""
    while len(found) < size:
        count = min(size - len(found), 4096 - (start + len(found)) % 4096)
        try:
            found += read(start + len(found), count)
        except InputError:
            break
    return found
