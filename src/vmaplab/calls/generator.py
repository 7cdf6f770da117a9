# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios at random, for one architecture."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from vmaplab.calls.draw import OF_A_PUD, TAKE, UNALIGNED, WINDOW, Draw, Options
from vmaplab.calls.flags import VM_MAP
from vmaplab.calls.motifs import Motifs
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario, parse
from vmaplab.calls.swarm import Swarm
from vmaplab.pages.runs import Pfns
from vmaplab.pages.shapes import Shapes

__all__ = ["OF_A_PUD", "UNALIGNED", "WINDOW", "Generator"]


@dataclass
class Generator(Options):
    """Random scenarios for one architecture; scenario ``number`` of ``seed`` is always the same."""

    _arrays: list[Pfns] = field(init=False)
    _kept: list[Scenario] = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        first = self.arrays_first and not self.calls
        self._arrays = Shapes(self.arch).corpus() if first else []
        self._kept = [] if not first or self.only_vmap or self.short else self._corpus()

    def _corpus(self) -> list[Scenario]:
        """The scenarios in the package that fit.

        ``all.txt`` has what it takes to notice faults in code that others run, too; those of an architecture run all
        code that many random ones ran (tools/corpus.py).
        """
        folder = Path(__file__).parent / "corpus"
        paths = [path for name in ("all", self.arch.name) if (path := folder / f"{name}.txt").is_file()]
        found = []
        space = self.arch.vmalloc_end - self.arch.vmalloc_start >> self.arch.page_shift
        for line in [line for path in paths for line in path.read_text().splitlines()]:
            scenario = parse(line)
            cpus = max((step.pages for step in scenario.steps if step.call == "cpu"), default=0)
            takes = [step for step in scenario.steps if step.call in TAKE]
            windowed = any(step.addr or step.pages > space // 8 for step in takes)
            words = {step.call for step in scenario.steps} | ({WINDOW} if windowed else set())
            if cpus < self.cpus and not words & self.without and scenario.boot_args in ("", *self.boot_args):
                found.append(scenario)
        return found

    @property
    def fixed(self) -> int:
        """How many scenarios are the same for every seed."""
        return len(self._arrays) + len(self._kept)

    def scenario(self, number: int) -> Scenario:
        """Scenario ``number``: first the arrays that tell policies apart, then the package's, then random ones."""
        if number < len(self._arrays):
            mapped = Operation("vmap", pfns=self._arrays[number], flags=VM_MAP), Operation("vunmap", 0)
            return Scenario(mapped if self.only_vmap else (*mapped, Operation("aliases")))
        if number < self.fixed:
            return self._kept[number - len(self._arrays)]
        rng = random.Random(self.seed << 40 | number)
        roll = 1 if self.calls or self.only_vmap else rng.random()
        if roll < (0.12 if self.short else 0.32):
            return Motifs(self, rng).scenario()
        if roll < 0.6 and not self.short:
            return Swarm(self, rng).scenario()
        return Draw(self, rng).scenario()
