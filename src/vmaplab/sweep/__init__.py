# SPDX-License-Identifier: GPL-2.0-only
"""Many page arrays: every one mapped on every kernel, a row each, on all CPUs or on a cluster."""
