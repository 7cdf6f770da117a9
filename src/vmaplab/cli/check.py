# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab check``."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmaplab.cli.app import command
from vmaplab.cli.options import (
    DEFAULT_ARCH,
    Call,
    Checks,
    Json,
    KernelConfig,
    Snippet,
    Tree,
    Verify,
    again,
    build_all,
    print_json,
    release_option,
    targets_of,
)
from vmaplab.errors import InputError
from vmaplab.report.progress import progress

if TYPE_CHECKING:
    from vmaplab.calls.scenario import Scenario
    from vmaplab.check.plan import Plan, Verdict

CPUS = 4
"""As :data:`vmaplab.object.targets.CPUS`, which loads the engine."""


def _looked(plan: Plan, scenario: Scenario) -> Verdict:
    """What came of one scenario; the judges look where two trees differ, for that alone is nothing wrong."""
    from vmaplab.check.one import check_one

    verdict = check_one(plan, scenario)
    if plan.base is None or not verdict.difference or plan.judge or plan.faults or plan.verify:
        return verdict
    return replace(verdict, also=check_one(replace(plan, judge=True), scenario))


@command("check", short_help="Hold the model, or a tree, against the kernel's own code.")
def check_command(
    tree: Tree = None,
    base: Annotated[
        Path | None, typer.Option("--base", metavar="DIR", help="Compare with this kernel tree, not with the model.")
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch",
            "-a",
            metavar="ARCHES",
            help=f"Architectures, with commas, or all. Default: {DEFAULT_ARCH}; of --tree one of each family.",
        ),
    ] = None,
    release: Annotated[str | None, release_option("The model's release. Default: by the tree's version.")] = None,
    cases: Annotated[
        int | None,
        typer.Option(
            "--cases",
            min=1,
            help="Random scenarios per architecture. Default: 2000; with --faults 20; with --race all pairs.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Which scenarios. Default: 1.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", min=1, help="Processes. Default: one per CPU.")] = None,
    config: KernelConfig = None,
    snippet: Snippet = None,
    call: Call = None,
    verify: Verify = False,
    faults: Annotated[
        bool,
        typer.Option("--faults", help="Let each allocation fail, and pairs; judge, compare nothing."),
    ] = False,
    scenario: Annotated[
        str | None, typer.Option("--scenario", metavar="STEPS", help="Run this one, e.g. 'vmap 0x100+16; vunmap @0'.")
    ] = None,
    calls: Annotated[
        int, typer.Option("--calls", min=0, help="Calls of all kinds in each scenario, e.g. 50. Default: few, of some.")
    ] = 0,
    cpus: Annotated[
        int, typer.Option("--cpus", min=1, max=512, help="CPUs that call in turn; 1 builds without SMP and PREEMPT.")
    ] = CPUS,
    judge: Annotated[
        bool, typer.Option("--judge", help="Compare nothing: the judges alone, for a tree that equals no release.")
    ] = False,
    race: Annotated[
        bool,
        typer.Option(
            "--race", help="Let each pair of calls overlap on two CPUs, under all schedules with few preemptions."
        ),
    ] = False,
    preemptions: Annotated[
        int | None, typer.Option("--preemptions", min=0, help="With --race: of a schedule, at most. Default: 1.")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option("--schedule", metavar="CPU:N,...", help="With --race and --scenario: this one, e.g. '0:300,1,0'."),
    ] = None,
    on_booted: Annotated[
        bool, typer.Option("--booted", help="Compare with a kernel that boots in QEMU, too: as `vmaplab boot` does.")
    ] = False,
    with_checks: Checks = "",
    show_coverage: Annotated[
        bool, typer.Option("--coverage", help="Say which lines of mm/vmalloc.c ran, per function, and which did not.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare the model, or another tree, with the kernel's own code on random scenarios."""
    if verify + faults + judge > 1:
        raise InputError("--verify, --faults and --judge are three ways to judge; name one")
    if base and (release or snippet):
        raise InputError("--base compares two trees; --release and --snippet are for the model")
    from vmaplab.release import get

    wanted = None if release is None else get(release)
    from vmaplab.object.targets import MAIN, smp

    if on_booted:
        others = {
            "--base": base,
            "--jobs": jobs,
            "--verify": verify,
            "--faults": faults,
            "--calls": calls,
            "--cpus": cpus != CPUS,
            "--judge": judge,
            "--race": race,
            "--preemptions": preemptions is not None,
            "--schedule": schedule,
            "--coverage": show_coverage,
        }
        if named := [option for option, given in others.items() if given]:
            raise InputError(f"--booted compares results on one CPU; leave out {' '.join(named)}")
        from vmaplab.cli.boot import booted

        where = arch or (",".join(MAIN) if tree else DEFAULT_ARCH)
        number = 1 if seed is None else seed
        booted(where, tree, snippet, call, release, cases or 2000, number, scenario, config, with_checks, "", as_json)
        return
    if with_checks:
        raise InputError("--with is for a kernel that boots: say --booted, or vmaplab boot")
    names = targets_of(arch or (",".join(MAIN) if tree else DEFAULT_ARCH))
    given = config
    config = [*smp(cpus), *(config or [])]
    if race:
        if verify or faults or judge or base or release or show_coverage:
            raise InputError("--race lets calls overlap and judges that; leave out what compares or judges otherwise")
        if cpus == 1:
            raise InputError("--race needs two CPUs at least; leave out --cpus")
        from vmaplab.cli.race import race as overlap

        options = again(tree, None, None, given, snippet, call) + ["--cpus", str(cpus)] * (cpus != CPUS)
        built = build_all(names, tree, config, snippet, call)
        overlap(built, options, scenario, schedule, preemptions, calls, cases, seed, jobs, as_json)
        return
    if schedule or preemptions is not None:
        raise InputError("--schedule and --preemptions are for calls that overlap; say --race")
    seed = 1 if seed is None else seed
    if calls and call and not race:
        raise InputError("--calls makes calls of all kinds; leave out --call")
    built = build_all(names, tree, config, snippet, call)
    bases = build_all(names, base, config, None, None) if base else [None] * len(built)
    from vmaplab.calls.scenario import parse
    from vmaplab.check.campaign import check_all
    from vmaplab.check.plan import SAMPLE, Plan
    from vmaplab.check.tree import between, facts_of, model_config

    one = None if scenario is None else parse(scenario)
    with progress("asking the tree (the first run compiles, once)", len(built)) as step:
        facts = []
        for ours in built:
            facts.append(facts_of(ours))
            step()
    plans = [
        Plan(
            ours,
            other,
            told.under(wanted) if wanted else told.release,
            model_config(ours),
            seed,
            verify=verify,
            faults=faults,
            calls=calls,
            cpus=cpus,
            judge=judge,
            sample=0 if verify or faults or judge or one else SAMPLE,
            # A released kernel is its row as it stands: nothing of the tree goes into it.
            notes=(
                tuple(between(told, facts_of(other), ours.target.arch))
                if other
                else told.notes
                if not wanted or wanted.rules.batches
                else ()
            ),
        )
        for ours, other, told in zip(built, bases, facts, strict=True)
    ]
    cases = cases or (20 if faults else 2000)
    chunks = -(-cases // plans[0].chunk) * len(plans)
    with progress("comparing", total=chunks) as advance:
        found = [_looked(plan, one) for plan in plans] if one else check_all(plans, cases, jobs, advance)
    options = again(tree, base, release, given, snippet, call) + ["--verify"] * verify + ["--faults"] * faults
    options += ["--cpus", str(cpus)] * (cpus != CPUS)

    def command(verdict: Verdict | None) -> str:
        if verdict is None or not verdict.difference:
            return ""
        words = ["vmaplab", "check", *options, *["--judge"] * verdict.by_judge, "--arch", verdict.plan.arch.name]
        return shlex.join([*words, "--scenario", str(verdict.scenario)])

    commands = [(command(verdict), command(verdict.also)) for verdict in found]
    from vmaplab.check.coverage import Coverage, changes_ran

    asked = show_coverage or ((tree or base) and not one)
    covered = [Coverage.of(it.plan.built, it.ran) for it in found if asked and it.ran is not None]
    changed = changes_ran(covered, base) if covered and (tree or base) and not one else None
    if as_json:
        from vmaplab.report import as_json as to_json

        print_json("check", to_json.verdicts(found, commands, changed, covered if show_coverage else []))
    else:
        from vmaplab.report import checks

        checks.verdicts(found, commands, changed)
        for coverage in covered if show_coverage else []:
            checks.coverage(coverage)
        if os.environ.get("LLVM"):
            print(f"compiler: {built[0].compiler}")
        if call and not (release or base or judge) and any(verdict.difference for verdict in found):
            own = plans[0].release.name
            print(f"\n{call}() was compared with {own}, the tree's own version; --release names another")
    if any(verdict.wrong for verdict in found):
        raise typer.Exit(1)
