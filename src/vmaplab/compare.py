# SPDX-License-Identifier: GPL-2.0-only
"""One page source on many kernels: what each release builds on each architecture, beside linux-6.12."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Mapping as Dict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab import pages
from vmaplab.arch import Arch
from vmaplab.cost.counters import Cost
from vmaplab.errors import InputError, VmapError
from vmaplab.kernel import Kernel
from vmaplab.machine import Machine
from vmaplab.mapping import Mapping
from vmaplab.release import BASELINE

if TYPE_CHECKING:
    from vmaplab.object.build import Built


MOST_SOURCES = 12
"""Page arrays that a page of a comparison has pictures of."""


class Made(NamedTuple):
    """A mapping to draw.

    :param arch: as that kernel has it; ``leaves``: as of a :class:`~vmaplab.mapping.Mapping`, which begins at ``addr``.
    """

    arch: Arch
    leaves: NDArray[Any]
    addr: int
    pfns: pages.PageArray


@dataclass(frozen=True)
class Row:
    """One release on one architecture.

    :param leaves_by_size: bytes of a leaf -> how many.
    :param release: "" if the architecture cannot take the source at all.
    :param gain: TLB entries of linux-6.12 for the same pages, divided by this release's; None if either refused.
    :param refused: why there is nothing to show, or ""; ``errno``: what the kernel returns, 0 if it was not asked.
    :param note: what the source says of itself, or "".
    :param us: microseconds by core, of a kernel's own code.
    :param made: what a picture needs, if it was asked for.
    """

    arch: str
    release: str
    leaves_by_size: dict[int, int]
    cost: Cost | None
    gain: float | None
    refused: str = ""
    errno: int = 0
    note: str = ""
    us: Dict[str, float] = field(default_factory=dict)
    made: Made | None = field(default=None, compare=False, repr=False)


def compare(
    source: str,
    arches: Iterable[str],
    releases: Iterable[str],
    *,
    boot_args: str = "",
    config: Dict[str, bool] | None = None,
    total_pages: int | None = None,
    page_size: int | None = None,
    objects: Sequence[tuple[str, Built]] = (),
    keep: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Map ``source`` on every release of every architecture, each in a fresh address space.

    A heap is allocated anew for each architecture, in its own page size. An architecture that cannot take the
    source (other page size, option that it does not have) gets one row that says why.

    :param objects: what a kernel's own code is called, and its object: further columns on its architecture. It does
        not count what only the model can.
    :param keep: whether rows are to have what a picture needs.
    :param advance: called after each mapping.
    :raises InputError: if no architecture can take the source.
    """
    if isinstance(arches, str) or isinstance(releases, str):
        raise InputError("arches and releases are lists of names")
    releases = list(releases)
    rows: list[Row] = []
    loaded: dict[tuple[int, int], pages.PageArray] = {}  # heaps depend on page size and RAM only
    for arch in arches:
        built = {name: one for name, one in objects if one.target.arch == arch}

        def kernel_of(name: str, arch: str = arch, built: Dict[str, Built] = built) -> Machine:
            most = max(map(len, loaded.values()), default=0)
            return kernel_for(arch, name, built.get(name), boot_args, config, total_pages, most)

        try:
            described = kernel_of(BASELINE).arch
            key = described.page_size, described.ram_base
            if key not in loaded:
                loaded[key] = pages.load(source, arch, page_size)
        except InputError as error:
            rows.append(Row(arch, "", {}, None, None, refused=str(error)))
            for _ in releases:
                advance()
            continue
        rows += _compare_on(kernel_of, [*releases, *built], loaded[key], keep, advance)
    if rows and all(row.refused and not row.release for row in rows):
        raise InputError(rows[0].refused)
    return rows


def kernel_for(
    arch: str,
    name: str,
    built: Built | None,
    boot_args: str,
    config: Dict[str, bool] | None,
    total_pages: int | None,
    most: int,
    count: bool = False,
) -> Machine:
    """A fresh machine.

    :param name: of a release; or ``built``, a kernel's own code, for arrays of at most ``most`` pages, which is timed.
    :param count: whether what it executes is counted, too.
    """
    if built is None:
        return Kernel(arch, name, boot_args, config=config, total_pages=total_pages)
    from vmaplab.cost.measure import events_for
    from vmaplab.object.kernel import ObjectKernel

    return ObjectKernel(
        built, boot_args.split(), total_pages=total_pages, log_lines=1 << 20, trace=events_for(most), count=count
    )


def _compare_on(
    kernel_of: Callable[[str], Machine],
    releases: list[str],
    pfns: pages.PageArray,
    keep: bool,
    advance: Callable[[], None],
) -> list[Row]:
    """The rows of one architecture, in the order of ``releases``; the baseline is mapped once, first."""
    rows: dict[str, Row] = {}
    base_entries = 0
    for release in dict.fromkeys([BASELINE, *releases]):
        kernel = kernel_of(release)
        arch = kernel.arch.name
        try:
            mapping = kernel.vmap(pfns)
        except VmapError as error:
            rows[release] = Row(
                arch, release, {}, None, None, refused=str(error), errno=error.errno or 0, note=pfns.note
            )
        else:
            cost = mapping.cost
            if release == BASELINE:
                base_entries = cost.tlb_entries
            ratio = base_entries / cost.tlb_entries if base_entries else None
            sizes = leaves_by_size(mapping)
            made = Made(kernel.arch, mapping.leaves, mapping.addr, pfns) if keep else None
            rows[release] = Row(arch, release, sizes, cost, ratio, note=pfns.note, us=us_of(kernel), made=made)
        if release in releases:
            advance()
    return [rows[release] for release in releases]


def leaves_by_size(mapping: Mapping) -> dict[int, int]:
    """Bytes of a leaf -> how many the mapping has."""
    sizes, counts = np.unique(mapping.leaves["size"], return_counts=True)
    return dict(zip(sizes.tolist(), counts.tolist(), strict=True))


def us_of(kernel: Machine) -> dict[str, float]:
    """Microseconds by core of what a kernel's own code did last; of the model nobody knows."""
    if isinstance(kernel, Kernel):
        return {}
    from vmaplab.cost import measure
    from vmaplab.object.kernel import ObjectKernel

    assert isinstance(kernel, ObjectKernel)
    return measure.us_of(kernel)
