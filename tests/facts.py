# SPDX-License-Identifier: GPL-2.0-only
"""The architectures as the default release has them, for tests that look at what no tree changes."""

from __future__ import annotations

from vmaplab.release import DEFAULT, get

ARCHES = get(DEFAULT).arches
