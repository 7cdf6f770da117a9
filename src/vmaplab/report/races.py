# SPDX-License-Identifier: GPL-2.0-only
"""What ``check --race`` prints, and its JSON."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from vmaplab.race.schedule import schedule_text
from vmaplab.report.text import Output, new_table, print_table

if TYPE_CHECKING:
    from vmaplab.race.campaign import RaceVerdict, Shown


def print_races(verdicts: list[RaceVerdict], commands: list[dict[str, str]], most: int) -> None:
    """Print one line per architecture, then each new finding with the calls that led there and the command that
    repeats it, then what is known.

    :param commands: per verdict, kind of finding -> the command.
    """
    console = Output()
    what = "pairs" if verdicts[0].plan.calls == 2 else "scenarios"
    table = new_table("arch", "object", what, "exhausted", "schedules", "known", "new", "", left=2)
    table.columns[-1].justify = "left"
    for one in verdicts:
        built, known = one.plan.built, len(one.shown) - len(one.new)
        counts = [one.tried, one.exhausted, one.schedules, known, len(one.new)]
        table.add_row(built.target.arch, built.code, *map(str, counts), one.word)
    print_table(console, table)
    for verdict, command in zip(verdicts, commands, strict=True):
        arch = verdict.plan.built.target.arch
        for shown in verdict.new[:most]:
            print(f"\n{arch}: {shown}")
            for who, places in shown.stacks:
                print(f"  {who} in {places[0] if places else '?'}")
                for place in places[1:]:
                    print(f"    called from {place}")
            print(f"  {command[shown.finding.kind]}")
        if len(verdict.new) > most:
            print(f"\n{arch}: and {len(verdict.new) - most} more kinds, of which --json tells")
    known_of: dict[str, list[str]] = {}
    for verdict in verdicts:
        for shown in verdict.shown:
            if shown.known:
                known_of.setdefault(shown.known, []).append(verdict.plan.built.target.arch)
    if known_of:
        print()
    for why, arches in known_of.items():
        print(f"known, {', '.join(dict.fromkeys(arches))}: {why}")
    untried: dict[str, list[str]] = {}
    for verdict in verdicts:
        for what, names in (("not tried", verdict.skipped), ("not exhausted", verdict.unfinished)):
            for why, count in Counter(names.values()).items():
                first = next(name for name, one in names.items() if one == why)
                more = f" and {count - 1} more" if count > 1 else ""
                untried.setdefault(f"{what}: {first}{more}: {why}", []).append(verdict.plan.built.target.arch)
    for text, arches in untried.items():
        print(f"{', '.join(arches)}: {text}")


def races(verdicts: list[RaceVerdict], commands: list[dict[str, str]]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "arch": one.plan.built.target.arch,
            "object": one.plan.built.code,
            "preemptions": one.plan.preemptions,
            "tried": one.tried,
            "exhausted": one.exhausted,
            "schedules": one.schedules,
            "verdict": one.word,
            "findings": [_as_json(shown, command[shown.finding.kind]) for shown in one.shown],
            "not_tried": one.skipped,
            "not_exhausted": one.unfinished,
        }
        for one, command in zip(verdicts, commands, strict=True)
    ]


def _as_json(shown: Shown, command: str) -> dict[str, Any]:
    race = shown.finding.race
    return {
        "kind": shown.finding.kind,
        "text": str(race) if race else shown.finding.told,
        "memory": race.memory if race else None,
        "calls": shown.name,
        "also": shown.also,
        "scenario": str(shown.overlapping),
        "schedule": schedule_text(shown.finding.schedule),
        "switches": len(shown.finding.schedule) - 1,
        "stacks": [{"who": who, "places": places} for who, places in shown.stacks],
        "known": shown.known or None,
        "command": command,
    }
