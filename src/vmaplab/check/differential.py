# SPDX-License-Identifier: GPL-2.0-only
"""Run a scenario on two kernels, the model and the kernel's own code or two objects, and tell the difference."""

from __future__ import annotations

import errno
import re

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.scenario import Scenario
from vmaplab.check.seen import Seen
from vmaplab.check.sides import BUG, UNDEFINED, ModelSide, ObjectSide, Run, Side
from vmaplab.trace import L_STORE, Ints, unsigned

_LINE = re.compile(r"(?<=\.[ch]):\d+")


def difference(scenario: Scenario, ours: Run, theirs: Run, names: tuple[str, str]) -> str:
    """The first difference between two runs of ``scenario``: where, and a line per side; empty if there is none."""

    def told(where: str, mine: str, other: str) -> str:
        width = max(map(len, names)) + 1
        return f"{where}\n  {names[0] + ':':{width}} {mine}\n  {names[1] + ':':{width}} {other}"

    for number, (mine, other) in enumerate(zip(ours.results, theirs.results, strict=False)):
        if (
            mine != other
            or (isinstance(mine, str) and mine not in (BUG, UNDEFINED, "NULL"))
            or _other_bug(mine, ours, theirs)
        ):
            where = f"step {number} ({Scenario((scenario.steps[number],)).short()})"
            return told(where, _number(mine, ours), _number(other, theirs))
    if not np.array_equal(ours.rows, theirs.rows):
        length = min(len(ours.rows), len(theirs.rows))
        unequal = np.flatnonzero((ours.rows[:length] != theirs.rows[:length]).any(axis=1))
        at = int(unequal[0]) if len(unequal) else length
        step = sum(start <= at for start in ours.starts) - 1
        where = f"step {step} ({Scenario((scenario.steps[step],)).short()}), event {at - ours.starts[step]}"
        return told(where, _event(ours, at), _event(theirs, at)) + _bits(
            ours.rows[at : at + 1], theirs.rows[at : at + 1]
        )
    both = bool(ours.fault and theirs.fault)
    if (both or not {BUG, UNDEFINED} & set(ours.results)) and not _same_memory(ours.memory, theirs.memory):
        return told("the page tables after all steps", *_memories(ours.memory, theirs.memory))
    return ""


def _defined(ours: Run, theirs: Run) -> tuple[Run, Run]:
    """Both runs up to where the model's side says that what follows is not defined.

    The object may then go on for a while, or go wrong in any way. Where the object alone says so, it stays.
    """
    at = len(ours.results) - 1
    if ours.results[at:] != [UNDEFINED] or len(theirs.results) <= at:
        return ours, theirs
    start = theirs.starts[at]
    results: list[int | str] = [*theirs.results[:at], UNDEFINED]
    return ours, theirs._replace(results=results, rows=theirs.rows[:start], fault="")


def _other_bug(result: int | str, ours: Run, theirs: Run) -> bool:
    """Whether both sides are the kernel's own code and met different BUG()s, line numbers aside."""
    both = result == BUG and ours.fault and theirs.fault
    return bool(both) and _LINE.sub("", ours.fault) != _LINE.sub("", theirs.fault)


def _bits(mine: Ints, other: Ints) -> str:
    """Which bits of two stores to the same entry differ."""
    if not len(mine) or not len(other) or mine[0, 0] != L_STORE or (mine[0, [0, 1, 3]] != other[0, [0, 1, 3]]).any():
        return ""
    differ = unsigned(int(mine[0, 2] ^ other[0, 2]))
    return "\n  bits that differ: " + ", ".join(str(bit) for bit in range(64) if differ >> bit & 1)


def _memories(mine: NDArray[np.uint8], other: NDArray[np.uint8]) -> tuple[str, str]:
    """The first bytes that differ, in words of 8 bytes."""
    size = max(len(mine), len(other)) + 7 & -8
    words = [np.frombuffer(bytes(memory).ljust(size, b"\0"), dtype="<u8") for memory in (mine, other)]
    at = int(np.flatnonzero(words[0] != words[1])[0])
    return f"{words[0][at]:#x} at byte {8 * at:#x}", f"{words[1][at]:#x}"


def _same_memory(mine: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether two memories hold the same; what is past the end of one is zero."""
    short, long = sorted((mine, other), key=len)
    return np.array_equal(short, long[: len(short)]) and not long[len(short) :].any()


def compare(scenario: Scenario, ours: Side, theirs: Side) -> str:
    """Run ``scenario`` on both sides; the difference in words, empty if there is none."""
    return compared(scenario, ours, theirs)[0]


def compared(scenario: Scenario, ours: Side, theirs: Side) -> tuple[str, int, int, Seen]:
    """As :func:`compare`; if the sides are watched, how many pages an MMU translated, and runs judged in part.

    Last, what their side built.
    """
    words = isinstance(ours, ObjectSide) and isinstance(theirs, ObjectSide)
    their_run = theirs.run(scenario, words)
    runs = ours.run(scenario, words, their_run), their_run
    if isinstance(ours, ModelSide):  # of two trees, both have to say so
        runs = _defined(*runs)
    told = difference(scenario, *runs, (ours.name, theirs.name))
    undefined = int(any(UNDEFINED in one.results for one in runs))
    seen = Seen(undefined=undefined, guided=int(ours.guided), stored=[their_run.stored])
    return told, sum(one.translated for one in runs), sum(one.blind != "" for one in runs), seen


def _number(value: int | str, which: Run) -> str:
    if isinstance(value, str) and which.fault:
        return which.fault
    if isinstance(value, int):
        return f"returns {value:#x}" if value > 0 else f"returns -{errno.errorcode[-value]}" if value else "returns 0"
    return f"returns {value}"


def _event(which: Run, at: int) -> str:
    if at >= len(which.rows):
        return "nothing"
    kind, addr, value, size, text = which.log.events(at, at + 1)[0]
    if text:
        return f"warning: {text}"
    if kind == "store":
        return f"store {value:#x} at {addr:#x}"
    if kind.startswith("flush"):
        return f"{kind} [{addr:#x}, {value:#x})"
    return f"{kind} at {addr:#x}, {size} bytes"
