# SPDX-License-Identifier: GPL-2.0-only
"""Run the examples of a Markdown file and put their output where it belongs.

    python tools/readme.py README.md

In each ``console`` block, every line that starts with "$ " is run by bash in one scratch directory, and what it prints
replaces the lines up to the next command; the project's examples/ is there. tests/test_readme.py holds the files
against this.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def render(text: str, first: str = str(Path(sys.executable).parent)) -> str:
    """``text`` with the output of its commands as they print it now.

    :param first: the folder with the command line.
    """
    path = f"{first}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "examples").symlink_to(Path(__file__).parent.parent.resolve() / "examples")
        lines: list[str] = []
        inside = False
        for line in text.splitlines():
            if line.startswith("```"):
                inside = line == "```console"
            elif inside and line.startswith("$ "):
                lines.append(line)
                lines += _run(line.removeprefix("$ "), folder, path)
                continue
            elif inside:
                continue
            lines.append(line)
    return "\n".join(lines) + "\n"


def _run(command: str, folder: str, path: str) -> list[str]:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout.splitlines()


if __name__ == "__main__":
    for name in sys.argv[1:]:
        file = Path(name)
        file.write_text(render(file.read_text()))
