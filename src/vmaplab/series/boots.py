# SPDX-License-Identifier: GPL-2.0-only
"""What the trees of a series do when they boot: the kernel itself beside its code in the emulator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vmaplab.boot.build import Bootable
from vmaplab.boot.build import build as bootable
from vmaplab.calls.scenario import parse
from vmaplab.check.booted import Trio, check_booted
from vmaplab.errors import InputError, KernelFault, Unprovided
from vmaplab.object import confine, targets
from vmaplab.object.build import Built, build
from vmaplab.object.tools import digest
from vmaplab.series.kept import keep, of_key, own_state

CASES = 200
"""Scenarios that a tree is asked for."""


@dataclass(frozen=True)
class Met:
    """What came of a kernel that boots.

    :param scenarios: that were compared with the emulator; ``calls``: steps in them; ``pages``: that were mapped.
    :param differs: how the two differ, in words, and ``scenario``: where; "" if they do not.
    :param error: why nothing was compared.
    """

    scenarios: int = 0
    calls: int = 0
    pages: int = 0
    differs: str = ""
    scenario: str = ""
    error: str = ""


def meet(arch: str, tree: Path, base: Path) -> Met:
    """Build and boot a tree, and hold what it does against its code in the emulator."""
    try:
        kernel, built = _built(arch, tree, base)
        key = digest([own_state(), "booted", kernel.image.parent.name, built.image.parent.name, str(CASES)])
        kept = of_key(key)
        if isinstance(kept, Met):
            return kept
        found = check_booted(kernel, built, CASES, modelled=False)
        told = found.difference + ("" if found.alone else f"\n  only behind the {found.scenarios - 1} before it")
        met = Met(found.scenarios, found.calls, found.pages, told, str(found.scenario or ""))
    except (InputError, Unprovided, KernelFault) as error:
        return Met(error=str(error))
    keep(key, met)
    return met


def told_of(arch: str, tree: Path, base: Path, scenario: str) -> str:
    """What becomes of a scenario on a tree that boots, in words."""
    one = parse(scenario)
    try:
        trio = Trio(*_built(arch, tree, base), boot_args=one.boot_args, modelled=False)
    except (InputError, Unprovided, KernelFault) as error:
        return str(error)
    try:
        return trio.told_of(replace(one, boot_args=""))
    except (InputError, Unprovided) as error:
        return str(error)
    finally:
        trio.close()


def _built(arch: str, tree: Path, base: Path) -> tuple[Bootable, Built]:
    with confine.confined((base, tree)):
        return bootable(arch, tree), build(targets.get(arch), tree)
