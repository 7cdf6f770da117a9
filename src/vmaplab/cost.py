"""What a mapping cost, in counters that do not depend on the machine that counts them."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vmaplab.pgtable.geometry import Ints


@dataclass(frozen=True)
class Cost:
    """Counters of one call that maps, ints; None is not counted. What KMSAN maps beside it is left out.

    :param pages: base pages mapped.
    :param leaves: translations that the MMU sees: base pages, groups of PTEs, blocks.
    :param tlb_entries: TLB entries that the mapping fills, a contiguous group being one.
    :param entries_stored: leaf entries written: 16 for a contiguous group of 16, 1 for a PMD block.
    :param tables_allocated: page tables allocated on the way.
    :param walk_steps: entries above the leaf that the walker read, each time it looked at one.
    :param pages_scanned: comparisons of a PFN with its predecessor plus 1 that batching made.
    :param walker_calls: descents that started at the top level.
    :param pte_set_calls: calls that set leaf entries: per base page, per ``map_size``, per block.
    :param instructions: instructions executed. This and what follows only the kernel's own code can tell; the
        four before it only the model.
    :param loads: instructions that read memory.
    :param stores: instructions that write memory; one that does both counts as both.
    :param barriers: barrier instructions: ``dsb``, ``dmb``, ``isb``; ``mfence``, ``lfence``, ``sfence``; ``fence``.
    """

    pages: int
    leaves: int
    tlb_entries: int
    entries_stored: int
    tables_allocated: int
    walk_steps: int | None = None
    pages_scanned: int | None = None
    walker_calls: int | None = None
    pte_set_calls: int | None = None
    instructions: int | None = None
    loads: int | None = None
    stores: int | None = None
    barriers: int | None = None

    @classmethod
    def of(cls, pages: int, counters: Ints) -> Cost:
        """From the walkers' counters (``vmaplab.pgtable.memory`` ``C_*``)."""
        tables, walk, scanned, calls, sets, leaves, entries = (int(count) for count in counters)
        return cls(pages, leaves, leaves, entries, tables, walk, scanned, calls, sets)

    @classmethod
    def measured(
        cls, pages: int, leaves: int, entries: int, tables: int, executed: tuple[int, int, int, int] | None
    ) -> Cost:
        """Of the kernel's own code: what is seen from outside, and what the CPU ``executed`` if that was counted."""
        instructions, loads, stores, barriers = executed or (None,) * 4
        return cls(
            pages,
            leaves,
            leaves,
            entries,
            tables,
            instructions=instructions,
            loads=loads,
            stores=stores,
            barriers=barriers,
        )

    def keys(self) -> list[str]:
        """The names of the counters that were counted, in order, so that ``dict(cost)`` works."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    def __getitem__(self, name: str) -> int:
        return int(getattr(self, name))
