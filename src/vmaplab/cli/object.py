# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab object``: build and survey."""

from __future__ import annotations

import typer

from vmaplab.cli.app import Command, app
from vmaplab.cli.options import (
    DEFAULT_ARCH,
    ArchesOption,
    Call,
    Json,
    KernelConfig,
    Snippet,
    Tree,
    build_all,
    print_json,
    targets_of,
)
from vmaplab.report.progress import progress

object_app = typer.Typer(help="The kernel's own code: mm/vmalloc.o of a kernel tree, run in a CPU emulator.")
app.add_typer(object_app, name="object", short_help="Build mm/vmalloc.o of a tree, or look at a new tree.")


@object_app.command("build", cls=Command)
def object_build_command(
    tree: Tree = None,
    arch: ArchesOption = DEFAULT_ARCH,
    config: KernelConfig = None,
    snippet: Snippet = None,
    call: Call = None,
    as_json: Json = False,
) -> None:
    """Build mm/vmalloc.o and what it needs, and link them; from the cache where nothing changed."""
    built = build_all(targets_of(arch), tree, config, snippet, call)
    if as_json:
        from vmaplab.report import as_json as to_json

        print_json("object-build", to_json.built(built))
    else:
        from vmaplab.report import checks

        checks.built(built)


@object_app.command("survey", cls=Command)
def object_survey_command(
    tree: Tree = None,
    arch: ArchesOption = "all",
    config: KernelConfig = None,
    as_json: Json = False,
) -> None:
    """Look at a new tree: builds, boots, maps, equals which row; what is not there, what was guessed."""
    names = targets_of(arch)
    if tree:
        from vmaplab.object.build import check_tree

        check_tree(tree)
    with progress("surveying (a build takes half a minute for each family)", len(names)) as step:
        from vmaplab.check.survey import survey

        found = survey(tree, names, config or (), step)
    if as_json:
        from vmaplab.report import as_json as to_json

        print_json("object-survey", to_json.surveyed(found))
    else:
        from vmaplab.report import checks

        checks.surveyed(found)
    if not all(one.understood for one in found):
        raise typer.Exit(1)
