# SPDX-License-Identifier: GPL-2.0-only
"""What has the kernel's calls: the readable model, the kernel's own code in an emulator, or a witness around either."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.table import Calls
from vmaplab.pfn import NULL_PFN
from vmaplab.trace import Event, EventLog


class Machine(Calls):
    """One kernel address space, as after boot, with its page tables; the calls are those of :class:`Calls`.

    :ivar arch: the architecture.
    :ivar boot_args: boot arguments.
    :ivar total_pages: pages of RAM; None for all that the architecture can address.
    :ivar cpus: CPUs of the machine.
    """

    boot_args: tuple[str, ...]
    total_pages: int | None
    cpus: int

    # -- what happened ------------------------------------------------------------------------------

    @property
    def records(self) -> bool:
        """Whether events are kept."""
        return True

    @property
    @abstractmethod
    def log(self) -> EventLog:
        """Everything that happened so far, in compact rows, if it :attr:`records`."""

    @property
    @abstractmethod
    def warnings(self) -> list[str]:
        """Which WARN_ON() fired so far, in order."""

    @property
    def events(self) -> list[Event]:
        """Everything that happened so far, in order."""
        return self.log.events()

    # -- what is there ------------------------------------------------------------------------------

    @property
    @abstractmethod
    def code(self) -> str:
        """Whose code this is: a release's name, or a tree's version."""

    @property
    @abstractmethod
    def table_root(self) -> int:
        """Physical address of the PGD."""

    @abstractmethod
    def live_tables(self) -> NDArray[np.uint8]:
        """The page tables in use, as bytes from the PGD on; free ones are zeroes. A view where that is possible."""

    @abstractmethod
    def leaves(self, start: int, end: int) -> NDArray[Any]:
        """All leaves that map part of [start, end), as ``LEAF_DTYPE``, ascending."""

    @property
    @abstractmethod
    def live_objects(self) -> int:
        """Objects that the vmalloc code holds now, those that stand for free address space aside."""

    @property
    def objects(self) -> Counter[tuple[int, int]]:
        """Those objects and all others of the slab: (bytes, place of the allocation) -> how many; none if not known."""
        return Counter()

    def place_text(self, place: int) -> str:
        """Function, file and line of a place of :attr:`objects`."""
        return f"{place:#x}"

    @property
    @abstractmethod
    def free_bytes(self) -> int:
        """Bytes of address space that no area has and that wait for no purge."""

    @property
    @abstractmethod
    def taken_pages(self) -> int:
        """Pages of the page allocator that are in use, page tables aside."""

    @abstractmethod
    def log_pages(self) -> list[NDArray[np.uint64]]:
        """A list to which the page allocator adds what it hands out from now on."""

    def check_heap(self) -> None:
        """Look for stores behind slab objects, and for pages that were taken for a while and kept.

        :raises KernelFault: if there was one. A machine without a heap has none.
        """

    @property
    def keeps_metadata(self) -> bool:
        """Whether KMSAN maps shadow and origin beside each page."""
        return False

    @property
    def null_pfn(self) -> int:
        """The PFN whose ``struct page`` is at address 0, if one is: as good as a NULL page (arm64 of 6.1 has one)."""
        return NULL_PFN

    @property
    def areas_taken(self) -> list[int]:
        """Addresses of the areas taken since boot, in order, where the model has not the tree's allocator."""
        return []
