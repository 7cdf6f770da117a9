# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab cost``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vmaplab.cli.app import command
from vmaplab.cli.options import (
    DEFAULT_ARCH,
    BootArgs,
    Call,
    Json,
    PageSize,
    Snippet,
    Tree,
    arch_option,
    build_all,
    number_of,
    print_json,
    targets_of,
)
from vmaplab.errors import InputError, VmapError
from vmaplab.report.progress import progress


@command("cost", short_help="Microseconds of a call, core by core, and what they go into.")
def cost_command(
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="The page array that vmap() maps: heap:SIZE, pfns:RUNS, ...")
    ] = None,
    scenario: Annotated[
        str | None, typer.Option("--scenario", metavar="STEPS", help="Instead: calls, of which the last is timed.")
    ] = None,
    arch: Annotated[str, arch_option("Architecture, one that the emulator runs.")] = DEFAULT_ARCH,
    core: Annotated[
        str | None,
        typer.Option(
            "--core", metavar="NAMES", help="A55, A76, N1, Zen4, U74; with commas. Default: the architecture's."
        ),
    ] = None,
    tree: Tree = None,
    base: Annotated[Path | None, typer.Option("--base", metavar="DIR", help="A kernel tree to compare with.")] = None,
    snippet: Snippet = None,
    call: Call = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", metavar="KEY=value|board|gki", help="Of the kernel: an option, or those of boards."),
    ] = None,
    boot_args: BootArgs = "",
    page_size: PageSize = None,
    again: Annotated[
        bool, typer.Option("--again", help="Time the second call at the same addresses: its page tables are there.")
    ] = False,
    use: Annotated[
        list[str] | None,
        typer.Option(
            "--use",
            metavar="PATTERN",
            help="Use what is mapped: stream, stride:bytes=N, random, blocks, scanout, offsets:file=F; several times.",
        ),
    ] = None,
    cold: Annotated[bool, typer.Option("--cold", help="Nothing is in a cache. Default: all is in the last.")] = False,
    no_prefetch: Annotated[bool, typer.Option("--no-prefetch", help="The prefetcher is off.")] = False,
    booted: Annotated[
        bool, typer.Option("--booted", help="With --again: count instructions in a kernel that boots, too.")
    ] = False,
    assumed: Annotated[bool, typer.Option("--assumed", help="Show the cores' numbers and their sources.")] = False,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="Keep what the last kernel executed.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Microseconds of a call on some cores, with a band, and what they go into: the kernel's own code, timed."""
    if assumed:
        if source is not None or scenario is not None or as_json or trace is not None:
            raise InputError("--assumed prints the numbers of cores, and times nothing: give it --core alone")
        from vmaplab.cost.cores import cores_of
        from vmaplab.report import costs

        costs.assumed(cores_of("all" if core is None else core))
        return
    if (source is None) == (scenario is None):
        raise InputError("give a page array, or --scenario with calls")
    if scenario is not None and (boot_args or again or page_size):
        raise InputError("a scenario has its own boot arguments and calls: leave out --boot-args, --again, --page-size")
    if booted and not again:
        raise InputError("--booted counts the second call at its addresses: say --again, too")
    if scenario is not None and use:
        raise InputError("--use is for a page array that vmap() maps, not for --scenario")
    from vmaplab.cost.patterns import check_name

    for pattern in use or []:
        check_name(pattern)
    names = targets_of(arch)
    if len(names) != 1:
        raise InputError("--arch: one architecture at a time")
    from vmaplab.cost import measure
    from vmaplab.cost.boards import options_of
    from vmaplab.cost.cores import cores_of
    from vmaplab.cost.time import Situation
    from vmaplab.object import targets
    from vmaplab.report.as_json import refused_by

    family = targets.get(names[0]).family.name
    chosen = measure.default_cores(family) if core is None else cores_of(core, family)
    options = options_of(config or [], family)
    if booted:
        from vmaplab.boot.build import check_board

        check_board(names[0])
    kernels = [build_all(names, base or tree, options, None, None)[0]] if base or (snippet and call) else []
    kernels.append(build_all(names, tree, options, snippet, call)[0])
    from vmaplab.calls.scenario import parse

    steps = None if scenario is None else parse(scenario)
    situation = Situation(cold, not no_prefetch)
    found = []
    with progress("running the kernel's code", len(kernels)) as step:
        from vmaplab import pages

        pfns = pages.load(source, names[0], number_of(page_size)) if source is not None else None
        for built in kernels:
            uses = []
            if pfns is not None:
                try:
                    made = measure.traced_vmap(built, pfns, boot_args, again)
                except VmapError as error:
                    if as_json:
                        print_json("refusal", refused_by(built, boot_args, error))
                    raise
                executed, uses = made.executed, measure.uses_of(made, use or [], chosen)
                what, count = f"{built.call}() of {source}", len(pfns)
            else:
                assert steps is not None
                executed = measure.traced_scenario(built, steps)
                what, count = f"the last of '{steps}'", 0 if steps.steps[-1].pfns is None else steps.steps[-1].length
            name = f"{built.code} ({built.tree.name})" if base else built.code
            one = measure.on_cores(name, what, count, executed, chosen, situation)
            found.append(replace(one, uses=tuple(uses)))
            step()
    if booted and pfns is not None:
        with progress("counting in kernels that boot (the first build takes minutes)", len(kernels)) as step:
            from vmaplab.boot.build import build
            from vmaplab.cost.booted import counted_vmap

            for number, built in enumerate(kernels):
                extra = snippet if built.call != "vmap" else None
                kernel = build(names[0], built.tree, options, extra, built.call)
                found[number] = replace(found[number], booted=counted_vmap(kernel, pfns, boot_args).instructions)
                step()
    if trace is not None:
        found[-1].executed.save(trace)
    from vmaplab.report import costs

    if as_json:
        print_json("cost", costs.as_json(found, names[0], options, situation))
    else:
        costs.costs(found, names[0], options, situation)
