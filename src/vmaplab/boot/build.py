# SPDX-License-Identifier: GPL-2.0-only
"""Build a kernel that boots, with a server of calls in mm/vmalloc.c: kbuild, then our object in place of its own."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile

from vmaplab._cache import cache_root
from vmaplab.boot.board import board_of
from vmaplab.boot.boards.base import Board
from vmaplab.boot.checks import CHECKS
from vmaplab.errors import InputError
from vmaplab.object import seed, targets
from vmaplab.object.build import check_tree, code_of, find, in_the_cache, parse_config, tree_of
from vmaplab.object.family import Target
from vmaplab.object.kbuild import CONFIG, SUPPORT, VMALLOC_O, KernelBuild, Wrapper
from vmaplab.object.tools import Tools, digest, tools_for

_SYMBOLS = "symbols.json"
_SYMBOL_TYPES = ("STT_FUNC", "STT_OBJECT")
FAULTS = ("FAULT_INJECTION=y", "FAILSLAB=y", "FAIL_PAGE_ALLOC=y")
"""Options with which a kernel lets allocations of a task fail."""


@dataclass(frozen=True)
class Bootable:
    """A kernel that boots, in the cache.

    :param image: what QEMU takes.
    :param symbols: function or data -> address.
    :param seconds: that it took to build; 0 if it was there.
    :param checks: the kernel's own that are built in, see :data:`vmaplab.boot.checks.CHECKS`.
    """

    image: Path
    target: Target
    board: Board
    tree: Path
    version: str
    call: str
    compiler: str
    symbols: dict[str, int]
    seconds: float
    checks: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """Whose code this is, e.g. ``Linux 6.12.117``, and what checks it has."""
        return code_of(self.version, self.call) + (f", {', '.join(self.checks)}" if self.checks else "")


class BootBuild(KernelBuild):
    """One build directory of a whole kernel."""

    def __init__(
        self, tree: Path, target: Target, board: Board, tools: Tools, wanted: tuple[str, ...], required: tuple[str, ...]
    ) -> None:
        super().__init__(tree, target.family, tools, wanted, required, flags="")
        self._board = board

    def image(self, images: Path, snippet: Path | None) -> Path:
        """Compile and link; returns the new entry of ``images``.

        :raises InputError: with the kernel's or the compiler's first error, and whose fault it is.
        """
        started = time.time()
        own, self._snippet = self._own, snippet and snippet.resolve()
        seed.prepare(self.dir, self.recipe, self._kind, self.tree)
        own.mkdir(exist_ok=True)
        self._configure()
        told, made = self._told(VMALLOC_O), self.dir / VMALLOC_O
        if not self._saved.exists():
            self._make(VMALLOC_O)
            self._save_command(VMALLOC_O)
        (one,) = self._wrappers(self._probed())
        shutil.copy(self._compile(one), made)  # newer than all that it is made of: kbuild takes it for its own
        rest = self._saved.read_text().partition("\n")[0].partition(" ; ")[2]
        if rest:  # objtool, as for its own
            self._run(["sh", "-c", rest], self.dir)
        shutil.copy(self._saved, told)
        os.utime(made)
        self._make(self._board.goal)
        sources = self._sources([]) | self._wrapped()
        used = sources | seed.named(self.dir, self.tree)
        folders = {str(Path(name).parent) for name in used if not Path(name).is_absolute()}
        used |= {f"{folder}/{name}" for folder in folders for name in ("Makefile", "Kbuild")}
        files = self._inputs(used, started)
        ours = {self._in_tree(name) for name in self._wrapped()}
        seed.finish(self.dir, self.recipe, self.tree, files, ours)
        symbols = own / _SYMBOLS
        symbols.write_text(json.dumps(_symbols_of(self.dir / "vmlinux")))
        return self._publish(images, {"files": files}, {"kernel": self.dir / self._board.image, _SYMBOLS: symbols})

    def _wrappers(self, probed: list[str]) -> Iterator[Wrapper]:
        """mm/vmalloc.c with the server behind it."""
        yield self._vmalloc(probed, [], ["inside.h", "entries.h", "agent.h"])


def _symbols_of(vmlinux: Path) -> dict[str, int]:
    """The functions and data of a kernel by name; of a static one that is there several times, any."""
    with vmlinux.open("rb") as file:
        table: Any = ELFFile(file).get_section_by_name(".symtab")
        return {one.name: one["st_value"] for one in table.iter_symbols() if one["st_info"]["type"] in _SYMBOL_TYPES}


def build(
    arch: str,
    tree: Path | None = None,
    config: Iterable[str] = (),
    snippet: Path | None = None,
    call: str = "vmap",
    checks: tuple[str, ...] = (),
) -> Bootable:
    """Build a kernel of ``tree`` that boots, or take it from the cache.

    :param tree: a kernel tree with no configuration in it; Debian's linux-source-6.12 if None.
    :param config: options beyond the smallest configuration, ``KEY=value``.
    :param snippet: a C file to compile at the end of mm/vmalloc.c; ``call``: its function in place of ``vmap()``.
    :param checks: the kernel's own that are built in.
    :raises InputError: with the kernel's own error if its build fails, or tools are missing.
    """
    check_board(arch)
    tree = (tree_of() if tree is None else tree.expanduser()).resolve()
    version = check_tree(tree)
    if snippet is not None and not snippet.is_file():
        raise InputError(f"snippet: there is no file {snippet}")
    with in_the_cache():
        return _build(arch, tree, version, config, snippet, call, checks)


def check_board(arch: str) -> None:
    """:raises InputError: if there is nothing to boot ``arch`` in."""
    board = board_of(arch)
    if shutil.which(board.command[0]) is None:
        raise InputError(f"{board.command[0]} is missing to boot {arch}; apt-get install {board.package}")


def _build(
    arch: str,
    tree: Path,
    version: str,
    config: Iterable[str],
    snippet: Path | None,
    call: str,
    checks: tuple[str, ...],
) -> Bootable:
    board, target = board_of(arch), targets.get(arch)
    tools = tools_for(target.family)
    wanted = target.options + CONFIG + ("PANIC_ON_OOPS=y", "VMAP_STACK=n", *board.config)
    options = (option for name in checks for option in CHECKS[name])
    work = BootBuild(tree, target, board, tools, wanted, parse_config([*config, *options]))
    ours = [Path(__file__), *(SUPPORT / name for name in ("agent.h", "inside.h", "entries.h", "snippet.h"))]
    state = [path.read_bytes() for path in (*ours, SUPPORT.parent / "kbuild.py", SUPPORT.parent / "compat.py")]
    images = cache_root() / "boot" / "images" / digest([work.recipe, *state, snippet.read_bytes() if snippet else b""])
    started, found = time.monotonic(), find(images, tree)
    fresh = found is None
    if found is None:
        with work.locked(images):
            found = find(images, tree) or work.image(images, snippet)
    symbols = json.loads((found / _SYMBOLS).read_text())
    if call not in symbols:
        raise InputError(f"there is no function {call}() in {snippet or tree}")
    seconds = time.monotonic() - started if fresh else 0.0
    return Bootable(found / "kernel", target, board, tree, version, call, tools.version, symbols, seconds, checks)
