# SPDX-License-Identifier: GPL-2.0-only
"""RV64GC: names as in The RISC-V Instruction Set Manual, volume I."""

from __future__ import annotations

from typing import Any

import capstone
from capstone import riscv

from vmaplab.cost.isa.base import Kind, Op, words

DISASSEMBLER = capstone.CS_ARCH_RISCV, capstone.CS_MODE_RISCV64 | capstone.CS_MODE_RISCVC
_LOADS = words("lb lh lw ld lbu lhu lwu c.lw c.ld c.lwsp c.ldsp")
_STORES = words("sb sh sw sd c.sw c.sd c.swsp c.sdsp")
_CONDITIONAL = words("beq bne blt bge bgt ble c.beqz c.bnez")
_SHIFTS = words("sll srl sra c.slli c.srli c.srai rol ror")
_SAME = words("c.add c.addi c.addiw c.addw c.sub c.subw c.and c.andi c.or c.xor c.slli c.srli c.srai c.addi16sp")
"""Compressed ones read what they write."""
_JUMPS = words("c.j j c.jr jr ret jal c.jal jalr c.jalr call tail")
_STATUS = words("csrr rdcycle rdtime rdinstret")
_SYSTEM = words("csr sfence hfence sinval wfi ecall ebreak c.ebreak sret mret")
_LINK = 1


def ops_of(one: Any) -> list[Op]:
    """The operations of an instruction, as Capstone has it."""
    name = one.mnemonic
    used = [it.reg for it in one.operands if it.type == riscv.RISCV_OP_REG]
    registers = tuple(number for it in used if (number := _number(it)) is not None)
    bases = [it.mem.base for it in one.operands if it.type == riscv.RISCV_OP_MEM]
    base = tuple(number for it in bases if (number := _number(it)) is not None)
    if name in _LOADS:
        return [Op(Kind.LOAD, base or registers[1:], registers[:1], 1)]
    if name in _STORES:
        return [Op(Kind.STORE, (*registers, *base), (), 1)]
    target = _number(used[0]) if used else None
    if name.startswith(("lr.", "sc.", "amo")):
        reads = tuple(number for it in used[1:] if (number := _number(it)) is not None)
        made = () if target is None else (target,)
        return [Op(Kind.ATOMIC, (*reads, *base), made, 1 if name.startswith("lr.") else 2)]
    if name in ("fld", "flw", "fsd", "fsw", "c.fld", "c.fsd", "c.fldsp", "c.fsdsp"):
        return [Op(Kind.LOAD if "l" in name[:4].replace("c.", "") and "s" not in name[:2] else Kind.STORE, base, (), 1)]
    if name.startswith(_CONDITIONAL):
        return [Op(Kind.COND, registers)]
    if name in _JUMPS:
        return [_jump(name, used, registers)]
    if name == "fence.i":
        return [Op(Kind.FLUSH)]
    if name.startswith("fence"):
        whole = not one.op_str or one.op_str.replace(" ", "") in ("rw,rw", "iorw,iorw")
        stores = one.op_str.replace(" ", "") in ("w,w", "ow,ow")
        return [Op(Kind.SYNC if whole else Kind.ORDER_STORES if stores else Kind.ORDER)]
    if name in _STATUS:
        return [Op(Kind.STATUS, (), registers[:1])]
    if name.startswith(_SYSTEM):
        has_target = name.startswith("csr") and len(used) > 1
        return [Op(Kind.SYSTEM, registers[1:] if has_target else registers, registers[:1] if has_target else ())]
    if name in ("nop", "c.nop"):
        return [Op(Kind.NOP)]
    reads = registers if name in _SAME else registers[1:]
    if used and _number(used[0]) is None:
        return [Op(Kind.NOP)]
    if name.startswith(("mul", "c.mul")):
        return [Op(Kind.MUL, reads, registers[:1])]
    if name.startswith(("div", "rem")):
        return [Op(Kind.DIV, reads, registers[:1])]
    return [Op(Kind.SHIFT if name.startswith(_SHIFTS) else Kind.ALU, reads, registers[:1])]


def _jump(name: str, used: list[int], registers: tuple[int, ...]) -> Op:
    if name in ("c.j", "j", "tail"):
        return Op(Kind.JUMP)
    if name == "ret" or (name in ("c.jr", "jr") and registers == (_LINK,)):
        return Op(Kind.RET, (_LINK,))
    if name in ("c.jr", "jr"):
        return Op(Kind.INDIRECT, registers)
    if name in ("c.jal", "c.jalr", "call"):
        return Op(Kind.CALL, registers, (_LINK,))
    target = _number(used[0]) if len(used) > (name == "jalr") else _LINK
    if target is None:  # jal zero, jalr zero
        return Op(Kind.RET if registers == (_LINK,) else Kind.INDIRECT, registers) if name == "jalr" else Op(Kind.JUMP)
    reads = (registers[1:] if len(used) > 1 else registers) if name == "jalr" else ()
    return Op(Kind.CALL, reads, (target,))


def _number(register: int) -> int | None:
    """x1 to x31; None for x0, which is always 0, and for what is not followed."""
    number = register - riscv.RISCV_REG_X0
    return number if 0 < number < 32 else None
