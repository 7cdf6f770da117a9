# SPDX-License-Identifier: GPL-2.0-only
"""arm64: Documentation/arch/arm64/memory.rst."""

from __future__ import annotations

from collections.abc import Callable

from vmaplab.errors import InputError
from vmaplab.judge.formats.arm64 import granule
from vmaplab.vmcore.layouts.base import Ground, Info, Layout, number
from vmaplab.vmcore.layouts.base import symbol as told

_ARCHES = {4096: "arm64-4k", 16384: "arm64-16k", 65536: "arm64-64k"}


def _va_bits(info: Info) -> int:
    """Bits of the kernel's half as the CPU has it: a kernel for 52 bits can run on one with 48."""
    return 64 - number(info, "TCR_EL1_T1SZ", 64 - number(info, "VA_BITS"))


def _ground(info: Info) -> Ground:
    page, va_bits = number(info, "PAGESIZE"), _va_bits(info)
    if page not in _ARCHES or not 36 <= va_bits <= 52:
        raise InputError(f"the kernel has pages of {page} bytes and addresses of {va_bits} bits: no arm64 kernel has")
    offset = number(info, "kimage_voffset")
    form = granule(page.bit_length() - 1, va_bits, wide=va_bits > 48)
    return Ground(_ARCHES[page], form, lambda va: (va - offset) % (1 << 64))


def _vmemmap(
    info: Info, symbol: Callable[[str], int | None], word: Callable[[int], int], page_struct: int
) -> int | None:
    if "SYMBOL(vmemmap)" in info:
        return told(info, "vmemmap")
    # vmemmap begins with the page of memstart_addr, which KASLR may put below 0.
    start, ram = number(info, "VMEMMAP_START", 0), number(info, "PHYS_OFFSET", 0)
    ram -= (ram >> 63) << 64
    page = number(info, "PAGESIZE")
    return (start - (ram // page) * page_struct) % (1 << 64) if start and page else None


LAYOUT = Layout("EM_AARCH64", "NUMBER(kimage_voffset)", _ground, _vmemmap, ram_base=0x4000_0000)
