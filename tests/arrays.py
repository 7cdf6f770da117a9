# SPDX-License-Identifier: GPL-2.0-only
"""Page arrays shaped like real ones, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st


@st.composite
def page_arrays(draw: st.DrawFn, max_pages: int = 1500, max_pfn: int = 1 << 18) -> list[int]:
    """Runs of every length and alignment, mixed with single pages: PFNs below ``max_pfn``."""
    pfns: list[int] = []
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["aligned", "offset", "single", "follow", "power"]))
        order = draw(st.integers(0, 10))
        length = draw(st.integers(1, 700)) if kind != "power" else 1 << order
        base = draw(st.integers(0, (max_pfn - 2048) >> order)) << order
        if kind == "offset":
            base += draw(st.integers(0, 40))
        if kind == "single":
            length = 1
        if kind == "follow" and pfns:
            base = pfns[-1] + 1
        pfns += range(base, min(base + length, max_pfn))
    return (pfns or [draw(st.integers(0, max_pfn - 1))])[:max_pages]
