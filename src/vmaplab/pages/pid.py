# SPDX-License-Identifier: GPL-2.0-only
"""Page arrays of a live process, from /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import InputError
from vmaplab.pages.array import MAX_PAGES

PRESENT = np.uint64(1) << np.uint64(63)
PFN_MASK = np.uint64((1 << 55) - 1)
_READ_AT_ONCE = 1 << 20  # entries


def page_size() -> int:
    """PAGE_SIZE of this machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE")


def load(pid: int, start: int = 0, end: int = 1 << 64) -> NDArray[np.uint64]:
    """The page frames that the process has mapped in [start, end), by ascending virtual address; shape (n,).

    Pages that are not present (never touched, swapped out) are left out, as is the vsyscall page.

    :raises InputError: if the process is gone, not ours to read, or its PFNs are hidden.
    """
    size = page_size()
    parts: list[NDArray[np.uint64]] = []
    count = 0
    try:
        with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
            for line in maps:
                first, last = (int(bound, 16) for bound in line.split(" ", 1)[0].split("-"))
                first, last = max(first, start), min(last, end)
                for addr in range(first, last, _READ_AT_ONCE * size):
                    entries = -(-(min(last, addr + _READ_AT_ONCE * size) - addr) // size)
                    if addr >= 1 << 63:  # [vsyscall] is not in pagemap
                        continue
                    pagemap.seek(addr // size * 8)
                    raw = pagemap.read(entries * 8)
                    found = np.frombuffer(raw[: len(raw) // 8 * 8], dtype=np.uint64)
                    present = found[found & PRESENT != 0] & PFN_MASK
                    count += len(present)
                    if count > MAX_PAGES:
                        raise InputError(f"process {pid} has more than {MAX_PAGES} pages; name a range start-end")
                    parts.append(present)
    except (FileNotFoundError, ProcessLookupError):
        if Path(f"/proc/{pid}").exists():
            raise InputError(f"process {pid} has no memory of its own: a kernel thread, or it is ending") from None
        raise InputError(f"there is no process {pid}") from None
    except PermissionError:
        raise InputError(f"the kernel does not let this user read process {pid}; try as root") from None
    pfns = np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint64)
    if not len(pfns):
        raise InputError(f"process {pid} has no page in memory there")
    if not pfns.any():
        raise InputError("the kernel hides page frame numbers (all read as 0); run as root")
    return pfns.compress(pfns != 0)
