# SPDX-License-Identifier: GPL-2.0-only
"""Released kernels: one for each tree that was compared. None of them batches in vmap()."""

from __future__ import annotations

from vmaplab.release.base import Release
from vmaplab.release.trees import LINUX_6_1, LINUX_6_12, LINUX_6_18, LINUX_6_19, LINUX_7_1, Tree

_TITLES = {
    LINUX_6_1: "no batching: every page is a base page",
    LINUX_6_12: "no batching",
    LINUX_6_18: "no batching; arm64 has contiguous PTEs for huge vmalloc() and ioremap()",
    LINUX_6_19: "no batching; large orders first in vmalloc(), inner errors",
    LINUX_7_1: "no batching; what the series of 2026 is against",
}


def _released(tree: Tree) -> Release:
    return Release(f"linux-{tree.version}", _TITLES[tree], tree)


RELEASES = tuple(_released(tree) for tree in _TITLES)
