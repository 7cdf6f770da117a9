# SPDX-License-Identifier: GPL-2.0-only
"""Kernel trees: what each of them does, as far as trees differ. All were compared with their own code.

A tree that is none of these has the facts of the newest one that is not newer, and what its object tells of itself
(:mod:`vmaplab.check.tree`).
"""

from __future__ import annotations

from dataclasses import dataclass

from vmaplab.changes import Change, Changes


@dataclass(frozen=True, eq=False)
class Tree:
    """One kernel tree.

    :param version: major and minor number.
    :param title: what its vmap() does, one line for ``vmaplab releases``.
    :param changes: what it does that other trees do not.
    :param compared: the version whose code the model was held against.
    """

    version: str
    title: str
    changes: Changes
    compared: str

    @property
    def number(self) -> tuple[int, ...]:
        """The version, to be compared."""
        return tuple(int(part) for part in self.version.split("."))


LINUX_6_1 = Tree("6.1", "no batching: every page is a base page", frozenset(), "6.1.192")
LINUX_6_12 = Tree(
    "6.12",
    "no batching",
    LINUX_6_1.changes
    | {
        Change.VMAP_NODES,
        Change.VMAP_REFUSES_RESET_PERMS,
        Change.VMAP_PFN_SETS,
        Change.CALLER_WARNS_TOO,
        Change.VREALLOC,
        Change.NOFAIL_ORDER_0,
        Change.RISCV_HUGE_VMAP,
        Change.RISCV_SV39_LOWER,
        Change.ARM64_MODULES_2G,
    },
    "6.12.117",
)
LINUX_6_18 = Tree(
    "6.18",
    "no batching; arm64: contiguous PTEs in vmalloc(), ioremap()",
    LINUX_6_12.changes
    | {
        Change.ARM64_CONT_PTE,
        Change.ARM64_BLOCKS_WITH_PTDUMP,
        Change.ARM64_SET_MEMORY_REFUSES_HUGE,
        Change.ARM64_TABLE_AF,
        Change.ARM64_CLEAN_PAGE_KERNEL,
        Change.ARM64_PUD_FIRST,
        Change.DECAY_QUARTER,
        Change.PARTIAL_UNMAP_WARNS,
    },
    "6.18.2",
)
LINUX_6_19 = Tree(
    "6.19",
    "no batching; large orders first in vmalloc(), inner errors",
    LINUX_6_18.changes | {Change.LARGE_ORDERS_FIRST, Change.DEFERRED_CLEANUP, Change.INNER_ERRORS},
    "6.19.0",
)
LINUX_7_1 = Tree(
    "7.1",
    "no batching; what the series of 2026 is against",
    LINUX_6_19.changes - {Change.ARM64_CLEAN_PAGE_KERNEL},
    "7.1.5",
)

TREES = (LINUX_6_1, LINUX_6_12, LINUX_6_18, LINUX_6_19, LINUX_7_1)
"""Oldest first."""
