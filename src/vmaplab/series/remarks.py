# SPDX-License-Identifier: GPL-2.0-only
"""Which finding shows first behind which patch of a series, and on which of its lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from vmaplab.config import BOOT_ARGS
from vmaplab.object.tools import digest
from vmaplab.pages.runs import runs_text
from vmaplab.review.findings import Finding
from vmaplab.series import ask
from vmaplab.series.ask import Measured, Wrong
from vmaplab.series.found import Cell, Remark, Reviewed
from vmaplab.series.kept import keep, of_key, own_state


class Remarks:
    """Every finding of a series once, with the first tree that has it, and the line of the patch that it belongs to.

    :param tree: gives the tree behind a patch, ``base`` is the one before the first.
    :param pool: runs what has to be run for that; None if nothing is to be.
    """

    def __init__(
        self,
        found: Reviewed,
        tree: Callable[[int], Path],
        base: Path,
        pool: ProcessPoolExecutor | None,
        jobs: int,
    ) -> None:
        self._found, self._tree, self._base, self._pool, self._jobs = found, tree, base, pool, jobs

    def remarks(self) -> tuple[Remark, ...]:
        """Every finding once, with the first tree that has it."""
        cells = self._found.cells
        keyed: dict[tuple[str, str], dict[str, dict[int, Any]]] = {}
        for (number, arch), cell in sorted(cells.items()):
            base = cells.get((0, arch), cell)
            for kind, key, example in [*_of_cell(cell), *_refused(cell, base.measured), *_dies(cell, base)]:
                keyed.setdefault((kind, key), {}).setdefault(arch, {})[number] = example
        threads = ThreadPoolExecutor(2 * self._jobs)  # each waits for what the pool is asked for it
        try:
            asked = [threads.submit(self._remarks_of, *what, by_arch) for what, by_arch in keyed.items()]
            return tuple(_joined([remark for one in asked for remark in one.result()]))
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _remarks_of(self, kind: str, key: str, by_arch: dict[str, dict[int, Any]]) -> list[Remark]:
        """One finding, by architecture and tree: a remark for each span of trees that have it."""
        cells = self._found.cells
        remarks = []
        spans: dict[tuple[int, int], list[str]] = {}
        for arch in (one for one in self._found.arches if one in by_arch):
            numbers = [number for number in range(len(self._found.steps)) if (number, arch) in cells]
            there = self._showing(kind, arch, by_arch[arch], numbers)
            for number in numbers if kind != "build" else ():  # what does not build does not mend anything
                if cells[number, arch].measured.error and number - 1 in there:
                    there.add(number)
            first = min(there)
            if kind == "warning" and not first:
                continue
            gone = next((number for number in numbers if number > first and not _since(there, number, numbers)), 0)
            if kind == "warning":  # what is not compiled again warns of nothing: that it is gone is not known
                gone = 0
            spans.setdefault((first, gone), []).append(arch)
        for (first, gone), arches in spans.items():
            example = by_arch[arches[0]].get(first) or next(iter(by_arch[arches[0]].values()))
            # What a patch mends on one architecture and not on another is to be said of that patch.
            mended = min((late for early, late in spans if late and not early), default=0)
            other = cells.get((mended, arches[0]))
            built = other is not None and not other.measured.error
            of = mended if not first and not gone and built and kind in ask.EXPERIMENTS else first
            place = self._place(arches[0], of, example) if of else ""
            wrong = example if isinstance(example, Wrong) else None
            finding = example if isinstance(example, Finding) else None
            headline = wrong.told.partition("\n")[0] if wrong else finding.headline if finding else str(example)
            stays = of if of != first else 0
            span = Remark(
                kind, key, headline, arches[0], tuple(arches), first, gone, place, finding, wrong, stays=stays
            )
            remarks.append(span)
        return remarks

    def _showing(self, kind: str, arch: str, known: dict[int, Any], numbers: list[int]) -> set[int]:
        """The trees that show a finding of ``arch``: where a judge's search came upon others, its scenario is run."""
        there = set(known)
        if kind != "wrong" or self._pool is None:
            return there
        example = next(iter(known.values()))
        images = {number: self._found.cells[number, arch].measured.image for number in numbers}
        shown = {images[number] for number in there}
        open_ = {image for number, image in images.items() if image and image not in shown}
        asked = {
            image: self._pool.submit(
                ask.shows, arch, self._tree(next(n for n in numbers if images[n] == image)), self._base, example
            )
            for image in open_
        }
        shown |= {image for image, future in asked.items() if future.result()}
        return {number for number, image in images.items() if image in shown}

    def _place(self, arch: str, first: int, example: Any) -> str:
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
        if self._pool is None or not any(changed.values()):
            return cell.step.first if cell.step else ""
        bad, good = scenarios_of(example)
        key = digest([own_state(), "place", cell.measured.image, bad, good, repr(changed)])
        kept = of_key(key)
        if not isinstance(kept, str):
            kept = self._pool.submit(ask.place, arch, self._tree(first), self._base, changed, bad, good).result()
            keep(key, kept)
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
    if cell.booted and cell.booted.differs:
        yield "booted", ask.kind_of(cell.booted.differs), Wrong("booted", cell.booted.differs, cell.booted.scenario)
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


def _dies(cell: Cell, base: Cell) -> Iterator[tuple[str, str, str]]:
    """A kernel that does not come up, where the base does."""
    if cell.booted and cell.booted.error and base.booted and not base.booted.error:
        yield "booted", "does not come up", cell.booted.error


def _since(there: set[int], number: int, numbers: list[int]) -> bool:
    """Whether a finding shows in ``number`` or comes again behind it."""
    return any(later in there for later in numbers if later >= number)
