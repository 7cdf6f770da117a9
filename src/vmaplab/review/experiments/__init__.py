# SPDX-License-Identifier: GPL-2.0-only
"""The experiments: each asks one question of a ``vmap()``, whoever wrote it, and knows no answer beforehand.

A module of this package that has an ``EXPERIMENT`` is one.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from vmaplab.review.experiments.base import Experiment, described, sizes_text

_MODULES = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
EXPERIMENTS: tuple[Experiment, ...] = tuple(
    sorted((module.EXPERIMENT for module in _MODULES if hasattr(module, "EXPERIMENT")), key=lambda one: one.place)
)

__all__ = ["EXPERIMENTS", "Experiment", "described", "sizes_text"]
