# SPDX-License-Identifier: GPL-2.0-only
"""What the areas of another kernel are."""

from __future__ import annotations

from collections import Counter
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from vmaplab.pages.array import size_text
from vmaplab.report.text import Output, address, new_table, pages_text, print_table
from vmaplab.vmcore.would import left_out, why_not

if TYPE_CHECKING:
    from vmaplab.vmcore.areas import Area, Areas
    from vmaplab.vmcore.would import Built

_SHOWN = 20
"""Damaged areas that are named."""


def _by_size(area: Area) -> Counter[int]:
    sizes, counts = np.unique(area.leaves["size"], return_counts=True)
    return Counter(dict(zip(sizes.tolist(), counts.tolist(), strict=True)))


def _leaves(sizes: Counter[int]) -> str:
    """``2 x 2M, 36 x 4K``; largest first."""
    return ", ".join(f"{count} x {size_text(size)}" for size, count in sorted(sizes.items(), reverse=True)) or "-"


def areas(found: Areas, now: Built, then: dict[str, Built], chosen: str, rows: int, by_caller: bool) -> None:
    """Print the areas with most TLB entries, what is wrong, and the sums.

    :param chosen: the release whose column stands beside each area.
    :param by_caller: one line for all areas of a function.
    """
    console, page = Output(), found.kernel.page_size
    mapped = sum(len(area.va) for area in found.areas)
    entries = sum(len(area.leaves) for area in found.areas)
    live = ", which may have run while it was read" if found.kernel.memory.live else ""
    console.print(
        f"{found.kernel.release} ({found.kernel.arch}{live}): {len(found.areas)} vmalloc areas, "
        f"{pages_text(mapped)} of {size_text(page)} mapped by {entries} TLB entries"
    )
    if by_caller:
        _by_caller(console, found, then[chosen], chosen, rows)
    else:
        _each(console, found, then[chosen], chosen, rows)
    _sums(console, found, now, then)
    _looked_at(console, found)
    _problems(console, found)


def _each(console: Output, found: Areas, built: Built, chosen: str, rows: int) -> None:
    """Print one line per area: those with most TLB entries first."""
    page = found.kernel.page_size
    table = new_table("address", "size", "kind", "leaves", "TLB entries", chosen, "caller", left=0)
    for column in (0, 2, 3, 6):
        table.columns[column].justify = "left"
    ordered = sorted(found.areas, key=lambda area: (-len(area.leaves), area.start))
    for area in ordered[:rows]:
        entries = built.tlb.get(area.start)
        table.add_row(
            f"{area.start:#x}",
            size_text(area.size(page)),
            area.kind,
            _leaves(_by_size(area)),
            str(len(area.leaves)),
            str(entries) if entries is not None else "-",
            area.caller or "-",
        )
    if rows and ordered:
        console.print()
        print_table(console, table)
        if len(ordered) > rows:
            console.print(f"... and {len(ordered) - rows} more (--rows {len(ordered)} shows all)")


def _by_caller(console: Output, found: Areas, then: Built, chosen: str, rows: int) -> None:
    """Print one line per function that asked for areas: what gains most first."""
    table = new_table("caller", "areas", "pages", "TLB entries", "comparable", chosen)
    sums: dict[str, list[int]] = {}
    for area in found.areas:
        one = sums.setdefault(area.caller.partition("+")[0] or area.kind, [0] * 5)
        built = then.tlb.get(area.start)
        counted = (1, len(area.va), len(area.leaves), len(area.leaves) if built is not None else 0, built or 0)
        sums[area.caller.partition("+")[0] or area.kind] = [a + b for a, b in zip(one, counted, strict=True)]
    ordered = sorted(sums.items(), key=lambda one: (one[1][4] - one[1][3], -one[1][2]))
    for name, counts in ordered[:rows]:
        cells = [str(count) for count in counts]
        table.add_row(name, *(cells if counts[3] else [*cells[:3], "-", "-"]))
    console.print()
    print_table(console, table)
    if len(ordered) > rows:
        console.print(f"... and {len(ordered) - rows} more (--rows {len(ordered)} shows all)")


def _sums(console: Output, found: Areas, now: Built, then: dict[str, Built]) -> None:
    if not now.tlb:
        console.print("\nNone of them is ordinary memory that is wholly mapped: there is nothing for vmap() to map.")
        return
    console.print(f"\nvmap() of the pages of {len(now.tlb)} of them, each in an empty space{_left_out(found)}:")
    sizes = sorted({size for built in (now, *then.values()) for size in built.leaves})
    table = new_table("", *(f"{size_text(size)} leaves" for size in sizes), "TLB entries", "fewer TLB")
    for name, built in {"as they are": now, **then}.items():
        counts = (str(built.leaves.get(size, 0)) for size in sizes)
        refused = [area for area, one in built.tlb.items() if one is None]
        base = now.entries - sum(now.tlb[area] or 0 for area in refused)
        ratio = f"{base / built.entries:.1f}x" if built.entries else "-"
        table.add_row(name, *counts, str(built.entries), ratio + f" ({len(refused)} refused)" * bool(refused))
    print_table(console, table)
    console.print("fewer TLB: TLB entries as they are, divided by these; - beside an area: it is not counted here.")


def _left_out(found: Areas) -> str:
    """Which areas are not counted, and why."""
    told = left_out(found)
    return f" (not: {told})" if told else ""


def _looked_at(console: Output, found: Areas) -> None:
    """What the verdict is worth."""
    mapped = sum(len(area.va) for area in found.areas)
    pages = sum(len(area.pages) for area in found.areas if area.pages is not None)
    proved = f"{found.cpu} translates {pages_text(found.translated)} of {mapped} alike" if found.cpu else "no MMU"
    large = sum(area.large for area in found.areas)
    listed = f"{pages_text(pages)} of vm_struct.pages {'is' if pages == 1 else 'are'} held against them"
    looked = f"looked at: {found.tables} page tables, walked as in {found.kernel.form.manual}; {proved}; {listed}"
    looked += f"; {large} too large to look at each of their pages" * bool(large)
    console.print("\n" + fill(looked, 105))


def _problems(console: Output, found: Areas) -> None:
    lines = [*found.problems]
    damaged = [area for area in found.areas if area.problems]
    lines += [f"{area.start:#x} ({area.caller or area.kind}): {one}" for area in damaged for one in area.problems]
    if not lines:
        console.print("nothing is wrong with any of them")
        return
    says = "says" if len(damaged) == 1 else "say"
    console.print(f"\n{_are(len(damaged))} {says}:" if damaged else "\nnot all could be read:")
    for line in lines[:_SHOWN]:
        console.print(f"  {line}")
    if len(lines) > _SHOWN:
        console.print(f"  ... and {len(lines) - _SHOWN} more (--json has all)")
    if found.kernel.memory.live:
        console.print("The kernel ran while it was read: what changes meanwhile looks like damage. Read it again.")


def _are(count: int) -> str:
    return "1 area is not what it" if count == 1 else f"{count} areas are not what they"


def as_json(found: Areas, now: Built, then: dict[str, Built]) -> dict[str, Any]:
    """The same as plain data; sizes in bytes."""
    page = found.kernel.page_size
    return {
        "kernel": found.kernel.release,
        "arch": found.kernel.arch,
        "page_size": page,
        "live": found.kernel.memory.live,
        "tables": found.tables,
        "translated": found.translated,
        "cpu": found.cpu,
        "problems": found.problems,
        "areas": [
            {
                **address("address", area.start),
                **address("end", area.end),
                "size": area.size(page),
                "kind": area.kind,
                "flags": area.flags,
                "caller": area.caller or None,
                **address("phys", area.phys or None),
                "pages": len(area.pages) if area.pages is not None else 0,
                "mapped": len(area.va),
                "leaves": {str(size): count for size, count in sorted(_by_size(area).items())},
                "tlb_entries": len(area.leaves),
                "vmap": {name: built.tlb[area.start] for name, built in then.items()}
                if area.start in now.tlb
                else None,
                "not_counted": why_not(area, page) or None,
                "problems": area.problems,
            }
            for area in found.areas
        ],
        "sums": {
            name: {
                "areas": len(built.tlb),
                "leaves": {str(size): count for size, count in sorted(built.leaves.items())},
                "tlb_entries": built.entries,
            }
            for name, built in {"now": now, **then}.items()
        },
    }
