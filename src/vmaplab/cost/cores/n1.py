# SPDX-License-Identifier: GPL-2.0-only
"""Arm Neoverse N1, as in Ampere Altra: the pipelines of the Cortex-A76, larger and farther caches."""

from __future__ import annotations

from dataclasses import replace

from vmaplab.cost.core import ASSUMED, Fact, Level, fact
from vmaplab.cost.cores import a76

_LLVM = "LLVM AArch64SchedNeoverseN1.td"
_BOARD = "sbc-bench results of Altra at 2.598 GHz (ThomasKaiser/sbc-bench results/4zkJ.txt), ns times clock"

CORE = replace(
    a76.CORE,
    name="N1",
    title="Arm Neoverse N1",
    mispredict=Fact(11, 11, 14, f"{_LLVM} (11); of the Cortex-A76 up to 14"),
    levels=(
        Level(64 << 10, 4, fact(4, _LLVM), "WikiChip"),
        Level(1 << 20, 8, Fact(9, 11, 16, f"WikiChip (9, 11); {_BOARD} (14 to 16)"), "AnandTech 15578"),
        Level(32 << 20, 16, Fact(102, 104, 133, f"{_BOARD}: 2 MB to 16 MB"), "Ampere Altra: 32 MB; ways are assumed"),
    ),
    bandwidth=Fact(20, 14, 10, ASSUMED),
    memory=Fact(81, 110, 125, "AnandTech 15578 (81, Graviton2); sbc-bench results/4HdL.txt (110), 4zkJ.txt (125)"),
    mhz=Fact(3000, 2800, 2600, "Ampere Altra"),
    misses=Fact(20, 20, 12, "WikiChip (20)"),
    stores=Fact(72, 44, 44, "WikiChip (72); Chips and Cheese, Deep Diving Neoverse N1 (44)"),
    atomic=Fact(
        9, 9, 30, "13 cycles for an atomic add (travisdowns/concurrency-hierarchy-bench results/g2-16), less a load"
    ),
    sync=Fact(10, 30, 100, ASSUMED),
)
