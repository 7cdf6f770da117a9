"""The command line: parse, call one function, print.

Exit status: 0 good, 1 a finding (the kernel would refuse, or differs), 2 bad usage or input.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmaplab import __version__
from vmaplab.arch import NAMES
from vmaplab.errors import InputError, KernelFault, Violation, VmapError
from vmaplab.release import DEFAULT, RELEASES
from vmaplab.report.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vmaplab.check.verify import Proof
    from vmaplab.kernel import Kernel
    from vmaplab.mapping import Mapping
    from vmaplab.object.build import Built
    from vmaplab.object.kernel import ObjectKernel

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="What will vmap() build, is it right, and what does it cost? "
    "For any page array, any architecture and any kernel release or patch.",
    epilog="SOURCE: heap:SIZE[,fragmentation=F][,seed=N][,orders=8/4/0][,clients=N], pid:PID[,start-end], "
    "pfns:0x1000+256,0x7, or FILE.{txt,csv,npy,parquet}",
)

DEFAULT_ARCH = "arm64-4k"
SMALL_PAGES = 1 << 13
SMALL_STEPS = 200

# Typer does not export the base class of its usage errors, and where it comes from differs by version.
_UsageError: type[Any] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

Source = Annotated[str, typer.Argument(metavar="SOURCE", help="heap:SIZE, pid:PID, pfns:RUNS or a file.")]
ArchOption = Annotated[str, typer.Option("--arch", "-a", help="Architecture, see 'vmaplab arches'.")]
ArchesOption = Annotated[str, typer.Option("--arch", "-a", help="Architectures, separated by commas, or all.")]
ReleaseOption = Annotated[
    str | None, typer.Option("--release", "-r", help=f"Release, see 'vmaplab releases'. Default: {DEFAULT}.")
]
BootArgs = Annotated[
    str, typer.Option("--boot-args", help="nohugeiomap, nohugevmalloc, kpti=1 (arm64); several in quotes.")
]
Config = Annotated[
    list[str] | None, typer.Option("--config", metavar="KEY=y|n", help="Kernel configuration, e.g. HUGETLB_PAGE=n.")
]
TotalPages = Annotated[
    str | None, typer.Option("--total-pages", metavar="N", help="Pages of RAM; PFNs from there on are invalid.")
]
PageSize = Annotated[
    str | None, typer.Option("--page-size", metavar="SIZE", help="Page size of a plain file, e.g. 64K.")
]
Tree = Annotated[
    Path | None, typer.Option("--tree", metavar="DIR", help="A kernel tree. Default: Debian's linux-source-6.12.")
]
Snippet = Annotated[
    Path | None, typer.Option("--snippet", metavar="FILE.c", help="C to compile at the end of mm/vmalloc.c.")
]
Call = Annotated[str | None, typer.Option("--call", metavar="SYMBOL", help="Its function to call instead of vmap().")]
KernelConfig = Annotated[
    list[str] | None, typer.Option("--config", metavar="KEY=VALUE", help="Kernel configuration, e.g. KASAN=y.")
]
Verify = Annotated[
    bool, typer.Option("--verify", help="Judge it: an emulated MMU, and invariants of tables, flushes and areas.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _config(words: list[str] | None) -> dict[str, bool]:
    config = {}
    for word in words or []:
        key, equals, value = word.removeprefix("CONFIG_").partition("=")
        if not equals or value not in ("y", "n"):
            raise InputError(f"'{word}' is no configuration; write KEY=y or KEY=n")
        config[key] = value == "y"
    return config


def _switches(words: list[str] | None) -> dict[str, bool]:
    """The y and n among options of any kind."""
    return _config([word for word in words or [] if word.endswith(("=y", "=n"))])


def _number(text: str | None) -> int | None:
    from vmaplab.pages.array import parse_size

    return None if text is None else parse_size(text)


def _names(text: str, known: Collection[str], what: str) -> list[str]:
    names = list(known) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise InputError(f"unknown {what} '{name}'; known: {', '.join(known)}, all")
    if not names:
        raise InputError(f"name one {what} at least, or all")
    return list(dict.fromkeys(names))


def _start(source: str, mappings: int = 1) -> None:
    """Run small work as plain Python: loading the compiler takes half a second, mapping 1 MiB some milliseconds."""
    from vmaplab import _jit
    from vmaplab.pages import small

    if small(source, SMALL_PAGES // mappings):
        _jit.stay_plain()


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


def _kernel(arch: str, release: str, boot_args: str, config: list[str] | None, **keywords: Any) -> Kernel:
    from vmaplab.kernel import Kernel

    return Kernel(arch, release, boot_args, config=_config(config), **keywords)


@app.command("map")
def map_command(
    source: Source,
    arch: ArchOption = DEFAULT_ARCH,
    release: ReleaseOption = None,
    boot_args: BootArgs = "",
    config: Config = None,
    total_pages: TotalPages = None,
    page_size: PageSize = None,
    own_code: Annotated[bool, typer.Option("--object", help="Run the kernel's own code, not the model.")] = False,
    tree: Tree = None,
    snippet: Snippet = None,
    call: Call = None,
    verify: Verify = False,
    rows: Annotated[int, typer.Option("--rows", min=1, help="Lines of leaves to show.")] = 16,
    events: Annotated[bool, typer.Option("--events", help="Show every store, allocation and flush.")] = False,
    as_json: Json = False,
) -> None:
    """Map SOURCE and show the leaves and the cost."""
    if own_code or tree or snippet or call:
        if release:
            raise InputError("--release is for the model; with --object, --tree or --snippet the tree says what runs")
        built = _build([arch], tree, config, snippet, call)[0]
        with progress("running the kernel's code"):
            from vmaplab import pages
            from vmaplab.object.kernel import ObjectKernel

            pfns = pages.load(source, arch, _number(page_size))
            lines = 2 * len(pfns) + (1 << 16)
            ram = _number(total_pages)
            machine = ObjectKernel(built, boot_args, total_pages=ram, count=True, log_lines=lines)
            mapping, proof = _vmap(machine, pfns, verify, as_json)
        _show_mapping(machine, mapping, _switches(config), proof, rows, events, as_json)
        return
    _start(source)
    with progress("mapping (the first run compiles, once)"):
        from vmaplab import pages

        name, ram = DEFAULT if release is None else release, _number(total_pages)
        kernel = _kernel(arch, name, boot_args, config, total_pages=ram, record=events or verify)
        pfns = pages.load(source, arch, _number(page_size))
        mapping, proof = _vmap(kernel, pfns, verify, as_json)
    _show_mapping(kernel, mapping, _config(config), proof, rows, events, as_json)


def _vmap(
    kernel: Kernel | ObjectKernel, pfns: NDArray[np.uint64], verify: bool, as_json: bool
) -> tuple[Mapping, Proof | None]:
    """Map, and judge it if wanted; a refusal is printed as JSON too, if that is wanted."""
    try:
        if not verify:
            mapping = kernel.vmap(pfns)
            mapping.leaves  # noqa: B018 - built while the bar shows
            return mapping, None
        from vmaplab.check.verify import prove
        from vmaplab.check.witness import Witness

        witness = Witness(kernel, mmu=True)
        mapping = witness.vmap(pfns)
        mapping.leaves  # noqa: B018 - before it is undone
        return mapping, prove(witness)
    except (VmapError, Violation) as error:
        if as_json:
            from vmaplab.report import as_json as to_json

            _print_json(to_json.refusal(kernel, error))
        raise


def _show_mapping(
    kernel: Kernel | ObjectKernel,
    mapping: Mapping,
    config: dict[str, bool],
    proof: Proof | None,
    rows: int,
    events: bool,
    as_json: bool,
) -> None:
    if as_json:
        from vmaplab.report import as_json as to_json

        _print_json(to_json.mapping(kernel, mapping, proof, events))
    else:
        from vmaplab.report import tables

        tables.mapping(kernel, mapping, config, proof, rows, events)


def _targets(text: str) -> list[str]:
    from vmaplab.object.targets import TARGETS, get

    names = [name.strip() for name in text.split(",") if name.strip()]
    return list(TARGETS) if text == "all" else list(dict.fromkeys(get(name).arch for name in names or [text]))


def _build(
    names: list[str], tree: Path | None, config: list[str] | None, snippet: Path | None, call: str | None
) -> list[Built]:
    if (snippet is None) != (call is None):
        raise InputError("--snippet FILE.c and --call SYMBOL go together")
    with progress("building mm/vmalloc.o (the first build takes half a minute, then it is cached)", len(names)) as step:
        from vmaplab.object import build, targets

        found = []
        for target in [targets.get(name) for name in names]:
            found.append(build.build(target, tree, config or (), snippet, call or "vmap"))
            step()
    return found


@app.command("check")
def check_command(
    tree: Tree = None,
    base: Annotated[
        Path | None, typer.Option("--base", metavar="DIR", help="Compare with this kernel tree, not with the model.")
    ] = None,
    arch: ArchesOption = DEFAULT_ARCH,
    release: Annotated[
        str | None, typer.Option("--release", "-r", help="The model's release. Default: by the tree's version.")
    ] = None,
    cases: Annotated[
        int | None,
        typer.Option("--cases", min=1, help="Random scenarios per architecture. Default: 2000; with --faults 20."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Which scenarios.")] = 1,
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
    cpus: Annotated[int, typer.Option("--cpus", min=1, max=512, help="CPUs that call in turn.")] = 1,
    as_json: Json = False,
) -> None:
    """Compare the model, or another tree, with the kernel's own code on random scenarios."""
    if verify and faults:
        raise InputError("--faults judges by itself and compares nothing; leave out --verify")
    if base and (release or snippet):
        raise InputError("--base compares two trees; --release and --snippet are for the model")
    from vmaplab.release import get

    wanted = None if release is None else get(release)
    names = _targets(arch)
    given = config
    if cpus > 1:
        config = ["SMP=y", f"NR_CPUS={cpus}", *(config or [])]
    if calls and call:
        raise InputError("--calls makes calls of all kinds; leave out --call")
    built = _build(names, tree, config, snippet, call)
    bases = _build(names, base, config, None, None) if base else [None] * len(built)
    from vmaplab.check import campaign
    from vmaplab.check.scenario import parse
    from vmaplab.check.tree import between, facts_of, model_config

    one = None if scenario is None else parse(scenario)
    with progress("asking the tree (the first run compiles, once)", len(built)) as step:
        facts = []
        for ours in built:
            facts.append(facts_of(ours))
            step()
    plans = [
        campaign.Plan(
            ours,
            other,
            told.under(wanted) if wanted else told.release,
            model_config(ours),
            seed,
            verify=verify,
            faults=faults,
            calls=calls,
            cpus=cpus,
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
        if one:
            found = [campaign.check_one(plan, one) for plan in plans]
        else:
            found = [campaign.check(plan, cases, jobs, advance) for plan in plans]
    options = _again(tree, base, release, given, snippet, call) + ["--verify"] * verify + ["--faults"] * faults
    options += ["--cpus", str(cpus)] * (cpus > 1)
    commands = [
        shlex.join(
            ["vmaplab", "check", *options, "--arch", verdict.plan.arch.name, "--scenario", str(verdict.scenario)]
        )
        if verdict.difference
        else ""
        for verdict in found
    ]
    if as_json:
        from vmaplab.report import as_json as to_json

        _print_json(to_json.verdicts(found, commands))
    else:
        from vmaplab.report import tables

        tables.verdicts(found, commands)
        if call and not (release or base) and any(verdict.difference for verdict in found):
            own = plans[0].release.name
            print(f"\n{call}() was compared with {own}, the tree's own version; --release names another")
    if any(verdict.difference for verdict in found):
        raise typer.Exit(1)


def _again(
    tree: Path | None,
    base: Path | None,
    release: str | None,
    config: list[str] | None,
    snippet: Path | None,
    call: str | None,
) -> list[str]:
    """The options with which a check is repeated."""
    named = {"--tree": tree, "--base": base, "--release": release, "--snippet": snippet, "--call": call}
    words = [word for option, value in named.items() if value for word in (option, str(value))]
    return words + [word for one in config or [] for word in ("--config", one)]


@app.command("replay")
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
    from vmaplab.check.scenario import parse

    scenario = parse(text)
    most = max((step.pages for step in scenario.steps if step.call == "cpu"), default=0)
    if most >= cpus:
        raise InputError(f"CPU {most} makes calls, but the machine has {cpus}; say --cpus {most + 1}")
    from vmaplab.check.replay import finish, replay

    with progress("replaying (the first run compiles, once)"):
        args = " ".join([boot_args, scenario.boot_args])
        ram = scenario.total_pages
        kernel = _kernel(arch, release or DEFAULT, args, config, total_pages=ram, record=verify, cpus=cpus, debug=debug)
        witness = None
        if verify:
            from vmaplab.check.witness import Witness

            witness = Witness(kernel, mmu=True)
        played = replay(witness or kernel, scenario)
    if as_json:
        from vmaplab.report import as_json as to_json

        told = to_json.replayed(kernel, played, info)
        if witness:
            finish(witness, played)
            told["verified"] = to_json.judged(witness)
        _print_json(told)
    else:
        from vmaplab.report import tables

        tables.replayed(kernel, played, _config(config), info)
        if witness:
            finish(witness, played)
            tables.judged(witness)


@app.command("review")
def review_command(
    release: Annotated[
        str | None, typer.Option("--release", "-r", help=f"What to review, see 'vmaplab releases'. Default: {DEFAULT}.")
    ] = None,
    own_code: Annotated[bool, typer.Option("--object", help="Review the kernel's own code, not the model.")] = False,
    tree: Tree = None,
    snippet: Snippet = None,
    call: Call = None,
    arch: ArchesOption = "all",
    boot_args: BootArgs = "",
    config: KernelConfig = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="NAMES",
            help="Of invariants, coupling, lost, alignment, area, scan, early, contract; with commas.",
        ),
    ] = None,
    mail: Annotated[bool, typer.Option("--mail", help="Print plain text to paste into a mail.")] = False,
    as_json: Json = False,
) -> None:
    """Review a release, or the kernel's own code, by experiment, as a good reviewer would."""
    own_code = own_code or bool(tree or snippet or call)
    if own_code and release:
        raise InputError("--release is for the model; with --object, --tree or --snippet the tree says what runs")
    if mail and as_json:
        raise InputError("--mail and --json exclude each other")
    chosen = [] if only is None else [name.strip() for name in only.split(",")]
    built = _build(_targets(arch), tree, config, snippet, call) if own_code else []
    names = [] if own_code else _names(arch, NAMES, "architecture")
    from vmaplab.release import get
    from vmaplab.review.experiments import EXPERIMENTS
    from vmaplab.review.run import review

    steps = len(built or names) * len(chosen or EXPERIMENTS)
    with progress("reviewing (the first run compiles, once)", total=steps) as advance:
        from vmaplab.review.subject import of_objects, of_release

        if own_code:
            command = _again(tree, None, None, config, snippet, call)
            subject = of_objects(built, command if tree or snippet else ["--object", *command], boot_args)
        else:
            subject = of_release(get(DEFAULT if release is None else release), names, boot_args, _config(config))
        found = review(subject, chosen, advance)
    from vmaplab.report import review as report

    print(report.as_json(found) if as_json else report.as_mail(found) if mail else report.as_text(found))
    if not found.clean:
        raise typer.Exit(1)


object_app = typer.Typer(help="The kernel's own code: mm/vmalloc.o of a kernel tree, run in a CPU emulator.")
app.add_typer(object_app, name="object")


@object_app.command("build")
def object_build_command(
    tree: Tree = None,
    arch: ArchesOption = DEFAULT_ARCH,
    config: KernelConfig = None,
    snippet: Snippet = None,
    call: Call = None,
    as_json: Json = False,
) -> None:
    """Build mm/vmalloc.o and what it needs, and link them; from the cache where nothing changed."""
    built = _build(_targets(arch), tree, config, snippet, call)
    if as_json:
        from vmaplab.report import as_json as to_json

        _print_json(to_json.built(built))
    else:
        from vmaplab.report import tables

        tables.built(built)


@object_app.command("survey")
def object_survey_command(
    tree: Tree = None,
    arch: ArchesOption = "all",
    config: KernelConfig = None,
    as_json: Json = False,
) -> None:
    """Look at a new tree: builds, boots, maps, equals which row; what is not there, what was guessed."""
    names = _targets(arch)
    if tree:
        from vmaplab.object.build import check_tree

        check_tree(tree)
    with progress("surveying (a build takes half a minute for each family)", len(names)) as step:
        from vmaplab.check.survey import survey

        found = survey(tree, names, config or (), step)
    if as_json:
        from vmaplab.report import as_json as to_json

        _print_json(to_json.surveyed(found))
    else:
        from vmaplab.report import tables

        tables.surveyed(found)
    if not all(one.understood for one in found):
        raise typer.Exit(1)


@app.command("compare")
def compare_command(
    source: Source,
    arch: ArchesOption = DEFAULT_ARCH,
    release: Annotated[str, typer.Option("--release", "-r", help="Releases, with commas, or all.")] = "all",
    boot_args: BootArgs = "",
    config: Config = None,
    total_pages: TotalPages = None,
    page_size: PageSize = None,
    as_json: Json = False,
) -> None:
    """Map SOURCE on several releases and architectures, beside linux-6.12."""
    arches, releases = _names(arch, NAMES, "architecture"), _names(release, RELEASES, "release")
    _start(source, len(arches) * len(releases))
    with progress("comparing", total=len(arches) * len(releases)) as advance:
        from vmaplab.compare import compare

        found = compare(
            source,
            arches,
            releases,
            boot_args=boot_args,
            config=_config(config),
            total_pages=_number(total_pages),
            page_size=_number(page_size),
            advance=advance,
        )
    if as_json:
        from vmaplab.report import as_json as to_json

        _print_json(to_json.comparison(found))
    else:
        from vmaplab.report import tables

        tables.comparison(source, found, boot_args, _config(config))
    if not any(row.cost for row in found):
        raise typer.Exit(1)


@app.command("capture")
def capture_command(
    source: Source,
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="FILE.{txt,csv,npy,parquet}.")],
    arch: ArchOption = DEFAULT_ARCH,
    page_size: PageSize = None,
    as_json: Json = False,
) -> None:
    """Write the pages of SOURCE to a file, whole or not at all."""
    _start(source)
    with progress("capturing"):
        from vmaplab import pages
        from vmaplab.pages.array import size_text

        pfns = pages.load(source, arch, _number(page_size))
        pages.save(output, pfns)
    page = pfns.page_size or 0
    if as_json:
        _print_json({"file": output, "pages": len(pfns), "page_size": page})
    else:
        print(f"{len(pfns)} pages of {size_text(page)} written to {output}")


@app.command("arches")
def arches_command(as_json: Json = False) -> None:
    """List the architectures."""
    _list("arches", as_json)


@app.command("releases")
def releases_command(as_json: Json = False) -> None:
    """List the kernel releases and patch versions."""
    _list("releases", as_json)


def _list(what: str, as_json: bool) -> None:
    if as_json:
        from vmaplab.report import as_json as to_json

        _print_json(getattr(to_json, what)())
    else:
        from vmaplab.report import tables

        getattr(tables, what)()


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    if version:
        print(f"vmaplab {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line; every way it can end is one of the exit statuses above."""
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        status = _fail(str(error), 2)
    except VmapError as error:
        status = _fail(f"the kernel would refuse: {error}", 1)
    except KernelFault as error:
        status = _fail(f"the kernel's code goes wrong: {error}", 1)
    except Violation as error:
        status = _fail(f"not right: {error}", 1)
    except _UsageError as error:
        status = _fail(error.format_message().rstrip("."), 2)
    except (KeyboardInterrupt, typer.Abort):
        status = _fail("interrupted", 130)
    except MemoryError:
        status = _fail("not enough memory for this; take a smaller source", 2)
    except (BrokenPipeError, SystemExit):  # the reader has seen enough; SystemExit is click's answer to that
        _drop_output()
        status = 0
    except OSError as error:
        _drop_output()
        status = _fail(f"cannot write the output: {error.strerror}", 2)
    sys.exit(status or 0)


def _drop_output() -> None:
    """What is left in the buffer of standard output goes nowhere, so that the interpreter can end quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    print("vmaplab: " + " ".join(message.split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    main()
