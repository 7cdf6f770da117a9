# SPDX-License-Identifier: GPL-2.0-only
"""Faults in the kernel's own C, made by rule in mm/vmalloc.c, and which share of each class ``check`` notices.

python tests/c_mutants.py [COUNT [PAGE.md [KINDS]]]    prints the table, and puts it into a page
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from object_support import changed_tree
from vmaplab.check import campaign
from vmaplab.check.coverage import VMALLOC, Coverage, functions_of
from vmaplab.check.plan import SAMPLE, Plan
from vmaplab.check.tree import facts_of, model_config
from vmaplab.errors import InputError
from vmaplab.object import build, targets

ARCH, CONFIG, CPUS = "arm64-4k", targets.smp(), targets.CPUS
CASES = 400
BEGIN, END = "<!-- c mutants -->\n", "<!-- /c mutants -->\n"


class Mutant(NamedTuple):
    """One fault: line ``line`` of mm/vmalloc.c becomes ``text``."""

    kind: str
    line: int
    text: str


_LOCK = re.compile(r"^\s*(?:spin_(?:un)?lock|mutex_(?:un)?lock|rcu_read_(?:un)?lock)\(")
_FLUSH = re.compile(r"^\s*(?:flush_|arch_sync_|kasan_release)")
_STATEMENT = re.compile(r"^\t+[\w(*][^;{}]*;$")
_KEPT = re.compile(
    r"^\s*(?:return|break|continue|goto|struct|unsigned|int|bool|void|const|static|LIST_HEAD|pte_t|pmd_t|pud_t|p4d_t|pgd_t|"
    r"u64|long|phys_addr_t|pgtbl_mod_mask|might_sleep|BUG_ON|VM_BUG_ON|WARN|lockdep|trace_|kmemleak|kasan|debug_check|"
    r"cond_resched|pr_|char|size_t|enum|kmsan|case)"
)
_COMPARE = {"<=": "<", ">=": ">", "==": "!=", "!=": "==", "<": "<=", ">": ">="}
_OPERATOR = re.compile(r"(?<=[\w)\]] )(<=|>=|==|!=|<|>)(?= [\w(*&!-])")


def mutants(lines: list[str], ran: frozenset[int]) -> Iterator[Mutant]:
    """Every mutant of the lines that run; a call that a header has inline counts as the lines around it."""
    for number, text in enumerate(lines, start=1):
        inlined = _LOCK.match(text) or _FLUSH.match(text)
        if number not in ran and not (inlined and ran & set(range(number - 2, number + 3))):
            continue
        if _LOCK.match(text):
            yield Mutant("lock or unlock removed", number, "\t;")
        elif _FLUSH.match(text) and text.endswith(";"):
            yield Mutant("flush or sync removed", number, "\t;")
        elif _STATEMENT.match(text) and not _KEPT.match(text):
            yield Mutant("statement removed", number, "\t;")
        condition = re.match(r"^\s*(?:\}? ?else )?(?:if|while|for|\} while)\b", text)
        if condition and "WARN" not in text and "BUG" not in text:
            for match in _OPERATOR.finditer(text):
                new = text[: match.start(1)] + _COMPARE[match[1]] + text[match.end(1) :]
                yield Mutant("comparison shifted", number, new)
        if re.match(r"^\s*return -E\w+;$", text):
            yield Mutant("error returned as success", number, re.sub(r"-E\w+", "0", text))
        if re.search(r"[-+] 1\b", text) and not condition and text.endswith(";"):
            yield Mutant("off by one", number, re.sub(r" [-+] 1\b", "", text, count=1))
        if " + PAGE_SIZE" in text or " << PAGE_SHIFT" in text:
            yield Mutant("off by a page", number, text.replace(" + PAGE_SIZE", "", 1).replace(" << PAGE_SHIFT", "", 1))


def _work(worker: int, todo: list[Mutant], out: multiprocessing.Queue[tuple[Mutant, str]]) -> None:
    """Try each of ``todo``; tells "" for one that is not noticed, "?" for one that does not compile."""
    with tempfile.TemporaryDirectory() as folder:
        right = (build.tree_of() / VMALLOC).read_text()
        head = right.partition("\n")[0]
        tree = changed_tree(Path(folder) / "tree", VMALLOC, head, head, once=False)
        base = build.build(targets.get(ARCH), config=CONFIG)
        release, config = facts_of(base).release, model_config(base)
        for mutant in todo:
            lines = right.split("\n")
            lines[mutant.line - 1] = mutant.text
            (tree / VMALLOC).write_text("\n".join(lines))
            try:
                built = build.build(targets.get(ARCH), tree, CONFIG)
            except InputError:
                out.put((mutant, "?"))
                continue
            plan = Plan(built, None, release, config, 1, cpus=CPUS, sample=SAMPLE)
            try:
                campaign._begin(plan)
                told = campaign._run(0, CASES).found.told
            except InputError as error:  # it does not even boot
                told = str(error)
            except Exception as error:
                told = f"{type(error).__name__}: {error}"
            out.put((mutant, told))


def tried(count: int, kinds: str = "") -> list[tuple[Mutant, str]]:
    """What is said of ``count`` mutants, drawn evenly from all classes, or from those that ``kinds`` names in part."""
    base = build.build(targets.get(ARCH), config=CONFIG)
    lines = (base.tree / VMALLOC).read_text().split("\n")
    plan = Plan(base, None, facts_of(base).release, model_config(base), 1, cpus=CPUS)
    campaign._begin(plan)
    ran = campaign._run(0, CASES).ran
    assert ran is not None
    found = list(mutants(lines, Coverage.of(base, ran).ran[VMALLOC]))
    found = [one for one in found if not kinds or any(word in one.kind for word in kinds.split(","))]
    classes = sorted({one.kind for one in found})
    rng = random.Random(1)
    rng.shuffle(found)
    order = {kind: [one for one in found if one.kind == kind] for kind in classes}
    chosen: list[Mutant] = []
    while len(chosen) < count * 1.05 and any(order.values()):
        chosen += [order[kind].pop() for kind in classes if order[kind]]
    workers = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    pool = [context.Process(target=_work, args=(number, chosen[number::workers], out)) for number in range(workers)]
    for one in pool:
        one.start()
    results = []
    for _ in chosen:
        mutant, told = out.get()
        if told != "?":
            results.append((mutant, told))
            print(f"{mutant.kind}: {mutant.line}: {told.splitlines()[0] if told else 'NOT NOTICED'}", flush=True)
    for one in pool:
        one.join()
    return results


def table(results: list[tuple[Mutant, str]]) -> str:
    """Share noticed per class, and the survivors, in Markdown."""
    text = "| class | mutants | noticed |\n|---|---|---|\n"
    for kind in sorted({mutant.kind for mutant, _ in results}):
        its = [told for mutant, told in results if mutant.kind == kind]
        text += f"| {kind} | {len(its)} | {sum(map(bool, its))} |\n"
    text += f"| all | {len(results)} | {sum(bool(told) for _, told in results)} |\n\n"
    path = build.tree_of() / VMALLOC
    functions = functions_of(path)
    text += "Not noticed:\n\n"
    for mutant, told in sorted(results, key=lambda one: one[0].line):
        if not told:
            name = next((one.name for one in functions if one.first <= mutant.line <= one.last), "")
            text += f"- {name}(), {mutant.line}: {mutant.kind}\n"
    return text


if __name__ == "__main__":
    made = table(tried(int(sys.argv[1]) if len(sys.argv) > 1 else 300, *sys.argv[3:4]))
    print(made)
    if len(sys.argv) > 2 and sys.argv[2] != "-":
        page = Path(sys.argv[2])
        before, _, rest = page.read_text().partition(BEGIN)
        page.write_text(before + BEGIN + made + END + rest.partition(END)[2])
