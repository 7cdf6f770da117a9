# SPDX-License-Identifier: GPL-2.0-only
"""x86-64: an instruction that accesses memory becomes a load, an operation and a store, as in all cores since 1995."""

from __future__ import annotations

from typing import Any

import capstone
from capstone import x86

from vmaplab.cost.isa.base import ADDRESS, VALUE, Kind, Op, words

DISASSEMBLER = capstone.CS_ARCH_X86, capstone.CS_MODE_64
_NAMES = ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"]
_FLAGS = 16
_PARTS = {part: number for number, name in enumerate(_NAMES[:4]) for part in _NAMES[number : number + 1]}
for _number, _name in enumerate(_NAMES[:4]):
    _letter = _name[1]
    _PARTS |= dict.fromkeys((f"e{_letter}x", f"{_letter}x", f"{_letter}l", f"{_letter}h"), _number)
for _number, _name in enumerate(_NAMES[4:8], start=4):
    _PARTS |= dict.fromkeys((_name, f"e{_name[1:]}", _name[1:], f"{_name[1:]}l"), _number)
for _number, _name in enumerate(_NAMES[8:], start=8):
    _PARTS |= dict.fromkeys((_name, f"{_name}d", f"{_name}w", f"{_name}b"), _number)
_PARTS |= dict.fromkeys(("rflags", "eflags", "flags"), _FLAGS)
_SHIFTS = words("sh sa rol ror rcl rcr bt bsf bsr tzcnt lzcnt popcnt bswap")
_STRINGS = words("stosb stosw stosd stosq movsb movsw movsq lodsb lodsw lodsd lodsq scasb cmpsb")
_SYSTEM = words(
    "cpuid rdmsr wrmsr rdtsc inv swapgs sysret iret hlt cli sti in out ud2 lgdt lidt ltr vmcall vmmcall xgetbv xsetbv"
    " rdgs wrgs rdfs wrfs stac clac"
)


def ops_of(one: Any) -> list[Op]:
    """The operations of an instruction, as Capstone has it."""
    name, prefix = one.mnemonic.removeprefix("rep ").removeprefix("repne ").removeprefix("lock "), one.prefix[0]
    reads, writes = ({_PARTS.get(one.reg_name(it)) for it in which} - {None} for which in one.regs_access())
    memory = [it for it in one.operands if it.type == x86.X86_OP_MEM]
    parts = {_PARTS.get(one.reg_name(reg)) for it in memory for reg in (it.mem.base, it.mem.index) if reg} - {None}
    address, given, made = _sorted(parts), _sorted(reads - parts), _sorted(writes)
    values = _sorted(reads) if not memory else given
    if name in ("mfence", "lfence", "sfence"):
        return [Op({"mfence": Kind.SYNC, "lfence": Kind.ORDER}.get(name, Kind.ORDER_STORES))]
    if name in ("xor", "sub") and len(one.operands) == 2 and not memory and len(set(_operands(one))) == 1:
        return [Op(Kind.ALU, (), made[:2])]  # nothing is waited for: the result is 0
    if name == "test" and memory:  # Capstone has no register of it
        return [Op(Kind.LOAD, address, (VALUE,), 1), Op(Kind.ALU, (VALUE, *_operands(one)), (_FLAGS,))]
    if name == "cmpxchg" and memory:
        kind = Kind.ATOMIC if prefix == x86.X86_PREFIX_LOCK else Kind.LOAD
        ops = [Op(kind, (*address, 0, *_operands(one))[:4], (0, _FLAGS), 2 if kind == Kind.ATOMIC else 1)]
        return ops if kind == Kind.ATOMIC else [*ops, Op(Kind.STORE, (*address, _FLAGS)[:4], (), 1)]
    if name == "leave":
        return [Op(Kind.LOAD, (6,), (6,), 1), Op(Kind.ALU, (6,), (7,))]
    if name in ("pushf", "pushfq", "popf", "popfq"):
        is_push = name.startswith("push")
        return [Op(Kind.STORE if is_push else Kind.LOAD, (7, _FLAGS), () if is_push else (_FLAGS,), 1)]
    if any(one.reg_name(it.reg)[:2] in ("cr", "dr") for it in one.operands if it.type == x86.X86_OP_REG):
        return [Op(Kind.SYSTEM, values[:4], made[:2])]
    if name.startswith("j"):
        kind = Kind.COND if name != "jmp" else Kind.JUMP if one.operands[0].type == x86.X86_OP_IMM else Kind.INDIRECT
        return [*_loaded(memory, address), Op(kind, (VALUE,) if memory else values)]
    # push, pop, call and ret do not wait for the stack pointer: a stack engine follows it where they are decoded.
    if name == "call":
        return [*_loaded(memory, address), Op(Kind.STORE, (7,), (), 1), Op(Kind.CALL)]
    if name in ("ret", "retq"):
        return [Op(Kind.LOAD, (7,), (VALUE,), 1), Op(Kind.RET, (VALUE,))]
    if name == "push":
        value = (VALUE,) if memory else tuple(it for it in given if it != 7)
        return [*_loaded(memory, address), Op(Kind.STORE, (7, *value), (), 1)]
    if name == "pop":
        target = tuple(it for it in made if it != 7)
        return [Op(Kind.LOAD, (7,), target[:1], 1)]
    if name.startswith(("nop", "endbr", "pause", "prefetch", "data16")):
        return [Op(Kind.NOP)]
    if name.startswith(_SYSTEM) and not name.startswith("inc"):
        return [Op(Kind.SYSTEM, values[:4], made[:2])]
    if prefix == x86.X86_PREFIX_LOCK or (name == "xchg" and memory):
        return [Op(Kind.ATOMIC, (*address, *given)[:4], made[:2], 2)]
    if name in _STRINGS and len(memory):
        count = 2 if name.startswith(("movs", "cmps")) else 1
        return [Op(Kind.STORE, values[:4], made[:2], count)]
    if name == "lea":
        return [Op(Kind.SHIFT if memory[0].mem.scale > 1 and memory[0].mem.disp else Kind.ALU, address, made[:2])]
    return _operation(name, memory, address, values, made)


def _operation(
    name: str, memory: list[Any], address: tuple[int, ...], values: tuple[int, ...], made: tuple[int, ...]
) -> list[Op]:
    """Load, operation, store, as far as an instruction has them."""
    is_move = name.startswith(("mov", "cbw", "cwde", "cdq"))
    values = (*values, *made[:1]) if name.startswith("cmov") else values  # it keeps what it does not replace
    read = bool(memory) and any(it.access & capstone.CS_AC_READ for it in memory)
    written = bool(memory) and any(it.access & capstone.CS_AC_WRITE for it in memory)
    if name == "movnti":
        read, written = False, True
    if is_move and written:
        return [Op(Kind.STORE, (*address, *values)[:4], (), 1)]
    if is_move and read:
        return [Op(Kind.LOAD, address, made[:2], 1)]
    kind = Kind.ALU
    if name.startswith(("mul", "imul")):
        kind = Kind.MUL
    elif name.startswith(("div", "idiv")):
        kind = Kind.DIV
    elif name.startswith(_SHIFTS):
        kind = Kind.SHIFT
    elif name.startswith(("v", "p", "xorp")) or name.endswith(("ps", "pd", "ss", "sd")):
        kind = Kind.VECTOR
    ops = [Op(Kind.LOAD, address, (VALUE,), 1)] if read else []
    ops.append(Op(kind, (*((VALUE,) if read else ()), *values)[:4], (*((ADDRESS,) if written else ()), *made)[:2]))
    if written:
        ops.append(Op(Kind.STORE, (*address, ADDRESS)[:4], (), 1))
    return ops


def _operands(one: Any) -> tuple[int, ...]:
    """The registers among the operands."""
    found = (_PARTS.get(one.reg_name(it.reg)) for it in one.operands if it.type == x86.X86_OP_REG)
    return tuple(number for number in found if number is not None)


def _loaded(memory: list[Any], address: tuple[int, ...]) -> list[Op]:
    return [Op(Kind.LOAD, address, (VALUE,), 1)] if memory else []


def _sorted(numbers: set[Any]) -> tuple[int, ...]:
    return tuple(sorted(numbers))
