# SPDX-License-Identifier: GPL-2.0-only
"""What a review of a series prints for people: the verdict first, a table of patches, then each remark."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from vmaplab.report.review import columns, commands_text, evidence_of, wrapped
from vmaplab.report.text import us_text

if TYPE_CHECKING:
    from vmaplab.review.findings import Finding
    from vmaplab.series.ask import Measured, Outcome
    from vmaplab.series.found import Cell, Remark, Reviewed

WIDTH = 100
MOST_LINES = 8
ORDER = {"build": 0, "wrong": 1, "booted": 1, "refuses": 1, "unfinished": 2, "warning": 3}
"""What is worst comes first; experiments come behind."""


def patches(found: Reviewed) -> list[str]:
    """What was read and applied, in lines that can be printed before anything is built."""
    count = len(found.series.patches)
    by = found.series.patches[0].author
    title = found.series.cover or _count(count, "patch", "es") + (f" by {by}" if by else "")
    lines = [title, f"on {base_of(found)}"]
    lines += [f"note: {note}" for note in (*found.series.notes, *found.notes)]
    lines.append("")
    for number, step in enumerate(found.steps[1:], start=1):
        assert step.patch is not None
        lines.append(f"{number:3}  {step.patch.subject}")
        if step.left_out:
            names = first_of(step.left_out, 4)
            lines.append(f"     not built{'' if _harmless(step.left_out) else ' without --trust'}: {names}")
    if found.refused:
        assert found.refused.patch is not None
        lines.append(f"  -  {found.refused.patch.subject}")
        lines.append(f"     does not apply: {found.refused.error}")
    return lines


def base_of(found: Reviewed) -> str:
    """What the series was applied to."""
    return f"Linux {found.version}" + (f" ({found.base})" if found.base != found.version else "")


def _harmless(names: Iterable[str]) -> bool:
    """Whether files are documentation or the like, that nobody compiles."""
    return all(name.startswith("Documentation/") or name == "MAINTAINERS" or name.endswith(".rst") for name in names)


def first_of(names: Iterable[str], most: int) -> str:
    """``names``, or the first of them and how many more there are."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def sorted_remarks(found: Reviewed) -> list[Remark]:
    """New ones first, the worst of them first, in the order of the patches."""
    states = ["new", "in between", "not everywhere", "gone", "as before"]
    return sorted(
        found.remarks, key=lambda it: (states.index(it.state), ORDER.get(it.kind, 9), it.first, it.kind, it.headline)
    )


def as_text(found: Reviewed) -> str:
    """Everything behind the list of patches."""
    lines = [*verdict(found), ""]
    if len(found.steps) > 1:
        lines += columns(tuple(table(found)), left=1 + len(found.arches) + found.boots)
        compared = {cell.step.compared for cell in found.cells.values() if cell.step and not cell.step.same}
        if compared:
            lines.append(f"   same: as the tree before it in {min(compared)} scenarios")
        lines += booted_lines(found)
        lines += ["", *details(found)]
    return "\n".join(line.rstrip() for line in lines).rstrip()


def verdict(found: Reviewed) -> list[str]:
    """Three lines: is it right, what does it do, how much of it has run."""
    return [_right(found), _does(found), _ran(found)] if len(found.steps) > 1 else [_right(found)]


def _right(found: Reviewed) -> str:
    wrong = [it for it in found.remarks if it.kind in ("wrong", "booted", "refuses") and it.state == "new"]
    broken = [it for it in found.remarks if it.kind == "build" and it.state == "new"]
    between = [it for it in found.remarks if it.is_wrong and it.state == "in between"]
    told = []
    if found.refused:
        told.append("does not apply as a whole")
    if wrong:
        first = min(it.first for it in wrong)
        told.append(f"WRONG: {_count(len(wrong), 'thing')} that {found.series.patches[first - 1].place} brings first")
    told += [f"{place(found, it.first)} DOES NOT BUILD on {', '.join(it.arches)}" for it in broken]
    for it in between:
        word = "does not build" if it.kind == "build" else "is wrong"
        told.append(f"{place(found, it.first)} {word}, mended in {place(found, it.gone)}")
    looked = [cell.measured for cell in found.cells.values() if cell.number and cell.measured.scenarios]
    if not told:
        told.append("the judges find nothing wrong that was right before" if looked else "nobody knows: no patch ran")
    if found.unfinished:
        told.append(f"{found.unfinished} of {len(found.steps) * len(found.arches) * (1 + found.boots)} not reached")
    scenarios, failing = sum(it.scenarios for it in looked), sum(it.failing for it in looked)
    seen = f" ({scenarios} scenarios, {failing} with a failing allocation)" if looked else ""
    return f"right?   {'; '.join(told)}{seen}"


def _does(found: Reviewed) -> str:
    changed = list(changes(found, found.last))
    if not any(_asked(found, found.last, arch) for arch in found.arches):
        return "does?    nobody knows: the last patch was not run"
    if not changed:
        numbers = range(1, len(found.steps))
        others = [place(found, one) for one in numbers if any(_differs(found, one, arch) for arch in found.arches)]
        more = f"; {', '.join(others)} change what is done otherwise" if others else ""
        cells = (cell for (number, _), cell in found.cells.items() if number == found.last)
        tried = max(len(cell.measured.tables) for cell in cells)
        return f"does?    vmap() builds the same tables for each of {tried} arrays that were tried{more}"
    arch, name, before, after = changed[0]
    more = f", and {len(changed) - 1} more of arrays and architectures" if len(changed) > 1 else ""
    return f"does?    {name} on {arch}: {after.text} instead of {before.text}{more}"


def _asked(found: Reviewed, number: int, arch: str) -> bool:
    cell = found.cells.get((number, arch))
    return bool(cell and cell.measured.tables)


def _differs(found: Reviewed, number: int, arch: str) -> bool:
    cell = found.cells.get((number, arch))
    return bool(cell and cell.step and cell.step.differs)


def _ran(found: Reviewed) -> str:
    ran, there, missing = lines_of(found, range(1, len(found.steps)))
    if not there:
        ran_any = any(cell.step for cell in found.cells.values())
        return f"looked?  {'no changed line has code that is run' if ran_any else 'no patch was looked at'}"
    text = f"looked?  {ran} of {there} changed lines with code ran"
    return text + (f"; not: {first_of(missing, 6)}" if missing else "")


def lines_of(found: Reviewed, numbers: Iterable[int]) -> tuple[int, int, list[str]]:
    """Of the changed lines of some patches, on all architectures together: how many ran, have code, and the others."""
    from vmaplab.check.coverage import spans

    ran = there = 0
    missing = []
    for number in numbers:
        code: dict[str, set[int]] = {}
        did: dict[str, set[int]] = {}
        for arch in found.arches:
            cell = found.cells.get((number, arch))
            if cell and cell.step:
                for name, lines in cell.step.code.items():
                    code.setdefault(name, set()).update(lines)
                for name, lines in cell.step.ran.items():
                    did.setdefault(name, set()).update(lines)
        there += sum(map(len, code.values()))
        ran += sum(len(did.get(name, set()) & has) for name, has in code.items())
        for name, has in code.items():
            for first, last in spans(sorted(has - did.get(name, set()))):
                missing.append(f"{place(found, number)} {name}:{first}" + (f"-{last}" if last > first else ""))
    return ran, there, missing


def changes(found: Reviewed, number: int) -> Iterator[tuple[str, str, Outcome, Outcome]]:
    """Architecture, array, before and after: what vmap() builds otherwise behind a patch than on the base."""
    most: list[tuple[int, tuple[str, str, Outcome, Outcome]]] = []
    for arch in found.arches:
        base, cell = found.cells.get((0, arch)), found.cells.get((number, arch))
        if not base or not cell:
            continue
        for name, after in cell.measured.tables.items():
            before = base.measured.tables.get(name)
            if before and before.text != after.text:
                most.append((abs(before.entries - after.entries), (arch, name, before, after)))
    most.sort(key=lambda one: -one[0])
    yield from (one for _, one in most)


def place(found: Reviewed, number: int) -> str:
    """What a patch is called in its series."""
    return found.series.patches[number - 1].place if number else "the base"


def _count(number: int, word: str, plural: str = "s") -> str:
    return f"{number} {word}{plural if number != 1 else ''}"


def table(found: Reviewed) -> Iterator[tuple[str, ...]]:
    """Patches by architectures: the head, then a row per tree."""
    yield "patch", *found.arches, *["booted"] * found.boots, "lines ran"
    for number in range(len(found.steps)):
        ran, there, _ = lines_of(found, [number])
        row = [word_of(found, number, arch) for arch in found.arches]
        row += [booted_of(found, number)] * found.boots
        yield place(found, number), *row, f"{ran} of {there}" if there else "-" if number else ""


def booted_of(found: Reviewed, number: int) -> str:
    """What came of the kernels of a tree that booted, in some words."""
    cells = [found.cells[number, arch] for arch in found.arches if (number, arch) in found.cells]
    met = [(cell.arch, cell.booted) for cell in cells if cell.booted]
    told = [f"{arch} DIFFERENT" for arch, one in met if one.differs]
    told += [f"{arch} does not come up" for arch, one in met if one.error]
    return ", ".join(told) or ("as its code here" if met else "-")


def booted_lines(found: Reviewed) -> list[str]:
    """What the column ``booted`` says, and what kept a kernel from being asked."""
    met = [(cell, cell.booted) for _, cell in sorted(found.cells.items()) if cell.booted]
    asked = [one for _, one in met if one.scenarios]
    lines = []
    if asked:
        counts = f"{min(one.scenarios for one in asked)} scenarios ({min(one.calls for one in asked)} calls) each"
        lines.append(f"   booted: in QEMU; results, areas and entries as of its code in the emulator, {counts}")
    for cell, one in met:
        if one.error:
            lines.append(f"   {place(found, cell.number)} on {cell.arch} was not booted: {one.error}")
    return lines


def word_of(found: Reviewed, number: int, arch: str) -> str:
    """A cell in some words."""
    cell = found.cells.get((number, arch))
    if cell is None:
        return "not reached"
    if cell.measured.error:
        return "does not build" if not cell.measured.error.startswith("cannot") else "cannot be run"
    shows = [it for it in found.remarks if arch in it.arches and it.first <= number and not 0 < it.gone <= number]
    wrong = sum(it.kind in ("wrong", "booted", "refuses") for it in shows)
    brings = [it for it in shows if it.first == number and not it.is_wrong]
    step = found.steps[number]
    if step.left_out and not step.files:
        return "not built"
    told = [f"{wrong} wrong"] if wrong else []
    if number and cell.step:
        told.append("same code" if cell.step.same else "changed" if cell.step.differs else "same")
        told += [_count(len(brings), "remark")] if brings else []
    elif shows:
        told.append(_count(len(shows) - wrong, "remark"))
    return ", ".join(told) or "right"


def remark_lines(found: Reviewed, number: int, remark: Remark, width: int) -> list[str]:
    """One remark, with the smallest example and the command that shows it."""
    when = when_of(found, remark)
    word = "WRONG" if remark.kind == "wrong" else {"build": "does not build"}.get(remark.kind, remark.kind)
    lines = wrapped(f"{word}: {remark.headline}", width, "   ", f"{number}. ")
    where = f", at {remark.place}" if remark.place else ""
    lines += wrapped(f"{when}, on {', '.join(remark.arches)}{where}", width, "   ")
    if remark.finding:
        lines += evidence_of(named(found, remark), width)
    elif remark.wrong:
        _, _, more = remark.wrong.told.partition("\n")
        lines += [part for line in more.splitlines() for part in wrapped(line.strip(), width, "     ", "   ")]
        lines += also_lines(remark, width)
    if remark.booted:
        lines += wrapped(f"booted: {remark.booted}", width, "     ", "   ")
    for words in commands(remark):
        lines += commands_text(words, width)
    return lines


def when_of(found: Reviewed, remark: Remark) -> str:
    """In which trees it shows, in words."""
    if remark.stays:
        return f"as before, though {place(found, remark.stays)} mends it elsewhere"
    when = f"first in {place(found, remark.first)}" if remark.first else "on the base"
    return when + (f", gone in {place(found, remark.gone)}" if remark.gone else "")


def also_lines(remark: Remark, width: int) -> list[str]:
    """The other scenarios that show the same."""
    if not remark.also:
        return []
    shown = "; ".join(f"'{one.scenario}'" for one in remark.also)
    return wrapped(f"the same in {_count(len(remark.also), 'other call')}: {shown}", width, "   ")


def named(found: Reviewed, remark: Remark) -> Finding:
    """The finding of a remark, with the patch instead of the kernel that it is built of."""
    assert remark.finding is not None
    kernel = f"Linux {found.version}"
    ours = remark.finding.ours_name.replace(kernel, f"with {place(found, remark.of)}")
    return replace(remark.finding, ours_name=ours)


def commands(remark: Remark) -> list[tuple[str, ...]]:
    """What a reader runs in a tree with the patches up to the first that has it."""
    tree = ("--tree", ".", "--arch", remark.arch)
    if remark.wrong and remark.kind == "booted":
        return [("boot", *tree, "--scenario", remark.wrong.scenario)]
    if remark.wrong:
        return [("check", *tree, "--judge", "--scenario", remark.wrong.scenario)]
    if remark.finding:
        return [(*words, "--tree", ".") for words in remark.finding.commands]
    return []


def details(found: Reviewed, width: int = WIDTH) -> list[str]:
    """Everything behind the table: what it is for, each remark, what it costs."""
    lines: list[str] = []
    changed = list(changes(found, found.last))
    if changed:
        lines += ["what vmap() builds otherwise", ""]
        rows = [("array", "arch", "before", "after")]
        rows += [(name, arch, before.text, after.text) for arch, name, before, after in changed[:MOST_LINES]]
        lines += columns(tuple(rows), left=4)
        if len(changed) > MOST_LINES:
            lines.append(f"   ... and {len(changed) - MOST_LINES} more")
        lines.append("")
    shown = [it for it in sorted_remarks(found) if it.of]
    for number, remark in enumerate(shown, start=1):
        lines += [*remark_lines(found, number, remark, width), ""]
    for state in ("gone", "as before"):
        for remark in (it for it in sorted_remarks(found) if it.state == state):
            when = f"gone in {place(found, remark.gone)}: " if remark.gone else "as before: "
            lines += wrapped(f"{when}{remark.kind}: {remark.headline} ({', '.join(remark.arches)})", width, "   ", "")
    lines += differences(found, width)
    lines += ["", *costs(found), "", *bytes_of_text(found)]
    outside = sorted({name for cell in found.cells.values() if cell.step for name in cell.step.outside})
    if outside:
        lines += ["", *wrapped(f"not looked at, because nothing of it is run: {', '.join(outside)}", width)]
    return lines


def differences(found: Reviewed, width: int) -> list[str]:
    """For each patch, how it first differs from the one before it: a change, and not yet a fault."""
    lines: list[str] = []
    for number in range(1, len(found.steps)):
        by_text: dict[str, list[Cell]] = {}
        for arch in found.arches:
            cell = found.cells.get((number, arch))
            if cell and cell.step and cell.step.differs:
                by_text.setdefault(cell.step.differs.partition("\n")[0], []).append(cell)
        for text, cells in by_text.items():
            where = ", ".join(cell.arch for cell in cells)
            step = cells[0].step
            assert step is not None
            lines += ["", *wrapped(f"{place(found, number)} changes, e.g. {text} (on {where})", width, "   ", "")]
            lines += [f"   {line.strip()}" for line in step.differs.splitlines()[1:3]]
            lines += wrapped(f"{step.scenario}", width, "   ")
    return lines


def costs(found: Reviewed) -> list[str]:
    """Counters before and after, per architecture and array."""
    rows = as_rows(found)
    if rows and not any("->" in cell for row in rows for cell in row):
        return [f"vmap() costs the same as before, in every counter, for each of {_count(len(rows), 'array')}"]
    head = (
        "cost of vmap(), base -> series",
        "arch",
        "instructions",
        "",
        "stores",
        "barriers",
        "tables",
        "TLB entries",
        "us on a core",
    )
    return columns((head, *rows), left=2) if rows else []


def as_rows(found: Reviewed) -> list[tuple[str, ...]]:
    """Array, architecture, instructions and their ratio, then the other :data:`COSTS`, each before and after."""
    rows: list[tuple[str, ...]] = []
    for arch in found.arches:
        base, last = found.cells.get((0, arch)), found.cells.get((found.last, arch))
        if base and last and not last.measured.error:
            rows += list(_cost_rows(arch, base.measured, last.measured))
    return rows


def _cost_rows(arch: str, base: Measured, last: Measured) -> Iterator[tuple[str, ...]]:
    names = [name for name in base.tables if name.startswith(("heap", "single", "one run", "blocks", "one page"))]
    for name in names[:8]:
        before, after = base.tables[name].cost, last.tables[name].cost if name in last.tables else None
        if before is None or after is None:
            continue
        ratio = f"{(after.instructions or 0) / max(before.instructions or 1, 1):.2f}x"
        pairs = [(getattr(before, it), getattr(after, it)) for it in COSTS]
        cells = [str(one) if one == other else f"{one} -> {other}" for one, other in pairs]
        ours, theirs = base.tables[name].us, last.tables[name].us
        times = [f"{core} {_times(ours[core], theirs[core])}" for core in ours if core in theirs]
        yield name, arch, cells[0], ratio, *cells[1:], ", ".join(times)


def _times(before: float, after: float) -> str:
    told = us_text(before), us_text(after)
    return told[0] if told[0] == told[1] else " -> ".join(told)


COSTS = ("instructions", "stores", "barriers", "tables_allocated", "tlb_entries")


def bytes_of_text(found: Reviewed) -> list[str]:
    """Functions that grow, shrink, come or go, per architecture, and the sum."""
    lines = []
    for arch in found.arches:
        base, last = found.cells.get((0, arch)), found.cells.get((found.last, arch))
        if not base or not last or last.measured.error:
            continue
        grown = grown_by(base.measured, last.measured)
        if grown:
            told = ", ".join(f"{name} {size:+}" for name, size in grown[:6])
            more = f", {len(grown) - 6} more" if len(grown) > 6 else ""
            lines.append(f"text on {arch}: {sum(size for _, size in grown):+} bytes: {told}{more}")
    return lines


def grown_by(base: Measured, last: Measured) -> list[tuple[str, int]]:
    """Functions and by how many bytes each has grown, as ``bloat-o-meter`` has it: the largest change first."""
    names = base.sizes.keys() | last.sizes.keys()
    grown = [(name, last.sizes.get(name, 0) - base.sizes.get(name, 0)) for name in names]
    return sorted(((name, size) for name, size in grown if size), key=lambda one: (-abs(one[1]), one[0]))


def command_line(words: Iterable[str]) -> str:
    """As a shell takes it."""
    return shlex.join(["vmaplab", *words])


def as_json(found: Reviewed) -> dict[str, Any]:
    """For programs."""
    return {
        "series": found.series.title,
        "message_id": found.series.message_id,
        "base": found.base,
        "kernel": found.version,
        "verdict": verdict(found),
        "refused": {"patch": found.refused.patch.subject, "error": found.refused.error}
        if found.refused and found.refused.patch
        else None,
        "unfinished": found.unfinished,
        "patches": [
            {
                "number": number,
                "place": place(found, number),
                "subject": step.patch.subject if step.patch else "",
                "message_id": step.patch.message_id if step.patch else "",
                "files": list(step.files),
                "left_out": list(step.left_out),
                "cells": {arch: _cell_json(found, number, arch) for arch in found.arches},
            }
            for number, step in enumerate(found.steps)
        ],
        "remarks": [
            {
                "kind": it.kind,
                "headline": it.headline,
                "state": it.state,
                "first": it.first,
                "gone": it.gone,
                "stays": it.stays,
                "arches": list(it.arches),
                "place": it.place,
                "scenario": it.wrong.scenario if it.wrong else None,
                "booted": it.booted or None,
                "commands": [command_line(words) for words in commands(it)],
            }
            for it in sorted_remarks(found)
        ],
    }


def _cell_json(found: Reviewed, number: int, arch: str) -> dict[str, Any] | None:
    cell = found.cells.get((number, arch))
    if cell is None:
        return None
    one, step = cell.measured, cell.step
    return {
        "word": word_of(found, number, arch),
        "error": one.error,
        "warnings": list(one.warnings),
        "scenarios": one.scenarios,
        "failing": one.failing,
        "tables": {name: {"leaves": it.text, **(dict(it.cost) if it.cost else {})} for name, it in one.tables.items()},
        "differs": step.differs if step else "",
        "scenario": step.scenario if step else "",
        "lines": {name: list(lines) for name, lines in step.code.items()} if step else {},
        "ran": {name: list(lines) for name, lines in step.ran.items()} if step else {},
        "outside": list(step.outside) if step else [],
        "booted": asdict(cell.booted) if cell.booted else None,
    }
