# SPDX-License-Identifier: GPL-2.0-only
"""The experiment ``contract``."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

import numpy as np

from vmaplab.arch import Arch
from vmaplab.errors import KernelFault, Misplaced, Violation, VmapError
from vmaplab.judge.witness import Witness
from vmaplab.pages.shapes import Shapes, joined
from vmaplab.review.experiments.base import (
    Experiment,
    again,
    given_table,
)
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Pfns, Subject, Table


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
        (again(subject, arch, "contract"),),
        tuple(rows),
        note=True,
    )


def _walked(subject: Subject, arch: Arch, pfns: Pfns, shift: int, offset: int) -> tuple[str, Table, Table]:
    """One walker call into a fresh area: what came of it, what is mapped, and what was given."""
    size = len(pfns) << arch.page_shift
    kernel = Witness(subject.boot(arch.name, ()))
    align = 1 << max(shift, arch.levels[1].shift if len(arch.levels) > 1 else 0)
    area = kernel.get_vm_area(size + 2 * align)
    addr = -(-area.addr // align) * align + offset * arch.page_size
    given = given_table(arch, pfns, addr)
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


EXPERIMENT = Experiment(8, "contract", "what may the walker be given?", contract, of=lambda subject: subject.walker)
