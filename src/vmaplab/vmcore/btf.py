# SPDX-License-Identifier: GPL-2.0-only
"""Where the members of the kernel's structures are: BTF, Documentation/bpf/btf.rst."""

from __future__ import annotations

import struct
from typing import Protocol

from vmaplab.errors import InputError

MAGIC = b"\x9f\xeb\x01"
MOST = 1 << 25
"""Bytes of a kernel's types at most."""
_STRUCT, _UNION = 4, 5
_EXTRA = {
    1: (4, 0),
    3: (12, 0),
    4: (0, 12),
    5: (0, 12),
    6: (0, 8),
    13: (0, 8),
    14: (4, 0),
    15: (0, 12),
    17: (4, 0),
    19: (0, 12),
}
"""Kind -> bytes that follow the record, and for each of ``vlen``."""
_MODIFIERS = {8, 9, 10, 11, 18}
"""typedef, volatile, const, restrict, type_tag: the type that they are of has the members."""
_DEEPEST, _MOST_LOOKS = 16, 10_000
_MOST_TYPES, _MOST_NAME = 1 << 20, 256


class Types(Protocol):
    """Where members are."""

    def size(self, name: str) -> int | None:
        """Bytes of ``struct name``, or None if there is none."""

    def offset(self, name: str, member: str) -> int | None:
        """Offset of a member, ``busy.head`` being one of a member; None if there is none."""


class Btf:
    """The types of a kernel.

    :param data: its .BTF section.
    :raises InputError: if it is none.
    """

    def __init__(self, data: bytes) -> None:
        try:
            magic, _, _, head, types, types_size, names, names_size = struct.unpack_from("<HBBIIIII", data)
        except struct.error:
            raise InputError("the kernel's BTF is cut off") from None
        if magic != 0xEB9F or head + max(types + types_size, names + names_size) > len(data):
            raise InputError("the kernel's BTF is broken: its header does not fit")
        self._data = data
        self._names = data[head + names : head + names + names_size]
        self._records = [0]  # type 0 is void
        self._structs: dict[str, int] = {}
        at, end = head + types, head + types + types_size
        unpack = struct.Struct("<III").unpack_from
        while at + 12 <= end:
            name, info, _ = unpack(data, at)
            kind = info >> 24 & 31
            if kind in (_STRUCT, _UNION) and name:
                self._structs.setdefault(self._name(name), at)
            self._records.append(at)
            if len(self._records) > _MOST_TYPES:
                raise InputError(f"the kernel's BTF is broken: it has more than {_MOST_TYPES} types")
            fixed, each = _EXTRA.get(kind, (0, 0))
            at += 12 + fixed + each * (info & 0xFFFF)

    def _name(self, offset: int) -> str:
        end = self._names.find(b"\0", offset, offset + _MOST_NAME)
        return self._names[offset : max(end, offset)].decode("ascii", "replace")

    def size(self, name: str) -> int | None:
        """Bytes of ``struct name``, or None if there is none."""
        at = self._structs.get(name)
        return None if at is None else int.from_bytes(self._data[at + 8 : at + 12], "little")

    def offset(self, name: str, member: str) -> int | None:
        """Offset of a member, ``busy.head`` being one of a member; None if there is none."""
        at, offset = self._structs.get(name), 0
        self._looks = 0
        for word in member.split("."):
            found = self._member(at, word, 0) if at is not None else None
            if found is None:
                return None
            within, kind = found
            offset += within
            at = self._resolved(kind)
        return offset

    def _resolved(self, kind: int) -> int | None:
        """Where the structure is that a type stands for."""
        for _ in range(_DEEPEST):
            if not 0 < kind < len(self._records):
                return None
            at = self._records[kind]
            _, info, target = struct.unpack_from("<III", self._data, at)
            if info >> 24 & 31 not in _MODIFIERS:
                return at if info >> 24 & 31 in (_STRUCT, _UNION) else None
            kind = target
        return None

    def _member(self, at: int, word: str, depth: int) -> tuple[int, int] | None:
        """Byte offset and type of a member, of unnamed structures inside, too."""
        _, info, _ = struct.unpack_from("<III", self._data, at)
        bits = (1 << 24) - 1 if info >> 31 else (1 << 32) - 1
        for number in range(info & 0xFFFF):
            where = at + 12 + 12 * number
            if where + 12 > len(self._data):
                return None
            self._looks += 1
            if self._looks > _MOST_LOOKS:
                return None
            name, kind, offset = struct.unpack_from("<III", self._data, where)
            within = (offset & bits) // 8
            if self._name(name) == word:
                return within, kind
            inner = self._resolved(kind) if not name and depth < _DEEPEST else None
            if inner is not None and (found := self._member(inner, word, depth + 1)):
                return within + found[0], found[1]
        return None
