# SPDX-License-Identifier: GPL-2.0-only
"""The judge of page tables: entry formats as the architecture manuals define them, a walker, and emulated MMUs.

It shares no format, no constant and no walk with what it judges (:mod:`vmaplab.arch`, :mod:`vmaplab.pgtable`); the two
meet in the bytes of the table memory and in the name of the architecture.
"""

from __future__ import annotations

from vmaplab.judge.format import Format
from vmaplab.judge.formats import FORMATS

__all__ = ["FORMATS", "Format"]
