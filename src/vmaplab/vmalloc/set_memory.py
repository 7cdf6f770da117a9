# SPDX-License-Identifier: GPL-2.0-only
"""What ``set_memory_ro()`` and its like would do with part of a mapping: which leaves they cut, and how that ends.

Nothing is changed here. Sources, 6.12: ``arch/*/mm/pageattr.c``, ``arch/x86/mm/pat/set_memory.c``,
``apply_to_page_range()`` of ``mm/memory.c``; the rule for areas with VM_ALLOW_HUGE_VMAP on arm64 is of 6.18.
"""

from __future__ import annotations

import errno
from typing import Any

from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.calls.flags import VM_ALLOC, VM_ALLOW_HUGE_VMAP
from vmaplab.mapping import Hazard, SetMemory, VmArea

_TEXTS = {
    "split": "split in place: a table with the old attributes replaces the live entry, the TLB is flushed, then the "
    "pages change",
    "refused": "refused with a warning when the walk meets it: to split it takes break-before-make, and whoever uses "
    "the mapping meanwhile would fault",
    "whole": "changed as a whole: the pages outside the range lose or gain the right, too",
    "torn": "only the entries in the range change: a group whose entries disagree, of which a TLB may hold any",
}


def set_memory(arch: Arch, found: NDArray[Any], area: VmArea | None, addr: int, numpages: int) -> SetMemory:
    """``set_memory_ro(addr, numpages)``, ``_rw``, ``_x`` and ``_nx``: they differ in bits, not in this.

    :param found: the leaves that map part of the range, ``LEAF_DTYPE``, ascending.
    :param area: the one that holds ``addr``, if there is one.
    """
    page = arch.page_size
    end = addr + numpages * page
    rules = arch.set_memory
    leaves = [tuple(map(int, leaf)) for leaf in found]
    mapped = sum(min(va + size, end) - max(va, addr) for va, size, _ in leaves)
    unmapped = numpages - mapped // page
    error, why, oops = _refusal(arch, area, addr, end)
    reached = not error and not oops
    hazards: list[Hazard] = []
    for va, size, pfn in leaves:
        cut = va < addr or va + size > end
        outcome = rules.group if arch.is_group(size) else rules.block
        if size == page or (not cut and outcome != "refused"):
            continue
        inside = (min(va + size, end) - max(va, addr)) // page
        safe = not reached or outcome in ("split", "refused")
        text = _TEXTS[outcome] if reached else "not reached: the call has returned before"
        if reached and any(hazard.outcome == "refused" for hazard in hazards):
            text = "not reached: the walk has stopped at a leaf before it"
        hazards.append(Hazard(va, size, pfn, inside, outcome, safe, text))
    if reached and unmapped and rules.hole_errno:
        error, why = rules.hole_errno, f"pages of the range are not mapped ({unmapped}); any before them are changed"
    elif reached and any(hazard.outcome == "refused" for hazard in hazards):
        error, why = errno.EINVAL, "a leaf larger than a page is in the range; any small pages before it are changed"
    return SetMemory(error, why, oops, tuple(hazards), unmapped)


def _refusal(arch: Arch, area: VmArea | None, addr: int, end: int) -> tuple[int, str, bool]:
    """Errno, reason, and whether it is an oops, of what is looked at before any entry."""
    rules = arch.set_memory
    if rules.needs_alloc:
        if area is None or end > area.end:
            return errno.EINVAL, "the range is not inside one area", False
        if not area.flags & VM_ALLOC:
            return errno.EINVAL, "the area is not of vmalloc()", False
        if area.flags & VM_ALLOW_HUGE_VMAP and rules.refuses_huge:
            return errno.EINVAL, "the area is of vmalloc() with VM_ALLOW_HUGE_VMAP", False
    if rules.needs_pages:
        if area is None or area.pages is None:
            return 0, "it follows the pages of the area, and there is no area, or one that owns no pages", True
        if end > area.addr + len(area.pages) * arch.page_size:
            return 0, "it reads behind the array of the area's pages", True
    if rules.refuses_order and area is not None and area.order:
        return errno.EINVAL, "the area is of vmalloc() with pages of a larger order", False
    return 0, "", False
