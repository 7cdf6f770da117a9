# SPDX-License-Identifier: GPL-2.0-only
"""Released kernels: one for each tree that was compared. None of them batches in vmap()."""

from __future__ import annotations

from vmaplab.release.base import Release
from vmaplab.release.trees import TREES

RELEASES = tuple(
    Release(f"linux-{tree.version}", tree.title, tree, aliases=(tree.version, f"v{tree.version}")) for tree in TREES
)
