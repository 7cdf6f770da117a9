# SPDX-License-Identifier: GPL-2.0-only
"""x86_64: Documentation/arch/x86/x86_64/mm.rst."""

from __future__ import annotations

from collections.abc import Callable

from vmaplab.errors import InputError
from vmaplab.judge import FORMATS
from vmaplab.vmcore.layouts.base import Ground, Info, Layout, number
from vmaplab.vmcore.layouts.base import symbol as told

_START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000
_VMEMMAP = {4: 0xFFFF_EA00_0000_0000, 5: 0xFFD4_0000_0000_0000}
"""Levels -> __VMEMMAP_BASE_L4, _L5, where it is not moved."""


def _ground(info: Info) -> Ground:
    if number(info, "sme_mask", 0):
        raise InputError("the kernel has encrypted its memory (SME): its page tables cannot be followed")
    arch = "x86_64-la57" if number(info, "pgtable_l5_enabled", 0) else "x86_64"
    base = number(info, "phys_base")
    return Ground(arch, FORMATS[arch], lambda va: va - _START_KERNEL_MAP + base)


def _vmemmap(
    info: Info, symbol: Callable[[str], int | None], word: Callable[[int], int], page_struct: int
) -> int | None:
    if "SYMBOL(vmemmap)" in info:  # SYMBOL_ARRAY: the address itself
        return told(info, "vmemmap")
    if (where := symbol("vmemmap_base")) is not None:
        return word(where)
    return _VMEMMAP[5 if number(info, "pgtable_l5_enabled", 0) else 4]


LAYOUT = Layout("EM_X86_64", "NUMBER(phys_base)", _ground, _vmemmap, ram_base=0)
