# SPDX-License-Identifier: GPL-2.0-only
"""The experiment ``overlap``."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vmaplab.mapping import LEAF_DTYPE
from vmaplab.review.experiments.base import Experiment
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Subject, Table

CALLS = ("vmap", "vunmap", "vmalloc", "ioremap", "a block where a table is")
"""Each of them overlaps each other call that there is (:mod:`vmaplab.race.pairs`)."""


def overlap(subject: Subject, arch: str) -> Iterator[Finding]:
    """Two calls on two CPUs, under all schedules with one preemption, on one architecture of each family."""
    from vmaplab.check.plan import lacked_by
    from vmaplab.object import targets
    from vmaplab.race.campaign import RacePlan, campaign
    from vmaplab.race.schedule import schedule_text
    from vmaplab.release import of_version

    assert subject.overlapping is not None
    family = targets.get(arch).family
    if arch != next(name for name in subject.arches if targets.get(name).family is family):
        return
    built = subject.overlapping(arch)
    plan = RacePlan(built, without=lacked_by(built, of_version(built.version)), calls_of=CALLS)
    nothing = Table(0, np.zeros(0, dtype=LEAF_DTYPE))
    words = [word for word in subject.command if word != "--object"]
    for shown in campaign(plan, None, lambda: None).new:
        lines = [f"{who} in {places[0]}" for who, places in shown.stacks if places]
        schedule = schedule_text(shown.finding.schedule)
        command = ("check", "--race", *words, "--arch", arch, "--scenario", str(shown.overlapping))
        yield Finding(
            "overlap",
            shown.finding.kind,
            str(shown),
            arch,
            np.zeros(0, dtype=np.uint64),
            nothing,
            nothing,
            subject.name,
            "",
            "",
            ((*command, "--schedule", schedule),),
            lines=tuple(lines),
        )


EXPERIMENT = Experiment(
    9,
    "overlap",
    (
        "do calls that overlap on two CPUs come to what they come to one after the other? (tried: vmap(), vunmap(), "
        "vmalloc() and ioremap() beside every other call, all schedules with one preemption, on one architecture of "
        "each family; boot arguments are left out)"
    ),
    overlap,
    of=lambda subject: subject.overlapping is not None,
)
