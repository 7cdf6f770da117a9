# SPDX-License-Identifier: GPL-2.0-only
"""Page arrays: numpy uint64 arrays of PFNs that know the page size they are counted in."""

from __future__ import annotations

import operator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmaplab.errors import InputError

if TYPE_CHECKING:
    from vmaplab.arch import Arch

MAX_PAGES = 1 << 26
"""Most pages that a source gives: 256 GiB of 4 KiB pages."""


class PageArray(np.ndarray[Any, np.dtype[np.uint64]]):
    """A uint64 array of shape (n,), one PFN per page in mapping order.

    :ivar page_size: bytes of one page, or None if the array does not know.
    :ivar note: what there is to say of where it comes from, one line, or "".
    """

    page_size: int | None
    note: str

    def __array_finalize__(self, source: object) -> None:
        self.page_size = getattr(source, "page_size", None)
        self.note = getattr(source, "note", "")


def with_page_size(pfns: NDArray[np.uint64], page_size: int, note: str = "") -> PageArray:
    """``pfns`` as an array that knows its page size (no copy)."""
    array = pfns.view(PageArray)
    array.page_size, array.note = page_size, note
    return array


def page_array(pfns: ArrayLike) -> NDArray[np.uint64]:
    """``pfns`` as a plain contiguous uint64 array of shape (n,), without a copy where it is one already.

    :raises InputError: if it is not one-dimensional, not of integers, or holds a negative number.
    """
    # numpy would make floats of a list that holds small numbers and 2**64 - 1.
    array = pfns if isinstance(pfns, np.ndarray) else np.asarray(pfns, dtype=object)
    if array.ndim == 1 and array.dtype == object:
        try:
            array = np.array([operator.index(pfn) for pfn in array], dtype=np.uint64)
        except (TypeError, OverflowError):
            raise InputError("page frame numbers are integers from 0 to 2**64 - 1") from None
    if array.ndim != 1:
        raise InputError(f"a page array has one dimension, not {array.ndim}")
    if array.dtype.kind not in "ui" and array.size:
        raise InputError(f"page frame numbers are integers, not {array.dtype}")
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        raise InputError(f"page {int(np.argmax(array < 0))} has a negative page frame number")
    return np.ascontiguousarray(array, dtype=np.uint64)


def check_page_size(pfns: ArrayLike, arch: Arch) -> None:
    """Refuse an array that was counted in pages of another size than the architecture's.

    :raises InputError: that says both sizes.
    """
    known = getattr(pfns, "page_size", None)
    if known is not None and known != arch.page_size:
        raise InputError(
            f"the page array counts pages of {size_text(known)}, {arch.name} has pages of "
            f"{size_text(arch.page_size)}: its page frames are not those of this architecture"
        )


def check_regular(path: Path) -> None:
    """Refuse what is no regular file, and would keep its reader waiting or never end.

    :raises InputError: if it is none, or not there.
    """
    if not path.is_file():
        raise InputError(f"'{path}' is no regular file" if path.exists() else f"there is no file '{path}'")


def size_text(size: int) -> str:
    """``size`` bytes as kernel people write them: 4K, 2M, 1G; plain bytes if it is no multiple of 1024."""
    for unit, shift in (("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if size and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return str(size)


def parse_size(text: str) -> int:
    """Bytes in ``text``: a number with an optional K, M, G or T.

    :raises InputError: if it is none, or not positive.
    """
    units = {"K": 10, "M": 20, "G": 30, "T": 40}
    digits, shift = text, 0
    if text[-1:].upper() in units:
        digits, shift = text[:-1], units[text[-1].upper()]
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 20 or not int(digits):
        raise InputError(f"'{text}' is no size; write a positive number with an optional K, M, G or T")
    return int(digits) << shift
