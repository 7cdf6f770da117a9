# SPDX-License-Identifier: GPL-2.0-only
"""The series, version 3 (21 May 2026): batches whole aligned runs where a PTE-level hook helps.

Source: the patch quoted in the review mail, "[PATCH v3 5/6] mm/vmalloc: map contiguous pages in
batches for vmap() if possible".
"""

from __future__ import annotations

from vmaplab.changes import Change
from vmaplab.release.base import Release, Rules
from vmaplab.release.trees import LINUX_7_1

RULES = Rules(
    changes=frozenset(
        {
            Change.ARM64_MULTI_CONT_PTE,
            # A snippet that stands for vmap() brings these along on a tree that lacks them.
            Change.ARM64_CONT_PTE,
            Change.VMAP_REFUSES_RESET_PERMS,
        }
    ),
    unified_walker=True,
    aligns_area=True,
    batches=True,
    needs_huge_ioremap=True,
    refuses_misaligned=True,
    gate="arch_vmap_pte_supported_shift",
    caps_at_pmd=True,
)

RELEASE = Release(
    name="series-v3",
    title="21 May 2026: batches aligned runs that a PTE-level hook takes",
    tree=LINUX_7_1,
    rules=RULES,
    posted="2026-05-21",
    aliases=("v3",),
)
