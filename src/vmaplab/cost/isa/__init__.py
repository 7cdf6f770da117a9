# SPDX-License-Identifier: GPL-2.0-only
"""Instructions of an architecture as operations that a core times: a file per family."""
