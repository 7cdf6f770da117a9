# SPDX-License-Identifier: GPL-2.0-only
"""Write the reference of the commands, out of what they say of themselves: a page of the manual, and a man page.

python tools/commands.py docs/commands.md man/vmaplab.1
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from vmaplab.cli import app
from vmaplab.cli.app import EXAMPLES, SECTIONS

_KINDS = {int: "N", float: "X"}
_STATUS = (
    ("0", "good: nothing was found"),
    ("1", "a finding: the kernel would refuse, differs, or breaks an invariant"),
    ("2", "bad usage or input: one line on standard error says what and why, and nothing is half-written"),
    ("130", "interrupted"),
)
_VARIABLES = (
    ("XDG_CACHE_HOME", "where the cache is, in `vmaplab`; default `~/.cache`: see `vmaplab cache`"),
    ("NUMBA_DISABLE_JIT", "1: run everything as plain Python, slowly"),
    ("VMAPLAB_TRACEBACK", "1: a traceback of what was not expected"),
    ("NO_COLOR", "no bold heads of tables on a terminal, no bars"),
)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands, by the words that call them, in the order of the help."""
    for name in [one for names in SECTIONS.values() for one in names] if not path else group.commands:
        command = group.commands[name]
        if hasattr(command, "commands"):
            yield from commands(command, (name,))
        else:
            yield (*path, name), command


def parameters(command: Any) -> Iterator[tuple[str, str, str]]:
    """Of each argument and option: how it is written, what it takes, what it is."""
    for param in command.params:
        if param.param_type_name == "argument":
            yield param.metavar or param.name.upper(), "", param.help or ""
        elif "--help" not in param.opts:
            takes = "" if param.is_flag else param.metavar or _KINDS.get(param.type_descriptor.annotation, "TEXT")
            yield ", ".join([*param.opts, *param.secondary_opts]), takes, param.help or ""


def markdown(group: Any) -> str:
    """The page of the manual."""
    lines = [
        "# Commands",
        "",
        "What every command takes: `vmaplab COMMAND --help` says the same.",
        "",
    ]
    for words, command in commands(group):
        name = " ".join(words)
        lines += [f"## vmaplab {name}", "", _prose(command), "", "| | takes | |", "|---|---|---|"]
        for written, takes, what in parameters(command):
            cells = [_code(written), _code(takes), what.replace("|", "&#124;")]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    lines += ["## Exit status", "", "| | |", "|---|---|", *(f"| {code} | {what} |" for code, what in _STATUS), ""]
    lines += ["## Environment", "", "| | |", "|---|---|", *(f"| `{name}` | {what} |" for name, what in _VARIABLES), ""]
    lines += ["## Sources", "", "```text", *textwrap.wrap(group.epilog or "", 100), "```"]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"<code>{text.replace('|', '&#124;').replace(' ', '&nbsp;')}</code>" if text else ""


def _prose(command: Any) -> str:
    return inspect.cleandoc(command.help or "").replace("\n\n", "\n\n")


def man(group: Any) -> str:
    """The man page."""
    lines = [
        '.TH VMAPLAB 1 "" "vmaplab" "User Commands"',
        ".SH NAME",
        "vmaplab \\- what will vmap() build, is it right, what does it cost?",
    ]
    lines += [".SH SYNOPSIS", ".B vmaplab", ".I COMMAND", "[\\fIOPTIONS\\fR] [\\fIARGUMENTS\\fR]"]
    lines += [".SH DESCRIPTION", _roff(group.help or ""), ".SH COMMANDS"]
    for words, command in commands(group):
        lines += [f".SS {' '.join(words)}", _roff(_prose(command))]
        for written, takes, what in parameters(command):
            lines += [".TP", f"\\fB{_roff(written)}\\fR" + (f" \\fI{_roff(takes)}\\fR" if takes else ""), _roff(what)]
    for title, rows in (("EXIT STATUS", _STATUS), ("ENVIRONMENT", _VARIABLES)):
        lines.append(f".SH {title}")
        for name, what in rows:
            lines += [".TP", f"\\fB{name}\\fR", _roff(what)]
    examples = [_roff(f"vmaplab {words}") for words in EXAMPLES]
    lines += [".SH SOURCES", ".nf", *map(_roff, textwrap.wrap(group.epilog or "", 72)), ".fi"]
    lines += [".SH EXAMPLES", ".nf", *examples, ".fi", ".SH FILES", _roff("share/doc/vmaplab: pages and examples.")]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "")
    text = re.sub(r"(?m)^([.'])", r"\\&\1", text)
    return text.replace("\n\n", "\n.PP\n")


def write(page: Path, manual: Path) -> None:
    """Write both."""
    group = typer.main.get_command(app)
    manual.parent.mkdir(exist_ok=True)
    page.write_text(markdown(group))
    manual.write_text(man(group))


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
