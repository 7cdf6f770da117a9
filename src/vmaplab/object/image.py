# SPDX-License-Identifier: GPL-2.0-only
"""The linked ELF file: segments and symbols."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from vmaplab.errors import InputError
from vmaplab.object.lines import LINES, Lines


def section_of(elf: ELFFile, name: str) -> Any:
    """The section ``name``.

    :raises InputError: if the file has none.
    """
    section = elf.get_section_by_name(name)
    if section is None:
        raise InputError(f"the linked object has no section {name}")
    return section


_INLINED = 256  # bytes of code that a header has at a stretch, at most


class Image:
    """What is in an image.

    :ivar segments: (address, bytes, writable, executable), ascending, ``.bss`` included.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            elf = ELFFile(file)
            self._addresses: dict[str, int] = {}
            functions: list[tuple[int, str]] = []
            self.sizes: dict[str, int] = {}  # bytes of each function
            self._objects: list[tuple[int, int, str]] = []
            for symbol in section_of(elf, ".symtab").iter_symbols():
                kind, place = symbol["st_info"]["type"], symbol["st_shndx"]
                if not symbol.name or place == "SHN_UNDEF":
                    continue
                self._addresses.setdefault(symbol.name, symbol["st_value"])
                if kind == "STT_OBJECT" and place != "SHN_ABS":
                    self._objects.append((symbol["st_value"], symbol["st_size"], symbol.name))
                if kind == "STT_FUNC" and place != "SHN_ABS":
                    functions.append((symbol["st_value"], symbol.name))
                    self.sizes[symbol.name] = symbol["st_size"]
            functions.sort()
            self._starts = [start for start, _ in functions]
            self._names = [name for _, name in functions]
            self._absolute = {value: name for name, value in self._addresses.items()}
            self.segments = self._segments(elf)
        text = next(segment for segment in self.segments if segment[3])
        self.text = text[0], text[0] + len(text[1])
        self._path = path

    def _segments(self, elf: ELFFile) -> list[tuple[int, bytes, bool, bool]]:
        parts: list[tuple[int, bytes, bool, bool]] = []
        boundaries: dict[tuple[bool, bool], list[tuple[int, bytes]]] = {}
        data_start = section_of(elf, ".data")["sh_addr"]
        for section in elf.iter_sections():
            if not section["sh_flags"] & 2 or not section["sh_size"]:  # SHF_ALLOC
                continue
            executable = bool(section["sh_flags"] & 4)
            writable = not executable and section["sh_addr"] >= data_start
            data = bytes(section["sh_size"]) if section["sh_type"] == "SHT_NOBITS" else section.data()
            boundaries.setdefault((writable, executable), []).append((section["sh_addr"], data))
        for (writable, executable), pieces in boundaries.items():
            pieces.sort()
            start = pieces[0][0]
            room = bytearray(max(address + len(data) for address, data in pieces) - start)
            for address, data in pieces:
                room[address - start : address - start + len(data)] = data
            parts.append((start, bytes(room), writable, executable))
        parts.sort()
        return parts

    @cached_property
    def lines(self) -> Lines:
        """Which line of which source each address of the code comes from."""
        return Lines.load(self._path.with_name(LINES))

    @property
    def code(self) -> bytes:
        """The bytes of :attr:`text`."""
        return next(data for _, data, _, executable in self.segments if executable)

    def address(self, name: str) -> int:
        """The address of the symbol ``name``.

        :raises InputError: if there is no such symbol.
        """
        try:
            return self._addresses[name]
        except KeyError:
            raise InputError(
                f"there is no function {name}() in the tree or the snippet; a static one cannot be called"
            ) from None

    def symbol(self, address: int) -> tuple[str, int]:
        """The function that holds ``address``, and how far into it that is; ("", 0) if there is none."""
        index = bisect_right(self._starts, address) - 1
        if index < 0 or not self.text[0] <= address < self.text[1]:
            return self._absolute.get(address, ""), 0
        return self._names[index], address - self._starts[index]

    def has(self, name: str) -> bool:
        """Whether there is a symbol ``name``."""
        return name in self._addresses

    def object_at(self, address: int) -> str:
        """The variable that holds ``address``; "" if none does."""
        return next((name for start, size, name in self._objects if start <= address < start + size), "")

    def place(self, address: int) -> str:
        """The function that holds ``address``, and file and line."""
        name = self.symbol(address)[0] or f"{address:#x}"
        where = self.lines.at(address)
        return f"{name}() ({where})" if where else f"{name}()"

    def place_in_source(self, address: int) -> str:
        """The same; of code that a header has, the place closest before it, in the same function, that has it."""
        found = self.place(address)
        function, _, where = found.partition("(")
        for before in range(address - 1, address - _INLINED, -1) if ".h:" in where else ():
            name, _, where = (place := self.place(before)).partition("(")
            if name != function:
                break
            if ".c:" in where:
                return place
        return found

    def stubs(self, start: int, end: int) -> dict[int, str]:
        """The symbols bound to addresses in [start, end)."""
        return {value: name for value, name in self._absolute.items() if start <= value < end}
