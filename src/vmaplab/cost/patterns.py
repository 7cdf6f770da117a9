# SPDX-License-Identifier: GPL-2.0-only
"""How a buffer is used: offsets of its accesses, in bytes, in order."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vmaplab._names import known
from vmaplab.errors import InputError
from vmaplab.trace import Ints

LINE = 64
_MOST = 1 << 24
"""Accesses of a pass."""
_MOST_BYTES = 1 << 28
_DEFAULT = 1 << 20


def stream(size: int, words: dict[str, str]) -> Ints:
    """``stream``: every line, from the first to the last."""
    _nothing_else("stream", words, ())
    return np.arange(0, size, LINE, dtype=np.int64)


def stride(size: int, words: dict[str, str]) -> Ints:
    """``stride:bytes=N``: every so many bytes, from the start again and one line on, until all is read."""
    _nothing_else("stride", words, ("bytes",))
    step = _number(words, "bytes", 4096 + LINE)
    starts = np.arange(0, min(step, size), LINE, dtype=np.int64)
    count = -(-size // step)
    _few(count * len(starts))
    found = (starts[:, None] + np.arange(count, dtype=np.int64)[None, :] * step).ravel()
    inside: Ints = found[found < size]
    return inside


def random(size: int, words: dict[str, str]) -> Ints:
    """``random:count=N,seed=S``: lines anywhere."""
    _nothing_else("random", words, ("count", "seed"))
    count = _number(words, "count", _DEFAULT)
    _few(count)
    lines = np.random.default_rng(_number(words, "seed", 1, least=0)).integers(0, max(size // LINE, 1), count)
    return lines.astype(np.int64) * LINE


def blocks(size: int, words: dict[str, str]) -> Ints:
    """``blocks:pitch=BYTES,width=BYTES,height=ROWS``: tiles of an image, one after the other, row by row of each."""
    _nothing_else("blocks", words, ("pitch", "width", "height"))
    pitch, width, height = _number(words, "pitch", 7680), _number(words, "width", 256), _number(words, "height", 64)
    if width > pitch:
        raise InputError(f"pattern: a tile of {width} bytes is wider than a row of {pitch}")
    rows, columns = size // pitch // height, pitch // width
    _few(rows * columns * height * -(-width // LINE))
    inside = (np.arange(height)[:, None] * pitch + np.arange(0, width, LINE)[None, :]).ravel()
    corners = (np.arange(rows)[:, None] * pitch * height + np.arange(columns)[None, :] * width).ravel()
    return (corners[:, None] + inside[None, :]).ravel().astype(np.int64)


def scanout(size: int, words: dict[str, str]) -> Ints:
    """``scanout:pitch=BYTES[,rotate=90]``: an image, row by row; turned, column by column of a line's width."""
    _nothing_else("scanout", words, ("pitch", "rotate"))
    pitch, turned = _number(words, "pitch", 7680), words.get("rotate", "0")
    if turned not in ("0", "90", "270"):
        raise InputError(f"pattern: rotate={turned} is none of 0, 90, 270")
    _few(size // pitch * -(-pitch // LINE))
    grid = np.arange(size // pitch)[:, None] * pitch + np.arange(0, pitch, LINE)[None, :]
    return (grid if turned == "0" else grid.T).ravel().astype(np.int64)


def given(size: int, words: dict[str, str]) -> Ints:
    """``offsets:file=PATH``: what is in a file, one offset a line, decimal or hex; or a .npy of integers."""
    _nothing_else("offsets", words, ("file",))
    if "file" not in words:
        raise InputError("pattern: offsets has no file=")
    path = Path(words["file"])
    if not path.is_file() or path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{path}: no offsets: a file of {_MOST_BYTES >> 20} MiB at most is wanted")
    try:
        if path.suffix == ".npy":
            found = np.load(path, allow_pickle=False)
            if not isinstance(found, np.ndarray) or found.ndim != 1 or found.dtype.kind not in "iu":
                raise InputError(f"{path}: a row of integers is wanted, no other array")
        else:
            found = np.array([int(line, 0) for line in path.read_text().split()], dtype=np.int64)
    except (OSError, ValueError, OverflowError, EOFError) as error:
        raise InputError(f"{path}: no offsets: {str(error).partition(chr(10))[0]}") from None
    if len(found) and not 0 <= int(found.min()) <= int(found.max()) < size:
        raise InputError(f"{path}: offsets are from 0 to {size - 1}, the bytes of the buffer")
    offsets: Ints = found.astype(np.int64)
    return offsets


PATTERNS: dict[str, Callable[[int, dict[str, str]], Ints]] = {
    "stream": stream,
    "stride": stride,
    "random": random,
    "blocks": blocks,
    "scanout": scanout,
    "offsets": given,
}
"""Name -> offsets in a buffer of so many bytes, by its words."""


def check_name(pattern: str) -> None:
    """See that there is such a pattern, before anything is built for it.

    :raises InputError: if there is none.
    """
    known(pattern.partition(":")[0], PATTERNS, "pattern")


def offsets_of(pattern: str, size: int) -> Ints:
    """The accesses of one pass over a buffer of ``size`` bytes.

    :raises InputError: if there is no such pattern, or it makes no access or too many.
    """
    check_name(pattern)
    name, _, rest = pattern.partition(":")
    if size // LINE > _MOST:
        raise InputError(f"patterns are for buffers of {_MOST * LINE >> 20} MiB at most")
    words = dict(word.partition("=")[::2] for word in rest.split(",") if word)
    found = PATTERNS[name](size, words)
    if not 0 < len(found) <= _MOST:
        raise InputError(f"pattern '{pattern}' makes {len(found)} accesses of {size} bytes: from 1 to {_MOST} can be")
    return found


def _few(count: int) -> None:
    if count > _MOST:
        raise InputError(f"the pattern makes {count} accesses: {_MOST} are the most")


def _nothing_else(name: str, words: dict[str, str], known: tuple[str, ...]) -> None:
    for word in words:
        if word not in known:
            raise InputError(f"pattern: {name} has no '{word}'" + (f"; it has {', '.join(known)}" if known else ""))


def _number(words: dict[str, str], name: str, default: int, least: int = 1) -> int:
    text = words.get(name, str(default))
    if not re.fullmatch(r"\d{1,12}", text) or int(text) < least:
        raise InputError(f"pattern: {name}={text} is no number from {least} on")
    return int(text)
