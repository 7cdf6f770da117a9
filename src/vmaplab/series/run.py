# SPDX-License-Identifier: GPL-2.0-only
"""Review a series: every patch on every architecture, in parallel, what was asked before taken from the cache."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

import vmaplab
from vmaplab._cache import cache_root
from vmaplab._pool import cpus, leave_interrupts
from vmaplab.config import BOOT_ARGS
from vmaplab.errors import InputError, Unprovided
from vmaplab.object.build import check_tree
from vmaplab.object.tools import digest, forget
from vmaplab.pages.runs import runs_text
from vmaplab.review.findings import Finding
from vmaplab.series import ask, ground
from vmaplab.series.ask import Effort, Measured, Wrong
from vmaplab.series.mails import Series

_KEPT = 4000
_ANSWER = "answer"


@dataclass(frozen=True)
class Cell:
    """A patch on an architecture; of the base there is no step."""

    number: int
    arch: str
    measured: Measured
    step: ask.Step | None = None
    kept: bool = False


@dataclass(frozen=True)
class Remark:
    """A finding of any kind, and in which trees of the series it shows.

    :param kind: ``wrong`` (a judge), ``build``, ``refuses`` (what the base maps), ``warning``, or an experiment.
    :param key: what tells it from others of the kind.
    :param headline: one line.
    :param arches: on which it shows; ``arch``: the one of the example.
    :param first: the first patch with it, 0 for the base; ``gone``: the first patch without it after that, 0 if none.
    :param place: ``file:line`` in the tree of ``first``; "" if it is not known.
    :param finding: the example, if an experiment found it; ``wrong``: if a judge did.
    :param also: the same of other calls.
    :param stays: the patch that mends it on other architectures and not on these, 0 if there is none.
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
        return self.kind in ("wrong", "build", "refuses")


@dataclass
class Reviewed:
    """What came of a series.

    :param base: what it was applied to, in words.
    :param version: of the kernel.
    :param steps: the trees: the base, and one behind each patch that applies.
    :param refused: the first patch that does not apply, with git's error.
    :param cells: by number of the patch (0: the base) and architecture.
    :param unfinished: cells that were not reached.
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

    @property
    def last(self) -> int:
        """The number of the last tree."""
        return len(self.steps) - 1

    @property
    def found(self) -> bool:
        """Whether a judge calls something wrong that the base has right, or a patch does not build."""
        return any(remark.is_wrong and remark.first for remark in self.remarks)


def review_series(
    series: Series,
    tree: Path,
    base: str,
    arches: list[str],
    effort: Effort | None = None,
    trust: bool = False,
    jobs: int | None = None,
    told: Callable[[Reviewed, Cell | None], None] = lambda reviewed, cell: None,
) -> Reviewed:
    """Apply, build and ask; Ctrl-C ends it with what is finished.

    :param base: what ``tree`` is, in words.
    :param trust: build also what is not memory management's C.
    :param told: called when the patches are applied, and for each cell.
    :raises InputError: for what is refused, or a base that does not build.
    """
    found = Reviewed(series, base, tuple(arches), effort or Effort(), check_tree(tree))
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
        pool = ProcessPoolExecutor(self._jobs, multiprocessing.get_context("forkserver"), leave_interrupts)
        try:
            jobs = {pool.submit(_cell, *self._arguments(number, arch)): (number, arch) for number, arch in fresh}
            for future in _as_they_end(jobs):
                number, arch = jobs[future]
                self._take(future.result())
                _keep(self._key(number, arch), found.cells[number, arch])
            self._fill()
            found.remarks = tuple(_joined(self._remarks(pool)))
        except KeyboardInterrupt:  # of what is finished, without another look
            self._fill()
            found.remarks = tuple(_joined(self._remarks(None)))
        finally:
            for process in list((pool._processes or {}).values()):  # else they end what they are at
                process.kill()
            pool.shutdown(wait=False, cancel_futures=True)

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
        return digest([_own_state(), repr(self._effort(number)), arch, self._images[arch], *states])

    def _from_cache(self, number: int, arch: str) -> bool:
        kept = _kept(self._key(number, arch))
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

    # -- what shows where ---------------------------------------------------------------------------

    def _remarks(self, pool: ProcessPoolExecutor | None) -> list[Remark]:
        """Every finding once, with the first tree that has it."""
        cells = self._found.cells
        keyed: dict[tuple[str, str], dict[str, dict[int, Any]]] = {}
        for (number, arch), cell in sorted(cells.items()):
            base = cells.get((0, arch))
            for kind, key, example in [*_of_cell(cell), *_refused(cell, base.measured if base else cell.measured)]:
                keyed.setdefault((kind, key), {}).setdefault(arch, {})[number] = example
        threads = ThreadPoolExecutor(2 * self._jobs)  # each waits for what the pool is asked for it
        try:
            asked = [threads.submit(self._remarks_of, pool, *what, by_arch) for what, by_arch in keyed.items()]
            return [remark for one in asked for remark in one.result()]
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _remarks_of(
        self, pool: ProcessPoolExecutor | None, kind: str, key: str, by_arch: dict[str, dict[int, Any]]
    ) -> list[Remark]:
        """One finding, by architecture and tree: a remark for each span of trees that have it."""
        cells = self._found.cells
        remarks = []
        spans: dict[tuple[int, int], list[str]] = {}
        for arch in (one for one in self._found.arches if one in by_arch):
            numbers = [number for number in range(len(self._found.steps)) if (number, arch) in cells]
            there = self._showing(pool, kind, arch, by_arch[arch], numbers)
            for number in numbers if kind != "build" else ():  # what does not build does not mend anything
                if cells[number, arch].measured.error and number - 1 in there:
                    there.add(number)
            first = min(there)
            gone = next((number for number in numbers if number > first and not _since(there, number, numbers)), 0)
            spans.setdefault((first, gone), []).append(arch)
        for (first, gone), arches in spans.items():
            example = by_arch[arches[0]].get(first) or next(iter(by_arch[arches[0]].values()))
            # What a patch mends on one architecture and not on another is to be said of that patch.
            mended = min((late for early, late in spans if late and not early), default=0)
            other = cells.get((mended, arches[0]))
            built = other is not None and not other.measured.error
            of = mended if not first and not gone and built and kind in ask.EXPERIMENTS else first
            place = self._place(pool, arches[0], of, example) if of else ""
            wrong = example if isinstance(example, Wrong) else None
            finding = example if isinstance(example, Finding) else None
            headline = wrong.told.partition("\n")[0] if wrong else finding.headline if finding else str(example)
            stays = of if of != first else 0
            span = Remark(
                kind, key, headline, arches[0], tuple(arches), first, gone, place, finding, wrong, stays=stays
            )
            remarks.append(span)
        return remarks

    def _showing(
        self, pool: ProcessPoolExecutor | None, kind: str, arch: str, known: dict[int, Any], numbers: list[int]
    ) -> set[int]:
        """The trees that show a finding of ``arch``: where a judge's search came upon others, its scenario is run."""
        there = set(known)
        if kind != "wrong" or pool is None:
            return there
        example = next(iter(known.values()))
        images = {number: self._found.cells[number, arch].measured.image for number in numbers}
        shown = {images[number] for number in there}
        open_ = {image for number, image in images.items() if image and image not in shown}
        asked = {
            image: pool.submit(
                ask.shows, arch, self._tree(next(n for n in numbers if images[n] == image)), self._base, example
            )
            for image in open_
        }
        shown |= {image for image, future in asked.items() if future.result()}
        return {number for number, image in images.items() if image in shown}

    def _place(self, pool: ProcessPoolExecutor | None, arch: str, first: int, example: Any) -> str:
        """Where in the patch ``first`` a finding belongs."""
        cell = self._found.cells[first, arch]
        changed = cell.step.code if cell.step else {}
        if isinstance(example, str):
            match = ask.PLACE.search(example)
            return match[0] if match else ""
        if isinstance(example, Wrong) and example.place:
            name, _, line = example.place.partition(":")
            if int(line) in changed.get(name, ()):
                return example.place
        if pool is None or not any(changed.values()):
            return cell.step.first if cell.step else ""
        bad, good = scenarios_of(example)
        key = digest([_own_state(), "place", cell.measured.image, bad, good, repr(changed)])
        kept = _kept(key)
        if not isinstance(kept, str):
            kept = pool.submit(ask.place, arch, self._tree(first), self._base, changed, bad, good).result()
            _keep(key, kept)
        return str(kept) or (cell.step.first if cell.step else "")


def _joined(remarks: list[Remark]) -> Iterator[Remark]:
    """Remarks of judges that say the same of several calls as one."""
    groups: dict[tuple[str, int, int, int], list[Remark]] = {}
    for remark in remarks:
        same = ask.alike(remark.key) if remark.kind == "wrong" else f"{remark.kind} {remark.key}"
        groups.setdefault((same, remark.first, remark.gone, remark.stays), []).append(remark)
    for first, *others in groups.values():
        also = tuple(other.wrong for other in others if other.wrong)
        arches = {arch for one in (first, *others) for arch in one.arches}
        ordered = (*first.arches, *sorted(arches - set(first.arches)))
        yield replace(first, arches=ordered, also=also)


def scenarios_of(example: Wrong | Finding) -> tuple[str, str]:
    """The scenario that shows a finding, and one that does not, if its own experiment names one."""
    if isinstance(example, Wrong):
        return example.scenario, "vmap 0x1"
    mapped = f"vmap {runs_text(example.pfns)}"
    if example.experiment == "coupling" and example.key in BOOT_ARGS:
        return f"boot {example.key}; {mapped}", mapped
    return mapped, ""


def _of_cell(cell: Cell) -> Iterator[tuple[str, str, Any]]:
    """Kind, key and example of what one cell has found."""
    one = cell.measured
    if one.error:
        yield "build", ask.kind_of(one.error), one.error
    for warning in one.warnings:
        yield "warning", ask.kind_of(warning), warning
    for wrong in one.wrong:
        yield "wrong", wrong.kind, wrong
    for finding in one.findings:
        yield finding.experiment, finding.key, finding
    for experiment, _, why in one.unfinished:
        yield "unfinished", f"{experiment}: {ask.kind_of(why)}", f"{experiment} ends: {why}"


def _refused(cell: Cell, base: Measured) -> Iterator[tuple[str, str, str]]:
    """Arrays that the base maps and this tree does not: no judge sees that, for vmap() may fail."""
    tables = cell.measured.tables
    lost = [name for name, it in tables.items() if it.cost is None and name in base.tables and base.tables[name].cost]
    if lost:
        more = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
        yield "refuses", "arrays", f"vmap() refuses {lost[0]}, which the base maps{more}: {tables[lost[0]].text}"


def _since(there: set[int], number: int, numbers: list[int]) -> bool:
    """Whether a finding shows in ``number`` or comes again behind it."""
    return any(later in there for later in numbers if later >= number)


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


# -- what was asked before --------------------------------------------------------------------------


def _own_state() -> str:
    """The state of vmaplab: another one may say something else."""
    if "state" not in _known:
        here = Path(vmaplab.__file__).parent
        said = (here / "report", here / "cli")
        files = sorted(path for path in here.rglob("*") if path.suffix in (".py", ".c", ".h", ".txt"))
        files = [path for path in files if not any(path.is_relative_to(folder) for folder in said)]
        _known["state"] = digest(path.read_bytes() for path in files)
    return _known["state"]


_known: dict[str, str] = {}


def _kept(key: str) -> Any:
    path = cache_root() / "series" / "answers" / key / _ANSWER
    try:
        return pickle.loads(path.read_bytes())
    except (OSError, pickle.PickleError, EOFError, AttributeError):
        return None


def _keep(key: str, value: Any) -> None:
    path = cache_root() / "series" / "answers" / key / _ANSWER
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        half.write_bytes(pickle.dumps(value))
        half.replace(path)
        forget(path.parent.parent, _KEPT)
