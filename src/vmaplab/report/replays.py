# SPDX-License-Identifier: GPL-2.0-only
"""What ``replay`` prints for people."""

from __future__ import annotations

import errno
from collections.abc import Mapping as Dict
from typing import TYPE_CHECKING

import numpy as np

from vmaplab.calls.table import Returns, call_of, returns_of
from vmaplab.config import settings
from vmaplab.pages.array import size_text
from vmaplab.pages.runs import runs_text
from vmaplab.report.text import Output, new_table, pages_text, print_table

if TYPE_CHECKING:
    from vmaplab.check.replay import Played
    from vmaplab.judge.witness import Witness
    from vmaplab.kernel import Kernel
    from vmaplab.mapping import SetMemory


def replayed(kernel: Kernel, played: list[Played], config: Dict[str, bool], info: bool) -> None:
    """Print what each step of a replay came to, then warnings, hazards and where the address space stands."""
    from vmaplab.calls.scenario import Scenario

    console = Output()
    cpus = [f"{kernel.cpus} CPUs"] * (kernel.cpus > 1)
    where = ", ".join([kernel.arch.name, kernel.code, *settings(kernel.boot_args, config), *cpus])
    console.print(f"{len(played)} {'call' if len(played) == 1 else 'calls'} on {where}")
    console.print()
    table = new_table("", *["CPU"] * (kernel.cpus > 1), "call", "returns", "leaves", left=4)
    table.columns[0].justify = "right"
    for number, one in enumerate(played):
        leaves = ", ".join(f"{count} x {size_text(size)}" for size, count in sorted(one.leaves.items(), reverse=True))
        cpu = [str(one.cpu)] * (kernel.cpus > 1)
        table.add_row(f"@{number}", *cpu, Scenario((one.operation,)).short(), _returned(one), leaves)
    print_table(console, table)
    console.print()
    for number, one in enumerate(played):
        for warning in one.warnings:
            print(f"@{number} warns: {warning}")
        size, bits = one.operation.pages * kernel.arch.page_size, kernel.arch.bits_per_long
        if size >> bits and call_of(one.operation):
            print(f"@{number} asks for {size:#x} bytes: an unsigned long of {bits} bits holds {size % (1 << bits):#x}")
        if one.why and not one.verdict:
            print(f"@{number} fails: {one.why}")
        if one.end:
            print(f"@{number} is {one.end}: what comes after it is not run")
        if not one.called:
            print(f"@{number} is not called: @{one.operation.ref} returned no address")
        for line in one.text.splitlines():
            print(f"@{number} prints {line}")
        if one.frames:
            print(f"@{number} gives a process {runs_text(np.array(one.frames, dtype=np.uint64))}")
        if one.verdict:
            _hazards(number, one.verdict)
        for at, size, phys in one.parts:
            print(
                f"@{number} reads {size_text(size)} " + ("of zeroes" if phys < 0 else f"at {phys:#x}") + f" to {at:#x}"
            )
    areas = kernel.areas
    used = f"{len(areas)}, {size_text(sum(area.size for area in areas))}" if areas else "none"
    print(f"areas in use: {used}; waiting for a purge: {size_text(kernel.waiting_bytes)}")
    if info:
        print()
        print(kernel.vmalloc_info(), end="")


def judged(witness: Witness) -> None:
    """Print what was looked at in a replay."""
    prover, form = witness.prover, witness.form
    table = new_table("verified", "", left=2)
    if prover:
        pages = pages_text(witness.translated)
        table.add_row("MMU", f"after each call {form.cpu} translates what is mapped, {pages} in all")
    else:
        table.add_row("MMU", f"not proved by an MMU: {form.cpu}")
    table.add_row("tables", f"walked after each call as in {form.manual}: every page, and nothing else, is mapped")
    table.add_row("events", "break-before-make; cache flushes cover each area, no more and no less")
    if witness.blind:
        table.add_row("until", f"{witness.blind}: nothing is judged after that")
    else:
        table.add_row("end", "with all undone and the TLB flushed, no table, area or page is lost")
    print()
    print_table(Output(), table)


def _returned(one: Played) -> str:
    if one.end:
        return "BUG()" if one.bug else "?"
    if not one.called:
        return "-"
    if one.value is None:
        return "NULL"
    if returns_of(one.operation) in (Returns.PARTS, Returns.TEXT) or call_of(one.operation) is None:
        return ""
    if one.frames:
        return "0"
    if one.value < 0:
        return f"-{errno.errorcode[-one.value]}"
    return f"{one.value:#x}" if one.value else "0"


def _hazards(number: int, verdict: SetMemory) -> None:
    what = "an oops" if verdict.oops else f"-{errno.errorcode[verdict.errno]}" if verdict.errno else "0"
    print(f"@{number} set_memory_ro() and its like: {what}" + (f", because {verdict.why}" if verdict.why else ""))
    for va, size, pfn, pages, _, safe, text in verdict.hazards:
        print(f"  {va:#x}: leaf of {size_text(size)}, PFN {pfn:#x}, {pages} of its pages in the range")
        print(f"    {'' if safe else 'HAZARD: '}{text}")
