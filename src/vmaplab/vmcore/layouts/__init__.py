# SPDX-License-Identifier: GPL-2.0-only
"""Architectures whose kernels' memory can be read, one file each: every module but the base has its ``LAYOUT``."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from vmaplab.vmcore.layouts.base import Info, Layout

LAYOUTS: list[Layout] = [
    import_module(f"{__name__}.{found.name}").LAYOUT for found in iter_modules(__path__) if found.name != "base"
]


def layout_of(info: Info, machine: str) -> Layout | None:
    """The architecture of a kernel, by its VMCOREINFO, if that can be of ``machine``."""
    return next((one for one in LAYOUTS if one.told_by in info and machine in ("", one.machine)), None)


__all__ = ["LAYOUTS", "layout_of"]
