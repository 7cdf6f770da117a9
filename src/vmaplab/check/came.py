# SPDX-License-Identifier: GPL-2.0-only
"""What a scenario came to on different machines, and how that differs, but for pages that each chose for itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.effects import Changes, Maps, physical_until
from vmaplab.calls.scenario import Scenario, text_of
from vmaplab.calls.table import effect_of
from vmaplab.check.sides import BUG, UNDEFINED


class Came(NamedTuple):
    """What a scenario came to on one machine.

    :param results: of its steps.
    :param entries: what is mapped then, but for what was there since boot; as ``walker.ENTRY``.
    :param info: the lines of /proc/vmallocinfo, likewise.
    :param fault: what went wrong beyond results; ``warned``: a WARN() that fired, in words.
    """

    results: list[int | str]
    entries: NDArray[Any]
    info: list[str]
    fault: str
    warned: str = ""


def is_fatal(came: Came) -> bool:
    """Whether no kernel survives it, or it is not defined what it does."""
    return bool({BUG, UNDEFINED} & set(came.results) or came.fault)


class Kinds(NamedTuple):
    """Parts of an address space, first address and last + 1.

    :param own: whose pages the kernel has chosen.
    :param single: those of them that it took one by one: whether some are contiguous is chance.
    :param given: mapped by physical address, which does not count from where RAM begins.
    """

    own: list[tuple[int, int]]
    single: list[tuple[int, int]]
    given: list[tuple[int, int]]


def kinds_of(info: list[str], scenario: Scenario, results: list[int | str], page: int) -> Kinds:
    """Where in its address space frames are what, at the end of a scenario.

    :param info: the lines of /proc/vmallocinfo then; ``page``: bytes of one.
    """
    words = [line.split() for line in info]
    bounds = [(int(start, 16), int(end, 16)) for start, end in (one[0].split("-") for one in words)]
    allocated = {area for area, one in zip(bounds, words, strict=True) if "vmalloc" in one}
    given = {area for area, one in zip(bounds, words, strict=True) if "ioremap" in one}
    own = set(allocated)
    for step, result in zip(scenario.steps, results, strict=False):
        effect = effect_of(step.call)
        if isinstance(effect, Maps) and isinstance(result, int):
            for area in (one for one in bounds if one[0] <= result < one[1]):  # what comes last has ended the others
                if effect.frames is None and not effect.quiet:
                    own.add(area)
                elif effect.frames is not None:
                    own.discard(area)
        elif isinstance(effect, Changes) and effect.frames is physical_until:
            at = results[step.ref] if 0 <= step.ref < len(results) else step.addr
            if isinstance(at, int):
                start = at + step.offset * page
                given.add((start, start + (step.length + 1) * page))
    return Kinds(sorted(own), sorted(own - allocated), sorted(given))


_MOST_TEXT = 100


@dataclass(frozen=True)
class Comparison:
    """How to compare two machines.

    :param kinds: of the addresses that are mapped.
    :param base: physical address of the first frame of the second machine's RAM; the first one's is 0.
    :param page: bytes of a page.
    """

    kinds: Kinds
    base: np.uint64
    page: int

    def differ(self, scenario: Scenario, one: tuple[str, Came], other: tuple[str, Came]) -> str:
        """How two machines differ, in words: results, entries, lines of /proc/vmallocinfo."""
        (mine, ours), (theirs, real) = one, other

        def told(what: str, left: object, right: object) -> str:
            width = max(len(mine), len(theirs)) + 1
            return f"{what}\n  {mine + ':':{width}} {left}\n  {theirs + ':':{width}} {right}"

        for number, step in enumerate(scenario.steps):
            left, right = (came.results[number] if number < len(came.results) else "-" for came in (ours, real))
            if left != right:
                text = text_of(step)
                text = text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."
                return told(f"step {number} ({text})", _number(left), _number(real.fault or right))
        single = [_inside(came.entries["va"], self.kinds.single) for came in (ours, real)]
        my_entries, other_entries = ours.entries[~single[0]], real.entries[~single[1]]
        at = self._first(my_entries, other_entries)
        if at >= 0:
            return told("an entry", self._entry(my_entries, at), self._entry(other_entries, at, int(self.base)))
        mine_single, other_single = (
            [*_pages(came.entries[which], self.page), _NOTHING]
            for came, which in zip((ours, real), single, strict=True)
        )
        for mine_page, other_page in zip(mine_single, other_single, strict=False):
            if not _is_same_page(mine_page, other_page):
                return told("a page of its own", _page(mine_page), _page(other_page))
        changed = any(isinstance(effect_of(step.call), Changes) for step in scenario.steps)  # as the caller likes
        if frame := 0 if changed else _twice(real.entries[_inside(real.entries["va"], self.kinds.own)]):
            return told("pages of its own", "each is mapped once", f"{frame:#x} is mapped twice")
        if ours.info != real.info:
            pairs = zip([*ours.info, "nothing"], [*real.info, "nothing"], strict=False)
            return told("/proc/vmallocinfo", *next(pair for pair in pairs if pair[0] != pair[1]))
        if real.fault:
            return told("what the kernel says", "nothing", real.fault)
        return told("a WARN()", "none", real.warned) if real.warned and not ours.warned else ""

    def _first(self, ours: NDArray[Any], real: NDArray[Any]) -> int:
        """Which entry is the first that differs, frames of pages aside that the kernel chose; -1 if none does."""
        common = min(len(ours), len(real))
        mine, other = ours[:common], real[:common]
        alike = (mine["phys"] == other["phys"]) & _inside(mine["va"], self.kinds.given)
        alike |= (mine["phys"] + self.base == other["phys"]) | _inside(mine["va"], self.kinds.own)
        for name in ("va", "size", "attributes", "group", "rights"):
            alike &= mine[name] == other[name]
        differ = np.flatnonzero(~alike)
        return int(differ[0]) if len(differ) else common if len(ours) != len(real) else -1

    def _entry(self, entries: NDArray[Any], at: int, base: int = 0) -> str:
        """One entry in words; ``base``: where RAM begins for it."""
        if at >= len(entries):
            return "nothing"
        entry, va = entries[at], entries["va"][at : at + 1]
        phys = int(entry["phys"])
        frame = f"{phys - base:#x}" if phys >= base and not _inside(va, self.kinds.given)[0] else f"{phys:#x}"
        frame = "a page of its own" if _inside(va, self.kinds.own)[0] else frame
        bits = f"{int(entry['attributes']):#x}, rights {int(entry['rights']):#x}, group {int(entry['group'])}"
        return f"{int(entry['va']):#x} -> {frame}, {int(entry['size']):#x} bytes, bits {bits}"


_NOTHING = (0, 0, 0, 0)


def _pages(entries: NDArray[Any], page: int) -> Iterator[tuple[int, int, int, int]]:
    """Each page that ``entries`` map: address, rights, attributes, and how many pages its leaf is one of."""
    columns = (entries[name].tolist() for name in ("va", "size", "rights", "attributes", "group"))
    for va, size, rights, attributes, group in zip(*columns, strict=True):
        yield from ((at, rights, attributes, max(group, size // page)) for at in range(va, va + size, page))


def _is_same_page(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    """Whether two pages are mapped alike; whether a leaf has others, too, which shows in its attributes, is chance."""
    return one[:2] == other[:2] and (one[2] == other[2] or one[3] != other[3])


def _page(page: tuple[int, int, int, int]) -> str:
    va, rights, attributes, _ = page
    return f"{va:#x}, bits {attributes:#x}, rights {rights:#x}" if va else "nothing"


def _twice(entries: NDArray[Any]) -> int:
    """The physical address of a page that two of ``entries`` map; 0 if none is."""
    order = np.argsort(entries["phys"])
    start, size = entries["phys"][order], entries["size"][order].astype(np.uint64)
    again = np.flatnonzero(start[:-1] + size[:-1] > start[1:])
    return int(start[again[0] + 1]) if len(again) else 0


def _inside(va: NDArray[np.uint64], areas: list[tuple[int, int]]) -> NDArray[np.bool_]:
    inside = np.zeros(len(va), dtype=np.bool_)
    for start, end in areas:
        inside |= (va >= np.uint64(start)) & (va < np.uint64(end))
    return inside


def _number(value: int | str) -> str:
    if isinstance(value, str):
        return value
    return f"returns {value:#x}" if value > 0 else f"returns {value}"
