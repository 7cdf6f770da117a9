# SPDX-License-Identifier: GPL-2.0-only
"""What is the same for everything that runs in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import suppress


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def leave_interrupts() -> None:
    """In a process of a pool: the terminal's interrupt is for the main one."""
    with suppress(ValueError):  # not in the main thread
        if multiprocessing.parent_process() is not None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
