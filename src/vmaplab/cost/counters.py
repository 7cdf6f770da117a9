# SPDX-License-Identifier: GPL-2.0-only
"""What a mapping cost, in counters that do not depend on the machine that counts them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from vmaplab.trace import Ints

C_TABLES, C_WALK, C_SCANNED, C_CALLS, C_SETS, C_LEAVES, C_ENTRIES = COMPILED = range(7)
"""Counters that compiled code keeps, by their places in ``vmaplab.pgtable.memory.Tables.cost``."""


def _counter(text: str, column: str = "", compiled: int | None = None) -> Any:
    """A counter that every machine has.

    :param text: what it counts.
    :param column: its head in a comparison, if it is in there.
    :param compiled: where compiled code counts it, ``C_*``.
    """
    return field(metadata={"text": text, "column": column, "compiled": compiled})


def _optional(text: str, column: str = "", compiled: int | None = None) -> Any:
    """A counter that not every machine has."""
    return field(default=None, metadata={"text": text, "column": column, "compiled": compiled})


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

    pages: int = _counter("base pages mapped")
    leaves: int = _counter("translations that the MMU sees", compiled=C_LEAVES)
    tlb_entries: int = _counter("TLB entries that the mapping fills", "TLB", compiled=C_LEAVES)
    entries_stored: int = _counter("leaf entries written", "stored", compiled=C_ENTRIES)
    tables_allocated: int = _counter("page tables allocated", "tables", compiled=C_TABLES)
    walk_steps: int | None = _optional("entries above the leaf read", "steps", compiled=C_WALK)
    pages_scanned: int | None = _optional("PFN comparisons made by batching", "scanned", compiled=C_SCANNED)
    walker_calls: int | None = _optional("descents from the top level", "walks", compiled=C_CALLS)
    pte_set_calls: int | None = _optional("calls that set leaf entries", "sets", compiled=C_SETS)
    instructions: int | None = _optional("instructions executed")
    loads: int | None = _optional("instructions that read memory")
    stores: int | None = _optional("instructions that write memory")
    barriers: int | None = _optional("barrier instructions")

    @classmethod
    def of(cls, pages: int, counters: Ints) -> Cost:
        """From the counters that compiled code kept, :data:`COMPILED`."""
        return cls(pages, **{name: int(counters[at]) for name, at in _COMPILED.items()})

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
        return [one.name for one in fields(self) if getattr(self, one.name) is not None]

    def __getitem__(self, name: str) -> int:
        return int(getattr(self, name))


TEXTS: dict[str, str] = {one.name: one.metadata["text"] for one in fields(Cost)}
"""What each counter counts."""
COLUMNS: dict[str, str] = {one.name: one.metadata["column"] for one in fields(Cost) if one.metadata["column"]}
"""The counters of a comparison, and the heads of their columns."""
_COMPILED: dict[str, int] = {
    one.name: one.metadata["compiled"] for one in fields(Cost) if one.metadata["compiled"] is not None
}
