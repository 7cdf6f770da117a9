# SPDX-License-Identifier: GPL-2.0-only
"""Where a series is applied: a private git repository of the files that it touches, and trees of links beside it.

Nothing is written into the reader's tree. A tree of a patch is a directory of its own: what the patches change is
copied there, everything else is a symbolic link to the reader's file.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vmaplab._cache import cache_root
from vmaplab.errors import InputError
from vmaplab.object.tools import digest, forget, lock
from vmaplab.series import safety
from vmaplab.series.mails import Patch, plain

_KEPT = 64
_OLD_S = 86_400
_REAL = ("arch", "include", "kernel", "lib", "mm", "scripts")
"""Directories in which each file is a link of its own, so that ``..`` in an #include stays in the tree."""
_CONFIGURED = (".config", "include/config")


@dataclass(frozen=True)
class Step:
    """The tree behind a patch; number 0 is the base.

    :param patch: None of the base.
    :param files: the files that the patch changes and that are built.
    :param left_out: those that it changes and that are not.
    :param state: what the series has made so far of each file that goes into the tree: name -> blob, "" if it is gone.
    :param error: why it does not apply, as git says it; "" if it does.
    """

    patch: Patch | None
    files: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    state: tuple[tuple[str, str], ...] = ()
    error: str = ""

    @property
    def key(self) -> str:
        """A name for the state."""
        return digest(word for pair in self.state for word in pair)


class Ground:
    """A kernel tree that patches are applied to, in private."""

    def __init__(self, tree: Path, room: Path) -> None:
        """Use :func:`ground`."""
        self.tree, self._room = tree, room
        self._known: set[str] = set()
        self._state: dict[str, str] = {}
        self._stamp = ""
        self._git("init", "-q", "-b", "series")
        objects = _objects_of(tree)
        if objects is not None:  # for --3way: blobs that the tree's repository has
            info = room / ".git/objects/info/alternates"
            info.parent.mkdir(parents=True, exist_ok=True)
            info.write_text(f"{objects}\n")
        self._git("commit", "-q", "--allow-empty", "-m", "base")

    def apply(self, patch: Patch, trust: bool) -> Step:
        """Apply one patch behind those before it.

        :param trust: what it changes outside of memory management's C goes into the tree, too.
        :raises InputError: for what is refused.
        """
        safety.check(patch)
        self._know(safety.names(patch))
        diff = self._room / ".git" / "patch"
        diff.write_bytes(patch.diff)
        done = self._git("apply", "--index", "--3way", "--whitespace=nowarn", str(diff), check=False)
        if done.returncode:
            self._git("reset", "-q", "--hard")
            return Step(patch, error=_first_errors(done.stderr), state=tuple(sorted(self._state.items())))
        changed = [name for name in self._git("diff", "--cached", "--name-only", "-z").stdout.split("\0") if name]
        self._git("commit", "-q", "--allow-empty", "-m", "patch")
        held = dict(_blobs(self._git("ls-tree", "-r", "-z", "HEAD").stdout))
        files = [name for name in changed if trust or safety.is_built(name)]
        for name in files:
            if held.get(name, "100644").split(" ")[0] not in ("100644", "100755"):
                raise InputError(f"'{patch.subject}' makes {name} no plain file; nothing was built")
            self._state[name] = held[name].split(" ")[1] if name in held else ""
        left_out = tuple(name for name in changed if name not in files)
        return Step(patch, tuple(files), left_out, tuple(sorted(self._state.items())))

    def tree_of(self, step: Step) -> Path:
        """A directory with the tree behind ``step``; the reader's own for the base."""
        if not step.state:
            return self.tree
        folder = cache_root() / "series" / "trees"
        path = folder / digest([str(self.tree), step.key])
        folder.mkdir(parents=True, exist_ok=True)
        self._stamp = now = self._stamp or _stamp(self.tree)
        stamp = path.with_suffix(".stamp")
        with lock(path.with_suffix(".lock")):
            if path.is_dir() and stamp.is_file() and stamp.read_text() == now:
                os.utime(path)
                return path
            if path.is_dir():
                shutil.rmtree(path)  # links to what the reader's tree was
            room = Path(tempfile.mkdtemp(prefix="new-", dir=folder))
            try:
                command = ["cp", "-al", f"{self._template(folder)}/.", str(room)]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise InputError(f"cannot make a tree in {folder}: {done.stderr.partition(chr(10))[0]}")
                for name, blob in step.state:
                    self._put(room, name, blob)
                room.rename(path)
                stamp.write_text(now)
            finally:
                shutil.rmtree(room, ignore_errors=True)
        forget(folder, _KEPT)
        return path

    def _template(self, folder: Path) -> Path:
        """The reader's tree as links: what its trees are copied from, which share the links and no file of his."""
        path = folder / f"links-{digest([str(self.tree), self._stamp])}"
        with lock(path.with_suffix(".lock")):
            if path.is_dir():
                os.utime(path)
            else:
                room = Path(tempfile.mkdtemp(prefix="new-", dir=folder))
                try:
                    _links(self.tree, room)
                    room.rename(path)
                finally:
                    shutil.rmtree(room, ignore_errors=True)
        return path

    def _put(self, room: Path, name: str, blob: str) -> None:
        """Have the file ``name`` as the series made it, in directories of its own."""
        here, original = room, self.tree
        for part in Path(name).parts[:-1]:
            here, original = here / part, original / part
            if here.is_symlink():
                here.unlink()
                here.mkdir()
                for entry in original.iterdir():
                    (here / entry.name).symlink_to(entry)
            here.mkdir(exist_ok=True)
        path = room / name
        path.unlink(missing_ok=True)
        if blob:
            path.write_bytes(self._git_bytes("cat-file", "blob", blob))

    def _know(self, names: list[str]) -> None:
        """Have the base's version of files in the repository."""
        new = [name for name in names if name not in self._known]
        self._known.update(new)
        there = []
        for name in new:
            path = self.tree / name
            if not path.is_file() or not path.resolve().is_relative_to(self.tree.resolve()):
                continue
            kept = self._room / name
            kept.parent.mkdir(parents=True, exist_ok=True)
            if not kept.exists():
                shutil.copyfile(path, kept)
                there.append(name)
        if there:
            self._git("add", "-f", "--", *there)
            self._git("commit", "-q", "-m", "files of the base")

    def _git(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["git", *_PLAIN, *words],
            cwd=self._room,
            env=_environment(self._room),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
        )
        if check and done.returncode:
            raise InputError(f"git {words[0]} fails: {plain(done.stderr)[:200]}")
        return done

    def _git_bytes(self, *words: str) -> bytes:
        command = ["git", *_PLAIN, *words]
        return subprocess.run(
            command, cwd=self._room, env=_environment(self._room), capture_output=True, check=True
        ).stdout


@contextmanager
def ground(tree: Path) -> Iterator[Ground]:
    """A place to apply patches to ``tree``, gone afterwards.

    :raises InputError: if git is missing, or there is no room.
    """
    if shutil.which("git") is None:
        raise InputError("git is missing: it applies the patches; apt-get install git")
    root = cache_root() / "series"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for left in root.glob("ground-*"):  # by a process that was killed
            if time.time() - left.stat().st_mtime > _OLD_S:
                shutil.rmtree(left, ignore_errors=True)
        room = Path(tempfile.mkdtemp(prefix="ground-", dir=root))
    except OSError as error:
        raise InputError(f"cannot write in {root}: {error.strerror}") from None
    try:
        yield Ground(tree, room)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def exported(repository: Path, commit: str) -> Path:
    """The tree of a commit, in the cache: what kbuild reads of it.

    :raises InputError: if there is no such commit.
    """
    name = git_in(repository, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    if name is None:
        raise InputError(f"{repository} has no commit {plain(commit)!r}")
    path = cache_root() / "series" / "commits" / name.strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    with lock(path.with_suffix(".lock")):
        if not path.is_dir():
            room = Path(tempfile.mkdtemp(prefix="new-", dir=path.parent))
            try:
                archive = ["git", "-C", str(repository), "archive", name.strip(), "--", ".", *_NOT_READ]
                with subprocess.Popen(archive, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as made:
                    taken = subprocess.run(["tar", "-x", "-C", str(room)], stdin=made.stdout, check=False)
                if made.returncode or taken.returncode:
                    raise InputError(f"git archive of {plain(commit)} fails in {repository}")
                room.rename(path)
            finally:
                shutil.rmtree(room, ignore_errors=True)
    os.utime(path)
    forget(path.parent, 4)
    return path


def git_in(repository: Path, *words: str) -> str | None:
    """What git says in the reader's repository, which it only reads; None if it fails."""
    done = subprocess.run(
        ["git", "-C", str(repository), *words], capture_output=True, text=True, errors="replace", check=False
    )
    return done.stdout if done.returncode == 0 else None


def is_configured(tree: Path) -> bool:
    """Whether somebody has built in ``tree``: kbuild takes no such tree for another build."""
    return any((tree / name).exists() for name in _CONFIGURED)


_NOT_READ = [f":(exclude,glob){name}" for name in ("Documentation/**", "drivers/**/*.[chS]", "sound/**/*.[ch]")]
_NOT_READ += [":(exclude,glob)tools/testing/**", ":(exclude,glob)arch/*/boot/dts/**"]
_PLAIN = ["-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false", "-c", "core.safecrlf=false"]
_PLAIN += [
    "-c",
    "core.fsmonitor=false",
    "-c",
    "gc.auto=0",
    "-c",
    "user.name=vmaplab",
    "-c",
    "user.email=vmaplab@localhost",
]


def _environment(home: Path) -> dict[str, str]:
    """Nothing of the reader's git."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(home),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CEILING_DIRECTORIES": str(home.parent),
        "LC_ALL": "C",
    }


def _objects_of(tree: Path) -> Path | None:
    """Where the repository of ``tree`` keeps its objects, if it is one."""
    found = git_in(tree, "rev-parse", "--show-toplevel", "--git-path", "objects")
    if found is None:
        return None
    top, objects = found.splitlines()[:2]
    return (tree / objects).resolve() if Path(top).resolve() == tree.resolve() else None


def _blobs(listed: str) -> Iterator[tuple[str, str]]:
    """Name, and mode and blob, of each file that ``git ls-tree -z`` lists."""
    for entry in listed.split("\0"):
        if entry:
            how, _, name = entry.partition("\t")
            mode, _, blob = how.split(" ")
            yield name, f"{mode} {blob}"


def _first_errors(text: str) -> str:
    """Git's own errors, the first two."""
    lines = [plain(line) for line in text.splitlines()]
    errors = [line for line in lines if line.startswith("error: ")] or [line for line in lines if "conflict" in line]
    told = [one for one in errors if "lacks the necessary blob" not in one] or errors or lines
    return "; ".join(one.rstrip(".") for one in list(dict.fromkeys(told))[:2])


def _stamp(tree: Path) -> str:
    """A name for which files are where in ``tree``, whatever is in them."""
    told = [str(tree), str(tree.stat().st_mtime_ns)]
    todo = [tree / name for name in _REAL]
    while todo:
        folder = todo.pop()
        if folder.is_dir():
            told += [str(folder), str(folder.stat().st_mtime_ns)]
            todo += [Path(entry.path) for entry in os.scandir(folder) if _is_real(entry)]
    return digest(told)


def _is_real(entry: os.DirEntry[str]) -> bool:
    """Whether a directory becomes one of its own, and not a link."""
    return entry.is_dir(follow_symlinks=False) and entry.name not in ("dts", "boot", "selftests")


def _links(tree: Path, room: Path) -> None:
    """Make ``room`` a tree of links to the files of ``tree``."""
    for entry in os.scandir(tree):
        if entry.name in _REAL and entry.is_dir(follow_symlinks=False):
            _links_below(Path(entry.path), room / entry.name)
        elif entry.name != ".git":
            (room / entry.name).symlink_to(entry.path)


def _links_below(folder: Path, there: Path) -> None:
    there.mkdir()
    for entry in os.scandir(folder):
        if _is_real(entry):
            _links_below(Path(entry.path), there / entry.name)
        else:
            (there / entry.name).symlink_to(entry.path)
