# SPDX-License-Identifier: GPL-2.0-only
"""What is needed of an architecture to read the memory of its kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from vmaplab.errors import InputError
from vmaplab.judge.format import Format

_MOST_DIGITS = 32
Info = Mapping[str, str]
"""VMCOREINFO: ``NUMBER(VA_BITS)`` and the like -> what is said."""


class Ground(NamedTuple):
    """How a kernel's memory is laid out.

    :param arch: the architecture as ``vmaplab arches`` has it.
    :param form: its page-table format.
    :param image: virtual address of the kernel's image -> physical address.
    """

    arch: str
    form: Format
    image: Callable[[int], int]


@dataclass(frozen=True)
class Layout:
    """One architecture.

    :param machine: as ELF calls it.
    :param told_by: a word that only its VMCOREINFO has.
    :param ground: VMCOREINFO -> how its memory is laid out.
    :param vmemmap: ``(VMCOREINFO, address of a symbol, a word of memory, bytes of struct page)`` -> address of the
        struct page of frame 0, or None if it cannot be told.
    :param ram_base: where QEMU's machine has its RAM.
    """

    machine: str
    told_by: str
    ground: Callable[[Info], Ground]
    vmemmap: Callable[[Info, Callable[[str], int | None], Callable[[int], int], int], int | None]
    ram_base: int


def number(info: Info, name: str, default: int | None = None) -> int:
    """``NUMBER(name)``, decimal or hexadecimal.

    :raises InputError: if VMCOREINFO does not have it, and there is no default.
    """
    word = info.get(f"NUMBER({name})", info.get(name, ""))
    try:
        return int(word[:_MOST_DIGITS], 0)
    except ValueError:
        if default is not None and not word:
            return default
        raise InputError(f"VMCOREINFO does not have NUMBER({name})") from None


def symbol(info: Info, name: str) -> int:
    """``SYMBOL(name)``.

    :raises InputError: if VMCOREINFO does not have it.
    """
    try:
        return int(info.get(f"SYMBOL({name})", "")[:_MOST_DIGITS], 16) % (1 << 64)
    except ValueError:
        raise InputError(f"VMCOREINFO does not have SYMBOL({name})") from None
