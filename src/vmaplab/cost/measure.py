# SPDX-License-Identifier: GPL-2.0-only
"""A call of the kernel's own code, traced, on cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.table import Returns, outcome, returns_of
from vmaplab.cost.core import Core, Corner
from vmaplab.cost.cores import cores
from vmaplab.cost.decode import decode
from vmaplab.cost.executed import Executed
from vmaplab.cost.patterns import offsets_of
from vmaplab.cost.time import USUAL, Band, Situation, band_of, time_of
from vmaplab.cost.use import Used, use
from vmaplab.errors import InputError
from vmaplab.object.build import Built
from vmaplab.object.kernel import ObjectKernel

DEFAULTS = {"arm64": ("A55", "A76"), "x86": ("Zen4",), "riscv": ("U74",)}
"""The cores that are asked for a family where none is named."""
_EVENTS, _LEAST = 96, 1 << 18
"""Basic blocks and accesses of a page at most, and of a call."""


@dataclass(frozen=True)
class Measured:
    """A call on cores.

    :param name: whose code; ``what``: the call; ``pages``: of its array, 0 if it has none.
    :param bands: one for each core.
    :param uses: patterns, and what came of each on each core.
    :param booted: instructions in a kernel that booted, if they were counted.
    """

    name: str
    what: str
    pages: int
    executed: Executed
    bands: tuple[Band, ...]
    uses: tuple[tuple[str, Used], ...] = ()
    booted: int | None = None


def default_cores(family: str) -> list[Core]:
    """The cores that are asked for a family."""
    return [cores()[name] for name in DEFAULTS[family]]


def events_for(pages: int) -> int:
    """Room for the events of a call that maps so many pages."""
    return _LEAST + _EVENTS * pages


def us_of(kernel: ObjectKernel) -> dict[str, float]:
    """Microseconds of the last call of a kernel that traces, on each core that is asked for its family."""
    executed = kernel.traced
    assert executed is not None
    decoded = decode(executed)
    return {
        core.name: time_of(executed, decoded, core, Corner.USUAL, USUAL).cycles / core.mhz.usual
        for core in default_cores(executed.family)
    }


class Traced(NamedTuple):
    """A ``vmap()``.

    :param leaves: what it built, as of a :class:`~vmaplab.mapping.Mapping`; ``addr``: where it begins.
    """

    executed: Executed
    leaves: NDArray[Any]
    addr: int
    arch: Arch


def traced_vmap(built: Built, pfns: NDArray[np.uint64], boot_args: str = "", again: bool = False) -> Traced:
    """Trace ``vmap()``.

    :param again: of the second call at the same addresses: the tables are there.
    :raises VmapError: if it refuses.
    """
    kernel = ObjectKernel(built, boot_args, trace=events_for(len(pfns)), log_lines=4 * len(pfns) + (1 << 16))
    mapping = kernel.vmap(pfns)
    if again:
        kernel.vunmap(mapping.addr)
        kernel.vm_unmap_aliases()
        mapping = kernel.vmap(pfns)
    assert kernel.traced is not None
    return Traced(kernel.traced, mapping.leaves.copy(), mapping.addr, kernel.arch)


def uses_of(traced: Traced, patterns: Sequence[str], chosen: Sequence[Core]) -> list[tuple[str, Used]]:
    """Use a mapping by each pattern on each core.

    :raises InputError: for a pattern that is none.
    """
    page = traced.arch.page_size
    size = int(traced.leaves["size"].sum())
    groups = {1 << group.shift: page for group in traced.arch.groups}
    found = []
    for pattern in patterns:
        offsets = offsets_of(pattern, size)
        found += [(pattern, use(traced.leaves, traced.addr, page, groups, offsets, core)) for core in chosen]
    return found


def traced_scenario(built: Built, scenario: Scenario) -> Executed:
    """Trace the last step of a scenario.

    :raises InputError: if that is no call of the kernel's code.
    :raises VmapError: if it, or a step before it, fails.
    """
    pages = sum(step.length for step in scenario.steps if step.pfns is not None or step.pages)
    kernel = ObjectKernel(
        built,
        scenario.boot_args,
        total_pages=scenario.total_pages,
        trace=events_for(min(pages, 1 << 20)),
        log_lines=4 * min(pages, 1 << 20) + (1 << 16),
    )
    addresses: list[int] = []
    for step in scenario.steps:
        kernel.traced = None
        addr = addresses[step.ref] if step.ref >= 0 else step.addr
        value = outcome(kernel, step, addr)
        addresses.append(value if returns_of(step) is Returns.ADDRESS and isinstance(value, int) else 0)
    if kernel.traced is None:
        raise InputError(f"the last step of '{scenario}' runs no code of the kernel")
    return kernel.traced


def on_cores(
    name: str, what: str, pages: int, executed: Executed, chosen: Sequence[Core], situation: Situation
) -> Measured:
    """Time a trace on each of some cores."""
    return Measured(name, what, pages, executed, tuple(band_of(executed, core, situation) for core in chosen))
