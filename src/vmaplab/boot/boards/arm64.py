# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's ``virt`` with a Cortex-A76, which has all three page sizes."""

from __future__ import annotations

from vmaplab.boot.boards.base import Board

BOARD = Board(
    family="arm64",
    package="qemu-system-arm",
    config=(),
    goal="Image",
    image="arch/arm64/boot/Image",
    command=("qemu-system-aarch64", "-M", "virt,memory-backend=ram"),
    cpus=dict.fromkeys(("arm64-4k", "arm64-16k", "arm64-64k"), "cortex-a76"),
    ram_base=0x4000_0000,
)
