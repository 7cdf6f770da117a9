# SPDX-License-Identifier: GPL-2.0-only
"""A kernel in memory: what it says of itself, its symbols, its types, and its virtual memory."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from vmaplab.errors import InputError
from vmaplab.vmcore.btf import MAGIC, MOST, Btf, Types
from vmaplab.vmcore.kallsyms import Symbols, kallsyms
from vmaplab.vmcore.layouts import layout_of
from vmaplab.vmcore.layouts.base import Info, Layout, number, symbol
from vmaplab.vmcore.memory import PhysicalMemory, Unreadable
from vmaplab.vmcore.modules import Module, modules
from vmaplab.vmcore.modules import symbols_of as symbols_of_module
from vmaplab.vmcore.tables import Translation

_MOST_TEXT = 200
_MOST_MODULES = 64
_MOST_CANDIDATES = 1000
"""Of VMCOREINFO, and of types."""
_IMAGE = 1 << 27
"""Bytes of a kernel's image in which its types are looked for, where no symbol says where they are."""


class KernelMemory:
    """The kernel whose memory this is.

    :param memory: its physical memory.
    :param vmlinux: its ELF file, for a kernel without BTF or whose symbol table is not in memory.
    :ivar info: VMCOREINFO.
    :ivar arch: name of its architecture; ``form``: its page-table format; ``root``: of its page tables.
    :raises InputError: if it is no kernel that can be read.
    """

    def __init__(self, memory: PhysicalMemory, vmlinux: Path | None = None) -> None:
        self.memory, self.name, self._vmlinux = memory, memory.name, vmlinux
        self._module_symbols: dict[int, Symbols] = {}
        why = ""
        for count, note in enumerate(memory.notes()):
            if count == _MOST_CANDIDATES:
                break
            self.info = info_of(note)
            layout = layout_of(self.info, memory.machine)
            if layout is None:
                why = (
                    why or f"what its VMCOREINFO tells is of no architecture that can be read {memory.machine}".rstrip()
                )
                continue
            try:
                self._take(layout)
                return
            except InputError as error:
                why = str(error).removeprefix(f"{self.name} ").removeprefix(f"{self.name}: ")
        raise InputError(
            f"{memory.name}: {why}"
            if why
            else f"{memory.name} has no VMCOREINFO: it is no memory of a kernel, or of "
            "one without CONFIG_VMCORE_INFO (CONFIG_CRASH_CORE before 6.9)"
        )

    def _take(self, layout: Layout) -> None:
        """Be the kernel that :attr:`info` is of.

        :raises InputError: if that cannot be.
        """
        self._layout = layout
        ground = layout.ground(self.info)
        self.arch, self.form = ground.arch, ground.form
        self.page_size = 1 << self.form.levels[0][0]
        if (told := number(self.info, "PAGESIZE")) != self.page_size:
            raise InputError(f"its VMCOREINFO says that pages have {told} bytes, which no {self.arch} kernel's have")
        self.root = ground.image(symbol(self.info, "swapper_pg_dir"))
        self.translation = Translation(self.memory, self.form, self.root)
        stext = symbol(self.info, "_stext")
        try:
            phys = self.translation.phys(stext)[0]
        except Unreadable as error:
            why = str(error).removeprefix(f"{self.name} ").removeprefix(f"{self.name}: ")
            raise InputError(f"its page tables do not lead to _stext: {why}") from None
        if phys != ground.image(stext):
            raise InputError("swapper_pg_dir maps _stext elsewhere than VMCOREINFO has it")

    @property
    def release(self) -> str:
        """``uname -r``."""
        return printable(self.info.get("OSRELEASE", "?"))

    def read(self, va: int, size: int) -> bytes:
        """``size`` bytes of the kernel's virtual memory.

        :raises Unreadable: if some are not mapped, or not in the source.
        """
        phys, left = self.translation.phys(va % (1 << 64))
        if size <= left:
            return self.memory.read_phys(phys, size)
        pieces = [self.memory.read_phys(phys, left)]
        done = left
        while done < size:
            phys, left = self.translation.phys((va + done) % (1 << 64))
            count = min(left, size - done)
            pieces.append(self.memory.read_phys(phys, count))
            done += count
        return b"".join(pieces)

    def word(self, va: int, size: int = 8) -> int:
        """The little-endian number of ``size`` bytes at ``va``."""
        return int.from_bytes(self.read(va, size), "little")

    @cached_property
    def symbols(self) -> Symbols:
        """The kernel's own symbol table, or that of ``vmlinux``, moved to where the kernel is."""
        if self._vmlinux is not None:
            from vmaplab.vmcore.vmlinux import symbols_of

            return symbols_of(self._vmlinux, symbol(self.info, "_stext"))
        return kallsyms(self.read, self.info)

    def text_of(self, address: int) -> str:
        """``name+0x1c/0x40``, as ``%pS`` prints an address, with the module that it is in."""
        found = self.symbols.text(address)
        if not found.startswith("0x"):
            return printable(found)
        for index, one in enumerate(self._modules):
            if one.text <= address < one.text + one.size:
                if index not in self._module_symbols and len(self._module_symbols) < _MOST_MODULES:
                    self._module_symbols[index] = symbols_of_module(self, one)
                known = self._module_symbols.get(index)
                return printable(f"{known.text(address) if known else hex(address)} [{one.name}]")
        return found

    @cached_property
    def _modules(self) -> list[Module]:
        return modules(self)

    @cached_property
    def types(self) -> Types:
        """The kernel's types.

        :raises InputError: if it has none.
        """
        if self._vmlinux is not None:
            from vmaplab.vmcore.vmlinux import types_of

            return types_of(self._vmlinux)
        start, end = self.symbols.get("__start_BTF"), self.symbols.get("__stop_BTF")
        if start is not None and end is not None and 0 < end - start <= MOST:
            return Btf(self.read(start, end - start))
        if (found := self._search_types()) is None:
            raise InputError(f"{self.name}: the kernel has no BTF (CONFIG_DEBUG_INFO_BTF): give its ,vmlinux=FILE")
        return found

    def _search_types(self) -> Btf | None:
        """Types that no symbol leads to: their header is at the start of a word, in the image."""
        hits, at = 0, symbol(self.info, "_stext")
        start = at
        while at < start + _IMAGE:
            try:
                phys, left = self.translation.phys(at)
            except Unreadable:
                at += self.page_size
                continue
            try:
                piece = self.memory.read_phys(phys, left)
            except Unreadable:
                piece = b""
            hit = piece.find(MAGIC)
            while hit >= 0 and hits < _MOST_CANDIDATES // 200:
                head = piece[hit : hit + 24]
                if hit % 4 == 0 and len(head) == 24 and int.from_bytes(head[4:8], "little") == 24:
                    words = [int.from_bytes(head[skip : skip + 4], "little") for skip in range(8, 24, 4)]
                    size = 24 + max(words[0] + words[1], words[2] + words[3])
                    # Modules' types begin where the kernel's strings end, and are no kernel's: those have structs.
                    if size <= MOST:
                        hits += 1
                        try:
                            types = Btf(self.read(at + hit, size))
                        except InputError:
                            types = None
                        if types is not None and types.size("vm_struct") is not None:
                            return types
                hit = piece.find(MAGIC, hit + 1)
            at += left
        return None

    @cached_property
    def vmemmap(self) -> tuple[int, int] | None:
        """Address of the struct page of frame 0, and bytes of one; None where that cannot be told."""
        try:
            size = int(self.info.get("SIZE(page)", "0"))
        except ValueError:
            return None
        start = self._layout.vmemmap(self.info, self.symbols.get, self.word, size) if 16 <= size <= 256 else None
        return (start, size) if start is not None else None


def printable(text: str) -> str:
    """``text`` out of memory, as it can be shown: nothing that a terminal obeys."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text[:_MOST_TEXT])


def info_of(note: bytes) -> Info:
    """VMCOREINFO as name -> value."""
    text = note.partition(b"\0")[0].decode("ascii", "replace")
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}
