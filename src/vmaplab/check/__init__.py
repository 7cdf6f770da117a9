# SPDX-License-Identifier: GPL-2.0-only
"""Is it right? Random scenarios run by the model and by the kernel's own code, compared bit by bit."""
