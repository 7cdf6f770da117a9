# SPDX-License-Identifier: GPL-2.0-only
"""Where vmaplab keeps what it can make again: compiled functions, kernel builds, unpacked trees."""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """``vmaplab`` in the user's cache directory (``XDG_CACHE_HOME``, or ``~/.cache``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "vmaplab"
