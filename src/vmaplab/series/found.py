# SPDX-License-Identifier: GPL-2.0-only
"""What came of a series: a cell for each patch and architecture, remarks on patches, the whole."""

from __future__ import annotations

from dataclasses import dataclass, field

from vmaplab.review.findings import Finding
from vmaplab.series import ask, ground
from vmaplab.series.ask import Effort, Measured, Wrong
from vmaplab.series.boots import Met
from vmaplab.series.mails import Series


@dataclass(frozen=True)
class Cell:
    """A patch on an architecture; of the base there is no step.

    :param booted: what came of the kernel that boots, if that was asked.
    """

    number: int
    arch: str
    measured: Measured
    step: ask.Step | None = None
    kept: bool = False
    booted: Met | None = None


@dataclass(frozen=True)
class Remark:
    """A finding of any kind, and in which trees of the series it shows.

    :param kind: ``wrong`` (a judge), ``booted`` (it does otherwise in the emulator), ``build``, ``refuses`` (what the
        base maps), ``warning``, or an experiment.
    :param key: what tells it from others of the kind.
    :param headline: one line.
    :param arches: on which it shows; ``arch``: the one of the example.
    :param first: the first patch with it, 0 for the base; ``gone``: the first patch without it after that, 0 if none.
    :param place: ``file:line`` in the tree of ``first``; "" if it is not known.
    :param finding: the example, if an experiment found it; ``wrong``: if a judge did.
    :param also: the same of other calls.
    :param stays: the patch that mends it on other architectures and not on these, 0 if there is none.
    :param booted: what a kernel that boots makes of the scenario, if that was asked.
    """

    kind: str
    key: str
    headline: str
    arch: str
    arches: tuple[str, ...]
    first: int
    gone: int = 0
    place: str = ""
    finding: Finding | None = None
    wrong: Wrong | None = None
    also: tuple[Wrong, ...] = ()
    stays: int = 0
    booted: str = ""

    @property
    def of(self) -> int:
        """The patch that it is a remark on."""
        return self.stays or self.first

    @property
    def state(self) -> str:
        """``new``, ``gone``, ``as before``, ``not everywhere``; ``in between``: neither in the base nor in the last."""
        if self.stays:
            return "not everywhere"
        if self.first == 0:
            return "gone" if self.gone else "as before"
        return "in between" if self.gone else "new"

    @property
    def is_wrong(self) -> bool:
        """Whether it decides the exit status where it is new."""
        return self.kind in ("wrong", "booted", "build", "refuses")


@dataclass
class Reviewed:
    """What came of a series.

    :param base: what it was applied to, in words.
    :param version: of the kernel.
    :param steps: the trees: the base, and one behind each patch that applies.
    :param refused: the first patch that does not apply, with git's error.
    :param cells: by number of the patch (0: the base) and architecture.
    :param unfinished: cells that were not reached, and kernels that could not be booted, none of the series' doing.
    :param boots: whether kernels are booted, too.
    """

    series: Series
    base: str
    arches: tuple[str, ...]
    effort: Effort
    version: str = ""
    steps: list[ground.Step] = field(default_factory=list)
    refused: ground.Step | None = None
    cells: dict[tuple[int, str], Cell] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    notes: list[str] = field(default_factory=list)
    unfinished: int = 0
    boots: bool = False

    @property
    def last(self) -> int:
        """The number of the last tree."""
        return len(self.steps) - 1

    @property
    def found(self) -> bool:
        """Whether a judge calls something wrong that the base has right, or a patch does not build."""
        return any(remark.is_wrong and remark.first for remark in self.remarks)
