# SPDX-License-Identifier: GPL-2.0-only
"""riscv64: Documentation/arch/riscv/vm-layout.rst."""

from __future__ import annotations

from collections.abc import Callable

from vmaplab.errors import InputError
from vmaplab.judge import FORMATS
from vmaplab.vmcore.layouts.base import Ground, Info, Layout, number


def _ground(info: Info) -> Ground:
    arch = f"riscv64-sv{number(info, 'VA_BITS')}"
    if arch not in FORMATS:
        raise InputError(f"the kernel has virtual addresses of {number(info, 'VA_BITS')} bits: no paging mode has them")
    offset = number(info, "va_kernel_pa_offset")
    return Ground(arch, FORMATS[arch], lambda va: (va - offset) % (1 << 64))


def _vmemmap(
    info: Info, symbol: Callable[[str], int | None], word: Callable[[int], int], page_struct: int
) -> int | None:
    # VMEMMAP_START is the struct page of the first frame of RAM.
    start, ram = number(info, "VMEMMAP_START", 0), number(info, "phys_ram_base", 0)
    return (start - (ram >> 12) * page_struct) % (1 << 64) if start else None


LAYOUT = Layout("EM_RISCV", "NUMBER(va_kernel_pa_offset)", _ground, _vmemmap, ram_base=0x8000_0000)
