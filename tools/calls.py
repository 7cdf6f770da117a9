# SPDX-License-Identifier: GPL-2.0-only
"""Print the table of calls, or put it where it belongs: the steps follow from their entries.

python tools/calls.py docs/calls.md
"""

from __future__ import annotations

import sys
from pathlib import Path

from vmaplab.calls.table import STEPS, Call, Step

BEGIN, END = "<!-- calls -->\n", "<!-- /calls -->\n"
_SETTINGS = {"cpu": "kernel.cpu = 2", "tables": "set_limit(3)", "fail": "fail([3, 7])", "memory": "limit_pages(700, 3)"}
_SETTINGS |= {"signal": "set_signal(True)"}


def in_python(step: Step) -> str:
    """How the step is written in Python."""
    if not isinstance(step, Call):
        return _SETTINGS[step.word]
    return f"{step.method}({', '.join(argument.name for argument in step.arguments)})"


def table() -> str:
    """The table, in Markdown."""
    lines = ["| step | call | in Python |", "|---|---|---|"]
    lines += [f"| `{step.example}` | {step.help} | `{in_python(step)}` |" for step in STEPS.values()]
    return "\n".join(lines) + "\n"


def render(text: str) -> str:
    """``text`` with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table() + END + after


if __name__ == "__main__":
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        path.write_text(render(path.read_text()))
    else:
        print(table(), end="")
