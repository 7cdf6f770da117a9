# SPDX-License-Identifier: GPL-2.0-only
"""Calls of vmap() that a kernel traced, by the kprobe events of docs/capture.md.

An event whose name begins with ``vmaplab`` has fields ``name=value``: ``at``, the address of the array, ``count``, its
pages, ``vmemmap``, the address of the struct page of frame 0, ``struct``, bytes of one (64 if it is not said), and
addresses of struct pages, ``p0={...}``, ``p1={...}``. ``vmaplab_1`` has more of the same array, and so on;
they come in any order.

``vmaplab_map`` is of remap_pfn_range(): ``at``, the user's address, ``pfn``, the first frame, ``size``, bytes. Those
that go on where the last one ended are one array.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import InputError
from vmaplab.pages.array import MAX_PAGES, check_regular

_MOST_BYTES, _MOST_LINE = 1 << 28, 1 << 20
_MOST_CALLS, _MOST_PAGES = 1 << 16, 1 << 23
_EVENT = re.compile(r"\bvmaplab(?:_(\d{1,4}|map))?: (.*)")
_FIELD = re.compile(r"(\w+)=(\{[^}]*\}|\S+)")
_PAGES = re.compile(r"p\d+")
_STRUCT, _MOST_DIGITS = 64, 32
_OPEN = 64
"""Calls to which an event can belong: CPUs that trace at the same time."""


@dataclass
class Traced:
    """One call.

    :ivar at: where its array was; ``count``: how many pages that had.
    :ivar vmemmap: address of the struct page of frame 0, if the event says it; ``struct``: bytes of one.
    :ivar pieces: number of an event -> addresses of struct pages.
    :ivar blocks: of remap_pfn_range() instead: first frame and bytes of each; ``end``: the address behind them.
    """

    at: int
    count: int
    vmemmap: int | None
    struct: int
    pieces: dict[int, list[int]] = field(default_factory=dict)
    blocks: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0

    def pages(self) -> list[int]:
        """Addresses of struct pages, as far as they were traced without a gap."""
        found: list[int] = []
        for number in range(len(self.pieces)):
            if not self.pieces.get(number):
                break
            found += self.pieces[number]
        return found[: self.count]


def load(path: Path, page: int, call: int | None = None, vmemmap: int | None = None) -> NDArray[np.uint64]:
    """The page frames of one call; shape (n,).

    :param page: bytes of a page.
    :param call: which one, from 0 on; the only one if None.
    :param vmemmap: address of the struct page of frame 0, where the trace does not say.
    :raises InputError: if there is no such call, or not all of its pages were traced.
    """
    calls = _calls(path)
    if call is None and len(calls) > 1:
        some = ", ".join(f"{number} ({one.count} pages)" for number, one in enumerate(calls[:6]))
        raise InputError(f"'{path}' has {len(calls)} calls: say call=N, one of {some}{'...' if len(calls) > 6 else ''}")
    if not 0 <= (call or 0) < len(calls):
        raise InputError(f"'{path}' has no call {call}: they are numbered from 0 to {len(calls) - 1}")
    one = calls[call or 0]
    if one.blocks:
        return _frames(one.blocks, page, f"call {call or 0} of '{path}'")
    base = vmemmap if vmemmap is not None else one.vmemmap
    if base is None:
        raise InputError(f"'{path}' does not say where vmemmap is: say vmemmap=0xffff...")
    traced = one.pages()
    if len(traced) < one.count:
        raise InputError(f"call {call or 0} of '{path}' had {one.count} pages, and {len(traced)} of them were traced")
    found = np.array(traced, dtype=np.uint64) - np.uint64(base % (1 << 64))
    if len(bad := np.flatnonzero(found % np.uint64(one.struct))):
        odd = traced[int(bad[0])]
        raise InputError(f"page {bad[0]} of call {call or 0} is {odd:#x}: no struct page, with vmemmap at {base:#x}")
    pfns: NDArray[np.uint64] = found // np.uint64(one.struct)
    return pfns


def count(path: Path) -> int:
    """How many calls a trace has.

    :raises InputError: if it is none.
    """
    return len(_calls(path))


def _calls(path: Path) -> list[Traced]:
    try:
        check_regular(path)
        stat = path.stat()
        if stat.st_size > _MOST_BYTES:
            raise InputError(f"'{path}' is larger than {_MOST_BYTES >> 20} MiB: trace fewer calls")
        return _read(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}") from None


@lru_cache(maxsize=1)
def _read(path: Path, _size: int, _modified: int) -> list[Traced]:
    """The calls; those of the file that was read last are kept, for its other calls."""
    with path.open("rb") as file:
        return _of_lines(file, path)


def _of_lines(file: IO[bytes], path: Path) -> list[Traced]:
    calls: list[Traced] = []
    pages = 0
    for number, raw in enumerate(iter(lambda: file.readline(_MOST_LINE), b""), 1):
        if b"vmaplab" not in raw:
            continue
        line = raw.decode("ascii", "replace")
        event = _EVENT.search(line)
        if event is None:
            continue
        pages += len(raw) // 8
        if len(calls) > _MOST_CALLS or pages > _MOST_PAGES:
            raise InputError(f"'{path}' has more than {_MOST_CALLS} calls, or too many pages: trace fewer")
        fields = {name: value.strip("{}").split(",") for name, value in _FIELD.findall(event[2])}
        known = {name: _value(words[0], path, number) for name, words in fields.items() if not _PAGES.fullmatch(name)}
        if event[1] == "map":
            _add_block(calls, known, f"'{path}' line {number}")
            continue
        if not known.keys() >= {"at", "count"} or not 0 < known["count"] <= MAX_PAGES:
            raise InputError(f"'{path}' line {number} has no at= and count= of a call")
        struct, piece = known.get("struct", _STRUCT), int(event[1] or 0)
        if not 0 < struct <= 4096:
            raise InputError(f"'{path}' line {number}: a struct page has {struct} bytes")
        one = next((one for one in calls[-_OPEN:] if one.at == known["at"] and not one.pieces.get(piece)), None)
        if one is None:
            one = Traced(known["at"], known["count"], known.get("vmemmap"), struct)
            calls.append(one)
        one.vmemmap = known.get("vmemmap", one.vmemmap)
        words = [word for name, them in fields.items() if _PAGES.fullmatch(name) for word in them]
        whole = next((at for at, word in enumerate(words) if word.startswith("(fault")), len(words))
        one.pieces[piece] = [_value(word, path, number) for word in words[:whole]]
    if not calls:
        raise InputError(f"'{path}' has no event 'vmaplab', as docs/capture.md has them")
    return calls


def _add_block(calls: list[Traced], known: dict[str, int], where: str) -> None:
    """One call of remap_pfn_range(): it begins an array, or goes on with the one before."""
    if not known.keys() >= {"at", "pfn", "size"}:
        raise InputError(f"{where} has no at=, pfn= and size= of a call")
    if not calls or not calls[-1].blocks or known["at"] != calls[-1].end:
        calls.append(Traced(known["at"], 0, None, _STRUCT))
    calls[-1].blocks.append((known["pfn"], known["size"]))
    calls[-1].end = known["at"] + known["size"]
    calls[-1].count += known["size"] >> 12


def _frames(blocks: list[tuple[int, int]], page: int, what: str) -> NDArray[np.uint64]:
    """The frames of blocks of so many bytes."""
    first, sizes = (np.array(column, dtype=np.uint64) for column in zip(*blocks, strict=True))
    if (sizes % np.uint64(page)).any():
        raise InputError(f"{what} maps blocks that are no pages of {page} bytes: say --page-size")
    counts = (sizes // np.uint64(page)).astype(np.int64)
    if counts.sum() > MAX_PAGES or not counts.sum():
        raise InputError(f"{what} has {counts.sum()} pages")
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    found: NDArray[np.uint64] = np.repeat(first, counts) + within.astype(np.uint64)
    return found


def _value(word: str, path: Path, number: int) -> int:
    try:
        value = int(word[:_MOST_DIGITS], 0)
    except ValueError:
        raise InputError(f"'{path}' line {number}: '{word[:40]}' is no number") from None
    if not 0 <= value < 1 << 64:
        raise InputError(f"'{path}' line {number}: '{word[:40]}' is no number of 64 bits")
    return value
