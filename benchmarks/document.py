# SPDX-License-Identifier: GPL-2.0-only
"""What the benchmarks share: Markdown tables, and their place in a document."""

from __future__ import annotations

import sys
from pathlib import Path


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def publish(report: str, mark: str) -> None:
    """Print ``report``; if the command line names a file, put it there, between the comments ``mark`` and ``/mark``."""
    print(report)
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        before, _, rest = path.read_text().partition(f"<!-- {mark} -->\n")
        _, _, after = rest.partition(f"<!-- /{mark} -->")
        path.write_text(f"{before}<!-- {mark} -->\n{report}\n<!-- /{mark} -->{after}")
