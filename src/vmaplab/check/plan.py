# SPDX-License-Identifier: GPL-2.0-only
"""What a campaign compares, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmaplab.arch import Arch
from vmaplab.calls.generator import OF_A_PUD, UNALIGNED, WINDOW, Generator
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.table import absent_from
from vmaplab.changes import Change
from vmaplab.check.coverage import Ran
from vmaplab.check.seen import Seen
from vmaplab.check.sides import ModelSide, ObjectSide, Side
from vmaplab.errors import BREAKS
from vmaplab.object.build import Built
from vmaplab.release import Release

CHUNK = 200
SAMPLE = 8
"""Of so many scenarios one is judged beside the comparison, where nothing else is said."""
OLD_ALLOCATOR = frozenset(
    {"map_ram", "unmap_ram", "map_pages", "unmap_pages", "vread", "info", "shrink", "percpu", WINDOW}
)
"""Calls that are not compared on trees before ``struct vmap_node`` (6.9): the model does not have their forms of that
time."""


def lacked_by(built: Built, release: Release) -> frozenset[str]:
    """The calls, by the first words of their steps, that a tree does not have which is taken for ``release``."""
    return absent_from(release) | (frozenset() if "VREALLOC" in built.probed else {"vrealloc"})


@dataclass
class Examined:
    """What came of one scenario, or of several added up.

    :param told: how the last one differed or broke an invariant; "" if it did not.
    :param translated: pages that an MMU translated.
    :param failures: runs with a failing allocation.
    :param partly: watched runs of which not all steps could be judged.
    :param judged: runs that the judges watched beside the comparison.
    :param seen: what their side built.
    """

    told: str = ""
    translated: int = 0
    failures: int = 0
    partly: int = 0
    judged: int = 0
    seen: Seen = field(default_factory=Seen)

    def add(self, other: Examined) -> None:
        """Take in what came of later ones."""
        self.told = self.told or other.told
        self.translated += other.translated
        self.failures += other.failures
        self.partly += other.partly
        self.judged += other.judged
        self.seen.add(other.seen)


@dataclass(frozen=True)
class Plan:
    """What is compared, on one architecture.

    :param built: the object.
    :param base: the object that it is compared with; None for the model.
    :param release: the model's release, or what the object's tree is taken for.
    :param notes: what a reader must know of that.
    :param config: the model's configuration, ``KEY -> bool``.
    :param seed: of the scenarios.
    :param pages: of a usual page array.
    :param verify: watch both sides: invariants, and an emulated MMU where there is one.
    :param faults: compare nothing; run each side watched with each allocation failing, and with pairs.
    :param calls: so many calls of all kinds in a scenario; 0 for short scenarios.
    :param cpus: CPUs of the machine; the object must be built for them.
    :param judge: compare nothing; watch the object.
    :param sample: of so many scenarios one is watched too, and once more with an allocation that fails; 0 for none.
    """

    built: Built
    base: Built | None
    release: Release
    config: dict[str, bool]
    seed: int
    pages: int = 256
    verify: bool = False
    faults: bool = False
    calls: int = 0
    cpus: int = 1
    notes: tuple[str, ...] = ()
    judge: bool = False
    sample: int = 0

    @property
    def guided(self) -> bool:
        """Whether scenarios that reach new code are varied."""
        return not (self.faults or self.calls or self.built.call != "vmap")

    @property
    def arch(self) -> Arch:
        """The architecture."""
        return self.release.on(self.built.target.arch)

    @property
    def chunk(self) -> int:
        """Scenarios that a process runs before it reports."""
        return 1 if self.faults else max(1, CHUNK // self.calls) if self.calls else CHUNK

    @property
    def against(self) -> str:
        """What the object is compared with."""
        if self.judge:
            return "nothing"
        return self.release.name if self.base is None else f"{self.base.code} in {self.base.tree.name}"

    @property
    def code(self) -> str:
        """What is compared with it."""
        return self.built.code if self.base is None else f"{self.built.code} in {self.built.tree.name}"

    def sides(self) -> tuple[Side, Side]:
        """What to compare: the model or the base tree, and the object."""
        if self.base is None:
            guided = not self.built.has_nodes
            model = ModelSide(self.arch, self.release, self.config, verify=self.verify, cpus=self.cpus, guided=guided)
            return model, ObjectSide(self.built, verify=self.verify, cpus=self.cpus)
        base = ObjectSide(self.base, "the base", self.verify, self.cpus)
        return base, ObjectSide(self.built, "the tree", self.verify, self.cpus)

    @property
    def left_out(self) -> frozenset[str]:
        """Calls that no scenario makes, by the first words of their steps: the release, or the model, lacks them."""
        return lacked_by(self.built, self.release) | (frozenset() if self.built.has_nodes else OLD_ALLOCATOR)

    def generator(self) -> Generator:
        """Where the scenarios come from."""
        only_vmap = self.built.call != "vmap"
        without = self.left_out
        if not self.release.has(Change.INNER_ERRORS):  # nobody looks there, and it takes seconds to run wild
            without |= {UNALIGNED}
        # Failing allocations are few scenarios: those arrays are all of one call, and each table is run again to fail.
        if self.faults:
            without |= {OF_A_PUD}
        return Generator(
            self.arch,
            self.seed,
            self.pages,
            only_vmap,
            self.calls,
            self.cpus,
            without,
            arrays_first=not self.faults,
            short=self.faults,
        )


@dataclass(frozen=True)
class Verdict:
    """What came of a campaign on one architecture.

    :param plan: what was compared.
    :param cases: scenarios compared.
    :param calls: steps in them.
    :param found: what came of them.
    :param number: the scenario that differed, or None.
    :param scenario: the same, made smaller.
    :param ran: which of its code ran.
    :param varied: the scenario is like others that reached new code, none of the generator's.
    :param shrunk: how the scenario was made smaller, in words; "" if it was not.
    :param by_judge: a judge found the difference, which is none between two sides.
    :param also: what the judges alone say where two sides differ.
    """

    plan: Plan
    cases: int
    calls: int
    found: Examined
    number: int | None = None
    scenario: Scenario | None = None
    ran: Ran | None = field(default=None, compare=False)
    by_judge: bool = False
    varied: bool = False
    shrunk: str = ""
    also: Verdict | None = None

    @property
    def difference(self) -> str:
        """How two sides differ, or which invariant one breaks, in words; empty if there is nothing."""
        return self.found.told

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know before he believes it, a line each."""
        left_out = ", ".join(sorted(self.plan.left_out))
        return self.plan.notes + ((f"no random scenario has these calls on this tree: {left_out}",) if left_out else ())

    @property
    def wrong(self) -> bool:
        """Whether something is wrong: a judge says so, or the object is not as the model. Two trees may differ."""
        judged = BREAKS in self.difference or self.by_judge or (self.also is not None and self.also.difference != "")
        return bool(self.difference) and (judged or self.plan.base is None)

    @property
    def word(self) -> str:
        """``same``, ``same, and holds``, ``holds``, ``changed``, ``DIFFERENT`` or ``VIOLATION``."""
        if self.difference and not self.wrong:
            return "changed"
        if self.difference:
            return "VIOLATION" if BREAKS in self.difference or self.by_judge else "DIFFERENT"
        if self.plan.faults or self.plan.judge:
            return "holds"
        return "same, and holds" if self.plan.verify or self.found.judged else "same"
