# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab map``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmaplab._whole import check_writable, write_whole
from vmaplab.cli.app import command
from vmaplab.cli.options import (
    BootArgs,
    Call,
    Config,
    Json,
    PageSize,
    ReleaseOption,
    Snippet,
    Source,
    SourceArch,
    TotalPages,
    Tree,
    Verify,
    arch_for,
    build_all,
    new_kernel,
    number_of,
    place_of,
    print_json,
    stay_small,
    switches,
)
from vmaplab.errors import InputError, Violation, VmapError
from vmaplab.release import DEFAULT
from vmaplab.report.progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vmaplab.check.verify import Proof
    from vmaplab.explain import Explained
    from vmaplab.machine import Machine
    from vmaplab.mapping import Mapping


@command("map")
def map_command(
    source: Source,
    arch: SourceArch = None,
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
    svg: Annotated[Path | None, typer.Option("--svg", metavar="FILE", help="Draw the page tables.")] = None,
    explain: Annotated[
        str | None,
        typer.Option("--explain", metavar="WHERE", help="Walk an address of it, or so many bytes from its start."),
    ] = None,
    events: Annotated[bool, typer.Option("--events", help="Show every store, allocation and flush.")] = False,
    as_json: Json = False,
) -> None:
    """Map SOURCE and show the leaves and the cost."""
    if svg:
        check_writable(svg)
    arch = arch_for(arch, source)
    where = place_of(explain)
    times: dict[str, float] = {}
    if own_code or tree or snippet or call:
        if release:
            raise InputError("--release is for the model; with --object, --tree or --snippet the tree says what runs")
        built = build_all([arch], tree, config, snippet, call)[0]
        with progress("running the kernel's code"):
            from vmaplab import pages
            from vmaplab.cost.measure import events_for, us_of
            from vmaplab.object.kernel import ObjectKernel
            from vmaplab.why import why_small

            pfns = pages.load(source, arch, number_of(page_size))
            lines = 2 * len(pfns) + (1 << 16)
            ram = number_of(total_pages)
            trace = 0 if verify else events_for(len(pfns))
            machine = ObjectKernel(built, boot_args, total_pages=ram, count=True, log_lines=lines, trace=trace)
            mapping, proof, explained = _vmap(machine, pfns, verify, where, events, as_json)
            times = us_of(machine) if trace else {}
            kernel: Machine = machine
            small = why_small(pfns, mapping, kernel.arch, lambda: ObjectKernel(built, boot_args, total_pages=ram))
    else:
        stay_small(source)
        with progress("mapping (the first run compiles, once)"):
            from vmaplab import pages
            from vmaplab.why import why_small

            name, ram = DEFAULT if release is None else release, number_of(total_pages)
            kernel = new_kernel(arch, name, boot_args, config, total_pages=ram, record=events or verify)
            pfns = pages.load(source, arch, number_of(page_size))
            mapping, proof, explained = _vmap(kernel, pfns, verify, where, events, as_json)
            fresh = partial(new_kernel, arch, name, boot_args, config, total_pages=ram)
            small = why_small(pfns, mapping, kernel.arch, fresh)
    _draw(svg, kernel, mapping, pfns)
    if as_json:
        from vmaplab.report import as_json as to_json

        print_json("map", to_json.mapping(kernel, mapping, pfns.note, small, proof, explained, times))
    else:
        from vmaplab.report import tables

        tables.mapping(kernel, mapping, switches(config), pfns.note, small, proof, rows, explained, times)


def _draw(path: Path | None, kernel: Machine, mapping: Mapping, pfns: NDArray[np.uint64]) -> None:
    if path is None:
        return
    from vmaplab.report import pictures

    title = f"vmap() of {len(pfns)} pages on {kernel.arch.name}, {kernel.code}"
    drawn = pictures.page_tables(kernel.arch, mapping.leaves, mapping.addr, pfns, title)
    write_whole(path, pictures.alone(drawn))


def _vmap(
    kernel: Machine, pfns: NDArray[np.uint64], verify: bool, where: int | None, events: bool, as_json: bool
) -> tuple[Mapping, Proof | None, Explained]:
    """Map, and judge and explain it if wanted; a refusal is printed as JSON too, if that is wanted."""
    from vmaplab.explain import explain

    try:
        if not verify:
            mapping = kernel.vmap(pfns)
            mapping.leaves  # noqa: B018 - built while the bar shows
            return mapping, None, explain(kernel, mapping, where, events)
        from vmaplab.check.verify import prove
        from vmaplab.judge.witness import Witness

        witness = Witness(kernel, mmu=True)
        mapping = witness.vmap(pfns)
        mapping.leaves  # noqa: B018 - before it is undone
        explained = explain(kernel, mapping, where, events)
        return mapping, prove(witness), explained
    except (VmapError, Violation) as error:
        if as_json:
            from vmaplab.report import as_json as to_json

            print_json("refusal", to_json.refusal(kernel, error))
        raise
