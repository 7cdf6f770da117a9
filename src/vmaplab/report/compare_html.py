# SPDX-License-Identifier: GPL-2.0-only
"""A comparison as one page that needs nothing else: its tables, and the page tables before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

import numpy as np
from markupsafe import Markup

from vmaplab.compare import MOST_SOURCES, Made, Row
from vmaplab.report.page import render
from vmaplab.report.pictures import page_tables
from vmaplab.report.tables import comparison_cells, legend, where_of


def as_html(name: str, found: Mapping[str, list[Row]], boot_args: str, config: Mapping[str, bool]) -> str:
    """The page.

    :param name: what was asked for; ``found``: source -> its rows.
    """
    return render(
        "compare.html",
        name=name,
        sources=[
            {"source": source, "blocks": list(_blocks(source, rows, boot_args, config))}
            for source, rows in list(found.items())[:MOST_SOURCES]
        ],
        more=max(len(found) - MOST_SOURCES, 0),
        legend=" ".join(legend([row for rows in found.values() for row in rows])),
    )


def _blocks(source: str, rows: list[Row], boot_args: str, config: Mapping[str, bool]) -> Iterator[dict[str, object]]:
    for arch, of_arch in groupby(rows, key=lambda row: row.arch):
        block = list(of_arch)
        if block[0].refused and not block[0].release:
            yield {"where": arch, "note": "", "rows": [], "refused": [block[0].refused], "pictures": []}
            continue
        heads, lines = comparison_cells(block)
        yield {
            "where": where_of(source, block, boot_args, config),
            "note": block[0].note,
            "heads": heads,
            "rows": lines,
            "refused": [f"{row.release} refuses: {row.refused}" for row in block if row.refused],
            "pictures": list(_pictures(block)),
        }


def _pictures(block: list[Row]) -> Iterator[tuple[str, Markup]]:
    """One for each different outcome, with the names of all that come to it."""
    told: list[tuple[list[str], Made]] = []
    for row in block:
        if row.made is None:
            continue
        alike = next((names for names, one in told if _is_alike(one, row.made)), None)
        if alike is None:
            told.append(([row.release], row.made))
        else:
            alike.append(row.release)
    for names, made in told:
        title = ", ".join(names)
        yield title, page_tables(made.arch, made.leaves, made.addr, made.pfns, title)


def _is_alike(one: Made, other: Made) -> bool:
    return one.addr == other.addr and np.array_equal(one.leaves, other.leaves)
