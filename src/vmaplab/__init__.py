"""vmaplab: what will vmap() build, is it right, and what does it cost?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmaplab.errors import InputError, VmapError

if TYPE_CHECKING:
    from vmaplab import pages
    from vmaplab.kernel import Kernel
    from vmaplab.mapping import Mapping

__version__ = "0.1.0"

NULL_PFN = 2**64 - 1
"""How a page array spells a NULL ``struct page *``."""

__all__ = ["NULL_PFN", "InputError", "Kernel", "Mapping", "VmapError", "pages"]


def __getattr__(name: str) -> Any:
    """Import what needs numba only when it is asked for, so that a wrong argument is answered at once."""
    from importlib import import_module

    modules = {"Kernel": "vmaplab.kernel", "Mapping": "vmaplab.mapping"}
    if name in modules:
        return getattr(import_module(modules[name]), name)
    if name == "pages":
        return import_module("vmaplab.pages")
    raise AttributeError(f"module 'vmaplab' has no attribute '{name}'")
