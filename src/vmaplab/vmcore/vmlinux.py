# SPDX-License-Identifier: GPL-2.0-only
"""The symbols and types of a kernel out of its ELF file, where its memory does not have them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vmaplab.errors import InputError
from vmaplab.vmcore.btf import MOST, Btf, Types
from vmaplab.vmcore.kallsyms import Symbols

_MOST_SYMBOLS, _MOST_NAMES, _MOST_NAME = 1 << 20, 1 << 26, 512
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2"), ("value", "<u8"), ("size", "<u8")]
)


class Dwarf:
    """The structures that one compilation unit knows, by pyelftools."""

    def __init__(self, unit: Any) -> None:
        self._structs = {}
        for die in unit.get_top_DIE().iter_children():
            if die.tag == "DW_TAG_structure_type" and "DW_AT_name" in die.attributes and die.has_children:
                self._structs[die.attributes["DW_AT_name"].value.decode()] = die

    def size(self, name: str) -> int | None:
        """Bytes of ``struct name``, or None if there is none."""
        die = self._structs.get(name)
        return int(die.attributes["DW_AT_byte_size"].value) if die is not None else None

    def offset(self, name: str, member: str) -> int | None:
        """Offset of a member, ``busy.head`` being one of a member; None if there is none."""
        die, offset = self._structs.get(name), 0
        for word in member.split("."):
            found = next((one for one in _members(die, 0) if one[0] == word), None) if die is not None else None
            if found is None:
                return None
            offset, die = offset + found[1], found[2]
        return offset


def _members(die: Any, base: int) -> Iterator[tuple[str, int, Any]]:
    """Name, offset and type of each member, of unnamed structures inside, too."""
    for child in die.iter_children():
        if child.tag != "DW_TAG_member":
            continue
        where = child.attributes.get("DW_AT_data_member_location")
        at = base + (int(where.value) if where is not None else 0)
        kind = child.get_DIE_from_attribute("DW_AT_type")
        while kind.tag in ("DW_TAG_typedef", "DW_TAG_volatile_type", "DW_TAG_const_type"):
            if "DW_AT_type" not in kind.attributes:
                break
            kind = kind.get_DIE_from_attribute("DW_AT_type")
        if "DW_AT_name" in child.attributes:
            yield child.attributes["DW_AT_name"].value.decode(), at, kind
        elif kind.tag in ("DW_TAG_structure_type", "DW_TAG_union_type"):
            yield from _members(kind, at)


def _elf(path: Path) -> Any:
    from elftools.elf.elffile import ELFFile

    try:
        if not path.is_file():
            raise InputError(f"'{path}' is no file" if path.exists() else f"there is no file '{path}'")
        return ELFFile(path.open("rb"))
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}") from None
    except Exception:
        raise InputError(f"'{path}' is no ELF file: a vmlinux is needed, not a bzImage or Image") from None


def symbols_of(path: Path, stext: int) -> Symbols:
    """The symbols of a vmlinux, moved so that ``_stext`` is where it is.

    :raises InputError: if it has none.
    """
    try:
        elf = _elf(path)
        table = elf.get_section_by_name(".symtab")
        if table is None or not 0 < table.data_size <= _MOST_SYMBOLS * _SYMBOL.itemsize:
            raise InputError(f"'{path}' has no symbols: it is stripped, or has too many")
        names = elf.get_section(table["sh_link"])
        if names.data_size > _MOST_NAMES:
            raise InputError(f"'{path}' has more than {_MOST_NAMES >> 20} MiB of names")
        raw, text = table.data(), names.data()
        found = np.frombuffer(raw[: len(raw) // _SYMBOL.itemsize * _SYMBOL.itemsize], dtype=_SYMBOL)
    except InputError:
        raise
    except Exception:
        raise InputError(f"'{path}' is a broken ELF file") from None
    found = found[(found["value"] != 0) & (found["name"] != 0) & (found["name"] < len(text))]
    named = [
        (value, text[at : max(text.find(b"\0", at, at + _MOST_NAME), at)].decode("ascii", "replace"))
        for value, at in found[["value", "name"]].tolist()
    ]
    known = next((value for value, name in named if name == "_stext"), None)
    if known is None:
        raise InputError(f"'{path}' has no symbol _stext: it is no vmlinux")
    moved = sorted(((value + stext - known) % (1 << 64), name) for value, name in named if name)
    return Symbols([value for value, _ in moved], [name for _, name in moved])


def types_of(path: Path) -> Types:
    """The types of a vmlinux: its BTF, or else its DWARF of mm/vmalloc.c.

    :raises InputError: if it has neither.
    """
    try:
        elf = _elf(path)
        section = elf.get_section_by_name(".BTF")
        if section is not None and section.data_size <= MOST:
            return Btf(section.data())
        if elf.has_dwarf_info():
            for unit in elf.get_dwarf_info().iter_CUs():
                name = unit.get_top_DIE().attributes.get("DW_AT_name")
                if name is not None and name.value.endswith(b"mm/vmalloc.c"):
                    return Dwarf(unit)
    except InputError:
        raise
    except Exception:
        raise InputError(f"'{path}' is a broken ELF file") from None
    raise InputError(f"'{path}' has neither BTF nor DWARF of mm/vmalloc.c: it was built without debug information")
