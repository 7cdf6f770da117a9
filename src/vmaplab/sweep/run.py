# SPDX-License-Identifier: GPL-2.0-only
"""A sweep on all CPUs of this machine, or on the workers of a Dask cluster: parts are made there and kept here."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import TYPE_CHECKING, Any

from vmaplab import __version__
from vmaplab._pool import cpus, leave_interrupts, processes
from vmaplab.errors import InputError, not_installed
from vmaplab.pages.elsewhere import one_line
from vmaplab.sweep.plan import Plan
from vmaplab.sweep.store import CHUNK, Store

if TYPE_CHECKING:
    import pyarrow as pa

_CONNECT = "10s"


def sweep(
    sources: Sequence[str],
    plan: Plan,
    store: Store,
    *,
    jobs: int | None = None,
    scheduler: str = "",
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Make the parts of ``store`` that are not there yet, in any order, and then the result.

    :param jobs: processes; one for each CPU if None.
    :param scheduler: address of a Dask scheduler, ``tcp://HOST:PORT``, whose workers do it instead.
    :param advance: called for each part.
    :raises InputError: if the result cannot be written, or what works on it is gone; what is done is kept.
    """
    todo = [number for number in range(store.count) if number not in store.done]
    chunks = {number: list(sources[number * CHUNK : (number + 1) * CHUNK]) for number in todo}

    def keep(number: int, table: pa.Table) -> None:
        store.put(number, table)
        advance()

    for _ in range(store.count - len(todo)):
        advance()
    if chunks and scheduler:
        _on_cluster(chunks, plan, scheduler, keep)
    elif chunks:
        _here(chunks, plan, min(jobs or cpus(), len(chunks)), keep)
    store.finish()


def part(sources: list[str], plan: Plan) -> pa.Table:
    """The rows of a part, wherever that is.

    :raises InputError: if another vmaplab is there.
    """
    if plan.version != __version__:
        raise InputError(f"a worker has vmaplab {__version__}, and this is {plan.version}")
    from vmaplab.sweep.rows import table_of

    return table_of(sources, plan)


def _here(chunks: dict[int, list[str]], plan: Plan, jobs: int, keep: Callable[[int, pa.Table], None]) -> None:
    """With Dask's scheduler for the processes of one machine: a part is kept, and forgotten, when it is made."""
    from dask.callbacks import Callback
    from dask.multiprocessing import get

    def done(number: int, table: pa.Table, _graph: object, state: dict[str, Any], _worker: object) -> None:
        state["cache"][number] = None
        keep(number, table)

    graph = {number: (partial(part, sources, plan),) for number, sources in chunks.items()}
    pool = ProcessPoolExecutor(jobs, processes(__name__), leave_interrupts)
    try:
        with Callback(posttask=done):
            get(graph, list(graph), pool=pool, chunksize=1, optimize_graph=False)
    except BrokenProcessPool:
        raise InputError("a process of the sweep was killed, perhaps for want of memory: --resume goes on") from None
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _on_cluster(
    chunks: dict[int, list[str]], plan: Plan, scheduler: str, keep: Callable[[int, pa.Table], None]
) -> None:
    """What a worker had is made anew by another one when it dies: a part comes back once."""
    try:
        from distributed import Client, KilledWorker, as_completed
        from distributed.client import FutureCancelledError
    except ImportError as error:
        raise not_installed("--scheduler", error, "sweep") from None
    for name in [one for one in logging.root.manager.loggerDict if one.partition(".")[0] == "distributed"]:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # what matters of it is said below
    try:
        client = Client(scheduler, timeout=_CONNECT)
    except Exception as error:  # of any layer
        raise InputError(f"no Dask scheduler answers at {scheduler}: {one_line(error)}") from None
    with client:
        futures = client.map(part, list(chunks.values()), plan=plan, pure=False)
        numbers = {future.key: number for future, number in zip(futures, chunks, strict=True)}
        if not client.scheduler_info(n_workers=-1)["workers"]:
            print(f"vmaplab: {scheduler} has no workers: waiting for some", file=sys.stderr)
        waiting = as_completed(futures)
        del futures
        for future in waiting:
            number = numbers[future.key]
            try:
                table = future.result()
            except InputError:
                raise
            except KilledWorker:
                raise InputError(f"workers die over part {number}, from '{chunks[number][0]}' on") from None
            except (FutureCancelledError, OSError):  # CommClosedError among them
                raise InputError(f"the Dask scheduler at {scheduler} is gone: --resume goes on") from None
            except Exception as error:  # of a worker that lacks something
                raise InputError(f"a worker cannot do it: {one_line(error)}") from None
            keep(number, table)
            future.release()
