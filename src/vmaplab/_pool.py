# SPDX-License-Identifier: GPL-2.0-only
"""What is the same for everything that runs in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def processes(module: str) -> ForkServerContext:
    """Processes that begin with ``module`` imported: that takes two seconds, once and not in each of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", module])
    return context


def leave_interrupts() -> None:
    """In a process of a pool: the terminal's interrupt is for the main one, with which it ends."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    with suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
