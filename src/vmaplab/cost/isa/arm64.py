# SPDX-License-Identifier: GPL-2.0-only
"""A64: names as in the Arm Architecture Reference Manual, C6. Capstone's own lists of registers miss aliases."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import capstone
from capstone import arm64

from vmaplab.cost.isa.base import Kind, Op, words

DISASSEMBLER = capstone.CS_ARCH_ARM64, capstone.CS_MODE_ARM
_SP, _NZCV = 31, 32
_BITS = words(
    "lsl lsr asr ror extr bfi bfxil bfm bfc ubfm sbfm ubfx sbfx ubfiz sbfiz rev rev16 rev32 rbit clz cls uxtb uxth sxtb"
    " sxth sxtw"
)
_MULTIPLIES = words("mul madd msub mneg smull umull smulh umulh smaddl umaddl smsubl umsubl")
_ATOMICS = words("cas swp ldadd ldclr ldeor ldset ldsmax ldsmin ldumax ldumin")
_MORE_ATOMICS = words("stadd stclr steor stset stxr stlxr stxp stlxp")
_JUMPS = {"b": Kind.JUMP, "bl": Kind.CALL, "br": Kind.INDIRECT, "blr": Kind.CALL, "ret": Kind.RET}
_JUMPS |= {"retaa": Kind.RET, "retab": Kind.RET, "braa": Kind.INDIRECT, "brab": Kind.INDIRECT, "braaz": Kind.INDIRECT}
_JUMPS |= {"blraa": Kind.CALL, "blrab": Kind.CALL, "blraaz": Kind.CALL, "brabz": Kind.INDIRECT, "blrabz": Kind.CALL}
_BARRIERS = {"dsb": Kind.SYNC, "dmb": Kind.ORDER, "isb": Kind.FLUSH, "sb": Kind.FLUSH}
_OF_STORES = {Kind.SYNC: Kind.SYNC_STORES, Kind.ORDER: Kind.ORDER_STORES}
_SYSTEM = ("msr", "sys", "tlbi", "at", "ic", "dc", "svc", "hvc", "smc", "brk", "wfe", "wfi", "sev")
_HINTS = ("nop", "csdb", "clrex", "hint", "bti", "pac", "aut", "yield", "xpac", "prf")
_COMPARES = ("cmp", "cmn", "tst", "ccmp", "ccmn")
_SET_FLAGS = ("adds", "subs", "ands", "bics", "negs", "ngcs", "adcs", "sbcs", *_COMPARES)
_USE_FLAGS = ("adc", "sbc", "ngc", "cs", "cinc", "cinv", "cneg", "ccmp", "ccmn")
_KEEP = ("movk", "bfi", "bfxil", "bfm", "bfc")
"""They change a part of their destination."""


def number_of(name: str) -> int | None:
    """A register by its name; None for those that are always 0, or not followed."""
    if name in ("sp", "wsp", "fp", "lr", "nzcv"):
        return {"fp": 29, "lr": 30, "nzcv": _NZCV}.get(name, _SP)
    match = re.fullmatch(r"[wx](\d+)", name)
    return int(match[1]) if match else None


def ops_of(one: Any) -> list[Op]:
    """The operations of an instruction, as Capstone has it."""
    name = one.mnemonic
    if name in _BARRIERS:
        kind = _BARRIERS[name]
        return [Op(_OF_STORES[kind] if one.op_str.endswith("st") else kind)]
    if name.startswith(_HINTS):
        return [Op(Kind.NOP)]
    used = list(_registers(one))
    if name in _JUMPS:
        link = (30,) if name.startswith("bl") else ()
        return [Op(_JUMPS[name], tuple(used) or (30,) * name.startswith("ret"), link)]
    if name.startswith(("b.", "cb", "tb")):
        return [Op(Kind.COND, (_NZCV,) if name.startswith("b.") else tuple(used))]
    if name == "mrs":
        return [Op(Kind.STATUS, (), tuple(used[:1]))]
    if name == "dc" and "zva" in one.op_str:
        return [Op(Kind.STORE, tuple(used), (), 1)]
    if name.startswith(_SYSTEM):
        return [Op(Kind.SYSTEM, tuple(used), ())]
    if name.startswith(_ATOMICS):
        return [Op(Kind.ATOMIC, tuple(used), tuple(used[:1] if name.startswith("cas") else used[1:2]), 2)]
    if name.startswith(_MORE_ATOMICS):
        status = 1 if "x" in name[2:5] else 0  # stadd and its like leave none
        return [Op(Kind.ATOMIC, tuple(used[status:]), tuple(used[:status]), 2)]
    if name.startswith(("ld", "st")):
        return _access(one, used)
    return [_arithmetic(one, used)]


def _registers(one: Any) -> Iterator[int]:
    """Registers among the operands, in order, with those of addresses."""
    for it in one.operands:
        which = (it.reg,) if it.type == arm64.ARM64_OP_REG else (it.mem.base, it.mem.index)
        if it.type in (arm64.ARM64_OP_REG, arm64.ARM64_OP_MEM):
            yield from (number for reg in which if reg and (number := number_of(one.reg_name(reg))) is not None)


def _access(one: Any, used: list[int]) -> list[Op]:
    """A load or store, and the new address that it may leave in its base register."""
    memory = next((it.mem for it in one.operands if it.type == arm64.ARM64_OP_MEM), None)
    parts = [memory.base, memory.index] if memory else []
    address = tuple(number for it in parts if it and (number := number_of(one.reg_name(it))) is not None)
    others = tuple(used[: len(used) - len(address)])
    count = 2 if one.mnemonic[2:].startswith(("p", "np", "xp", "axp")) else 1
    is_load = one.mnemonic.startswith("ld")
    ops = [Op(Kind.LOAD, address, others, count) if is_load else Op(Kind.STORE, (*address, *others), (), count)]
    if one.writeback and address:
        ops.append(Op(Kind.ALU, address[:1], address[:1]))
    return ops


def _arithmetic(one: Any, used: list[int]) -> Op:
    name, operands = one.mnemonic, one.operands
    first = operands[0] if operands else None
    has_target = first is not None and first.type == arm64.ARM64_OP_REG and name not in _COMPARES
    target = number_of(one.reg_name(first.reg)) if has_target and first is not None else None
    reads = tuple(used if target is None or name in _KEEP else used[1:])
    if name.startswith(_USE_FLAGS):
        reads = (*reads, _NZCV)
    writes = (() if target is None else (target,)) + ((_NZCV,) if name in _SET_FLAGS else ())
    if name in _MULTIPLIES:
        return Op(Kind.MUL, reads, writes)
    if name in ("sdiv", "udiv"):
        return Op(Kind.DIV, reads, writes)
    if first is not None and first.type == arm64.ARM64_OP_REG and one.reg_name(first.reg)[0] in "qdvbh":
        return Op(Kind.VECTOR, reads, writes)
    last = operands[-1] if operands else None
    moved = last is not None and last.type == arm64.ARM64_OP_REG and (last.shift.type or last.ext)
    return Op(Kind.SHIFT if moved or name in _BITS else Kind.ALU, reads, writes)
