# SPDX-License-Identifier: GPL-2.0-only
"""What comparisons with a booted kernel came to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmaplab.report.text import Output, new_table, print_table

if TYPE_CHECKING:
    from vmaplab.check.booted import Booted
    from vmaplab.check.failing import Failing
    from vmaplab.check.together import Together


def word_of(found: Booted) -> str:
    """``same`` or ``DIFFERENT``; ``nothing compared`` where no scenario could be asked for."""
    return "DIFFERENT" if found.difference else "same" if found.scenarios else "nothing compared"


def booted(found: list[Booted], commands: list[str], seed: int) -> None:
    """Print one line per architecture, then how they differ, with the command that shows it."""
    table = new_table("arch", "booted", "object and model", "areas", "scenarios", "calls", "pages", "", left=3)
    table.columns[-1].justify = "left"
    for one in found:
        counts = (one.areas, one.scenarios, one.calls, one.pages)
        name, code = one.kernel.target.arch, one.kernel.code
        table.add_row(name, code, one.against or "its object", *map(str, counts), word_of(one))
    print_table(Output(), table)
    for one in found:
        name = one.kernel.target.arch
        if one.skipped:
            print(f"{name}: {one.skipped} more were drawn and left out: no running kernel is asked for such steps")
        if one.scenarios and not one.pages and not one.difference:
            print(f"{name}: nothing was mapped at the end of any: no page table had an entry to compare")
        if one.without:
            print(f"{name}: held against the model alone: {one.without}")
        if one.unmodelled:
            print(f"{name}: held against its code in the emulator, not the model: {one.unmodelled}")
    for one, command in zip(found, commands, strict=True):
        if one.difference:
            how = "shrunk" if one.alone else "behind those before it, not on a kernel that has just booted"
            where = f" (scenario {one.number} of seed {seed}, {how})" if one.number is not None else ""
            head, _, rest = one.difference.partition("\n")
            print(f"\n{one.kernel.target.arch}: {head}{where}\n{rest}\n  {command}")


def together(found: list[Together], seed: int) -> None:
    """Print what came of calls at the same time, one line per architecture."""
    table = new_table("arch", "booted", "CPUs", "rounds", "calls", "pages", "", left=2)
    table.columns[-1].justify = "left"
    for one in found:
        counts = (one.cpus, one.rounds, one.calls, one.pages)
        verdict = "WRONG" if one.difference else "holds"
        table.add_row(one.kernel.target.arch, one.kernel.code, *map(str, counts), verdict)
    print_table(Output(), table)
    for one in found:
        if one.difference:
            print(f"\n{one.kernel.target.arch}: {one.difference} (round {one.round} of seed {seed})")


def together_as_json(found: list[Together], seed: int) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [
        {
            "arch": one.kernel.target.arch,
            "booted": one.kernel.code,
            "compiler": one.kernel.compiler,
            "cpus": one.cpus,
            "seed": seed,
            "rounds": one.rounds,
            "calls": one.calls,
            "pages": one.pages,
            "verdict": "wrong" if one.difference else "holds",
            "difference": one.difference,
            "round": one.round if one.difference else None,
        }
        for one in found
    ]


def failing(found: list[Failing], commands: list[str], seed: int) -> None:
    """Print what came of allocations that fail, one line per architecture, and the command that shows a difference."""
    table = new_table("arch", "booted", "scenarios", "runs", "failed", "outcomes", "met", "", left=2)
    table.columns[-1].justify = "left"
    for one in found:
        counts = (one.scenarios, one.runs, one.failed, one.outcomes, one.met)
        verdict = "DIFFERENT" if one.difference else "same" if one.runs else "nothing failed"
        table.add_row(one.kernel.target.arch, one.kernel.code, *map(str, counts), verdict)
    print_table(Output(), table)
    for one, command in zip(found, commands, strict=True):
        name = one.kernel.target.arch
        if one.skipped:
            print(f"{name}: {one.skipped} more were drawn and left out: not asked for, or with too many allocations")
        if one.difference:
            head, _, rest = one.difference.partition("\n")
            print(f"\n{name}: {head} (seed {seed})\n{rest}\n  {one.scenario}")
            if command:
                print(f"  {command}")


def failing_as_json(found: list[Failing], commands: list[str], seed: int) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [
        {
            "arch": one.kernel.target.arch,
            "booted": one.kernel.code,
            "compiler": one.kernel.compiler,
            "seed": seed,
            "scenarios": one.scenarios,
            "left_out": one.skipped,
            "runs": one.runs,
            "failed": one.failed,
            "outcomes": one.outcomes,
            "met": one.met,
            "verdict": "different" if one.difference else "same",
            "difference": one.difference,
            "scenario": str(one.scenario or ""),
            "command": command,
        }
        for one, command in zip(found, commands, strict=True)
    ]


def as_json(found: list[Booted], commands: list[str], seed: int) -> list[dict[str, Any]]:
    """The same as plain data; seconds as they were measured."""
    return [
        {
            "arch": one.kernel.target.arch,
            "booted": one.kernel.code,
            "compiler": one.kernel.compiler,
            "against": one.against,
            "built_seconds": round(one.kernel.seconds, 2),
            "boot_seconds": round(one.boot_seconds, 2),
            "boots": one.boots,
            "areas": one.areas,
            "seed": seed,
            "scenarios": one.scenarios,
            "left_out": one.skipped,
            "without_object": one.without,
            "without_model": one.unmodelled,
            "calls": one.calls,
            "pages": one.pages,
            "verdict": word_of(one),
            "difference": one.difference,
            "scenario": str(one.scenario or ""),
            "command": command,
        }
        for one, command in zip(found, commands, strict=True)
    ]
