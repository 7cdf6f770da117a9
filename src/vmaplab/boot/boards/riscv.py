# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's ``virt``, whose CPU has five levels; the kernel is told to use fewer."""

from __future__ import annotations

from vmaplab.boot.boards.base import Board

BOARD = Board(
    family="riscv",
    package="qemu-system-misc",
    config=(),
    goal="Image",
    image="arch/riscv/boot/Image",
    command=("qemu-system-riscv64", "-M", "virt,memory-backend=ram"),
    cpus=dict.fromkeys(("riscv64-sv39", "riscv64-sv48", "riscv64-sv57"), "rv64"),
    ram_base=0x8000_0000,
    append={"riscv64-sv39": "no4lvl", "riscv64-sv48": "no5lvl"},
)
