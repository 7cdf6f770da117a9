# SPDX-License-Identifier: GPL-2.0-only
"""What a machine of QEMU is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Board:
    """A machine of QEMU.

    :param family: name of the :class:`~vmaplab.object.family.Family` of its kernels.
    :param package: Debian's, which has it.
    :param config: what the smallest configuration lacks beside the family's, ``KEY=value``.
    :param goal: of the kernel's makefile; ``image``: what that makes, by its name in the build directory.
    :param command: QEMU with its machine, whose RAM is the object ``ram``.
    :param cpus: architecture -> CPU model.
    :param append: architecture -> boot arguments that it takes.
    :param ram_base: physical address of RAM.
    """

    family: str
    package: str
    config: tuple[str, ...]
    goal: str
    image: str
    command: tuple[str, ...]
    cpus: dict[str, str]
    ram_base: int
    append: dict[str, str] = field(default_factory=dict)
