# SPDX-License-Identifier: GPL-2.0-only
"""vmaplab: what will vmap() build, is it right, and what does it cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmaplab.errors import InputError, VmapError
from vmaplab.pfn import NULL_PFN

if TYPE_CHECKING:
    from vmaplab import pages
    from vmaplab.calls.operation import Operation
    from vmaplab.kernel import Kernel
    from vmaplab.mapping import Mapping

__version__ = "1.0.0"

__all__ = ["NULL_PFN", "InputError", "Kernel", "Mapping", "Operation", "VmapError", "pages"]


def __getattr__(name: str) -> Any:
    """Import what needs numba only when it is asked for, so that a wrong argument is answered at once."""
    from importlib import import_module

    modules = {"Kernel": "vmaplab.kernel", "Mapping": "vmaplab.mapping", "Operation": "vmaplab.calls.operation"}
    if name in modules:
        return getattr(import_module(modules[name]), name)
    if name == "pages":
        return import_module("vmaplab.pages")
    raise AttributeError(f"module 'vmaplab' has no attribute '{name}'")
