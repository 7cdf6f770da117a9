# SPDX-License-Identifier: GPL-2.0-only
"""What a call does to the address space, as a judge has to know it who sees the call, its result and the tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vmaplab.trace import Ints

NOTHING = -1
"""Stands for the page frame of a page that is not mapped."""

MANY = 1 << 22
"""More pages than any call maps."""

Given = Mapping[str, Any]
"""The arguments of a call, by their names in :class:`~vmaplab.calls.table.Calls`."""

Frames = Callable[[Given, int], Ints]
"""Which frame each page is to have: of the arguments, and the bytes of a page."""


@dataclass(frozen=True)
class Asks:
    """It changes nothing.

    :param trusts: it can go wrong where its caller is careless.
    """

    trusts: bool = False


@dataclass(frozen=True)
class Purges:
    """It flushes and frees all that waits for that."""


@dataclass(frozen=True)
class Maps:
    """It takes an area, and maps it.

    :param ends: the step that ends it.
    :param frames: which frame each page gets; None where the kernel takes pages of its own.
    :param memory: whether the frames have to be memory (True), must not be (False), or nobody looks (None).
    :param guard: a guard page follows; None where VM_NO_GUARD decides.
    :param device: it is mapped as device memory.
    :param metadata: KMSAN maps shadow and origin of its pages.
    :param quiet: it maps nothing yet, so nothing is flushed from a cache.
    """

    ends: str
    frames: Frames | None
    memory: bool | None = None
    guard: bool | None = True
    device: bool = False
    metadata: bool = False
    quiet: bool = False


@dataclass(frozen=True)
class Reserves:
    """It takes several areas at once, without guard pages, and maps nothing.

    :param ends: the step that ends them all.
    """

    ends: str


@dataclass(frozen=True)
class Ends:
    """It ends an area.

    :param frees: the pages of the area go back to the page allocator.
    :param whole_page: any address in a page stands for the page.
    :param counted: it has to be told how many pages there are, of what vm_map_ram() has mapped.
    :param together: it ends all areas of a call that took several, by the first of them.
    """

    frees: bool = False
    whole_page: bool = False
    counted: bool = False
    together: bool = False


@dataclass(frozen=True)
class Moves:
    """It may give what an area maps to a larger one, which the call ``to`` would have made, and end it.

    :param to: the step whose call makes such areas.
    """

    to: str


@dataclass(frozen=True)
class Changes:
    """It maps or unmaps where the caller says.

    :param frames: what each page from ``at`` on becomes.
    :param at: the argument that is the first address.
    :param sparse: only inside an area with VM_SPARSE, named by the argument ``area``.
    :param flushes: it flushes the range from the cache.
    :param metadata: KMSAN maps shadow and origin of its pages; None where it does not know of the call.
    """

    frames: Frames
    at: str = "addr"
    sparse: bool = False
    flushes: bool = True
    metadata: bool | None = True
    clears: bool = False


Effect = Asks | Purges | Maps | Reserves | Ends | Moves | Changes


def given_pages(given: Given, page: int) -> Ints:
    """The frames of the page array."""
    frames: Ints = given["pfns"].astype(np.int64)
    return frames


def physical_range(given: Given, page: int) -> Ints:
    """The frames that hold ``size`` bytes from ``phys`` on."""
    first, last = given["phys"] // page, (given["phys"] + given["size"] - 1) // page
    return np.arange(first, last + 1, dtype=np.int64)


def physical_until(given: Given, page: int) -> Ints:
    """The frames from ``phys`` on that a range up to ``end`` takes."""
    frames: Ints = given["phys"] // page + np.arange((given["end"] - given["addr"]) // page, dtype=np.int64)
    return frames


def nothing_of(given: Given, page: int) -> Ints:
    """No frames, for ``size`` bytes; of more than :data:`MANY` pages one number that stands for all."""
    pages = -(-given["size"] // page)
    return np.broadcast_to(np.int64(NOTHING), pages) if pages > MANY else np.full(pages, NOTHING, dtype=np.int64)


def cleared(start: str) -> Frames:
    """No frames, from the argument ``start`` up to ``end``."""
    return lambda given, page: np.full(max(given["end"] - given[start], 0) // page, NOTHING, dtype=np.int64)
