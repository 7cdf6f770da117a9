# SPDX-License-Identifier: GPL-2.0-only
"""What differs between the machines that kernels are booted on: one file each, found by its name in ``boards/``."""

from __future__ import annotations

import importlib
import pkgutil

from vmaplab.boot import boards
from vmaplab.boot.boards.base import Board
from vmaplab.errors import InputError
from vmaplab.object.targets import TARGETS

BOARDS: dict[str, Board] = {
    one.family: one
    for one in (
        importlib.import_module(f"{boards.__name__}.{found.name}").BOARD
        for found in pkgutil.iter_modules(boards.__path__)
        if found.name != "base"
    )
}


def board_of(arch: str) -> Board:
    """The board for an architecture.

    :raises InputError: if there is none.
    """
    family = TARGETS[arch].family.name if arch in TARGETS else ""
    board = BOARDS.get(family)
    if board is None or arch not in board.cpus:
        known = ", ".join(name for board in BOARDS.values() for name in board.cpus)
        raise InputError(f"no kernel of {arch} can be booted; {known} can")
    return board
