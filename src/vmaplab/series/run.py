# SPDX-License-Identifier: GPL-2.0-only
"""Review a series: every patch on every architecture, in parallel, what was asked before taken from the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from vmaplab._pool import cpus, leave_interrupts, processes
from vmaplab.errors import InputError, Unprovided
from vmaplab.object.build import check_tree
from vmaplab.object.tools import digest
from vmaplab.series import ask, boots, ground
from vmaplab.series.ask import Effort
from vmaplab.series.found import Cell, Remark, Reviewed
from vmaplab.series.kept import keep, of_key, own_state
from vmaplab.series.mails import Series
from vmaplab.series.remarks import Remarks


def review_series(
    series: Series,
    tree: Path,
    base: str,
    arches: list[str],
    effort: Effort | None = None,
    trust: bool = False,
    jobs: int | None = None,
    booted: bool = False,
    told: Callable[[Reviewed, Cell | None], None] = lambda reviewed, cell: None,
) -> Reviewed:
    """Apply, build and ask; Ctrl-C ends it with what is finished.

    :param base: what ``tree`` is, in words.
    :param trust: build also what is not memory management's C.
    :param booted: boot each tree, too.
    :param told: called when the patches are applied, for each cell, and for each cell that was booted.
    :raises InputError: for what is refused, or a base that does not build.
    """
    found = Reviewed(series, base, tuple(arches), effort or Effort(), check_tree(tree), boots=booted)
    with ground.ground(tree.resolve()) as place:
        found.steps.append(ground.Step(None))
        for patch in series.patches:
            one = place.apply(patch, trust)
            if one.error:
                found.refused = one
                break
            found.steps.append(one)
        told(found, None)
        if len(found.steps) > 1:
            with suppress(KeyboardInterrupt):
                _Asking(found, place, tree.resolve(), jobs or cpus(), told).run()
            found.unfinished = len(found.steps) * len(arches) - len(found.cells)
            if booted:
                found.unfinished += sum(_boots(cell) and not _met(found, cell) for cell in found.cells.values())
    return found


class _Asking:
    """The work on one series."""

    def __init__(
        self,
        found: Reviewed,
        place: ground.Ground,
        base: Path,
        jobs: int,
        told: Callable[[Reviewed, Cell | None], None],
    ) -> None:
        self._found, self._ground, self._base, self._jobs, self._told = found, place, base, jobs, told
        self._made: dict[int, Path] = {}
        self._images: dict[str, str] = {}
        self._making = Lock()

    def run(self) -> None:
        found = self._found
        for arch in found.arches:
            self._images[arch] = ask.image_of(ask.build_tree(arch, self._base, self._base))
        ends = {0, found.last}  # they take longest
        numbers = sorted(range(len(found.steps)), key=lambda number: (number not in ends, number))
        todo = [(number, arch) for number in numbers for arch in found.arches]
        fresh = [one for one in todo if not self._from_cache(*one)]
        pool = ProcessPoolExecutor(self._jobs, processes(__name__), leave_interrupts)
        try:
            jobs = {pool.submit(_cell, *self._arguments(number, arch)): (number, arch) for number, arch in fresh}
            for future in _as_they_end(jobs):
                number, arch = jobs[future]
                self._take(future.result())
                keep(self._key(number, arch), found.cells[number, arch])
            self._fill()
            self._boot()
            found.remarks = tuple(map(self._booted, self._remarks(pool).remarks()))
        except KeyboardInterrupt:  # of what is finished, without another look
            self._fill()
            found.remarks = self._remarks(None).remarks()
        finally:
            for process in list((pool._processes or {}).values()):  # else they end what they are at
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)

    def _boot(self) -> None:
        """Boot what is code of its own; the last tree first, the base next: each takes all CPUs."""
        cells = self._found.cells
        last = self._found.last
        for number, arch in sorted(cells, key=lambda one: (one[0] != last, one)) if self._found.boots else ():
            cell = cells[number, arch]
            if _boots(cell):
                cells[number, arch] = cell = replace(cell, booted=boots.meet(arch, self._tree(number), self._base))
                self._told(self._found, cell)

    def _booted(self, remark: Remark) -> Remark:
        """With what the kernel that boots makes of it, if a judge found it and it is the series'."""
        if not self._found.boots or remark.kind != "wrong" or remark.wrong is None or not remark.of:
            return remark
        told = boots.told_of(remark.arch, self._tree(remark.of), self._base, remark.wrong.scenario)
        return replace(remark, booted=told)

    def _remarks(self, pool: ProcessPoolExecutor | None) -> Remarks:
        return Remarks(self._found, self._tree, self._base, pool, self._jobs)

    def _tree(self, number: int) -> Path:
        """The tree behind a patch; made when it is needed first."""
        with self._making:
            if number not in self._made:
                self._made[number] = self._ground.tree_of(self._found.steps[number])
            return self._made[number]

    def _arguments(self, number: int, arch: str) -> tuple[Any, ...]:
        befores = [self._tree(before) for before in range(number)][::-1]
        files = self._found.steps[number].files
        return (
            number,
            arch,
            self._tree(number),
            befores,
            self._base,
            files,
            self._effort(number),
            number == self._found.last,
        )

    def _effort(self, number: int) -> Effort:
        effort = self._found.effort
        return effort if number in (0, self._found.last) else effort.between

    def _key(self, number: int, arch: str) -> str:
        """A name for all that a cell depends on."""
        states = [step.key for step in self._found.steps[: number + 1]]
        return digest([own_state(), repr(self._effort(number)), arch, self._images[arch], *states])

    def _from_cache(self, number: int, arch: str) -> bool:
        kept = of_key(self._key(number, arch))
        if isinstance(kept, Cell):
            self._take(replace(kept, kept=True))
            return True
        return False

    def _take(self, cell: Cell) -> None:
        self._found.cells[cell.number, cell.arch] = cell
        self._told(self._found, cell)

    def _fill(self) -> None:
        """What was not asked of a tree is what came of the one before it: it is the same code."""
        cells = self._found.cells
        for (number, arch), cell in sorted(cells.items()):
            if cell.step and cell.step.same and not cell.measured.tables and not cell.measured.error:
                before = cells.get((number - 1 - cell.step.behind, arch))
                if before is not None:
                    own = cell.measured
                    filled = replace(before.measured, image=own.image, warnings=own.warnings, scenarios=0, failing=0)
                    cells[number, arch] = replace(cell, measured=filled)


def _met(found: Reviewed, cell: Cell) -> bool:
    """Whether a kernel was booted, or a finding says why not: the base's was."""
    base = found.cells.get((0, cell.arch), cell)
    return bool(cell.booted) and not (base.booted and base.booted.error)


def _boots(cell: Cell) -> bool:
    """Whether there is a kernel to boot that is none of another cell."""
    return not cell.measured.error and not (cell.step and cell.step.same)


def _cell(
    number: int,
    arch: str,
    tree: Path,
    befores: list[Path],
    base: Path,
    files: tuple[str, ...],
    effort: Effort,
    last: bool,
) -> Cell:
    """Ask one tree; of the same code as the one before it, unless it is the ``last``, nothing is asked again."""
    step = None
    if befores:
        with suppress(InputError, Unprovided):  # what is told of the tree alone
            step = ask.step(arch, tree, befores, base, files, effort)
        if step and step.same and not last:
            return Cell(number, arch, ask.unasked(arch, tree, base), step)
    measured = ask.measure(arch, tree, base, effort)
    return Cell(number, arch, measured, None if measured.error else step)


def _as_they_end(jobs: dict[Future[Cell], tuple[int, str]]) -> Iterator[Future[Cell]]:
    waiting = set(jobs)
    while waiting:
        ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        yield from sorted(ready, key=lambda future: jobs[future])
