# SPDX-License-Identifier: GPL-2.0-only
"""Which calls overlap, and what is there before: as text, ``SETUP || CALLS OF CPU 0 || CALLS OF CPU 1``."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import NamedTuple

from vmaplab.arch import Arch
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import parse, text_of
from vmaplab.errors import InputError
from vmaplab.object.targets import CPUS


@dataclass(frozen=True)
class Overlapping:
    """Steps that come first, and those of each CPU.

    :param setup: the first steps.
    :param bodies: per CPU its calls; ``@N`` counts all steps from the first of ``setup`` on.
    """

    setup: tuple[Operation, ...]
    bodies: tuple[tuple[Operation, ...], ...]

    def __str__(self) -> str:
        return " || ".join("; ".join(map(text_of, part)) for part in (self.setup, *self.bodies))


def parse_overlapping(text: str) -> Overlapping:
    """What ``text`` spells.

    :raises InputError: naming what cannot be read.
    """
    parts = re.sub(r"#.*", "", text).split("||")
    if len(parts) < 3:
        raise InputError(
            "calls that overlap are written 'SETUP || CALLS OF CPU 0 || CALLS OF CPU 1'; SETUP may be empty"
        )
    if empty := [number for number, part in enumerate(parts[1:]) if not part.strip()]:
        raise InputError(f"CPU {empty[0]} has no calls; only what comes before the first '||' may be empty")
    counts = [len([step for step in re.split(r"[;\n]", part) if step.strip()]) for part in parts]
    scenario = parse(";".join(parts))
    if scenario.boot_args or scenario.total_pages:
        raise InputError("calls that overlap have no 'boot' and no 'pages' before them")
    steps = scenario.steps
    ends = [sum(counts[: number + 1]) for number in range(len(counts))]
    setup, *bodies = (steps[end - count : end] for end, count in zip(ends, counts, strict=True))
    starts = [end - count for end, count in zip(ends, counts, strict=True)][1:]
    for cpu, (start, body) in enumerate(zip(starts, bodies, strict=True)):
        for step in body:
            if step.ref >= len(setup) and not start <= step.ref < start + len(body):
                raise InputError(f"'{text_of(step)}' of CPU {cpu} takes the address of a step of another CPU")
    return Overlapping(setup, tuple(bodies))


_THRESHOLD = 96 << 20
"""lazy_max_pages() of 4 to 7 CPUs, in bytes: with so many to be purged the work is queued that purges; with twice as
many, others help it.
"""
_POOLED = 256
"""Pages of the largest areas that wait in pools."""
_BLOCK = 1024
"""VMAP_BBMAP_BITS. A vmap block is in the xarray that its number modulo the possible CPUs says."""
_LARGE = 512
"""Pages of the largest block that is tried in the place of a table."""


class Template(NamedTuple):
    """A call and what it needs.

    :param setup: steps before it, of which it takes addresses as @0, @1...
    :param call: the step; ``reads``: it may look at what the other CPU's call is about to end.
    """

    setup: str
    call: str
    reads: bool = False


def templates(arch: Arch) -> dict[str, Template]:
    """The calls of which each pair is tried, by name."""
    block = arch.levels[1].shift
    pages = 1 << block - arch.page_shift
    middle = (arch.vmalloc_start + (arch.vmalloc_end - arch.vmalloc_start) // 2) >> block << block
    lazy = (2 * _THRESHOLD >> arch.page_shift) + 1
    window, tight = f"at={middle:#x}+{2 * pages}", f"at={middle - (1 << block):#x}+2"
    found = {
        "vmap": Template("", "vmap 0x100+4"),
        "vmap, from a pool": Template("vmap 0x1a0+4; vunmap @0; aliases", "vmap 0x100+4"),
        "vunmap": Template("vmap 0x110+4", "vunmap @0"),
        "vunmap, while another waits": Template("vmap 0x180+4; vmap 0x110+4; vunmap @0", "vunmap @1"),
        "vunmap, then vmap": Template("vmap 0x110+4", "vunmap @0; vmap 0x100+4"),
        "vmalloc": Template("", "vmalloc 3"),
        "vzalloc": Template("", "vmalloc 2 by=vzalloc"),
        "vmalloc, where a purge makes room": Template(f"vmalloc 1 {tight}; vfree @0", f"vmalloc 1 {tight}"),
        "vfree": Template("vmalloc 3", "vfree @0"),
        "vfree_atomic": Template("vmalloc 2; vmalloc 2", "vfree_atomic @0; vfree_atomic @1"),
        "vrealloc": Template("vmalloc 1", "vrealloc @0 3"),
        "vunmap, above the threshold": Template(f"area {lazy}", "vunmap @0"),
        "vmap_put": Template("", "vmap_put 2"),
        "vm_map_ram": Template("map_ram 0x120+1", "map_ram 0x130+4"),
        "vm_map_ram, a new block": Template("", "map_ram 0x140+4"),
        "vm_map_ram, a new block beside a fragmented one": Template(_fragmented(), "map_ram 0x1000+64"),
        "vm_map_ram, in a fragmented block": Template(_fragmented(), "map_ram 0x1000+4"),
        "vm_map_ram, the last of a block beside a fragmented one": Template(
            "; ".join([_fragmented(), *["map_ram 0x1000+64"] * 15]), "map_ram 0x1000+64"
        ),
        "vm_unmap_ram": Template("map_ram 0x150+4; map_ram 0x160+4", "unmap_ram @0 4"),
        "vm_unmap_ram, the last": Template("map_ram 0x150+4", "unmap_ram @0 4"),
        "vm_unmap_ram, the last of a full block": Template(
            "; ".join([*["map_ram 0x400+64"] * 16, *(f"unmap_ram @{number} 64" for number in range(15))]),
            "unmap_ram @15 64",
        ),
        "ioremap": Template("", "ioremap 0x80000+2"),
        "iounmap": Template("ioremap 0x80000+2", "iounmap @0"),
        "a block where a table is": Template(
            f"vmalloc 1 {window}; vfree @0; aliases", f"vmalloc {pages} huge {window}"
        ),
        "get_vm_area": Template("", "area 4"),
        "pcpu_get_vm_areas": Template("", "percpu 0+2,8+2 align=1"),
        "pcpu_free_vm_areas": Template("percpu 0+2,8+2 align=1", "percpu_free @0"),
        "vm_area_map_pages": Template("area 8 flags=0x1000", "map_pages @0+1 0x170+2"),
        "vm_area_unmap_pages": Template("area 8 flags=0x1000; map_pages @0+1 0x170+2", "unmap_pages @0+1 2"),
        "vm_unmap_aliases": Template("vmap 0x180+4; vunmap @0", "aliases"),
        "vm_unmap_aliases, then vmap": Template("vmap 0x180+4; vunmap @0", "aliases; vmap 0x100+4"),
        "vm_unmap_aliases, then a new block": Template("", "aliases; map_ram 0x1000+64"),
        "vm_unmap_aliases, a large area": Template(
            f"area {_POOLED + 1}; map @0 0x180+1 {arch.page_shift}; vunmap @0", "aliases"
        ),
        "vm_unmap_aliases, a fragmented block": Template("map_ram 0x150+4; unmap_ram @0 4", "aliases"),
        "vm_unmap_aliases, a block in use": Template("map_ram 0x150+4; map_ram 0x160+4; unmap_ram @0 4", "aliases"),
        "the shrinker": Template("vmap 0x180+4; vunmap @0; aliases", "shrink"),
        "the shrinker, while an area waits": Template(
            "vmap 0x180+4; vmap 0x190+4; vunmap @0; aliases; vunmap @1", "shrink"
        ),
        "remap_vmalloc_range_partial, behind the first zone": Template("vmalloc 60 flags=0x8", "remap @0+17 1 0x0"),
        "vmallocinfo": Template("vmap 0x190+1", "info", True),
        "vread_iter": Template("vmap 0x190+1", "vread @0 1", True),
        "vread_iter, where areas come and go": Template("", f"vread {arch.vmalloc_start:#x} 4"),
        "vmalloc_dump_obj": Template("vmap 0x190+1", "dump @0", True),
        "ptdump": Template("vmap 0x190+1", "ptdump", True),
    }
    if pages > _LARGE:  # its thousands of pages take minutes, and the code is the same
        del found["a block where a table is"]
    return found


def shared() -> dict[str, str]:
    """Pairs of calls on the same vmap block, by name."""
    full = ["map_ram 0x400+64"] * 16
    most = "; ".join([*full, *(f"unmap_ram @{number} 64" for number in range(14))])
    return {
        "two vm_unmap_ram, the last of a full block": f"{most} || unmap_ram @14 64 || unmap_ram @15 64",
        "two vm_unmap_ram, the last of a block": "map_ram 0x150+4; map_ram 0x160+4 || unmap_ram @0 4 || unmap_ram @1 4",
        "two vm_unmap_ram, one after the other": (
            "map_ram 0x150+4; map_ram 0x160+4 || unmap_ram @0 4; aliases || unmap_ram @1 4"
        ),
        "vm_unmap_ram, the last of a fragmented block, and vm_unmap_aliases": (
            f"{'; '.join(_fragmented().split('; ')[:-1])} || unmap_ram @15 4 || aliases"
        ),
        "vm_map_ram, the last of a block, and vm_unmap_ram": (
            f"{'; '.join(full[1:])} || map_ram 0x400+64 || unmap_ram @3 64"
        ),
        "vm_unmap_ram, the last of a full block, and a new block of the same xarray": (
            f"{most}; unmap_ram @14 64; area {(CPUS - 1) * _BLOCK - 1} || unmap_ram @15 64 || map_ram 0x140+4"
        ),
    }


def _fragmented() -> str:
    """Steps after which a vmap block has no mapping and no room for another of 64 pages."""
    count = 15
    mapped = [*["map_ram 0x400+64"] * count, "map_ram 0x140+4"]
    return "; ".join([*mapped, *(f"unmap_ram @{number} 64" for number in range(count)), f"unmap_ram @{count} 4"])


def overlapping(one: Template, other: Template, on: tuple[int, int] = (0, 1)) -> Overlapping:
    """Both calls on a CPU each, after what they need; who only looks, looks at what is the other's.

    :param on: on which CPU that is done what each of them needs: a node's pool and its areas that wait, and a queue of
        vmap blocks, are those of the CPU.
    """
    setup: list[str] = []
    calls = []
    first: int | None = None
    here = 0
    pairs = [(0, one, other), (1, other, one)]
    for cpu, mine, theirs in sorted(pairs, key=lambda it: it[1].reads):
        shares = mine.reads and first is not None and not theirs.reads and "@" in mine.call
        if shares:
            calls.append((cpu, mine.call.replace("@0", f"@{first}")))
            continue
        if mine.setup and on[cpu] != here:
            here = on[cpu]
            setup.append(f"cpu {here}")
        base = len(setup)
        setup += [_moved(step, base) for step in mine.setup.split("; ") if step]
        calls.append((cpu, _moved(mine.call, base)))
        if "@0" in mine.call:
            first = base
    bodies = [call for _, call in sorted(calls)]
    return parse_overlapping(" || ".join(["; ".join(setup), *bodies]))


def _moved(step: str, base: int) -> str:
    return re.sub(r"@(\d+)", lambda match: f"@{int(match[1]) + base}", step)


def all_pairs(
    arch: Arch, without: frozenset[str] = frozenset(), apart: bool = False
) -> Iterator[tuple[str, Overlapping]]:
    """Each pair of calls, by name: each set up on its own CPU, and both on one; then those of :func:`shared`.

    :param without: steps that a tree does not have: no pair has them.
    :param apart: each set up on its own CPU, no more.
    """
    there = {
        name: one
        for name, one in templates(arch).items()
        if not without & {step.split()[0] for step in f"{one.setup}; {one.call}".split("; ") if step}
    }
    for (name, one), (other_name, other) in combinations_with_replacement(there.items(), 2):
        ways = [("", (0, 1)), (", set up on CPU 0", (0, 0)), (", set up on CPU 1", (1, 1))]
        seen = set()
        for where, on in ways[: 1 if apart else 2 if name == other_name else 3]:
            pair = overlapping(one, other, on)
            if str(pair) not in seen:
                seen.add(str(pair))
                yield f"{name} | {other_name}{where}", pair
    for name, text in () if apart or without & {"map_ram", "unmap_ram"} else shared().items():
        yield name, parse_overlapping(text)


def drawn(
    arch: Arch, calls: int, cases: int, seed: int, without: frozenset[str] = frozenset()
) -> Iterator[tuple[str, Overlapping]]:
    """Scenarios of ``calls`` calls, half of them on each of two CPUs, each after what it needs."""
    there = [
        one
        for one in templates(arch).values()
        if not without & {step.split()[0] for step in f"{one.setup}; {one.call}".split("; ") if step}
    ]
    for number in range(cases):
        rng = random.Random(f"{seed} {number}")
        setup: list[str] = []
        bodies: list[list[str]] = [[], []]
        for index in range(calls):
            cpu, one = index % 2, rng.choice(there)
            base = len(setup) + 1
            if one.setup:
                setup += [f"cpu {cpu}", *(_moved(step, base) for step in one.setup.split("; "))]
            bodies[cpu].append(_moved(one.call, base))
        parts = ["; ".join([*setup, "cpu 0"]), *("; ".join(body) for body in bodies)]
        yield f"scenario {number}", parse_overlapping(" || ".join(parts))
