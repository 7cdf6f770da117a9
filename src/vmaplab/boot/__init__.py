# SPDX-License-Identifier: GPL-2.0-only
"""Real kernels: built, booted in QEMU, and called."""
