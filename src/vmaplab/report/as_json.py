# SPDX-License-Identifier: GPL-2.0-only
"""What the commands print with --json: plain dictionaries and lists, numbers as ints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vmaplab.arch import ALIASES
from vmaplab.errors import Violation, VmapError
from vmaplab.mapping import ZEROES
from vmaplab.release import DEFAULT, RELEASES, get
from vmaplab.report import explained as explain
from vmaplab.report.text import address, leaves

if TYPE_CHECKING:
    from vmaplab.check.coverage import Changed, Coverage
    from vmaplab.check.plan import Verdict
    from vmaplab.check.replay import Played
    from vmaplab.check.survey import Surveyed
    from vmaplab.check.verify import Proof
    from vmaplab.compare import Row
    from vmaplab.explain import Explained
    from vmaplab.judge.witness import Witness
    from vmaplab.kernel import Kernel
    from vmaplab.machine import Machine
    from vmaplab.mapping import Mapping, SetMemory
    from vmaplab.object.build import Built
    from vmaplab.why import Small


def _kernel(kernel: Machine) -> dict[str, Any]:
    return {
        "arch": kernel.arch.name,
        "page_size": kernel.arch.page_size,
        "release": kernel.code,
        "boot_args": " ".join(kernel.boot_args),
    }


def mapping(
    kernel: Machine,
    made: Mapping,
    note: str,
    small: Small,
    proof: Proof | None,
    explained: Explained,
    times: dict[str, float] | None = None,
) -> dict[str, Any]:
    """A mapping: where, its leaves, its counters, microseconds by core, and what else was asked for."""
    result = _kernel(kernel) | {
        "note": note or None,
        **address("addr", made.addr),
        "pages": made.cost.pages,
        "leaves": leaves(made.leaves),
        "small": small._asdict(),
        "cost": dict(made.cost),
    }
    if times:
        result["us"] = times
    if proof:
        result["proof"] = {"holds": True} | proof._asdict()
    explainer = explained.explainer
    if explainer and explained.va is not None:
        result["walk"] = explain.walk_as_json(explainer, explained.va, explained.walk)
    if explainer and explained.events:
        result["events"] = [
            {
                "kind": event.kind,
                **address("addr", event.addr),
                **address("value", event.value),
                "size": event.size,
                "text": event.text or None,
                "means": explain.event_in_words(explainer, event, step) or None,
            }
            for event, step in zip(explained.events, explained.stores, strict=True)
        ]
    return result


def refusal(kernel: Machine, error: VmapError | Violation) -> dict[str, Any]:
    """A call that the kernel would have refused, or that broke an invariant."""
    if isinstance(error, Violation):
        return _kernel(kernel) | {"violation": str(error)}
    return _kernel(kernel) | {"error": {"errno": error.errno, "reason": str(error)}}


def refused_by(built: Built, boot_args: str, error: VmapError) -> dict[str, Any]:
    """A call that a kernel's own code has refused."""
    return {
        "arch": built.target.arch,
        "page_size": get(DEFAULT).on(built.target.arch).page_size,
        "release": built.code,
        "boot_args": " ".join(boot_args.split()),
        "error": {"errno": error.errno, "reason": str(error)},
    }


def _compared(row: Row) -> dict[str, Any]:
    return {
        "arch": row.arch,
        "page_size": get(DEFAULT).on(row.arch).page_size,
        "release": row.release or None,
        "note": row.note or None,
    }


def comparison(rows: list[Row]) -> list[dict[str, Any]]:
    """The rows of a comparison."""
    return [
        _compared(row) | {"refused": row.refused, "errno": row.errno or None}
        if row.cost is None
        else {
            **_compared(row),
            "refused": None,
            "errno": None,
            "leaves_by_size": {str(size): count for size, count in row.leaves_by_size.items()},
            "gain": row.gain,
            "cost": dict(row.cost),
            **({"us": dict(row.us)} if row.us else {}),
        }
        for row in rows
    ]


def arches() -> list[dict[str, Any]]:
    """The architectures."""
    return [
        {
            "name": arch.name,
            "aliases": sorted(alias for alias, name in ALIASES.items() if name == arch.name),
            "page_size": arch.page_size,
            "levels": [{"name": level.name, "shift": level.shift, "leaf": level.leaf} for level in arch.levels],
            "pte_groups": [1 << group.shift for group in arch.groups],
            **address("vmalloc_start", arch.vmalloc_start),
            **address("vmalloc_end", arch.vmalloc_end),
            **address("page_kernel", arch.page_kernel),
            "note": arch.note,
        }
        for arch in get(DEFAULT).arches.values()
    ]


def releases() -> list[dict[str, Any]]:
    """The releases."""
    return [
        {
            "name": release.name,
            "aliases": list(release.aliases),
            "title": release.title,
            "batches": release.rules.batches,
            "unified_walker": release.rules.unified_walker,
            "aligns_area": release.rules.aligns_area,
            "tree": release.tree.version,
        }
        for release in RELEASES.values()
    ]


def surveyed(found: list[Surveyed]) -> list[dict[str, Any]]:
    """A first look at a tree."""
    return [
        {
            "arch": one.arch,
            "code": one.built.code if one.built else None,
            "builds": one.built is not None,
            "boots": one.facts is not None,
            "maps": one.verdict is not None,
            "row": one.facts.row.name if one.facts else None,
            "equals": bool(one.verdict and not one.verdict.difference),
            "scenarios": one.verdict.cases if one.verdict else 0,
            "difference": one.verdict.difference if one.verdict else "",
            "answered": sorted(one.built.answers) if one.built else [],
            "unanswered": sorted(one.built.unanswered) if one.built else [],
            "absent": one.built.absent if one.built else {},
            "guessed": list(one.built.guessed) if one.built else [],
            "notes": list(one.facts.notes) if one.facts else [],
            "why": one.why,
            "understood": one.understood,
        }
        for one in found
    ]


def built(found: list[Built]) -> list[dict[str, Any]]:
    """Objects that were built."""
    return [
        {
            "arch": one.target.arch,
            "kernel": one.version,
            "tree": str(one.tree),
            "image": str(one.image),
            "cached": not one.fresh,
            "compiler": one.compiler,
            "zeroes": list(one.zeroes),
        }
        for one in found
    ]


def verdicts(
    found: list[Verdict], commands: list[tuple[str, str]], changed: Changed | None, covered: list[Coverage]
) -> list[dict[str, Any]]:
    """What a check came to, per architecture; with what ran of changed lines, on all of them together."""
    lines = None
    if changed:
        ran, there = changed.counts
        lines = {"base": str(changed.base), "ran": ran, "with_code": there, "missing": changed.missing}
        lines |= {"elsewhere": list(changed.elsewhere)}
        lines["without_code"] = changed.silent
    functions = {
        one.built.target.arch: [
            {"function": it.function.name, "line": it.function.first, "lines": it.lines, "ran": it.ran}
            | {"missing": list(it.missing)}
            for it in one.functions()
        ]
        for one in covered
    }
    return [
        {
            "arch": verdict.plan.arch.name,
            "object": verdict.plan.code,
            "against": verdict.plan.against,
            "seed": verdict.plan.seed,
            "scenarios": verdict.cases,
            "calls": verdict.calls,
            "translated": verdict.found.translated,
            "injected": verdict.found.failures,
            "judged_in_part": verdict.found.partly,
            "built": {
                "leaves": {str(size): count for size, count in sorted(verdict.found.seen.leaves.items())},
                "replaced_tables": verdict.found.seen.replaced,
                "undefined": verdict.found.seen.undefined,
                "areas_from_object": bool(verdict.found.seen.guided),
            },
            "notes": list(verdict.notes),
            "verdict": word_of(verdict, changed),
            "judged": verdict.found.judged,
            "changed_lines": lines,
            "coverage": functions.get(verdict.plan.arch.name),
            "difference": verdict.difference or None,
            "scenario": str(verdict.scenario) if verdict.scenario else None,
            "command": command or None,
            "judges_say": verdict.also.difference if verdict.also and verdict.also.difference else None,
            "judges_scenario": str(verdict.also.scenario) if verdict.also and verdict.also.scenario else None,
            "judges_command": alone or None,
        }
        for verdict, (command, alone) in zip(found, commands, strict=True)
    ]


def word_of(verdict: Verdict, changed: Changed | None) -> str:
    """The word of a verdict; it says so where it looked at less than what was changed."""
    missed = changed is not None and (
        changed.elsewhere or ((changed.missing or not changed.counts[1]) and any(changed.code))
    )
    return f"{verdict.word} where it looked" if missed and not verdict.difference else verdict.word


def judged(witness: Witness) -> dict[str, Any]:
    """What was looked at in a replay."""
    return {
        "mmu": bool(witness.prover),
        "cpu": witness.form.cpu,
        "manual": witness.form.manual,
        "translated": witness.translated,
        "judged_until": witness.blind or None,
    }


def replayed(kernel: Kernel, played: list[Played], info: bool) -> dict[str, Any]:
    """What a replay came to."""
    from vmaplab.calls.scenario import text_of

    return {
        **_kernel(kernel),
        "cpus": kernel.cpus,
        "steps": [
            {
                "call": text_of(one.operation),
                "cpu": one.cpu,
                "returns": one.value,
                "returns_hex": f"{one.value:#x}" if isinstance(one.value, int) and one.value >= 0 else None,
                "why": one.why or None,
                "called": one.called,
                "end": one.end or None,
                "bug": one.bug,
                "leaves": {str(size): count for size, count in one.leaves.items()},
                "warnings": list(one.warnings),
                "set_memory": _set_memory(one.verdict),
                "parts": [_part(*part) for part in one.parts],
                "text": one.text or None,
                "pfns": one.frames,
            }
            for one in played
        ],
        "areas": [{**address("addr", area.addr), "size": area.size, "flags": area.flags} for area in kernel.areas],
        "waiting": kernel.waiting_bytes,
        "vmallocinfo": kernel.vmalloc_info().splitlines() if info else None,
    }


def _part(at: int, size: int, phys: int) -> dict[str, Any]:
    return {"at": at, "size": size, "phys": phys if phys != ZEROES else None}


def _set_memory(verdict: SetMemory | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    return {
        "errno": verdict.errno,
        "why": verdict.why or None,
        "oops": verdict.oops,
        "unmapped": verdict.unmapped,
        "hazards": [{**address("va", hazard.va), **hazard._asdict()} for hazard in verdict.hazards],
    }
