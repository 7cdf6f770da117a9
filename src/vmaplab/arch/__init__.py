# SPDX-License-Identifier: GPL-2.0-only
"""The architectures, by name, as a kernel tree has them. Adding one is one file with its ``arches()`` and a line here.

What an architecture is depends on the tree: ask a release, ``release.on(name)``.
"""

from __future__ import annotations

from collections.abc import Callable

from vmaplab.arch import arm64, loongarch, powerpc, riscv, x86
from vmaplab.arch.base import Arch, Group, Level, Told
from vmaplab.changes import Change


def of(has: Callable[[Change], bool]) -> dict[str, Arch]:
    """All architectures, by name, in a tree that has the changes for which ``has`` is true."""
    return {arch.name: arch for family in (arm64, x86, riscv, powerpc, loongarch) for arch in family.arches(has)}


NAMES = tuple(of(lambda _: True))
"""All of them."""

__all__ = ["NAMES", "Arch", "Group", "Level", "Told", "of"]
