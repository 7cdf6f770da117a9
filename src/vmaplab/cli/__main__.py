# SPDX-License-Identifier: GPL-2.0-only
"""``python -m vmaplab.cli``."""

from vmaplab.cli import main

main()
