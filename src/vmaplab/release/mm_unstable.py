"""mm-unstable (August 2026, as queued): the orders of version 4, with a scan that stays within the alignment."""

from __future__ import annotations

from dataclasses import replace

from vmaplab.release.series_v4 import RELEASE as SERIES_V4

RELEASE = replace(
    SERIES_V4,
    name="mm-unstable",
    title="August 2026, as queued: as version 4, scan limited by the PFN's alignment",
    scan_within_alignment=True,
)
