"""The series, version 3 (21 May 2026): batches whole aligned runs where a PTE-level hook helps.

Source: the patch quoted in the review mail, "[PATCH v3 5/6] mm/vmalloc: map contiguous pages in
batches for vmap() if possible".
"""

from __future__ import annotations

from dataclasses import replace

from vmaplab.release.linux_6_16 import RELEASE as LINUX_6_16

RELEASE = replace(
    LINUX_6_16,
    name="series-v3",
    title="21 May 2026: batches runs aligned to their length, if a PTE-level hook supports them",
    merged=LINUX_6_16.merged | {"arm64: several contiguous-PTE groups in one store"},
    unified_walker=True,
    inner_errors=True,
    aligns_area=True,
    batches=True,
    needs_huge_ioremap=True,
    refuses_misaligned=True,
    gate="arch_vmap_pte_supported_shift",
    caps_at_pmd=True,
)
