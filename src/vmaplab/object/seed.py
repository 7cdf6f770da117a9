# SPDX-License-Identifier: GPL-2.0-only
"""A build directory that begins as a copy of another, made with another configuration or from a tree that differs in C.

What is compiled then is what the patch touches, or what depends on the options that differ, as in the directory of
somebody who edits his tree and his configuration: kbuild decides, from the times of the files and from the commands
that it kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from vmaplab.object.tools import file_digest, lock

_TOLD = "vmaplab-inputs.json"
"""What a whole directory was made of."""
_BEGUN = "vmaplab-begun.json"
"""What one was made of that is being changed: files that were different when that began count as different."""
_ROOM = "new-"
"""How the name of one begins that is being filled."""
_WORD = re.compile(r"[^\s:;'\"()=\\]+")
_C = (".c", ".h", ".S")


def prepare(folder: Path, recipe: str, kind: str, tree: Path) -> set[str] | None:
    """Have ``folder`` ready for kbuild: without what was made of files that are others now, be they older.

    If that is not known, or more than C is different, it is emptied and filled from its nearest neighbour. Nobody
    may copy it until :func:`finish`.

    :param recipe: all that it is built with but the tree; it begins with ``kind``, the rest is the configuration.
    :returns: what was taken away, by its names in ``folder``; None if more can be old or missing.
    """
    moment = time.time_ns()  # before any file is looked at: what is edited from now on is newer
    record = next((path for path in (folder / _TOLD, folder / _BEGUN) if path.is_file()), None)
    known: dict[str, str] = {}
    names = _changed(record, recipe, tree, known) if record else None
    if record and names is not None:
        return _begin(folder, record, recipe, tree, names)
    _empty(folder)
    return _plant(folder, recipe, kind, tree, known, moment)


def finish(folder: Path, recipe: str, tree: Path, files: dict[str, str], ours: set[str]) -> None:
    """The directory is whole, and can be copied.

    :param recipe: all that it was built with but the tree.
    :param files: digests of files of the tree, "" for one that must not be there; also of those that kbuild does
        not name.
    :param ours: names of those that only go into what is made anew each time.
    """
    used = {name: known for name, known in files.items() if not Path(name).is_absolute()}
    found = named(folder, tree)
    for name in found - used.keys():
        path = tree / name
        if not path.is_relative_to(folder) and path.is_file():
            used[name] = file_digest(path)
    told = {"recipe": recipe, "tree": str(tree), "files": used, "named": sorted((found | ours) & used.keys())}
    _write(folder / _TOLD, told)
    (folder / _BEGUN).unlink(missing_ok=True)


def is_of_no_tree(folder: Path) -> bool:
    """Whether the tree that the directory was made of is gone; of one that is being filled that is not known."""
    try:
        return not folder.name.startswith(_ROOM) and not Path(json.loads((folder / _TOLD).read_text())["tree"]).is_dir()
    except (OSError, ValueError, KeyError):
        return False


def named(folder: Path, tree: Path) -> set[str]:
    """The files of ``tree`` that kbuild says it has used, by their names in it."""
    return {name for command in _commands(folder) for name in _named(command, tree)}


def _begin(there: Path, record: Path, recipe: str, tree: Path, names: list[str]) -> set[str] | None:
    """Take away what was made of the changed files ``names``, which count as changed until all is made anew.

    :param there: the directory; ``record``: what it was made of.
    :returns: as :func:`prepare`.
    """
    told = json.loads(record.read_text())
    whole = record.name == _TOLD and told["recipe"] == recipe
    old = Path(told["tree"])
    told["files"] |= dict.fromkeys(names, "changed")
    _write(there / _BEGUN, {**told, "recipe": recipe, "tree": str(tree)})
    (there / _TOLD).unlink(missing_ok=True)
    gone = set()
    for command in _commands(there) if names else []:
        if not _named(command, old).isdisjoint(names):
            made = command.with_name(command.name.removeprefix(".").removesuffix(".cmd"))
            gone.add(str(made.relative_to(there)))
            made.unlink(missing_ok=True)
            command.unlink()
    return gone if whole else None


def _plant(folder: Path, recipe: str, kind: str, tree: Path, known: dict[str, str], moment: int) -> set[str] | None:
    """Fill ``folder``, which is empty, from the directory next to it that comes nearest, if there is one.

    The same configuration is nearest; of one ``kind`` they must be.

    :param known: digests of files of the tree.
    :param moment: the time that all files get, ns.
    :returns: as :func:`prepare`.
    """
    near = []
    for record in folder.parent.glob(f"*/{_TOLD}"):
        names = _changed(record, kind, tree, known)
        if names is not None:
            with suppress(OSError, ValueError):
                other = json.loads(record.read_text())["recipe"] != recipe
                near.append((other, len(names), -record.stat().st_mtime, record))
    if not near:
        return None
    record = min(near)[-1]
    source, room = record.parent, Path(tempfile.mkdtemp(prefix=_ROOM, dir=folder.parent))
    try:
        with lock(source.with_suffix(".lock")):
            names = _changed(record, kind, tree, known)
            if names is None:  # it was built again in between, or is gone
                return None
            old = json.loads(record.read_text())["tree"]
            os.utime(source)  # the oldest are removed
            shutil.copytree(source, room, symlinks=True, dirs_exist_ok=True)
        gone = _begin(room, room / _TOLD, recipe, tree, names)
        _rename(room, {str(source): str(folder), old: str(tree)}, moment)
        room.rename(folder)
        return gone
    except OSError:  # it is just being removed
        return None
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _changed(path: Path, recipe: str, tree: Path, known: dict[str, str]) -> list[str] | None:
    """The C files that ``tree`` has otherwise than the directory of ``path``; None if more is different.

    :param recipe: how that one's must begin.
    :param known: digests of files of the tree; grows.
    """
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    if not told.get("recipe", "").startswith(recipe) or "named" not in told:
        return None
    changed = []
    for name, wanted in told["files"].items():
        if name not in known:
            known[name] = file_digest(tree / name) if (tree / name).is_file() else ""
        if known[name] != wanted:
            host = name.startswith(("/", "scripts/", "tools/"))
            if not known[name] or not wanted or not name.endswith(_C) or host:
                return None
            changed.append(name)
    # What was made of a file that no command names is not known.
    return changed if set(changed).issubset(told["named"]) else None


def _commands(folder: Path) -> list[Path]:
    """Where kbuild keeps how it made each file, and of what."""
    return sorted(folder.glob("**/.*.cmd"))


def _named(command: Path, tree: Path) -> set[str]:
    """The files that are named there: those of ``tree`` by their names in it, others by their whole names."""
    words = {word for word in _WORD.findall(command.read_text(errors="replace")) if word.startswith("/")}
    inside = f"{tree}/"
    return {os.path.normpath(word).removeprefix(inside) for word in words}


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _write(path: Path, told: dict[str, Any]) -> None:
    """All of it or nothing."""
    half = path.with_suffix(".half")
    half.write_text(json.dumps(told))
    half.replace(path)


def _rename(folder: Path, names: dict[str, str], moment: int) -> None:
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
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            os.utime(Path(root) / name, ns=(moment, moment), follow_symlinks=False)
