# SPDX-License-Identifier: GPL-2.0-only
"""Traces of code that a test writes in assembler, for the timing of cores."""

from __future__ import annotations

import platform
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from vmaplab.cost.executed import Code, Executed
from vmaplab.object import targets

ARCH = {"arm64": "arm64-4k", "x86": "x86_64", "riscv": "riscv64-sv48"}
BASE = 0x1000_0000


@cache
def code(family: str, text: str) -> bytes:
    """``text`` as the family's assembler has it."""
    one = targets.get(ARCH[family]).family
    cross = "" if platform.machine() == one.host else one.cross
    with tempfile.TemporaryDirectory() as room:
        source, made, raw = (Path(room) / name for name in ("a.s", "a.o", "a.bin"))
        source.write_text((".intel_syntax noprefix\n" if family == "x86" else "") + text + "\n")
        subprocess.run([f"{cross}as", "-o", made, source], check=True, capture_output=True)
        subprocess.run([f"{cross}objcopy", "-O", "binary", "-j", ".text", made, raw], check=True, capture_output=True)
        return raw.read_bytes()


def repeated(family: str, text: str, times: int, addresses: list[list[int]] | None = None) -> Executed:
    """A block that runs many times, one after the other.

    :param addresses: of each time what it accesses.
    """
    block = Code(BASE, code(family, text))
    accesses = [one for each in addresses or [] for one in each]
    counts = [len(each) for each in addresses] if addresses else [0] * times
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return Executed(
        family,
        [block],
        ["code"],
        np.zeros(times, dtype=np.uint32),
        first,
        np.array(accesses, dtype=np.int64),
    )
