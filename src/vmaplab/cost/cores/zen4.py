# SPDX-License-Identifier: GPL-2.0-only
"""AMD Zen 4, as in EPYC 9004."""

from __future__ import annotations

from vmaplab.cost.core import ASSUMED, PAGE_COST, Buffer, Core, Fact, Level, Pipe, Use, fact
from vmaplab.cost.isa.base import Kind

_GUIDE = "AMD Zen4 Software Optimization Guide (57647), quoted in LLVM X86ScheduleZnver4.td, section"
_LLVM = "LLVM X86ScheduleZnver4.td"
_CHIPS = "Chips and Cheese, AMD's Zen 4, part"
_HERE = "measured on an EPYC 9004"

CORE = Core(
    name="Zen4",
    title="AMD Zen 4",
    family="x86",
    window=320,
    width=fact(6, f"{_GUIDE} 2.9.8"),
    pipes={
        "alu": Pipe(4, f"{_GUIDE} 2.10"),
        "shift": Pipe(2, _LLVM),
        "mul": Pipe(1, _LLVM),
        "div": Pipe(1, _LLVM),
        "load": Pipe(3, f"{_GUIDE} 2.12"),
        "store": Pipe(2, f"{_GUIDE} 2.12"),
        "branch": Pipe(2, _LLVM),
    },
    uses={
        Kind.ALU: Use("alu", fact(1, _LLVM)),
        Kind.SHIFT: Use("shift", fact(1, _LLVM)),
        Kind.MUL: Use("mul", fact(3, f"{_LLVM}; {_HERE}")),
        Kind.DIV: Use("div", Fact(7, 12, 17, f"{_LLVM} (17); {_HERE} (7 of small numbers)"), 6),
        Kind.LOAD: Use("load", Fact(4, 4, 5, f"{_GUIDE} 2.6.2, 2.12")),
        Kind.STORE: Use("store", fact(1, _LLVM)),
        Kind.STATUS: Use("alu", Fact(1, 2, 10, ASSUMED)),
        Kind.COND: Use("branch", fact(1, _LLVM)),
    },
    mispredict=Fact(11, 13, 18, f"{_GUIDE} 2.8"),
    levels=(
        Level(32 << 10, 8, Fact(4, 4, 5, f"{_GUIDE} 2.6.2"), f"{_CHIPS} 2"),
        Level(1 << 20, 8, Fact(14, 14, 15, f"{_CHIPS} 2 (14); {_HERE} (15.2)"), f"{_CHIPS} 2"),
        Level(32 << 20, 16, Fact(50, 55, 68, f"{_CHIPS} 2 (50); {_HERE} (68)"), "EPYC 9004, a complex of 8 cores"),
    ),
    memory=Fact(73, 110, 180, f"{_CHIPS} 2 (73.4, desktop); {_HERE} (173 to 200)"),
    bandwidth=Fact(30, 20, 12, ASSUMED),
    forward=Fact(0, 1, 5, f"{_CHIPS} 2: none of the same address"),
    mhz=Fact(3700, 3690, 2600, f"{_HERE} (3.69 GHz)"),
    misses=Fact(32, 24, 24, f"{_HERE}: 24 at least"),
    stores=fact(64, f"{_CHIPS} 2"),
    ahead=Fact(8, 4, 2, ASSUMED),
    sync=Fact(33, 58, 100, f"{_HERE} (58, nothing to wait for)"),
    order=Fact(1, 4, 17, f"{_HERE}: sfence 1, lfence 17"),
    flush=Fact(60, 100, 200, ASSUMED),
    atomic=Fact(2, 4, 6, f"{_HERE}: 6.3 to 9.0 for a locked instruction, less a load"),
    system=Fact(30, 80, 200, ASSUMED),
    page_cost=Fact(150, 300, 700, PAGE_COST),
    slab_cost=Fact(30, 60, 150, ASSUMED),
    tlbs=(
        Buffer(72, 72, 1 << 30, False, f"{_CHIPS} 2; {_HERE}"),
        Buffer(3072, 24, 2 << 20, False, f"{_CHIPS} 2; ways are assumed"),
    ),
    walk=Fact(12, 20, 50, ASSUMED),
)
