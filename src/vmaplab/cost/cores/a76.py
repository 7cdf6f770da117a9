# SPDX-License-Identifier: GPL-2.0-only
"""Arm Cortex-A76, as in RK3588's big clusters."""

from __future__ import annotations

from vmaplab.cost.core import ASSUMED, PAGE_COST, Buffer, Core, Fact, Level, Pipe, Use, fact
from vmaplab.cost.isa.base import Kind

_GUIDE = "Arm Cortex-A76 Software Optimization Guide (PJDOC-466751330-7215), section"
_TRM = "Arm Cortex-A76 Technical Reference Manual (100798), section"
_BOARD = "sbc-bench results of RK3588 at 2.348 GHz (ThomasKaiser/sbc-bench results/41BH.txt), ns times clock"

CORE = Core(
    name="A76",
    title="Arm Cortex-A76",
    family="arm64",
    window=128,
    width=fact(4, f"{_GUIDE} 4.1"),
    pipes={
        "alu": Pipe(3, f"{_GUIDE} 2.1: two simple, one of several cycles"),
        "multi": Pipe(1, f"{_GUIDE} 2.1"),
        "access": Pipe(2, f"{_GUIDE} 2.1"),
        "branch": Pipe(1, f"{_GUIDE} 2.1"),
    },
    uses={
        Kind.ALU: Use("alu", fact(1, f"{_GUIDE} 3.4")),
        Kind.SHIFT: Use("alu", Fact(1, 1, 2, f"{_GUIDE} 3.4 to 3.8: 1 of bitfields and short shifts, else 2")),
        Kind.MUL: Use("multi", Fact(2, 4, 4, f"{_GUIDE} 3.6 (4); AnandTech 12785 (2)"), 3),
        Kind.DIV: Use("multi", Fact(5, 12, 20, f"{_GUIDE} 3.6"), 5),
        Kind.LOAD: Use("access", fact(4, f"{_GUIDE} 3.9")),
        Kind.STORE: Use("access", fact(1, f"{_GUIDE} 3.10")),
        Kind.STATUS: Use("alu", Fact(1, 2, 4, ASSUMED)),
        Kind.COND: Use("branch", fact(1, f"{_GUIDE} 3.3")),
    },
    mispredict=Fact(11, 12, 14, "AnandTech 12785 (11); 7-cpu.com (14)"),
    levels=(
        Level(64 << 10, 4, fact(4, f"{_GUIDE} 3.9"), f"{_TRM} A6.1"),
        Level(512 << 10, 8, Fact(9, 11, 12, f"WikiChip (9); 7-cpu.com (11); {_BOARD} (12)"), "RK3588"),
        Level(3 << 20, 12, Fact(31, 39, 42, f"WikiChip (31); {_BOARD} (39 to 42)"), "Linux rk3588-base.dtsi"),
    ),
    memory=Fact(118, 130, 222, "sbc-bench results of RK3588 boards, 16 MB to 128 MB"),
    bandwidth=Fact(16, 12, 8, ASSUMED),
    forward=Fact(4, 4, 5, ASSUMED),
    mhz=fact(2350, "RK3588, as measured there"),
    misses=Fact(24, 20, 12, "20 of the Neoverse N1's L1 (WikiChip)"),
    stores=Fact(48, 32, 24, ASSUMED),
    ahead=Fact(8, 4, 2, f"{_TRM} A6.5 has streams, no number of lines"),
    sync=Fact(10, 25, 70, ASSUMED),
    order=Fact(2, 10, 30, ASSUMED),
    flush=Fact(12, 20, 40, ASSUMED),
    atomic=Fact(4, 8, 30, ASSUMED),
    system=Fact(4, 12, 40, ASSUMED),
    page_cost=Fact(200, 450, 1000, PAGE_COST),
    slab_cost=Fact(40, 80, 200, ASSUMED),
    tlbs=(
        Buffer(48, 48, 512 << 20, True, f"{_TRM} A5.2.2; that a group is one entry is assumed"),
        Buffer(1280, 5, 512 << 20, True, f"{_TRM} A5.2.3; that a group is one entry is assumed"),
    ),
    walk=Fact(12, 25, 60, ASSUMED),
)
