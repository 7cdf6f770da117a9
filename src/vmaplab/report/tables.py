# SPDX-License-Identifier: GPL-2.0-only
"""What the commands print for people: aligned plain text that survives being pasted into a mail."""

from __future__ import annotations

import errno
from collections.abc import Mapping as Dict
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from vmaplab.arch import Arch
from vmaplab.calls.table import Returns, call_of, returns_of
from vmaplab.config import settings
from vmaplab.cost import COLUMNS, TEXTS
from vmaplab.pages.array import size_text
from vmaplab.pages.runs import runs_text
from vmaplab.release import BASELINE, DEFAULT, RELEASES, get
from vmaplab.report.as_json import word_of

if TYPE_CHECKING:
    from vmaplab.check.coverage import Changed, Coverage
    from vmaplab.check.plan import Verdict
    from vmaplab.check.replay import Played
    from vmaplab.check.survey import Surveyed
    from vmaplab.check.verify import Proof
    from vmaplab.compare import Row
    from vmaplab.judge.witness import Witness
    from vmaplab.kernel import Kernel
    from vmaplab.machine import Machine
    from vmaplab.mapping import Mapping, SetMemory
    from vmaplab.object.build import Built
    from vmaplab.trace import Event


class _Output(Console):
    """Standard output, as wide as the tables need: a narrow terminal wraps lines, it never loses columns."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, width=300)

    def on_broken_pipe(self) -> None:
        """Leave it to the command line: no reader is no finding."""
        raise BrokenPipeError


def _print(console: Console, table: Table) -> None:
    """Print ``table``; without trailing blanks where the output may end up in a mail."""
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as capture:
        console.print(table)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _table(*columns: str, left: int = 1) -> Table:
    """A table without lines, the first ``left`` columns flush left and the others flush right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < left else "right", no_wrap=True)
    return table


def mapping(
    kernel: Machine, made: Mapping, config: Dict[str, bool], proof: Proof | None, rows: int, events: bool
) -> None:
    """Print a mapping: its leaves (at most ``rows`` lines), its cost, its proof, and its events if wanted."""
    console = _Output()
    where = ", ".join([kernel.arch.name, kernel.code, *settings(kernel.boot_args, config)])
    console.print(f"vmap() of {made.cost.pages} pages ({size_text(made.size)}) on {where}")
    console.print()
    table = _table("address", "leaf", "leaves", "bytes", "first PFN", left=1)
    lines = _leaf_lines(made)
    leaves = made.leaves
    for start, stop in pairwise(lines[: rows + 1].tolist()):
        va, size, pfn = leaves[start].item()
        table.add_row(f"{va:#x}", size_text(size), str(stop - start), size_text(size * (stop - start)), f"{pfn:#x}")
    _print(console, table)
    hidden = len(lines) - 1 - rows
    if hidden > 0:
        rest = len(leaves) - lines[rows]
        console.print(f"... and {hidden} more lines with {rest} leaves (--rows {len(lines) - 1} shows them)")
    console.print()
    table = _table("cost", "", "")
    table.columns[2].justify = "left"
    for name, count in dict(made.cost).items():
        table.add_row(name, str(count), TEXTS[name])
    _print(console, table)
    if events:
        console.print()
        _events(console, made.events)
    if proof:
        console.print()
        _proof(console, proof)


def _proof(console: Console, proof: Proof) -> None:
    """Print what the judges looked at."""
    table = _table("verified", "", left=2)
    if proof.mmu:
        table.add_row(
            "MMU", f"{proof.cpu} translates {_pages(proof.translated)}, each to its frame, to read and to write"
        )
        table.add_row("", f"{proof.faults} translations refused: to execute a page, the guard page, the neighbourhood")
        if proof.beyond:
            table.add_row("", f"not proved by an MMU: {_pages(proof.beyond)} beyond the physical addresses of that CPU")
    else:
        table.add_row("MMU", f"not proved by an MMU: {proof.cpu}")
    table.add_row("tables", f"{proof.tables} walked as in {proof.manual}: every page, and nothing else, is mapped")
    number = f"{proof.groups} group{'s' * (proof.groups != 1)} of PTEs complete and alike"
    groups = number if proof.groups else "no groups of PTEs"
    closed = "executable: the architecture's PAGE_KERNEL is" if proof.executable else "no page executable"
    table.add_row("", f"leaves aligned, {groups}, {closed}, none open to user mode")
    table.add_row("events", "break-before-make; flush_cache_vmap() covers the area, no more and no less")
    table.add_row("vunmap()", "leaves no entry; with the TLB flushed, no table, area or page is lost")
    _print(console, table)


def _pages(count: int) -> str:
    return f"{count} page" + "s" * (count != 1)


def _leaf_lines(made: Mapping) -> NDArray[np.int64]:
    """Indices of leaves where a stretch of equal leaves that are contiguous in memory begins; then the end."""
    page = np.uint64(made.size // made.cost.pages)
    size, pfn = made.leaves["size"], made.leaves["pfn"]
    goes_on = (size[1:] == size[:-1]) & (pfn[1:] == pfn[:-1] + size[:-1] // page)
    return np.concatenate(([0], np.flatnonzero(~goes_on) + 1, [len(size)]))


def _events(console: Console, events: list[Event]) -> None:
    """Print events, without a table object: there can be millions."""
    lines = [f"{'event':22}  {'address':>18}  {'value':>18}  {'bytes':>8}"]
    for kind, addr, value, size, text in events:
        lines.append(f"{kind:22}  {addr:#18x}  {value:#18x}  {size:8}" if kind != "warn" else f"warn: {text}")
    console.file.write("\n".join(lines) + "\n")
    console.print(
        "store: value at a physical address. table_alloc: a table there; value is log2 of what one entry maps (0xc: a\n"
        "PTE table of 4K pages). flush: the virtual range from address to value."
    )


def comparison(source: str, rows: list[Row], boot_args: str, config: Dict[str, bool]) -> None:
    """Print a comparison, one block per architecture."""
    console = _Output()
    for arch, of_arch in groupby(rows, key=lambda row: row.arch):
        block = list(of_arch)
        if block[0].refused and not block[0].release:
            console.print(f"{arch}: not comparable: {block[0].refused}\n")
            continue
        pages = next((row.cost.pages for row in block if row.cost), 0)
        page = get(DEFAULT).on(arch).page_size
        where = ", ".join([arch, *settings(boot_args.split(), config)])
        console.print(f"{where}: {source}" + (f", {pages} pages of {size_text(page)}" if pages else ""))
        sizes = sorted({size for row in block for size in row.leaves_by_size})
        table = _table("release", *(f"{size_text(size)} leaves" for size in sizes), *COLUMNS.values(), "fewer TLB")
        for row in block:
            if row.cost is None:
                table.add_row(row.release, *["-"] * (len(table.columns) - 1))
                continue
            table.add_row(
                row.release,
                *(str(row.leaves_by_size.get(size, 0)) for size in sizes),
                *(str(row.cost[name]) for name in COLUMNS),
                f"{row.tlb_ratio:.1f}x" if row.tlb_ratio else "-",
            )
        _print(console, table)
        for row in block:
            if row.refused:
                console.print(f"{row.release} refuses: {row.refused}")
        console.print()
    console.print(
        "TLB: TLB entries filled. stored: leaf entries written. tables: page tables allocated. steps: entries above\n"
        "the leaf read. scanned: PFN comparisons. walks: descents from the top. sets: calls that set entries.\n"
        f"fewer TLB: TLB entries of {BASELINE} for the same pages, divided by this release's."
    )


def arches() -> None:
    """Print the architectures."""
    console = _Output()
    table = _table("name", "page", "level shifts", "PMD leaf", "PUD leaf", "PTE groups", "VMALLOC_START", left=1)
    table.add_column("PAGE_KERNEL", justify="right", no_wrap=True)
    table.add_column("note", no_wrap=False)
    for arch in get(DEFAULT).arches.values():
        groups = "/".join(size_text(1 << group.shift) for group in reversed(arch.groups)) or "-"
        table.add_row(
            arch.name,
            size_text(arch.page_size),
            " ".join(str(level.shift) for level in arch.levels),
            _leaf_text(arch, "PMD"),
            _leaf_text(arch, "PUD"),
            groups,
            f"{arch.vmalloc_start:#x}",
            f"{arch.page_kernel:#x}",
            arch.note,
        )
    _print(console, table)
    console.print("\nPUD leaves are for ioremap() only: vmap() never makes one.")


def _leaf_text(arch: Arch, name: str) -> str:
    size = next((1 << level.shift for level in arch.levels if level.name == name and level.leaf), 0)
    return size_text(size) if size and arch.huge_vmap else "-"


def releases() -> None:
    """Print the releases."""
    table = _table("name", "tree", "vmap()", left=3)
    for release in RELEASES.values():
        table.add_row(release.name, release.tree.version, release.title)
    _print(_Output(), table)


def built(found: list[Built]) -> None:
    """Print which objects were built, and where they are."""
    console = _Output()
    table = _table("arch", "code", "", "image", left=4)
    for one in found:
        table.add_row(one.target.arch, one.code, "built" if one.fresh else "from the cache", str(one.image))
    _print(console, table)
    console.print()
    console.print(f"compiler: {found[0].compiler}")
    for one in found:
        arch = one.target.arch
        console.print(f"{arch}: data that nothing here defines reads as zero: {', '.join(one.zeroes)}")
        for key, why in one.absent.items():
            console.print(f"{arch}: CONFIG_{key} is not there: {why}")
        for guess in one.guessed:
            console.print(f"{arch}: guessed: {guess}")


def surveyed(found: list[Surveyed]) -> None:
    """Print what a first look at a tree came to, then what is not there, what was guessed, and what stopped it."""
    console = _Output()
    table = _table("arch", "code", "builds", "boots", "maps", "equals", "answered", "not there", "guessed", left=6)
    for one in found:
        built, facts, verdict = one.built, one.facts, one.verdict
        equals = "-"
        if verdict is not None:
            equals = "DIFFERENT" if verdict.difference else f"{verdict.plan.against}, {verdict.cases} scenarios"
        table.add_row(
            one.arch,
            built.code if built else "-",
            "yes" if built else "no",
            "yes" if facts else "no" if built else "-",
            "yes" if verdict else "no" if facts else "-",
            equals,
            str(len(built.answers)) if built else "-",
            str(len(built.absent)) if built else "-",
            str(len(built.guessed) + facts.unknown if facts else len(built.guessed)) if built else "-",
        )
    _print(console, table)
    print()
    for text in _once([(one.arch, _told(one)) for one in found]):
        print(text)


def _once(said: list[tuple[str, list[str]]]) -> list[str]:
    """Each text once, after the architectures of which it holds if those are not all."""
    arches: dict[str, list[str]] = {}
    for arch, texts in said:
        for text in dict.fromkeys(texts):
            arches.setdefault(text, []).append(arch)
    return [f"{', '.join(names)}: {text}" if len(names) < len(said) else text for text, names in arches.items()]


def _told(one: Surveyed) -> list[str]:
    """What is to be said of a survey of one architecture."""
    texts = [one.why] if one.why else []
    if one.built:
        texts += [f"CONFIG_{key} is not there: {why}" for key, why in one.built.absent.items() if why]
        texts += [f"guessed: {guess}" for guess in one.built.guessed]
        uncalled = ", ".join(sorted(one.built.unanswered))
        texts += [f"not answered, and not called so far: {uncalled}"] if uncalled else []
    texts += [*(one.facts.notes if one.facts else ()), *([str(one.verdict.difference)] if one.verdict else [])]
    texts += [f"built {one.verdict.seen}"] if one.verdict else []
    return [text for text in texts if text]


def replayed(kernel: Kernel, played: list[Played], config: Dict[str, bool], info: bool) -> None:
    """Print what each step of a replay came to, then warnings, hazards and where the address space stands."""
    from vmaplab.calls.scenario import Scenario

    console = _Output()
    cpus = [f"{kernel.cpus} CPUs"] * (kernel.cpus > 1)
    where = ", ".join([kernel.arch.name, kernel.code, *settings(kernel.boot_args, config), *cpus])
    console.print(f"{len(played)} {'call' if len(played) == 1 else 'calls'} on {where}")
    console.print()
    table = _table("", *["CPU"] * (kernel.cpus > 1), "call", "returns", "leaves", left=4)
    table.columns[0].justify = "right"
    for number, one in enumerate(played):
        leaves = ", ".join(f"{count} x {size_text(size)}" for size, count in sorted(one.leaves.items(), reverse=True))
        cpu = [str(one.cpu)] * (kernel.cpus > 1)
        table.add_row(f"@{number}", *cpu, Scenario((one.operation,)).short(), _returned(one), leaves)
    _print(console, table)
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
    table = _table("verified", "", left=2)
    if prover:
        pages = _pages(witness.translated)
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
    _print(_Output(), table)


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


def verdicts(found: list[Verdict], commands: list[tuple[str, str]], changed: Changed | None = None) -> None:
    """Print what a check came to, one line per architecture, then each difference with the command that shows it."""
    console = _Output()
    plan = found[0].plan
    judges = bool(plan.judge or plan.sample)
    watched = ["judged"] * judges + ["MMU pages"] * (plan.verify or judges) + ["injected"] * plan.faults
    watched += ["in part"] * (plan.verify or plan.faults or judges)
    other = "and" if plan.faults else "against"
    table = _table("arch", "object", other, "scenarios", "calls", *watched, "", left=3)
    table.columns[-1].justify = "left"
    for verdict in found:
        plan = verdict.plan
        counts = [verdict.judged] * judges + [verdict.translated] * (plan.verify or judges)
        counts += [verdict.failures] * plan.faults + [verdict.partly] * (plan.verify or plan.faults or judges)
        table.add_row(
            plan.arch.name,
            plan.code,
            plan.against,
            str(verdict.cases),
            str(verdict.calls),
            *map(str, counts),
            word_of(verdict, changed),
        )
    _print(console, table)
    if changed:
        print(changed_text(changed))
    if not plan.faults:
        console.print()
        for verdict in found:
            print(f"{verdict.plan.arch.name} built {verdict.seen}")
    for note in _once([(verdict.plan.arch.name, list(verdict.plan.notes)) for verdict in found]):
        print(f"note: {note}")
    for verdict, both in zip(found, commands, strict=True):
        for one, command in zip((verdict, verdict.also), both, strict=True):
            if one is None or not one.difference:
                continue
            which = "like one of" if one.varied else f"scenario {one.number} of"
            how = f", {one.shrunk}" if one.shrunk else ""
            origin = "" if one.number is None else f" ({which} seed {one.plan.seed}{how})"
            where, _, sides = one.difference.partition("\n")
            print(f"\n{one.plan.arch.name}: {where}{origin}")  # as it is: a console would wrap it
            if sides:
                print(sides)
            print(f"  {command}")
        if verdict.also and not verdict.also.difference:
            cases = verdict.also.cases
            print(f"\n{verdict.plan.arch.name}: the judges alone find nothing wrong in {cases} scenarios")


def changed_text(changed: Changed) -> str:
    """What ran of the changed lines, in one line."""
    ran, there = changed.counts
    base = changed.base.name
    told = [f"{ran} of {there} changed lines ran (changed against {base})"]
    if not changed.code:
        told = [f"nothing that the object is made of differs from {base}"]
    if changed.missing:
        told.append(f"not: {_first_of(changed.missing, 12)}")
    if changed.silent:
        told.append(f"{changed.silent} more have no code of their own")
    if others := changed.elsewhere:
        differ = "differ" if len(others) > 1 else "differs"
        told.append(f"of {_first_of(others, 6)}, which {differ} too, it has nothing")
    return "; ".join(told)


def _first_of(names: Sequence[str], most: int) -> str:
    """``names``, or the first of them and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def coverage(found: Coverage) -> None:
    """Print what ran of mm/vmalloc.c, per function, and each line that did not, with what guards it."""
    from vmaplab.check.coverage import NO_STEP, VMALLOC, guard_of

    console = _Output()
    source = (found.built.tree / VMALLOC).read_text(errors="replace").splitlines()
    functions = found.functions()
    ran, reachable, lines = found.reached()
    ways, taken = found.branches()
    share = f"{ran / reachable:.1%}" if reachable else "none"
    print(f"\n{found.built.target.arch}: {ran} of {reachable} lines of {VMALLOC} that steps can reach ran ({share})")
    print(f"of {lines} lines with code; of its conditional branches {taken} of {ways} ways were taken\n")
    table = _table("function", "line", "lines", "ran", "", left=1)
    for one in functions:
        share = f"{one.ran / one.lines:.0%}"
        table.add_row(one.function.name, str(one.function.first), str(one.lines), str(one.ran), share)
    _print(console, table)
    missing = [(one, line) for one in functions if one.function.name not in NO_STEP for line in one.missing]
    beyond = [(one, NO_STEP[one.function.name]) for one in functions if one.missing and one.function.name in NO_STEP]
    if missing:
        console.print("\nnot reached, and under which condition")
    for one, first in missing:
        number, guard = guard_of(source, first)
        print(f"{VMALLOC}:{first} {one.function.name}(): {source[first - 1].strip()}")
        if number:
            print(f"    {number}: {guard}")
    if beyond:
        print("\nout of the reach of steps")
    for one, why in beyond:
        print(f"{one.function.name}(), {len(one.missing)} lines: {why}")
