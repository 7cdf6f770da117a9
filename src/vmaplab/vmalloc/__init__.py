# SPDX-License-Identifier: GPL-2.0-only
"""The vmalloc subsystem: areas of address space, and how vmap() batches pages."""
