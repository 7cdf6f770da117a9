# SPDX-License-Identifier: GPL-2.0-only
"""SiFive U74, as in JH7110."""

from __future__ import annotations

from vmaplab.cost.core import ASSUMED, PAGE_COST, Buffer, Core, Fact, Level, Pipe, Use, fact
from vmaplab.cost.isa.base import Kind

_LLVM = "LLVM RISCVSchedSiFive7.td"
_GCC = "GCC config/riscv/sifive-7.md"
_BOARD = "sbc-bench results of JH7110 at 1.498 GHz (ThomasKaiser/sbc-bench results/4xOY.txt), ns times clock"
_DTS = "Linux jh7110.dtsi"

CORE = Core(
    name="U74",
    title="SiFive U74",
    family="riscv",
    window=0,
    width=fact(2, _LLVM),
    pipes={
        "alu": Pipe(2, f"{_LLVM}: A and B"),
        "b": Pipe(1, f"{_LLVM}: branches, multiplications"),
        "div": Pipe(1, _LLVM),
        "access": Pipe(1, f"{_LLVM}: one access a cycle"),
    },
    uses={
        Kind.ALU: Use("alu", fact(1, f"{_GCC}; late ALUs")),
        Kind.SHIFT: Use("alu", fact(1, _GCC)),
        Kind.MUL: Use("b", fact(3, _LLVM)),
        Kind.DIV: Use("div", Fact(6, 16, 66, f"gem5 riscvmatched (6); {_GCC} (16); {_LLVM} (66)"), 6),
        Kind.LOAD: Use("access", Fact(2, 3, 3, f"{_LLVM} (3); gem5 riscvmatched (2)")),
        Kind.STORE: Use("access", fact(1, _LLVM)),
        Kind.STATUS: Use(
            "alu", Fact(1, 5, 10, "Linux perf sifive/bullet/microarch.json: CSR accesses flush; cycles assumed")
        ),
        Kind.COND: Use("b", fact(1, _LLVM)),
    },
    mispredict=Fact(
        3, 5, 7, f"{_LLVM} (3); elektroniknet.de 10.11.2021 (5 from the early ALU, more from the late one)"
    ),
    levels=(
        Level(32 << 10, 8, Fact(2, 3, 3, _LLVM), _DTS),
        Level(2 << 20, 16, Fact(20, 20, 31, _BOARD), _DTS),
    ),
    memory=Fact(175, 175, 200, _BOARD),
    bandwidth=Fact(3, 2, 1.5, ASSUMED),
    forward=Fact(1, 2, 3, ASSUMED),
    mhz=fact(1500, "JH7110"),
    misses=Fact(2, 1, 1, f"{_BOARD}: two random reads take twice as long as one"),
    stores=Fact(5, 3, 2, "gem5 riscvmatched (3, fitted)"),
    ahead=Fact(2, 0, 0, "a prefetcher into L2 is off at reset"),
    sync=Fact(4, 10, 30, ASSUMED),
    order=Fact(2, 5, 15, ASSUMED),
    flush=Fact(8, 15, 40, ASSUMED),
    atomic=Fact(3, 8, 20, f"{_LLVM} (3)"),
    system=Fact(5, 15, 40, ASSUMED),
    page_cost=Fact(400, 800, 2000, PAGE_COST),
    slab_cost=Fact(80, 160, 400, ASSUMED),
    tlbs=(
        Buffer(40, 40, 1 << 30, False, f"{_DTS}: 40, fully associative"),
        Buffer(512, 1, 1 << 30, False, ASSUMED),
    ),
    walk=Fact(20, 30, 60, ASSUMED),
)
