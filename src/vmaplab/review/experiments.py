"""The experiments: each asks one question of a ``vmap()``, whoever wrote it, and knows no answer beforehand."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from vmaplab import NULL_PFN
from vmaplab.arch import Arch
from vmaplab.check.invariants import as_built
from vmaplab.check.optimum import best_address, optimum
from vmaplab.check.scenario import Scenario, shrink
from vmaplab.check.witness import Witness
from vmaplab.errors import KernelFault, Misplaced, Violation, VmapError
from vmaplab.mapping import LEAF_DTYPE
from vmaplab.mmu import FORMATS
from vmaplab.mmu.walker import walk
from vmaplab.pages.array import size_text
from vmaplab.pages.runs import runs, runs_text
from vmaplab.review.findings import Finding
from vmaplab.review.shapes import Shapes, joined
from vmaplab.review.subject import Options, Pfns, Subject, Table, flipped, parted
from vmaplab.vmalloc.flags import VM_MAP
from vmaplab.vmalloc.operation import Operation

CLIFF = 2.0
"""A mapping with so many times the TLB entries of the best one is worth a remark."""
GROWTH = 1.1
"""A scan whose effort per page grows so much from one size to four times that size, and again, is not linear."""


class Experiment(NamedTuple):
    """A question, and how it is asked of one subject on one architecture."""

    name: str
    question: str
    ask: Callable[[Subject, str], Iterator[Finding]]


# -- what the experiments share ---------------------------------------------------------------------------


def _best(arch: Arch, pfns: Pfns, addr: int) -> Table:
    return Table(addr, optimum(arch, pfns, addr))


def _given(arch: Arch, pfns: Pfns, addr: int) -> Table:
    """Every page as a base page."""
    leaves = np.zeros(len(pfns), dtype=LEAF_DTYPE)
    leaves["va"] = np.uint64(addr) + np.arange(len(pfns), dtype=np.uint64) * np.uint64(arch.page_size)
    leaves["size"], leaves["pfn"] = arch.page_size, pfns
    return Table(addr, leaves)


def _smallest(pfns: Pfns, shows: Callable[[Pfns], bool]) -> Pfns:
    """The smallest array found that still ``shows`` it."""

    def still(scenario: Scenario) -> bool:
        (step,) = scenario.steps
        assert step.pfns is not None
        if step.pfns.min() == 0 or len(np.unique(step.pfns)) < len(step.pfns):
            return False  # PFN 0 is aligned to everything, and nobody maps a page twice
        try:
            return shows(step.pfns)
        except VmapError:
            return False

    small = shrink(Scenario((Operation("vmap", pfns=pfns, flags=VM_MAP),)), still, tries=400)
    found = small.steps[0].pfns
    assert found is not None
    return found if len(found) < len(pfns) else pfns


def _map(subject: Subject, arch: str, pfns: Pfns, options: Options = ()) -> tuple[str, ...]:
    """The command that maps ``pfns``."""
    return ("map", f"pfns:{runs_text(pfns)}", "--arch", arch, *subject.command, *_settings(subject, options))


def _settings(subject: Subject, options: Options = ()) -> list[str]:
    """Boot arguments and configuration of the subject with ``options``, as words of the command line."""
    args, changed = parted(options)
    args = subject.boot_args.split() + args
    words = ["--boot-args", " ".join(args)] if args else []
    config = {**subject.config, **changed}
    return words + [word for key, on in config.items() for word in ("--config", f"{key}={'y' if on else 'n'}")]


def _again(subject: Subject, arch: str, experiment: str) -> tuple[str, ...]:
    """The command that repeats one experiment."""
    return ("review", "--arch", arch, *subject.command, *_settings(subject), "--only", experiment)


def described(pfns: Pfns) -> str:
    """An array in words."""
    parts = runs(pfns)
    if len(parts) == 1:
        first, count = parts[0]
        if count == 1:
            return "one page"
        aligned = first & -first
        how = "to their length" if aligned >= count else f"to {aligned} pages"
        return f"{count} contiguous pages, the first frame aligned {how}"
    lengths = sorted({count for _, count in parts}, reverse=True)
    if lengths == [1]:
        return f"{len(pfns)} pages, none contiguous"
    return f"{len(pfns)} pages in {len(parts)} runs"


def sizes_text(table: Table) -> str:
    """How many leaves of which size, largest first: ``1 x 2M + 3 x 4K``."""
    sizes, counts = np.unique(table.leaves["size"], return_counts=True)
    return " + ".join(
        f"{count} x {size_text(int(size))}" for size, count in zip(sizes[::-1], counts[::-1], strict=True)
    )


def _entries(count: int) -> str:
    return f"{count} TLB entr" + ("y" if count == 1 else "ies")


def _against_best(
    subject: Subject,
    arch: str,
    experiment: str,
    key: str,
    headline: str,
    pfns: Pfns,
    cost: str = "",
    evidence: tuple[tuple[str, ...], ...] = (),
) -> Finding:
    """A finding whose second table is the best mapping of ``pfns`` at the address that the subject chose."""
    ours = subject.map(arch, pfns)
    best = _best(subject.arch(arch), pfns, ours.addr)
    cost = cost or f"{_entries(ours.entries)}; {best.entries} would do ({sizes_text(best)})"
    command = _map(subject, arch, pfns)
    return Finding(
        experiment, key, headline, arch, pfns, ours, best, subject.name, "best possible", cost, (command,), evidence
    )


# -- coupling ---------------------------------------------------------------------------------------------


def _same(one: Table, other: Table) -> bool:
    """Whether two tables hold the same leaves, wherever their areas lie."""
    if len(one.leaves) != len(other.leaves):
        return False
    return all(
        np.array_equal(one.leaves[name] - np.uint64(shift), other.leaves[name] - np.uint64(shift_other))
        for name, shift, shift_other in (("va", one.addr, other.addr), ("size", 0, 0), ("pfn", 0, 0))
    )


def coupling(subject: Subject, arch: str) -> Iterator[Finding]:
    """Flip each boot argument and configuration option."""
    for option in subject.options:
        options = flipped(subject, arch, option)
        if options is None:
            continue

        def differs(pfns: Pfns, options: Options = options) -> bool:
            return not _same(subject.map(arch, pfns), subject.map(arch, pfns, options))

        shown = next((pfns for pfns in Shapes(subject.arch(arch)).corpus() if differs(pfns)), None)
        if shown is None:
            continue
        pfns = _smallest(shown, differs)
        ours, other = subject.map(arch, pfns), subject.map(arch, pfns, options)
        word = options[0]
        yield Finding(
            "coupling",
            option,
            f"{word} changes the page tables of vmap()",
            arch,
            pfns,
            ours,
            other,
            subject.name,
            f"with {word}",
            f"{_entries(ours.entries)}; with {word}: {other.entries}",
            (_map(subject, arch, pfns), _map(subject, arch, pfns, options)),
        )


# -- lost huge mappings -----------------------------------------------------------------------------------


def _kind(arch: Arch, pages: int) -> str:
    """What a leaf of ``pages`` pages is on ``arch``."""
    block = len(arch.levels) > 1 and arch.levels[1].leaf and pages << arch.page_shift == 1 << arch.levels[1].shift
    return "PMD block" if block else "contiguous-PTE group"


def lost(subject: Subject, arch: str) -> Iterator[Finding]:
    """Aligned runs, which any policy could map with its largest leaves."""
    target = subject.arch(arch)
    shapes = Shapes(target)
    run = shapes.run
    for pages in shapes.leaves:
        size = pages << target.page_shift

        def loses(pfns: Pfns, size: int = size) -> bool:
            ours = subject.map(arch, pfns)
            best = optimum(target, pfns, ours.addr)
            return bool((best["size"] == size).any() and not (ours.leaves["size"] >= size).any())

        arrays = [run(pages), run(2 * pages), run(3 * pages), run(pages + 1)]
        losing = [pfns for pfns in arrays if loses(pfns)]
        if not losing:
            continue
        kind, never = _kind(target, pages), len(losing) == len(arrays)
        headline = f"{'no' if never else 'not always'} {kind}s where the array and the area allow them"
        yield _against_best(subject, arch, "lost", f"{kind} {never}", headline, _smallest(losing[0], loses))


# -- alignment --------------------------------------------------------------------------------------------


def alignment(subject: Subject, arch: str) -> Iterator[Finding]:
    """Runs whose frames are aligned to less than their length."""
    target = subject.arch(arch)
    shapes = Shapes(target)
    run, leaves = shapes.run, shapes.leaves
    if not leaves:
        return

    def off(pfns: Pfns) -> bool:
        """A run that is mapped badly, and would be mapped well if its first frame were aligned."""
        if len(runs(pfns)) != 1:
            return False
        ours = subject.map(arch, pfns)
        if ours.entries < CLIFF * len(optimum(target, pfns, ours.addr)):
            return False
        aligned = run(len(pfns))
        good = subject.map(arch, aligned)
        return good.entries < CLIFF * len(optimum(target, aligned, good.addr)) and good.entries < len(pfns)

    for length in _powers(2 * leaves[0], 2 * leaves[-1]):
        for offset in _powers(1, length // 2)[::-1]:
            if off(run(length, offset)):
                headline = "a run aligned to less than its length falls off a cliff, not down a step"
                shown = _smallest(run(length, offset), off)
                table = _alignments(subject, arch, max(2 * leaves[0], min(256, leaves[-1])))
                yield _against_best(subject, arch, "alignment", "cliff", headline, shown, evidence=table)
                return


def _powers(low: int, high: int) -> list[int]:
    return [1 << order for order in range((low - 1).bit_length(), high.bit_length())]


def _alignments(subject: Subject, arch: str, length: int) -> tuple[tuple[str, ...], ...]:
    """TLB entries of a run of ``length`` pages by the alignment of its first frame."""
    rows: list[tuple[str, ...]] = [(f"{length} pages aligned to", "TLB entries", "best possible")]
    for offset in _powers(1, length)[::-1]:
        pfns = Shapes(subject.arch(arch)).run(length, offset % length)
        ours = subject.map(arch, pfns)
        rows.append((str(offset), str(ours.entries), str(len(optimum(subject.arch(arch), pfns, ours.addr)))))
    return tuple(rows)


# -- the area ---------------------------------------------------------------------------------------------


def area(subject: Subject, arch: str) -> Iterator[Finding]:
    """The same array behind areas of other sizes, and the best of all addresses."""
    target = subject.arch(arch)
    shapes = Shapes(target)
    run, leaves = shapes.run, shapes.leaves
    if not leaves:
        return
    for pages in leaves:
        pfns = run(2 * pages)
        alone = subject.map(arch, pfns)
        for before in (1, 2, pages // 2 + 1):
            behind = subject.map(arch, pfns, before=before)
            if behind.entries >= CLIFF * alone.entries:
                yield Finding(
                    "area",
                    "placed anywhere",
                    "where the area happens to lie decides which leaves can be used",
                    arch,
                    pfns,
                    behind,
                    alone,
                    f"behind an area of {before} pages",
                    "in an empty address space",
                    f"{_entries(behind.entries)}; {alone.entries} in an empty address space",
                    (_again(subject, arch, "area"),),
                )
                return

    def crooked(pfns: Pfns) -> bool:
        """A run for which another address would do, of a length that is mapped well where it is aligned."""
        ours = subject.map(arch, pfns)
        here, there = (
            len(optimum(target, pfns, addr)) for addr in (ours.addr, best_address(target, pfns, target.vmalloc_start))
        )
        single = len(runs(pfns)) == 1
        return single and here >= CLIFF * there and subject.map(arch, run(len(pfns))).entries < len(pfns)

    for pages in leaves[::-1]:
        for offset in (pages // 2, leaves[0]):
            if offset < pages and crooked(run(3 * pages, offset)):
                pfns = _smallest(run(3 * pages, offset), crooked)
                ours = subject.map(arch, pfns)
                addr = best_address(target, pfns, target.vmalloc_start)
                best = _best(target, pfns, addr)
                yield Finding(
                    "area",
                    "not congruent",
                    "the area is not placed so that addresses and frames are aligned alike",
                    arch,
                    pfns,
                    ours,
                    best,
                    subject.name,
                    f"best possible, at {addr:#x}",
                    f"{_entries(ours.entries)}; {best.entries} at an address chosen by the first frame",
                    (_map(subject, arch, pfns),),
                )
                return


# -- scan cost --------------------------------------------------------------------------------------------


def scan(subject: Subject, arch: str) -> Iterator[Finding]:
    """The effort of longer and longer arrays of one shape."""
    made = Shapes(subject.arch(arch))
    run, leaves = made.run, made.leaves or [16]
    shapes: list[tuple[str, Callable[[int], Pfns]]] = [
        ("a run", run),
        *[(f"a run that starts {late} pages late", lambda pages, late=late: run(pages, late)) for late in (1, *leaves)],
        (f"runs of {leaves[0]} pages", lambda pages: made.pieces(pages, leaves[0])),
        ("scattered pages", made.scattered),
    ]
    most = min(leaves[-1] << 5, subject.most_pages)
    sizes = [most >> 4, most >> 2, most]

    def effort(pfns: Pfns) -> float:
        cost = subject.map(arch, pfns).cost
        assert cost is not None
        return cost[subject.effort] / len(pfns)

    worst: tuple[float, str, Callable[[int], Pfns], list[float]] | None = None
    for name, shape in shapes:
        per_page = [effort(shape(pages)) for pages in sizes]
        growth = [later / earlier if earlier else math.inf if later else 1.0 for earlier, later in pairwise(per_page)]
        if min(growth) > GROWTH and (worst is None or growth[-1] > worst[0]):
            worst = growth[-1], name, shape, per_page
    if worst is None:
        return
    growth_last, name, shape, per_page = worst
    small, medium, large = per_page
    steady = large - medium < 2 * (medium - small)  # as much more with each doubling, not as many times more
    law = "as n log n" if steady else f"about as n^{1 + math.log2(growth_last) / 2:.2f}"
    # The smallest array from the smallest size on in which a page takes twice the effort.
    lengths = _powers(2 * leaves[0], sizes[-1])
    longer = [pages for pages in lengths if pages > sizes[0]]
    pfns = next((shape(pages) for pages in longer if effort(shape(pages)) > 2 * small), shape(sizes[-1]))
    ours = subject.map(arch, pfns)
    assert ours.cost is not None
    unit = subject.effort.replace("_", " ")
    pairs = [(pages, effort(shape(pages))) for pages in sorted({*lengths[::2], *sizes})]
    headline = f"{name}: {unit} grow faster than linearly with its length, {law}"
    rows = (("pages", f"{unit} a page"), *((str(pages), f"{value:.1f}") for pages, value in pairs))
    cost = f"{ours.cost[subject.effort]} {unit} for {len(pfns)} pages"
    yield _against_best(subject, arch, "scan", "superlinear", headline, pfns, cost, rows)


# -- early stop -------------------------------------------------------------------------------------------


def early(subject: Subject, arch: str) -> Iterator[Finding]:
    """Runs behind scattered pages."""
    target = subject.arch(arch)
    shapes = Shapes(target)
    run = shapes.run
    for pages in shapes.leaves:
        small = run(pages, 1, 7)  # nothing larger than a page fits into it
        orders = {
            f"a run of {pages}, then {pages} misaligned": joined(run(pages), small),
            f"{pages} misaligned, then a run of {pages}": joined(small, run(pages)),
            f"{pages} misaligned, then two runs of {pages}": joined(small, shapes.pieces(2 * pages, pages)),
            f"a run of {pages}, {pages} misaligned, a run of {pages}": joined(run(pages), small, run(pages, 0, 2)),
        }

        def excess(pfns: Pfns) -> float:
            ours = subject.map(arch, pfns)
            return ours.entries / len(optimum(target, pfns, ours.addr))

        def backwards(pfns: Pfns) -> Pfns:
            """The same runs, the longest and best aligned first."""
            parts = sorted(runs(pfns), key=lambda part: (-part[1], -(part[0] & -part[0])))
            return joined(*(np.arange(first, first + count, dtype=np.uint64) for first, count in parts))

        def stops(pfns: Pfns) -> bool:
            """Mapped badly in this order, and well in the other."""
            return len(runs(pfns)) > 1 and excess(pfns) > 1.4 and excess(backwards(pfns)) < 1.1

        shown = next((pfns for pfns in orders.values() if stops(pfns)), None)
        if shown is None:
            continue
        rows = [("array", "TLB entries", "best possible")]
        for name, array in orders.items():
            table = subject.map(arch, array)
            rows.append((name, str(table.entries), str(len(optimum(target, array, table.addr)))))
        headline = "a run behind small chunks is not mapped as it would be in front of them"
        pfns = _smallest(shown, stops)
        yield _against_best(subject, arch, "early", "small first", headline, pfns, evidence=tuple(rows))
        return


# -- contract ---------------------------------------------------------------------------------------------


def contract(subject: Subject, arch: str) -> Iterator[Finding]:
    """What the walker does with page_shift and arrays of every kind."""
    target = subject.arch(arch)
    page_shift = target.page_shift
    shapes = Shapes(target)
    run, scattered, leaves = shapes.run, shapes.scattered, shapes.leaves
    shifts = sorted({page_shift, page_shift + 1, *(page_shift + leaf.bit_length() - 1 for leaf in leaves)})
    kinds: list[tuple[str, int, Callable[[int], Pfns]]] = [
        ("chunks contiguous and aligned", 0, lambda chunk: joined(run(chunk), run(chunk, 0, 3))),
        ("frames of a chunk not aligned", 0, lambda chunk: joined(run(chunk, 1), run(chunk, 1, 3))),
        ("address not aligned", 1, lambda chunk: joined(run(chunk), run(chunk, 0, 3))),
        (
            "only the first frame of a chunk in place",
            0,
            lambda chunk: joined(run(1), scattered(chunk - 1), run(1, 0, 3), scattered(2 * chunk)[: chunk - 1]),
        ),
        ("last frame of a chunk elsewhere", 0, lambda chunk: joined(run(2 * chunk - 1), scattered(1))),
    ]
    rows = [("array, by page_shift", *map(str, shifts))]
    wrong: tuple[int, str, Pfns, int, Table, Table] | None = None
    for name, offset, array in kinds:
        cells = []
        for shift in shifts:
            chunk = 1 << shift - page_shift
            if chunk == 1 and "chunk" in name and "contiguous and aligned" not in name:
                cells.append("-")
                continue
            pfns = array(chunk)
            told, ours, given = _walked(subject, target, pfns, shift, offset)
            cells.append(told)
            if told == "wrong" and (wrong is None or len(pfns) < len(wrong[2])):
                wrong = shift, name, pfns, offset, ours, given
        rows.append((name, *cells))
    if wrong is None:
        return
    shift, name, pfns, _, ours, given = wrong
    yield Finding(
        "contract",
        "trusts page_shift",
        f"page_shift is the caller's promise: {name}, and other pages are mapped without an error",
        arch,
        pfns,
        ours,
        given,
        f"vmap_pages_range_noflush(..., page_shift={shift})",
        "the pages that it was given",
        f"{int((_frames(ours, target) != pfns).sum())} of {len(pfns)} pages are wrong. Below, right: each page goes to "
        "its frame; wrong: to another, without an error; -: no such array",
        (_again(subject, arch, "contract"),),
        tuple(rows),
        note=True,
    )


def _walked(subject: Subject, arch: Arch, pfns: Pfns, shift: int, offset: int) -> tuple[str, Table, Table]:
    """One walker call into a fresh area: what came of it, what is mapped, and what was given."""
    size = len(pfns) << arch.page_shift
    kernel = Witness(subject.boot(arch.name, ()))
    align = 1 << max(shift, arch.levels[1].shift if len(arch.levels) > 1 else 0)
    area = kernel.get_vm_area(size + 2 * align)
    addr = -(-getattr(area, "addr", area) // align) * align + offset * arch.page_size
    given = _given(arch, pfns, addr)
    told = "right"
    try:
        kernel.vmap_pages_range_noflush(addr, pfns, shift)
    except Misplaced:
        told = "wrong"
    except Violation:
        told = "violation"
    except VmapError as error:
        told = "BUG()" if error.bug else errno.errorcode[error.errno or 0]
    except KernelFault as fault:
        told = "BUG()" if str(fault).startswith("BUG") else "fault"
        subject.restart()
        return told, Table(addr, given.leaves[:0]), given
    return told, Table(addr, kernel.kernel.leaves(addr, addr + size)), given


def _frames(table: Table, arch: Arch) -> Pfns:
    """The frame of each page of a table without holes."""
    counts = (table.leaves["size"] >> np.uint64(arch.page_shift)).astype(np.int64)
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    found: Pfns = np.repeat(table.leaves["pfn"], counts) + within.astype(np.uint64)
    return found


# -- invariants -------------------------------------------------------------------------------------------


def invariants(subject: Subject, arch: str) -> Iterator[Finding]:
    """Every array of the corpus under the eyes of the judges, with allocations failing too."""
    target = subject.arch(arch)

    def broken(pfns: Pfns) -> Broken:
        """What goes wrong with ``pfns``: as it is, twice, and with each allocation failing."""
        if (pfns >= np.uint64(target.addressable_pages)).any():
            return _must_refuse(subject, arch, pfns)
        failing = -1
        try:
            kernel = Witness(subject.boot(arch, ()), mmu=True)
            first, second = kernel.vmap(pfns), kernel.vmap(pfns)
            if first.addr < second.addr + second.size and second.addr < first.addr + first.size:
                return Broken("the same array mapped twice gives areas that overlap")
            kernel.vunmap(first.addr)
            tried = kernel.kernel.allocations
            kernel.close()
            for failing in range(tried if len(pfns) < 64 else 0):
                kernel = Witness(subject.boot(arch, ()))
                kernel.fail([failing])
                with suppress(VmapError):
                    kernel.vunmap(kernel.vmap(pfns).addr)
                kernel.close()
        except (Violation, KernelFault) as found:
            subject.restart()
            return Broken(str(found), isinstance(found, KernelFault), failing)
        except VmapError as error:
            return Broken(f"vmap() refuses: {error}")
        return Broken("")

    arrays = Shapes(target).corpus()
    arrays += [array for pages in arrays if len(pages) < 64 for array in _spoiled(pages, target.addressable_pages)]
    shown, told = next(((pfns, told) for pfns in arrays if (told := broken(pfns)).text), (None, Broken("")))
    if shown is None:
        return
    pfns = shown
    if not told.fault:  # a fault of the kernel's code can take seconds to show
        pfns = _smallest(shown, lambda smaller: broken(smaller).text != "")
        told = broken(pfns)
    ours = _as_built(subject, arch, pfns)
    finder = FORMATS[arch].cpu if told.text.startswith("the MMU: ") else "the invariants"
    cost = "found when the kernel's code ran" if told.fault else f"found by {finder}"
    command = (*_map(subject, arch, pfns), "--verify")
    if told.failing >= 0:
        cost = f"when allocation {told.failing} (from 0) fails; the tables show what is built when none fails"
        words = [word for word in subject.command if word != "--object"]
        steps = (Operation("fail", pages=told.failing, pfn=-1), Operation("vmap", pfns=pfns, flags=VM_MAP))
        scenario = str(Scenario(steps, subject.boot_args))
        command = ("check", "--faults", "--arch", arch, *words, "--scenario", scenario)
    yield Finding(
        "invariants",
        "broken",
        told.text,
        arch,
        pfns,
        ours,
        _given(target, pfns, ours.addr),
        subject.name,
        "the pages that it was given",
        cost,
        (command,),
    )


def _as_built(subject: Subject, arch: str, pfns: Pfns) -> Table:
    """What the tables hold after ``vmap(pfns)``, in the area and a little around it, as the walker lists it."""
    target = subject.arch(arch)
    try:
        kernel = subject.boot(arch, ())
        addr = kernel.vmap(pfns).addr
        found = walk(kernel.live_tables(), target.table_base, kernel.table_root, FORMATS[arch]).entries
    except (VmapError, KernelFault):
        subject.restart()
        return Table(target.vmalloc_start, np.zeros(0, dtype=LEAF_DTYPE))
    around, page = np.uint64(64 * target.page_size), np.uint64(target.page_size)
    end = np.uint64(addr) + np.uint64(len(pfns)) * page
    near = found[(found["va"] + around >= np.uint64(addr)) & (found["va"] < end + around)]
    return Table(addr, as_built(near, target.page_size))


class Broken(NamedTuple):
    """What went wrong, if anything: in words; whether the kernel's code itself did; which allocation failed, or -1."""

    text: str
    fault: bool = False
    failing: int = -1


def _spoiled(pfns: Pfns, limit: int) -> Iterator[Pfns]:
    """``pfns`` with a NULL page, and with one that is not valid: first, in the middle, last."""
    for wrong in (NULL_PFN, limit):
        for place in sorted({0, len(pfns) // 2, len(pfns) - 1}):
            array = pfns.copy()
            array[place] = wrong
            yield array


def _must_refuse(subject: Subject, arch: str, pfns: Pfns) -> Broken:
    """An array that no kernel maps: it has to be refused, and to leave nothing."""
    try:
        kernel = Witness(subject.boot(arch, ()))
        with suppress(VmapError):
            kernel.vmap(pfns)
        kernel.close()
    except (Violation, KernelFault) as found:
        subject.restart()
        return Broken(str(found), isinstance(found, KernelFault))
    return Broken("")


EXPERIMENTS = (
    Experiment(
        "invariants",
        "is every mapping right, and does every failure leave nothing behind? (tried: runs of each leaf's size, "
        "aligned or not, alone and mixed, twice at a time; NULL and invalid pages; each allocation failing)",
        invariants,
    ),
    Experiment("coupling", "does an option that should not matter change the page tables?", coupling),
    Experiment("lost", "is a larger leaf left unused on aligned runs?", lost),
    Experiment("alignment", "does a run that is aligned to less than its length fall off a cliff?", alignment),
    Experiment("area", "does the area's address keep a larger leaf from being used?", area),
    Experiment("scan", "does the scan's effort grow faster than linearly?", scan),
    Experiment("early", "does it matter whether small chunks come first?", early),
    Experiment("contract", "what may the walker be given?", contract),
)
