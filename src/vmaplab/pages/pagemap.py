# SPDX-License-Identifier: GPL-2.0-only
"""Raw entries of /proc/PID/pagemap in a file, as ``dd`` copies them (Documentation/admin-guide/mm/pagemap.rst)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import InputError
from vmaplab.pages.array import MAX_PAGES, check_regular
from vmaplab.pages.pid import PFN_MASK, PRESENT


def load(path: Path) -> NDArray[np.uint64]:
    """The page frames of the pages that are present, in the order of the file; shape (n,).

    :raises InputError: if it is no such file, or the kernel hid the frames.
    """
    try:
        check_regular(path)
        size = path.stat().st_size
        if size % 8 or not size:
            raise InputError(f"'{path}' is no copy of a pagemap: it has {size} bytes, not 8 for each page")
        if size > 8 * MAX_PAGES:
            raise InputError(f"'{path}' has more than {MAX_PAGES} pages, the most that a file may have")
        with path.open("rb") as file:
            pieces = [_present(piece) for piece in iter(lambda: file.read(1 << 24), b"")]
    except OSError as error:
        raise InputError(f"cannot read '{path}': {error.strerror}") from None
    present: NDArray[np.uint64] = np.concatenate(pieces)
    if not len(present):
        raise InputError(f"'{path}' has no page that is present: is it a pagemap?")
    if not present.any():
        raise InputError(f"'{path}': the kernel hid the page frame numbers (all are 0); copy it as root")
    return present


def _present(raw: bytes) -> NDArray[np.uint64]:
    entries = np.frombuffer(raw, dtype="<u8").astype(np.uint64)
    found: NDArray[np.uint64] = entries[entries & PRESENT != 0] & PFN_MASK
    return found
