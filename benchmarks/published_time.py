# SPDX-License-Identifier: GPL-2.0-only
"""The published table in microseconds: what the authors measured, and what the same calls take on cores here.

    python benchmarks/published_time.py [FILE] [TREE]

As published.py, whose calls and code these are: Debian's 6.12 with examples/batched_ranges.c for what is before and
after the series; with TREE, that kernel's own code is what is before. Nothing is fitted to the published numbers.
llvm-mca, if it is installed, times a stretch of the same trace, without caches, calls and mispredicted branches.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import capstone
import numpy as np

import document
from document import table
from published import ARCH, LOG_LINES, SERIES, SNIPPET, WORKLOADS, Workload, instead_in
from vmaplab.cost.boards import options_of
from vmaplab.cost.core import Corner
from vmaplab.cost.cores import cores_of
from vmaplab.cost.executed import Executed
from vmaplab.cost.isa import arm64
from vmaplab.cost.time import Band, Situation, band_of
from vmaplab.object import build, targets
from vmaplab.object.kernel import ObjectKernel

EVENTS = 1 << 22
MCA = "llvm-mca-19"
STRETCH = 6000
"""Instructions that llvm-mca is given, from the middle of a call."""
_CALLS = ("bl", "blr", "br", "ret")
"""Its model lets nothing pass a call or a return, which costs it ten cycles each: they are left out."""
_TARGET = re.compile(r"#?0x[0-9a-f]+$")


def traces(work: Workload, tree: Path | None, config: list[str]) -> tuple[Executed, Executed]:
    """A call before and after the series."""
    found = []
    for release, instead in list(instead_in(tree).items())[-2:]:
        built = build.build(targets.get(ARCH), tree, config, snippet=SNIPPET if instead else None)
        kernel = ObjectKernel(built, trace=EVENTS, log_lines=LOG_LINES, instead=instead)
        work.code(kernel, release)
        assert kernel.traced is not None
        found.append(kernel.traced)
    assert release == SERIES
    return found[0], found[1]


def stretch(executed: Executed) -> tuple[list[str], int]:
    """Instructions from the middle of a trace, as an assembler has them, and how many the whole trace has."""
    machine = capstone.Cs(*arm64.DISASSEMBLER)
    text = []
    for block in executed.code:
        lines = []
        for _, _, name, operands in machine.disasm_lite(block.data, block.address):
            jumps = name in ("b", "bl", "adrp", "adr") or name.startswith(("b.", "cb", "tb"))
            lines.append(f"{name} {_TARGET.sub('.', operands) if jumps else operands}")
        text.append(lines)
    lengths = np.array([len(lines) for lines in text])
    total = int(lengths[executed.blocks].sum())
    found: list[str] = []
    for block in executed.blocks[len(executed.blocks) // 2 :]:
        found += text[block]
        if len(found) >= STRETCH:
            break
    return found, total


def mca_us(executed: Executed, mhz: float) -> float:
    """Microseconds of a trace by llvm-mca's model of a Cortex-A55."""
    lines, total = stretch(executed)
    timed = [line for line in lines if line.split()[0] not in _CALLS]
    words = [MCA, "-mtriple=aarch64", "-mcpu=cortex-a55", "-mattr=+v8.2a", "-iterations=1"]
    done = subprocess.run(words, input="\n".join(timed) + "\n", capture_output=True, text=True, check=True)
    cycles = int(done.stdout.partition("Total Cycles:")[2].split()[0])
    return cycles / len(lines) * total / mhz


def ratio(before: Band, after: Band) -> str:
    each = [before.us(corner) / after.us(corner) for corner in Corner]
    return f"{each[Corner.USUAL]:.2f}x ({min(each):.2f} .. {max(each):.2f})"


def rows(tree: Path | None, config: list[str]) -> list[list[str]]:
    a55, a76 = cores_of("A55,A76")
    told = []
    for work in WORKLOADS:
        pair = traces(work, tree, config)
        little, big = ([band_of(one, core) for one in pair] for core in (a55, a76))
        cold = [band_of(one, a55, Situation(cold=True)) for one in pair]
        unit = [ns / 1000 for ns in work.ns]
        mca = [mca_us(one, a55.mhz.usual) for one in pair] if shutil.which(MCA) else []
        told.append(
            [
                work.name,
                f"{unit[0]:.2f} -> {unit[1]:.2f}, {work.published:.2f}x",
                f"{little[0].us():.2f} -> {little[1].us():.2f}",
                ratio(*little),
                ratio(*cold),
                f"{mca[0]:.2f} -> {mca[1]:.2f}, {mca[0] / mca[1]:.2f}x" if mca else "-",
                ratio(*big),
            ]
        )
    return told


def main() -> None:
    file, tree = [*sys.argv[1:], "-", ""][:2] if len(sys.argv) != 2 else [sys.argv[1], ""]
    head = ["before -> after, us", "published", "A55", "ratio (band)", "nothing in a cache", "llvm-mca, A55", "A76"]
    parts = []
    for name in ("the smallest configuration", "board"):
        config = options_of(["board"], "arm64") if name == "board" else []
        found = rows(Path(tree) if tree else None, config)
        parts.append(f"Configuration: {name}.\n\n{table(head, found)}")
    sys.argv[1:] = [] if file == "-" else [file]
    document.publish("\n\n".join(parts), "published-time")


if __name__ == "__main__":
    main()
