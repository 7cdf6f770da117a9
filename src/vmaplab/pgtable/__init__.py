# SPDX-License-Identifier: GPL-2.0-only
"""Page tables: their format, their memory, and the walkers that map, unmap and translate."""
