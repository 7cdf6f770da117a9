# SPDX-License-Identifier: GPL-2.0-only
"""``python -m vmaplab``."""

from vmaplab.cli import main

main()
