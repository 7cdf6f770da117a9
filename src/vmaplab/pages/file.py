# SPDX-License-Identifier: GPL-2.0-only
"""Page arrays in files: text, CSV, NumPy and Parquet, read and written.

- ``.txt``, ``.csv`` and standard input: a PFN per line, decimal or with 0x, or a run, ``0x1000+256``; empty lines and
  what follows a # are skipped. A first line can name the columns, ``pfn,order``: with an order, a line is a block of
  2^order pages. A column of another name is an error: what it says would be lost.
- ``.npy``: a one-dimensional array of integers.
- ``.parquet``: the column ``pfn``, and perhaps ``order``; the metadata key ``vmaplab.page_size`` holds the page size in
  bytes.
"""

from __future__ import annotations

import codecs
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import InputError, not_installed
from vmaplab.pages.array import MAX_PAGES, page_array
from vmaplab.pfn import NULL_PFN

SUFFIXES = (".txt", ".csv", ".npy", ".parquet")
_PAGE_SIZE_KEY = b"vmaplab.page_size"
_MAX_LINE = 4096
_LINES_AT_ONCE = 1 << 16
_COLUMNS = ("pfn", "order")
_MOST_ORDER = 20


def load(path: Path) -> tuple[NDArray[np.uint64], int | None]:
    """The page array in ``path``, shape (n,), and the page size in bytes if the file tells it.

    :raises InputError: if the file cannot be read as one.
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"'{path}' is no page file; known endings: {', '.join(SUFFIXES)}")
    page_size = None
    try:
        if not path.is_file():
            raise InputError(f"'{path}' is no regular file" if path.exists() else f"there is no file '{path}'")
        if path.suffix == ".parquet":
            pfns, page_size = _read_parquet(path)
        else:
            pfns = _read_npy(path) if path.suffix == ".npy" else _read_text(path)
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from None
    if not len(pfns):
        raise InputError(f"'{path}' holds no page frame number")
    return pfns, page_size


@cache
def load_stdin() -> NDArray[np.uint64]:
    """The page array that standard input has as text; it is read once.

    :raises InputError: if it has none.
    """
    if sys.stdin is None:
        raise InputError("standard input is closed")
    try:
        pfns = _numbers(sys.stdin.buffer, "standard input")
    except OSError as error:
        raise InputError(f"cannot read standard input: {error.strerror or error}") from None
    if not len(pfns):
        raise InputError("standard input holds no page frame number")
    return pfns


def save(path: Path, pfns: NDArray[np.uint64], page_size: int) -> None:
    """Write ``pfns`` to ``path``, whole or not at all.

    :raises InputError: if the ending is not known or the file cannot be written.
    """
    writers = {".txt": _write_txt, ".csv": _write_csv, ".npy": _write_npy}
    if path.suffix not in SUFFIXES:
        raise InputError(f"cannot write '{path}'; known endings: {', '.join(SUFFIXES)}")
    path = path.resolve()  # a symbolic link stays one
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as out:
            temporary = out.name
            if path.suffix == ".parquet":
                _write_parquet(out, pfns, page_size)
            else:
                writers[path.suffix](out, pfns)
            out.flush()
            os.fsync(out.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror or error}") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _too_many(name: str) -> InputError:
    return InputError(f"{name} has more than {MAX_PAGES} pages, the most that a file may have")


def _count_lines(path: Path) -> None:
    """Refuse a text file of more lines than there may be pages, before any is parsed."""
    lines = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 24):
            lines += block.count(b"\n")
            if lines > MAX_PAGES:
                raise _too_many(f"'{path}'")


def _lines(stream: IO[bytes], name: str) -> Iterator[tuple[int, list[bytes]]]:
    """The lines of a text, many at a time, each batch with the number of its first line."""
    number = 1
    while True:
        lines: list[bytes] = []
        for _ in range(_LINES_AT_ONCE):
            line = stream.readline(_MAX_LINE + 1)
            if len(line) > _MAX_LINE or b"\0" in line:
                raise InputError(f"{name} line {number + len(lines)} is no text of numbers")
            if not line:
                break
            lines.append(line)
        if not lines:
            return
        yield number, lines
        number += len(lines)


def _number(text: str, where: str) -> int:
    """The PFN that ``text`` spells."""
    try:
        value = int(text, 0)
    except ValueError:
        hint = "; hexadecimal begins with 0x" if re.fullmatch(r"[0-9a-fA-F]+", text) else ""
        raise InputError(f"{where}: '{text[:40]}' is no page frame number{hint}") from None
    if not 0 <= value < 1 << 64:
        raise InputError(f"{where}: {text[:40]} is no page frame number (0 to 2**64 - 1)")
    return value


def _natural(text: str, most: int, what: str, where: str) -> int:
    """The number from 0 to ``most`` that ``text`` spells."""
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > most:
        raise InputError(f"{where}: '{text[:40]}' is no {what}, which goes to {most}")
    return int(text)


def _block(cells: dict[str, str], where: str) -> tuple[int, int]:
    """First PFN and number of pages of a line."""
    word, plus, count = cells["pfn"].partition("+")
    first, pages = NULL_PFN if word == "null" else _number(word, where), 1
    if plus and "order" in cells:
        raise InputError(f"{where}: '{cells['pfn'][:40]}' is a run, which has no order")
    if plus:
        pages = _natural(count, MAX_PAGES, "number of pages", where)
    elif "order" in cells:
        pages = 1 << _natural(cells["order"], _MOST_ORDER, "order of pages", where)
    if not 0 < pages <= MAX_PAGES or first + pages > 1 << 64:
        raise InputError(f"{where}: a line has from 1 to {MAX_PAGES} pages, none beyond PFN 2**64 - 1")
    return first, pages


def _expanded(blocks: list[tuple[int, int]], name: str) -> NDArray[np.uint64]:
    """A page array of blocks: first PFN and number of pages of each."""
    if sum(pages for _, pages in blocks) > MAX_PAGES:
        raise _too_many(name)
    if not blocks:
        return np.zeros(0, dtype=np.uint64)
    first, pages = np.array([one for one, _ in blocks], dtype=np.uint64), np.array([it for _, it in blocks])
    within = np.arange(pages.sum()) - np.repeat(np.cumsum(pages) - pages, pages)
    found: NDArray[np.uint64] = np.repeat(first, pages) + within.astype(np.uint64)
    return found


def _columns(names: list[str], name: str) -> list[str]:
    """The columns that a first line names.

    :raises InputError: for one that is not known, or if there are no page frame numbers.
    """
    for one in names:
        if one not in _COLUMNS:
            raise InputError(f"{name}: what the column '{one[:40]}' says is not known; known are {', '.join(_COLUMNS)}")
        if names.count(one) > 1:
            raise InputError(f"{name} has two columns '{one}'")
    if "pfn" not in names:
        raise InputError(f"{name} has no column 'pfn' in its first line")
    return names


def _read_text(path: Path) -> NDArray[np.uint64]:
    _count_lines(path)
    with path.open("rb") as stream:
        return _numbers(stream, f"'{path}'")


def _numbers(stream: IO[bytes], name: str) -> NDArray[np.uint64]:
    """The page array that a text has."""
    parts: list[NDArray[np.uint64]] = []
    columns: list[str] = []
    total = 0
    for first, lines in _lines(stream, name):
        try:
            if len(columns) > 1:
                raise ValueError
            parts.append(np.array([int(line, 0) for line in lines], dtype=np.uint64))
            columns = columns or ["pfn"]
        except (ValueError, OverflowError):  # columns, runs, comments, empty lines; or no page frame number
            blocks = []
            for number, raw in enumerate(lines, first):
                line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
                text = line.partition(b"#")[0].decode("ascii", "replace")
                cells = [cell.strip("\"'") for cell in re.split(r"\s*,\s*|\s+", text.strip())]
                if cells == [""]:
                    continue
                if not columns:
                    named = any(re.match(r"[^\W\d]", cell) for cell in cells) and "pfn" in cells
                    if not named and len(cells) > 1:
                        raise InputError(
                            f"{name} line {number} has {len(cells)} columns: a first line has to name them, pfn,order"
                        ) from None
                    columns = _columns(cells, name) if named else ["pfn"]
                    if named:
                        continue
                if len(cells) != len(columns):
                    raise InputError(
                        f"{name} line {number} has {len(cells)} columns, not {len(columns)}; is it cut off?"
                    ) from None
                blocks.append(_block(dict(zip(columns, cells, strict=True)), f"{name} line {number}"))
            parts.append(_expanded(blocks, name))
        total += len(parts[-1])
        if total > MAX_PAGES:
            raise _too_many(name)
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)


def _read_npy(path: Path) -> NDArray[np.uint64]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header of Python 2 is one all the same
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError:
        raise
    except Exception:  # its header is Python, which can be broken in any way
        raise InputError(f"'{path}' is no NumPy array of numbers, or it is cut off") from None
    if not isinstance(array, np.ndarray) or array.dtype == object:
        raise InputError(f"'{path}' is no NumPy array of numbers")
    if array.size > MAX_PAGES:
        raise _too_many(f"'{path}'")
    return _named(path, np.array(array))


def _named(path: Path, numbers: NDArray[Any]) -> NDArray[np.uint64]:
    try:
        return page_array(numbers)
    except InputError as error:
        raise InputError(f"'{path}': {error}") from None


def _arrow(what: str) -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise not_installed(what, error, "arrow") from None
    return pyarrow, pyarrow.parquet


def _read_parquet(path: Path) -> tuple[NDArray[np.uint64], int | None]:
    pa, pq = _arrow(f"'{path}'")
    try:
        with pq.ParquetFile(path) as parquet:
            names = parquet.schema_arrow.names
            _columns(names, f"'{path}'")
            if parquet.metadata.num_rows > MAX_PAGES:
                raise _too_many(f"'{path}'")
            metadata = parquet.schema_arrow.metadata or {}
            table = parquet.read()
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"'{path}' is no Parquet file: {_one_line(error)}") from None
    for name in names:
        column = table.column(name)
        if column.null_count:
            raise InputError(f"'{path}' has {column.null_count} rows without a '{name}'")
        if not pa.types.is_integer(column.type):
            raise InputError(f"'{path}': column '{name}' holds {column.type}, not integers")
    text = metadata.get(_PAGE_SIZE_KEY)
    if text is not None and (not text.isdigit() or len(text) > 9):
        raise InputError(f"'{path}': the page size in its metadata is no number")
    pfns = _named(path, table.column("pfn").to_numpy())
    if "order" in names:
        orders = table.column("order").to_numpy()
        if len(orders) and (orders.min() < 0 or orders.max() > _MOST_ORDER):
            raise InputError(f"'{path}': column 'order' holds what is no order, from 0 to {_MOST_ORDER}")
        blocks = list(zip(pfns.tolist(), (1 << orders.astype(np.int64)).tolist(), strict=True))
        if any(first + pages > 1 << 64 for first, pages in blocks):
            raise InputError(f"'{path}' has blocks that go beyond PFN 2**64 - 1")
        pfns = _expanded(blocks, f"'{path}'")
    return pfns, int(text) if text is not None else None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _write_txt(out: IO[bytes], pfns: NDArray[np.uint64]) -> None:
    for start in range(0, len(pfns), _LINES_AT_ONCE):
        out.write("".join(f"{pfn:#x}\n" for pfn in pfns[start : start + _LINES_AT_ONCE].tolist()).encode())


def _write_csv(out: IO[bytes], pfns: NDArray[np.uint64]) -> None:
    out.write(b"pfn\n")
    for start in range(0, len(pfns), _LINES_AT_ONCE):
        out.write("".join(f"{pfn}\n" for pfn in pfns[start : start + _LINES_AT_ONCE].tolist()).encode())


def _write_npy(out: IO[bytes], pfns: NDArray[np.uint64]) -> None:
    np.save(out, np.asarray(pfns), allow_pickle=False)


def _write_parquet(out: IO[Any], pfns: NDArray[np.uint64], page_size: int) -> None:
    pa, pq = _arrow("a Parquet file")
    schema = pa.schema([("pfn", pa.uint64())], metadata={_PAGE_SIZE_KEY: str(page_size).encode()})
    pq.write_table(pa.table({"pfn": pa.array(np.asarray(pfns))}, schema=schema), out)
