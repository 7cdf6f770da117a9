# SPDX-License-Identifier: GPL-2.0-only
"""The two sides of a comparison: what runs a scenario, a model or the kernel's own code, and what came of it."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.calls.effects import Changes, Maps
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario, text_of
from vmaplab.calls.table import Returns, call_of, effect_of, outcome, returns_of
from vmaplab.check.seen import Stored, stored
from vmaplab.errors import BREAKS, InputError, KernelFault, Undefined, Unprovided, Violation, VmapError
from vmaplab.judge import FORMATS
from vmaplab.judge.witness import Witness
from vmaplab.kernel import Kernel
from vmaplab.machine import Machine
from vmaplab.object.build import Built
from vmaplab.object.kernel import ObjectKernel
from vmaplab.pfn import NULL_PFN
from vmaplab.release import Release
from vmaplab.trace import L_SYNC, L_WARN, EventLog, Ints

EVERY = 16
"""Calls that a watched run judges together."""
BUG = "BUG()"
UNDEFINED = "goes through a leaf"
"""What a call came to that takes a page which a leaf maps for a table: from there on there is nothing to compare."""
_DEAD = re.compile(r"^BUG at|(?:reads from|writes to) 0x[0-9a-f]{1,3}, where no memory is$")
"""A BUG(), or a NULL pointer that was followed."""
MOST_ENTRIES = 13
"""log2 of the entries of the largest PTE table (arm64-64k)."""
_PLACE = re.compile(r"(?<=\.[ch]):\d+ \w+")
"""Line and function of a warning: it is the same one where another tree has it."""


class Run(NamedTuple):
    """What a scenario did to one kernel.

    :param results: per step: an address or another number, ``-errno``, "NULL" or "BUG()".
    :param starts: per step: where its rows begin.
    :param rows: what happened, as in :class:`~vmaplab.mapping.EventLog`; warnings as numbers of their kind.
    :param log: the same, in words.
    :param memory: the table memory from the PGD on.
    :param fault: what went wrong beyond that: a fault of the kernel's code, or an invariant that does not hold.
    :param translated: pages that an MMU translated; of a watched run, as the next.
    :param allocations: how many the steps tried.
    :param blind: why not all steps could be judged.
    :param areas: addresses of the areas that it took, where the object tells them.
    :param null: the PFN whose ``struct page`` would be at address 0, in the object: a NULL page.
    :param arch: the architecture; ``root``: physical address of the PGD.
    """

    results: list[int | str]
    starts: list[int]
    rows: Ints
    log: EventLog
    memory: NDArray[np.uint8]
    fault: str
    translated: int
    allocations: int
    blind: str
    areas: tuple[int, ...]
    null: int
    arch: str
    root: int

    @property
    def stored(self) -> Stored:
        """What it stored to page tables."""
        return stored(self.rows, FORMATS[self.arch], self.root)


def play(kernel: Machine, scenario: Scenario) -> tuple[list[int | str], list[int], str]:
    """Make the steps of ``scenario``, up to one that goes wrong: what came of each, where its rows begin, the fault."""
    results: list[int | str] = []
    starts: list[int] = []
    addresses: list[int] = []
    fault = ""
    for step in scenario.steps:
        starts.append(len(kernel.log))
        addr = 0
        try:
            value = outcome(kernel, step, addresses[step.ref] if step.ref >= 0 else step.addr)
            results.append(value)
            addr = value if returns_of(step) is Returns.ADDRESS else 0
        except Unprovided:
            raise
        except InputError as error:
            raise InputError(f"step {len(results)} ({text_of(step)}): {error}") from None
        except VmapError as error:
            results.append(_refused(step, error))
        except Undefined:
            results.append(UNDEFINED)
        except (KernelFault, Violation) as error:
            fault = _told(error)
            results.append(BUG if _DEAD.search(fault) else fault)
        addresses.append(addr)
        if results[-1] in (BUG, UNDEFINED) or fault:
            break
    return results, starts, fault


def run(kernel: Machine, scenario: Scenario, words: bool = False) -> Run:
    """Run ``scenario`` on a ``kernel`` that has just booted.

    :param words: tell warnings apart by their words, not by their kind: both sides are the kernel's own code.
    """
    results, starts, fault = play(kernel, scenario)
    rows, memory = kernel.log.rows(), kernel.live_tables()
    if not words and (synced := rows[:, 0] == L_SYNC).any():  # the model has no other page tables
        starts = (np.array(starts) - np.concatenate([[0], np.cumsum(synced)])[starts]).tolist()
        rows = rows[~synced]
    try:
        if isinstance(kernel, Witness) and not fault and not {BUG, UNDEFINED} & set(results):
            memory = memory.copy()
            kernel.close()
        if not fault and UNDEFINED not in results:
            kernel.check_heap()
    except (KernelFault, Violation, VmapError) as error:
        fault = results[-1] = _told(error)
    if UNDEFINED in results or (BUG in results and not words):
        rows = rows[: starts[-1]]  # the model does not say what came before its BUG() in the same step
    warned = np.flatnonzero(rows[:, 0] == L_WARN)
    if len(warned):
        rows = rows.copy()
        for row in warned:
            text = kernel.log.texts[rows[row, 1]]
            rows[row, 1:3] = crc32(_PLACE.sub("", text).encode()) if words else rows[row, 2]
    watched: tuple[int, int, str] = (0, 0, "")
    if isinstance(kernel, Witness):
        watched = kernel.translated, kernel.allocations_tried, kernel.blind
    areas, arch, root = tuple(kernel.areas_taken), kernel.arch.name, kernel.table_root
    return Run(results, starts, rows, kernel.log, memory, fault, *watched, areas, kernel.null_pfn, arch, root)


def _told(error: Exception) -> str:
    return BREAKS + str(error) if isinstance(error, Violation) else str(error)


class Side(ABC):
    """Runs scenarios on kernels of one kind.

    :ivar name: what a difference calls it.
    :ivar verify: watch every call of every run.
    :ivar guided: its areas lie where the other side's do: it has not that tree's allocator.
    """

    name: str
    verify: bool
    guided: bool = False

    @abstractmethod
    def boot(self, scenario: Scenario) -> Machine:
        """The kernel that ``scenario`` runs on, as after boot."""

    def run(self, scenario: Scenario, words: bool = False, other: Run | None = None) -> Run:
        """Run ``scenario`` from boot; ``other``: the other side's run, where that can tell what this one cannot."""
        if self.verify:
            return self._watched(lambda: self.boot(scenario), scenario, words)
        return self._play(self.boot(scenario), scenario, words)

    def watch(self, scenario: Scenario) -> Run:
        """The same, watched; a BUG() after which nothing is judged is no fault."""
        run = self._watched(lambda: self.boot(scenario), scenario)
        return run._replace(fault="") if run.blind and BUG in run.results else run

    def _watched(self, boot: Callable[[], Machine], scenario: Scenario, words: bool = False) -> Run:
        """Run ``scenario`` watched, several calls judged together; what is wrong is found again call by call."""
        several = self._play(Witness(boot(), mmu=True, every=EVERY), scenario, words)
        if not several.fault.startswith(BREAKS):
            return several
        single = self._play(Witness(boot(), mmu=True), scenario, words)
        return single if single.fault else several

    def _play(self, kernel: Machine, scenario: Scenario, words: bool = False) -> Run:
        return run(kernel, scenario, words)


@dataclass
class ModelSide(Side):
    """Runs scenarios on the model."""

    arch: Arch
    release: Release
    config: dict[str, bool]
    name: str = "the model"
    verify: bool = False
    cpus: int = 1
    guided: bool = False

    def boot(self, scenario: Scenario) -> Kernel:
        """The kernel that ``scenario`` runs on."""
        return Kernel(
            self.arch,
            self.release,
            scenario.boot_args,
            total_pages=scenario.total_pages,
            config=self.config,
            record=True,
            cpus=self.cpus,
        )

    def run(self, scenario: Scenario, words: bool = False, other: Run | None = None) -> Run:
        """Run ``scenario`` from boot; of the ``other`` side's run it takes what only a tree can tell."""
        if other:
            scenario = _with_null(scenario, other.null)

        def boot() -> Kernel:
            kernel = self.boot(scenario)
            if other and self.guided:
                kernel.place_areas(list(other.areas))
            return kernel

        return self._watched(boot, scenario, words) if self.verify else self._play(boot(), scenario, words)


class ObjectSide(Side):
    """Runs scenarios on the kernel's own code; machines are kept, one per boot argument and size of RAM."""

    def __init__(self, built: Built, name: str = "the object", verify: bool = False, cpus: int = 1) -> None:
        self.name, self.verify, self.cpus = name, verify, cpus
        self._built = built
        self._ran: NDArray[np.uint8] | None = None
        self._machines: dict[tuple[str, int | None, int], ObjectKernel] = {}

    def boot(self, scenario: Scenario) -> ObjectKernel:
        """The machine that ``scenario`` runs on, as after boot."""
        pages = _most_stored(scenario)
        lines = max(1 << 16, 1 << (4 * pages).bit_length())
        key = scenario.boot_args, scenario.total_pages, lines
        kernel = self._machines.get(key)
        if kernel is None:
            kernel = self._machines[key] = ObjectKernel(
                self._built, scenario.boot_args, total_pages=scenario.total_pages, log_lines=lines, cpus=self.cpus
            )
            self._fold(kernel)  # what boot runs is nothing that the scenario reaches
        kernel.reset()
        return kernel

    def _play(self, kernel: Machine, scenario: Scenario, words: bool = False) -> Run:
        """Forget a machine that went wrong: who knows where it wrote."""
        result = super()._play(kernel, scenario, words)
        if result.fault and BUG not in result.results:
            for one in self._machines.values():
                self._fold(one)
            self._machines.clear()
        return result

    def _fold(self, kernel: ObjectKernel) -> None:
        """Keep what has run on a machine, and have it note anew."""
        self._ran = kernel.ran.copy() if self._ran is None else np.maximum(self._ran, kernel.ran)
        kernel.ran[:] = 0

    def begin_chapter(self) -> None:
        """From here on :attr:`blocks_ran` counts anew."""
        for kernel in self._machines.values():
            self._fold(kernel)

    @property
    def blocks_ran(self) -> int:
        """How many basic blocks have run since :meth:`begin_chapter`, boot aside."""
        return int(np.count_nonzero(self.ran_now)) if self._machines else 0

    @property
    def ran_now(self) -> NDArray[np.uint8]:
        """What has run since :meth:`begin_chapter`, boot aside."""
        rans = [kernel.ran for kernel in self._machines.values()]
        return np.maximum.reduce(rans) if len(rans) > 1 else rans[0]

    def ran(self) -> NDArray[np.uint8] | None:
        """What has run of the code on its machines so far: see :attr:`.Emulator.ran`; None before any has booted."""
        for kernel in self._machines.values():
            self._fold(kernel)
        return self._ran


def _most_stored(scenario: Scenario) -> int:
    """How many pages the steps can store entries for, at most, where ``tables`` keeps them from more."""
    pages, tables = 0, 1 << 62
    for step in scenario.steps:
        if step.call == "tables":
            tables = step.pages
        elif _stores(step):  # into new tables, and into those that there are
            pages += min(step.length, (tables + 16 << MOST_ENTRIES) + pages)
    return pages


def _stores(step: Operation) -> bool:
    """Whether ``step`` can store an entry for each of its pages, as none does that only reserves address space."""
    effect = effect_of(step.call)
    return (isinstance(effect, Maps) and not effect.quiet) or isinstance(effect, Changes)


def _with_null(scenario: Scenario, null: int) -> Scenario:
    """``scenario`` with a NULL page wherever it has the page ``null``."""

    def seen(step: Operation) -> Operation:
        call = call_of(step)
        numbers = call is not None and isinstance(call.effect, Maps) and call.effect.memory is False
        if step.pfns is None or numbers or not (wrong := step.pfns == np.uint64(null)).any():
            return step
        return step._replace(pfns=np.where(wrong, np.uint64(NULL_PFN), step.pfns))

    return replace(scenario, steps=tuple(map(seen, scenario.steps)))


def _refused(step: Operation, error: VmapError) -> int | str:
    """How the kernel's caller sees a failure: NULL, an errno, nothing of a void function, or a BUG()."""
    if error.bug or error.undefined:
        return BUG if error.bug else UNDEFINED
    value = returns_of(step).refusal(error)
    return "NULL" if value is None else value
