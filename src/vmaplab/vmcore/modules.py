# SPDX-License-Identifier: GPL-2.0-only
"""Symbols of a kernel's modules: ``struct module`` and its ``mod_kallsyms``."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from vmaplab.errors import InputError
from vmaplab.vmcore.btf import Types
from vmaplab.vmcore.kallsyms import Symbols

_MOST_MODULES = 1 << 12
_MOST_SYMBOLS = 1 << 16
_MOST_NAMES = 1 << 22
_MOST_NAME = 512
_SYMBOL = np.dtype(
    [("name", "<u4"), ("info", "u1"), ("other", "u1"), ("shndx", "<u2"), ("value", "<u8"), ("size", "<u8")]
)


class Readable(Protocol):
    """A kernel, as far as it is needed here."""

    @property
    def symbols(self) -> Symbols:
        """Its own symbols."""

    @property
    def types(self) -> Types:
        """Its types."""

    def read(self, va: int, size: int) -> bytes:
        """Bytes of its virtual memory."""

    def word(self, va: int, size: int = 8) -> int:
        """A number there."""


class Module(NamedTuple):
    """A module that is loaded.

    :param text: first address of its code; ``size``: bytes of it.
    :param at: where its ``struct module`` is.
    """

    name: str
    text: int
    size: int
    at: int


def modules(kernel: Readable) -> list[Module]:
    """The modules of a kernel, as far as they can be read."""
    types = kernel.types
    head, link, name = kernel.symbols.get("modules"), types.offset("module", "list"), types.offset("module", "name")
    base, size = types.offset("module", "mem"), types.offset("module_memory", "size")  # from 6.4 on; MOD_TEXT is first
    if base is None:
        base, size = types.offset("module", "core_layout.base"), types.offset("module_layout", "size")
    if head is None or link is None or name is None or base is None or size is None:
        return []
    found: list[Module] = []
    try:
        at = kernel.word(head)
        while at != head and len(found) < _MOST_MODULES:
            one = at - link
            text = kernel.read(one + name, 56).partition(b"\0")[0].decode("ascii", "replace")
            found.append(Module(text, kernel.word(one + base), kernel.word(one + base + size, 4), one))
            at = kernel.word(at)
    except InputError:
        pass  # those before it are as good as any
    return found


def symbols_of(kernel: Readable, module: Module) -> Symbols:
    """The symbols of a module; none where they cannot be read."""
    types = kernel.types
    where = types.offset("module", "kallsyms")
    members = [types.offset("mod_kallsyms", name) for name in ("symtab", "num_symtab", "strtab")]
    if where is None or None in members:
        return Symbols([], [])
    try:
        table = kernel.word(module.at + where)
        start, count, names = (
            kernel.word(table + (offset or 0), size) for offset, size in zip(members, (8, 4, 8), strict=True)
        )
        if count > _MOST_SYMBOLS:
            return Symbols([], [])
        found = np.frombuffer(kernel.read(start, count * _SYMBOL.itemsize), dtype=_SYMBOL)
        found = found[(found["value"] >= np.uint64(module.text)) & (found["shndx"] != 0)]
        found = np.sort(found[found["value"] < np.uint64(module.text + module.size)], order="value")
        last = int(found["name"].max()) if len(found) else 0
        if last > _MOST_NAMES:
            return Symbols([], [])
        text = kernel.read(names, last + 1)
        text += _rest(kernel, names + last + 1)
    except InputError:
        return Symbols([], [])
    named = [
        (value, text[at : max(text.find(b"\0", at, at + _MOST_NAME), at)])
        for value, at in found[["value", "name"]].tolist()
    ]
    named = [(value, name) for value, name in named if not name.startswith(b"$")]  # arm64's mapping symbols
    end = module.text + module.size
    return Symbols([*(value for value, _ in named), end], [*(name.decode("ascii", "replace") for _, name in named), ""])


def _rest(kernel: Readable, at: int) -> bytes:
    """The rest of the last name."""
    for size in (256, 64, 16, 4, 1):
        try:
            return kernel.read(at, size) + b"\0"
        except InputError:
            continue
    return b"\0"
