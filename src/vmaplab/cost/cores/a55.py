# SPDX-License-Identifier: GPL-2.0-only
"""Arm Cortex-A55, as in RK3588's little cluster."""

from __future__ import annotations

from vmaplab.cost.core import ASSUMED, PAGE_COST, Buffer, Core, Fact, Level, Pipe, Use, fact
from vmaplab.cost.isa.base import Kind

_GUIDE = "Arm Cortex-A55 Software Optimization Guide (EPM128372), section"
_LLVM = "LLVM AArch64SchedA55.td"
_TRM = "Arm Cortex-A55 Technical Reference Manual (100442), section"
_BOARD = "sbc-bench results of RK3588 at 1.828 GHz (ThomasKaiser/sbc-bench results/41BH.txt), ns times clock"
_DTS = "Linux rk3588-base.dtsi"

CORE = Core(
    name="A55",
    title="Arm Cortex-A55",
    family="arm64",
    window=0,
    width=fact(2, f"{_GUIDE} 3.2"),
    pipes={
        "alu": Pipe(2, f"{_GUIDE} 3.1, figure 1"),
        "mul": Pipe(1, f"{_GUIDE} 3.1, figure 1"),
        "div": Pipe(1, f"{_GUIDE} 3.1, figure 1"),
        "load": Pipe(1, f"{_GUIDE} 3.3: no two loads in a cycle"),
        "store": Pipe(1, f"{_GUIDE} 3.3: no two stores in a cycle"),
        "branch": Pipe(1, f"{_GUIDE} 3.3: no two branches in a cycle"),
    },
    uses={
        Kind.ALU: Use("alu", fact(1, f"{_GUIDE} 4.3")),
        Kind.SHIFT: Use("alu", Fact(1, 2, 2, f"{_GUIDE} 4.3, 4.7 (2); {_LLVM} (1 in a chain)")),
        Kind.MUL: Use("mul", Fact(4, 4, 5, f"{_GUIDE} 4.5"), 2),
        Kind.DIV: Use("div", Fact(3, 8, 20, f"{_GUIDE} 4.5: ends early"), 3),
        Kind.LOAD: Use("load", Fact(2, 3, 3, f"{_GUIDE} 3.3, 4.8: 2 into an address, else 3")),
        Kind.STORE: Use("store", fact(1, f"{_GUIDE} 4.9")),
        Kind.STATUS: Use("alu", Fact(1, 2, 4, ASSUMED)),
        Kind.COND: Use("branch", fact(1, f"{_GUIDE} 4.2")),
    },
    mispredict=fact(8, f"{_GUIDE} 4.3, note 1: a flush"),
    levels=(
        Level(32 << 10, 4, Fact(2, 3, 3, f"{_GUIDE} 4.8"), _DTS),
        Level(128 << 10, 4, Fact(15, 19, 26, _BOARD), _DTS),
        Level(3 << 20, 12, Fact(29, 30, 34, _BOARD), _DTS),
    ),
    memory=Fact(116, 130, 231, "sbc-bench results of RK3588 boards, 16 MB to 128 MB"),
    bandwidth=Fact(8, 6, 4, ASSUMED),
    forward=Fact(1, 2, 3, ASSUMED),
    mhz=fact(1800, "RK3588"),
    misses=fact(3, f"{_GUIDE} 5.1"),
    stores=Fact(8, 5, 3, ASSUMED),
    ahead=Fact(4, 2, 1, f"{_TRM} A6.5 has streams and strides, no number of lines"),
    sync=Fact(4, 12, 40, ASSUMED),
    order=Fact(2, 6, 16, ASSUMED),
    flush=Fact(8, 10, 14, f"{_GUIDE} 4.3: a flush is 8"),
    atomic=Fact(2, 4, 12, f"{_GUIDE} 4.10: 2 to 4 near"),
    system=Fact(2, 8, 30, ASSUMED),
    page_cost=Fact(300, 600, 1500, PAGE_COST),
    slab_cost=Fact(60, 120, 300, ASSUMED),
    tlbs=(
        Buffer(16, 16, 2 << 20, True, "Intel Agilex 5 HPS manual (814346), table 48; sizes that it holds are assumed"),
        Buffer(1024, 4, 512 << 20, True, "Intel Agilex 5 HPS manual (814346), table 48; groups are assumed"),
    ),
    walk=Fact(15, 30, 60, ASSUMED),
)
