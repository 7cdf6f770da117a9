# SPDX-License-Identifier: GPL-2.0-only
"""Write the JSON Schema of everything that --json prints: ``tools/schema.py src/vmaplab/report/schema``.

A class here is an object there; ``docs/json.md`` says what is promised of them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from vmaplab.cli.options import SCHEMA

Count = dict[str, int]
"""By name, or by bytes of a leaf, how many."""


class Strict(TypedDict):
    """An object without other fields."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]


class Head(Strict):
    """What every object at the top begins with."""

    schema: int
    output: str
    version: str
    options: dict[str, Any]


class Leaf(Strict):
    """A translation: ``size`` bytes at ``va`` go to page frame ``pfn`` and those behind it."""

    va: int
    va_hex: str
    size: int
    pfn: int


class Field(Strict):
    """Bits ``high`` to ``low`` of an entry, by the manual's name; ``value`` counted from ``low``."""

    high: int
    low: int
    name: str
    value: int
    means: str | None


class Entry(Strict):
    """An entry of a page table; ``same``: whose protection its attributes are; ``wrong``: why an MMU refuses it."""

    arch: str
    level: str
    value: int
    value_hex: str
    kind: Literal["leaf", "table", "invalid"]
    phys: NotRequired[int]
    phys_hex: NotRequired[str]
    pfn: NotRequired[int]
    size: NotRequired[int]
    group: int | None
    same: str | None
    wrong: str | None
    manual: str
    fields: list[Field]


class Explain(Head, Entry):
    """``explain``."""


class Step(Strict):
    """One level of a walk: physical address of the table, index, physical address of the entry."""

    table: int
    table_hex: str
    index: int
    at: int
    at_hex: str
    entry: Entry


class Walk(Strict):
    """The walk of one address, from the root down."""

    va: int
    va_hex: str
    phys: int | None
    phys_hex: str | None
    steps: list[Step]


class Event(Strict):
    """One thing that the kernel did: the meaning of the numbers is that of ``vmaplab.trace.Event``."""

    kind: str
    addr: int
    addr_hex: str
    value: int
    value_hex: str
    size: int
    text: str | None
    means: str | None


class Proof(Strict):
    """What the judges looked at: ``vmaplab.check.verify.Proof``."""

    holds: bool
    mmu: bool
    cpu: str
    manual: str
    translated: int
    beyond: int
    faults: int
    groups: int
    tables: int
    executable: bool


class Kernel(Head):
    """Of one kernel: a release's name, or a tree's version."""

    arch: str
    page_size: int
    release: str
    boot_args: str


class Map(Kernel):
    """``map``."""

    note: str | None
    addr: int
    addr_hex: str
    pages: int
    leaves: list[Leaf]
    small: Count
    cost: Count
    us: NotRequired[dict[str, float]]
    proof: NotRequired[Proof]
    walk: NotRequired[Walk]
    events: NotRequired[list[Event]]


class Errno(Strict):
    """Why a call fails: errno, positive."""

    errno: int
    reason: str


class Refusal(Kernel):
    """``map`` of what the kernel refuses, or that breaks an invariant (``violation``)."""

    error: NotRequired[Errno]
    violation: NotRequired[str]


class Compare(Head):
    """A row of ``compare``: one source on one kernel. ``gain``: TLB entries of linux-6.12, divided by these."""

    source: str
    arch: str
    page_size: int
    release: str | None
    note: str | None
    refused: str | None
    errno: int | None
    leaves_by_size: NotRequired[Count]
    gain: NotRequired[float | None]
    cost: NotRequired[Count]
    us: NotRequired[dict[str, float]]


class Use(Strict):
    """What using the mapping costs, in one pattern of access."""

    pattern: str
    entries: int
    reach: int
    accesses: int
    l1_misses: float
    walks: float
    walks_per_mb: float
    bytes_read_by_walks: float
    us: float
    us_fast: float
    us_slow: float


class Cost(Head):
    """A row of ``cost``: one call of one kernel on one core."""

    kernel: str
    call: str
    arch: str
    config: list[str]
    cold: bool
    prefetch: bool
    pages: int
    core: str
    mhz: float
    us: float
    us_fast: float
    us_slow: float
    cycles: float
    cycles_of: dict[str, float]
    cycles_in: dict[str, float]
    instructions: int
    instructions_booted: int | None
    uses: list[Use]


class Built(Strict):
    """What the scenarios of a check built."""

    leaves: Count
    replaced_tables: int
    undefined: int
    areas_from_object: bool


class Changed(Strict):
    """What ran of the lines that differ from another tree."""

    base: str
    ran: int
    with_code: int
    missing: Any
    elsewhere: list[str]
    without_code: Any


class Function(Strict):
    """What ran of a function."""

    function: str
    line: int
    lines: int
    ran: int
    missing: list[Any]


class Check(Head):
    """A row of ``check``: one architecture."""

    arch: str
    object: str
    against: str
    seed: int
    scenarios: int
    calls: int
    translated: int
    injected: int
    judged_in_part: Any
    built: Built
    notes: list[str]
    verdict: str
    judged: Any
    changed_lines: Changed | None
    coverage: list[Function] | None
    difference: str | None
    scenario: str | None
    command: str | None
    judges_say: str | None
    judges_scenario: str | None
    judges_command: str | None


class Stack(Strict):
    """Where a CPU was."""

    who: str
    places: list[str]


class Race(Strict):
    """A finding of ``check --race``."""

    kind: str
    text: str
    memory: str | None
    calls: str
    also: Any
    scenario: str
    schedule: str
    switches: int
    stacks: list[Stack]
    known: str | None
    command: str


class Races(Head):
    """A row of ``check --race``: one architecture."""

    arch: str
    object: str
    preemptions: int | None
    tried: int
    exhausted: int
    schedules: int
    verdict: str
    findings: list[Race]
    not_tried: dict[str, str]
    not_exhausted: dict[str, str]


class Booted(Head):
    """A row of ``boot``: one architecture."""

    arch: str
    booted: str
    compiler: str
    against: str
    built_seconds: float
    boot_seconds: float
    boots: int
    areas: int
    seed: int
    scenarios: int
    left_out: int
    without_object: str
    without_model: str
    calls: int
    pages: int
    verdict: str
    difference: str
    scenario: str
    command: str


class Together(Head):
    """A row of ``boot --cpus``: one architecture."""

    arch: str
    booted: str
    compiler: str
    cpus: int
    seed: int
    rounds: int
    calls: int
    pages: int
    verdict: str
    difference: str
    round: int | None


class Failing(Head):
    """A row of ``boot --faults``: one architecture."""

    arch: str
    booted: str
    compiler: str
    seed: int
    scenarios: int
    left_out: int
    runs: int
    failed: int
    outcomes: int
    met: int
    verdict: str
    difference: str
    scenario: str
    command: str


class Table(Strict):
    """The page tables that a finding shows."""

    of: str
    addr: int
    addr_hex: str
    leaves: list[Leaf]
    cost: Count | None


class Finding(Strict):
    """What an experiment found."""

    experiment: str
    headline: str
    arches: list[str]
    arch: str
    lines: list[str]
    pages: str | None
    tables: list[Table]
    cost: Any
    evidence: list[list[Any]]
    commands: list[str]


class Experiment(Strict):
    """An experiment, and what it asks."""

    name: str
    question: str


class Review(Head):
    """``review`` of a release, or of the kernel's own code."""

    subject: str
    arches: list[str]
    experiments: list[Experiment]
    unfinished: list[list[str]]
    findings: list[Finding]


class Remark(Strict):
    """What a review of a series says."""

    kind: str
    headline: str
    state: str
    first: int
    gone: int
    stays: int
    arches: list[str]
    place: str
    scenario: str | None
    booted: str | None
    commands: list[str]


class Patch(Strict):
    """A commit of a series; ``cells``: by architecture, what was measured."""

    number: int
    place: str
    subject: str
    message_id: str
    files: list[str]
    left_out: list[str]
    cells: dict[str, dict[str, Any] | None]


class Refused(Strict):
    """The patch that does not apply."""

    patch: str
    error: str


class Series(Head):
    """``review`` of a patch series."""

    series: str
    message_id: str
    base: str
    kernel: str
    verdict: list[str]
    refused: Refused | None
    unfinished: int
    patches: list[Patch]
    remarks: list[Remark]


class Hazard(Strict):
    """A leaf that set_memory_*() cuts: ``vmaplab.mapping.Hazard``."""

    va: int
    va_hex: str
    size: int
    pfn: int
    pages: int
    outcome: str
    safe: bool
    text: str


class SetMemory(Strict):
    """What set_memory_*() does."""

    errno: int
    why: str | None
    oops: bool
    unmapped: int
    hazards: list[Hazard]


class Part(Strict):
    """Bytes that a reader gets; ``phys`` is null where they are zeroes."""

    at: int
    size: int
    phys: int | None


class Call(Strict):
    """A call that was replayed."""

    call: str
    cpu: int
    returns: int | None
    returns_hex: str | None
    why: str | None
    called: bool
    end: str | None
    bug: bool
    leaves: Count
    warnings: list[str]
    set_memory: SetMemory | None
    parts: list[Part]
    text: str | None
    pfns: list[int]


class Area(Strict):
    """An area of address space, its guard page included."""

    addr: int
    addr_hex: str
    size: int
    flags: int


class Judged(Strict):
    """What was looked at in a replay."""

    mmu: bool
    cpu: str
    manual: str
    translated: int
    judged_until: str | None


class Replay(Kernel):
    """``replay``."""

    cpus: int
    steps: list[Call]
    areas: list[Area]
    waiting: int
    vmallocinfo: list[str] | None
    verified: NotRequired[Judged]


class Gain(Strict):
    """TLB entries of linux-6.12 divided by those of a release, over the arrays of a sweep."""

    arch: str
    release: str
    in_all: float | None
    mean: float | None
    p5: float | None
    p50: float | None
    p95: float | None
    refused: int
    small: Any


class Flip(Strict):
    """What one option, the other way round, makes of the arrays."""

    arch: str
    release: str
    flipped: str
    arrays: int
    changed: int
    worse: int
    total: float
    refused: int


class SweepError(Strict):
    """Sources that cannot be read, or that no kernel maps."""

    arrays: int
    error: str
    sources: list[str]


class Sweep(Head):
    """``sweep``: the summary; the rows are in its result file."""

    result: str
    arrays: int
    mapped: int
    rows: int
    bytes: int
    gains: list[Gain]
    least: list[dict[str, Any]]
    flips: list[Flip]
    errors: list[SweepError]
    notes: list[str]


class OtherArea(Strict):
    """An area of another kernel; ``vmap``: TLB entries of each release."""

    address: int
    address_hex: str
    end: int
    end_hex: str
    size: int
    kind: str
    flags: int
    caller: str | None
    phys: int | None
    phys_hex: str | None
    pages: int
    mapped: int
    leaves: Count
    tlb_entries: int
    vmap: Count | None
    not_counted: str | None
    problems: list[str]


class Sum(Strict):
    """What a release makes of the areas."""

    areas: int
    leaves: Count
    tlb_entries: int


class Areas(Head):
    """``areas``."""

    kernel: str
    arch: str
    page_size: int
    live: bool
    tables: int
    translated: int
    cpu: str
    problems: list[str]
    areas: list[OtherArea]
    sums: dict[str, Sum]


class Capture(Head):
    """``capture``."""

    file: str
    pages: int
    page_size: int


class Level(Strict):
    """A level of page tables."""

    name: str
    shift: int
    leaf: bool


class Arch(Head):
    """A row of ``arches``."""

    name: str
    aliases: list[str]
    page_size: int
    levels: list[Level]
    pte_groups: list[int]
    vmalloc_start: int
    vmalloc_start_hex: str
    vmalloc_end: int
    vmalloc_end_hex: str
    page_kernel: int
    page_kernel_hex: str
    note: str


class Release(Head):
    """A row of ``releases``."""

    name: str
    aliases: list[str]
    title: str
    batches: bool
    unified_walker: bool
    aligns_area: bool
    tree: str


class ObjectBuild(Head):
    """A row of ``object build``: one architecture."""

    arch: str
    kernel: str
    tree: str
    image: str
    cached: bool
    compiler: str
    zeroes: list[str]


class ObjectSurvey(Head):
    """A row of ``object survey``: one architecture."""

    arch: str
    code: str | None
    builds: bool
    boots: bool
    maps: bool
    row: str | None
    equals: bool
    scenarios: int
    difference: str
    answered: list[str]
    unanswered: list[str]
    absent: dict[str, Any]
    guessed: list[str]
    notes: list[str]
    why: str
    understood: bool


class Kept(Strict):
    """A part of the cache."""

    kind: str
    bytes: int
    files: int
    removed: bool
    what: str


class Cache(Head):
    """``cache``."""

    path: str
    kinds: list[Kept]


OUTPUTS: dict[str, Any] = {
    "map": Map,
    "refusal": Refusal,
    "explain": Explain,
    "compare": list[Compare],
    "cost": list[Cost],
    "check": list[Check],
    "race": list[Races],
    "boot": list[Booted],
    "boot-together": list[Together],
    "boot-failing": list[Failing],
    "review": Review,
    "series": Series,
    "replay": Replay,
    "sweep": Sweep,
    "areas": Areas,
    "capture": Capture,
    "arches": list[Arch],
    "releases": list[Release],
    "object-build": list[ObjectBuild],
    "object-survey": list[ObjectSurvey],
    "cache": Cache,
}
"""A list has a row for each thing that stands alone: an architecture, a kernel, a core."""


NAMES = {
    "schema": "grows when a field changes its meaning or goes",
    "output": "which output this is",
    "version": "of vmaplab",
    "options": "what was asked for, by the long names of the options, with defaults that there are",
    "addr": "virtual address of the first page",
    "address": "virtual address of the first page",
    "va": "virtual address",
    "at": "physical address of the entry; of a part that is read: its first byte in the reader's buffer",
    "table": "physical address of the table",
    "phys": "physical address",
    "pfn": "page frame number of the first page",
    "size": "bytes; of areas in `areas` without the guard page, in `replay` with it",
    "end": "first virtual address behind the area and its guard page",
    "page_size": "bytes of a page",
    "release": "a release's name, or a tree's version",
    "boot_args": "boot arguments of the kernel, separated by spaces",
    "note": "what the source says of itself",
    "pages": "base pages; in `areas`: those in vm_struct.pages",
    "mapped": "base pages that the page tables map; in `sweep`: arrays that one kernel at least maps",
    "leaves": "leaves one by one, or bytes of a leaf -> how many",
    "leaves_by_size": "bytes of a leaf -> how many",
    "tlb_entries": "TLB entries that the leaves fill, a contiguous group being one",
    "cost": "counters of the call: vmaplab.cost.counters.Cost",
    "gain": "TLB entries of linux-6.12 for the same pages, divided by these; null if either refused",
    "us": "microseconds by core, of a kernel's own code",
    "refused": "why there is nothing, in words",
    "errno": "what the kernel returns, positive; null if it was not asked",
    "vmap": "release -> TLB entries that its vmap() would fill with the same pages",
    "not_counted": "why the area is in no sum",
    "translated": "pages that an emulated MMU translated",
    "faults": "translations that had to be refused, and were",
    "beyond": "pages beyond the physical addresses of the emulated CPU",
    "groups": "groups of PTEs found complete and alike",
    "tables": "page tables that were walked; in a finding: the page tables it shows",
    "cpu": "the emulated CPU, or why there is none; of a call: which one it came from",
    "manual": "where the format is defined",
    "group": "bytes of the group that the entry is one of",
    "same": "whose protection the attributes are",
    "wrong": "why an MMU does not take the entry, though it is marked valid",
    "means": "in words",
    "value": "the entry, or the bits of a field; of an event see vmaplab.trace.Event",
    "kind": "of an entry: leaf, table or invalid; else which kind it is",
    "verdict": "in a word or two; what was looked at is beside it",
    "difference": "the first difference, in words",
    "scenario": "the smallest calls that show it",
    "command": "a command that shows it again",
    "seed": "of the random numbers",
    "in_all": "gain of all arrays together",
    "mean": "of the gains, weighted by bytes",
    "small": "reason -> pages that stay base pages (`map`), or their share (`sweep`)",
    "least": "rows of the arrays that gain least",
    "live": "the kernel ran while it was read",
    "problems": "what is wrong, a line each",
    "without_object": "why the kernel's own code was not asked beside the booted kernel, or empty",
    "without_model": "why the model was not asked beside the booted kernel, or empty",
    "returns": "what the call returned; null for NULL",
    "waiting": "bytes of address space that wait for a purge",
    "notes": "what a reader should know, a line each",
    "bytes": "on disk, or of all arrays",
}
"""What a field is, where its name alone does not tell."""


def written(name: str) -> str:
    """The schema of one output, as it is kept: further fields may come, so they are allowed."""
    schema = TypeAdapter(OUTPUTS[name]).json_schema()
    whole = [schema, *schema.get("$defs", {}).values()]
    for one in whole:
        if one.get("additionalProperties") is False:
            del one["additionalProperties"]
        for field, told in one.get("properties", {}).items():
            told.pop("title", None)
            if field in NAMES and "$ref" not in told:
                told.setdefault("description", NAMES[field])
        if "output" in one.get("properties", {}):
            one["properties"]["output"]["const"] = name
            one["properties"]["schema"]["const"] = SCHEMA
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"vmaplab:{SCHEMA}:{name}"}
    return json.dumps(head | schema, indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for each in OUTPUTS:
        (folder / f"{each}.json").write_text(written(each))
