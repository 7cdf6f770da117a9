# SPDX-License-Identifier: GPL-2.0-only
"""What an entry says, bit by bit; how the MMU comes to the translation of one address; what a store did.

All of it by the manual's format (:mod:`vmaplab.judge.format`), whoever made the entry; that an entry is what
``PAGE_KERNEL`` makes is the one thing that the architecture is asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.errors import InputError
from vmaplab.judge import FORMATS
from vmaplab.judge.format import CANNOT, Field, Format
from vmaplab.machine import Machine
from vmaplab.mapping import Mapping
from vmaplab.release import DEFAULT, get
from vmaplab.trace import Event

LEAF, TABLE, INVALID = "leaf", "table", "invalid"


@dataclass(frozen=True)
class Entry:
    """An entry, read as the manual says.

    :param level: name of its level, ``PTE`` to ``PGD``.
    :param value: the entry, as a number.
    :param kind: ``leaf``, ``table`` or ``invalid``.
    :param phys: output address of a leaf, address of the next table, bytes.
    :param size: bytes that a leaf maps by itself, or 0.
    :param group: bytes of the group that it is one of, or 0.
    :param wrong: why the MMU does not take it though it is marked valid, or "".
    :param fields: all its bits, the highest first.
    :param same: whose protection its attributes are, or "".
    """

    level: str
    value: int
    kind: str
    phys: int
    size: int
    group: int
    wrong: str
    fields: tuple[Field, ...]
    same: str

    def means(self, field: Field) -> str:
        """What this entry's value of ``field`` says; "" where the number says all."""
        if field.address:
            return f"{self.phys:#x}" if self.kind != INVALID else ""
        return field.means[field.of(self.value)] if field.means else ""


class Step(NamedTuple):
    """One level of a walk.

    :param table: physical address of the table, ``at`` of the entry in it.
    :param number: which entry of the table it is.
    :param va: first address that the entry is for.
    """

    table: int
    number: int
    at: int
    va: int
    entry: Entry


@dataclass(frozen=True)
class Explained:
    """What was asked to be explained of a mapping.

    :param va: the address whose walk is in ``walk``, or None.
    :param stores: per event, what :meth:`Explainer.stores` says.
    """

    explainer: Explainer | None = None
    va: int | None = None
    walk: tuple[Step, ...] = ()
    events: tuple[Event, ...] = ()
    stores: tuple[Step | None, ...] = ()


def walk(kernel: Machine, va: int) -> list[Step]:
    """The entries that the MMU reads for ``va`` in a kernel's page tables, from the root down to where it ends.

    :raises InputError: if the address is none of the kernel's half.
    """
    explainer = Explainer(kernel.arch, kernel.boot_args)
    return list(explainer.walk(kernel.live_tables(), kernel.arch.table_base, kernel.table_root, va))


def explain(kernel: Machine, mapping: Mapping, where: int | None, events: bool) -> Explained:
    """Explain a mapping that is in place.

    :param where: whose walk: an address, or bytes from the start of the mapping; None for no walk.
    :param events: all that happened, each store in words.
    """
    if where is None and not events:
        return Explained()
    arch = kernel.arch
    if where is not None and where >= mapping.size and not arch.vmalloc_start <= where < arch.vmalloc_end:
        raise InputError(
            f"{where:#x} is neither one of the {mapping.size:#x} bytes of the mapping nor an address of vmalloc space, "
            f"{arch.vmalloc_start:#x} to {arch.vmalloc_end:#x}"
        )
    explainer = Explainer(arch, kernel.boot_args)
    place = kernel.live_tables(), kernel.arch.table_base, kernel.table_root
    va = mapping.addr + where if where is not None and where < mapping.size else where
    walk = () if va is None else tuple(explainer.walk(*place, va))
    happened = mapping.events if events else []
    return Explained(explainer, va, walk, tuple(happened), tuple(explainer.stores(happened, *place)))


class Explainer:
    """The format of one architecture, with its names.

    :param arch: its name, or as a release or a tree has it (``kernel.arch``); ``boot_args`` of the kernel.
    :raises InputError: if there is none of that name.
    """

    def __init__(self, arch: Arch | str, boot_args: tuple[str, ...] = ()) -> None:
        self.arch = get(DEFAULT).on(arch) if isinstance(arch, str) else arch
        self.form: Format = FORMATS[self.arch.name].booted(boot_args)
        self.names = [level.name for level in self.arch.levels]
        self._bytes = np.dtype(self.form.entry).itemsize

    def level_of(self, name: str) -> int:
        """The number of the level called ``name``.

        :raises InputError: if the architecture has none.
        """
        if name.upper() not in self.names:
            raise InputError(f"{self.arch.name} has no level '{name}'; it has {', '.join(self.names)}")
        return self.names.index(name.upper())

    def entry(self, value: int, level: int = 0) -> Entry:
        """Read ``value``, an entry of ``level``; level 0 is the last.

        :raises InputError: if an entry has fewer bits.
        """
        if not 0 <= value < 1 << 8 * self._bytes:
            raise InputError(f"{value:#x} is no entry of {self.arch.name}: those have {8 * self._bytes} bits")
        read = self.form.decode(level, np.array([value], dtype=np.uint64))
        valid, leaf = bool(read.valid[0]), bool(read.leaf[0])
        kind = LEAF if valid and leaf else TABLE if valid and level else INVALID  # below the last level is no table
        group = int(read.group[0])
        return Entry(
            level=self.names[level],
            value=value,
            kind=kind,
            phys=int(read.phys[0]),
            size=1 << self.form.levels[level][0] if kind == LEAF else 0,
            group=1 << group if group and kind == LEAF else 0,
            wrong=CANNOT[read.bad[0] - 1] if valid and read.bad[0] else "",
            fields=self.form.fields(level, leaf),
            same=self._same(int(read.attributes[0]), level, kind),
        )

    def _same(self, attributes: int, level: int, kind: str) -> str:
        """Whose protection the attributes of an entry are; with the bits of a group, and as vmap() leaves them."""
        arch = self.arch
        if kind == TABLE:
            return "p?d_populate()" if attributes == arch.levels[level].table_bits | arch.table_virt else ""
        if kind == INVALID:
            return ""
        shown = {
            "PAGE_KERNEL": arch.page_kernel,
            "pgprot_nx(PAGE_KERNEL)": arch.pgprot_nx(arch.page_kernel),
            "ioremap()": arch.ioremap_prot,
        }
        more = {0} | ({group.bits for group in arch.groups} if level == 0 else set())
        same = (
            name
            for name, prot in shown.items()
            if prot and attributes in {arch.leaf_prot(prot, level) | bits for bits in more}
        )
        return next(same, "")

    def translate(self, steps: Sequence[Step], va: int) -> int | None:
        """The physical address of ``va``, where its walk ends; None where it ends in no leaf."""
        last = steps[-1].entry if steps else None
        if last is None or last.kind != LEAF:
            return None
        alike = 1 << self.form.alike if self.form.alike else 0  # bytes whose entries all have the first address
        size = max(last.size, alike)
        return (last.phys & -size) + (va & (size - 1))

    def walk(self, tables: NDArray[np.uint8], base: int, root: int, va: int) -> Iterator[Step]:
        """The entries that the MMU reads for ``va``, from the root down to where it ends.

        :param tables: bytes of table memory, the first one at physical address ``base``.
        :raises InputError: if the address is none of the kernel's half.
        """
        half = self.form.kernel_half
        top_shift, top_bits = self.form.levels[-1]
        if not 0 <= va < 1 << 64 or va & half != half or va >> top_shift & ~(half >> top_shift) >= 1 << top_bits:
            raise InputError(f"{va:#x} is no address of the kernel's half on {self.arch.name}")
        table = root
        for level in range(len(self.form.levels) - 1, -1, -1):
            shift, bits = self.form.levels[level]
            index = va >> shift & ((1 << bits) - 1)
            at = table + index * self._bytes
            if not base <= at <= base + len(tables) - self._bytes:
                return
            value = int(tables[at - base : at - base + self._bytes].view(self.form.entry)[0])
            found = self.entry(value, level)
            yield Step(table, index, at, va >> shift << shift, found)
            if found.kind != TABLE or found.wrong:
                return
            table = found.phys

    def stores(self, events: list[Event], tables: NDArray[np.uint8], base: int, root: int) -> list[Step | None]:
        """Per event, which entry a store wrote and what it says then; None where it is no store, or into no table.

        :param tables: table memory as it is behind them, which tells what tables there were before.
        """
        known = self._tables(tables, base, root)
        found: list[Step | None] = []
        for event in events:
            place = self._place(event.addr, known) if event.kind == "store" else None
            if place is None:
                found.append(None)
                continue
            table, level, va = place
            entry = self.entry(event.value, level)
            shift = self.form.levels[level][0]
            index = (event.addr - table) // self._bytes
            found.append(Step(table, index, event.addr, va + (index << shift), entry))
            if entry.kind == TABLE:
                known[entry.phys] = (level - 1, va + (index << shift))
        return found

    def _place(self, at: int, known: dict[int, tuple[int, int]]) -> tuple[int, int, int] | None:
        """The table that has an entry at ``at``, its level, and the first address that it is for."""
        for bits in {bits for _, bits in self.form.levels}:
            table = at & ~((self._bytes << bits) - 1)
            level, va = known.get(table, (-1, 0))
            if level >= 0 and self.form.levels[level][1] == bits:
                return table, level, va
        return None

    def _tables(self, memory: NDArray[np.uint8], base: int, root: int) -> dict[int, tuple[int, int]]:
        """The tables that can be reached: where, their level, and the first address that each is for."""
        found = {root: (len(self.form.levels) - 1, self.form.kernel_half)}
        waiting = [root]
        while waiting:
            table = waiting.pop()
            level, va = found[table]
            shift, bits = self.form.levels[level]
            start = table - base
            if level == 0 or start < 0 or start + (self._bytes << bits) > len(memory):
                continue
            words = memory[start : start + (self._bytes << bits)].view(self.form.entry).astype(np.uint64)
            read: Any = self.form.decode(level, words)
            for index in np.flatnonzero(read.valid & ~read.leaf & (read.bad == 0)).tolist():
                below = int(read.phys[index])
                if below not in found:
                    found[below] = (level - 1, va + (index << shift))
                    waiting.append(below)
        return found
