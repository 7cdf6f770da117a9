# SPDX-License-Identifier: GPL-2.0-only
"""Compilers and binutils, and what builds share: commands without the user's environment, digests, locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from vmaplab.errors import InputError
from vmaplab.object import confine
from vmaplab.object.family import Family

_held: set[int] = set()


class Tools:
    """A compiler and binutils for one family: gcc's, the host's where they build for it, else the cross tools.

    :ivar make: what kbuild is told of them.
    :ivar ld, strip: their commands; ``quiet``: what keeps ``ld`` from warning of one segment for code and data.
    :ivar debug: what makes the compiler write a line table.
    :ivar calls: whether the compiler's line table has a row for a call that is inlined.
    :ivar reads: directories of theirs that may lie anywhere.
    :ivar version, linker: the first lines of what compiler and linker say to ``--version``.
    :raises InputError: if any of them is missing; says which package has it.
    """

    debug = "-gdwarf-4"
    calls = True
    quiet: list[str]
    reads: tuple[Path, ...]

    def __init__(self, family: Family) -> None:
        native = platform.machine() == family.host
        prefix = "" if native else family.cross
        package = "gcc" if native else family.cross_package
        self.make = (f"CROSS_COMPILE={prefix}",) if prefix else ()
        self.ld, self.strip = f"{prefix}ld", f"{prefix}strip"
        self.quiet, self.reads = ["--no-warn-rwx-segments"], ()
        _need({f"{prefix}gcc": package, self.ld: f"{package} binutils", "gcc": "gcc"}, family.name)
        self.version, self.linker = _version(f"{prefix}gcc"), _version(self.ld)

    def compiled(self, command: list[str], told: Path) -> list[list[str]]:
        """The commands that do ``command``, and write to ``told`` what :func:`vmaplab.prototype.declared` reads."""
        return [[*command, "-aux-info", str(told)]]


class Llvm(Tools):
    """clang and LLVM's binutils.

    :param chosen: as kbuild takes it: ``1``, ``-19`` (Debian's names) or ``/opt/llvm/bin/``.
    :raises InputError: if it is anything else, or a tool is missing; says which package has it.
    """

    debug = "-gdwarf-4 -g1"
    calls = False

    def __init__(self, family: Family, chosen: str) -> None:
        before = chosen if chosen.endswith("/") else ""
        after = chosen if chosen.startswith("-") else ""
        if not (before or after or chosen == "1"):
            raise InputError(f"LLVM={chosen} is none of kbuild's: LLVM=1, LLVM=-19 (a suffix) or LLVM=/opt/llvm/bin/")
        self.make = (f"LLVM={chosen}",)
        clang, self.ld, self.strip = (f"{before}{tool}{after}" for tool in ("clang", "ld.lld", "llvm-strip"))
        self.quiet, self.reads = [], (Path(before).resolve().parent,) if before else ()
        if before and not Path(clang).is_file():
            raise InputError(f"compiler: LLVM={chosen} names no directory with clang in it")
        packages = {clang: f"clang{after}", self.ld: f"lld{after}", self.strip: f"llvm{after}"}
        _need(packages, f"{family.name} with LLVM={chosen}")
        self.version, self.linker = _version(clang), _version(self.ld)

    def compiled(self, command: list[str], told: Path) -> list[list[str]]:
        """As for gcc; clang prints what it has read in a run of its own."""
        at = command.index("-o")
        return [command, [*command[:at], "-Xclang", "-ast-print", "-o", str(told), *command[at + 2 :]]]


def tools_for(family: Family) -> Tools:
    """gcc's, or LLVM's where the environment says ``LLVM=`` as it does to kbuild."""
    chosen = os.environ.get("LLVM", "")
    return Llvm(family, chosen) if chosen else Tools(family)


def _need(packages: dict[str, str], what: str) -> None:
    """Have the tools that ``packages`` names, and those that any kernel needs; each with its Debian package."""
    needed = packages | {"make": "make", "flex": "flex", "bison": "bison", "bc": "bc"}
    missing = [tool for tool in needed if shutil.which(tool) is None]
    if missing:
        install = " ".join(dict.fromkeys(word for tool in missing for word in needed[tool].split()))
        raise InputError(f"compiler: {', '.join(missing)} missing to build for {what}; apt-get install {install}")


def _version(tool: str) -> str:
    done = subprocess.run([tool, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def run(
    command: list[str], where: Path, reads: tuple[Path, ...] = (), writes: tuple[Path, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run ``command`` with nothing of the environment that is no part of a cache key; confined, if that is asked for.

    :param reads: what it reads that may lie where a confined command sees nothing; ``writes``: what it changes.
    """
    kept = ("PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "SHELL")  # not KCFLAGS, LLVM...
    environment = {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}
    fence = confine.current()
    try:
        return subprocess.run(
            fence.wrapped(command, where, reads, writes) if fence else command,
            cwd=where,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            check=False,
            pass_fds=tuple(_held),
            timeout=confine.MOST_SECONDS if fence else None,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"error: no end after {confine.MOST_SECONDS} s")


def digest(parts: Iterable[str | bytes]) -> str:
    """A name for these contents."""
    state = hashlib.blake2b(digest_size=12)
    for part in parts:
        state.update((part.encode() if isinstance(part, str) else part) + b"\0")
    return state.hexdigest()


def file_digest(path: Path) -> str:
    """A name for the contents of a file."""
    return hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the file ``path`` alone, until the commands that are run meanwhile have ended, too."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _held.add(file.fileno())
        try:
            yield
        finally:
            _held.discard(file.fileno())


def _age(path: Path) -> float:
    """When it was changed; 0 if it is just being removed."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def forget(folder: Path, keep: int, useless: Callable[[Path], bool] = lambda directory: False) -> None:
    """Remove all but the newest directories in ``folder``, and those that somebody holds; useless ones go first."""
    directories = [directory for directory in folder.glob("*") if directory.is_dir()]
    if len(directories) <= keep:
        return
    for old in sorted(directories, key=lambda one: (not useless(one), _age(one)))[:-keep]:
        held = old.with_suffix(".lock")
        with suppress(BlockingIOError), held.open() if held.exists() else nullcontext() as file:
            if file is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
