# SPDX-License-Identifier: GPL-2.0-only
"""Which line of which source each address of the code comes from: DWARF's line table, kept beside the image."""

from __future__ import annotations

import json
import os.path
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from elftools.dwarf.compileunit import CompileUnit
from elftools.dwarf.die import DIE
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.dwarf.lineprogram import LineProgram
from elftools.elf.elffile import ELFFile

from vmaplab.trace import Ints

LINES = "lines.json"


@dataclass(frozen=True)
class Lines:
    """The line table of an image.

    :param files: sources, by their names in the tree, or a snippet by its whole one.
    :param starts: addresses at which a row begins, ascending, as signed numbers; it ends where the next one begins.
    :param file: per row which of ``files``; -1 for code of no source that is known.
    :param line: per row its line, from 1.
    :param passed: lines that begin where another one has the code, as a call does that is inlined: shape (n, 3), of
        each its row, file and line.
    """

    files: tuple[str, ...]
    starts: Ints
    file: Ints
    line: Ints
    passed: Ints

    @classmethod
    def load(cls, path: Path) -> Lines:
        """As :meth:`save` has kept it."""
        files, *columns = json.loads(path.read_text())
        starts, file, line, passed = (np.array(column, dtype=np.int64) for column in columns)
        return cls(tuple(files), starts, file, line, passed.reshape(-1, 3))

    def save(self, path: Path) -> None:
        """Keep it in a file."""
        columns = self.starts, self.file, self.line, self.passed
        path.write_text(json.dumps([self.files, *(column.tolist() for column in columns)]))

    def at(self, address: int) -> str:
        """File and line of ``address``, ``mm/vmalloc.c:123``; "" if they are not known."""
        signed = address - (1 << 64) if address >> 63 else address
        row = bisect_right(self.starts, signed) - 1
        if row < 0 or self.file[row] < 0:
            return ""
        name = self.files[self.file[row]]
        return f"{Path(name).name if name.startswith('/') else name}:{self.line[row]}"


def _name_in(tree: Path, path: str) -> str:
    """The name in ``tree`` of a source, "" if it is none of its.

    An object that was copied from the build of another tree (:mod:`.seed`) has that one's paths: what is the same file
    has the same name here.
    """
    if path.startswith(f"{tree}/"):
        return path.removeprefix(f"{tree}/")
    parts = Path(path).parts
    tails = (Path(*parts[number:]) for number in range(1, len(parts) - 1))
    return next((str(tail) for tail in tails if (tree / tail).is_file()), "")


def _names(top: DIE, program: LineProgram, tree: Path, snippet: Path | None) -> list[str]:
    """What the sources of a unit are called, by their numbers, from 1."""
    where = top.attributes.get("DW_AT_comp_dir")
    comp = where.value.decode(errors="replace") if where else ""
    folders = [comp, *(folder.decode(errors="replace") for folder in program["include_directory"])]
    names = [""]
    for one in program["file_entry"]:
        whole = os.path.normpath(Path(comp, folders[one.dir_index], one.name.decode(errors="replace")))
        names.append(whole if whole == str(snippet) else _name_in(tree, whole))
    return names


def _inlined(dwarf: DWARFInfo, unit: CompileUnit) -> Iterator[tuple[int, int, int]]:
    """Where the code of inlined calls begins, file and line of each call."""
    lists: Any = dwarf.range_lists()
    for die in unit.iter_DIEs():
        if die.tag != "DW_TAG_inlined_subroutine" or "DW_AT_call_line" not in die.attributes:
            continue
        told = {name.removeprefix("DW_AT_"): it.value for name, it in die.attributes.items()}
        start = told.get("low_pc")
        if start is None and "ranges" in told:  # of a unit whose own addresses begin at 0
            start = min(one.begin_offset for one in lists.get_range_list_at_offset(told["ranges"]))
        if start is not None:
            yield start, told["call_file"], told["call_line"]


def read_lines(path: Path, tree: Path, of: list[str], snippet: Path | None = None, calls: bool = True) -> Lines:
    """The line table of the ELF file ``path``, of the compilation units whose names end in one of ``of``.

    :param tree: files below it get their names in it; others none, but for ``snippet``, which keeps its whole one.
    :param calls: the compiler writes a row for a call that it inlines; if not, the DIEs are asked, which takes longer.
    """
    rows: dict[int, tuple[str, int]] = {}
    passed: set[tuple[int, str, int]] = set()
    inlined: set[tuple[int, str, int]] = set()
    with path.open("rb") as file:
        dwarf = ELFFile(file).get_dwarf_info(relocate_dwarf_sections=False)
        for unit in dwarf.iter_CUs():
            top = unit.get_top_DIE()
            name = top.attributes["DW_AT_name"].value.decode(errors="replace")
            program = dwarf.line_program_for_CU(unit) if name.endswith(tuple(of)) else None
            if program is None:
                continue
            names = _names(top, program, tree, snippet)
            for entry in program.get_entries():
                state = entry.state
                if state is None:
                    continue
                if state.end_sequence:
                    rows.setdefault(state.address, ("", 0))
                    continue
                # Of rows at one address the last counts, unless it is line 0: code that no line asked for.
                if state.line or state.address not in rows:
                    before, line = rows.get(state.address, ("", 0))
                    if before and line:
                        passed.add((state.address, before, line))
                    rows[state.address] = names[state.file], state.line
            for address, file_number, line in () if calls else _inlined(dwarf, unit):
                inlined.add((address, names[file_number], line))
    passed = {one for one in passed if rows[one[0]][0] != one[1]}
    passed |= {one for one in inlined if one[0] in rows and one[1:] != rows[one[0]]}
    files = sorted(({name for name, _ in rows.values()} | {name for _, name, _ in passed}) - {""})
    number = {name: at for at, name in enumerate(files)} | {"": -1}
    order = sorted(rows, key=lambda address: address - (1 << 64) if address >> 63 else address)
    starts = np.array(order, dtype=np.uint64).view(np.int64)
    row = {address: at for at, address in enumerate(order)}
    known = {name: at for name, at in number.items() if at >= 0}
    told = sorted((row[address], known[name], line) for address, name, line in passed if name in known)
    return Lines(
        tuple(files),
        starts,
        np.array([number[rows[at][0]] if rows[at][1] else -1 for at in order], dtype=np.int64),
        np.array([rows[at][1] for at in order], dtype=np.int64),
        np.array(told, dtype=np.int64).reshape(-1, 3),
    )
