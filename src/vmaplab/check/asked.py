# SPDX-License-Identifier: GPL-2.0-only
"""How a tree is asked whether it has a change: a scenario that comes out otherwise with it.

Hand-written, one for each change that a scenario can show. The tests hold the model against the trees with them; a
tree between two known ones is asked them, so that what it took over early is no difference.
"""

from __future__ import annotations

from typing import NamedTuple

from vmaplab.arch import Arch
from vmaplab.calls.scenario import Scenario, parse
from vmaplab.changes import Change


class Question(NamedTuple):
    """A scenario for one change.

    :param steps: with ``{group}``, ``{pmd}`` and ``{pud}`` for the pages of a contiguous group and of blocks.
    :param family: on which architectures; "" for all.
    :param cpus: CPUs of the machine.
    :param wild: a tree without the change runs wild with it, for seconds: not to be asked lightly.
    """

    steps: str
    family: str = ""
    cpus: int = 1
    wild: bool = False


QUESTIONS: dict[Change, Question] = {
    Change.VMAP_REFUSES_RESET_PERMS: Question("vmap 0x1000 flags=0x104"),
    Change.CALLER_WARNS_TOO: Question("vfree 0x1234"),
    Change.NOFAIL_ORDER_0: Question("signal 1; vmalloc {pmd} huge gfp=GFP_KERNEL|__GFP_NOFAIL"),
    Change.ARM64_CONT_PTE: Question("area {group}; range @0 {group} {group}", "arm64"),
    Change.ARM64_TABLE_AF: Question("vmap 0x1000", "arm64"),
    Change.ARM64_CLEAN_PAGE_KERNEL: Question("vmap 0x1000", "arm64"),
    Change.ARM64_PUD_FIRST: Question("area {pud}; range @0 1 {pud}; unrange @0 1; range @0 {pud} {pud}", "arm64"),
    # One area in the pool of CPU 0 when the second purge comes: is it left there, or is it free for CPU 1?
    Change.DECAY_QUARTER: Question("area 3; vunmap @0; aliases; aliases; cpu 1; area 3", cpus=4),
    Change.PARTIAL_UNMAP_WARNS: Question("area {pmd}; range @0 {pmd} {pmd}; unrange @0+1 1"),
    # A block of four pages is not where four single pages come from once a page is gone.
    Change.LARGE_ORDERS_FIRST: Question("vmalloc 1; vmalloc 4"),
    # Two attempts fail: who is cleaned up first?
    Change.DEFERRED_CLEANUP: Question("tables 0; vmalloc {pmd} huge"),
    Change.INNER_ERRORS: Question("area 3; range @0 1 0x200 +16", wild=True),
}


def question(change: Change, arch: Arch) -> Scenario | None:
    """The scenario that asks for ``change`` on ``arch``; None if none can."""
    asked = QUESTIONS.get(change)
    if asked is None or (asked.family and asked.family != arch.family):
        return None
    group = 1 << (arch.groups[-1].shift if arch.groups else arch.page_shift) - arch.page_shift
    blocks = [1 << level.shift - arch.page_shift if level.leaf and arch.huge_vmap else 0 for level in arch.levels]
    pmd, pud = blocks[1], blocks[2]
    if ("{pmd}" in asked.steps and not pmd) or ("{pud}" in asked.steps and (not pud or arch.vmalloc_start % (1 << 30))):
        return None
    return parse(asked.steps.format(group=group, pmd=pmd, pud=pud))
