# SPDX-License-Identifier: GPL-2.0-only
"""What a tree is, asked of its object: the values it tells, the rules its vmap() follows, the changes it shows.

The nearest row of :mod:`vmaplab.release` says the rest. What is asked, and what came of it, is part of each verdict.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from vmaplab.arch import Arch, Told
from vmaplab.calls.scenario import Scenario
from vmaplab.changes import Change
from vmaplab.check.asked import QUESTIONS, question
from vmaplab.check.differential import compare
from vmaplab.check.sides import ModelSide, ObjectSide
from vmaplab.config import CONFIG
from vmaplab.errors import KernelFault, Violation, VmapError
from vmaplab.kernel import Kernel
from vmaplab.object.build import Built
from vmaplab.object.kernel import ObjectKernel
from vmaplab.pages.runs import Pfns
from vmaplab.pages.shapes import Shapes
from vmaplab.release import DEFAULT, RELEASES, Release, of_version
from vmaplab.release.base import NO_BATCHING
from vmaplab.release.trees import TREES


@dataclass(frozen=True)
class TreeFacts:
    """What a tree is taken for.

    :param release: the nearest row with what the tree told, and the rules that its vmap() shows.
    :param row: that row.
    :param notes: what a reader must know of this before he believes a verdict, a line each.
    :param unknown: the rules are the nearest ones only.
    """

    release: Release
    row: Release
    notes: tuple[str, ...] = ()
    unknown: bool = False

    def under(self, wanted: Release) -> Release:
        """The model to compare with when a reader asks for ``wanted``: a patch's rules are taken over this tree."""
        if wanted.rules is NO_BATCHING:
            return wanted
        changes = (self.release.changes or frozenset()) | wanted.rules.changes
        name = f"{wanted.name} over {self.row.tree.version}"
        return replace(self.release, name=name, rules=wanted.rules, changes=changes)


def model_config(built: Built) -> dict[str, bool]:
    """The configuration of the model, as the object was built."""
    return {key: built.config.get(key) == "y" for key in CONFIG}


def facts_of(built: Built) -> TreeFacts:
    """What the tree of ``built`` is, on the architecture of ``built``.

    :raises InputError: if the object does not boot, or calls what nobody answers.
    """
    row = of_version(built.version)
    kernel = ObjectKernel(built)
    arch = row.on(built.target.arch)
    told = _told(arch, kernel)
    nodes = {Change.VMAP_NODES}
    early = built.has_nodes and not row.tree.changes & nodes
    changes = row.tree.changes | nodes if built.has_nodes else row.tree.changes - nodes
    release = replace(row, changes=changes, told={arch.name: told})
    rules, notes, unknown = _rules_of(kernel, release, model_config(built))
    if rules is not None:
        release = TreeFacts(release, row).under(rules)
    release, shown = _shown(built, release, row)
    differing = _differences(arch.telling, told, [level.name for level in arch.levels])
    notes = [
        *_newer(built.version, row),
        *(f"{one}, as the tree says" for one in differing),
        *([_already(Change.VMAP_NODES)] if early else []),
        *shown,
        *notes,
    ]
    return TreeFacts(release, row, tuple(notes), unknown)


def _shown(built: Built, release: Release, row: Release) -> tuple[Release, list[str]]:
    """Changes of later trees that this one has already, and that in words."""
    later = frozenset(change for tree in TREES if tree.number > row.tree.number for change in tree.changes)
    kernel, name, config = ObjectSide(built), built.target.arch, model_config(built)

    def same(scenario: Scenario, release: Release) -> bool:
        model = ModelSide(release.on(name), release, config, guided=not built.has_nodes)
        return compare(scenario, model, kernel) == ""

    notes = []
    for change in sorted(later - (release.changes or frozenset()), key=lambda it: it.text):
        asked = QUESTIONS.get(change)
        scenario = question(change, release.on(name)) if asked and asked.cpus == 1 and not asked.wild else None
        if scenario is None or same(scenario, release):
            continue
        having = replace(release, changes=(release.changes or frozenset()) | {change})
        if same(scenario, having):
            release = having
            notes.append(_already(change))
    return release, notes


def _already(change: Change) -> str:
    return f"it has a change of {change.value.since} already: {change.text}"


def between(tree: TreeFacts, base: TreeFacts, arch: str) -> list[str]:
    """What is known to differ between two trees on ``arch``, a line each."""
    ours, theirs = (facts.release.changes or frozenset() for facts in (tree, base))
    family = tree.release.on(arch).family
    found = []
    for sign, changes in (("new", ours - theirs), ("gone", theirs - ours)):
        for change in sorted(changes, key=lambda it: it.text):
            where, colon, _ = change.text.partition(": ")
            if not colon or where == family or " " in where:
                found.append(f"{sign} in the tree: {change.text} ({change.source})")
    levels = [level.name for level in tree.release.on(arch).levels]
    telling = tree.release.on(arch).telling, base.release.on(arch).telling
    return found + _differences(telling[1], telling[0], levels, "the base")


def _newer(version: str, row: Release) -> list[str]:
    number = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
    if number > TREES[-1].number:
        return [f"Linux {version} is newer than every tree that vmaplab knows; {row.name} is the nearest"]
    if number != row.tree.number:
        return [f"Linux {version} is no tree that vmaplab was compared with; {row.name} is the nearest older one"]
    return []


def _told(arch: Arch, kernel: ObjectKernel) -> Told:
    """What the booted object says of itself, and the bits of the tables that it makes; the row's where it makes none.

    A vmap() that goes wrong is for the comparison to find.
    """
    bits = [level.table_bits for level in arch.levels]
    with suppress(VmapError, KernelFault, Violation):
        addr = kernel.vmap(np.array([1], dtype=np.uint64)).addr
        words, table = kernel.live_tables().view("<u8"), kernel.table_root
        into, out = arch.table_shift
        for number in range(len(arch.levels) - 1, 0, -1):
            level = arch.levels[number]
            at = (table - arch.table_base) // 8 + ((addr >> level.shift) & ((1 << level.bits) - 1))
            entry = int(words[at]) if 0 <= at < len(words) else 0
            if not entry:
                break
            table = ((entry & arch.table_mask) >> out) << into
            bits[number] = entry & ~arch.table_mask
    kernel.reset()
    return kernel.arch.telling._replace(table_bits=tuple(bits))


def _differences(row: Told, told: Told, levels: list[str], other_name: str = "the row") -> list[str]:
    """Values that the object tells and that the row has otherwise, in words."""
    found = [
        f"{name.upper()} is {mine:#x} ({other_name}: {other:#x})"
        for name, mine, other in zip(Told._fields[:-1], told, row, strict=False)
        if mine != other
    ]
    tables: dict[tuple[int, int], list[str]] = {}
    for name, mine, other in list(zip(levels, told.table_bits, row.table_bits, strict=True))[1:]:
        if mine != other:
            tables.setdefault((mine, other), []).append(name)
    found += [
        f"tables are entered in {'/'.join(names)} with {mine:#x} ({other_name}: {other:#x})"
        for (mine, other), names in tables.items()
    ]
    return found


def _rules_of(
    kernel: ObjectKernel, release: Release, config: dict[str, bool]
) -> tuple[Release | None, list[str], bool]:
    """The rules whose leaves are those of the object's vmap(), for arrays that tell rules apart; notes; if none are.

    Of rules that build alike (they differ in what they look at), the newest.
    """
    arrays = Shapes(kernel.arch).corpus()
    built = [_leaves(kernel, pfns) for pfns in arrays]
    kernel.reset()
    page = kernel.arch.page_size
    if all(leaves is not None and all(size == page for _, size, _ in leaves) for leaves in built):
        return None, [], False
    best, fewest = RELEASES[DEFAULT], len(arrays) + 1
    for candidate in reversed(RELEASES.values()):
        if not candidate.rules.batches:
            continue
        as_patch = TreeFacts(release, release).under(candidate)
        wrong = 0
        for pfns, leaves in zip(arrays, built, strict=True):
            wrong += _leaves(Kernel(kernel.arch.name, as_patch, config=config), pfns) != leaves
        if wrong < fewest:
            best, fewest = candidate, wrong
    if fewest == len(arrays):  # it is no batching at all: the comparison will say what it is
        return None, [], False
    if fewest:
        share = f"{fewest} of {len(arrays)} arrays come out otherwise"
        return (
            best,
            [f"its vmap() follows no rules that vmaplab knows; those of {best.name} are nearest: {share}"],
            True,
        )
    return best, [f"its vmap() batches as in {best.name}"], False


def _leaves(kernel: Kernel | ObjectKernel, pfns: Pfns) -> list[tuple[int, int, int]] | None:
    """What vmap() builds: leaves relative to the area; None if it refuses or goes wrong."""
    try:
        if isinstance(kernel, ObjectKernel):
            kernel.reset()
        mapping = kernel.vmap(pfns)
        return [(int(va) - mapping.addr, int(size), int(pfn)) for va, size, pfn in mapping.leaves]
    except (VmapError, KernelFault, Violation):
        return None
