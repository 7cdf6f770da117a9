# SPDX-License-Identifier: GPL-2.0-only
"""A progress bar on the terminal for work that lasts more than a second."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

DELAY_S = 1.0


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """Show a bar on stderr once the work in the block has lasted a second; gives a function that advances it.

    Nothing is shown where stderr is no terminal, or one that obeys nothing.

    :param total: how often the work advances; None if it cannot tell.
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        yield lambda: None
        return
    done = 0
    lock = threading.Lock()
    show: Callable[[int], None] | None = None
    stop: Callable[[], None] | None = None
    over = False

    def start() -> None:
        nonlocal show, stop
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        bar = Progress(*columns, console=Console(stderr=True), transient=True)
        task = bar.add_task(label, total=total)
        with lock:
            if over:
                return
            bar.start()
            bar.update(task, completed=done)
            show, stop = lambda count: bar.update(task, completed=count), bar.stop

    def advance() -> None:
        nonlocal done
        with lock:
            done += 1
            if show:
                show(done)

    timer = threading.Timer(DELAY_S, start)
    timer.daemon = True
    timer.start()
    try:
        yield advance
    finally:
        timer.cancel()
        with lock:
            over = True
            if stop:
                stop()
