# SPDX-License-Identifier: GPL-2.0-only
"""Replay a sequence of calls on the model, and see what each of them came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario, text_of
from vmaplab.calls.table import Returns, perform, returns_of
from vmaplab.errors import InputError, Violation, VmapError
from vmaplab.judge.witness import Witness
from vmaplab.machine import Machine
from vmaplab.mapping import Mapping, Part, SetMemory

_BUG = "a BUG() or an oops"


@dataclass(frozen=True)
class Played:
    """One step.

    :param cpu: the CPU that made the call.
    :param value: what the call returned; None for NULL.
    :param why: why it failed, or "".
    :param called: whether it was done: no step is that goes by an address which another did not return.
    :param end: why the replay ended with it, in words; "" if it did not.
    :param leaves: bytes of a leaf -> how many the call mapped.
    :param warnings: the WARN_ON()s that fired.
    :param found: what the call returned in Python: a mapping, parts, a verdict.
    """

    operation: Operation
    cpu: int
    value: int | None
    why: str
    called: bool
    end: str
    leaves: dict[int, int]
    warnings: tuple[str, ...]
    found: Any

    @property
    def bug(self) -> bool:
        """Whether it ended in a BUG() or an oops."""
        return self.end == _BUG

    @property
    def text(self) -> str:
        """What the call printed."""
        return self.found if returns_of(self.operation) is Returns.TEXT and self.found is not None else ""

    @property
    def frames(self) -> list[int]:
        """The page frames that a process gets."""
        return self.found if returns_of(self.operation) is Returns.FRAMES and self.found is not None else []

    @property
    def parts(self) -> list[Part]:
        """Where the bytes of a vread() come from."""
        return self.found if returns_of(self.operation) is Returns.PARTS and self.found is not None else []

    @property
    def verdict(self) -> SetMemory | None:
        """What set_memory_*() would do."""
        return self.found if returns_of(self.operation) is Returns.VERDICT else None


def replay(kernel: Machine, scenario: Scenario) -> list[Played]:
    """Do the steps of ``scenario`` on ``kernel``, one after the other; a BUG() ends it, or what is not defined.

    :raises Violation: naming the step after which a watched kernel is not right.
    """
    played: list[Played] = []
    addresses: list[int] = []
    for step in scenario.steps:
        cpu, seen, returns = kernel.cpu, len(kernel.warnings), returns_of(step)
        found, value, why, end = None, 0, "", ""
        refused: int | None = 0
        try:
            found = perform(kernel, step, addresses[step.ref] if step.ref >= 0 else step.addr)
            value = 0 if found is None else returns.number(found)
            refused = value
        except VmapError as error:
            refused, why = returns.refusal(error), str(error)
            end = _BUG if error.bug else "not defined, or never ends" if error.undefined else ""
        except (InputError, Violation) as error:
            raise type(error)(f"step {len(played)} ({text_of(step)}): {error}") from None
        addr = value if returns is Returns.ADDRESS else 0
        leaves = _leaves(kernel, found) if isinstance(found, Mapping) else {}
        called = step.ref < 0 or addresses[step.ref] != 0
        warnings = tuple(kernel.warnings[seen:])
        played.append(Played(step, cpu, refused, why, called, end, leaves, warnings, found))
        addresses.append(addr)
        if end:
            break
    return played


def finish(witness: Witness, played: list[Played]) -> None:
    """Undo what a watched replay left, and look for what is lost; after a BUG() there is nothing to undo it with.

    :raises Violation: if something is lost.
    """
    if played[-1].end:
        witness.blind = witness.blind or f"what is {played[-1].end}"
    else:
        witness.close()


def _leaves(kernel: Machine, mapping: Mapping) -> dict[int, int]:
    """The leaves of what a call has mapped."""
    found: dict[int, int] = {}
    for size in kernel.leaves(mapping.addr, mapping.addr + mapping.size)["size"].tolist():
        found[size] = found.get(size, 0) + 1
    return found
