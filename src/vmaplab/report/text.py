# SPDX-License-Identifier: GPL-2.0-only
"""What all reports share: where they print to, tables without lines, and numbers for programs."""

from __future__ import annotations

import os
from typing import Any

from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table


class Output(Console):
    """Standard output, as wide as the tables need: a narrow terminal wraps lines, it never loses columns."""

    def __init__(self) -> None:
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM") in ("dumb", "unknown")
        super().__init__(highlight=False, markup=False, emoji=False, width=300, color_system=None if plain else "auto")

    def on_broken_pipe(self) -> None:
        """Leave it to the command line: no reader is no finding."""
        raise BrokenPipeError


def print_table(console: Console, table: Table) -> None:
    """Print ``table``; without trailing blanks where the output may end up in a mail."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def new_table(*columns: str, left: int = 1) -> Table:
    """A table without lines, the first ``left`` columns flush left and the others flush right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    return table


def us_text(us: float) -> str:
    """Microseconds with three digits that count."""
    return f"{us:.2f}" if us < 10 else f"{us:.1f}" if us < 100 else f"{us:.0f}"


def pages_text(count: int) -> str:
    """``count`` pages, in words."""
    return count_text(count, "page")


def count_text(count: int, what: str) -> str:
    """``count`` of ``what``, which takes an s."""
    return f"{count} {what}" + "s" * (count != 1)


def address(name: str, value: int | None) -> dict[str, Any]:
    """An address or an entry: as an integer, and as a hex string, since jq 1.6 and JavaScript round integers."""
    return {name: value, f"{name}_hex": None if value is None else f"{value:#x}"}


def leaves(found: NDArray[Any]) -> list[dict[str, Any]]:
    """Leaves, ``LEAF_DTYPE``."""
    return [{**address("va", va), "size": size, "pfn": pfn} for va, size, pfn in found.tolist()]
