# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own code: build it (kbuild), link it (the cross ``ld``), run it (Unicorn)."""
