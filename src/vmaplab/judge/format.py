# SPDX-License-Identifier: GPL-2.0-only
"""What an architecture manual says of a page-table format, as the walker and the emulated MMU take it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

WRITE, EXEC, USER, USER_EXEC, NORMAL = 1, 2, 4, 8, 16
"""What an entry allows: writing, execution by the kernel, data access and execution from user mode; NORMAL: it is
ordinary memory, cached and coherent, its translation shared by all address spaces."""
EVERYTHING = np.uint8(WRITE | EXEC | USER | USER_EXEC | NORMAL)

CANNOT = (
    "reserved encoding",
    "output address not aligned",
    "access flag clear",
    "table of another size",
    "not readable",
    "dirty bit clear: a write faults, or sets it",
)
"""Why the MMU would not take an entry that is marked valid; ``Decoded.bad`` is an index from 1 on."""
RESERVED, MISALIGNED, NOT_ACCESSED, OTHER_TABLE, NOT_READABLE, NOT_DIRTY = range(1, len(CANNOT) + 1)


class Field(NamedTuple):
    """Bits of an entry that have one name, numbered from the least significant one.

    :param high: the first of them, ``low`` the last.
    :param name: as the manual has it.
    :param means: by value, what they say; empty where the number says it.
    :param address: they hold an address.
    """

    high: int
    low: int
    name: str
    means: tuple[str, ...] = ()
    address: bool = False

    def of(self, entry: int) -> int:
        """What ``entry`` has there, as a number from bit 0 on."""
        return entry >> self.low & ((1 << self.high - self.low + 1) - 1)


def flag(number: int, name: str, clear: str = "", on: str = "") -> Field:
    """A field of one bit."""
    return Field(number, number, name, (clear, on))


def none(high: int, low: int, name: str = "reserved") -> tuple[Field, ...]:
    """Bits without a meaning, if there are any."""
    return (Field(high, low, name),) if high >= low else ()


def address(high: int, low: int, name: str) -> Field:
    """Bits of an address."""
    return Field(high, low, name, address=True)


class Decoded(NamedTuple):
    """Entries of one level, as arrays of one shape.

    :param valid: the MMU goes on with this entry.
    :param leaf: it ends here; otherwise ``phys`` is the next table.
    :param phys: output address, or address of the next table, bytes.
    :param rights: ``WRITE | EXEC | ...``; of a table: what it leaves to those below it.
    :param attributes: every bit of the entry that is no address.
    :param group: log2 of the bytes that the entry's group maps; 0 if it stands alone.
    :param bad: 0, or what is wrong with a valid entry (``CANNOT``).
    """

    valid: Bools
    leaf: Bools
    phys: U64
    rights: NDArray[np.uint8]
    attributes: U64
    group: NDArray[np.uint8]
    bad: NDArray[np.uint8]


@dataclass(frozen=True)
class Format:
    """One page-table format.

    :param manual: where it is defined.
    :param levels: ``(log2 of the bytes that an entry maps, log2 of the entries of a table)``, last level first.
    :param entry: dtype of a stored entry.
    :param decode: ``(level, entries) -> Decoded``; level 0 is the last.
    :param fields: ``(level, leaf) -> fields`` of an entry, highest bits first, also of leaves where none can be.
    :param kernel_half: the upper bits of a kernel address, which the walk does not look at.
    :param cpu: which emulated CPU translates, or why none does.
    :param machine: starts a Unicorn CPU with the MMU on: ``root -> Uc``; None if Unicorn has none.
    :param machine_bits: width of the physical addresses that this CPU takes.
    :param data_rights: what the kernel gives its data: no execution, where it can refuse it (``pgprot_nx()``).
    :param device_rights: what ``ioremap()`` gives.
    :param zero_counts: an upper entry of 0 is not invalid.
    :param any_flush: flushing any address empties the paging-structure caches: no cached entry leads to a table then.
    :param boot: boot argument -> the format with it, where it changes what the kernel gives its mappings.
    :param alike: log2 of the group whose entries all hold the group's address, not each its own; 0 if there is none.
    """

    manual: str
    levels: tuple[tuple[int, int], ...]
    entry: str
    decode: Callable[[int, U64], Decoded]
    fields: Callable[[int, bool], tuple[Field, ...]]
    kernel_half: int
    cpu: str
    machine: Callable[[int], Any] | None = None
    machine_bits: int = 64
    data_rights: int = WRITE | NORMAL
    device_rights: int = WRITE
    zero_counts: bool = False
    alike: int = 0
    any_flush: bool = False
    boot: Mapping[str, Format] = dataclasses.field(default_factory=dict, compare=False)

    def booted(self, boot_args: Iterable[str]) -> Format:
        """The format of a kernel with these boot arguments."""
        return next((self.boot[word] for word in boot_args if word in self.boot), self)


def field(entries: U64, high: int, low: int) -> U64:
    """Bits ``high`` to ``low`` of each entry, in place."""
    return entries & np.uint64((1 << high + 1) - (1 << low))


def bit(entries: U64, number: int) -> Bools:
    """Whether bit ``number`` is set."""
    found: Bools = entries & np.uint64(1 << number) != 0
    return found


def rights_of(write: Bools, execute: Bools, user: Bools, user_execute: Bools, normal: Bools) -> NDArray[np.uint8]:
    """The five as one number."""
    found = np.zeros(write.shape, dtype=np.uint8)
    pairs = ((WRITE, write), (EXEC, execute), (USER, user), (USER_EXEC, user_execute), (NORMAL, normal))
    for right, given in pairs:
        found |= given * np.uint8(right)
    return found


def first_bad(shape: tuple[int, ...], *reasons: tuple[int, Bools]) -> NDArray[np.uint8]:
    """Per entry the first reason that holds, or 0."""
    bad = np.zeros(shape, dtype=np.uint8)
    for reason, holds in reversed(reasons):
        bad[holds] = reason
    return bad
