# SPDX-License-Identifier: GPL-2.0-only
"""What the command line prints: tables for people, JSON for programs."""
