# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab boot``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmaplab.cli.app import command
from vmaplab.cli.options import (
    DEFAULT_ARCH,
    ArchesOption,
    BootArgs,
    Call,
    Checks,
    Json,
    KernelConfig,
    Snippet,
    Tree,
    again,
    build_all,
    print_json,
    release_option,
    targets_of,
)
from vmaplab.errors import InputError
from vmaplab.report.progress import progress

if TYPE_CHECKING:
    from vmaplab.boot.build import Bootable
    from vmaplab.check.booted import Booted


@command("boot", short_help="Boot a kernel in QEMU; hold model and emulator against it.")
def boot_command(
    arch: ArchesOption = DEFAULT_ARCH,
    tree: Tree = None,
    snippet: Snippet = None,
    call: Call = None,
    release: Annotated[str | None, release_option("The model's release. Default: what the tree is.")] = None,
    cases: Annotated[
        int | None,
        typer.Option("--cases", min=1, help="Random scenarios per architecture. Default: 1000; with --faults 50."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which scenarios.")] = 1,
    scenario: Annotated[
        str | None, typer.Option("--scenario", metavar="STEPS", help="Run this one, e.g. 'vmap 0x100+16; vunmap @0'.")
    ] = None,
    config: KernelConfig = None,
    checks: Checks = "",
    boot_args: BootArgs = "",
    cpus: Annotated[
        int, typer.Option("--cpus", min=1, max=8, help="Several: calls at the same time, judged when all are idle.")
    ] = 1,
    faults: Annotated[
        bool, typer.Option("--faults", help="Let each allocation fail once, by the kernel's own fault injection.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Boot a kernel in QEMU; hold the model and its code in the emulator against it."""
    if faults:
        named = {"--release": release, "--boot-args": boot_args, "--cpus": cpus > 1}
        if given := [option for option, value in named.items() if value]:
            raise InputError(f"--faults compares with the object on one CPU; leave out {' '.join(given)}")
        _failing(arch, tree, snippet, call, cases or 50, seed, scenario, config, checks, as_json)
        return
    cases = cases or 1000
    if cpus > 1:
        named = {"--release": release, "--scenario": scenario, "--boot-args": boot_args}
        if given := [option for option, value in named.items() if value]:
            raise InputError(f"--cpus compares with no model; leave out {' '.join(given)}")
        _together(arch, tree, snippet, call, cases, seed, config, checks, cpus, as_json)
        return
    booted(arch, tree, snippet, call, release, cases, seed, scenario, config, checks, boot_args, as_json)


def _kernels(
    names: list[str],
    tree: Path | None,
    config: list[str],
    snippet: Path | None,
    call: str | None,
    checks: tuple[str, ...],
) -> list[Bootable]:
    """Build what ``names`` boot, from the cache where nothing changed."""
    if (snippet is None) != (call is None):
        raise InputError("--snippet FILE.c and --call SYMBOL go together")
    with progress("building kernels (the first takes minutes, the next seconds)", len(names)) as step:
        from vmaplab.boot.build import build

        kernels = []
        for name in names:
            kernels.append(build(name, tree, config, snippet, call or "vmap", checks))
            step()
    return kernels


def _together(
    arch: str,
    tree: Path | None,
    snippet: Path | None,
    call: str | None,
    rounds: int,
    seed: int,
    config: list[str] | None,
    checks: str,
    cpus: int,
    as_json: bool,
) -> None:
    """Build, boot with several CPUs, run and print; exit status 1 if something is wrong."""
    from vmaplab.boot.checks import checks_of
    from vmaplab.check.together import check_together
    from vmaplab.object.targets import smp
    from vmaplab.report import boots

    found, kernels = (
        [],
        _kernels(targets_of(arch), tree, [*smp(cpus), *(config or [])], snippet, call, checks_of(checks)),
    )
    with progress("running", total=rounds * len(kernels)) as advance:
        found += [check_together(kernel, cpus, rounds, seed, advance) for kernel in kernels]
    if as_json:
        print_json("boot-together", boots.together_as_json(found, seed))
    else:
        boots.together(found, seed)
    if any(one.difference for one in found):
        raise typer.Exit(1)


def _failing(
    arch: str,
    tree: Path | None,
    snippet: Path | None,
    call: str | None,
    cases: int,
    seed: int,
    scenario: str | None,
    config: list[str] | None,
    checks: str,
    as_json: bool,
) -> None:
    """Build, boot, let allocations fail and print; exit status 1 if the two differ."""
    from vmaplab.boot.build import FAULTS
    from vmaplab.boot.checks import checks_of
    from vmaplab.calls.scenario import parse
    from vmaplab.check.failing import check_failing
    from vmaplab.check.faults import bare
    from vmaplab.report import boots

    one = None if scenario is None else parse(scenario)
    names = targets_of(arch)
    kernels = _kernels(names, tree, [*FAULTS, *(config or [])], snippet, call, checks_of(checks))
    objects = build_all(names, tree, config, snippet, call)
    found = []
    with progress("letting allocations fail", total=cases * len(names)) as advance:
        for kernel, built in zip(kernels, objects, strict=True):
            found.append(check_failing(kernel, built, cases, seed, one, advance))
    options = [*again(tree, None, None, config, snippet, call), *(["--with", checks] if checks else [])]
    commands = []
    for it in found:
        steps = it.scenario and str(bare(it.scenario))
        words = ["vmaplab", "boot", "--faults", *options, "--arch", it.kernel.target.arch, "--scenario", steps or ""]
        commands.append(shlex.join(words) if it.difference else "")
    if as_json:
        print_json("boot-failing", boots.failing_as_json(found, commands, seed))
    else:
        boots.failing(found, commands, seed)
    if any(it.difference for it in found):
        raise typer.Exit(1)


def booted(
    arch: str,
    tree: Path | None,
    snippet: Path | None,
    call: str | None,
    release: str | None,
    cases: int,
    seed: int,
    scenario: str | None,
    config: list[str] | None,
    checks: str,
    boot_args: str,
    as_json: bool,
) -> None:
    """Build, boot, compare and print; exit status 1 if they differ."""
    from vmaplab.boot.checks import checks_of
    from vmaplab.calls.scenario import parse
    from vmaplab.check.booted import check_booted
    from vmaplab.check.tree import facts_of
    from vmaplab.release import get
    from vmaplab.report import boots

    one = None if scenario is None else parse(scenario)
    wanted = None if release is None else get(release)
    names, with_checks = targets_of(arch), checks_of(checks)
    kernels = _kernels(names, tree, config or [], snippet, call, with_checks)
    objects = build_all(names, tree, config, snippet, call)
    found: list[Booted] = []
    with progress("comparing", total=cases * len(names)) as advance:
        for kernel, built in zip(kernels, objects, strict=True):
            row = facts_of(built).under(wanted) if wanted else None
            found.append(check_booted(kernel, built, cases, seed, boot_args, release=row, scenario=one, told=advance))
    options = again(tree, None, release, config, snippet, call)
    options += ["--boot-args", boot_args] if boot_args else []
    options += ["--with", ",".join(with_checks)] if with_checks else []
    commands = []
    for it in found:
        alone = ["--scenario", str(it.scenario)]
        shown = alone if it.alone else ["--seed", str(seed), "--cases", str(it.scenarios)]
        words = ["vmaplab", "boot", *options, "--arch", it.kernel.target.arch, *shown]
        commands.append(shlex.join(words) if it.difference else "")
    if as_json:
        print_json("boot", boots.as_json(found, commands, seed))
    else:
        boots.booted(found, commands, seed)
        if os.environ.get("LLVM"):
            print(f"compiler: {kernels[0].compiler}")
    if any(it.difference for it in found):
        raise typer.Exit(1)
