# SPDX-License-Identifier: GPL-2.0-only
"""riscv64 in Unicorn."""

from __future__ import annotations

import capstone
import unicorn
from unicorn import riscv_const as reg

from vmaplab.object.family import ACQUIRES, ATOMIC, FENCE, MARKED, RELEASES, Family, Target

_LOADS = ("lb", "lbu", "lh", "lhu", "lw", "lwu", "ld", "ldsp", "lwsp")
_STORES = ("sb", "sh", "sw", "sd", "sdsp", "swsp")


def _classify(mnemonic: str, operands: str) -> tuple[bool, bool, bool]:
    """Loads and stores by mnemonic; AMOs are both."""
    name = mnemonic.removeprefix("c.").split(".")[0]
    load = name in _LOADS or name == "lr" or name.startswith("amo")
    store = name in _STORES or name == "sc" or name.startswith("amo")
    return load, store, name in ("fence", "sfence")


def _ordering(mnemonic: str, operands: str) -> int:
    if mnemonic == "fence":
        before, _, after = operands.partition(",")
        return FENCE if not operands or ("w" in before and "w" in after) else 0
    if not mnemonic.startswith(("lr.", "sc.", "amo")):
        return 0
    order = mnemonic.rpartition(".")[2]
    return MARKED | ATOMIC | (ACQUIRES if "aq" in order else 0) | (RELEASES if "rl" in order else 0)


def _calls(mnemonic: str, operands: str) -> bool:
    name = mnemonic.removeprefix("c.")
    return name in ("jal", "jalr") and (
        operands.startswith("ra") or mnemonic in ("c.jal", "c.jalr") or "," not in operands
    )


def _conditional(mnemonic: str) -> bool:
    return mnemonic.removeprefix("c.").startswith(("beq", "bne", "blt", "bge", "bgt", "ble"))


FAMILY = Family(
    name="riscv",
    kbuild_arch="riscv",
    srcarch="riscv",
    host="riscv64",
    cross="riscv64-linux-gnu-",
    cross_package="gcc-riscv64-linux-gnu",
    config=("NONPORTABLE=y", "ARCH_RV64I=y", "MMU=y", "SPARSEMEM_MANUAL=y", "SPARSEMEM_VMEMMAP=y"),
    objects=(
        "lib/hweight.o",
        "arch/riscv/mm/pgtable.o",
        "arch/riscv/lib/memcpy.o",
        "arch/riscv/lib/memset.o",
        "arch/riscv/lib/memmove.o",
    ),
    marks={},
    marked=("arch/riscv/mm/pgtable.c",),
    image_base=0xFFFF_FFFF_8000_0000,
    uc=(unicorn.UC_ARCH_RISCV, unicorn.UC_MODE_RISCV64),
    arguments=tuple(reg.UC_RISCV_REG_A0 + number for number in range(8)),
    result=reg.UC_RISCV_REG_A0,
    stack=reg.UC_RISCV_REG_SP,
    link=reg.UC_RISCV_REG_RA,
    program_counter=reg.UC_RISCV_REG_PC,
    task=reg.UC_RISCV_REG_TP,
    ret=bytes.fromhex("67800000"),
    ret_zero=bytes.fromhex("01458280"),
    nop={2: bytes.fromhex("0100"), 4: bytes.fromhex("13000000")},
    branches=frozenset({17, 18, 19}),  # R_RISCV_JAL, R_RISCV_CALL, R_RISCV_CALL_PLT
    disassembler=(capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC),
    classify=_classify,
    conditional=_conditional,
    ordering=_ordering,
    calls=_calls,
    relative=True,
)

TARGETS = tuple(Target(f"riscv64-sv{bits}", FAMILY, levels) for bits, levels in ((39, 3), (48, 4), (57, 5)))
