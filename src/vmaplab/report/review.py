# SPDX-License-Identifier: GPL-2.0-only
"""A review as text for the terminal or for a mail, and as JSON."""

from __future__ import annotations

import shlex
import textwrap
from itertools import groupby, zip_longest
from typing import Any

from vmaplab import __version__
from vmaplab.pages.array import size_text
from vmaplab.pages.runs import runs_text
from vmaplab.release import DEFAULT, get
from vmaplab.report.text import address, leaves
from vmaplab.review.experiments import described, sizes_text
from vmaplab.review.findings import Finding, Review
from vmaplab.review.subject import Table

LEAF_LINES = 6
"""Lines of a table that are shown."""
MAIL_WIDTH = 72


def as_text(review: Review, width: int = 100) -> str:
    """The review, plain, in lines of at most ``width`` columns where words allow it."""
    remarked = {finding.experiment for finding in review.findings}
    clean = [question for name, question in review.experiments if name not in remarked]
    lines = [f"review of vmap() in {review.subject}", *wrapped(f"on {', '.join(review.arches)}", width), ""]
    for number, finding in enumerate(review.findings, 1):
        lines += [*_finding(number, finding, width), ""]
    if review.unfinished:
        lines.append("not finished:")
        for name, arch, reason in review.unfinished:
            lines += wrapped(f"{name} on {arch}: {reason}", width, "   ")
        lines.append("")
        stopped = {name for name, _, _ in review.unfinished}
        clean = [question for name, question in review.experiments if name not in remarked | stopped]
    if clean:
        lines.append("nothing to remark on:")
        lines += [line for question in clean for line in wrapped(question, width, "   ")]
    return "\n".join(lines).rstrip()


def as_mail(review: Review) -> str:
    """The review as the body of a mail: 72 columns, long commands with a backslash at each line's end."""
    count = len(review.findings)
    intro = (
        f"vmaplab {__version__} reviewed vmap() in {review.subject} by experiment and has "
        + (f"{count} remark{'s' if count != 1 else ''}, each with" if count else "no remark. One would come with")
        + " the smallest array found that shows it, what was built for it, what that is compared with, and the command "
        "that repeats it."
    )
    return "\n".join([*wrapped(intro, MAIL_WIDTH), "", as_text(review, MAIL_WIDTH)])


def as_json(review: Review) -> dict[str, Any]:
    """The review as a dictionary."""
    return {
        "subject": review.subject,
        "arches": list(review.arches),
        "experiments": [{"name": name, "question": question} for name, question in review.experiments],
        "unfinished": [list(one) for one in review.unfinished],
        "findings": [_plain(finding) for finding in review.findings],
    }


def _plain(finding: Finding) -> dict[str, Any]:
    tables = ((finding.ours_name, finding.ours), (finding.other_name, finding.other))
    return {
        "experiment": finding.experiment,
        "headline": finding.headline,
        "arches": list(finding.arches),
        "arch": finding.arch,
        "lines": list(finding.lines),
        "pages": f"pfns:{runs_text(finding.pfns)}" if len(finding.pfns) else None,
        "tables": [
            {
                "of": name,
                **address("addr", table.addr),
                "leaves": leaves(table.leaves),
                "cost": dict(table.cost) if table.cost else None,
            }
            for name, table in (() if finding.lines else tables)
        ],
        "cost": finding.cost,
        "evidence": [list(row) for row in finding.evidence],
        "commands": [_command(words) for words in finding.commands],
    }


def _command(words: tuple[str, ...]) -> str:
    return shlex.join(["vmaplab", *words])


def wrapped(text: str, width: int, indent: str = "", first: str | None = None) -> list[str]:
    """``text`` in lines of ``width`` columns, behind ``indent``; the first one behind ``first``."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _finding(number: int, finding: Finding, width: int) -> list[str]:
    lines = wrapped(f"{finding.experiment}: {finding.headline}", width, "   ", f"{number}. ")
    lines += wrapped(f"on {', '.join(finding.arches)}", width, "   ")
    lines += evidence_of(finding, width)
    for words in finding.commands:
        lines += commands_text(words, width)
    return lines


def evidence_of(finding: Finding, width: int) -> list[str]:
    """The example of a finding, what was built for it beside what that is compared with, and in numbers."""
    lines: list[str] = []
    if finding.lines:
        lines += [part for line in finding.lines for part in wrapped(line, width, "     ", "   ")]
        lines.append("")
    else:
        lines += wrapped(f"e.g. {described(finding.pfns)}, on {finding.arch}:", width, "   ")
        lines += ["", *_side_by_side(finding, width), ""]
    lines += wrapped(finding.cost, width, "   ")
    if finding.evidence:
        lines += ["", *columns(finding.evidence, width=width), ""]
    return lines


def commands_text(words: tuple[str, ...], width: int) -> list[str]:
    """A command that a shell takes as it stands: in a mail, with a backslash at each line's end."""
    whole = f"   {_command(words)}"
    if len(whole) <= width or width > MAIL_WIDTH:
        return [whole]
    lines = ["   vmaplab"]
    for word in map(shlex.quote, words):
        if len(lines[-1]) + len(word) + 3 > width:
            lines[-1] += " \\"
            lines.append("      " + word)
        else:
            lines[-1] += " " + word
    return lines


def _side_by_side(finding: Finding, width: int) -> list[str]:
    page = get(DEFAULT).on(finding.arch).page_size
    left = [finding.ours_name, *_leaves(finding.ours, page)]
    right = [finding.other_name, *_leaves(finding.other, page)]
    if left[1:] == right[1:]:
        return [f"   {line}" for line in [f"{left[0]}, and {right[0]}", *left[1:]]]
    column = max(map(len, left)) + 3
    if column + max(map(len, right)) + 3 > width:  # one below the other
        return [f"   {line}".rstrip() for line in [*left, "", *right]]
    height = max(len(left), len(right))
    left, right = ([*side, *[""] * (height - len(side))] for side in (left, right))
    return [f"   {one:{column}}{other}".rstrip() for one, other in zip(left, right, strict=True)]


def _leaves(table: Table, page: int) -> list[str]:
    """The leaves of a table: address, how many, of which size, first PFN."""
    if not len(table.leaves):
        return ["nothing"]
    stretches: list[list[int]] = []
    for va, size, pfn in table.leaves.tolist():
        last = stretches[-1] if stretches else [0, 0, 0, 0]
        if last[1] == size and last[2] + last[3] * size // page == pfn:
            last[3] += 1
        else:
            stretches.append([va, size, pfn, 1])
    lines = []
    for (size, alone), same in groupby(stretches, key=lambda it: (it[1], it[3] == 1)):
        alike = list(same)
        if alone and len(alike) > 1:  # leaves that do not follow each other
            alike = [[*alike[0][:3], len(alike)]]
        more = ", ..." if alone and alike[0][3] > 1 else ""
        lines += [f"{va:#x}  {count:3} x {size_text(size):>4}  {pfn:#x}{more}" for va, _, pfn, count in alike]
    if len(lines) > LEAF_LINES:
        lines = [*lines[: LEAF_LINES - 1], f"... in all {sizes_text(table)}"]
    return lines


def columns(rows: tuple[tuple[str, ...], ...], left: int = 1, width: int = 1 << 16) -> list[str]:
    """Rows as a table, the first ``left`` columns flush left, the others flush right.

    :param width: where more is needed, the widest cells go over several lines, those flush left first.
    """
    cells = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in cells]
    words = [max((len(word) for cell in column for word in cell.split()), default=1) for column in cells]
    least = [min(sizes) for sizes in zip(widths, words, strict=True)]
    while sum(widths) + 2 * len(widths) + 1 > width and widths != least:
        _, _, widest = max((index < left, size, index) for index, size in enumerate(widths) if size > least[index])
        widths[widest] -= 1  # numbers keep their lines as long as words can give way
    sides = ["<" if index < left else ">" for index in range(len(widths))]
    lines = []
    for row in rows:
        fitted = zip(row, widths, strict=True)
        folded = [[cell] if len(cell) <= size else textwrap.wrap(cell, size) for cell, size in fitted]
        for parts in zip_longest(*folded, fillvalue=""):
            line = "  ".join(f"{part:{side}{size}}" for part, side, size in zip(parts, sides, widths, strict=True))
            lines.append(f"   {line}".rstrip())
    return lines
