# SPDX-License-Identifier: GPL-2.0-only
"""The arguments of calls in Python: how each is checked, and several together, before any machine sees them."""

from __future__ import annotations

import errno
import operator
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vmaplab.calls import options
from vmaplab.errors import InputError, VmapError
from vmaplab.mapping import VmArea
from vmaplab.pages.array import check_page_size, page_array

if TYPE_CHECKING:
    from vmaplab.arch import Arch

NUMA_NO_NODE = -1


class HasArch(Protocol):
    """What a check of arguments looks at."""

    arch: Arch


def _pages(machine: HasArch, value: ArrayLike) -> NDArray[np.uint64]:
    check_page_size(value, machine.arch)
    return page_array(value)


def _flags(machine: HasArch, value: int) -> int:
    flags = operator.index(value)
    if not 0 <= flags < 1 << 32:
        raise InputError(f"{value:#x} are no flags of an area: see vmaplab.calls.flags")
    return flags


def _prot(machine: HasArch, value: int | None) -> int | None:
    if value is not None and not 0 <= operator.index(value) < 1 << 8 * machine.arch.entry_bytes:
        raise InputError(f"{value:#x} is no protection value of {machine.arch.name}")
    return value


def _node(machine: HasArch, value: int) -> int:
    if value not in (NUMA_NO_NODE, 0):
        raise InputError(f"there is no NUMA node {value}: this machine has node 0, or -1 for any")
    return value


def _unsigned_long(machine: HasArch, value: int) -> int:
    return operator.index(value) % (1 << machine.arch.bits_per_long)


def _unsigned_int(machine: HasArch, value: int) -> int:
    return operator.index(value) % (1 << 32)


def _whole(machine: HasArch, value: int) -> int:
    return operator.index(value)


def _address(machine: HasArch, value: int) -> int:
    addr = operator.index(value)
    if not -(1 << 63) <= addr < 1 << 64:
        raise InputError(f"{addr:#x} is no address: it has more than 64 bits")
    return addr % (1 << machine.arch.bits_per_long)


def _shift(machine: HasArch, value: int | None) -> int:
    return machine.arch.page_shift if value is None else operator.index(value)


def _area(machine: HasArch, value: int | VmArea) -> int:
    return value.addr if isinstance(value, VmArea) else operator.index(value)


def _power(machine: HasArch, value: int) -> int:
    align = operator.index(value)
    if align < 1 or align & (align - 1) or align >= 1 << machine.arch.bits_per_long:
        raise InputError(f"{value} is no alignment: give a power of two, bytes")
    return align


def _longs(machine: HasArch, value: Iterable[int]) -> tuple[int, ...]:
    return tuple(_unsigned_long(machine, operator.index(one)) for one in value)


def _bound(machine: HasArch, value: int | None) -> int | None:
    return None if value is None else _address(machine, value)


def _one_of(names: tuple[str, ...], what: str) -> Callable[[HasArch, str | int], int]:
    """Takes one of ``names``, or its place among them; gives the place."""

    def check(machine: HasArch, value: str | int) -> int:
        if value in range(len(names)):
            return int(value)
        if value not in names:
            raise InputError(f"'{value}' is {what}: {', '.join(names)}")
        return names.index(str(value))

    return check


Pages = Annotated[ArrayLike, _pages]
"""One PFN per page, in mapping order; ``2**64 - 1`` is a NULL page."""
Flags = Annotated[int, _flags]
"""``VM_*`` of :mod:`vmaplab.calls.flags`."""
Prot = Annotated[int | None, _prot]
"""A protection value; the call's own if None."""
Node = Annotated[int, _node]
"""The NUMA node to prefer: the machine has node 0 alone; -1 is any."""
Long = Annotated[int, _unsigned_long]
"""An ``unsigned long``, so that a negative number is a very large one."""
Int = Annotated[int, _unsigned_int]
"""An ``unsigned int``, likewise."""
Number = Annotated[int, _whole]
"""Any whole number."""
Address = Annotated[int, _address]
"""A pointer, as an ``unsigned long``."""
Power = Annotated[int, _power]
"""A power of two, bytes."""
Longs = Annotated[Iterable[int], _longs]
"""Several of :data:`Long`."""
Bound = Annotated[int | None, _bound]
"""An address, or None for the end of the vmalloc space."""
Gfp = Annotated[str | int, _one_of(options.GFP, "no GFP flags that vmalloc() takes here")]
"""The name of GFP flags, or its place among :data:`vmaplab.calls.options.GFP`."""
By = Annotated[str | int, _one_of(options.BY, "none of the family of vmalloc()")]
"""A member of the family of vmalloc(), or its place among :data:`vmaplab.calls.options.BY`."""
Shift = Annotated[int | None, _shift]
"""log2 of the chunks in which pages are contiguous and aligned; PAGE_SHIFT if None."""
Area = Annotated[int | VmArea, _area]
"""An area, or its address."""


def whole_range(machine: HasArch, addr: int, end: int) -> None:
    """[addr, end) is whole pages, one at least."""
    if not 0 <= addr < end <= 1 << 64 or (addr | end) & (machine.arch.page_size - 1):
        raise InputError(f"[{addr:#x}, {end:#x}) is empty or not page-aligned")


def range_of_pages(machine: HasArch, addr: int, end: int, phys: int, prot: int | None) -> None:
    """As :func:`whole_range`, but for its end; ``phys`` is page-aligned."""
    page = machine.arch.page_size
    whole_range(machine, addr, -(-end // page) * page)
    if phys < 0 or phys & (page - 1):
        raise InputError(f"{phys:#x} is no page-aligned physical address")


def whole_chunks(machine: HasArch, addr: int, pfns: NDArray[np.uint64], shift: int) -> None:
    """The kernel would read past an array that is not in whole chunks."""
    arch, count = machine.arch, len(pfns)
    whole_range(machine, addr, addr + (count << arch.page_shift))
    if shift < arch.page_shift or count % (1 << min(shift - arch.page_shift, 63)):
        raise InputError(f"{count} pages are no whole chunks of page_shift {shift} on {arch.name}")


def inside(machine: HasArch, area: int, start: int, end: int) -> None:
    """[start, end) is whole pages, one at least."""
    whole_range(machine, start, end)


def pages_inside(machine: HasArch, area: int, start: int, pfns: NDArray[np.uint64]) -> None:
    """The pages from ``start`` on are whole ones, one at least."""
    whole_range(machine, start, start + (len(pfns) << machine.arch.page_shift))


def whole_pages(machine: HasArch, addr: int, numpages: int) -> None:
    """``numpages`` from ``addr`` on are whole pages, one at least."""
    page = machine.arch.page_size
    if addr % page or numpages < 1 or not 0 <= addr < addr + numpages * page <= 1 << 64:
        raise InputError(f"set_memory_*() of {numpages} pages at {addr:#x}: give whole pages, one at least")


def of_the_size_alone(machine: HasArch, size: int, flags: int, node: int, align: int, *others: int | None) -> None:
    """vmalloc() and its like take no flags of an area, no alignment, no bounds."""
    start, end, _, by = others
    if by and (flags or align > 1 or start is not None or end is not None):
        raise InputError(f"{options.BY[by]}() takes no flags of an area, no alignment and no bounds")


def extents(machine: HasArch, offsets: tuple[int, ...], sizes: tuple[int, ...], align: int) -> None:
    """pcpu_get_vm_areas() has a BUG_ON() for each of these."""
    page, most = machine.arch.page_size, options.MOST_EXTENTS
    if len(offsets) != len(sizes) or not 1 <= len(sizes) <= most or 0 in sizes:
        raise InputError(f"give 1 to {most} areas, of each its offset and a size that is not 0")
    if align < page or any(value % align for value in (*offsets, *sizes)):
        raise InputError(f"offsets and sizes are no multiples of the alignment, {align:#x}, which is at least a page")
    ascending = sorted(zip(offsets, sizes, strict=True))
    if any(at + size > following for (at, size), (following, _) in pairwise(ascending)):
        raise InputError("areas of pcpu_get_vm_areas() overlap")


def some_bytes(machine: HasArch, kaddr: int, pgoff: int, size: int) -> None:
    """remap_vmalloc_range_partial() would not end."""
    if not size % (1 << machine.arch.bits_per_long):
        raise InputError("remap_vmalloc_range_partial() of 0 bytes does not end: give one at least")


def pages_of_a_page(machine: HasArch, size: int) -> None:
    """As many pages as pointers fit a page, one at least."""
    page, pointer = machine.arch.page_size, machine.arch.bits_per_long // 8
    if not 0 < size <= page // pointer * page:
        raise InputError(f"{size // page} pages: give as many as one page has room for pointers, {page // pointer}")


def physical(machine: HasArch, phys: int, size: int, prot: int | None) -> None:
    """What ``ioremap()`` refuses before it comes to an area."""
    if size <= 0 or phys < 0 or phys + size > 1 << machine.arch.phys_bits:
        raise VmapError(errno.EINVAL, f"no physical range of {size} bytes at {phys:#x}")
