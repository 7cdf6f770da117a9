# SPDX-License-Identifier: GPL-2.0-only
"""Where the rows of a sweep go: a part for each few arrays while it runs, one Parquet file when it is done."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vmaplab.errors import InputError
from vmaplab.pages.elsewhere import one_line, store_of
from vmaplab.sweep.plan import Plan
from vmaplab.sweep.rows import SCHEMA

CHUNK = 64
"""Page arrays of a part."""
_ROW_GROUP = 1 << 16
"""Rows that are written together: thousands of small groups cost a reader more than their rows."""
KEY = b"vmaplab.sweep"
"""What a result says of its sweep, in the metadata of its schema."""


class Store:
    """The result of a sweep, whole or not there, and its parts beside it until then.

    :param path: of the result, on this machine or as fsspec has it.
    :ivar done: the parts that there are.
    """

    def __init__(self, path: str, plan: Plan, sources: Sequence[str], resume: bool, force: bool) -> None:
        """Find what is there; :meth:`leave` it at the end.

        :raises InputError: if there is a result, or parts, and nobody said what to do with them; or parts of another
            sweep; or if another sweep makes it now.
        """
        if not path.endswith(".parquet"):
            raise InputError(f"'{path}' does not end with .parquet, which the result of a sweep is")
        self.name, self._store, self._path = path, *store_of(path)
        self._lock: int | None = None
        names = hashlib.sha256("\0".join(sources).encode(errors="surrogateescape")).hexdigest()
        self._told = {"plan": plan.described(), "arrays": len(sources), "sources": names, "chunk": CHUNK}
        self.count = -(-len(sources) // CHUNK)
        self.done: set[int] = set()
        self.is_finished = False
        if "memory" in self._store.protocol:
            raise InputError(f"'{path}' is gone when the sweep ends: name a place that stays")
        if "file" in self._store.protocol:
            self._path = os.path.realpath(self._path)  # a symbolic link stays one
            self._take()
        self._parts = self._path + ".parts"
        try:
            self._look(resume, force)
        except BaseException:
            self._give_back()
            raise

    def _look(self, resume: bool, force: bool) -> None:
        path = self.name
        with self._writing("cannot read"):
            there, parts = self._store.exists(self._path), self._store.isdir(self._parts)
            if there and not self._store.isfile(self._path):
                raise InputError(f"'{path}' is no plain file")
            if there and resume and _told_by(self._store, self._path) == self._told:
                self.is_finished = True
            elif there and resume and not force:
                raise InputError(
                    f"'{path}' is whole, and of other arrays, another order or other options: choose another name, "
                    "or --force"
                )
            elif there and not force:
                raise InputError(f"'{path}' is there already: choose another name, or --force")
            elif parts and not resume and not force:
                raise InputError(f"'{path}' was begun: --resume goes on, --force begins anew")
            elif parts and resume:
                names = [str(one).rpartition("/")[2] for one in self._store.ls(self._parts, detail=False)]
                if self._plan() != self._told:
                    raise InputError(
                        f"'{path}' was begun by a sweep of other arrays or options, or by another vmaplab: "
                        "repeat that with --resume, or begin anew with --force"
                    )
                numbers = {number for number in range(self.count) if f"{number:06}.parquet" in names}
                self.done = {number for number in numbers if self._part(number) is not None}
                return
        with self._writing():
            if parts:  # of another sweep, or of one that was killed when its result was whole
                self._store.rm(self._parts, recursive=True)
            if not self.is_finished:
                self._store.makedirs(self._parts, exist_ok=True)
                self._whole(f"{self._parts}/plan.json", lambda out: out.write(json.dumps(self._told).encode()))

    def put(self, number: int, table: pa.Table) -> None:
        """Keep a part.

        :raises InputError: if it cannot be written; those before it stay.
        """
        marked = table.replace_schema_metadata({KEY: json.dumps([self._told, number]).encode()})
        with self._writing():
            self._whole(f"{self._parts}/{number:06}.parquet", lambda out: pq.write_table(marked, out))
        self.done.add(number)

    def finish(self) -> None:
        """Make the result of the parts, in order, and remove them.

        :raises InputError: if it cannot be written, or a part is damaged: the parts stay; or if no page array could be
            read: nothing stays.
        """
        schema = SCHEMA.with_metadata({KEY: json.dumps(self._told).encode()})
        wrong: str | None = None

        def join(out: Any) -> None:
            nonlocal wrong
            with pq.ParquetWriter(out, schema) as writer:
                waiting: list[pa.Table] = []
                some = False
                for number in range(self.count):
                    part = self._part(number)
                    if part is None:
                        self.done.discard(number)
                        raise InputError(f"part {number} of '{self.name}' is damaged: --resume makes it anew")
                    some = some or part["release"].null_count < part.num_rows
                    waiting.append(part.replace_schema_metadata(schema.metadata))
                    if sum(table.num_rows for table in waiting) >= _ROW_GROUP or number + 1 == self.count:
                        wrong = wrong or str(waiting[0]["error"][0].as_py())
                        writer.write_table(pa.concat_tables(waiting))
                        waiting.clear()
            if not some:
                self.done.clear()
                raise InputError(f"no page array could be read, and no result is kept; the first: {wrong}")

        with self._writing():
            self._whole(self._path, join)
            self._store.rm(self._parts, recursive=True)

    def _part(self, number: int) -> pa.Table | None:
        """A part, if it is whole and of this sweep."""
        try:
            with self._store.open(f"{self._parts}/{number:06}.parquet", "rb") as file:
                found = pq.read_table(file)
            return found if json.loads(found.schema.metadata[KEY]) == [self._told, number] else None
        except (OSError, ValueError, KeyError, TypeError):  # ArrowInvalid is a ValueError
            return None

    def leave(self) -> None:
        """Let others at it; the parts go if there are none."""
        with self._writing():
            if not self.done and self._store.isdir(self._parts):
                self._store.rm(self._parts, recursive=True)
        self._give_back()

    def _take(self) -> None:
        """Keep other sweeps away from a result on this machine."""
        folder, _, name = self._path.rpartition("/")
        if not os.path.isdir(folder or "/"):  # noqa: PTH112 - a path of fsspec
            raise InputError(f"there is no directory '{folder}' for the result")
        if os.path.isdir(self._path):  # noqa: PTH112
            raise InputError(f"'{self.name}' is a directory, no file for the result")
        path = f"{folder}/.{name}.lock"
        while self._lock is None:
            try:
                lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.exists(path) and os.path.samestat(os.fstat(lock), os.stat(path)):  # noqa: PTH110,PTH116
                    self._lock, self._lock_path = lock, path
                else:  # the one before has just removed it
                    os.close(lock)
            except BlockingIOError:
                raise InputError(f"another sweep makes '{self.name}' now") from None
            except OSError as error:
                raise InputError(f"cannot write '{self.name}': {error.strerror}") from None

    def _give_back(self) -> None:
        if self._lock is not None:
            os.unlink(self._lock_path)  # noqa: PTH108
            os.close(self._lock)
            self._lock = None

    def columns(self, names: Sequence[str]) -> pa.Table:
        """Some columns of the result."""
        with self._writing("cannot read"), self._store.open(self._path, "rb") as file:
            return pq.read_table(file, columns=list(names))

    def _whole(self, path: str, write: Callable[[Any], Any]) -> None:
        folder, _, name = path.rpartition("/")
        half = f"{folder}/.{name}.half"
        try:
            with self._store.open(half, "wb") as out:
                write(out)
            self._store.mv(half, path)
        except BaseException:
            if self._store.exists(half):
                self._store.rm(half)
            raise

    def _plan(self) -> Any:
        try:
            return json.loads(self._store.cat_file(f"{self._parts}/plan.json"))
        except (FileNotFoundError, ValueError):
            return None

    @contextmanager
    def _writing(self, what: str = "cannot write") -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except Exception as error:  # each store has its own
            kept = f"; {len(self.done)} of {self.count} parts are kept: --resume goes on" if self.done else ""
            raise InputError(f"{what} '{self.name}': {one_line(error)}{kept}") from None


def _told_by(store: Any, path: str) -> Any:
    """What a result says of its sweep; None if it is none."""
    try:
        with store.open(path, "rb") as file:
            return json.loads(pq.read_schema(file).metadata[KEY])
    except (ValueError, KeyError, TypeError):
        return None
