# SPDX-License-Identifier: GPL-2.0-only
"""The architectures whose kernel code can be run, by name."""

from __future__ import annotations

from vmaplab._names import known
from vmaplab.arch import ALIASES, NAMES
from vmaplab.errors import InputError
from vmaplab.object import arm64, riscv, x86
from vmaplab.object.family import Target

TARGETS: dict[str, Target] = {target.arch: target for family in (arm64, x86, riscv) for target in family.TARGETS}


MAIN = ("arm64-4k", "x86_64", "riscv64-sv48")
"""One of each family: a change can be in any."""
CPUS = 4
"""How many the kernel is built for where nothing else is said."""


def smp(cpus: int = CPUS) -> tuple[str, ...]:
    """The configuration of a machine with so many CPUs, where each lock is a call that is seen; none for one CPU."""
    return ("SMP=y", f"NR_CPUS={cpus}", "PREEMPT=y") if cpus > 1 else ()


def get(arch: str) -> Target:
    """The target for the architecture ``arch``.

    :raises InputError: if its kernel code cannot be run here.
    """
    name = known(arch, NAMES, "architecture", ALIASES)
    if name not in TARGETS:
        raise InputError(f"the kernel's own code runs on {', '.join(TARGETS)}, not on {name}")
    return TARGETS[name]
