# SPDX-License-Identifier: GPL-2.0-only
"""Boots a kernel of Debian's in QEMU, has a program make vmap()s, dumps it, and shows its areas; for docs/vmcore.md.

    PYTHONPATH=tests python tools/debian_areas.py [docs/vmcore.md]

What is printed is put between the lines "<!-- debian -->" and "<!-- /debian -->" of the file.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from guests import Guest, package

BEGIN, END = "<!-- debian -->\n", "<!-- /debian -->"


def main() -> None:
    """Print the areas of 6.12 for arm64."""
    with tempfile.TemporaryDirectory() as folder, Guest(package("6.12", "arm64"), "arm64", "nokaslr") as guest:
        guest.dump(Path(folder) / "vmcore", "kdump-zlib")
        words = [Path(sys.executable).parent / "vmaplab", "areas", "vmcore", "--rows", "10"]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    text = f"```text\n$ vmaplab areas vmcore --rows 10\n{done.stdout.rstrip()}\n```\n"
    print(text)
    for name in sys.argv[1:]:
        page = Path(name)
        before, begin, rest = page.read_text().partition(BEGIN)
        page.write_text(before + begin + text + END + rest.partition(END)[2])


if __name__ == "__main__":
    main()
