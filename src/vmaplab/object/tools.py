# SPDX-License-Identifier: GPL-2.0-only
"""Compilers and binutils, and what builds share: commands without the user's environment, digests, locks."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from vmaplab.errors import InputError
from vmaplab.object import confine
from vmaplab.object.family import Family

_held: set[int] = set()


class Tools:
    """The compiler and binutils for one family: the host's where they build for it, else the cross tools."""

    def __init__(self, family: Family) -> None:
        native = platform.machine() == family.host
        self.prefix = "" if native else family.cross
        package = "gcc" if native else family.cross_package
        needed = {f"{self.prefix}gcc": package, f"{self.prefix}ld": f"{package} binutils"}
        needed |= {"make": "make", "gcc": "gcc", "flex": "flex", "bison": "bison", "bc": "bc"}
        missing = [tool for tool in needed if shutil.which(tool) is None]
        if missing:
            packages = " ".join(dict.fromkeys(word for tool in missing for word in needed[tool].split()))
            raise InputError(
                f"compiler: {', '.join(missing)} missing to build for {family.name}; apt-get install {packages}"
            )
        self.version = self._version("gcc")
        self.linker = self._version("ld")

    def _version(self, tool: str) -> str:
        done = subprocess.run([f"{self.prefix}{tool}", "--version"], capture_output=True, text=True, check=False)
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


def forget(folder: Path, keep: int) -> None:
    """Remove all but the newest directories in ``folder``, and those that somebody holds."""
    directories = sorted((d for d in folder.glob("*") if d.is_dir()), key=lambda d: d.stat().st_mtime)
    for old in directories[:-keep]:
        held = old.with_suffix(".lock")
        with suppress(BlockingIOError), held.open() if held.exists() else nullcontext() as file:
            if file is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(old, ignore_errors=True)
