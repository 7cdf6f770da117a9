# SPDX-License-Identifier: GPL-2.0-only
"""Review a release, or the kernel's own code, by experiment: what would a good reviewer have found?"""
