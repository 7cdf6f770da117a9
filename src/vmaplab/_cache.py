# SPDX-License-Identifier: GPL-2.0-only
"""Where vmaplab keeps what it can make again: compiled functions, kernel builds, unpacked trees."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """``vmaplab`` in the user's cache directory (``XDG_CACHE_HOME``, or ``~/.cache``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "vmaplab"


ELSEWHERE = "XDG_CACHE_HOME names another place for it"
"""What to do about a cache that cannot be written, in half a sentence."""
KINDS = {
    "numba": "compiled functions, of the last 3 states of the code",
    "trees": "Debian's kernel sources, unpacked",
    "object": "builds of mm/vmalloc.o, and what they link to",
    "boot": "kernels that boot in QEMU, and its plugin",
    "guests": "Debian's kernel packages, that the tests boot",
    "series": "commits of patch series, and what was said of them",
}
"""What is kept, by the name of its directory; all of it can be made again."""


def measure(path: Path) -> tuple[int, int]:
    """Bytes that ``path`` takes on disk, and how many files; what vanishes meanwhile is not counted."""
    size = count = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                found = os.lstat(os.path.join(folder, name))  # noqa: PTH118 - a hundred thousand of them
            except OSError:
                continue
            size, count = size + 512 * found.st_blocks, count + 1
    return size, count
