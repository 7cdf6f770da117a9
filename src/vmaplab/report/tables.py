# SPDX-License-Identifier: GPL-2.0-only
"""What ``map``, ``compare`` and the lists print for people: plain text, aligned, that can be pasted into a mail."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Dict
from itertools import groupby, pairwise
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from vmaplab._cache import KINDS
from vmaplab.arch import Arch
from vmaplab.config import settings
from vmaplab.cost.counters import COLUMNS, TEXTS
from vmaplab.errors import plain
from vmaplab.pages.array import size_text
from vmaplab.release import BASELINE, DEFAULT, RELEASES, get
from vmaplab.report import explained as explain
from vmaplab.report.text import Output, new_table, pages_text, print_table, us_text

if TYPE_CHECKING:
    from vmaplab.check.verify import Proof
    from vmaplab.compare import Row
    from vmaplab.explain import Explained
    from vmaplab.machine import Machine
    from vmaplab.mapping import Mapping
    from vmaplab.why import Small


def mapping(
    kernel: Machine,
    made: Mapping,
    config: Dict[str, bool],
    note: str,
    small: Small,
    proof: Proof | None,
    rows: int,
    explained: Explained,
    times: Dict[str, float] | None = None,
) -> None:
    """Print a mapping: its leaves (at most ``rows`` lines), its cost, its proof, and what else is wanted.

    :param note: what the source says of itself, or "".
    :param small: why pages stay base pages.
    :param times: microseconds by core, of a kernel's own code.
    """
    console = Output()
    where = ", ".join([kernel.arch.name, kernel.code, *settings(kernel.boot_args, config)])
    console.print(f"vmap() of {pages_text(made.cost.pages)} ({size_text(made.size)}) on {where}")
    if note:
        console.print(note)
    console.print()
    table = new_table("address", "leaf", "leaves", "bytes", "first PFN", left=1)
    lines = _leaf_lines(made)
    leaves = made.leaves
    for start, stop in pairwise(lines[: rows + 1].tolist()):
        va, size, pfn = leaves[start].item()
        table.add_row(f"{va:#x}", size_text(size), str(stop - start), size_text(size * (stop - start)), f"{pfn:#x}")
    print_table(console, table)
    hidden = len(lines) - 1 - rows
    if hidden > 0:
        rest = len(leaves) - lines[rows]
        console.print(f"... and {hidden} more lines with {rest} leaves (--rows {len(lines) - 1} shows them)")
    if any(small):
        console.print()
    for line in _why_small(small, made.cost.pages):
        console.print(line)
    console.print()
    table = new_table("cost", "", "")
    table.columns[2].justify = "left"
    for name, count in dict(made.cost).items():
        table.add_row(name, str(count), TEXTS[name])
    for core, us in (times or {}).items():
        table.add_row(f"us ({core})", us_text(us), "microseconds on that core: see 'vmaplab cost'")
    print_table(console, table)
    if explained.events:
        console.print()
        _events(console, explained)
    if proof:
        console.print()
        _proof(console, proof)
    if explained.explainer and explained.va is not None:
        console.print()
        if not made.addr <= explained.va < made.addr + made.size:
            console.print(f"{explained.va:#x} is outside the mapping, {made.addr:#x} to {made.addr + made.size:#x}")
        explain.walk(explained.explainer, explained.va, explained.walk)


_WHY = {
    "order": "in a run that is too short for a larger leaf",
    "alignment": "in a run of which no aligned block is at an aligned address",
    "stop": "behind a page that stays single, where the scan has stopped",
    "kernel": "that could be in a larger leaf, which this kernel does not make",
}


def _why_small(small: Small, pages: int) -> Iterator[str]:
    """Why pages stay base pages, a line a reason."""
    if any(small):
        yield f"{sum(small)} of {pages_text(pages)} {'stays a base page' if sum(small) == 1 else 'stay base pages'}:"
        for count, reason, name in zip(small, _WHY.values(), _WHY, strict=True):
            if count:
                yield f"  {count} {reason} ({name})"


def _proof(console: Console, proof: Proof) -> None:
    """Print what the judges looked at."""
    table = new_table("verified", "", left=2)
    if proof.mmu:
        table.add_row(
            "MMU", f"{proof.cpu} translates {pages_text(proof.translated)}, each to its frame, to read and to write"
        )
        table.add_row("", f"{proof.faults} translations refused: to execute a page, the guard page, the neighbourhood")
        if proof.beyond:
            table.add_row("", f"not proved by an MMU: {pages_text(proof.beyond)} beyond that CPU's physical addresses")
    else:
        table.add_row("MMU", f"not proved by an MMU: {proof.cpu}")
    table.add_row("tables", f"{proof.tables} walked as in {proof.manual}: every page, and nothing else, is mapped")
    number = f"{proof.groups} group{'s' * (proof.groups != 1)} of PTEs complete and alike"
    groups = number if proof.groups else "no groups of PTEs"
    closed = "executable: the architecture's PAGE_KERNEL is" if proof.executable else "no page executable"
    table.add_row("", f"leaves aligned, {groups}, {closed}, none open to user mode")
    table.add_row("events", "break-before-make; flush_cache_vmap() covers the area, no more and no less")
    table.add_row("vunmap()", "leaves no entry; with the TLB flushed, no table, area or page is lost")
    print_table(console, table)


def _leaf_lines(made: Mapping) -> NDArray[np.int64]:
    """Indices of leaves where a stretch of equal leaves that are contiguous in memory begins; then the end."""
    page = np.uint64(made.size // made.cost.pages)
    size, pfn = made.leaves["size"], made.leaves["pfn"]
    goes_on = (size[1:] == size[:-1]) & (pfn[1:] == pfn[:-1] + size[:-1] // page)
    return np.concatenate(([0], np.flatnonzero(~goes_on) + 1, [len(size)]))


def _events(console: Console, explained: Explained) -> None:
    """Print events, without a table object: there can be millions."""
    lines = [f"{'event':22}  {'address':>18}  {'value':>18}  {'bytes':>8}"]
    for event, step in zip(explained.events, explained.stores, strict=True):
        kind, addr, value, size, text = event
        if kind == "warn":
            lines.append(f"warn: {text}")
            continue
        said = explain.event_in_words(explained.explainer, event, step) if explained.explainer else ""
        lines.append(f"{kind:22}  {addr:#18x}  {value:#18x}  {size:8}  {said}".rstrip())
    console.file.write("\n".join(lines) + "\n")
    console.print(
        "store: a value at a physical address. table_alloc: a table there; its value is\n"
        "log2 of what one entry maps. flush: the virtual range from address to value."
    )


def comparison(source: str, rows: list[Row], boot_args: str, config: Dict[str, bool], explain_heads: bool) -> None:
    """Print a comparison, one block per architecture; and what the heads mean, if wanted."""
    console = Output()
    for arch, of_arch in groupby(rows, key=lambda row: row.arch):
        block = list(of_arch)
        if block[0].refused and not block[0].release:
            console.print(f"{arch}: not comparable: {block[0].refused}\n")
            continue
        console.print(where_of(source, block, boot_args, config))
        if block[0].note:
            console.print(block[0].note)
        heads, lines = comparison_cells(block)
        table = new_table(*heads)
        for line in lines:
            table.add_row(*line)
        print_table(console, table)
        for row in block:
            if row.refused:
                console.print(f"{row.release} refuses: {row.refused}")
        console.print()
    others, gain = legend(rows)
    if explain_heads:
        console.print(fill(others, 80))
    console.print(fill(gain if explain_heads else f"{gain} The other columns: --legend.", 80))


def where_of(source: str, block: list[Row], boot_args: str, config: Dict[str, bool]) -> str:
    """What the rows of an architecture are of."""
    pages = next((row.cost.pages for row in block if row.cost), 0)
    page = get(DEFAULT).on(block[0].arch).page_size
    where = ", ".join([block[0].arch, *settings(boot_args.split(), config)])
    return f"{where}: {plain(source)}" + (f", {pages_text(pages)} of {size_text(page)}" if pages else "")


def comparison_cells(block: list[Row]) -> tuple[list[str], list[list[str]]]:
    """The heads and the lines of a comparison on one architecture."""
    sizes = sorted({size for row in block for size in row.leaves_by_size})
    cores = list(dict.fromkeys(core for row in block for core in row.us))
    heads = ["release", *(size_text(size) for size in sizes), *COLUMNS.values()]
    heads += [*(f"us ({core})" for core in cores), "gain"]
    lines = []
    for row in block:
        if row.cost is None:
            lines.append([row.release, *["-"] * (len(heads) - 1)])
            continue
        line = [row.release, *(str(row.leaves_by_size.get(size, 0)) for size in sizes)]
        line += ["-" if getattr(row.cost, name) is None else str(row.cost[name]) for name in COLUMNS]
        line += [us_text(row.us[core]) if core in row.us else "-" for core in cores]
        lines.append([*line, f"{row.gain:.1f}x" if row.gain else "-"])
    return heads, lines


def legend(rows: list[Row]) -> tuple[str, str]:
    """What the heads mean; what ``gain`` is."""
    heads = "4K, 64K, 2M, ...: leaves of that size. "
    heads += " ".join(f"{head}: {TEXTS[name]}." for name, head in COLUMNS.items())
    heads += " us (A55), ...: microseconds on that core, see 'vmaplab cost'." * any(row.us for row in rows)
    return heads, f"gain: TLB entries of {BASELINE} for the same pages, divided by this release's."


def several(name: str, found: Dict[str, list[Row]], boot_args: str, config: Dict[str, bool]) -> None:
    """Print the TLB entries of several page arrays, one line each, one block per architecture, and their sums.

    :param found: source -> its rows.
    """
    console = Output()
    rows = [row for block in found.values() for row in block]
    for arch in dict.fromkeys(row.arch for row in rows):
        releases = list(dict.fromkeys(row.release for row in rows if row.arch == arch and row.release))
        where = ", ".join([arch, *settings(boot_args.split(), config)])
        console.print(f"{where}: TLB entries of {len(found)} page arrays, {plain(name)}")
        table = new_table("source", "pages", *releases)
        sums, refusals = dict.fromkeys(releases, 0), []
        base = total = 0
        for source, block in found.items():
            mine = {row.release: row for row in block if row.arch == arch}
            pages = next((row.cost.pages for row in mine.values() if row.cost), 0)
            cells = [str(row.cost.tlb_entries) if (row := mine.get(one)) and row.cost else "-" for one in releases]
            table.add_row(plain(source), str(pages) if pages else "-", *cells)
            refusals += [
                f"{source}{f' on {one}' if one else ''}: {row.refused}" for one, row in mine.items() if row.refused
            ]
            if all(one in mine and mine[one].cost for one in releases):
                total += pages
                for one in releases:
                    cost = mine[one].cost
                    sums[one] += cost.tlb_entries if cost else 0
                first = mine[releases[0]]
                base += round(first.cost.tlb_entries * (first.gain or 1)) if first.cost else 0
        if releases:
            table.add_row("sum", str(total), *(str(sums[one]) for one in releases))
            table.add_row("gain", "", *(f"{base / sums[one]:.1f}x" if sums[one] else "-" for one in releases))
            print_table(console, table)
        for line in refusals:
            console.print(plain(line))
        console.print()
    console.print(f"sum: of the arrays that all take. gain: TLB entries of {BASELINE} for them, divided by these.")


def arches() -> None:
    """Print the architectures."""
    console = Output()
    table = new_table("name", "page", "level shifts", "PMD leaf", "PUD leaf", "PTE groups", left=1)
    values = new_table("name", "VMALLOC_START", "PAGE_KERNEL", left=1)
    values.add_column("", no_wrap=True)
    found = get(DEFAULT).arches.values()
    notes = list(dict.fromkeys(arch.note for arch in found))
    for arch in found:
        groups = "/".join(size_text(1 << group.shift) for group in reversed(arch.groups)) or "-"
        table.add_row(
            arch.name,
            size_text(arch.page_size),
            " ".join(str(level.shift) for level in arch.levels),
            _leaf_text(arch, "PMD"),
            _leaf_text(arch, "PUD"),
            groups,
        )
        values.add_row(
            arch.name, f"{arch.vmalloc_start:#x}", f"{arch.page_kernel:#x}", f"[{notes.index(arch.note) + 1}]"
        )
    print_table(console, table)
    console.print("\nPUD leaves are for ioremap() only: vmap() never makes one.\n")
    print_table(console, values)
    console.print()
    for number, note in enumerate(notes, 1):
        console.print(fill(f"[{number}] {note}", 80, subsequent_indent="    "))


def _leaf_text(arch: Arch, name: str) -> str:
    size = next((1 << level.shift for level in arch.levels if level.name == name and level.leaf), 0)
    return size_text(size) if size and arch.huge_vmap else "-"


def releases() -> None:
    """Print the releases."""
    table = new_table("name", "tree", "vmap()", left=3)
    for release in RELEASES.values():
        table.add_row(release.name, release.tree.version, release.title)
    print_table(Output(), table)


def cache(root: Path, found: Dict[str, tuple[int, int]], removed: list[str]) -> None:
    """Print what is kept on disk: kind -> bytes and files; and what of it was removed."""
    console = Output()
    console.print(f"{plain(str(root))} (in XDG_CACHE_HOME, or ~/.cache)")
    console.print("All of it is made again when it is needed; only numba has a limit.")
    console.print()
    table = new_table("kind", "MiB", "files", left=1)
    table.add_column("", no_wrap=True)
    for name, (size, count) in found.items():
        table.add_row(name, f"{size / (1 << 20):.1f}", str(count), "removed" if name in removed else KINDS[name])
    table.add_row("sum", f"{sum(size for size, _ in found.values()) / (1 << 20):.1f}", "", "")
    print_table(console, table)
