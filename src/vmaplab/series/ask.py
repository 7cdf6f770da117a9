# SPDX-License-Identifier: GPL-2.0-only
"""What is asked of one tree on one architecture: does it build, is it right, what is to be remarked, what does it cost?

And of a tree and the one before it: what changed, and how much of the changed code has run?
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np

from vmaplab.calls.scenario import Scenario, parse
from vmaplab.calls.shrink import shrink
from vmaplab.check.coverage import Coverage, changed_lines
from vmaplab.check.differential import compare
from vmaplab.check.one import fault_of, judged
from vmaplab.check.plan import Plan
from vmaplab.check.sides import ObjectSide
from vmaplab.check.tree import facts_of, model_config
from vmaplab.cost.counters import Cost
from vmaplab.cost.measure import events_for, us_of
from vmaplab.errors import InputError, KernelFault, Unprovided, Violation, VmapError
from vmaplab.object import confine, targets
from vmaplab.object.build import Built, build
from vmaplab.object.image import Image
from vmaplab.object.kernel import ObjectKernel
from vmaplab.pages import heap
from vmaplab.pages.runs import runs_text
from vmaplab.pages.shapes import Shapes
from vmaplab.review.experiments.base import described, sizes_text
from vmaplab.review.findings import Finding
from vmaplab.review.run import review
from vmaplab.review.subject import Pfns, Table, of_objects

CPUS = targets.CPUS
SIDE = "the tree"
MOST_PAGES = 2048
"""Of the arrays that costs are told of."""
MOST_KINDS = 6
"""Kinds of what is wrong that are searched for: behind the first of them, too."""
EXPERIMENTS = ("coupling", "lost", "alignment", "area", "scan", "early", "contract")
"""Of review: all but calls that overlap, which take minutes, and the invariants, which the judges look at here."""
PLACE = re.compile(r"[\w./-]+\.[chS]:\d+")
_CALL = re.compile(r"\b\w+\(\)")
_NUMBER = re.compile(r"\b(?:0x)?[0-9a-f]*\d[0-9a-f]*\b")


@dataclass(frozen=True)
class Effort:
    """How much is tried.

    :param judged: scenarios under the eyes of the judges, each once more with an allocation failing.
    :param compared: scenarios that are run on the tree before, too.
    """

    judged: int = 120
    compared: int = 100

    @property
    def between(self) -> Effort:
        """For trees between the base and the last one: what judges find in these is looked for in all."""
        return Effort(-(-self.judged // 3), self.compared)


@dataclass(frozen=True)
class Wrong:
    """Something that a judge calls wrong, and the smallest scenario found that shows it.

    :param kind: what tells it from others, whatever the numbers in it.
    :param told: in words.
    :param place: the line of the tree where it shows, ``mm/vmalloc.c:123``; "" if none does.
    """

    kind: str
    told: str
    scenario: str
    place: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of an array.

    :param text: leaves by size, ``1 x 2M + 3 x 4K``; or why vmap() refuses.
    :param cost: counters, if it was mapped.
    :param stretches: size of a leaf, in bytes, and how many of it follow each other, in the order of their addresses.
    :param us: microseconds by core.
    :param addr: where the mapping begins; ``pfns``: the array.
    """

    text: str
    entries: int = 0
    cost: Cost | None = None
    stretches: tuple[tuple[int, int], ...] = ()
    us: dict[str, float] = field(default_factory=dict)
    addr: int = 0
    pfns: Pfns | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Measured:
    """What one tree is, on one architecture.

    :param error: why it does not build; the rest is empty then.
    :param image: what its code is: trees with the same one are the same.
    :param scenarios: how many the judges looked at; ``failing`` of them with an allocation failing.
    :param wrong: what they say.
    :param findings: what the experiments say; ``unfinished`` where ``vmap()`` went wrong on the way.
    :param tables: array -> what vmap() builds of it (address, leaves, cost), in words where it refuses.
    :param sizes: bytes of each function.
    """

    arch: str
    version: str = ""
    error: str = ""
    image: str = ""
    warnings: tuple[str, ...] = ()
    scenarios: int = 0
    failing: int = 0
    wrong: tuple[Wrong, ...] = ()
    findings: tuple[Finding, ...] = ()
    unfinished: tuple[tuple[str, str, str], ...] = ()
    tables: dict[str, Outcome] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """What a patch does on one architecture, against the tree before it.

    :param same: it is the same code, byte for byte.
    :param differs: how the two differ, in words, and ``scenario``: where; "" if they do not.
    :param first: the first changed line, ``file:line``, with code or without.
    :param code: changed lines that have code, by file; ``ran``: those of them that ran.
    :param outside: changed files that are not part of what is run.
    :param compared: scenarios that ran on both.
    :param behind: how many trees before it were left out, because they do not build.
    """

    same: bool = False
    differs: str = ""
    scenario: str = ""
    first: str = ""
    code: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ran: dict[str, tuple[int, ...]] = field(default_factory=dict)
    outside: tuple[str, ...] = ()
    compared: int = 0
    behind: int = 0


def kind_of(told: str) -> str:
    """What a finding is, whatever its numbers."""
    return _NUMBER.sub("#", PLACE.sub("", told.partition("\n")[0]))


def alike(kind: str) -> str:
    """The same for all calls: a fault of what they share shows in each of them."""
    return _CALL.sub("()", kind)


def arrays_of(kernel: ObjectKernel) -> dict[str, Pfns]:
    """The arrays that costs are told of: 8/4/0 heaps at three levels of fragmentation, single pages, runs."""
    target = kernel.arch
    shapes, pages = Shapes(target), MOST_PAGES
    base = target.ram_base >> target.page_shift
    found = {"one run": shapes.run(pages)}
    for share in (0.0, 0.5, 1.0):
        found[f"heap 8/4/0, fragmentation {share:g}"] = heap.allocate(pages, base, share, seed=1).pfns
    found["blocks of order 8, apart"] = shapes.pieces(pages, 256)
    found["blocks of order 4, apart"] = shapes.pieces(pages, 16)
    found["single pages"] = shapes.scattered(pages)
    found["one page"] = shapes.run(1)
    return found


def build_tree(arch: str, tree: Path, base: Path) -> Built:
    """The object of ``tree``, confined where that can be had.

    :raises InputError: if it does not build.
    """
    with confine.confined((base, tree)):
        return build(targets.get(arch), tree, targets.smp())


def measure(arch: str, tree: Path, base: Path, effort: Effort) -> Measured:
    """Ask everything of one tree that is asked of it alone."""
    try:
        built = build_tree(arch, tree, base)
    except InputError as error:
        return Measured(arch, error=str(error))
    one = Measured(arch, built.version, image=image_of(built), warnings=built.warnings)
    try:
        facts = facts_of(built)
        plan = Plan(built, None, facts.release, model_config(built), 1, cpus=CPUS, judge=True)
        one = _judge(one, plan, effort)
        one = _reviewed(one, built)
        return _costs(one, built)
    except (InputError, Unprovided) as error:
        return replace(one, error=f"cannot be run: {error}")


def unasked(arch: str, tree: Path, base: Path) -> Measured:
    """A tree that builds, of which nothing is asked."""
    built = build_tree(arch, tree, base)
    return Measured(arch, built.version, image=image_of(built), warnings=built.warnings)


def image_of(built: Built) -> str:
    """A name for the code: two trees with the same one behave the same. Compiler, options and sources go into it."""
    return f"{built.image.parent.parent.name}-{built.image.parent.name}"


def _judge(one: Measured, plan: Plan, effort: Effort) -> Measured:
    """Look at scenarios under the eyes of the judges; what is found does not end the search."""
    side, generator = ObjectSide(plan.built, SIDE, cpus=CPUS), plan.generator()
    wrong: dict[str, Wrong] = {}
    failing = 0
    for number in range(effort.judged):
        scenario = generator.scenario(number)
        finding, runs = judged(side, scenario, number)
        failing += len(runs) - 1
        if not finding.told or (kind := kind_of(finding.told)) in wrong:
            continue
        wrong[kind] = _smaller(side, finding.scenario, kind, finding.told)
        if len({alike(one) for one in wrong}) == MOST_KINDS or len(wrong) == 2 * MOST_KINDS:
            break
    return replace(one, scenarios=number + 1, failing=failing, wrong=tuple(wrong.values()))


def _smaller(side: ObjectSide, scenario: Scenario, kind: str, told: str) -> Wrong:
    """The smallest scenario found in which the same kind shows."""

    def look(other: Scenario) -> str:
        return fault_of(side, side.watch(other), other)

    smaller, _ = shrink(scenario, lambda other: kind_of(look(other)) == kind, tries=300)
    text = look(smaller) or told
    place = PLACE.search(text)
    return Wrong(kind, text.removeprefix(f"{SIDE}: "), str(smaller), place[0] if place else "")


def shows(arch: str, tree: Path, base: Path, wrong: Wrong) -> bool:
    """Whether a tree is wrong in the same way; one that does not build shows nothing."""
    try:
        side = ObjectSide(build_tree(arch, tree, base), SIDE, cpus=CPUS)
    except InputError:
        return False
    scenario = parse(wrong.scenario)
    return kind_of(fault_of(side, side.watch(scenario), scenario)) == wrong.kind


def _reviewed(one: Measured, built: Built) -> Measured:
    """What the experiments of ``review`` say."""
    found = review(of_objects([built], []), EXPERIMENTS)
    return replace(one, findings=tuple(found.findings), unfinished=tuple(found.unfinished))


def _costs(one: Measured, built: Built) -> Measured:
    """What vmap() builds of some arrays, and what that costs."""

    def booted() -> ObjectKernel:
        return ObjectKernel(built, count=True, log_lines=1 << 18, trace=events_for(MOST_PAGES))

    kernel = booted()
    shown, tables = set(arrays_of(kernel)), {}
    for name, pfns in _named(kernel):
        try:
            kernel.reset()
            mapping = kernel.vmap(pfns)
            table = Table(mapping.addr, mapping.leaves.copy(), mapping.cost)
            us = us_of(kernel) if name in shown else {}
            leaves, held = stretches_of(table), np.array(pfns, dtype=np.uint64)
            tables[name] = Outcome(sizes_text(table), len(table.leaves), mapping.cost, leaves, us, mapping.addr, held)
        except (VmapError, KernelFault, Violation) as error:
            tables[name] = Outcome(f"refused: {error}")
            kernel = booted()
    return replace(one, tables=tables, sizes=Image(built.image).sizes)


def stretches_of(table: Table) -> tuple[tuple[int, int], ...]:
    """The leaves of a table as :attr:`Outcome.stretches`."""
    return tuple((size, len(list(same))) for size, same in groupby(table.leaves["size"].tolist()))


def _named(kernel: ObjectKernel) -> Iterator[tuple[str, Pfns]]:
    yield from arrays_of(kernel).items()
    for pfns in Shapes(kernel.arch).corpus():
        yield described(pfns), pfns


def step(arch: str, tree: Path, befores: list[Path], base: Path, files: tuple[str, ...], effort: Effort) -> Step:
    """What a patch changes, against the nearest tree before it that builds.

    :param befores: the trees before it, the nearest first, the base last.
    """
    ours = build_tree(arch, tree, base)
    behind, theirs = next(_building(arch, befores, base), (0, None))
    if theirs is None:
        return Step(behind=behind)
    linked = {*ours.files, *theirs.files}
    outside = tuple(name for name in files if name not in linked and not _of_another(name, ours))
    if image_of(ours) == image_of(theirs) or Image(ours.image).code == Image(theirs.image).code:
        return Step(same=True, outside=outside, behind=behind)
    generator = Plan(ours, theirs, facts_of(ours).release, model_config(ours), 1, cpus=CPUS).generator()
    old, new = ObjectSide(theirs, "before", cpus=CPUS), ObjectSide(ours, "after", cpus=CPUS)
    differs, where = "", ""
    lines = changed_lines(tree, befores[behind], sorted(linked))
    for number in range(effort.compared):
        scenario = generator.scenario(number)
        if differs:  # it is told; what follows is for the lines
            new.run(scenario)
            continue
        differs = compare(scenario, old, new)
        if differs:
            smaller, _ = shrink(scenario, lambda other: compare(other, old, new) != "", tries=80)
            differs, where = compare(smaller, old, new) or differs, str(smaller)
    code, ran = _lines_ran(ours, new, lines)
    for number in range(effort.compared, 4 * effort.compared):  # lead to the lines that have not run
        if code == ran:
            break
        new.run(generator.scenario(number))
        if number % 20 == 0:
            code, ran = _lines_ran(ours, new, lines)
    first = next((f"{name}:{those[0]}" for name, those in lines.items() if those), "")
    return Step(False, differs, where, first, code, ran, outside, effort.compared, behind)


def _building(arch: str, trees: list[Path], base: Path) -> Iterator[tuple[int, Built]]:
    for number, tree in enumerate(trees):
        with suppress(InputError):
            yield number, build_tree(arch, tree, base)


def _of_another(name: str, built: Built) -> bool:
    """Whether a file is another architecture's, or no source."""
    parts = Path(name).parts
    if not name.endswith((".c", ".h", ".S")):  # what makes the build is read by kbuild
        return True
    return parts[0] == "arch" and parts[1] != built.target.family.srcarch


def _lines_ran(
    built: Built, side: ObjectSide, lines: dict[str, list[int]]
) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Of the changed ``lines`` by file: those that have code, and those that ran."""
    coverage = _covered(built, side)
    code, ran = {}, {}
    for name, changed in lines.items():
        has = {*coverage.code.get(name, ()), *coverage.passed.get(name, {})}
        did = _ran(coverage, name)
        code[name] = tuple(line for line in changed if line in has)
        ran[name] = tuple(line for line in changed if line in did)
    return code, ran


def _covered(built: Built, side: ObjectSide) -> Coverage:
    ran = side.ran()
    assert ran is not None  # it has run something
    return Coverage.of(built, ran)


def place(arch: str, tree: Path, base: Path, changed: dict[str, tuple[int, ...]], bad: str, good: str) -> str:
    """The changed line that decides, ``file:line``; "" if no changed line ran.

    The first line of which a branch goes otherwise, or that runs, in one scenario and not in the other.

    :param bad: a scenario that shows a finding; ``good``: one that does not: the same without what matters, or ""
        for one that gets larger leaves, or a page, if no array does.
    """
    built = build_tree(arch, tree, base)
    side = ObjectSide(built, SIDE, cpus=CPUS)
    good = good or _with_larger_leaves(side, side.boot(parse("vmap 0x1"))) or "vmap 0x1"
    one, other = _covered_by(built, bad), _covered_by(built, good)
    for name, lines in changed.items():
        pairs = zip(one.ways(name), other.ways(name), strict=True)
        parted = [line for (line, *mine), (_, *theirs) in pairs if mine != theirs and any(mine) and any(theirs)]
        more = set(_ran(one, name)) - set(_ran(other, name))
        if decides := sorted({*parted, *more} & set(lines)):
            return f"{name}:{decides[0]}"
    did = (f"{name}:{line}" for name, lines in changed.items() for line in lines if line in _ran(one, name))
    return next(did, "")


def _ran(coverage: Coverage, name: str) -> set[int]:
    """The lines of a source that ran, those included of which others have the code."""
    return {*coverage.ran.get(name, ()), *(line for line, it in coverage.passed.get(name, {}).items() if it)}


def _covered_by(built: Built, scenario: str) -> Coverage:
    """What a scenario runs."""
    side = ObjectSide(built, SIDE, cpus=CPUS)
    side.run(parse(scenario))
    return _covered(built, side)


def _with_larger_leaves(side: ObjectSide, kernel: ObjectKernel) -> str:
    """A scenario whose vmap() gets a leaf larger than a page; "" if none of some arrays does."""
    for pfns in Shapes(kernel.arch).corpus():
        with suppress(VmapError, KernelFault, Violation):
            kernel.reset()
            if (kernel.vmap(pfns).leaves["size"] > kernel.arch.page_size).any():
                return f"vmap {runs_text(pfns)}"
    return ""
