# SPDX-License-Identifier: GPL-2.0-only
"""The vocabulary: the kernel's calls, one entry each in :mod:`.table`, and what is written with them."""
