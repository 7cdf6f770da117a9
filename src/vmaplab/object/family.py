# SPDX-License-Identifier: GPL-2.0-only
"""What differs between the architecture families when the kernel's own code is built, linked and run.

One file each: :mod:`~vmaplab.object.arm64`, :mod:`~vmaplab.object.x86`, :mod:`~vmaplab.object.riscv`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

MARKED, ACQUIRES, RELEASES, FENCE, ATOMIC = 2, 4, 8, 16, 32
"""Bits of an instruction that touches memory: others may race with it; what comes after it cannot pass it; or what came
before. See :mod:`vmaplab.race.marks`."""


@dataclass(frozen=True)
class Family:
    """One kbuild architecture in Unicorn.

    :param name: also the name of the C file in ``support/``.
    :param kbuild_arch: ``ARCH=`` of the kernel's makefile.
    :param srcarch: its folder in ``arch/``.
    :param host: ``platform.machine()`` where the plain tools build for this architecture.
    :param cross: ``CROSS_COMPILE=`` elsewhere.
    :param cross_package: the Debian package that has those tools.
    :param config: what the smallest configuration (``allnoconfig``) lacks, ``KEY=value``.
    :param objects: the tree's objects to link, besides :data:`vmaplab.object.build.OBJECTS`.
    :param marks: functions inlined by headers whose calls the engine must see, beside
        :data:`vmaplab.object.kbuild.MARKS`, with the number of their arguments.
    :param marked: the sources beside mm/vmalloc.c to compile so.
    :param sources: the architecture's other sources whose lines are of interest.
    :param syncs: whether arch_sync_kernel_mappings() has to be called for each new entry of the top level.
    :param barriers: encodings ``(mask, value)`` of instructions of 4 bytes: stores, the barrier that completes them for
        a walker, and the one that has to follow; none where the CPU needs none.
    :param live: ``(mask, value)`` of a stored entry that a walker may use.
    :param image_base: address of the linked object.
    :param uc: Unicorn's architecture and mode.
    :param cpu: Unicorn's CPU model, or None for its default.
    :param arguments: the registers of integer arguments, in order.
    :param result: the register of the returned value.
    :param stack: the stack pointer.
    :param program_counter: where the CPU stands.
    :param link: the register of the return address, or None where a call pushes it.
    :param task: the register that holds ``current``, or None.
    :param shadow: the register of the shadow call stack, or None.
    :param ret: encoding of a return instruction.
    :param ret_zero: code that returns 0.
    :param nop: length of a trapping WARN instruction -> an instruction of that length that does nothing.
    :param branches: the ELF relocation types of calls and jumps.
    :param disassembler: Capstone's architecture and mode.
    :param conditional: whether an instruction of this mnemonic branches or goes on.
    :param relative: whether Capstone gives the target of a branch relative to it.
    :param ordering: mnemonic and operands of an instruction -> MARKED, ACQUIRES and RELEASES, of an atomic access or
        one that orders others; ATOMIC where it reads and writes; FENCE of a barrier between the stores before it and
        those behind it; 0 for all else.
    :param stores_in_order: all CPUs see the stores of one in their order, without any barrier.
    :param calls: whether an instruction of this mnemonic and these operands is a call.
    :param classify: mnemonic and operands of an instruction -> ``(loads, stores, barrier)``.
    """

    name: str
    kbuild_arch: str
    srcarch: str
    host: str
    cross: str
    cross_package: str
    config: tuple[str, ...]
    objects: tuple[str, ...]
    marks: Mapping[str, int]
    marked: tuple[str, ...]
    image_base: int
    uc: tuple[int, int]
    arguments: tuple[int, ...]
    result: int
    stack: int
    link: int | None
    program_counter: int
    ret: bytes
    ret_zero: bytes
    nop: Mapping[int, bytes]
    branches: frozenset[int]
    disassembler: tuple[int, int]
    classify: Callable[[str, str], tuple[bool, bool, bool]]
    conditional: Callable[[str], bool]
    ordering: Callable[[str, str], int]
    calls: Callable[[str, str], bool]
    cpu: int | None = None
    task: int | None = None
    shadow: int | None = None
    relative: bool = False
    stores_in_order: bool = False
    sources: tuple[str, ...] = ()
    syncs: bool = False
    barriers: tuple[tuple[int, int], ...] = ()
    live: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Target:
    """An architecture that the object engine runs.

    :param arch: its name, as in ``vmaplab arches``.
    :param config: configuration beyond the family's.
    :param levels: levels of the page table, for kernels that choose at boot.
    """

    arch: str
    family: Family
    levels: int
    config: tuple[str, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """The whole configuration asked for, ``KEY=value`` without ``CONFIG_``."""
        return self.family.config + self.config
