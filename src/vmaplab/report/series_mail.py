# SPDX-License-Identifier: GPL-2.0-only
"""A review of a series as the body of a mail: the verdict, then each remark under the lines that it is about."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from unidiff.errors import UnidiffParseError
from unidiff.patch import Hunk, PatchSet

from vmaplab import __version__
from vmaplab.report.review import MAIL_WIDTH, columns, commands_text, evidence_of, wrapped
from vmaplab.report.series import (
    also_lines,
    as_rows,
    booted_lines,
    bytes_of_text,
    changes,
    commands,
    first_of,
    named,
    place,
    sorted_remarks,
    table,
    verdict,
    when_of,
)
from vmaplab.series.found import Remark, Reviewed

AROUND = 7
"""Lines of a hunk that are quoted before a remark."""


def as_mail(found: Reviewed) -> str:
    """The review in 72 columns; quoted lines and commands stay whole."""
    lines = [*wrapped(_intro(found), MAIL_WIDTH), ""]
    if found.refused and found.refused.patch:
        told = f"{found.refused.patch.subject!r} does not apply, and nothing behind it was looked at:"
        lines += [*wrapped(f"{told} {found.refused.error}", MAIL_WIDTH), ""]
    for text in verdict(found):
        lines += wrapped(text, MAIL_WIDTH, "         ", "")
    lines.append("")
    if len(found.steps) > 1:
        lines += [*columns(tuple(table(found)), left=1 + len(found.arches) + found.boots, width=MAIL_WIDTH)]
        for text in booted_lines(found):
            lines += wrapped(text.strip(), MAIL_WIDTH, "   ")
        lines.append("")
    by_patch: dict[int, list[Remark]] = {}
    for remark in sorted_remarks(found):
        if remark.of:
            by_patch.setdefault(remark.of, []).append(remark)
    count = 0
    for number in sorted(by_patch):
        lines += _patch(found, number, by_patch[number], count)
        count += len(by_patch[number])
    lines += _changes(found)
    lines += _rest(found)
    return "\n".join(line.rstrip() for line in lines).rstrip()


def _intro(found: Reviewed) -> str:
    count = len(found.steps) - 1
    where = f"Linux {found.version}, on {', '.join(found.arches)}"
    patches = f"{count} patch{'es' if count != 1 else ''}"
    return (
        f"vmaplab {__version__} applied {patches} to {where}, built mm/vmalloc.c of each step, and ran it in a CPU "
        "emulator. What follows is by experiment; each remark comes with what repeats it."
    )


def _patch(found: Reviewed, number: int, remarks: list[Remark], count: int) -> Iterator[str]:
    """A patch, quoted as far as there is something to say of it."""
    patch = found.steps[number].patch
    assert patch is not None
    yield f"> {patch.subject}"
    hunks = _hunks(patch.diff)
    placed: list[tuple[int, int, Remark]] = []
    for remark in remarks:
        name, _, line = remark.place.partition(":")
        at = next(
            (
                (index, row)
                for index, (file, hunk) in enumerate(hunks)
                if file == name
                for row, one in enumerate(hunk)
                if line and one.target_line_no == int(line)
            ),
            (-1, -1),
        )
        if at[0] >= 0:
            at = at[0], _end(hunks[at[0]][1], at[1])
        placed.append((*at, remark))
    last = (-2, -1)
    for index, row, remark in sorted(placed, key=lambda one: (one[0], one[1])):
        count += 1
        if index >= 0 and (index, row) != last:
            yield from _quoted(hunks[index], row, last[1] if last[0] == index else -1)
        last = (index, row)
        yield ""
        yield from _remark(found, count, remark)
        yield ""


def _end(hunk: Hunk, row: int) -> int:
    """The last line of the statement that goes on from the line ``row``."""
    lines = list(hunk)
    while row + 1 < len(lines) and lines[row].value.rstrip().endswith(("||", "&&", ",", "(")):
        row += 1
    return row


def _hunks(diff: bytes) -> list[tuple[str, Hunk]]:
    try:
        return [(file.path, hunk) for file in PatchSet(diff.decode(errors="replace")) for hunk in file]
    except UnidiffParseError:  # git took it, and reads more forms
        return []


def _quoted(held: tuple[str, Hunk], row: int, before: int) -> Iterator[str]:
    """The lines of a hunk up to ``row``; ``before``: the last one that was quoted of it already."""
    name, hunk = held
    first = max(row - AROUND, before + 1)
    if before < 0:
        head = f"@@ -{hunk.source_start},{hunk.source_length} +{hunk.target_start},{hunk.target_length} @@"
        yield f"> {name}"
        yield f"> {head} {hunk.section_header}".rstrip()
    if first > before + 1:
        yield "> [...]"
    for one in list(hunk)[first : row + 1]:
        yield f"> {one.line_type}{one.value.rstrip()}"


def _remark(found: Reviewed, number: int, remark: Remark) -> Iterator[str]:
    word = "wrong" if remark.kind == "wrong" else {"build": "does not build"}.get(remark.kind, remark.kind)
    yield from wrapped(f"{word}: {remark.headline}", MAIL_WIDTH, "   ", f"{number}. ")
    when = f", {when_of(found, remark)}" if remark.gone or remark.stays else ""
    yield from wrapped(f"on {', '.join(remark.arches)}{when}", MAIL_WIDTH, "   ")
    if remark.finding:
        yield from evidence_of(named(found, remark), MAIL_WIDTH)
    elif remark.wrong:
        for line in remark.wrong.told.splitlines()[1:]:
            yield from wrapped(line.strip(), MAIL_WIDTH, "     ", "   ")
        yield from also_lines(remark, MAIL_WIDTH)
    if remark.booted:
        yield from wrapped(f"booted: {remark.booted}", MAIL_WIDTH, "     ", "   ")
    message = found.series.message_id
    for words in commands(remark):
        if message:
            yield f"   b4 shazam {message}"
        yield from commands_text(words, MAIL_WIDTH)
        message = ""


def _changes(found: Reviewed) -> Iterator[str]:
    changed = list(changes(found, found.last))
    if changed:
        yield ""
        yield "What vmap() builds otherwise behind the last patch:"
        yield ""
        for arch, name, before, after in changed[:6]:
            yield from wrapped(f"{name}, on {arch}:", MAIL_WIDTH, "   ")
            yield from wrapped(f"{before.text} -> {after.text}", MAIL_WIDTH, "      ", "     ")
        if len(changed) > 6:
            yield f"   ... and {len(changed) - 6} more"


def _rest(found: Reviewed) -> Iterator[str]:
    for arch, of_arch in groupby(as_rows(found), key=lambda row: row[1]):
        yield from ("", f"Cost of vmap() on {arch}:", "")
        head = ("", "instructions", "TLB entries", "us on a core")
        rows = ((name, ratio, tlb, us.partition(", ")[0]) for name, _, _, ratio, *_, tlb, us in of_arch)
        yield from columns((head, *rows), width=MAIL_WIDTH)
    for line in bytes_of_text(found):
        yield from ("", *wrapped(line, MAIL_WIDTH, "   ", ""))
    before = [it for it in sorted_remarks(found) if it.state == "as before"]
    if before:
        told = "; ".join(f"{it.kind}: {it.headline}" for it in before)
        yield from ("", *wrapped(f"As before the series: {told}.", MAIL_WIDTH))
    gone = [it for it in sorted_remarks(found) if it.state == "gone"]
    if gone:
        told = "; ".join(f"{it.kind}: {it.headline} (in {place(found, it.gone)})" for it in gone)
        yield from ("", *wrapped(f"Gone: {told}.", MAIL_WIDTH))
    left_out = sorted({name for step in found.steps for name in step.left_out})
    outside = sorted({name for cell in found.cells.values() if cell.step for name in cell.step.outside})
    if names := [*left_out, *outside]:
        yield from ("", *wrapped(f"Not looked at: {first_of(names, 8)}.", MAIL_WIDTH))
