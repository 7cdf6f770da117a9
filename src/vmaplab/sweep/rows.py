# SPDX-License-Identifier: GPL-2.0-only
"""Page arrays to rows: one for each mapping, and one for each array that cannot be mapped, with its error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vmaplab import pages
from vmaplab.compare import kernel_for, leaves_by_size, us_of
from vmaplab.cost.cores import cores
from vmaplab.cost.counters import TEXTS
from vmaplab.errors import InputError, KernelFault, Violation, VmapError
from vmaplab.machine import Machine
from vmaplab.pages.array import PageArray, size_text
from vmaplab.release import BASELINE, DEFAULT, RELEASES
from vmaplab.sweep.plan import Options, Plan
from vmaplab.why import Small, larger_leaves, runs_of, small, takes

SIZES: list[int] = sorted(
    {
        size
        for release in RELEASES.values()
        for arch in release.arches.values()
        for size in [
            arch.page_size,
            *(1 << group.shift for group in arch.groups),
            *(1 << level.shift for level in arch.levels if level.leaf),
        ]
    }
)
"""Bytes of each leaf that any MMU has."""
_TEXTS = ("source", "arch", "release", "options", "flipped", "error")
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("page_size", pa.int64()),
        ("bytes", pa.int64()),
        ("runs", pa.int64()),
        ("addr", pa.uint64()),
        *((name, pa.int64()) for name in TEXTS),
        ("gain", pa.float64()),
        *((f"leaves_{size_text(size)}", pa.int64()) for size in SIZES),
        *((f"small_{name}", pa.int64()) for name in Small._fields),
        *((f"us_{core}", pa.float64()) for core in cores()),
    ]
)
"""Of a row; what docs/sweep.md says of each column."""


def table_of(sources: Iterable[str], plan: Plan) -> pa.Table:
    """The rows of some page arrays, in order."""
    return as_table(row for source in sources for row in rows_of(source, plan))


def as_table(rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Rows as columns; what a row does not have is null."""
    return pa.Table.from_pylist([_plain(row) for row in rows], schema=SCHEMA)


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose texts are UTF-8, whatever names files have."""
    told = {name: row[name].encode("utf-8", "backslashreplace").decode() for name in ("source", "error") if name in row}
    return row | told


def rows_of(source: str, plan: Plan) -> Iterator[dict[str, Any]]:
    """The rows of one page array; a heap is allocated anew for each architecture, in its own page size."""
    loaded: dict[tuple[int, int], PageArray | str] = {}
    for name in plan.arches:
        arch = RELEASES[DEFAULT].on(name)
        key = arch.page_size, arch.ram_base
        if key not in loaded:
            loaded[key] = load_array(source, name, plan.page_size)
        array = loaded[key]
        if isinstance(array, str):
            yield {"source": source, "arch": name, "error": array}
            continue
        runs = runs_of(array)
        told = {
            "source": source,
            "arch": name,
            "page_size": arch.page_size,
            "bytes": len(array) * arch.page_size,
            "runs": len(runs) - 1,
        }
        for options in plan.options[name]:
            for row in _mapped(array, runs, name, options, plan):
                yield {**told, **row}


def load_array(source: str, arch: str, page_size: int | None) -> PageArray | str:
    """The page array of a source, or why there is none.

    :param page_size: bytes of a page, for plain files.
    """
    try:
        plain = source.rpartition("/")[2].partition(":")[0] not in ("heap", "pfns")
        return pages.load(source, arch, page_size if plain else None)
    except InputError as error:
        return str(error)
    except MemoryError:
        return f"'{source}' needs more memory than there is"


def _mapped(
    array: PageArray, runs: NDArray[np.int64], arch: str, options: Options, plan: Plan
) -> Iterator[dict[str, Any]]:
    """The rows of one array on one architecture with some options; the baseline is mapped in any case, first."""
    sizes = larger_leaves(arch)
    base = None
    found: dict[str, dict[str, Any]] = {}
    wanted = [*plan.releases, *plan.objects.get(arch, {})]
    for name in dict.fromkeys([BASELINE, *wanted]):
        told: dict[str, Any] = {"options": options.text, "flipped": options.flipped, "release": name}
        try:
            kernel = _kernel(plan, arch, name, options, len(array))
            mapping = kernel.vmap(array)
            leaves, cost = mapping.leaves, mapping.cost
            made = next((size for size in sizes if _takes(plan, arch, name, options, size)), None)
        except _REFUSALS as error:
            told["error"] = " ".join(str(error).split()) or "needs more memory than there is"
        else:
            base = cost.tlb_entries if name == BASELINE else base
            kept = small(array, runs, leaves, mapping.addr, kernel.arch.page_size, next(iter(sizes), None), made)
            told |= dict(cost)
            told |= {f"small_{reason}": count for reason, count in kept._asdict().items()}
            told |= {f"leaves_{size_text(size)}": count for size, count in leaves_by_size(mapping).items()}
            told |= {f"us_{core}": us for core, us in us_of(kernel).items()}
            told |= {"addr": mapping.addr, "gain": base / cost.tlb_entries if base else None}
        found[name] = told
    yield from (found[name] for name in wanted)


_REFUSALS = (InputError, VmapError, KernelFault, Violation, MemoryError)


def _kernel(plan: Plan, arch: str, name: str, options: Options, most: int) -> Machine:
    built = plan.objects.get(arch, {}).get(name)
    return kernel_for(arch, name, built, options.boot_args, options.config, plan.total_pages, most, count=True)


_taken: dict[tuple[object, ...], bool] = {}
"""What :func:`_takes` has found in this process."""


def _takes(plan: Plan, arch: str, name: str, options: Options, larger: int) -> bool:
    """Whether this kernel's vmap() makes one leaf of ``larger`` bytes of one aligned block of that size."""
    built = plan.objects.get(arch, {}).get(name)
    key = arch, name, options.text, plan.total_pages, built and built.image, larger
    if key not in _taken:
        _taken[key] = takes(_kernel(plan, arch, name, options, 0), larger)
    return _taken[key]
