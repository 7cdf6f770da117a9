# SPDX-License-Identifier: GPL-2.0-only
"""What the reviewer of version 3 suggested (29 May 2026): "completely untested and may miss some edge cases".

The order shrinks to the PFN's alignment, then to what ``vm_shift()`` can map as one leaf. ``__ffs()`` of
PFN 0 is undefined in C; the model takes it as "no limit", as version 4 does.
"""

from __future__ import annotations

from dataclasses import replace

from vmaplab.release.base import Release
from vmaplab.release.series_v3 import RULES as SERIES_V3
from vmaplab.release.trees import LINUX_7_1

RULES = replace(
    SERIES_V3, needs_huge_ioremap=False, refuses_misaligned=False, gate="", order_of_vm_shift=True, caps_at_pmd=False
)

RELEASE = Release(
    name="suggested",
    title="29 May 2026: the reviewer's suggestion, one leaf size a chunk",
    tree=LINUX_7_1,
    rules=RULES,
    posted="2026-05-29",
    aliases=("review",),
)
