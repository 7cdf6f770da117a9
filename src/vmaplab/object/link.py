# SPDX-License-Identifier: GPL-2.0-only
"""Which parts of the objects the kernel's calls can reach, and what these need that nobody defines."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from vmaplab.errors import InputError

_ALLOC, _CODE = 2, 4  # SHF_ALLOC, SHF_EXECINSTR
_NO_CODE = ("__ksymtab", "__kcrctab", ".discard", ".modinfo", ".export_symbol", ".init_array", ".exit", ".static_call")
"""Sections that nothing runs or reads here."""

# Elf64_Sym and Elf64_Rela, little-endian: a linked object has a hundred thousand of the latter.
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("place", "<u2"), ("value", "<u8"), ("size", "<u8")]
)
_RELOCATION = np.dtype([("offset", "<u8"), ("info", "<u8"), ("addend", "<i8")])
_LOCAL, _WEAK = 0, 2  # STB_LOCAL, STB_WEAK
_UNDEFINED, _RESERVED, _COMMON = 0, 0xFF00, 0xFFF2  # SHN_UNDEF, SHN_LORESERVE, SHN_COMMON

Place = tuple[int, int]
"""A section: number of the object, number in it."""


class Needed(NamedTuple):
    """A symbol that reachable code or data refers to and nobody defines.

    :param called: an instruction calls it or jumps to it.
    :param unit: number of the first unit that refers to it.
    :param by: and the section in it, e.g. ``.text.vmap``.
    """

    called: bool
    unit: int
    by: str


class Unit:
    """One object file: its sections, what each defines and refers to."""

    def __init__(self, path: Path, branches: Collection[int]) -> None:
        with path.open("rb") as file:
            elf = ELFFile(file)
            sections = list(elf.iter_sections())
            self.names = [section.name for section in sections]
            self.code = [bool(section["sh_flags"] & _CODE) for section in sections]
            self.alloc = [bool(section["sh_flags"] & _ALLOC) and _runs(section.name) for section in sections]
            table: Any = elf.get_section_by_name(".symtab")
            if table is None:
                raise InputError(f"{path} has no symbols")
            words = elf.get_section(table["sh_link"]).data()
            known = np.frombuffer(table.data(), dtype=_SYMBOL)
            self.defines: dict[str, tuple[bool, int]] = {}  # global names -> weak, section
            self.undefined: set[str] = set()
            symbols: list[tuple[str, int]] = []  # per symbol its name if it is elsewhere, or its section here
            for at, info, place in zip(*(known[name].tolist() for name in ("name", "info", "place")), strict=True):
                local, undefined = info >> 4 == _LOCAL, place == _UNDEFINED
                section = place if 0 < place < _RESERVED else 0 if place == _COMMON else -1
                name = "" if local and not undefined else words[at : words.index(0, at)].decode()
                if undefined:
                    self.undefined |= {name} - {""}
                elif not local and section >= 0:
                    self.defines[name] = info >> 4 == _WEAK, section
                symbols.append((name, section))
            self.refers: dict[int, list[tuple[str, int, bool]]] = {}
            for relocations in sections:
                if not isinstance(relocations, RelocationSection):
                    continue
                found = self.refers.setdefault(relocations["sh_info"], [])
                info = np.frombuffer(relocations.data(), dtype=_RELOCATION)["info"]
                for symbol, kind in zip((info >> 32).tolist(), (info & 0xFFFF_FFFF).tolist(), strict=True):
                    found.append((*symbols[symbol], kind in branches))


def _runs(name: str) -> bool:
    return not name.startswith(_NO_CODE)


def needed(units: list[Unit], roots: Iterable[int]) -> dict[str, Needed]:
    """What can be reached from all of the units ``roots`` needs, and nobody defines, in the order in which it is met.

    Of other units only code is followed: what their data points to (tables of file and VMA operations) is of no call.

    :param roots: numbers of units.
    """
    where: dict[str, Place] = {}
    for number, unit in enumerate(units):
        for name, (weak, section) in unit.defines.items():
            if name not in where or not weak:
                where[name] = number, section
    roots = list(roots)
    todo = [(number, index) for number in roots for index, alloc in enumerate(units[number].alloc) if alloc]
    from_all = frozenset(roots)
    seen = set(todo)
    found: dict[str, Needed] = {}
    while todo:
        number, index = todo.pop()
        unit = units[number]
        if number not in from_all and not unit.code[index]:
            continue
        for name, section, called in unit.refers.get(index, ()):
            place = where.get(name) if name else (number, section)
            if place is None:
                known = found.get(name)
                first = (known.unit, known.by) if known else (number, unit.names[index])
                found[name] = Needed(called or bool(known and known.called), *first)
            elif place not in seen and place[1] >= 0:
                seen.add(place)
                todo.append(place)
    return found
