# SPDX-License-Identifier: GPL-2.0-only
"""A kernel release or a patch: rules, how vmap() batches and which walker it uses, over the facts of a tree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vmaplab import arch as arches
from vmaplab._names import known
from vmaplab.arch import Arch, Told
from vmaplab.changes import Change, Changes
from vmaplab.release.trees import Tree


@dataclass(frozen=True, eq=False)
class Rules:
    """What the code of vmap() does.

    The fields from ``batches`` on say how ``get_vmap_batch_order()`` turns a run of contiguous pages
    into an order; they are read in :mod:`vmaplab.vmalloc.batch`, in the order in which they stand here.

    :param changes: what the patch changes besides.
    :param unified_walker: page arrays with any shift go through one descent; otherwise small pages do,
        and larger ones start again at the PGD for every chunk.
    :param aligns_area: vmap() asks for an area aligned to ``vm_shift(prot, size)`` first.
    :param batches: vmap() looks for contiguous pages at all.
    :param needs_huge_ioremap: not after ``nohugeiomap``.
    :param scan_within_alignment: the scan looks at no more pages than the PFN's alignment allows.
    :param refuses_misaligned: a run longer than its first PFN is aligned becomes base pages, instead
        of the largest order that is aligned.
    :param gate: which helper must support the order's size, or the order becomes 0:
        ``arch_vmap_pte_supported_shift`` or ``vm_shift``; "" asks none.
    :param order_of_vm_shift: the order is ``vm_shift(prot, size) - PAGE_SHIFT``, not the run's.
    :param caps_at_pmd: the walker gets at most PMD_SHIFT.
    """

    changes: Changes = frozenset()
    unified_walker: bool = False
    aligns_area: bool = False
    batches: bool = False
    needs_huge_ioremap: bool = False
    scan_within_alignment: bool = False
    refuses_misaligned: bool = False
    gate: str = ""
    order_of_vm_shift: bool = False
    caps_at_pmd: bool = False


NO_BATCHING = Rules()
"""What every released kernel up to 7.1 does: vmap() stores base pages; huge vmalloc() walks anew for each chunk."""


@dataclass(frozen=True, eq=False)
class Release:
    """Rules over a tree.

    :param name: what the command line calls it.
    :param title: one line for ``vmaplab releases``.
    :param tree: the tree.
    :param rules: how its vmap() batches.
    :param posted: the day of a patch, ``2026-05-21``: patches are listed by it.
    :param aliases: what else it is called on the command line.
    :param changes: all that it does differently: the tree's and the rules'; more or less where a tree's own code
        told so.
    :param told: by architecture, the values that a tree's own code told.
    """

    name: str
    title: str
    tree: Tree
    rules: Rules = NO_BATCHING
    posted: str = ""
    aliases: tuple[str, ...] = ()
    changes: Changes | None = None
    told: Mapping[str, Told] = field(default_factory=dict, repr=False)

    def has(self, change: Change) -> bool:
        """Whether it has ``change``."""
        return change in (self.tree.changes | self.rules.changes if self.changes is None else self.changes)

    def on(self, name: str) -> Arch:
        """The architecture called ``name`` as this release has it.

        :raises InputError: if there is none.
        """
        return self.arches[known(name, self.arches, "architecture", arches.ALIASES)]

    @cached_property
    def arches(self) -> dict[str, Arch]:
        """All architectures as this release has them, by name."""
        found = arches.of(self.has)
        return found | {name: found[name].as_told(told) for name, told in self.told.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Architectures have functions, which do not travel between processes."""
        return {name: value for name, value in self.__dict__.items() if name != "arches"}
