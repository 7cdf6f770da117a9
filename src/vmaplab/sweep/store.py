# SPDX-License-Identifier: GPL-2.0-only
"""Where the rows of a sweep go: a part for each few arrays while it runs, one Parquet file when it is done."""

from __future__ import annotations

import hashlib
import json
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
        """Find what is there.

        :raises InputError: if there is a result, or parts, and nobody said what to do with them; or parts of another
            sweep.
        """
        if not path.endswith(".parquet"):
            raise InputError(f"'{path}' does not end with .parquet, which the result of a sweep is")
        self.name, self._store, self._path = path, *store_of(path)
        self._parts = self._path + ".parts"
        names = hashlib.sha256("\0".join(sources).encode(errors="surrogateescape")).hexdigest()
        self._told = {"plan": plan.described(), "arrays": len(sources), "sources": names, "chunk": CHUNK}
        self.count = -(-len(sources) // CHUNK)
        self.done: set[int] = set()
        self.is_finished = False
        with self._writing("cannot read"):
            if self._store.isdir(self._path):
                raise InputError(f"'{path}' is a directory, no file for the result")
            folder = self._path.rpartition("/")[0]
            if "file" in self._store.protocol and not self._store.isdir(folder):
                raise InputError(f"there is no directory '{folder}' for the result")
            there, parts = self._store.exists(self._path), self._store.isdir(self._parts)
            if there and not self._store.isfile(self._path):
                raise InputError(f"'{path}' is no plain file")
            if there and resume and not parts and _told_by(self._store, self._path) == self._told:
                self.is_finished = True
                return
            if there and not force:
                raise InputError(f"'{path}' is there already: choose another name, or --force")
            if parts and not resume and not force:
                raise InputError(f"'{path}' was begun: --resume goes on, --force begins anew")
            if parts and resume:
                if self._plan() != self._told:
                    raise InputError(
                        f"'{path}' was begun by a sweep of other arrays or options, or by another vmaplab: "
                        "repeat that with --resume, or begin anew with --force"
                    )
                self.done = {int(name) for name in self._names() if name.isdigit()}
                return
        with self._writing():
            if parts:
                self._store.rm(self._parts, recursive=True)
            self._store.makedirs(self._parts, exist_ok=True)
            self._whole(f"{self._parts}/plan.json", lambda out: out.write(json.dumps(self._told).encode()))

    def put(self, number: int, table: pa.Table) -> None:
        """Keep a part.

        :raises InputError: if it cannot be written; those before it stay.
        """
        with self._writing():
            self._whole(f"{self._parts}/{number:06}.parquet", lambda out: pq.write_table(table, out))
        self.done.add(number)

    def finish(self) -> None:
        """Make the result of the parts, in order, and remove them.

        :raises InputError: if it cannot be written; the parts stay.
        """
        schema = SCHEMA.with_metadata({KEY: json.dumps(self._told).encode()})

        def join(out: Any) -> None:
            with pq.ParquetWriter(out, schema) as writer:
                waiting: list[pa.Table] = []
                for number in range(self.count):
                    with self._store.open(f"{self._parts}/{number:06}.parquet", "rb") as part:
                        waiting.append(pq.read_table(part).replace_schema_metadata(schema.metadata))
                    if sum(table.num_rows for table in waiting) >= _ROW_GROUP or number + 1 == self.count:
                        writer.write_table(pa.concat_tables(waiting))
                        waiting.clear()

        with self._writing():
            self._whole(self._path, join)
            self._store.rm(self._parts, recursive=True)

    def leave(self) -> None:
        """Remove the parts if there are none."""
        with self._writing():
            if not self.done and self._store.isdir(self._parts):
                self._store.rm(self._parts, recursive=True)

    def drop(self) -> None:
        """Remove the result."""
        with self._writing():
            self._store.rm(self._path)

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

    def _names(self) -> list[str]:
        names = (str(one).rpartition("/")[2] for one in self._store.ls(self._parts, detail=False))
        return [name.removesuffix(".parquet") for name in names]

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
    with store.open(path, "rb") as file:
        told = (pq.read_schema(file).metadata or {}).get(KEY)
    return told and json.loads(told)
