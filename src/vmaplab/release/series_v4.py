# SPDX-License-Identifier: GPL-2.0-only
"""The series, version 4 (18 June 2026): shrinks the order to the PFN's alignment, gates on vm_shift()."""

from __future__ import annotations

from dataclasses import replace

from vmaplab.release.base import Release
from vmaplab.release.series_v3 import RULES as SERIES_V3
from vmaplab.release.trees import LINUX_7_1

RULES = replace(SERIES_V3, needs_huge_ioremap=False, refuses_misaligned=False, gate="vm_shift", caps_at_pmd=False)

RELEASE = Release(
    name="series-v4",
    title="18 June 2026: shrinks the order to the PFN's alignment",
    tree=LINUX_7_1,
    rules=RULES,
    posted="2026-06-18",
    aliases=("v4",),
)
