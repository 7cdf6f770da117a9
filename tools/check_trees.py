# SPDX-License-Identifier: GPL-2.0-only
"""Checks kernel trees on each of the eight formats, and prints one table; with --write, docs/trees.md gets its rows.

    python tools/check_trees.py [--write] [--cases N] [--sequences N] DIR...

For each: random scenarios, sequences of 50 calls from one CPU and from four, the judges, failing allocations, and
examples/batched_vmap.c. Exit status 1 if anything differs or is not right. Rows of another update of the same kernel
are replaced in docs/trees.md, those of other kernels stay.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from vmaplab.check.campaign import check
from vmaplab.check.plan import Plan, Verdict
from vmaplab.check.tree import TreeFacts, facts_of, model_config
from vmaplab.errors import InputError, KernelFault, VmapError
from vmaplab.object import build, targets

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "batched_vmap.c"
SMP = ("SMP=y", "NR_CPUS=4")
DEBIAN = ("linux-source-6.1", "linux-source-6.12")
BEGIN, END = "<!-- trees -->", "<!-- /trees -->"


def cells(tree: Path, arch: str, cases: int, sequences: int) -> list[str]:
    """What each check of one tree on one format came to."""
    target = targets.get(arch)
    plain, smp = build.build(target, tree), build.build(target, tree, SMP)
    snippet = build.build(target, tree, snippet=EXAMPLE, call="batched_vmap")
    facts, patched = facts_of(plain), facts_of(snippet)

    def plan(built: build.Built, told: TreeFacts) -> Plan:
        return Plan(built, None, told.release, model_config(built), seed=1)

    one, four = plan(plain, facts), plan(smp, facts_of(smp))
    runs: list[Callable[[], Verdict]] = [
        lambda: check(one, cases),
        lambda: check(replace(one, calls=50), sequences),
        lambda: check(replace(four, calls=50, cpus=4), sequences),
        lambda: check(replace(one, verify=True), max(cases // 20, 1)),
        lambda: check(replace(one, faults=True), max(cases // 200, 1)),
        lambda: check(plan(snippet, patched), max(cases // 4, 1)),
    ]
    words = []
    for run in runs:
        verdict = run()
        if verdict.difference:
            print(f"{tree} {arch}: {verdict.scenario}: {verdict.difference}", file=sys.stderr)
        words.append(f"{verdict.word}, {verdict.cases}")
    row = facts.row.name + "".join(f"; {note}" for note in facts.notes)
    return [plain.code, arch, row, *words]


def table(rows: Iterable[list[str]]) -> str:
    """The rows as Markdown."""
    head = ["code", "format", "row", "scenarios", "50 calls", "50 calls, 4 CPUs", "judged", "failing", "batched_vmap.c"]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def place(row: list[str]) -> tuple[list[int], int]:
    """Where ``row`` stands among others: the kernel's first two numbers, then the format."""
    numbers = [int(number) for number in re.findall(r"\d+", row[0])[:2]]
    return numbers, list(targets.TARGETS).index(row[1])


def merged(text: str, rows: list[list[str]]) -> str:
    """The document ``text`` with ``rows`` in its table."""
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    kept = [[cell.strip() for cell in line.strip("|").split("|")] for line in old.strip().splitlines()[2:]]
    new = [place(row) for row in rows]
    every = [*(row for row in kept if place(row) not in new), *rows]
    return before + BEGIN + "\n" + table(sorted(every, key=place)) + "\n" + END + after


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trees", nargs="*", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--sequences", type=int, default=60)
    parser.add_argument("--arch", default=",".join(targets.TARGETS))
    asked = parser.parse_args()
    trees = asked.trees or [build.tree_of(package) for package in DEBIAN]
    try:
        versions = {tree: build.check_tree(tree) for tree in trees}
    except InputError as error:
        parser.error(str(error))
    rows, started = [], time.time()
    for tree in trees:
        for arch in asked.arch.split(","):
            try:
                rows.append(cells(tree, arch, asked.cases, asked.sequences))
            except (InputError, KernelFault, VmapError) as error:
                rows.append([f"Linux {versions[tree]}", arch, str(error), *["-"] * 6])
            print(f"{time.time() - started:6.0f} s  " + "  ".join(rows[-1]), file=sys.stderr, flush=True)
    print(table(rows))
    if asked.write:
        path = ROOT / "docs" / "trees.md"
        path.write_text(merged(path.read_text(), rows))
    good = ("same", "holds")
    return int(any(not word.startswith(good) for row in rows for word in row[3:]))


if __name__ == "__main__":
    sys.exit(main())
