# SPDX-License-Identifier: GPL-2.0-only
"""Page files in any store that fsspec knows: ``s3://bucket/arrays/*.npy``, ``zip://*.csv::arrays.zip``, ``file:///...``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmaplab.errors import InputError, not_installed

_MOST_BYTES = 1 << 31


def store_of(address: str) -> tuple[Any, str]:
    """The file system of an address and the path in it.

    :raises InputError: if there is none, or its driver is not installed.
    """
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise not_installed(f"'{address}'", error, "sweep") from None
    try:
        store, path = url_to_fs(address)
    except Exception as error:  # each driver has its own
        raise InputError(f"cannot open '{address}': {one_line(error)}") from None
    return store, str(path)


def expand(address: str, endings: tuple[str, ...]) -> list[str]:
    """The addresses of the page files that ``address`` names: itself, those below it, or what its pattern matches.

    :raises InputError: if there are none.
    """
    store, path = store_of(address)
    try:
        if any(letter in path for letter in "*["):  # a ? begins what a server is asked
            found = [one for one in store.glob(path) if not store.isdir(one)]
        elif store.isdir(path):
            found = [one for one in store.find(path) if str(one).endswith(endings)]
        else:
            return [address]
    except Exception as error:
        raise InputError(f"cannot read '{address}': {one_line(error)}") from None
    if not found:
        raise InputError(f"'{address}' has no page file; known endings: {', '.join(endings)}")
    before, after = _around(address, path)
    return [f"{before}{one}{after}" for one in sorted(map(str, found))]


def _around(address: str, path: str) -> tuple[str, str]:
    """What stands before and behind a path in its address: ``s3://``, ``ftp://host``; ``::arrays.zip`` of a chain."""
    for whole, rest in ((address, ""), (address.partition("::")[0], address.partition("::")[2])):
        short = whole.rstrip("/")
        if short.endswith(path.rstrip("/")):
            return short.removesuffix(path.rstrip("/")), rest and f"::{rest}"
    raise InputError(f"cannot tell the addresses of the files in '{address}': name them one by one")


@contextmanager
def local(address: str) -> Iterator[Path]:
    """A copy of the file at ``address`` on this machine, as long as the block lasts.

    :raises InputError: if it cannot be fetched.
    """
    store, path = store_of(address)
    with tempfile.TemporaryDirectory(prefix="vmaplab-") as folder:
        copy = Path(folder) / path.rpartition("/")[2]
        try:
            size = store.size(path)
            if size is not None and size > _MOST_BYTES:
                raise InputError(f"'{address}' has {size} bytes, more than {_MOST_BYTES} of a page file")
            store.get_file(path, str(copy))
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"cannot read '{address}': {one_line(error)}") from None
        yield copy


def one_line(error: Exception) -> str:
    """What an error of somebody else's code says, in a line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]
