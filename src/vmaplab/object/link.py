# SPDX-License-Identifier: GPL-2.0-only
"""Which parts of the objects the kernel's calls can reach, and what these need that nobody defines."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from vmaplab.errors import InputError

_ALLOC, _CODE = 2, 4  # SHF_ALLOC, SHF_EXECINSTR
_NO_CODE = ("__ksymtab", "__kcrctab", ".discard", ".modinfo", ".export_symbol", ".init_array", ".exit", ".static_call")
"""Sections that nothing runs or reads here."""

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
            self.defines: dict[str, tuple[bool, int]] = {}  # global names -> weak, section
            self.undefined: set[str] = set()
            symbols: list[tuple[str, int]] = []  # per symbol its name if it is elsewhere, or its section here
            for symbol in table.iter_symbols():
                place, bind = symbol["st_shndx"], symbol["st_info"]["bind"]
                section = place if isinstance(place, int) else {"SHN_COMMON": 0}.get(place, -1)
                if place == "SHN_UNDEF":
                    self.undefined |= {symbol.name} - {""}
                elif bind != "STB_LOCAL" and section >= 0:
                    self.defines[symbol.name] = bind == "STB_WEAK", section
                elsewhere = place == "SHN_UNDEF" or bind != "STB_LOCAL"
                symbols.append((symbol.name if elsewhere else "", section))
            self.refers: dict[int, list[tuple[str, int, bool]]] = {}
            for relocations in sections:
                if not isinstance(relocations, RelocationSection):
                    continue
                found = self.refers.setdefault(relocations["sh_info"], [])
                for relocation in relocations.iter_relocations():
                    name, place = symbols[relocation["r_info_sym"]]
                    found.append((name, place, relocation["r_info_type"] in branches))


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
