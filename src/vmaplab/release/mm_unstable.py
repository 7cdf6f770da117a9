# SPDX-License-Identifier: GPL-2.0-only
"""mm-unstable (August 2026, as queued): the orders of version 4, with a scan that stays within the alignment."""

from __future__ import annotations

from dataclasses import replace

from vmaplab.release.base import Release
from vmaplab.release.series_v4 import RULES as SERIES_V4
from vmaplab.release.trees import LINUX_7_1

RULES = replace(SERIES_V4, scan_within_alignment=True)

RELEASE = Release(
    name="mm-unstable",
    title="August 2026, queued: v4, its scan limited by PFN alignment",
    tree=LINUX_7_1,
    rules=RULES,
    posted="2026-08",
)
