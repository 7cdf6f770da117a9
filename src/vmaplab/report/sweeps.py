# SPDX-License-Identifier: GPL-2.0-only
"""What ``sweep`` prints: gains by release, why pages stay small, the arrays that gain least, flips, errors."""

from __future__ import annotations

from itertools import groupby
from textwrap import fill
from typing import Any

import numpy as np

from vmaplab.errors import plain
from vmaplab.release import BASELINE
from vmaplab.report.text import Output, new_table, print_table
from vmaplab.sweep.summary import Flip, Gain, Summary
from vmaplab.why import Small

QUANTILES = (0.05, 0.5, 0.95)
GAIN_HEADS = ("in all", "mean", "p5", "median", "p95")
WHY = Small._fields
"""The reasons, which are the heads of their columns."""
LEGEND = (
    f"gain: TLB entries of {BASELINE} for the same pages, divided by this release's; in all: of all arrays together; "
    "mean and quantiles: of arrays, weighted by their bytes.",
    "Pages that stay base pages, of all pages: order: their run of contiguous frames is too short; alignment: no "
    "aligned block of it is at an aligned address; stop: they would fill a larger leaf, but the scan has "
    "stopped at a single page before them; kernel: they would, and this kernel does not make it.",
)


def sweep(found: Summary, name: str) -> None:
    """Print a summary.

    :param name: of the result.
    """
    console = Output()
    console.print(f"{headline(found)}: {plain(name)}\n")
    for arch, gains in groupby(found.gains, key=lambda one: one.arch):
        table = new_table(arch, *GAIN_HEADS, *WHY, "refused")
        for gain in gains:
            table.add_row(gain.release, *gain_cells(gain))
        print_table(console, table)
        console.print()
    for line in nowhere(found):
        console.print(f"{line}\n")
    for arch, of_arch in groupby(found.least, key=lambda row: row["arch"]):
        rows = list(of_arch)
        console.print(least_title(found, arch, rows))
        if not is_alike(found, arch):
            table = new_table("array", *LEAST_HEADS)
            table.columns[-1].justify = "left"
            for row in rows:
                table.add_row(plain(row["source"]), *least_cells(row))
            print_table(console, table)
        console.print()
    if lines := flip_rows(found):
        console.print("What matters for these arrays, one thing flipped at a time:")
        table = new_table(*FLIP_HEADS, left=3)
        for cells in lines:
            table.add_row(*cells)
        print_table(console, table)
    for line in unmoved(found):
        console.print(fill(line, 105))
    if found.flips:
        console.print()
    for line in error_lines(found):
        console.print(line)
    if found.errors:
        console.print()
    for line in LEGEND if found.gains else ():
        console.print(fill(line, 105))


def headline(found: Summary) -> str:
    """How much was mapped."""
    arrays = f"{found.arrays} page array{'s' * (found.arrays != 1)}"
    rows = f"{found.rows} row{'s' * (found.rows != 1)}"
    failed = f"; {found.arrays - found.mapped} of them no kernel maps" if found.mapped < found.arrays else ""
    return f"{arrays} of {bytes_text(found.bytes)}, {rows}{failed}"


def nowhere(found: Summary) -> list[str]:
    """A line for each architecture that maps none of the arrays."""
    there = {one.arch for one in found.gains}
    return [f"{arch} maps none of them." for arch in found.arches if arch not in there]


def bytes_text(size: int) -> str:
    """A number of bytes with three digits that count."""
    for unit, shift in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.3g} {unit}"
    return f"{size} bytes"


def share_text(share: float) -> str:
    """A share in percent; a small one is not nothing."""
    return "-" if not share else "<0.1%" if share < 0.001 else f"{100 * share:.1f}%"


def gain_cells(gain: Gain) -> list[str]:
    """The cells of a release, as :data:`GAIN_HEADS`, the reasons and what is refused."""
    numbers = [gain.total, gain.mean, *(gain.quantile(share) for share in QUANTILES)]
    shares = [share_text(gain.small[reason]) for reason in WHY]
    return [*(f"{one:.1f}x" for one in numbers), *shares, str(gain.refused or "-")]


_TELLING = 0.01
"""Share of its pages from which on a reason says why an array gains little."""
LEAST_HEADS = ("pages", "runs", "gain", *WHY, "why")


def least_title(found: Summary, arch: str, rows: list[dict[str, Any]]) -> str:
    """What stands above the arrays of an architecture that gain least."""
    release = rows[0]["release"]
    if is_alike(found, arch):
        return f"On {arch} all gain {rows[0]['gain']:.2f}x with {release}."
    alike = int((_last(found, arch).gains == rows[0]["gain"]).sum())
    more = f" ({alike} gain {rows[0]['gain']:.2f}x, the largest of them first)" if alike > len(rows) else ""
    return f"The {len(rows)} that gain least on {arch} with {release}{more}:"


def is_alike(found: Summary, arch: str) -> bool:
    """Whether all arrays gain the same on an architecture."""
    last = _last(found, arch)
    return bool(last.gains[0] == last.gains[-1])


def _last(found: Summary, arch: str) -> Gain:
    return [one for one in found.gains if one.arch == arch][-1]


def least_cells(row: dict[str, Any]) -> list[str]:
    """The cells of one of the arrays that gain least."""
    shares = {reason: row[f"small_{reason}"] / row["pages"] for reason in WHY}
    most = max(shares, key=lambda reason: shares[reason])
    return [
        str(row["pages"]),
        str(row["runs"]),
        f"{row['gain']:.2f}x",
        *(share_text(one) for one in shares.values()),
        most if shares[most] >= _TELLING else "-",
    ]


FLIP_HEADS = ("flipped", "arch", "release", "arrays changed", "TLB entries", "more for", "refused")


def flip_rows(found: Summary) -> list[list[str]]:
    """The flips that matter, as :data:`FLIP_HEADS`; what moves most first."""
    matters = sorted((one for one in found.flips if _matters(one)), key=lambda one: -abs(np.log(one.total)))
    return [
        [
            one.flipped,
            one.arch,
            one.release,
            f"{one.changed} of {one.arrays}",
            f"x {one.total:.2f}",
            str(one.worse),
            str(one.refused),
        ]
        for one in matters
    ]


def _matters(flip: Flip) -> bool:
    return bool(flip.changed or flip.refused)


def unmoved(found: Summary) -> list[str]:
    """Lines on the flips that change nothing, on some kernels or on all."""
    moving = {one.flipped for one in found.flips if _matters(one)}
    lines = []
    for flipped in dict.fromkeys(one.flipped for one in found.flips if one.flipped in moving):
        mine = [one for one in found.flips if one.flipped == flipped]
        still = {arch: [one.release for one in mine if one.arch == arch and not _matters(one)] for arch in found.arches}
        told = [
            f"{arch} with {'any' if len(names) == sum(one.arch == arch for one in mine) else ', '.join(names)}"
            for arch, names in still.items()
            if names
        ]
        if told:
            lines.append(f"{flipped} changes nothing on {'; '.join(told)}.")
    none = sorted({one.flipped for one in found.flips} - moving)
    return [*lines, f"Changes nothing for any of them: {', '.join(none)}."] if none else lines


def error_lines(found: Summary) -> list[str]:
    """One line for each kind of error."""
    return [
        f"{len(names)} array{'s' * (len(names) != 1)}: {plain(first)}{_others(names)}"
        for names, first in found.errors.values()
    ]


def _others(names: list[str]) -> str:
    """The next few of those that have the same error."""
    if len(names) == 1:
        return ""
    some = ", ".join(plain(name) for name in names[1:4])
    return f" (so {some}{', ...' if len(names) > 4 else ''})"


def as_json(found: Summary, name: str) -> dict[str, Any]:
    """A summary as a dictionary."""
    return {
        "result": name,
        "arrays": found.arrays,
        "mapped": found.mapped,
        "rows": found.rows,
        "bytes": found.bytes,
        "gains": [
            {
                "arch": one.arch,
                "release": one.release,
                "in_all": one.total,
                "mean": one.mean,
                **{f"p{round(100 * share)}": one.quantile(share) for share in QUANTILES},
                "refused": one.refused,
                "small": one.small,
            }
            for one in found.gains
        ],
        "least": list(found.least),
        "flips": [dict(vars(one)) for one in found.flips],
        "errors": [{"arrays": len(names), "error": first, "sources": names} for names, first in found.errors.values()],
    }
