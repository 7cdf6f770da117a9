# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab review``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmaplab.cli.app import command
from vmaplab.cli.options import (
    BootArgs,
    Call,
    Json,
    KernelConfig,
    Snippet,
    Tree,
    again,
    arch_option,
    arches_of,
    build_all,
    config_of,
    print_json,
    release_option,
    targets_of,
)
from vmaplab.errors import InputError
from vmaplab.release import DEFAULT
from vmaplab.report.progress import progress

if TYPE_CHECKING:
    from vmaplab.object.build import Built


@command("review", short_help="Review a patch series, a release or a tree, by experiment.")
def review_command(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SERIES.mbx|PATCH...|BASE..TOPIC]",
            help="Review a patch series: an mbox, patches, a directory, - for stdin, or commits of --tree.",
        ),
    ] = None,
    release: Annotated[
        str | None, release_option(f"What to review, see 'vmaplab releases'. Default: {DEFAULT}.")
    ] = None,
    own_code: Annotated[bool, typer.Option("--object", help="Review the kernel's own code, not the model.")] = False,
    tree: Tree = None,
    snippet: Snippet = None,
    call: Call = None,
    arch: Annotated[
        str | None,
        arch_option("Architectures, with commas, or all. Default: all; of a series, one of each family.", "ARCHES"),
    ] = None,
    boot_args: BootArgs = "",
    config: KernelConfig = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="NAMES",
            help="Of invariants, coupling, lost, alignment, area, scan, early, contract, overlap; with commas.",
        ),
    ] = None,
    mail: Annotated[bool, typer.Option("--mail", help="Print plain text to paste into a mail.")] = False,
    as_json: Json = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="COMMIT", help="Review the commits of --tree behind this one.")
    ] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Of a series, build also what is not memory management's C.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Of a series: write a page.")] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Of a series: write JUnit's XML, for robots.")
    ] = None,
    booted: Annotated[
        bool, typer.Option("--booted", help="Of a series: boot each tree in QEMU, hold its code here against it.")
    ] = False,
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Of a series: processes. Default: one per CPU.")
    ] = None,
) -> None:
    """Review a patch series, a release, or the kernel's own code, by experiment, as a good reviewer would."""
    if mail and as_json:
        raise InputError("--mail and --json exclude each other")
    if sources or since:
        if release or own_code or snippet or call or boot_args or config or only:
            raise InputError(
                "of a series only --tree, --arch, --booted, --trust, --jobs, --mail, --json, --html, --junit are asked"
            )
        if sources and since:
            raise InputError("give mails or a range of commits, or --since, not both")
        from vmaplab.cli.series import review_mails
        from vmaplab.object.targets import MAIN

        names = targets_of(arch or ",".join(MAIN))
        form = "mail" if mail else "json" if as_json else "text"
        status = review_mails(sources or [], since, tree, names, trust, jobs, form, html, junit, booted)
        if status:
            raise typer.Exit(status)
        return
    if trust or html or junit or jobs or booted:
        raise InputError("--booted, --trust, --jobs, --html and --junit are for a series: give its mails or patches")
    arch = arch or "all"
    own_code = own_code or bool(tree or snippet or call)
    if own_code and release:
        raise InputError("--release is for the model; with --object, --tree or --snippet the tree says what runs")
    chosen = [] if only is None else [name.strip() for name in only.split(",")]
    built = build_all(targets_of(arch), tree, config, snippet, call) if own_code else []
    names = [] if own_code else arches_of(arch)
    from vmaplab.release import get
    from vmaplab.review.experiments import EXPERIMENTS
    from vmaplab.review.run import review

    steps = len(built or names) * len(chosen or EXPERIMENTS)
    with progress("reviewing (the first run compiles, once)", total=steps) as advance:
        from vmaplab.review.subject import of_objects, of_release

        if own_code:
            command = again(tree, None, None, config, snippet, call)
            from vmaplab.object.targets import smp

            def overlapping(name: str) -> Built:
                return build_all(targets_of(name), tree, [*smp(), *(config or [])], snippet, call)[0]

            words = command if tree or snippet else ["--object", *command]
            subject = of_objects(built, words, boot_args, overlapping)
        else:
            subject = of_release(get(DEFAULT if release is None else release), names, boot_args, config_of(config))
        found = review(subject, chosen, advance)
    from vmaplab.report import review as report

    if as_json:
        print_json("review", report.as_json(found))
    else:
        print(report.as_mail(found) if mail else report.as_text(found))
    if not found.clean:
        raise typer.Exit(1)
