# SPDX-License-Identifier: GPL-2.0-only
"""What the experiments share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from vmaplab.arch import Arch
from vmaplab.calls.flags import VM_MAP
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.shrink import shrink
from vmaplab.check.optimum import optimum
from vmaplab.errors import VmapError
from vmaplab.mapping import LEAF_DTYPE
from vmaplab.pages.array import size_text
from vmaplab.pages.runs import runs, runs_text
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Options, Pfns, Subject, Table, parted

CLIFF = 2.0
"""A mapping with so many times the TLB entries of the best one is worth a remark."""
GROWTH = 1.1
"""A scan whose effort per page grows so much from one size to four times that size, and again, is not linear."""


class Experiment(NamedTuple):
    """A question, and how it is asked of one subject on one architecture.

    :param place: where it stands among the others.
    :param of: whether it can be asked of a subject.
    """

    place: int
    name: str
    question: str
    ask: Callable[[Subject, str], Iterator[Finding]]
    of: Callable[[Subject], bool] = lambda subject: True


def best_table(arch: Arch, pfns: Pfns, addr: int) -> Table:
    """The best mapping of ``pfns`` at ``addr``."""
    return Table(addr, optimum(arch, pfns, addr))


def given_table(arch: Arch, pfns: Pfns, addr: int) -> Table:
    """Every page as a base page."""
    leaves = np.zeros(len(pfns), dtype=LEAF_DTYPE)
    leaves["va"] = np.uint64(addr) + np.arange(len(pfns), dtype=np.uint64) * np.uint64(arch.page_size)
    leaves["size"], leaves["pfn"] = arch.page_size, pfns
    return Table(addr, leaves)


def smallest(pfns: Pfns, shows: Callable[[Pfns], bool]) -> Pfns:
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

    small, _ = shrink(Scenario((Operation("vmap", pfns=pfns, flags=VM_MAP),)), still, tries=400)
    found = small.steps[0].pfns
    assert found is not None
    return found if len(found) < len(pfns) else pfns


def map_command(subject: Subject, arch: str, pfns: Pfns, options: Options = ()) -> tuple[str, ...]:
    """The command that maps ``pfns``."""
    return ("map", f"pfns:{runs_text(pfns)}", "--arch", arch, *subject.command, *settings_of(subject, options))


def settings_of(subject: Subject, options: Options = ()) -> list[str]:
    """Boot arguments and configuration of the subject with ``options``, as words of the command line."""
    args, changed = parted(options)
    args = subject.boot_args.split() + args
    words = ["--boot-args", " ".join(args)] if args else []
    config = {**subject.config, **changed}
    return words + [word for key, on in config.items() for word in ("--config", f"{key}={'y' if on else 'n'}")]


def again(subject: Subject, arch: str, experiment: str) -> tuple[str, ...]:
    """The command that repeats one experiment."""
    return ("review", "--arch", arch, *subject.command, *settings_of(subject), "--only", experiment)


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


def entries_text(count: int) -> str:
    """A number of TLB entries in words."""
    return f"{count} TLB entr" + ("y" if count == 1 else "ies")


def against_best(
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
    best = best_table(subject.arch(arch), pfns, ours.addr)
    cost = cost or f"{entries_text(ours.entries)}; {best.entries} would do ({sizes_text(best)})"
    command = map_command(subject, arch, pfns)
    return Finding(
        experiment, key, headline, arch, pfns, ours, best, subject.name, "best possible", cost, (command,), evidence
    )


def powers(low: int, high: int) -> list[int]:
    """The powers of two from ``low`` to ``high``."""
    return [1 << order for order in range((low - 1).bit_length(), high.bit_length())]
