"""One page source on many kernels: what each release builds on each architecture, beside linux-6.12."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from vmaplab import pages
from vmaplab.cost import Cost
from vmaplab.errors import InputError, VmapError
from vmaplab.kernel import Kernel
from vmaplab.release import BASELINE


@dataclass(frozen=True)
class Row:
    """One release on one architecture.

    :param leaves_by_size: bytes of a leaf -> how many.
    :param release: "" if the architecture cannot take the source at all.
    :param tlb_ratio: TLB entries of linux-6.12 for the same pages, divided by this release's; None if either refused.
    :param refused: why there is nothing to show, or "".
    """

    arch: str
    release: str
    leaves_by_size: dict[int, int]
    cost: Cost | None
    tlb_ratio: float | None
    refused: str = ""


def compare(
    source: str,
    arches: Iterable[str],
    releases: Iterable[str],
    *,
    boot_args: str = "",
    config: Mapping[str, bool] | None = None,
    total_pages: int | None = None,
    page_size: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[Row]:
    """Map ``source`` on every release of every architecture, each in a fresh address space.

    A heap is allocated anew for each architecture, in its own page size. An architecture that cannot take the
    source (other page size, option that it does not have) gets one row that says why.

    :param advance: called after each mapping.
    :raises InputError: if no architecture can take the source.
    """
    rows: list[Row] = []
    loaded: dict[tuple[int, int], pages.PageArray] = {}  # heaps depend on page size and RAM only
    for arch in arches:
        try:
            rows += _compare_on(source, arch, list(releases), boot_args, config, total_pages, page_size, loaded)
        except InputError as error:
            rows.append(Row(arch, "", {}, None, None, refused=str(error)))
        for _ in releases:
            advance()
    if rows and all(row.refused and not row.release for row in rows):
        raise InputError(rows[0].refused)
    return rows


def _compare_on(
    source: str,
    arch: str,
    releases: list[str],
    boot_args: str,
    config: Mapping[str, bool] | None,
    total_pages: int | None,
    page_size: int | None,
    loaded: dict[tuple[int, int], pages.PageArray],
) -> list[Row]:
    baseline = Kernel(arch, BASELINE, boot_args, config=config, total_pages=total_pages)
    key = (baseline.arch.page_size, baseline.arch.ram_base)
    if key not in loaded:
        loaded[key] = pages.load(source, arch, page_size)
    pfns = loaded[key]
    base_entries = 0
    rows = []
    for release in [BASELINE, *releases]:
        kernel = Kernel(arch, release, boot_args, config=config, total_pages=total_pages)
        try:
            mapping = kernel.vmap(pfns)
        except VmapError as error:
            rows.append(Row(arch, release, {}, None, None, refused=str(error)))
            continue
        if kernel.release.name == BASELINE:
            base_entries = mapping.cost.tlb_entries
        sizes, counts = np.unique(mapping.leaves["size"], return_counts=True)
        by_size = {int(size): int(count) for size, count in zip(sizes, counts, strict=True)}
        ratio = base_entries / mapping.cost.tlb_entries if base_entries else None
        rows.append(Row(arch, release, by_size, mapping.cost, ratio))
    return rows[1:]
