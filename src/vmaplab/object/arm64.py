# SPDX-License-Identifier: GPL-2.0-only
"""arm64 in Unicorn."""

from __future__ import annotations

import re

import capstone
import unicorn
from elftools.elf.enums import ENUM_RELOC_TYPE_AARCH64 as RELOC
from unicorn import arm64_const as reg

from vmaplab.object.family import ACQUIRES, ATOMIC, FENCE, MARKED, RELEASES, Family, Target

_CHANGES = ("add", "clr", "set", "eor", "smax", "smin", "umax", "umin")
_LSE = ("swp", "cas", *(f"{way}{change}" for way in ("ld", "st") for change in _CHANGES))
_ATOMIC = re.compile(rf"(?:swpp?|casp?|(?:ld|st)(?:{'|'.join(_CHANGES)}))(a?l?)[bh]?$")


def _classify(mnemonic: str, operands: str) -> tuple[bool, bool, bool]:
    """Loads and stores by mnemonic; LSE atomics (``swp``, ``cas``, ``ldadd``...) are both."""
    atomic = mnemonic.startswith(_LSE)
    load = atomic or mnemonic.startswith("ld")
    store = atomic or mnemonic.startswith("st") or (mnemonic == "dc" and operands.startswith("zva"))
    return load, store, mnemonic in ("dsb", "dmb", "isb")


def _ordering(mnemonic: str, operands: str) -> int:
    if mnemonic in ("dmb", "dsb"):
        return FENCE if not operands.endswith("ld") else 0
    if match := _ATOMIC.match(mnemonic):
        return MARKED | ATOMIC | (ACQUIRES if "a" in match[1] else 0) | (RELEASES if "l" in match[1] else 0)
    bits = ACQUIRES if mnemonic.startswith("lda") else RELEASES if mnemonic.startswith("stl") else 0
    if mnemonic.startswith(("ldxr", "ldxp", "ldax", "stxr", "stxp", "stlx")):
        bits |= MARKED | ATOMIC
    return bits | MARKED if bits else 0


def _calls(mnemonic: str, operands: str) -> bool:
    return mnemonic in ("bl", "blr")


def _conditional(mnemonic: str) -> bool:
    return mnemonic.startswith(("b.", "cbz", "cbnz", "tbz", "tbnz"))


FAMILY = Family(
    name="arm64",
    kbuild_arch="arm64",
    srcarch="arm64",
    host="aarch64",
    cross="aarch64-linux-gnu-",
    cross_package="gcc-aarch64-linux-gnu",
    config=("ARM64_VA_BITS_48=y", "ARM64_PA_BITS_48=y", "NR_CPUS=2", "SYSFS=y", "HUGETLBFS=y"),
    objects=(
        "lib/hweight.o",
        "arch/arm64/mm/mmu.o",
        "arch/arm64/mm/hugetlbpage.o",
        "arch/arm64/lib/memcpy.o",
        "arch/arm64/lib/memset.o",
        "arch/arm64/lib/clear_page.o",
    ),
    marks={"__flush_tlb_kernel_pgtable": 1},
    marked=("arch/arm64/mm/mmu.c",),
    sources=("arch/arm64/mm/hugetlbpage.c",),
    barriers=((0x0A400000, 0x08000000), (0xFFFFF0FF, 0xD503309F), (0xFFFFF0FF, 0xD50330DF)),  # stores, DSB, ISB
    live=(1, 1),
    image_base=0xFFFF_7000_1000_0000,  # in the linear map, beyond all RAM: no tree has vmalloc space there
    uc=(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM),
    cpu=reg.UC_CPU_ARM64_MAX,
    arguments=tuple(reg.UC_ARM64_REG_X0 + number for number in range(8)),
    result=reg.UC_ARM64_REG_X0,
    stack=reg.UC_ARM64_REG_SP,
    link=reg.UC_ARM64_REG_X30,
    program_counter=reg.UC_ARM64_REG_PC,
    task=reg.UC_ARM64_REG_SP_EL0,
    shadow=reg.UC_ARM64_REG_X18,
    ret=bytes.fromhex("c0035fd6"),
    ret_zero=bytes.fromhex("000080d2c0035fd6"),
    nop={4: bytes.fromhex("1f2003d5")},
    branches=frozenset({RELOC["R_AARCH64_CALL26"], RELOC["R_AARCH64_JUMP26"]}),
    disassembler=(capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM),
    classify=_classify,
    conditional=_conditional,
    ordering=_ordering,
    calls=_calls,
)

TARGETS = (
    Target("arm64-4k", FAMILY, 4, ("ARM64_4K_PAGES=y",)),
    Target("arm64-16k", FAMILY, 4, ("ARM64_16K_PAGES=y",)),
    Target("arm64-64k", FAMILY, 3, ("ARM64_64K_PAGES=y",)),
)
