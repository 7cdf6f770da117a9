# SPDX-License-Identifier: GPL-2.0-only
"""What ``check`` and ``object`` print for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vmaplab.report.as_json import word_of
from vmaplab.report.text import Output, new_table, print_table

if TYPE_CHECKING:
    from vmaplab.check.coverage import Changed, Coverage
    from vmaplab.check.plan import Verdict
    from vmaplab.check.survey import Surveyed
    from vmaplab.object.build import Built


def built(found: list[Built]) -> None:
    """Print which objects were built, and where they are."""
    console = Output()
    table = new_table("arch", "code", "", "image", left=4)
    for one in found:
        table.add_row(one.target.arch, one.code, "built" if one.fresh else "from the cache", str(one.image))
    print_table(console, table)
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
    console = Output()
    table = new_table("arch", "code", "builds", "boots", "maps", "equals", "answered", "not there", "guessed", left=6)
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
    print_table(console, table)
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
    texts += [f"built {one.verdict.found.seen}"] if one.verdict else []
    return [text for text in texts if text]


def verdicts(found: list[Verdict], commands: list[tuple[str, str]], changed: Changed | None = None) -> None:
    """Print what a check came to, one line per architecture, then each difference with the command that shows it."""
    console = Output()
    plan = found[0].plan
    judges = bool(plan.judge or plan.sample)
    watched = ["judged"] * judges + ["MMU pages"] * (plan.verify or judges) + ["injected"] * plan.faults
    watched += ["in part"] * (plan.verify or plan.faults or judges)
    other = "and" if plan.faults else "against"
    table = new_table("arch", "object", other, "scenarios", "calls", *watched, "", left=3)
    table.columns[-1].justify = "left"
    for verdict in found:
        plan, looked = verdict.plan, verdict.found
        counts = [looked.judged] * judges + [looked.translated] * (plan.verify or judges)
        counts += [looked.failures] * plan.faults + [looked.partly] * (plan.verify or plan.faults or judges)
        table.add_row(
            plan.arch.name,
            plan.code,
            plan.against,
            str(verdict.cases),
            str(verdict.calls),
            *map(str, counts),
            word_of(verdict, changed),
        )
    print_table(console, table)
    if changed:
        print(changed_text(changed))
    if not plan.faults:
        console.print()
        for verdict in found:
            print(f"{verdict.plan.arch.name} built {verdict.found.seen}")
    for note in _once([(verdict.plan.arch.name, list(verdict.notes)) for verdict in found]):
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

    console = Output()
    source = (found.built.tree / VMALLOC).read_text(errors="replace").splitlines()
    functions = found.functions()
    ran, reachable, lines = found.reached()
    ways, taken = found.branches()
    share = f"{ran / reachable:.1%}" if reachable else "none"
    print(f"\n{found.built.target.arch}: {ran} of {reachable} lines of {VMALLOC} that steps can reach ran ({share})")
    print(f"of {lines} lines with code; of its conditional branches {taken} of {ways} ways were taken\n")
    table = new_table("function", "line", "lines", "ran", "", left=1)
    for one in functions:
        share = f"{one.ran / one.lines:.0%}"
        table.add_row(one.function.name, str(one.function.first), str(one.lines), str(one.ran), share)
    print_table(console, table)
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
