# SPDX-License-Identifier: GPL-2.0-only
"""A sweep as one page that needs nothing else: gains and reasons as plots, pictures of what gains least, all arrays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from vmaplab.compare import kernel_for
from vmaplab.errors import InputError, KernelFault, VmapError
from vmaplab.release import BASELINE
from vmaplab.report import plots, sweeps
from vmaplab.report.page import render
from vmaplab.report.pictures import page_tables
from vmaplab.sweep.plan import Plan
from vmaplab.sweep.rows import load_array
from vmaplab.sweep.summary import Summary, of_kernel, plain_rows

MOST_ROWS = 50_000
_HEADS = ("array", "arch", "pages", "runs", "TLB before", "TLB", "gain", *sweeps.WHY)


def as_html(found: Summary, table: pa.Table, name: str, plan: Plan) -> str:
    """The page.

    :param table: the columns of the result that its summary was made of.
    :param name: of the result.
    """
    blocks = []
    least = {arch: list(rows) for arch, rows in groupby(found.least, key=lambda row: row["arch"])}
    for arch, one in groupby(found.gains, key=lambda one: one.arch):
        of_arch, rows = list(one), least.get(arch, [])
        alike = sweeps.is_alike(found, arch)
        blocks.append(
            {
                "arch": arch,
                "rows": [(gain.release, sweeps.gain_cells(gain)) for gain in of_arch],
                "gains": plots.gains(of_arch),
                "reasons": plots.reasons(of_arch),
                "title": sweeps.least_title(found, arch, rows) if rows else "",
                "least": [] if alike else [(row["source"], sweeps.least_cells(row)) for row in rows],
                "pictures": list(_pictures(rows[0], plan)) if rows else [],
            }
        )
    arrays, left_out = _arrays(table, found)
    return render(
        "sweep.html",
        headline=sweeps.headline(found),
        name=name,
        errors=sweeps.error_lines(found),
        nowhere=sweeps.nowhere(found),
        last=", ".join(dict.fromkeys(one[-1] for one in _last(found).values())),
        heads=[*sweeps.GAIN_HEADS, *sweeps.WHY, "refused"],
        blocks=blocks,
        least_heads=sweeps.LEAST_HEADS,
        flip_heads=sweeps.FLIP_HEADS,
        flips=sweeps.flip_rows(found),
        unmoved=sweeps.unmoved(found),
        arrays={"heads": _HEADS, "rows": arrays},
        left_out=left_out,
        legend=sweeps.LEGEND,
    )


def _last(found: Summary) -> dict[str, list[str]]:
    """By architecture, its releases."""
    return {arch: [one.release for one in of_arch] for arch, of_arch in groupby(found.gains, key=lambda one: one.arch)}


def _pictures(row: dict[str, Any], plan: Plan) -> Iterator[tuple[str, Markup]]:
    """What the array that gains least gets, before and after; nothing if it is gone."""
    arch, source = row["arch"], row["source"]
    array = load_array(source, arch, plan.page_size)
    if isinstance(array, str):
        return
    options = plan.options[arch][0]
    for name in dict.fromkeys([BASELINE, row["release"]]):
        built = plan.objects.get(arch, {}).get(name)
        try:
            kernel = kernel_for(arch, name, built, options.boot_args, options.config, plan.total_pages, len(array))
            mapping = kernel.vmap(array)
        except (InputError, VmapError, KernelFault):
            continue
        title = f"{source} on {arch} with {name}: {mapping.cost.tlb_entries} TLB entries"
        yield title, page_tables(kernel.arch, mapping.leaves, mapping.addr, array, title)


def _arrays(table: pa.Table, found: Summary) -> tuple[list[list[Any]], int]:
    """The arrays on each architecture's last release, those that gain least first; and how many are left out."""
    rows: list[list[Any]] = []
    plain = plain_rows(table)
    for arch, releases in _last(found).items():
        mine = of_kernel(plain, arch, releases[-1])
        mine = mine.filter(pc.is_valid(mine["tlb_entries"]))
        pages, entries = mine["pages"].to_numpy(), mine["tlb_entries"].to_numpy()
        gain = mine["gain"].to_numpy(zero_copy_only=False)
        known = np.isfinite(gain)
        before = np.where(known, np.round(np.where(known, gain, 0) * entries), -1).astype(np.int64)
        shares = [np.round(mine[f"small_{reason}"].to_numpy() / pages, 4).tolist() for reason in sweeps.WHY]
        rows += [
            [source, arch, *told[:2], *((None, told[3], None) if told[2] < 0 else told[2:5]), *told[5:]]
            for source, *told in zip(
                mine["source"].to_pylist(),
                pages.tolist(),
                mine["runs"].to_pylist(),
                before.tolist(),
                entries.tolist(),
                np.round(gain, 3).tolist(),
                *shares,
                strict=True,
            )
        ]
    rows.sort(key=lambda row: row[6] if row[6] is not None else 0)
    return rows[:MOST_ROWS], max(len(rows) - MOST_ROWS, 0)
