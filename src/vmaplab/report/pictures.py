# SPDX-License-Identifier: GPL-2.0-only
"""Pictures of mappings, as SVG: page tables to scale, the leaves of an area, the frames they go to.

Marks have classes, which :data:`MARKS` and the pages' own style sheets colour, light and dark; nothing else is needed.
However many leaves there are, a picture has some thousand marks at most: what is narrower than a pixel is drawn in
columns, by its share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.pages.array import size_text
from vmaplab.why import runs_of

COLOURS = {
    "ink": ("#1b1f24", "#e6edf3"),
    "soft": ("#59636e", "#9da7b1"),
    "paper": ("#fff", "#0f1419"),
    "line": ("#d1d9e0", "#343b43"),
    "tint": ("#f4f6f8", "#1a2027"),
    "bad": ("#b3261e", "#ff8078"),
    "good": ("#1a7f37", "#57c26f"),
    "t1": ("#c9d9ec", "#2c3f57"),
    "t2": ("#86aede", "#3f6496"),
    "t3": ("#3f74b5", "#6d9bd6"),
    "t4": ("#1d4478", "#b5d2f5"),
    "c1": ("#3f74b5", "#6d9bd6"),
    "c2": ("#b4560f", "#f0a35e"),
    "c3": ("#2d7d46", "#6cc68a"),
    "c4": ("#8a3ea8", "#cf93e6"),
    "c5": ("#8b6b00", "#d9bb4e"),
    "c6": ("#666d75", "#a9b1ba"),
}
"""Name -> the colour by day and by night. ``t1`` to ``t4``: leaves, a larger one
is darker, by night lighter; ``c1`` to ``c6``: lines of a plot."""
TONES = (32 << 10, 1 << 20, 256 << 20)
"""Up to which sizes leaves have which shade: pages, groups of PTEs, PMD blocks; what is larger has the last one."""
STRIP_WIDE, STRIP_HIGH = 640, 26
MOST_MARKS = 160
"""Leaves that a strip draws one by one; more of a size that follow each other are one area, with their number."""
WIDE, LEFT, RIGHT = 960, 64, 96
"""Of a picture of page tables: all of it, the names of levels, the numbers of tables."""
_PLOT = WIDE - LEFT - RIGHT
_ROW, _GAP, _SKY, _RIBBON = 24, 6, 34, 70
_MOST_RUNS, _MOST_RIBBONS = 400, 200
_LEAST_PX = 1.5
_GOLDEN = 0.618033988749895


def colours() -> str:
    """The colours as a style sheet."""
    day, night = ("".join(f"--{name}:{pair[at]};" for name, pair in COLOURS.items()) for at in (0, 1))
    return f":root{{{day}}}@media screen and (prefers-color-scheme:dark){{:root{{{night}}}}}"


MARKS = (
    "svg text{font:10px system-ui,sans-serif;fill:var(--ink)}svg text.d{fill:var(--paper)}"
    "svg text.m{text-anchor:middle}svg text.e{text-anchor:end}svg text.s{fill:var(--soft)}"
    ".t1{fill:var(--t1)}.t2{fill:var(--t2)}.t3{fill:var(--t3)}.t4{fill:var(--t4)}"
    ".b{fill:none;stroke:var(--soft);stroke-width:.7}.o{stroke:var(--paper);stroke-width:.5}"
    ".x{fill-opacity:.35}.r{fill:var(--soft)}"
)
"""How marks look."""


def alone(drawn: Markup) -> str:
    """A picture as a file of its own."""
    style = f"<style>{colours()}{MARKS}svg{{background:var(--paper)}}</style>"
    head, _, rest = str(drawn).partition(">")
    return f'<svg xmlns="http://www.w3.org/2000/svg"{head.removeprefix("<svg")}>{style}{rest}\n'


def tone_of(size: int) -> int:
    """The shade of a leaf, 1 to 4."""
    return next((tone for tone, most in enumerate(TONES, start=1) if size < most), len(TONES) + 1)


def strip(stretches: Iterable[tuple[int, int]], title: str) -> Markup:
    """The leaves of an area in the order of their addresses, to scale: a larger leaf is darker.

    :param stretches: bytes of a leaf, and how many follow each other.
    """
    held = list(stretches)
    total = sum(size * count for size, count in held)
    if not total:
        return Markup("")
    parts, at = [], 0.0
    whole = sum(count for _, count in held) <= MOST_MARKS
    for size, count in held:
        each, number = (size, count) if whole else (size * count, 1)
        for _ in range(number):
            wide = each / total * STRIP_WIDE
            label = f"{size_text(size)}" if whole or count == 1 else f"{count} x {size_text(size)}"
            parts.append(_box(at, 0, max(wide - (0.6 if wide > 2 else 0), 0.3), STRIP_HIGH, f"t{tone_of(size)}", label))
            if wide > 7 * len(label) + 6:
                parts.append(_text(at + wide / 2, STRIP_HIGH / 2 + 4, label, "m d" if tone_of(size) > 2 else "m"))
            at += wide
    return _svg("strip", STRIP_WIDE, STRIP_HIGH, title, parts)


def page_tables(arch: Arch, leaves: NDArray[Any], addr: int, pfns: NDArray[np.uint64], title: str) -> Markup:
    """One mapping: the tables of each level with their leaves, the runs of its array, and where they lie in memory.

    :param leaves: as of a :class:`~vmaplab.mapping.Mapping`, which begins at ``addr``.
    :param pfns: its pages.
    """
    size = len(pfns) << arch.page_shift
    parts: list[Markup] = []
    y = 4.0
    for level in reversed(range(len(arch.levels))):
        parts += _level(arch, leaves, addr, size, level, y)
        y += _ROW + _GAP
    parts += _axis(addr, size, y)
    y += 16
    runs = runs_of(pfns)
    parts += _skyline(runs, y, arch.page_size)
    y += _SKY + _GAP
    parts += _memory(pfns, runs, leaves, arch, y)
    return _svg("tables", WIDE, y + _RIBBON + _ROW + 20, title, parts)


def _level(arch: Arch, leaves: NDArray[Any], addr: int, size: int, level: int, y: float) -> Iterator[Markup]:
    """One level: its tables as boxes, and the leaves that are entries of them."""
    here = arch.levels[level]
    sizes = leaves["size"]
    up = 1 << arch.levels[level + 1].shift if level + 1 < len(arch.levels) else 1 << 64
    mine = sizes >= 1 << here.shift if level else np.ones(len(sizes), dtype=bool)
    mine &= sizes < up
    span = 1 << min(here.shift + here.bits, 63)
    below = (sizes < up) if level + 1 < len(arch.levels) else np.ones(len(sizes), dtype=bool)
    tables = np.unique(leaves["va"][below] // np.uint64(span)).tolist()
    yield _text(LEFT - 8, y + 16, here.name, "e")
    yield _text(LEFT + _PLOT + 8, y + 16, f"{len(tables)} table{'s' * (len(tables) != 1)}", "s")
    yield from _leaves(leaves["va"][mine], sizes[mine], addr, size, y)
    if len(tables) <= _MOST_RUNS:
        for number in tables:
            start, end = max(number * span, addr), min((number + 1) * span, addr + size)
            first = (start >> here.shift) & ((1 << here.bits) - 1)
            last = ((end - 1) >> here.shift) & ((1 << here.bits) - 1)
            entries = f"entry {first}" if first == last else f"entries {first} to {last}"
            told = f"{here.name} table from {number * span:#x} on: {entries} of {1 << here.bits}"
            left, wide = _x(start - addr, size), (end - start) / size * _PLOT
            yield _box(left, y, wide, _ROW, "b", told)
            if not mine.any() and wide > 6 * len(entries):
                yield _text(left + wide / 2, y + 16, entries, "m s")


def _leaves(va: NDArray[Any], sizes: NDArray[Any], addr: int, size: int, y: float) -> Iterator[Markup]:
    """Leaves of a level, to scale: one by one where that can be seen, alike ones together, or columns by share."""
    if not len(va):
        return
    begins = np.flatnonzero(np.concatenate(([True], (sizes[1:] != sizes[:-1]) | (va[1:] != va[:-1] + sizes[:-1]))))
    bounds = [*begins.tolist(), len(va)]
    if len(begins) > _MOST_RUNS:
        yield from _columns(va, sizes, addr, size, y)
        return
    for first, end in pairwise(bounds):
        each, start = int(sizes[first]), int(va[first]) - addr
        count = end - first
        wide = _x(each, size) - LEFT
        kind = f"t{tone_of(each)}"
        if wide >= _LEAST_PX and count <= _MOST_RUNS:
            for number in range(count):
                told = f"{size_text(each)} at {addr + start + number * each:#x}"
                yield _box(_x(start + number * each, size), y + 2, wide, _ROW - 4, f"{kind} o", told)
        else:
            told = f"{count} x {size_text(each)} from {addr + start:#x}"
            yield _box(_x(start, size), y + 2, wide * count, _ROW - 4, kind, told)
        label = size_text(each) if count == 1 else f"{count} x {size_text(each)}"
        if wide * count > 6 * len(label) + 6:
            middle = _x(start, size) + wide * count / 2
            yield _text(middle, y + 16, label, "m d" if tone_of(each) > 2 else "m")


def _columns(va: NDArray[Any], sizes: NDArray[Any], addr: int, size: int, y: float) -> Iterator[Markup]:
    """Too many leaves to tell apart: of each column of pixels the share of its bytes that each shade has."""
    tones = np.select([sizes < most for most in TONES], [1, 2, 3], 4)
    edges = np.linspace(0, size, _PLOT + 1)
    start = (va - np.uint64(addr)).astype(np.float64)
    bottom = np.zeros(_PLOT)
    for tone in np.unique(tones).tolist():
        mine = tones == tone
        points = np.stack([start[mine], start[mine] + sizes[mine].astype(np.float64)], axis=1).ravel()
        covered = np.stack([np.zeros(mine.sum()), sizes[mine].astype(np.float64)], axis=1).ravel().cumsum()
        share = np.diff(np.interp(edges, points, covered, left=0)) / (size / _PLOT)
        share = np.round(np.clip(share, 0, 1), 2)
        changes = [0, *(np.flatnonzero((share[1:] != share[:-1]) | (bottom[1:] != bottom[:-1])) + 1).tolist(), _PLOT]
        for first, end in pairwise(changes):
            if share[first]:
                high = share[first] * (_ROW - 4)
                top = y + _ROW - 2 - bottom[first] * (_ROW - 4) - high
                yield _box(LEFT + first, top, end - first, high, f"t{tone}", f"{share[first]:.0%} of these bytes")
        bottom += share


def _axis(addr: int, size: int, y: float) -> list[Markup]:
    return [
        _text(LEFT, y + 8, f"{addr:#x}", "s"),
        _text(LEFT + _PLOT, y + 8, f"{addr + size:#x}", "s e"),
        _text(LEFT + _PLOT / 2, y + 8, f"virtual, {size_text(size)}", "s m"),
    ]


def _skyline(runs: NDArray[np.int64], y: float, page: int) -> Iterator[Markup]:
    """The array as runs of contiguous frames, in order: as high as the logarithm of their length."""
    count = int(runs[-1])
    orders = np.floor(np.log2(np.diff(runs)))
    top = max(float(orders.max()), 1.0)
    yield _text(LEFT - 8, y + _SKY - 4, "runs", "e")
    number = len(runs) - 1
    yield _text(LEFT + _PLOT + 8, y + _SKY - 4, f"{number} run{'s' * (number != 1)}", "s")
    if number <= _MOST_RUNS:
        for first, end, order in zip(runs[:-1].tolist(), runs[1:].tolist(), orders.tolist(), strict=True):
            high = (order + 1) / (top + 1) * _SKY
            x, wide = _x(first, count), (end - first) / count * _PLOT
            yield _box(x, y + _SKY - high, wide, high, "r o", f"{end - first} pages, {size_text((end - first) * page)}")
        return
    each = np.repeat(orders, np.diff(runs))
    edges = np.arange(_PLOT + 1) * count // _PLOT
    columns = np.add.reduceat(each, edges[:-1]) / np.maximum(np.diff(edges), 1)  # an array can have fewer pages
    heights = np.round((columns + 1) / (top + 1) * _SKY, 1)
    changes = [0, *(np.flatnonzero(heights[1:] != heights[:-1]) + 1).tolist(), _PLOT]
    for first, end in pairwise(changes):
        yield _box(LEFT + first, y + _SKY - heights[first], end - first, heights[first], "r", "the mean of many runs")


def _memory(
    pfns: NDArray[np.uint64], runs: NDArray[np.int64], leaves: NDArray[Any], arch: Arch, y: float
) -> Iterator[Markup]:
    """Where the runs lie in physical memory, lowest frame first, gaps left out, and which goes where."""
    count, lengths = len(pfns), np.diff(runs)
    sizes = np.repeat(leaves["size"].astype(np.int64), (leaves["size"] >> np.uint64(arch.page_shift)).astype(np.int64))
    order = np.argsort(pfns[runs[:-1]], kind="stable")
    place = np.zeros(len(lengths), dtype=np.int64)
    place[order] = np.concatenate(([0], np.cumsum(lengths[order])[:-1]))
    spread = np.argsort(np.arange(len(lengths)) * _GOLDEN % 1)  # of alike ones, some of all places
    drawn = spread[np.argsort(-lengths[spread], kind="stable")][:_MOST_RIBBONS]
    under = y + _RIBBON
    yield _box(LEFT, under, _PLOT, _ROW, "b", f"{count} pages")
    for run in sorted(drawn.tolist()):
        first, wide = int(runs[run]), lengths[run] / count * _PLOT
        tone = tone_of(int(sizes[first : first + int(lengths[run])].max()))
        above, below = _x(first, count), _x(int(place[run]), count)
        told = f"{int(lengths[run])} pages from frame {int(pfns[first]):#x}"
        middle = y + _RIBBON / 2
        path = (
            f"M{above:.1f} {y:.1f}C{above:.1f} {middle:.1f} {below:.1f} {middle:.1f} {below:.1f} {under:.1f}h{wide:.1f}"
            f"C{below + wide:.1f} {middle:.1f} {above + wide:.1f} {middle:.1f} {above + wide:.1f} {y:.1f}Z"
        )
        yield Markup('<path d="{}" class="x t{}"><title>{}</title></path>').format(path, tone, told)
        yield _box(below, under, wide, _ROW, f"t{tone}" + " o" * bool(wide > _LEAST_PX), told)
    left = len(lengths) - len(drawn)
    yield _text(LEFT - 8, under + 16, "frames", "e")
    low, high = int(pfns.min()), int(pfns.max())
    yield _text(LEFT, under + _ROW + 12, f"{low << arch.page_shift:#x}", "s")
    yield _text(LEFT + _PLOT, under + _ROW + 12, f"{(high + 1) << arch.page_shift:#x}", "s e")
    told = (
        f"physical, gaps left out; the {len(drawn)} longest of {len(lengths)} runs"
        if left
        else "physical, gaps left out"
    )
    yield _text(LEFT + _PLOT / 2, under + _ROW + 12, told, "s m")


def _x(offset: float, whole: float) -> float:
    return LEFT + offset / whole * _PLOT


def _box(x: float, y: float, wide: float, high: float, kind: str, told: str) -> Markup:
    return Markup(
        '<rect x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:.1f}" class="{}"><title>{}</title></rect>'
    ).format(x, y, wide, high, kind, told)


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" class="{}">{}</text>').format(x, y, kind, text)


def _svg(kind: str, wide: float, high: float, title: str, parts: Iterable[Markup]) -> Markup:
    head = Markup('<svg class="{}" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-label="{}">').format(
        kind, wide, high, title
    )
    return head + Markup("").join(parts) + Markup("</svg>")
