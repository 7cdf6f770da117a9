# SPDX-License-Identifier: GPL-2.0-only
"""A review of a series as one page that needs nothing else: tables to sort, pictures of page tables."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from vmaplab.mapping import LEAF_DTYPE
from vmaplab.release import DEFAULT, get
from vmaplab.report.page import render
from vmaplab.report.pictures import page_tables, strip
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
from vmaplab.series.ask import Outcome, stretches_of
from vmaplab.series.found import Remark, Reviewed

MOST_CHANGES = 12


def as_html(found: Reviewed) -> str:
    """The page; everything from mails is text."""
    head, *rows = table(found)
    changed = list(changes(found, found.last))
    return render(
        "series.html",
        found=found,
        base=base_of(found),
        notes=[*found.series.notes, *found.notes],
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
                    strip(before.stretches, f"before: {before.text}"),
                    strip(after.stretches, f"after: {after.text}"),
                ],
                "tables": [("before", _tables(arch, before)), ("after", _tables(arch, after))],
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


def _tables(arch: str, made: Outcome) -> Markup:
    """The page tables of an array; nothing where vmap() refuses it."""
    if made.pfns is None:
        return Markup("")
    leaves = np.zeros(made.entries, dtype=LEAF_DTYPE)
    leaves["size"] = np.repeat(*np.array(made.stretches, dtype=np.uint64).T.astype(np.int64))
    leaves["va"] = np.uint64(made.addr) + np.cumsum(leaves["size"]) - leaves["size"]
    return page_tables(get(DEFAULT).on(arch), leaves, made.addr, made.pfns, made.text)


def _remark(found: Reviewed, remark: Remark) -> dict[str, object]:
    finding = named(found, remark) if remark.finding else None
    pictures = []
    if finding is not None and not finding.lines:
        for name, one in ((finding.ours_name, finding.ours), (finding.other_name, finding.other)):
            pictures.append((name, strip(stretches_of(one), name)))
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
