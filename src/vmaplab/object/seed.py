# SPDX-License-Identifier: GPL-2.0-only
"""A build directory that begins as a copy of another, made from a tree that differs in a few C files.

A patched tree then compiles what the patch touches and no more, as an edited tree does: kbuild decides, from the
times of the files and from the commands that it kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from vmaplab.object.tools import file_digest, lock

_TOLD = "vmaplab-inputs.json"
_WORD = re.compile(r"[^\s:;'\"()=\\]+")
_C = (".c", ".h", ".S")


def forget_inputs(folder: Path) -> None:
    """The directory is about to change: nobody may copy it until :func:`remember_inputs`."""
    (folder / _TOLD).unlink(missing_ok=True)


def remember_inputs(folder: Path, recipe: str, tree: Path, files: dict[str, str]) -> None:
    """The directory is whole, and can be copied.

    :param recipe: all that it was built with but the tree.
    :param files: digests of files of the tree, "" for one that must not be there; also of those that kbuild does
        not name.
    """
    used = {name: known for name, known in files.items() if not Path(name).is_absolute()}
    for command in _commands(folder):
        for name in _named(command, tree):
            path = tree / name
            if name not in used and not path.is_relative_to(folder) and path.is_file():
                used[name] = file_digest(path)
    (folder / _TOLD).write_text(json.dumps({"recipe": recipe, "tree": str(tree), "files": used}))


def plant(folder: Path, recipe: str, tree: Path) -> None:
    """Fill ``folder``, which is empty, from the directory next to it that comes nearest, if there is one."""
    known: dict[str, str] = {}
    changed = {path: _changed(path, recipe, tree, known) for path in folder.parent.glob(f"*/{_TOLD}")}
    near = {path: names for path, names in changed.items() if names is not None}
    if not near:
        return
    room = Path(tempfile.mkdtemp(prefix="new-", dir=folder.parent))
    try:
        told = min(near, key=lambda path: (len(near[path]), -path.stat().st_mtime))
        source = told.parent
        with lock(source.with_suffix(".lock")):
            names = _changed(told, recipe, tree, known)
            if names is None:  # it was built again in between, or is gone
                return
            old = Path(json.loads(told.read_text())["tree"])
            os.utime(source)  # the oldest are removed
            shutil.copytree(source, room, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(_TOLD))
        for command in _commands(room):
            if not _named(command, old).isdisjoint(names):
                command.with_name(command.name.removeprefix(".").removesuffix(".cmd")).unlink(missing_ok=True)
                command.unlink()
        _rename(room, {str(source): str(folder), str(old): str(tree)})
        room.rename(folder)
    except OSError:  # it is just being removed
        return
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _changed(path: Path, recipe: str, tree: Path, known: dict[str, str]) -> list[str] | None:
    """The C files that ``tree`` has otherwise than the directory of ``path``; None if more is different.

    :param known: digests of files of the tree; grows.
    """
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if told.get("recipe") != recipe:
        return None
    changed = []
    for name, wanted in told["files"].items():
        if name not in known:
            known[name] = file_digest(tree / name) if (tree / name).is_file() else ""
        if known[name] != wanted:
            if not known[name] or not wanted or not name.endswith(_C) or Path(name).is_absolute():
                return None
            changed.append(name)
    if changed:
        named = {name for command in _commands(path.parent) for name in _named(command, Path(told["tree"]))}
        if not named.issuperset(changed):  # what was made of it is not known
            return None
    return changed


def _commands(folder: Path) -> list[Path]:
    """Where kbuild keeps how it made each file, and of what."""
    return sorted(folder.glob("**/.*.cmd"))


def _named(command: Path, tree: Path) -> set[str]:
    """The files that are named there: those of ``tree`` by their names in it, others by their whole names."""
    words = {word for word in _WORD.findall(command.read_text(errors="replace")) if word.startswith("/")}
    inside = f"{tree}/"
    return {os.path.normpath(word).removeprefix(inside) for word in words}


def _rename(folder: Path, names: dict[str, str]) -> None:
    """Replace paths in the text files under ``folder``; all are of one time then, as if made at once."""
    pattern = re.compile(rb"|".join(re.escape(os.fsencode(name)) + rb"(?![\w.-])" for name in names))
    paths = {os.fsencode(name): os.fsencode(now) for name, now in names.items()}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root) / name
            if path.is_symlink():
                target = path.readlink()
                for old, now in names.items():
                    if target.is_relative_to(old):
                        path.unlink()
                        path.symlink_to(Path(now) / target.relative_to(old))
            elif path.is_file():
                held = path.read_bytes()
                if b"\0" not in held and pattern.search(held):
                    path.write_bytes(pattern.sub(lambda found: paths[found[0]], held))
    moment = time.time_ns()
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            os.utime(Path(root) / name, ns=(moment, moment), follow_symlinks=False)
