# SPDX-License-Identifier: GPL-2.0-only
"""Files that are written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmaplab.errors import InputError


def write_whole(path: Path, text: str) -> None:
    """Write a text, whole or not at all; names that are no UTF-8 as their bytes are spelled.

    :raises InputError: if it cannot be written.
    """
    with whole(path) as half:
        half.write_text(text, encoding="utf-8", errors="backslashreplace")


def check_writable(path: Path) -> None:
    """Say early what :func:`whole` would say when all is done.

    :raises InputError: if there is no directory for it, or something is there that is no plain file.
    """
    path = path.resolve()
    if not path.name or (path.exists() and not path.is_file()):
        raise InputError(f"cannot write {path}: it is no plain file")
    if not path.parent.is_dir():
        raise InputError(f"cannot write {path}: there is no directory {path.parent}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name to write to; at the end that file takes the place of ``path``. A symbolic link stays one.

    :raises InputError: if it cannot be written, or if something is there that is no plain file.
    """
    check_writable(path)
    path = path.resolve()
    half = path.with_name(f".{path.name}.half")
    try:
        yield half
        half.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    finally:
        half.unlink(missing_ok=True)
