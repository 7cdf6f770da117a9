"""What a kernel release or patch version decides: how vmap() batches, and which walker it uses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Release:
    """One kernel release or patch version.

    The fields from ``batches`` on say how ``get_vmap_batch_order()`` turns a run of contiguous pages
    into an order; they are read in :mod:`vmaplab.vmalloc.batch`, in the order in which they stand here.

    :param name: what the command line calls it.
    :param title: one line for ``vmaplab releases``.
    :param merged: names of the architecture changes that this tree has.
    :param unified_walker: page arrays with any shift go through one descent; otherwise small pages do,
        and larger ones start again at the PGD for every chunk.
    :param inner_errors: the walker returns the error of the level where it stopped, and not ENOMEM.
    :param aligns_area: vmap() asks for an area aligned to ``vm_shift(prot, size)`` first.
    :param warns_on_partial_unmap: clearing part of a group or block is a kernel warning.
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

    name: str
    title: str
    merged: frozenset[str] = frozenset()
    unified_walker: bool = False
    inner_errors: bool = False
    aligns_area: bool = False
    warns_on_partial_unmap: bool = False
    batches: bool = False
    needs_huge_ioremap: bool = False
    scan_within_alignment: bool = False
    refuses_misaligned: bool = False
    gate: str = ""
    order_of_vm_shift: bool = False
    caps_at_pmd: bool = False
