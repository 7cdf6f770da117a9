# SPDX-License-Identifier: GPL-2.0-only
"""How much the campaigns among the tests do: all of it in ``make nightly``, a share of it in ``make test``."""

from __future__ import annotations

import os

import pytest

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
nightly = pytest.mark.skipif(not LONG, reason="make nightly")


def some(count: int, share: int = 4) -> int:
    """``count``, or one of ``share`` parts of it where nobody asks for long campaigns."""
    return count if LONG else -(-count // share)
