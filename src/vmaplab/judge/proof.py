# SPDX-License-Identifier: GPL-2.0-only
"""Have an emulated MMU translate what is mapped, and what is not."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import Violation
from vmaplab.judge.format import EXEC, U64, Bools, Format
from vmaplab.judge.mmu import FETCH, READ, Mmu
from vmaplab.judge.mmu import WRITE as STORE

_NEAR = 8
"""Pages on each side of a mapped range that must fault, and as many steps of each level."""


@lru_cache(maxsize=16)
def _machine(form: Format, base: int, root: int) -> Mmu:
    """One CPU per format: it starts in milliseconds and keeps megabytes; :meth:`Mmu.load` makes it new."""
    return Mmu(form, base, root)


class Prover:
    """One emulated machine that checks table memories of one format.

    :param base: physical address of the table memory.
    :param root: physical address of the top table.
    :ivar faults: translations that had to be refused, and were.
    :ivar beyond: pages of the last check whose frames the emulated CPU cannot address.
    """

    def __init__(self, form: Format, base: int, root: int) -> None:
        self._form = form
        self._machine = _machine(form, base, root)
        self.faults = 0
        self.beyond = 0

    def load(self, memory: NDArray[np.uint8]) -> None:
        """Take ``memory``, a dump of the table memory."""
        self._machine.load(memory)

    def check(self, va: U64, phys: U64, page: int, writable: Bools | None = None) -> int:
        """Each of ``va`` must go to its ``phys``, to read and write but not to execute; around them are faults.

        :param va: page addresses, ascending.
        :param page: bytes of a page.
        :param writable: which of them can be written to; all if None.
        :return: how many pages the MMU translated; those beyond its physical addresses it cannot.
        :raises Violation: naming the first address that goes wrong.
        """
        reach = phys < np.uint64(1 << self._form.machine_bits)
        self.beyond = int((~reach).sum())
        everything, va, phys = va, va[reach], phys[reach]
        stored = np.ones(len(va), dtype=bool) if writable is None else writable[reach]
        for access, word in ((READ, "read"), (STORE, "written")):
            if access == STORE:
                va, phys = va[stored], phys[stored]
            to, taken = self._machine.translate(va, access)
            if not taken.all():
                raise Violation(f"the MMU: {int(va[np.flatnonzero(~taken)[0]]):#x} cannot be {word}")
            if not np.array_equal(to, phys):
                bad = int(np.flatnonzero(to != phys)[0])
                pfns = f"PFN {int(to[bad]) // page:#x} instead of {int(phys[bad]) // page:#x}"
                raise Violation(f"the MMU: {int(va[bad]):#x} goes to {pfns}")
        if not self._form.data_rights & EXEC:
            self.refuses(everything[reach], FETCH, "can be executed")
        self.refuses(self._near(everything, page), READ, "is mapped: nothing should be mapped there")
        return int(reach.sum())

    def refuses(self, va: U64, access: int = READ, what: str = "is still mapped") -> None:
        """None of ``va`` may be translated for ``access``.

        :raises Violation: saying ``what`` the first one is or can be.
        """
        _, taken = self._machine.translate(va, access)
        if taken.any():
            raise Violation(f"the MMU: {int(va[np.flatnonzero(taken)[0]]):#x} {what}")
        self.faults += len(va)

    def _near(self, va: U64, page: int) -> U64:
        """Addresses around the mapped ranges that are not mapped: guard pages first of all."""
        if not len(va):
            return va
        cut = np.flatnonzero(va[1:] != va[:-1] + np.uint64(page))
        edges = np.concatenate([va[:1], va[cut + 1], va[cut] + np.uint64(page), va[-1:] + np.uint64(page)])
        steps = [page, *(1 << shift for shift, _ in self._form.levels)]
        offsets = np.array([sign * step * count for step in steps for count in range(_NEAR + 1) for sign in (1, -1)])
        near = np.unique(edges[:, None] + np.unique(offsets).astype(np.uint64))
        within = near & np.uint64(self._form.kernel_half) == np.uint64(self._form.kernel_half)
        return np.setdiff1d(near[within], va)
