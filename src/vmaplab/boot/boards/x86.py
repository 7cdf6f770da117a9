# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's ``q35``; its largest CPU has five levels, unless it is told not to."""

from __future__ import annotations

from vmaplab.boot.boards.base import Board

BOARD = Board(
    family="x86",
    package="qemu-system-x86",
    config=(),
    goal="bzImage",
    image="arch/x86/boot/bzImage",
    command=("qemu-system-x86_64", "-M", "q35,memory-backend=ram"),
    cpus={"x86_64": "max,la57=off", "x86_64-la57": "max"},
    ram_base=0,
)
