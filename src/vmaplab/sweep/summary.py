# SPDX-License-Identifier: GPL-2.0-only
"""What the rows of a sweep come to: gains by release and architecture, arrays that gain least, flips that matter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vmaplab.why import Small

COLUMNS = (
    "source",
    "arch",
    "release",
    "options",
    "flipped",
    "error",
    "page_size",
    "bytes",
    "runs",
    "pages",
    "tlb_entries",
    "gain",
    *(f"small_{name}" for name in Small._fields),
)
"""Of a result, what a summary needs."""


@dataclass(frozen=True)
class Gain:
    """Of one release on one architecture, all arrays that it maps; gains are weighted by bytes.

    :param gains: TLB entries of linux-6.12 for the same pages, divided by this release's, ascending; ``weights``: the
        bytes of each.
    :param total: the same of all arrays together.
    :param refused: arrays that it does not map.
    :param small: of all pages, the share that each reason keeps small.
    """

    arch: str
    release: str
    gains: NDArray[np.float64]
    weights: NDArray[np.int64]
    total: float
    refused: int
    small: dict[str, float]

    @property
    def mean(self) -> float:
        """Weighted by bytes."""
        return float(np.average(self.gains, weights=self.weights))

    def quantile(self, share: float) -> float:
        """The gain that arrays with ``share`` of all bytes do not exceed."""
        sums = np.cumsum(self.weights)
        return float(self.gains[int(np.searchsorted(sums, share * sums[-1]))])


@dataclass(frozen=True)
class Flip:
    """What one boot argument or configuration option, the other way round, makes of the arrays.

    :param changed: arrays that get other leaves in number; ``total``: TLB entries of all arrays in all with it, divided
        by those without it.
    :param worse: arrays that get more; ``refused``: that are not mapped with it, or only with it.
    """

    arch: str
    release: str
    flipped: str
    arrays: int
    changed: int
    worse: int
    total: float
    refused: int


@dataclass(frozen=True)
class Summary:
    """All of it.

    :param arrays: page arrays; ``mapped``: those that one kernel at least maps; ``bytes``: of these, on the
        architecture where they are most.
    :param errors: kind of error -> arrays, and the message of the first; ``arches``: that were asked.
    :param least: by architecture, the rows of the arrays that gain least on its last release.
    """

    arrays: int
    mapped: int
    rows: int
    bytes: int
    gains: tuple[Gain, ...]
    errors: dict[str, tuple[list[str], str]]
    arches: tuple[str, ...]
    least: tuple[dict[str, Any], ...]
    flips: tuple[Flip, ...]


def summary_of(table: pa.Table, least: int = 10) -> Summary:
    """The summary of the :data:`COLUMNS` of a result."""
    plain = plain_rows(table)
    good = plain.filter(pc.is_valid(plain["tlb_entries"]))
    gains = [_gain(plain, arch, release) for arch, release in _kinds(plain)]
    biggest = good.group_by("source").aggregate([("bytes", "max")])
    return Summary(
        arrays=len(pc.unique(table["source"])),
        mapped=biggest.num_rows,
        rows=table.num_rows,
        bytes=pc.sum(biggest["bytes_max"]).as_py() or 0,
        gains=tuple(one for one in gains if one),
        errors=_errors(table),
        arches=tuple(pc.unique(table["arch"]).to_pylist()),
        least=tuple(_least(good, least)),
        flips=tuple(_flips(table)),
    )


def _kinds(table: pa.Table) -> list[tuple[str, str]]:
    """Architectures and releases, in the order of the rows."""
    named = table.filter(pc.is_valid(table["release"]))
    found = _pairs(named["arch"], named["release"])
    arches = list(dict.fromkeys(arch for arch, _ in found))
    return sorted(found, key=lambda one: arches.index(one[0]))


def _pairs(one: pa.ChunkedArray, other: pa.ChunkedArray) -> list[tuple[str, str]]:
    """What stands beside each other in two columns of text, each pair once, in the order of the rows."""
    joined = pc.unique(pc.binary_join_element_wise(one, other, "\0"))
    return [(first, second) for first, _, second in (text.partition("\0") for text in joined.to_pylist())]


def plain_rows(table: pa.Table) -> pa.Table:
    """The rows with nothing flipped."""
    return table.filter(pc.equal(table["flipped"], ""))


def of_kernel(table: pa.Table, arch: str, release: str) -> pa.Table:
    """The rows of one kernel."""
    return table.filter(pc.and_(pc.equal(table["arch"], arch), pc.equal(table["release"], release)))


def _gain(table: pa.Table, arch: str, release: str) -> Gain | None:
    rows = of_kernel(table, arch, release)
    refused = rows["tlb_entries"].null_count
    rows = rows.filter(pc.is_valid(rows["gain"]))
    if not rows.num_rows:
        return None
    gains, weights = rows["gain"].to_numpy(), rows["bytes"].to_numpy()
    entries = rows["tlb_entries"].to_numpy()
    order = np.argsort(gains, kind="stable")
    pages = int(rows["pages"].to_numpy().sum())
    small = {name: int(rows[f"small_{name}"].to_numpy().sum()) / pages for name in Small._fields}
    total = float((gains * entries).sum() / entries.sum())
    return Gain(arch, release, gains[order], weights[order], total, refused, small)


def _errors(table: pa.Table) -> dict[str, tuple[list[str], str]]:
    """Errors that are alike but for names and numbers, by what they have in common."""
    wrong = table.filter(pc.is_valid(table["error"]))
    found: dict[str, tuple[dict[str, None], str]] = {}
    for source, error in _pairs(wrong["source"], wrong["error"]):
        kind = re.sub(r"0x[0-9a-f]+|\d+", "#", re.sub(r"'[^']*'", "'...'", error.replace(source, "'...'")))
        found.setdefault(kind, ({}, error))[0][source] = None
    told = {kind: (list(names), first) for kind, (names, first) in found.items()}
    return dict(sorted(told.items(), key=lambda one: -len(one[1][0])))


def _least(good: pa.Table, count: int) -> Iterator[dict[str, Any]]:
    """By architecture, the arrays with the smallest gain on its last release; of the same gain, the largest first."""
    for arch, release in dict(_kinds(good)).items():
        rows = of_kernel(good, arch, release)
        rows = rows.filter(pc.is_valid(rows["gain"]))
        gains, weights = rows["gain"].to_numpy(), rows["bytes"].to_numpy()
        for at in np.lexsort((-weights, gains))[:count].tolist():
            yield {name: rows[name][at].as_py() for name in COLUMNS}


def _flips(table: pa.Table) -> Iterator[Flip]:
    flipped = [one for one in pc.unique(table["flipped"]).to_pylist() if one]
    for arch, release in _kinds(table) if flipped else ():
        rows = of_kernel(table, arch, release)
        base = _entries(rows, "")
        for one in flipped:
            other = _entries(rows, one)
            both = [source for source in other if base.get(source) and other[source]]
            if not other:
                continue
            before, after = sum(base[source] or 0 for source in both), sum(other[source] or 0 for source in both)
            yield Flip(
                arch,
                release,
                one,
                len(other),
                sum(base[source] != other[source] for source in both),
                sum((base[source] or 0) < (other[source] or 0) for source in both),
                after / before if before else 1.0,
                sum((base.get(source) is None) != (other[source] is None) for source in other),
            )


def _entries(rows: pa.Table, flipped: str) -> dict[str, int | None]:
    mine = rows.filter(pc.equal(rows["flipped"], flipped))
    return dict(zip(mine["source"].to_pylist(), mine["tlb_entries"].to_pylist(), strict=True))
