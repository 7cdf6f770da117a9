# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab replay``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vmaplab.cli.app import command
from vmaplab.cli.options import (
    DEFAULT_ARCH,
    SMALL_STEPS,
    ArchOption,
    BootArgs,
    Config,
    Json,
    ReleaseOption,
    config_of,
    new_kernel,
    print_json,
)
from vmaplab.errors import InputError
from vmaplab.release import DEFAULT
from vmaplab.report.progress import progress


@command("replay", short_help="Replay a sequence of calls, and show what each came to.")
def replay_command(
    steps: Annotated[str, typer.Argument(metavar="STEPS", help="Steps, or a file of them; see docs/calls.md.")],
    arch: ArchOption = DEFAULT_ARCH,
    release: ReleaseOption = None,
    boot_args: BootArgs = "",
    config: Config = None,
    cpus: Annotated[int, typer.Option("--cpus", min=1, max=4096, help="CPUs of the machine.")] = 1,
    debug: Annotated[bool, typer.Option("--debug", help="Check the address-space structures after each call.")] = False,
    info: Annotated[bool, typer.Option("--info", help="Show /proc/vmallocinfo at the end.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Judge it after each call, and once all is undone.")] = False,
    as_json: Json = False,
) -> None:
    """Replay a sequence of calls, of one or several CPUs, and show what each came to."""
    path = Path(steps)
    try:
        text = path.read_text() if ";" not in steps and len(steps) < 256 and path.is_file() else steps
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {steps}: {error}") from None
    if text is steps and " " not in steps and ("/" in steps or "." in steps):
        raise InputError(f"there is no file {steps}")
    from vmaplab import _jit

    if text.count(";") + text.count("\n") < SMALL_STEPS:
        _jit.stay_plain()
    from vmaplab.calls.scenario import parse

    scenario = parse(text)
    most = max((step.pages for step in scenario.steps if step.call == "cpu"), default=0)
    if most >= cpus:
        raise InputError(f"CPU {most} makes calls, but the machine has {cpus}; say --cpus {most + 1}")
    from vmaplab.check.replay import finish, replay

    with progress("replaying (the first run compiles, once)"):
        args = " ".join([boot_args, scenario.boot_args])
        ram = scenario.total_pages
        kernel = new_kernel(
            arch, release or DEFAULT, args, config, total_pages=ram, record=verify, cpus=cpus, debug=debug
        )
        witness = None
        if verify:
            from vmaplab.judge.witness import Witness

            witness = Witness(kernel, mmu=True)
        played = replay(witness or kernel, scenario)
    if as_json:
        from vmaplab.report import as_json as to_json

        told = to_json.replayed(kernel, played, info)
        if witness:
            finish(witness, played)
            told["verified"] = to_json.judged(witness)
        print_json("replay", told)
    else:
        from vmaplab.report import replays

        replays.replayed(kernel, played, config_of(config), info)
        if witness:
            finish(witness, played)
            replays.judged(witness)
