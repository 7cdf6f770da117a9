# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab check --race``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from vmaplab.cli.options import print_json
from vmaplab.errors import InputError
from vmaplab.report.progress import progress

if TYPE_CHECKING:
    from vmaplab.object.build import Built

MOST_CALLS, MOST_PREEMPTIONS = 8, 4


def race(
    built: Sequence[Built],
    options: list[str],
    scenario: str | None,
    schedule: str | None,
    preemptions: int | None,
    calls: int,
    cases: int | None,
    seed: int | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Let calls overlap, and print what came of it; status 1 if there is a finding that is not known."""
    from vmaplab.check.plan import lacked_by
    from vmaplab.race.campaign import MOST, RacePlan, campaign, one
    from vmaplab.race.hooks import CPUS
    from vmaplab.race.overlap import WORKERS
    from vmaplab.race.pairs import parse_overlapping
    from vmaplab.race.schedule import parse_schedule, schedule_text
    from vmaplab.release import of_version
    from vmaplab.report import races

    if calls and not 2 <= calls <= MOST_CALLS:
        raise InputError(f"--race lets 2 to {MOST_CALLS} calls overlap, not {calls}")
    if preemptions is not None and not 0 <= preemptions <= MOST_PREEMPTIONS:
        raise InputError(f"--preemptions goes from 0 to {MOST_PREEMPTIONS}")
    if schedule and scenario is None:
        raise InputError("--schedule is of one scenario; say --scenario 'SETUP || CALLS OF CPU 0 || CALLS OF CPU 1'")
    if scenario is not None and (calls or cases or seed is not None):
        raise InputError("--calls, --cases and --seed draw calls, and --scenario gives them; leave out one")
    if seed is not None and scenario is None and calls < 3 and not cases:
        raise InputError("--seed says which pairs --cases draws, or which scenarios --calls; add one of them")
    if preemptions is not None and (calls > 2 or schedule):
        raise InputError("--preemptions is for all schedules of given calls; leave out --calls or --schedule")
    given = None if scenario is None else parse_overlapping(scenario)
    order = None if schedule is None else parse_schedule(schedule)
    if given and order and max(turn.cpu for turn in order) >= min(len(given.bodies) + WORKERS, CPUS):
        raise InputError(
            f"schedule '{schedule}': the scenario has calls for {len(given.bodies)} CPUs, from 0 on, and works for "
            f"{min(WORKERS, CPUS - len(given.bodies))} more"
        )
    most = 1 if preemptions is None else preemptions
    plans = []
    for ours in built:
        without = lacked_by(ours, of_version(ours.version))
        plans.append(RacePlan(ours, most, calls or 2, cases or 0, 1 if seed is None else seed, without))
    if given:
        verdicts = [one(plan, given, order) for plan in plans]
    else:
        with progress("letting calls overlap", sum(len(plan.work) for plan in plans)) as advance:
            verdicts = [campaign(plan, jobs, advance) for plan in plans]
    words = ["vmaplab", "check", "--race", *options]
    commands = [
        {
            shown.finding.kind: shlex.join(
                [
                    *words,
                    "--arch",
                    verdict.plan.built.target.arch,
                    "--scenario",
                    str(shown.overlapping),
                    "--schedule",
                    schedule_text(shown.finding.schedule),
                ]
            )
            for shown in verdict.shown
        }
        for verdict in verdicts
    ]
    if as_json:
        print_json("race", races.races(verdicts, commands))
    else:
        races.print_races(verdicts, commands, MOST)
    if any(verdict.new for verdict in verdicts):
        raise typer.Exit(1)
