# SPDX-License-Identifier: GPL-2.0-only
"""From mails to evidence: a series is read, applied patch by patch in private, built, and asked what it does."""
