# SPDX-License-Identifier: GPL-2.0-only
"""Who runs when, and as text: ``0:300/20,1,0``."""

from __future__ import annotations

import re
from typing import NamedTuple

from vmaplab.errors import InputError


class Turn(NamedTuple):
    """What one CPU executes before another goes on.

    :param cpu: its number.
    :param instructions: how many, or -1 for all of its calls.
    :param late: which of them store what the others see only once this CPU goes on, counted from 0; a store that a
        barrier or a release follows is seen in any case.
    """

    cpu: int
    instructions: int = -1
    late: tuple[int, ...] = ()


Schedule = tuple[Turn, ...]
"""Who runs when. Who is not named, or has to wait, runs when the rest is over."""


def schedule_text(schedule: Schedule) -> str:
    """A schedule as :func:`parse_schedule` reads it."""
    return ",".join(
        f"{cpu}:{count}" + "".join(f"/{at}" for at in late) if count >= 0 else str(cpu) for cpu, count, late in schedule
    )


def parse_schedule(text: str) -> Schedule:
    """``0:300/20,1,0``: CPU 0 executes 300 instructions, CPU 1 its calls, CPU 0 the rest; what instruction 20, counted
    from 0, stored is not seen by CPU 1.

    :raises InputError: if it does not look like that.
    """
    parts = [re.fullmatch(r"\s*(\d+)(?::(\d+)((?:/\d+)*))?\s*", part) for part in text.split(",")]
    found = [
        Turn(int(part[1]), int(part[2] or -1), tuple(map(int, (part[3] or "").split("/")[1:])))
        for part in parts
        if part
    ]
    if len(found) < len(parts):
        raise InputError(
            f"schedule '{text}': write CPUs with commas, each with how many instructions it executes: 0:300,1,0"
        )
    for _, count, late in found:
        if behind := [at for at in late if at >= count]:
            raise InputError(f"schedule '{text}': instruction {behind[0]} comes behind the {count} of its turn")
    return tuple(found)
