# SPDX-License-Identifier: GPL-2.0-only
"""A call as data, so that sequences can be written, replayed and compared."""

from __future__ import annotations

from typing import NamedTuple

from vmaplab.pages.runs import Pfns


class Operation(NamedTuple):
    """One call.

    :param call: what to do, a step of :data:`~vmaplab.calls.table.STEPS`.
    :param ref: number of the operation whose address it takes, or -1.
    :param offset: pages behind that address.
    :param pages: how many.
    :param pfn: first page frame of a physical range.
    :param pfns: the page array; of percpu the offset and the size of each area, pages, in turn.
    :param flags: flags of vmap() and of an area, page_shift of map, bytes more of range and vread; of vmalloc what the
        kinds of its arguments put there.
    :param addr: the address that it takes, if no operation gives one.
    """

    call: str
    ref: int = -1
    offset: int = 0
    pages: int = 0
    pfn: int = 0
    pfns: Pfns | None = None
    flags: int = 0
    addr: int = 0

    @property
    def length(self) -> int:
        """Pages of its array, or how many it asks for."""
        return self.pages if self.pfns is None else len(self.pfns)
