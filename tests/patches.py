# SPDX-License-Identifier: GPL-2.0-only
"""Patch series for tests, made by git format-patch from edits of a tree."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

SIGNED = "Signed-off-by: Ann Author <ann@example.org>"


class Edit(NamedTuple):
    """In ``file`` the text ``old``, which stands there once, becomes ``new``; a file that is not there is made."""

    file: str
    old: str
    new: str


def git(where: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=Ann Author", "-c", "user.email=ann@example.org", *words]
    return subprocess.run(command, cwd=where, check=True, capture_output=True, text=True).stdout


def repository(tree: Path, room: Path, patches: list[tuple[str, list[Edit]]]) -> Path:
    """A repository of the files that ``patches`` touch, as ``tree`` has them, with a commit for each patch."""
    room.mkdir()
    git(room, "init", "-q", "-b", "main")
    for name in {edit.file for _, edits in patches for edit in edits}:
        if (tree / name).exists():
            (room / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tree / name, room / name)
    git(room, "add", "-A")
    git(room, "commit", "-q", "--allow-empty", "-m", "base")
    for subject, edits in patches:
        for edit in edits:
            path = room / edit.file
            text = path.read_text() if path.exists() else ""
            assert not text or text.count(edit.old) == 1, edit
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace(edit.old, edit.new) if text else edit.new)
        git(room, "add", "-A")
        git(room, "commit", "-q", "--allow-empty", "-m", f"{subject}\n\nBecause.\n\n{SIGNED}")
    return room


def mailed(repo: Path, folder: Path, count: int, *words: str) -> list[Path]:
    """The last ``count`` commits as mails."""
    git(repo, "format-patch", "-q", "-o", str(folder), "--thread=shallow", *words, f"HEAD~{count}")
    return sorted(folder.iterdir())
