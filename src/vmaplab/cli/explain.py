# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab explain``."""

from __future__ import annotations

from typing import Annotated

import typer

from vmaplab.cli.app import command
from vmaplab.cli.options import (
    DEFAULT_ARCH,
    ArchOption,
    BootArgs,
    Json,
    KernelConfig,
    ReleaseOption,
    Tree,
    build_all,
    parse_number,
    print_json,
)
from vmaplab.errors import InputError
from vmaplab.release import DEFAULT, get
from vmaplab.report.progress import progress


@command("explain", short_help="Explain a page-table entry: every bit by the manual's name.")
def explain_command(
    entry: Annotated[str, typer.Argument(metavar="ENTRY", help="An entry of a page table, as a number: 0x...")],
    arch: ArchOption = DEFAULT_ARCH,
    level: Annotated[str, typer.Option("--level", "-l", metavar="NAME", help="Of a table of PTE, PMD, ...")] = "PTE",
    release: ReleaseOption = None,
    boot_args: BootArgs = "",
    tree: Tree = None,
    config: KernelConfig = None,
    as_json: Json = False,
) -> None:
    """Explain an entry of a page table: every bit by the manual's name."""
    if tree and release:
        raise InputError("--release is for the model; with --tree the tree says what its protections are")
    if config and not tree:
        raise InputError("--config is what a tree is built with: name one with --tree")
    value = parse_number(entry)
    if value is None:
        raise InputError(f"'{entry}' is no entry; write a number, 0x68000100000f03")
    if not tree:
        from vmaplab import _jit

        _jit.stay_plain()
    if tree:
        built = build_all([arch], tree, config, None, None)[0]
        with progress("asking the tree"):
            from vmaplab.check.tree import facts_of

            found = facts_of(built).release.on(built.target.arch)
    else:
        found = get(DEFAULT if release is None else release).on(arch)
    from vmaplab.config import booted, parse_boot_args
    from vmaplab.explain import Explainer
    from vmaplab.report import explained

    words = parse_boot_args(found, boot_args)
    explainer = Explainer(booted(found, words), words)
    read = explainer.entry(value, explainer.level_of(level))
    if as_json:
        print_json("explain", explained.entry_as_json(explainer, read))
    else:
        explained.entry(explainer, read)
