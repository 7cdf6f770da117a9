# SPDX-License-Identifier: GPL-2.0-only
"""What ``vmaplab cost`` prints."""

from __future__ import annotations

from dataclasses import fields
from textwrap import fill
from typing import TYPE_CHECKING, Any

from vmaplab.cost.core import ASSUMED, Core, Corner, Fact, fact
from vmaplab.cost.decode import instructions_of
from vmaplab.cost.time import CAUSES, Band, Situation
from vmaplab.pages.array import size_text
from vmaplab.report.text import Output, new_table, print_table, us_text

if TYPE_CHECKING:
    from vmaplab.cost.measure import Measured

_MUCH = 20
_FUNCTIONS = 6
"""Functions that are named."""
LEGEND = (
    "band: all that is assumed of a core at its fast and at its slow end ('vmaplab cost --assumed'). issue: operations"
    " that are executed or wait for each other's results. loads, stores, barriers: waiting for those, also for L1."
    " branches: mispredicted ones. special: atomics, system registers. allocation: what is assumed of the page and slab"
    " allocators, which do not run here."
)


USES = (
    "entries: TLB entries that the mapping takes on that core. reach: bytes of it that the last TLB holds at once. L1"
    " TLB misses, walks: of one pass, when another went before, that missed the first TLB, and all. walks/MB: for a"
    " megabyte read. us a pass: what the walks take, none of it hidden by other work."
)


def costs(found: list[Measured], arch: str, options: list[str], situation: Situation) -> None:
    """Print a table of kernels and cores, where the time goes, and the ratio of the first to the last kernel."""
    first = found[0]
    told = [f"{first.what}, {first.pages} pages on {arch}" if first.pages > 1 else f"{first.what} on {arch}"]
    told += [" ".join(options)] if options else []
    told += ["nothing in a cache"] * situation.cold + ["no prefetcher"] * (not situation.prefetch)
    print(", ".join(told), end="\n\n")
    table = new_table("kernel", "core", "us", "band", "cycles a page", *CAUSES, left=2)
    for one in found:
        for band in one.bands:
            whole = sum(band.usual.causes) or 1
            shares = [f"{100 * part / whole:.0f}%" for part in band.usual.causes]
            low, high = sorted((band.us(Corner.FAST), band.us(Corner.SLOW)))
            cycles = f"{band.usual.cycles / one.pages:.1f}" if one.pages else "-"
            name = f"{band.core.name}, {band.core.mhz.usual / 1000:.2f} GHz"
            table.add_row(one.name, name, us_text(band.us()), f"{us_text(low)} .. {us_text(high)}", cycles, *shares)
    print_table(Output(), table)
    if len(found) > 1:
        print()
        for before, after in zip(found[0].bands, found[-1].bands, strict=True):
            low, usual, high = ratios(before, after)
            print(f"{before.core.name}: {usual:.2f}x as fast ({low:.2f}x .. {high:.2f}x)")
    print()
    for one in found:
        for band in one.bands:
            parts = sorted(band.usual.functions.items(), key=lambda part: -part[1])[:_FUNCTIONS]
            shares_of = [(name, 100 * part / band.usual.cycles) for name, part in parts]
            shown = ", ".join(f"{name} {share:.0f}%" for name, share in shares_of if share >= 1)
            print(f"{one.name}, {band.core.name}: {shown}")
    for one in found:
        for band in one.bands:
            share = 100 * band.usual.causes[CAUSES.index("barriers")] / (sum(band.usual.causes) or 1)
            if share >= _MUCH and ASSUMED in (band.core.sync.source, band.core.flush.source):
                print(f"{one.name}, {band.core.name}: {share:.0f}% are barriers, whose cycles on that core are assumed")
    print()
    for one in found:
        if one.booted is not None:
            ours = sum(instructions_of(one.executed).values())
            told_of = " and ".join(f"{count} {where}" for count, where in ((ours, "here"), (one.booted, "booted")))
            print(f"{one.name}: {told_of}, instructions ({100 * (one.booted / ours - 1):+.1f}%)")
    if any(one.booted is not None for one in found):
        print()
    print(fill(LEGEND, 100))
    if first.uses:
        print()
        uses(found)


def uses(found: list[Measured]) -> None:
    """Print what came of using what is mapped, and after how many passes a kernel has won by that."""
    table = new_table(
        "kernel",
        "core",
        "pattern",
        "entries",
        "reach",
        "accesses",
        "L1 TLB misses",
        "walks",
        "walks/MB",
        "us a pass",
        left=3,
    )
    for one in found:
        for pattern, it in one.uses:
            counts = (it.accesses, it.first, it.walks)
            reach = size_text(it.reach)
            times = f"{it.walks_per_mb:.2f}", us_text(it.us())
            table.add_row(one.name, it.core.name, pattern, str(it.entries), reach, *map(str, counts), *times)
    print_table(Output(), table)
    print()
    print(fill(USES, 100))
    if len(found) < 2:
        return
    print()
    maps = {band.core.name: band.us() for band in found[0].bands}
    mapped = {band.core.name: maps[band.core.name] - band.us() for band in found[-1].bands}
    for (pattern, before), (_, after) in zip(found[0].uses, found[-1].uses, strict=True):
        core = before.core.name
        print(f"{core}, {pattern}: {_saved(mapped[core])} once, {_saved(before.us() - after.us())} a pass")


def _saved(us: float) -> str:
    return f"saves {us_text(us)} us" if us >= 0 else f"loses {us_text(-us)} us"


def ratios(before: Band, after: Band) -> tuple[float, float, float]:
    """How many times as fast ``after`` is: the least and the most of the corners, and between them the usual one."""
    each = [before.us(corner) / after.us(corner) for corner in Corner]
    return min(each), each[Corner.USUAL], max(each)


def as_json(found: list[Measured], arch: str, options: list[str], situation: Situation) -> list[dict[str, Any]]:
    """For programs: one object a kernel and core."""
    return [
        {
            "kernel": one.name,
            "call": one.what,
            "arch": arch,
            "config": options,
            "cold": situation.cold,
            "prefetch": situation.prefetch,
            "pages": one.pages,
            "core": band.core.name,
            "mhz": band.core.mhz.usual,
            "us": band.us(),
            "us_fast": band.us(Corner.FAST),
            "us_slow": band.us(Corner.SLOW),
            "cycles": band.usual.cycles,
            "cycles_of": dict(zip(CAUSES, band.usual.causes, strict=True)),
            "cycles_in": band.usual.functions,
            "instructions": sum(instructions_of(one.executed).values()),
            "instructions_booted": one.booted,
            "uses": [
                {
                    "pattern": pattern,
                    "entries": it.entries,
                    "reach": it.reach,
                    "accesses": it.accesses,
                    "l1_misses": it.first,
                    "walks": it.walks,
                    "walks_per_mb": it.walks_per_mb,
                    "bytes_read_by_walks": it.bytes_read,
                    "us": it.us(),
                    "us_fast": it.us(Corner.FAST),
                    "us_slow": it.us(Corner.SLOW),
                }
                for pattern, it in one.uses
                if it.core is band.core
            ],
        }
        for one in found
        for band in one.bands
    ]


def assumed(cores: list[Core]) -> None:
    """Print every number of some cores, with its source."""
    for core in cores:
        print(f"{core.title} ({core.name})")
        table = new_table("", "fast", "usual", "slow", "source", left=1)
        table.columns[-1].justify = "left"
        table.columns[-1].overflow = "fold"
        for name, one in facts_of(core):
            table.add_row(name, *(f"{value:g}" for value in one[:3]), one.source)
        print_table(Output(), table)
        print()


def facts_of(core: Core) -> list[tuple[str, Fact]]:
    """Every number of a core, by its name."""
    found = [(one.name, value) for one in fields(core) if isinstance(value := getattr(core, one.name), Fact)]
    found += [(f"{kind.name.lower()}, latency", use.latency) for kind, use in core.uses.items()]
    found += [(f"{name}, pipes", fact(pipe.number, pipe.source)) for name, pipe in core.pipes.items()]
    for number_of, level in enumerate(core.levels, start=1):
        found.append((f"L{number_of}, KiB", fact(level.size >> 10, level.source)))
        found.append((f"L{number_of}, ways", fact(level.ways, level.source)))
        found.append((f"L{number_of}, cycles", level.latency))
    for number_of, tlb in enumerate(core.tlbs, start=1):
        found.append((f"L{number_of} TLB, entries", fact(tlb.entries, tlb.source)))
    return found
