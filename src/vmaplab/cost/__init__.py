# SPDX-License-Identifier: GPL-2.0-only
"""What a mapping costs: counters, and what they come to on a core."""
