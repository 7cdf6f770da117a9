# SPDX-License-Identifier: GPL-2.0-only
"""The entry formats, by the name of the architecture: one module per manual.

Every module of this package is one, with its ``FORMATS``.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from vmaplab.judge.format import Format

_MODULES = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
FORMATS: dict[str, Format] = {name: form for module in _MODULES for name, form in module.FORMATS.items()}

__all__ = ["FORMATS"]
