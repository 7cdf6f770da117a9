# SPDX-License-Identifier: GPL-2.0-only
"""Machines of QEMU, one file each."""
