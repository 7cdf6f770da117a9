# SPDX-License-Identifier: GPL-2.0-only
"""Calls of C: what the table of calls says of a call, as arguments in registers and memory of compiled code."""

from __future__ import annotations

import errno
import weakref
from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.effects import Ends, Moves
from vmaplab.calls.entry import Call, Returns
from vmaplab.calls.flags import VM_NO_GUARD
from vmaplab.calls.table import STEPS
from vmaplab.errors import InputError, VmapError
from vmaplab.machine import Machine
from vmaplab.mapping import Mapping, VmArea
from vmaplab.pfn import NULL_PFN


class Lowered(Machine):
    """A machine whose calls are C functions.

    :ivar values: what the code says of itself: ``page_kernel``, ``ioremap_prot``, ``gfp_kernel``, ``vmalloc_start``,
        ``vmalloc_end``.
    """

    values: dict[str, int]
    _functions: dict[str, str]  # C functions in place of what a method calls
    _mappings: weakref.WeakValueDictionary[int, Mapping]
    _page0: int  # address of the struct page of frame 0, and the bytes of one
    _page_bytes: int
    _most_pages: int  # in an array
    _out: int  # address of some words of memory, for what a function returns beside its value

    @abstractmethod
    def _call(self, function: str, *arguments: int) -> int:
        """Call ``function``; its result, 64 bits of it."""

    @abstractmethod
    def _put(self, array: NDArray[np.uint64]) -> int:
        """Write ``array`` to the machine's memory; returns its address."""

    @abstractmethod
    def _words(self, address: int, count: int) -> NDArray[np.uint64]:
        """``count`` words of memory at ``address``, to read and write."""

    @abstractmethod
    def _mapping(self, addr: int, size: int, seen: int) -> Mapping:
        """What was mapped at ``addr``; ``seen``: how long the log was before."""

    # -- the calls ----------------------------------------------------------------------------------

    def _invoke(self, call: Call, arguments: tuple[Any, ...]) -> Any:
        """Call the function that the table binds ``call`` to; what comes of it by what it returns."""
        if call.binding is None:
            raise InputError(f"'{call.word}' is answered by the model alone")
        given = call.given(arguments)
        if isinstance(call.effect, Ends | Moves):
            self._see(given["addr"])
        own = getattr(self, call.inner, None)
        return own(**given) if own else self._generic(call, given)

    def _generic(self, call: Call, given: dict[str, Any]) -> Mapping | None:
        """A call that needs nothing but its entry."""
        assert call.binding is not None
        function = self._functions.get(call.method, call.binding.name)
        name, names = function.removeprefix("vmaplab_"), call.binding.names
        seen, values = len(self.log), self._values(given, names)
        found = self._call(function, *(values[one] for one in names))
        if call.returns is Returns.ADDRESS:
            if not found:
                raise VmapError(errno.ENOMEM, f"{name}() returned NULL")
            return self._mapping(found, -(-values["size"] // self.arch.page_size) * self.arch.page_size, seen)
        if call.returns is Returns.ERRNO and (err := -signed_int(found)) > 0:
            raise VmapError(err, f"{name}() returned -{err}")
        return None

    def _values(self, given: dict[str, Any], names: tuple[str, ...]) -> dict[str, int]:
        """What a C function gets for the parameters ``names``, and perhaps for more."""
        values = {"prot": self.values["page_kernel"], "gfp_mask": self.values["gfp_kernel"]}
        values |= {"start": self.values["vmalloc_start"], "end": self.values["vmalloc_end"]}
        values |= {name: value for name, value in given.items() if value is not None}
        if "shift" in given:
            values["page_shift"] = given["shift"]
        if "node" in given:
            values["node"] = given["node"] % (1 << 32)
        if "pfns" in given:
            pfns: NDArray[np.uint64] = given["pfns"]
            values |= {"count": len(pfns), "size": len(pfns) << self.arch.page_shift}
            values["end"] = given.get("start", given.get("addr", 0)) + values["size"]
            values["pfns" if "pfns" in names else "pages"] = (self._put if "pfns" in names else self._put_pages)(pfns)
        return values

    def _vmalloc(self, gfp: int, by: int, **given: Any) -> Mapping:
        return self._by_entry("vmalloc", {**given, "how": gfp | by << 8})

    def _vrealloc(self, addr: int, size: int, gfp: int) -> Mapping:
        return self._by_entry("vrealloc", {"addr": addr, "size": size, "how": gfp})

    def _by_entry(self, word: str, given: dict[str, Any]) -> Mapping:
        """A call that returns a mapping, with more arguments than its entry names."""
        call = STEPS[word]
        assert isinstance(call, Call)
        mapping = self._generic(call, given)
        assert mapping is not None
        return mapping

    def _ioremap(self, phys: int, size: int, prot: int | None) -> Mapping:
        """An area with VM_IOREMAP, and ``ioremap_page_range()``."""
        start = phys & -self.arch.page_size
        length = -(-(phys + size - start) // self.arch.page_size) * self.arch.page_size
        value = self.values["ioremap_prot"] if prot is None else prot
        seen = len(self.log)
        out = self._out
        self._words(out, 1)[0] = 0
        addr = self._call(self._functions["ioremap"], start, length, value, out)
        if not addr:
            err = -int(self._words(out, 1).view("<i8")[0]) or errno.ENOMEM
            raise VmapError(err, "ioremap() failed")
        return self._mapping(addr, length, seen)

    def _iounmap(self, addr: int) -> None:
        self._call("vunmap", addr & -self.arch.page_size)

    def _vmalloc_to_pfn(self, addr: int) -> int:
        page = self._call("vmalloc_to_page", addr)
        if not page:
            raise VmapError(errno.EINVAL, f"nothing is mapped at {addr:#x}")
        return self._pfn_of(page)

    def _get_vm_area(self, size: int, flags: int) -> VmArea:
        addr = self._call("vmaplab_get_vm_area", size, flags)
        if not addr:
            raise VmapError(errno.ENOMEM, f"no area of {size} bytes")
        whole = -(-size // self.arch.page_size) * self.arch.page_size
        return VmArea(addr, whole + (0 if flags & VM_NO_GUARD else self.arch.page_size), flags)

    # -- shared -------------------------------------------------------------------------------------

    def _see(self, addr: int) -> None:
        """The owner of a mapping may ask for its leaves when it is gone."""
        for start, mapping in list(self._mappings.items()):
            if start <= addr <= start + mapping.size:  # the guard page stands for the area too
                mapping.cost  # noqa: B018
                del self._mappings[start]

    def _pfn_of(self, page: int) -> int:
        distance = (page - self._page0) % (1 << 64)
        return (distance - (1 << 64) if distance >> 63 else distance) // self._page_bytes

    def _put_pages(self, array: NDArray[np.uint64]) -> int:
        """Write ``struct page *`` for each PFN to the machine's memory; returns the address of the array."""
        if len(array) > self._most_pages:
            raise InputError(f"{len(array)} pages; the machine takes {self._most_pages} in a call")
        return self._put(self._page_pointers(array))

    def _page_pointers(self, pfns: NDArray[np.uint64]) -> NDArray[np.uint64]:
        with np.errstate(over="ignore"):
            pointers = pfns * np.uint64(self._page_bytes) + np.uint64(self._page0)
        pointers[pfns == NULL_PFN] = 0
        return pointers


def signed_int(register: int) -> int:
    """An ``int`` in a register."""
    value = register & 0xFFFF_FFFF
    return value - (1 << 32) if value >> 31 else value
