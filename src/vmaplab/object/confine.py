# SPDX-License-Identifier: GPL-2.0-only
"""Run the commands of a build where they can do no harm: bubblewrap, where namespaces are allowed.

No network; of the system nothing but compilers and libraries, read-only; a home and a /tmp of their own, which are gone
afterwards; limits of time, memory, processes and the size of files.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MOST_SECONDS = 900
MOST_MEMORY = 8 << 30
MOST_FILE = 1 << 30
MOST_PROCESSES = 4096
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/alternatives", "/etc/ld.so.cache", "/opt")
"""What compilers and make need; nothing in there is anybody's secret."""


@dataclass(frozen=True)
class Confined:
    """Where commands run.

    :param reads: directories that they can read beside the system, wherever these lie.
    """

    reads: tuple[Path, ...]

    def wrapped(self, command: list[str], where: Path, reads: tuple[Path, ...], writes: tuple[Path, ...]) -> list[str]:
        """``command`` as bubblewrap runs it in ``where``; ``writes``: the directories that it can change."""
        words = ["prlimit", f"--as={MOST_MEMORY}", f"--fsize={MOST_FILE}", f"--cpu={MOST_SECONDS}"]
        words += [f"--nproc={MOST_PROCESSES}", "--core=0", "--"]
        words += ["bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
        for name in _SYSTEM:
            path = Path(name)
            if path.is_symlink():
                words += ["--symlink", str(path.readlink()), name]
            elif path.exists():
                words += ["--ro-bind", name, name]
        words += ["--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
        for option, paths in (("--ro-bind", (*self.reads, *reads)), ("--bind", writes)):
            for path in paths:
                words += [option, str(path), str(path)]
        for name in ("HOME", "TMPDIR"):
            words += ["--setenv", name, "/tmp"]
        return [*words, "--chdir", str(where), "--", *command]


_now: Confined | None = None


@contextmanager
def confined(reads: tuple[Path, ...]) -> Iterator[None]:
    """Meanwhile all commands of builds are confined, if that can be had here."""
    global _now
    before, _now = _now, Confined(reads) if why_not() == "" else None
    try:
        yield
    finally:
        _now = before


def current() -> Confined | None:
    """How commands are to be confined now."""
    return _now


@cache
def why_not() -> str:
    """Why nothing can be confined here; "" if it can."""
    for tool, package in (("bwrap", "bubblewrap"), ("prlimit", "util-linux")):
        if shutil.which(tool) is None:
            return f"{tool} is not installed (apt-get install {package})"
    tried = Confined(()).wrapped(["true"], Path("/"), (), ())
    done = subprocess.run(tried, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"bubblewrap cannot: {' '.join(done.stderr.split())[:120]}"
