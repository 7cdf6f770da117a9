# SPDX-License-Identifier: GPL-2.0-only
"""What ``explain`` and ``map --explain`` print: an entry bit by bit, a walk level by level, stores in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vmaplab.explain import INVALID, LEAF, TABLE, Entry, Explainer, Step
from vmaplab.pages.array import size_text
from vmaplab.report.text import Output, address, new_table, print_table

if TYPE_CHECKING:
    from rich.console import Console

    from vmaplab.judge.format import Field
    from vmaplab.trace import Event


def entry(explainer: Explainer, found: Entry) -> None:
    """Print one entry: what it is, then all its bits."""
    console = Output()
    console.print(f"{found.value:#x}, a {found.level} entry on {explainer.arch.name}: {in_words(explainer, found)}")
    console.print()
    _bits(console, explainer, found)


def walk(explainer: Explainer, va: int, steps: Sequence[Step]) -> None:
    """Print the walk of an address: a line a level, then the bits of the last entry."""
    console = Output()
    console.print(f"the walk of {va:#x}, as in {explainer.form.manual}:")
    table = new_table("", "table", "entry at", "entry", left=1)
    table.add_column("", no_wrap=True)
    for step in steps:
        name, said = f"{step.entry.level}[{step.number}]", in_words(explainer, step.entry)
        table.add_row(name, f"{step.table:#x}", f"{step.at:#x}", f"{step.entry.value:#x}", said)
    print_table(console, table)
    if not steps:
        console.print("the root of the tables is in no memory")
        return
    last, phys = steps[-1], explainer.translate(steps, va)
    if phys is not None:
        page = explainer.arch.page_shift
        console.print(f"\n{va:#x} is {phys:#x}: PFN {phys >> page:#x}, byte {phys & ((1 << page) - 1):#x} of it")
    console.print(f"\nthe last of them, {last.entry.level}[{last.number}]:")
    _bits(console, explainer, last.entry)


def in_words(explainer: Explainer, found: Entry) -> str:
    """One entry in half a line."""
    if found.kind == INVALID and found.wrong:
        return f"the MMU does not take it: {found.wrong}"
    if found.kind == INVALID:
        return "empty" if found.value in (0, explainer.arch.pte_none) else "invalid: the MMU does not look at the rest"
    if found.kind == TABLE:
        said = f"table at {found.phys:#x}" + "; not as p?d_populate() makes it" * (not found.same)
    else:
        said = f"{size_text(found.size)} at PFN {found.phys >> explainer.arch.page_shift:#x}"
        said += f", in a {size_text(found.group)} group" if found.group else ""
        said += f"; {found.same}" if found.same else ""
    return said + (f"; the MMU does not take it: {found.wrong}" if found.wrong else "")


def _bits(console: Console, explainer: Explainer, found: Entry) -> None:
    """Print every field of an entry; a hint of the manual last."""
    table = new_table("bits", "name", "value", left=2)
    table.add_column("", no_wrap=True)
    for field in found.fields:
        bits = str(field.high) if field.high == field.low else f"{field.high}:{field.low}"
        table.add_row(bits, field.name, *_said(explainer, found, field))
    print_table(console, table)
    console.print(f"as in {explainer.form.manual}; bit 0 is the lowest")


def _said(explainer: Explainer, found: Entry, field: Field) -> tuple[str, str]:
    """The value of a field, and what it says."""
    value, said = field.of(found.value), found.means(field)
    if field.address and found.kind == LEAF:
        said += f" (PFN {found.phys >> explainer.arch.page_shift:#x})"
    return f"{value:#x}" if field.address or field.high - field.low >= 4 else str(value), said


def entry_as_json(explainer: Explainer, found: Entry) -> dict[str, Any]:
    """One entry, all its fields."""
    return {
        "arch": explainer.arch.name,
        "level": found.level,
        **address("value", found.value),
        "kind": found.kind,
        **(address("phys", found.phys) if found.kind != INVALID else {}),
        **({"pfn": found.phys >> explainer.arch.page_shift, "size": found.size} if found.kind == LEAF else {}),
        "group": found.group or None,
        "same": found.same or None,
        "wrong": found.wrong or None,
        "manual": explainer.form.manual,
        "fields": [
            {
                "high": field.high,
                "low": field.low,
                "name": field.name,
                "value": field.of(found.value),
                "means": _said(explainer, found, field)[1] or None,
            }
            for field in found.fields
        ],
    }


def walk_as_json(explainer: Explainer, va: int, steps: Sequence[Step]) -> dict[str, Any]:
    """The walk of an address."""
    return {
        **address("va", va),
        **address("phys", explainer.translate(steps, va)),
        "steps": [
            {**address("table", step.table), "index": step.number, **address("at", step.at)}
            | {"entry": entry_as_json(explainer, step.entry)}
            for step in steps
        ],
    }


def event_in_words(explainer: Explainer, event: Event, step: Step | None) -> str:
    """What an event did, behind its numbers."""
    if step is not None:
        return f"{step.entry.level}[{step.number}] of {step.va:#x}: {in_words(explainer, step.entry)}"
    if event.kind.startswith("table_"):
        shift = event.value
        name = next((level.name for level in explainer.arch.levels if level.shift == shift), "")
        return f"{name} table"
    return ""
