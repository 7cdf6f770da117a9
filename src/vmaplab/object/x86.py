# SPDX-License-Identifier: GPL-2.0-only
"""x86_64 in Unicorn."""

from __future__ import annotations

import capstone
import unicorn
from elftools.elf.enums import ENUM_RELOC_TYPE_x64 as RELOC
from unicorn import x86_const as reg

from vmaplab.object.family import ACQUIRES, ATOMIC, MARKED, RELEASES, Family, Target

_READ_ONLY = ("cmp", "test", "bt", "push", "call", "jmp", "mul", "imul", "div", "idiv", "invlpg", "verw")
_FENCES = ("mfence", "lfence", "sfence")


def _classify(mnemonic: str, operands: str) -> tuple[bool, bool, bool]:
    """By the place of the memory operand (Intel order); pushes, pops, calls and returns use the stack."""
    if mnemonic in ("lea", "nop") or mnemonic.startswith("prefetch"):
        return False, False, False
    name = mnemonic.removeprefix("lock ").removeprefix("rep ")
    destination, _, source = operands.partition(",")
    load = "[" in source or name.startswith(("pop", "ret"))
    store = name.startswith(("push", "call"))
    if "[" in destination:
        only_read = name in _READ_ONLY
        load = load or only_read or not name.startswith(("mov", "set", "stos"))
        store = store or not only_read or name == "xchg"
    if name == "xchg" and "[" in operands:
        load = store = True
    return load, store, name in _FENCES


def _ordering(mnemonic: str, operands: str) -> int:
    atomic = mnemonic.startswith("lock ") or (mnemonic == "xchg" and "[" in operands)
    return MARKED | ATOMIC | ACQUIRES | RELEASES if atomic else 0


def _calls(mnemonic: str, operands: str) -> bool:
    return mnemonic == "call"


def _conditional(mnemonic: str) -> bool:
    return mnemonic.startswith("j") and mnemonic != "jmp"


FAMILY = Family(
    name="x86",
    kbuild_arch="x86_64",
    srcarch="x86",
    host="x86_64",
    cross="x86_64-linux-gnu-",
    cross_package="gcc-x86-64-linux-gnu",
    config=("64BIT=y", "X86_5LEVEL=y", "SPARSEMEM_VMEMMAP=y", "UNWINDER_GUESS=y"),
    objects=(
        "arch/x86/lib/hweight.o",  # its callers count on their registers
        "arch/x86/mm/pgtable.o",
        "arch/x86/lib/memcpy_64.o",
        "arch/x86/lib/memset_64.o",
        "arch/x86/lib/memmove_64.o",
        "arch/x86/lib/clear_page_64.o",
    ),
    marks={},
    marked=(),
    sources=("arch/x86/mm/pgtable.c",),
    syncs=True,
    image_base=0xFFFF_FFFF_8100_0000,
    uc=(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64),
    arguments=(
        reg.UC_X86_REG_RDI,
        reg.UC_X86_REG_RSI,
        reg.UC_X86_REG_RDX,
        reg.UC_X86_REG_RCX,
        reg.UC_X86_REG_R8,
        reg.UC_X86_REG_R9,
    ),
    result=reg.UC_X86_REG_RAX,
    stack=reg.UC_X86_REG_RSP,
    link=None,
    program_counter=reg.UC_X86_REG_RIP,
    ret=bytes.fromhex("c3"),
    ret_zero=bytes.fromhex("31c0c3"),
    nop={2: bytes.fromhex("6690")},
    branches=frozenset({RELOC["R_X86_64_PLT32"]}),
    disassembler=(capstone.CS_ARCH_X86, capstone.CS_MODE_64),
    classify=_classify,
    conditional=_conditional,
    ordering=_ordering,
    stores_in_order=True,
    calls=_calls,
)

TARGETS = (Target("x86_64", FAMILY, 4), Target("x86_64-la57", FAMILY, 5))
