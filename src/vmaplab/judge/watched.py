# SPDX-License-Identifier: GPL-2.0-only
"""A machine whose calls another machine makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.machine import Machine
from vmaplab.trace import EventLog


class Watched(Machine):
    """All of ``kernel`` but its calls.

    :ivar kernel: the machine that makes them.
    """

    def __init__(self, kernel: Machine) -> None:
        self.kernel = kernel
        self.arch, self.boot_args, self.total_pages = kernel.arch, kernel.boot_args, kernel.total_pages
        self.cpus = kernel.cpus

    @property
    def log(self) -> EventLog:
        """What happened."""
        return self.kernel.log

    @property
    def warnings(self) -> list[str]:
        """Which WARN_ON() fired."""
        return self.kernel.warnings

    @property
    def cpu(self) -> int:
        """The CPU that makes the next calls."""
        return self.kernel.cpu

    @cpu.setter
    def cpu(self, number: int) -> None:
        self.kernel.cpu = number

    def fail(self, numbers: Iterable[int]) -> None:
        """The kernel's."""
        self.kernel.fail(numbers)

    def set_limit(self, max_tables: int | None) -> None:
        """The kernel's."""
        self.kernel.set_limit(max_tables)

    def set_signal(self, pending: bool) -> None:
        """Let a fatal signal be pending for the task that calls, or none."""
        self.kernel.set_signal(pending)

    def limit_pages(self, most: int, largest: int | None = None) -> None:
        """The kernel's."""
        self.kernel.limit_pages(most, largest)

    def leaves(self, start: int, end: int) -> NDArray[Any]:
        """The kernel's."""
        return self.kernel.leaves(start, end)

    def live_tables(self) -> NDArray[np.uint8]:
        """The kernel's."""
        return self.kernel.live_tables()

    def log_pages(self) -> list[NDArray[np.uint64]]:
        """The kernel's."""
        return self.kernel.log_pages()

    def check_heap(self) -> None:
        """The kernel's."""
        self.kernel.check_heap()

    @property
    def allocations(self) -> int:
        """The kernel's."""
        return self.kernel.allocations

    @property
    def keeps_metadata(self) -> bool:
        """The kernel's."""
        return self.kernel.keeps_metadata

    @property
    def code(self) -> str:
        """The kernel's."""
        return self.kernel.code

    @property
    def table_root(self) -> int:
        """The kernel's."""
        return self.kernel.table_root

    @property
    def live_objects(self) -> int:
        """The kernel's."""
        return self.kernel.live_objects

    @property
    def objects(self) -> Counter[tuple[int, int]]:
        """The kernel's."""
        return self.kernel.objects

    def place_text(self, place: int) -> str:
        """The kernel's."""
        return self.kernel.place_text(place)

    @property
    def free_bytes(self) -> int:
        """The kernel's."""
        return self.kernel.free_bytes

    @property
    def taken_pages(self) -> int:
        """The kernel's."""
        return self.kernel.taken_pages

    @property
    def null_pfn(self) -> int:
        """The kernel's."""
        return self.kernel.null_pfn

    @property
    def areas_taken(self) -> list[int]:
        """The kernel's."""
        return self.kernel.areas_taken
