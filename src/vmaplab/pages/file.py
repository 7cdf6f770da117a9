# SPDX-License-Identifier: GPL-2.0-only
"""Page arrays in files: text, CSV, NumPy and Parquet, read and written.

- ``.txt``: one PFN per line, decimal or with 0x; empty lines and what follows a # are skipped.
- ``.csv``: the column ``pfn``, or the only column.
- ``.npy``: a one-dimensional array of integers.
- ``.parquet``: the column ``pfn``; the metadata key ``vmaplab.page_size`` holds the page size in bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import InputError
from vmaplab.pages.array import MAX_PAGES, page_array

SUFFIXES = (".txt", ".csv", ".npy", ".parquet")
_PAGE_SIZE_KEY = b"vmaplab.page_size"
_MAX_LINE = 4096
_LINES_AT_ONCE = 1 << 16


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
            pfns = {".txt": _read_txt, ".csv": _read_csv, ".npy": _read_npy}[path.suffix](path)
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror or error}") from None
    if not len(pfns):
        raise InputError(f"'{path}' holds no page frame number")
    return pfns, page_size


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


def _too_many(path: Path) -> InputError:
    return InputError(f"'{path}' has more than {MAX_PAGES} pages, the most that a file may have")


def _count_lines(path: Path) -> None:
    """Refuse a text file of more lines than there may be pages, before any is parsed."""
    lines = 0
    with path.open("rb") as stream:
        while block := stream.read(1 << 24):
            lines += block.count(b"\n")
            if lines > MAX_PAGES:
                raise _too_many(path)


def _lines(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """The lines of a text file, many at a time, each batch with the number of its first line."""
    _count_lines(path)
    with path.open("rb") as stream:
        number = 1
        while True:
            lines: list[bytes] = []
            for _ in range(_LINES_AT_ONCE):
                line = stream.readline(_MAX_LINE + 1)
                if len(line) > _MAX_LINE or b"\0" in line:
                    raise InputError(f"'{path}' line {number + len(lines)} is no text of numbers")
                if not line:
                    break
                lines.append(line)
            if not lines:
                return
            yield number, lines
            number += len(lines)


def _number(text: bytes, path: Path, line: int) -> int:
    """The PFN that ``text`` spells."""
    shown = text[:40].decode("ascii", "replace")
    try:
        value = int(text.decode("ascii"), 0)
    except ValueError:
        raise InputError(f"'{path}' line {line}: '{shown}' is no page frame number") from None
    if not 0 <= value < 1 << 64:
        raise InputError(f"'{path}' line {line}: {shown} is no page frame number (0 to 2**64 - 1)")
    return value


def _joined(parts: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)


def _read_txt(path: Path) -> NDArray[np.uint64]:
    parts: list[NDArray[np.uint64]] = []
    for first, lines in _lines(path):
        try:
            parts.append(np.array([int(line, 0) for line in lines], dtype=np.uint64))
        except (ValueError, OverflowError):  # comments, empty lines, or something that is no page frame number
            words = [(first + index, line.split(b"#", 1)[0].strip()) for index, line in enumerate(lines)]
            parts.append(np.array([_number(word, path, line) for line, word in words if word], dtype=np.uint64))
    return _joined(parts)


def _read_csv(path: Path) -> NDArray[np.uint64]:
    parts: list[NDArray[np.uint64]] = []
    column: int | None = None
    for first, lines in _lines(path):
        values = []
        for index, line in enumerate(lines):
            cells = [cell.strip().strip(b'"') for cell in line.split(b",")]
            if cells == [b""]:
                continue
            if column is None:
                if b"pfn" in cells:
                    column = cells.index(b"pfn")
                    continue
                if len(cells) > 1:
                    raise InputError(f"'{path}' has no column 'pfn' in its first line")
                column = 0
            if column >= len(cells):
                raise InputError(f"'{path}' line {first + index} has no column 'pfn'; is it cut off?")
            values.append(_number(cells[column], path, first + index))
        parts.append(np.array(values, dtype=np.uint64))
    return _joined(parts)


def _read_npy(path: Path) -> NDArray[np.uint64]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, SyntaxError, MemoryError, OverflowError):
        raise InputError(f"'{path}' is no NumPy array of numbers, or it is cut off") from None
    if not isinstance(array, np.ndarray) or array.dtype == object:
        raise InputError(f"'{path}' is no NumPy array of numbers")
    if array.size > MAX_PAGES:
        raise _too_many(path)
    return page_array(np.array(array))


def _read_parquet(path: Path) -> tuple[NDArray[np.uint64], int | None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as parquet:
            names = parquet.schema_arrow.names
            if "pfn" not in names:
                raise InputError(f"'{path}' has no column 'pfn'")
            if parquet.metadata.num_rows > MAX_PAGES:
                raise _too_many(path)
            metadata = parquet.schema_arrow.metadata or {}
            column = parquet.read(columns=["pfn"]).column("pfn")
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"'{path}' is no Parquet file: {_one_line(error)}") from None
    if column.null_count:
        raise InputError(f"'{path}' has {column.null_count} rows without a page frame number")
    if not pa.types.is_integer(column.type):
        raise InputError(f"'{path}': column 'pfn' holds {column.type}, not integers")
    text = metadata.get(_PAGE_SIZE_KEY)
    if text is not None and (not text.isdigit() or len(text) > 9):
        raise InputError(f"'{path}': the page size in its metadata is no number")
    return page_array(column.to_numpy()), int(text) if text is not None else None


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
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("pfn", pa.uint64())], metadata={_PAGE_SIZE_KEY: str(page_size).encode()})
    pq.write_table(pa.table({"pfn": pa.array(np.asarray(pfns))}, schema=schema), out)
