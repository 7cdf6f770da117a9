# SPDX-License-Identifier: GPL-2.0-only
"""Build and link the kernel's own vmalloc code: kbuild out of tree, then the cross ``ld``; cached.

What comes out is one ELF file that holds mm/vmalloc.c and what it calls, as the tree and its configuration
compile it, bound to addresses at which :mod:`vmaplab.object.emulator` answers for the rest of the kernel.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmaplab._cache import ELSEWHERE, cache_root
from vmaplab.errors import InputError
from vmaplab.object.family import Family, Target
from vmaplab.object.kbuild import CONFIG, SUPPORT, KernelBuild
from vmaplab.object.tools import digest, file_digest, lock, run, tools_for

DEFAULT_PACKAGE = "linux-source-6.12"


@dataclass(frozen=True)
class Built:
    """A linked object, in the cache.

    :param image: the ELF file.
    :param target: what it was built for.
    :param tree: the kernel tree.
    :param version: its version, e.g. ``6.12.117``.
    :param fresh: it was compiled just now, not found in the cache.
    :param call: the function that stands for ``vmap()``.
    :param compiler: the first line of its ``--version``.
    :param config: the configuration that it was built with, without ``CONFIG_``; what is off is not in it.
    :param zeroes: data that nothing defines and that is known to do no harm as zero.
    :param answers: functions that vmaplab answers -> which of its stand-ins has the tree's prototype.
    :param unanswered: functions that a call could reach and nobody answers -> the section that refers to them.
    :param absent: options of ours that the tree does not have -> what stands for them.
    :param guessed: what vmaplab did without knowing that it is right.
    :param warnings: of the compiler, when it was compiled.
    :param files: the sources that went into it, by their names in the tree.
    :param probed: which of :data:`vmaplab.object.compat.PROBES` the tree has.
    """

    image: Path
    target: Target
    tree: Path
    version: str
    fresh: bool
    call: str
    compiler: str
    config: dict[str, str] = field(default_factory=dict, compare=False)
    zeroes: tuple[str, ...] = ()
    answers: dict[str, int] = field(default_factory=dict, compare=False)
    unanswered: dict[str, str] = field(default_factory=dict, compare=False)
    absent: dict[str, str] = field(default_factory=dict, compare=False)
    guessed: tuple[str, ...] = ()
    probed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=(), compare=False, repr=False)
    files: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def has_nodes(self) -> bool:
        """Whether areas are kept per node (``struct vmap_node``)."""
        return "VMAP_NODES" in self.probed

    @property
    def code(self) -> str:
        """Whose code this is, e.g. ``Linux 6.12.117``."""
        return code_of(self.version, self.call)


def archive_of(package: str = DEFAULT_PACKAGE) -> Path:
    """Debian's package of a kernel's source, as it is installed.

    :raises InputError: if it is not; says how to get it.
    """
    archive = Path(f"/usr/src/{package}.tar.xz")
    if not archive.exists():
        raise InputError(f"{archive} is missing; apt-get install {package}, or name a kernel tree with --tree")
    return archive


def tree_of(package: str = DEFAULT_PACKAGE) -> Path:
    """The same, unpacked into the cache.

    :raises InputError: if the package is not installed, or there is no room.
    """
    archive = archive_of(package)
    stat = archive.stat()
    tree = cache_root() / "trees" / f"{package}-{stat.st_size:x}-{int(stat.st_mtime):x}"
    if not tree.is_dir():
        tree.parent.mkdir(parents=True, exist_ok=True)
        with lock(tree.with_suffix(".lock")):
            if not tree.is_dir():
                for left in tree.parent.glob("unpacking-*"):  # by a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                room = Path(tempfile.mkdtemp(prefix="unpacking-", dir=tree.parent))
                try:
                    done = run(["tar", "-xJf", str(archive), "-C", str(room), "--strip-components=1"], room)
                    if done.returncode:
                        raise InputError(f"cannot unpack {archive}: {' '.join(done.stderr.split())[-300:]}")
                    room.rename(tree)
                finally:
                    shutil.rmtree(room, ignore_errors=True)
    return tree


def check_tree(tree: Path) -> str:
    """The version of the kernel in ``tree``.

    :raises InputError: if that is no kernel tree.
    """
    if not tree.is_dir():
        raise InputError(f"tree: there is no directory {tree}")
    makefile, source = tree / "Makefile", tree / "mm" / "vmalloc.c"
    head = makefile.read_text(errors="replace")[:400] if makefile.is_file() else ""
    fields = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(.*)$", head, re.MULTILINE))
    if "VERSION" not in fields or not source.is_file():
        missing = "Makefile with a VERSION" if "VERSION" not in fields else "mm/vmalloc.c"
        raise InputError(f"tree: {tree} is no kernel tree: it has no {missing}")
    numbers = ".".join(fields.get(name, "0") for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))
    return str(numbers + fields.get("EXTRAVERSION", ""))


def parse_config(words: Iterable[str]) -> tuple[str, ...]:
    """``KEY=value`` words, without ``CONFIG_``.

    :raises InputError: for a word of another form.
    """
    options = []
    for word in words:
        plain = word.removeprefix("CONFIG_")
        if not re.fullmatch(r"[A-Z0-9_a-z]+=[-\w\"/. ]*", plain):
            raise InputError(f"'{word}' is no kernel configuration; write KEY=y, KEY=n or KEY=value")
        options.append(plain)
    return tuple(options)


def build(
    target: Target,
    tree: Path | None = None,
    config: Iterable[str] = (),
    snippet: Path | None = None,
    call: str = "vmap",
) -> Built:
    """Build mm/vmalloc.o and what it needs from ``tree`` for ``target``, or take it from the cache.

    :param tree: a kernel tree with no configuration in it; Debian's linux-source-6.12 if None.
    :param config: options beyond the smallest configuration, ``KEY=value``.
    :param snippet: a C file to compile at the end of mm/vmalloc.c.
    :param call: a function with the arguments of ``vmap()``, called in its place.
    :raises InputError: with the kernel's own error if its build fails, or the tools are missing.
    """
    with in_the_cache():
        return _build(target, tree, config, snippet, call)


@contextmanager
def in_the_cache() -> Iterator[None]:
    """What is built or unpacked there meanwhile.

    :raises InputError: if there is no room, or no right to.
    """
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise InputError(f"cannot build in {cache_root()}: {where}{error.strerror}; {ELSEWHERE}") from None


def code_of(version: str, call: str) -> str:
    """Whose code it is, e.g. ``Linux 6.12.117``; with what is called in place of ``vmap()``."""
    return f"Linux {version}" + (f" with {call}()" if call != "vmap" else "")


def _build(target: Target, tree: Path | None, config: Iterable[str], snippet: Path | None, call: str) -> Built:
    tree = (tree_of() if tree is None else tree.expanduser()).resolve()
    version = check_tree(tree)
    if snippet is not None and not snippet.is_file():
        raise InputError(f"snippet: there is no file {snippet}")
    tools = tools_for(target.family)
    kernel_build = KernelBuild(tree, target.family, tools, target.options + CONFIG, parse_config(config))
    key = digest([kernel_build.recipe, _own_state(target.family), snippet.read_bytes() if snippet else b""])
    images = cache_root() / "object" / "images" / key
    found = find(images, tree)
    fresh = found is None
    if found is None:
        with kernel_build.locked(images):
            found = find(images, tree)  # another process may have been faster
            if found is None:
                found = kernel_build.image(images, snippet)
    told: dict[str, Any] = json.loads((found / "manifest.json").read_text())
    return Built(
        found / "image.elf",
        target,
        tree,
        version,
        fresh,
        call,
        tools.version,
        config=told["config"],
        zeroes=tuple(told["zeroes"]),
        answers=told["answers"],
        unanswered=told["unanswered"],
        absent=told["absent"],
        guessed=tuple(told["guessed"]),
        probed=tuple(told["probed"]),
        warnings=tuple(told["warnings"]),
        files=tuple(name for name, digest in told["files"].items() if digest and name.endswith((".c", ".h", ".S"))),
    )


def find(images: Path, tree: Path) -> Path | None:
    """The entry of ``images`` whose input files have the contents that they have in ``tree``."""
    known: dict[str, str] = {}
    for entry in sorted(images.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            files = json.loads(entry.read_text())["files"]
        except (OSError, ValueError):  # it is just being removed
            continue
        for name, wanted in files.items():
            if name not in known:
                path = tree / name
                known[name] = file_digest(path) if path.is_file() else ""
            if known[name] != wanted:
                break
        else:
            return entry.parent
    return None


def _own_state(family: Family) -> bytes:
    """The part of an image that is vmaplab's own."""
    here = Path(__file__).parent
    names = ("kbuild", "bind", "link", "lines", "compat", "standin", "memory", "answers", family.name)
    ours = [here.parent / "prototype.py", *(here / f"{name}.py" for name in names), SUPPORT / f"{family.name}.c"]
    return b"".join(path.read_bytes() for path in sorted([*ours, *SUPPORT.glob("*.h")]))
