# SPDX-License-Identifier: GPL-2.0-only
"""Words that name several page arrays: directories, patterns, addresses of other stores, heaps with ranges, vmcores."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from vmaplab.errors import InputError
from vmaplab.pages.array import parse_size, size_text

ENDINGS = (".txt", ".csv", ".npy", ".parquet")
"""Of page files."""
MOST = 1 << 22
"""Page arrays that one word can name."""
KERNELS = ("vmcore", "kcore", "qemu", "ram")
"""Sources that are the memory of another kernel."""
_RANGE = re.compile(r"(?P<first>[\w.]+?)\.\.(?P<last>[\d.]+[KMGTkmgt]?)(?::(?P<times>\*?)(?P<step>[\d.]+[KMGTkmgt]?))?")


def expand(source: str) -> list[str]:
    """The sources that ``source`` names, in order; itself, if it is one.

    - a directory: the page files in it and below it; a pattern (``*``, ``?``, ``[]``, ``**``): what it matches;
    - ``PROTOCOL://...``: the same in any store that fsspec knows;
    - ``heap:4M..64M:*2,fragmentation=0..1:0.1,seed=1..50``: one for each combination of the values;
    - ``vmcore:FILE`` (``kcore:``, ``qemu:``, ``ram:``) without ``area=``: each area that maps pages;
    - ``trace:FILE`` without ``call=``: each call; ``trace:`` and ``pagemap:`` take patterns, too.

    :raises InputError: if there is nothing that it names, or it names more than :data:`MOST`.
    """
    kind = source.partition(":")[0]
    if is_elsewhere(source):
        from vmaplab.pages import elsewhere

        return elsewhere.expand(source, ENDINGS)
    if kind == "heap":
        return _heaps(source)
    if _is_whole_kernel(source):
        from vmaplab.vmcore.source import arrays_of

        return arrays_of(source)
    if kind in ("trace", "pagemap"):
        rest = source.partition(":")[2]
        return [one for path in (_files(rest) if _has_pattern(rest) else [rest]) for one in _within(kind, path)]
    return _files(source)


def _within(kind: str, rest: str) -> list[str]:
    if kind != "trace" or ",call=" in rest:
        return [f"{kind}:{rest}"]
    from vmaplab.pages import trace

    path, comma, options = rest.partition(",vmemmap=")
    count = trace.count(Path(path))
    return [f"trace:{rest}"] if count == 1 else [f"trace:{path},call={one}{comma}{options}" for one in range(count)]


class Expanded(NamedTuple):
    """What several words name.

    :param sources: each once, in order.
    :param wrong: of words that name none, why.
    :param notes: what is left out of others, a line each.
    """

    sources: list[str]
    wrong: dict[str, str]
    notes: list[str]


def expand_all(words: Iterable[str]) -> Expanded:
    """The sources that several words name.

    :raises InputError: if none of them names any.
    """
    found: dict[str, None] = {}
    wrong: dict[str, str] = {}
    notes: list[str] = []
    for word in words:
        for one in _kernels(word):
            try:
                found.update(dict.fromkeys(expand(one)))
                if _is_whole_kernel(one):
                    from vmaplab.vmcore.source import left_out_of

                    notes += filter(None, [left_out_of(one)])
            except InputError as error:
                wrong[one] = str(error)
    if not found and wrong:
        raise InputError(next(iter(wrong.values())))
    return Expanded(list(found), wrong, notes)


def _is_whole_kernel(source: str) -> bool:
    return source.partition(":")[0] in KERNELS and "area=" not in source and "caller=" not in source


def _kernels(word: str) -> list[str]:
    """``vmcore:`` with a pattern or a directory: each of its files; any other word is itself."""
    kind, _, rest = word.partition(":")
    if kind != "vmcore" or not (_has_pattern(rest) or Path(rest).is_dir()):
        return [word]
    files = _matching(Path(rest) / "*" if Path(rest).is_dir() else Path(rest))
    return [f"{kind}:{path}" for path in files] or [word]


def is_elsewhere(source: str) -> bool:
    """Whether it is an address as fsspec has them, ``s3://bucket/arrays/*.npy``."""
    return re.match(r"(?:[\w+.-]+::)*[a-zA-Z][\w+.-]*://", source) is not None


def _files(source: str) -> list[str]:
    path = Path(source)
    try:
        if source in ("", "-") or path.is_file():
            return [source]
        is_folder = path.is_dir()
    except OSError:
        return [source]
    closed: list[str] = []
    if is_folder:
        found = sorted(
            os.path.join(folder, name)  # noqa: PTH118 - a path for each of a million files is slow
            for folder, _, names in os.walk(source, onerror=lambda error: closed.append(str(error.filename)))
            for name in names
            if name.endswith(ENDINGS)
        )
        if source in closed:
            raise InputError(f"cannot read the directory '{source}'")
        found += closed  # each says so when it is read
    elif _has_pattern(source):
        found = _matching(path)
    else:
        return [source]
    if not found:
        raise InputError(f"'{source}' has no page file; known endings: {', '.join(ENDINGS)}")
    return found


def _matching(pattern: Path) -> list[str]:
    """The files that a pattern matches, none by way of a link to a directory, nor hidden ones that it does not name."""
    whole = next(at for at, part in enumerate(pattern.parts) if any(letter in part for letter in "*?["))
    head, tail = Path(*pattern.parts[:whole]), pattern.parts[whole:]
    try:
        found = [one for one in head.glob("/".join(tail)) if not one.is_dir()]
    except (OSError, ValueError) as error:
        raise InputError(f"'{pattern}' is no pattern that can be looked for: {error}") from None
    if not any(part.startswith(".") for part in tail):
        found = [one for one in found if not any(part.startswith(".") for part in one.parts[whole:])]
    return sorted(map(str, found))


def _has_pattern(text: str) -> bool:
    return any(letter in text for letter in "*?[") and text.partition(":")[0] not in ("pid", "pfns")


def _heaps(source: str) -> list[str]:
    head, *words = source.removeprefix("heap:").split(",")
    sizes = [size if size == head else _size(size, head) for size in _values(head, parse_size, head)]
    choices = [[f"heap:{size}" for size in sizes]]
    for word in words:
        name, equals, value = word.partition("=")
        known = _values(value, Decimal, word) if name != "buddyinfo" else [value]
        choices.append([f"{name}{equals}{one}" for one in known])
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MOST:
        raise InputError(f"'{source}' is {count} heaps; {MOST} are the most")
    return [",".join(words) for words in itertools.product(*choices)]


def _size(text: str, word: str) -> str:
    if not text.isdigit():
        raise InputError(f"'{word}' has a size of {text} bytes: write a factor that gives whole ones")
    return size_text(int(text))


def _values(text: str, number: Callable[[str], Decimal | int], word: str) -> list[str]:
    """``1..5``, ``0..1:0.1``, ``4K..1M:*2``: the values, the last one included if it is met; or the text itself."""
    found = _RANGE.fullmatch(text)
    if found is None:
        if ".." in text:
            raise InputError(f"'{word}' is no range; write FIRST..LAST, FIRST..LAST:STEP or FIRST..LAST:*FACTOR")
        return [text]
    try:
        first, last = Decimal(number(found["first"])), Decimal(number(found["last"]))
        step = Decimal(1) if found["step"] is None else _step(found["step"], found["times"] or "", number)
        ends = first <= last and step > 0 and not (found["times"] and (step <= 1 or first <= 0))
    except ArithmeticError:
        raise InputError(f"'{word}' is a range of what are no numbers") from None
    if not ends:
        raise InputError(f"'{word}' is a range that never ends: from the smaller number up")
    values: list[str] = []
    while first <= last:
        if len(values) >= MOST:
            raise InputError(f"'{word}' is more than {MOST} values")
        values.append(f"{first.normalize():f}")
        first = first * step if found["times"] else first + step
    return values


def _step(text: str, times: str, number: Callable[[str], Decimal | int]) -> Decimal:
    return Decimal(text) if times else Decimal(number(text))
