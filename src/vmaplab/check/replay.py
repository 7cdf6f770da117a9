"""Replay a sequence of calls on the model, and see what each of them came to."""

from __future__ import annotations

from dataclasses import dataclass

from vmaplab.check.scenario import Scenario
from vmaplab.check.witness import Witness
from vmaplab.errors import InputError, Violation, VmapError
from vmaplab.kernel import Kernel
from vmaplab.vmalloc.operation import Operation, perform, refusal
from vmaplab.vmalloc.set_memory import SetMemory
from vmaplab.vmalloc.vread import Part


@dataclass(frozen=True)
class Played:
    """One step.

    :param cpu: the CPU that made the call.
    :param value: what the call returned; None for NULL.
    :param why: why it failed, or "".
    :param bug: it ended in a BUG(), and so did the replay.
    :param leaves: bytes of a leaf -> how many the call mapped.
    :param warnings: the WARN_ON()s that fired.
    :param verdict: of set_memory.
    :param parts: of vread.
    """

    operation: Operation
    cpu: int
    value: int | None
    why: str
    bug: bool
    leaves: dict[int, int]
    warnings: tuple[str, ...]
    verdict: SetMemory | None
    parts: tuple[Part, ...]


def replay(kernel: Kernel | Witness, scenario: Scenario) -> list[Played]:
    """Do the steps of ``scenario`` on ``kernel``, one after the other; a BUG() ends it.

    :raises Violation: naming the step after which a watched kernel is not right.
    """
    played: list[Played] = []
    addresses: list[int] = []
    for step in scenario.steps:
        cpu, seen = kernel.cpu, len(kernel.warnings)
        addr = addresses[step.ref] if step.ref >= 0 else step.addr
        value, why, bug = None, "", False
        verdict, parts = None, tuple[Part, ...]()
        try:
            if step.call == "set_memory" and addr:
                verdict = kernel.set_memory(addr + step.offset * kernel.arch.page_size, step.pages)
            if step.call == "vread" and (addr or step.ref < 0):
                page = kernel.arch.page_size
                parts = tuple(kernel.vread(addr + step.offset * page, step.pages * page))
            value = perform(kernel, step, addr)
        except VmapError as error:
            value, why, bug = refusal(step, error), str(error), error.bug
        except (InputError, Violation) as error:
            raise type(error)(f"step {len(played)} ({Scenario((step,)).short()}): {error}") from None
        leaves = _leaves(kernel, step, value) if value and not why else {}
        played.append(Played(step, cpu, value, why, bug, leaves, tuple(kernel.warnings[seen:]), verdict, parts))
        addresses.append(value if value and value > 0 and not why else 0)
        if bug:
            break
    return played


def finish(witness: Witness, played: list[Played]) -> None:
    """Undo what a watched replay left, and look for what is lost; after a BUG() there is nothing to undo it with.

    :raises Violation: if something is lost.
    """
    if played[-1].bug:
        witness.blind = witness.blind or "a BUG() or an oops"
    else:
        witness.close()


def _leaves(kernel: Kernel | Witness, step: Operation, addr: int) -> dict[int, int]:
    """The leaves of what a call that returns an address has mapped."""
    if step.call not in ("vmap", "vmalloc", "ioremap", "map_ram", "vmap_pfn"):
        return {}
    pages = len(step.pfns) if step.pfns is not None else step.pages
    found: dict[int, int] = {}
    for size in kernel.leaves(addr, addr + pages * kernel.arch.page_size)["size"].tolist():
        found[size] = found.get(size, 0) + 1
    return found
