# SPDX-License-Identifier: GPL-2.0-only
"""A call of the kernel's own code, traced, on cores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.scenario import Scenario
from vmaplab.calls.table import Returns, outcome, returns_of
from vmaplab.cost.core import Core
from vmaplab.cost.cores import cores
from vmaplab.cost.executed import Executed
from vmaplab.cost.time import Band, Situation, band_of
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
    """

    name: str
    what: str
    pages: int
    executed: Executed
    bands: tuple[Band, ...]


def default_cores(family: str) -> list[Core]:
    """The cores that are asked for a family."""
    return [cores()[name] for name in DEFAULTS[family]]


def events_for(pages: int) -> int:
    """Room for the events of a call that maps so many pages."""
    return _LEAST + _EVENTS * pages


def traced_vmap(built: Built, pfns: NDArray[np.uint64], boot_args: str = "", again: bool = False) -> Executed:
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
    return kernel.traced


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
