# SPDX-License-Identifier: GPL-2.0-only
"""Many calls at once: operations as arrays, for compiled code."""

from __future__ import annotations

from operator import index, itemgetter
from typing import Any

import numpy as np

from vmaplab.arch import Arch
from vmaplab.calls.flags import VM_FLUSH_RESET_PERMS, VM_IOREMAP, VM_MAP_PUT_PAGES, VM_NO_GUARD
from vmaplab.calls.operation import Operation
from vmaplab.calls.table import STEPS, check_cpu
from vmaplab.errors import InputError
from vmaplab.pages.array import check_page_size, page_array
from vmaplab.trace import Ints, signed, unsigned
from vmaplab.vmalloc.calls import CPU, OTHER, VMAP, VUNMAP

_KINDS = dict.fromkeys(STEPS, OTHER) | {"vmap": VMAP, "vunmap": VUNMAP, "cpu": CPU}
_UNUSUAL = VM_FLUSH_RESET_PERMS | VM_MAP_PUT_PAGES | VM_NO_GUARD | VM_IOREMAP
MAX_ERRNO = 4095


class Batch:
    """Operations as arrays for :func:`vmaplab.vmalloc.calls.run`.

    :ivar kinds: per operation, what it is; OTHER for those that compiled code does not do.
    :ivar results: per operation, what it returned, signed; errors as the kernel encodes them in pointers.
    :ivar cpu: shape (1,): the CPU that calls.
    :ivar arrays: what the compiled function takes of them.
    """

    def __init__(self, operations: list[Operation], arch: Arch, total_pages: int | None, cpu: int, cpus: int) -> None:
        self.operations = operations
        count = len(operations)
        if set(map(type, operations)) - {Operation}:
            raise InputError("operations are vmaplab.Operation(call, ...)")

        def column(field: int) -> Ints:
            try:
                return np.fromiter(map(itemgetter(field), operations), dtype=np.int64, count=count)
            except (TypeError, ValueError, OverflowError) as error:
                name = Operation._fields[field]
                raise InputError(f"'{name}' of an operation is no number of 64 bits: {error}") from None

        try:
            self.kinds = np.fromiter((_KINDS[one[0]] for one in operations), dtype=np.int64, count=count)
        except (KeyError, TypeError) as error:
            raise InputError(f"unknown operation {error}; known: {', '.join(STEPS)}") from None
        pages = column(3)
        switches = self.kinds == CPU
        for number in pages[switches].tolist():
            check_cpu(number, cpus)
        self._refs = refs = column(1)
        later = np.flatnonzero(refs >= np.arange(count))
        if len(later):
            raise InputError(f"operation {later[0]} refers to operation {refs[later[0]]}, which is not before it")
        vmaps = np.flatnonzero(self.kinds == VMAP)
        arrays: list[Any] = [operations[number].pfns for number in vmaps.tolist()]
        if set(map(type, arrays)) - {np.ndarray} or {(array.dtype, array.ndim) for array in arrays} - {_PLAIN}:
            for array in arrays:
                check_page_size(array, arch)
            arrays = [page_array(array) for array in arrays]
        whole = np.concatenate([_NO_PAGES, *arrays])
        lengths = np.zeros(count, dtype=np.int64)
        lengths[vmaps] = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
        firsts = np.concatenate([[0], np.cumsum(lengths)])
        flags = column(6)
        unusual = (lengths == 0) | (lengths > (total_pages or arch.addressable_pages)) | (flags & _UNUSUAL != 0)
        self.kinds[(self.kinds == VMAP) & unusual] = OTHER
        self.kinds[column(2) != 0] = OTHER
        self.kinds[(refs >= 0) & (self.kinds != VUNMAP)] = OTHER
        numbers = np.zeros((count, 3), dtype=np.int64)
        numbers[:, 0], numbers[:, 2] = refs, flags
        if any(map(itemgetter(7), operations)):
            numbers[:, 1] = [signed(self._addr(one.addr)) for one in operations]
        numbers[switches, 1] = pages[switches]
        self.results = np.zeros(count, dtype=np.int64)
        self.cpu = np.array([cpu], dtype=np.int64)
        self.arrays = self.kinds, numbers, firsts, whole.view(np.int64)

    def _addr(self, addr: int) -> int:
        try:
            if -(1 << 63) <= index(addr) < 1 << 64:
                return unsigned(index(addr))
        except TypeError:
            pass
        raise InputError(f"{addr!r} is no address")

    def address(self, number: int) -> int:
        """The address that an operation takes."""
        ref = int(self._refs[number])
        if ref < 0:
            return self.operations[number].addr
        value = int(self.results[ref])
        return 0 if -MAX_ERRNO <= value < 0 else unsigned(value)

    def returns(self) -> list[int]:
        """What each operation returned: unsigned, or ``-errno``."""
        values: list[int] = self.results.view(np.uint64).tolist()
        for number in np.flatnonzero((self.results < 0) & (self.results >= -MAX_ERRNO)).tolist():
            values[number] = int(self.results[number])
        return values


_NO_PAGES = np.zeros(0, dtype=np.uint64)
_PLAIN = np.dtype(np.uint64), 1
"""dtype and dimensions of an array that needs no look."""
