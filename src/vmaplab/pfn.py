# SPDX-License-Identifier: GPL-2.0-only
"""Page frame numbers."""

NULL_PFN = 2**64 - 1
"""How a page array spells a NULL ``struct page *``."""
