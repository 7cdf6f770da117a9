# SPDX-License-Identifier: GPL-2.0-only
"""How much of each function of mm/vmalloc.c the scenarios of ``vmaplab check`` run, as tables.

python tools/coverage.py docs/coverage.md [TREE ...]    Debian's 6.12, and other kernel trees
"""

from __future__ import annotations

import sys
from pathlib import Path

from vmaplab.check.campaign import check
from vmaplab.check.coverage import NO_STEP, VMALLOC, Coverage
from vmaplab.check.plan import Plan
from vmaplab.check.tree import facts_of, model_config
from vmaplab.object import build, targets

CASES = 2000
BEGIN, END = "<!-- coverage -->\n", "<!-- /coverage -->\n"


def covered(tree: Path | None) -> list[Coverage]:
    """What runs of ``tree`` on each of the architectures."""
    found = []
    for arch in targets.MAIN:
        built = build.build(targets.get(arch), tree, targets.smp())
        verdict = check(Plan(built, None, facts_of(built).release, model_config(built), 1, cpus=targets.CPUS), CASES)
        if verdict.difference or verdict.ran is None:
            raise SystemExit(f"{built.code} on {arch}: {verdict.difference}")
        found.append(Coverage.of(built, verdict.ran))
    return found


def table(found: list[Coverage]) -> str:
    """The tables of one tree, in Markdown."""
    first = found[0]
    text = f"## {first.built.code}\n\n| | {' | '.join(targets.MAIN)} |\n|---|{'---|' * len(targets.MAIN)}\n"
    reached = [one.reached() for one in found]
    shares = " | ".join(f"{ran} of {can}, {ran / can:.1%}" for ran, can, _ in reached)
    text += f"| lines that steps can reach | {shares} |\n"
    text += f"| lines with code | {' | '.join(str(all_lines) for _, _, all_lines in reached)} |\n"
    ways = " | ".join("{1} of {0}".format(*one.branches()) for one in found)
    text += f"| ways of conditional branches | {ways} |\n\n"
    text += f"| function | {' | '.join(targets.MAIN)} | lines that did not run on any |\n"
    text += f"|---|{'---|' * len(targets.MAIN)}---|\n"
    names: dict[str, dict[str, tuple[int, int, frozenset[int]]]] = {}
    for arch, one in zip(targets.MAIN, found, strict=True):
        for it in one.functions():
            names.setdefault(it.function.name, {})[arch] = it.ran, it.lines, frozenset(it.missing)
    for name, its in names.items():
        shown = " | ".join("{}/{}".format(*its[arch][:2]) if arch in its else "" for arch in targets.MAIN)
        missing = sorted(frozenset.intersection(*(one[2] for one in its.values())))
        why = NO_STEP.get(name, "")
        told = ", ".join(map(str, missing)) if missing and not why else f"{len(missing)}: {why}" if missing else ""
        text += f"| `{name}` | {shown} | {told} |\n"
    return text + "\n"


if __name__ == "__main__":
    page, trees = Path(sys.argv[1]), [None, *(Path(word) for word in sys.argv[2:])]
    made = "".join(table(covered(tree)) for tree in trees)
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(before + BEGIN + made + END + rest.partition(END)[2])
    print(f"{VMALLOC}: {len(trees)} trees")
