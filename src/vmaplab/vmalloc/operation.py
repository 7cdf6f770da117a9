"""Operations: one call each, as data, so that sequences can be recorded, replayed and compared."""

from __future__ import annotations

import errno
from collections.abc import Callable
from operator import index, itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

import numpy as np

from vmaplab.arch import Arch
from vmaplab.errors import InputError, VmapError
from vmaplab.pages.array import check_page_size, page_array
from vmaplab.pages.runs import Pfns
from vmaplab.pgtable.geometry import Ints, signed, unsigned
from vmaplab.vmalloc.calls import CPU, OTHER, VMAP, VUNMAP
from vmaplab.vmalloc.flags import VM_ALLOW_HUGE_VMAP, VM_FLUSH_RESET_PERMS, VM_IOREMAP, VM_MAP_PUT_PAGES, VM_NO_GUARD

if TYPE_CHECKING:
    from vmaplab.kernel import Kernel


class Operation(NamedTuple):
    """One call.

    :param call: what to do, one of :data:`CALLS`.
    :param ref: number of the operation whose address it takes, or -1.
    :param offset: pages behind that address.
    :param pages: how many.
    :param pfn: first page frame of a physical range.
    :param pfns: the page array.
    :param flags: flags of vmap() and of an area, page_shift of map, 1 for a huge vmalloc, bytes more of range.
    :param addr: the address that it takes, if no operation gives one.
    """

    call: str
    ref: int = -1
    offset: int = 0
    pages: int = 0
    pfn: int = 0
    pfns: Pfns | None = None
    flags: int = 0
    addr: int = 0


VOID = ("vunmap", "vfree", "iounmap", "unmap_ram", "unmap_pages")
"""Calls that return nothing, also when they refuse."""
_RETURN_ERRNO = ("map", "range", "map_pages")


def perform(kernel: Any, operation: Operation, addr: int) -> int:
    """Do ``operation`` on a :class:`~vmaplab.kernel.Kernel` or what has its calls; what the kernel's function returns.

    :param addr: the address that it takes; where that is 0, because there was a failure before, nothing is done.
    :raises VmapError: as the call fails.
    """
    if operation.ref >= 0 and not addr:
        return 0
    return CALLS[operation.call](kernel, operation, addr + (operation.offset << kernel.arch.page_shift))


def refusal(operation: Operation, error: VmapError) -> int | None:
    """What the kernel's caller sees of a failure: 0, ``-errno``, or None for NULL."""
    if operation.call in VOID:
        return 0
    return -(error.errno or errno.EINVAL) if operation.call in _RETURN_ERRNO else None


def _pages(operation: Operation) -> Pfns:
    if operation.pfns is None:
        raise InputError(f"the operation '{operation.call}' has no page array")
    return operation.pfns


def _bytes(kernel: Kernel, operation: Operation) -> int:
    return operation.pages << kernel.arch.page_shift


def _vmap(kernel: Kernel, operation: Operation, _: int) -> int:
    return kernel.vmap(_pages(operation), operation.flags).addr


def _map(kernel: Kernel, operation: Operation, addr: int) -> int:
    kernel.vmap_pages_range_noflush(addr, _pages(operation), operation.flags)
    return 0


def _range(kernel: Kernel, operation: Operation, addr: int) -> int:
    if operation.pages:
        phys = operation.pfn << kernel.arch.page_shift
        kernel.vmap_page_range(addr, addr + _bytes(kernel, operation) + operation.flags, phys)
    return 0


def _unrange(kernel: Kernel, operation: Operation, addr: int) -> int:
    if operation.pages:
        kernel.vunmap_range(addr, addr + _bytes(kernel, operation))
    return 0


def _tables(kernel: Kernel, operation: Operation, _: int) -> int:
    kernel.set_limit(operation.pages)
    return 0


def _fail(kernel: Kernel, operation: Operation, _: int) -> int:
    kernel.fail([operation.pages] if operation.pfn < 0 else [operation.pages, operation.pfn])
    return 0


def _cpu(kernel: Kernel, operation: Operation, _: int) -> int:
    kernel.cpu = operation.pages
    return 0


def _area(kernel: Kernel, operation: Operation, _: int) -> int:
    area: Any = kernel.get_vm_area(_bytes(kernel, operation), operation.flags)
    return int(area if isinstance(area, int) else area.addr)


def _vmalloc(kernel: Kernel, operation: Operation, _: int) -> int:
    return kernel.vmalloc(_bytes(kernel, operation), VM_ALLOW_HUGE_VMAP if operation.flags else 0).addr


def _ioremap(kernel: Kernel, operation: Operation, _: int) -> int:
    return kernel.ioremap(operation.pfn << kernel.arch.page_shift, _bytes(kernel, operation)).addr


def _map_ram(kernel: Kernel, operation: Operation, _: int) -> int:
    return kernel.vm_map_ram(_pages(operation)).addr


def _unmap_ram(kernel: Kernel, operation: Operation, addr: int) -> int:
    kernel.vm_unmap_ram(addr, operation.pages)
    return 0


def _vmap_pfn(kernel: Kernel, operation: Operation, _: int) -> int:
    return kernel.vmap_pfn(_pages(operation)).addr


def _map_pages(kernel: Kernel, operation: Operation, addr: int) -> int:
    kernel.vm_area_map_pages(addr - (operation.offset << kernel.arch.page_shift), addr, _pages(operation))
    return 0


def _unmap_pages(kernel: Kernel, operation: Operation, addr: int) -> int:
    area = addr - (operation.offset << kernel.arch.page_shift)
    kernel.vm_area_unmap_pages(area, addr, addr + _bytes(kernel, operation))
    return 0


def _aliases(kernel: Kernel, operation: Operation, _: int) -> int:
    kernel.vm_unmap_aliases()
    return 0


def _lookup(kernel: Kernel, operation: Operation, addr: int) -> int:
    return kernel.vmalloc_to_pfn(addr)


def _vread(kernel: Kernel, operation: Operation, addr: int) -> int:
    return crc32(repr([tuple(part) for part in kernel.vread(addr, _bytes(kernel, operation))]).encode())


def _set_memory(kernel: Kernel, operation: Operation, addr: int) -> int:
    found = kernel.set_memory(addr, operation.pages)
    if found.oops:
        raise VmapError(errno.EFAULT, f"an oops: {found.why}", bug=True)
    return -found.errno


def _info(kernel: Kernel, operation: Operation, _: int) -> int:
    return crc32(kernel.vmalloc_info().encode())


def _remove(name: str) -> Callable[[Kernel, Operation, int], int]:
    def remove(kernel: Kernel, operation: Operation, addr: int) -> int:
        getattr(kernel, name)(addr)
        return 0

    return remove


CALLS: dict[str, Callable[[Kernel, Operation, int], int]] = {
    "cpu": _cpu,
    "tables": _tables,
    "fail": _fail,
    "area": _area,
    "vmap": _vmap,
    "map": _map,
    "range": _range,
    "unrange": _unrange,
    "vmalloc": _vmalloc,
    "ioremap": _ioremap,
    "map_ram": _map_ram,
    "unmap_ram": _unmap_ram,
    "vmap_pfn": _vmap_pfn,
    "map_pages": _map_pages,
    "unmap_pages": _unmap_pages,
    "vunmap": _remove("vunmap"),
    "vfree": _remove("vfree"),
    "iounmap": _remove("iounmap"),
    "aliases": _aliases,
    "lookup": _lookup,
    "vread": _vread,
    "info": _info,
    "set_memory": _set_memory,
}


_KINDS = dict.fromkeys(CALLS, OTHER) | {"vmap": VMAP, "vunmap": VUNMAP, "cpu": CPU}
_UNUSUAL = VM_FLUSH_RESET_PERMS | VM_MAP_PUT_PAGES | VM_NO_GUARD | VM_IOREMAP
MAX_ERRNO = 4095


def check_cpu(number: int, cpus: int) -> int:
    """``number``, if it is one of ``cpus`` CPUs.

    :raises InputError: if it is none.
    """
    if not 0 <= index(number) < cpus:
        raise InputError(f"there is no CPU {number}: this machine has {cpus}, from 0 on")
    return index(number)


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
            raise InputError("operations are vmaplab.vmalloc.operation.Operation(call, ...)")

        def column(field: int) -> Ints:
            try:
                return np.fromiter(map(itemgetter(field), operations), dtype=np.int64, count=count)
            except (TypeError, ValueError, OverflowError) as error:
                name = Operation._fields[field]
                raise InputError(f"'{name}' of an operation is no number of 64 bits: {error}") from None

        try:
            self.kinds = np.fromiter((_KINDS[one[0]] for one in operations), dtype=np.int64, count=count)
        except (KeyError, TypeError) as error:
            raise InputError(f"unknown operation {error}; known: {', '.join(CALLS)}") from None
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
