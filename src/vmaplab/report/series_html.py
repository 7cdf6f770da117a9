# SPDX-License-Identifier: GPL-2.0-only
"""A review of a series as one page that needs nothing else: tables to sort, pictures of page tables."""

from __future__ import annotations

from collections.abc import Iterable

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vmaplab import __version__
from vmaplab.pages.array import size_text
from vmaplab.report.review import evidence_of
from vmaplab.report.series import (
    also_lines,
    as_rows,
    base_of,
    booted_lines,
    bytes_of_text,
    changes,
    command_line,
    commands,
    differences,
    named,
    place,
    sorted_remarks,
    table,
    verdict,
    when_of,
)
from vmaplab.series.ask import stretches_of
from vmaplab.series.found import Remark, Reviewed

WIDE, HIGH = 640, 26
MOST_MARKS = 160
"""Leaves that a picture draws one by one; more of a size that follow each other are one area, with their number."""
MOST_CHANGES = 12
TONES = (32 << 10, 1 << 20, 256 << 20)
"""Up to which sizes leaves have which shade: pages, groups of PTEs, PMD blocks; what is larger has the last one."""


def as_html(found: Reviewed) -> str:
    """The page; everything from mails is text."""
    environment = Environment(
        loader=PackageLoader("vmaplab", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    head, *rows = table(found)
    changed = list(changes(found, found.last))
    return environment.get_template("series.html").render(
        found=found,
        base=base_of(found),
        notes=[*found.series.notes, *found.notes],
        version=__version__,
        verdict=[text.split(maxsplit=1) for text in verdict(found)],
        wrong=found.found or found.refused is not None,
        patches=[(place(found, number), step) for number, step in enumerate(found.steps) if step.patch],
        head=head,
        rows=rows,
        booted=booted_lines(found),
        changes=[
            {
                "array": name,
                "arch": arch,
                "before": before,
                "after": after,
                "pictures": [
                    picture(before.stretches, f"before: {before.text}"),
                    picture(after.stretches, f"after: {after.text}"),
                ],
            }
            for arch, name, before, after in changed[:MOST_CHANGES]
        ],
        more=max(len(changed) - MOST_CHANGES, 0),
        remarks=[_remark(found, one) for one in sorted_remarks(found)],
        differences="\n".join(differences(found, 100)).strip(),
        costs=as_rows(found),
        text=bytes_of_text(found),
        outside=sorted({name for cell in found.cells.values() if cell.step for name in cell.step.outside}),
    )


def _remark(found: Reviewed, remark: Remark) -> dict[str, object]:
    finding = named(found, remark) if remark.finding else None
    pictures = []
    if finding is not None and not finding.lines:
        for name, one in ((finding.ours_name, finding.ours), (finding.other_name, finding.other)):
            pictures.append((name, picture(stretches_of(one), name)))
    text = ""
    if remark.wrong:
        booted = [f"booted: {remark.booted}"] if remark.booted else []
        text = "\n".join([remark.wrong.told, *also_lines(remark, 100), *booted])
    elif finding:
        text = "\n".join(evidence_of(finding, 100))
    return {
        "it": remark,
        "when": when_of(found, remark),
        "text": text,
        "pictures": pictures,
        "commands": [command_line(words) for words in commands(remark)],
    }


def picture(stretches: Iterable[tuple[int, int]], title: str) -> Markup:
    """The leaves of an area in the order of their addresses, to scale: a larger leaf is darker."""
    held = list(stretches)
    total = sum(size * count for size, count in held)
    if not total:
        return Markup("")
    parts, at = [], 0.0
    whole = sum(count for _, count in held) <= MOST_MARKS
    for size, count in held:
        each, number = (size, count) if whole else (size * count, 1)
        for _ in range(number):
            wide = each / total * WIDE
            tone = next((tone for tone, most in enumerate(TONES, start=1) if size < most), len(TONES) + 1)
            label = f"{size_text(size)}" if whole or count == 1 else f"{count} x {size_text(size)}"
            parts.append(
                Markup('<rect x="{:.2f}" y="0" width="{:.2f}" height="{}" class="t{}"><title>{}</title></rect>').format(
                    at, max(wide - (0.6 if wide > 2 else 0), 0.3), HIGH, tone, label
                )
            )
            if wide > 7 * len(label) + 6:
                parts.append(
                    Markup('<text x="{:.2f}" y="{}" class="{}">{}</text>').format(
                        at + wide / 2, HIGH / 2 + 4, "d" if tone > 2 else "", label
                    )
                )
            at += wide
    head = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">').format(WIDE, HIGH, title)
    return head + Markup("").join(parts) + Markup("</svg>")
