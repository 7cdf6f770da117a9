"""What a mapping cost, in counters that do not depend on the machine that counts them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields

from vmaplab.pgtable.geometry import Ints


@dataclass(frozen=True)
class Cost:
    """Counters of one call that maps, all ints. What KMSAN maps beside it is not counted.

    :param pages: base pages mapped.
    :param leaves: translations that the MMU sees: base pages, groups of PTEs, blocks.
    :param tlb_entries: TLB entries that the mapping fills, a contiguous group being one.
    :param entries_stored: leaf entries written: 16 for a contiguous group of 16, 1 for a PMD block.
    :param tables_allocated: page tables allocated on the way.
    :param walk_steps: entries above the leaf that the walker read, each time it looked at one.
    :param pages_scanned: comparisons of a PFN with its predecessor plus 1 that batching made.
    :param walker_calls: descents that started at the top level.
    :param pte_set_calls: calls that set leaf entries: per base page, per ``map_size``, per block.
    """

    pages: int
    leaves: int
    tlb_entries: int
    entries_stored: int
    tables_allocated: int
    walk_steps: int
    pages_scanned: int
    walker_calls: int
    pte_set_calls: int

    @classmethod
    def of(cls, pages: int, counters: Ints) -> Cost:
        """From the walkers' counters (``vmaplab.pgtable.memory`` ``C_*``)."""
        tables, walk, scanned, calls, sets, leaves, entries = (int(count) for count in counters)
        return cls(pages, leaves, leaves, entries, tables, walk, scanned, calls, sets)

    @classmethod
    def names(cls) -> list[str]:
        """The counters' names, in order."""
        return [field.name for field in fields(cls)]

    def keys(self) -> list[str]:
        """The counters' names, so that ``dict(cost)`` works."""
        return self.names()

    def __getitem__(self, name: str) -> int:
        return int(getattr(self, name))

    def __iter__(self) -> Iterator[int]:
        return iter(astuple(self))
