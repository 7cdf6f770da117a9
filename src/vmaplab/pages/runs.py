# SPDX-License-Identifier: GPL-2.0-only
"""Page arrays as text: runs of contiguous frames, ``0x1000+256,null,0x7``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import InputError
from vmaplab.pfn import NULL_PFN

Pfns = NDArray[np.uint64]

MOST = 1 << 22
"""Pages of an array that is written as text."""


def runs(pfns: Pfns) -> list[tuple[int, int]]:
    """The runs of ``pfns``: (first PFN, pages); NULL pages are a run of their own."""
    if not len(pfns):
        return []
    null = pfns == np.uint64(NULL_PFN)
    follows = (pfns[1:] == pfns[:-1] + np.uint64(1)) & ~null[1:] & ~null[:-1] | (null[1:] & null[:-1])
    starts = np.concatenate([[0], np.flatnonzero(~follows) + 1])
    lengths = np.diff(np.concatenate([starts, [len(pfns)]]))
    return [(int(pfns[start]), int(length)) for start, length in zip(starts, lengths, strict=True)]


def array_of(parts: list[tuple[int, int]]) -> Pfns:
    """The reverse of :func:`runs`."""
    if not parts:
        return np.zeros(0, dtype=np.uint64)
    filled = [
        np.full(count, first, dtype=np.uint64)
        if first == NULL_PFN
        else np.arange(first, first + count, dtype=np.uint64)
        for first, count in parts
    ]
    return np.concatenate(filled)


def runs_text(pfns: Pfns) -> str:
    """``pfns`` as text."""
    return ",".join(
        ("null" if first == NULL_PFN else f"{first:#x}") + (f"+{count}" if count > 1 else "")
        for first, count in runs(pfns)
    )


def frame_number(word: str) -> int:
    """The page frame number, or other number, that ``word`` spells, decimal or with 0x."""
    value = int(word, 0)
    if not 0 <= value < 1 << 52:
        raise ValueError(f"{word} is no number from 0 to 2**52 - 1")
    return value


def page_count(word: str) -> int:
    """The number of pages that ``word`` spells."""
    value = frame_number(word)
    if value > MOST:
        raise ValueError(f"{word} is more than {MOST:#x} pages")
    return value


def parse_runs(text: str) -> Pfns:
    """The reverse of :func:`runs_text`."""
    parts = []
    for item in text.split(","):
        first, plus, count = item.partition("+")
        parts.append((NULL_PFN if first.lower() == "null" else frame_number(first), page_count(count if plus else "1")))
    if sum(count for _, count in parts) > MOST or any(not count for _, count in parts):
        raise ValueError(f"a run has 1 to {MOST:#x} pages")
    return array_of(parts)


def load(text: str) -> Pfns:
    """The page array that ``pfns:text`` names.

    :raises InputError: if it is none.
    """
    try:
        return parse_runs(text)
    except ValueError as error:
        why = f": {error}" if "literal" not in str(error) else ""
        raise InputError(f"'{text[:60]}' is no page array{why}; write e.g. pfns:0x1000+256,null,0x7") from None
