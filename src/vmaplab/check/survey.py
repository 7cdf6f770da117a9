# SPDX-License-Identifier: GPL-2.0-only
"""A first look at a tree: on each architecture, does it build, boot and map, which row is it, what was guessed?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from vmaplab.check.campaign import check
from vmaplab.check.plan import Plan, Verdict
from vmaplab.check.tree import TreeFacts, facts_of, model_config
from vmaplab.errors import InputError, KernelFault, VmapError
from vmaplab.object import targets
from vmaplab.object.build import Built, build

CASES = 200
"""Scenarios that are compared on each architecture."""


@dataclass(frozen=True)
class Surveyed:
    """What came of one architecture, as far as it went.

    :param arch: its name.
    :param built: the object, if it builds.
    :param facts: what the tree is taken for, if the object boots and vmap() maps.
    :param verdict: of the comparison with that, if it came to one.
    :param why: what stopped it, or "".
    """

    arch: str
    built: Built | None = None
    facts: TreeFacts | None = None
    verdict: Verdict | None = None
    why: str = ""

    @property
    def understood(self) -> bool:
        """Whether all of it is: nothing stopped it, nothing differs, nothing was guessed."""
        return bool(
            self.built
            and self.facts
            and self.verdict
            and not self.verdict.difference
            and not self.built.guessed
            and not self.facts.unknown
        )


def survey(
    tree: Path | None, names: Iterable[str], config: Iterable[str] = (), advance: Callable[[], None] = lambda: None
) -> list[Surveyed]:
    """Look at ``tree`` on each of the architectures ``names``; what stops one does not stop the others.

    :param config: options beyond the smallest configuration, ``KEY=value``.
    :param advance: called after each architecture.
    """
    found = []
    options = tuple(config)
    for name in names:
        found.append(_look(name, tree, options))
        advance()
    return found


def _look(name: str, tree: Path | None, config: tuple[str, ...]) -> Surveyed:
    done = Surveyed(name)
    try:
        built = build(targets.get(name), tree, config)
        done = Surveyed(name, built)
        facts = facts_of(built)
        done = Surveyed(name, built, facts)
        verdict = check(Plan(built, None, facts.release, model_config(built), seed=1), CASES)
    except (InputError, KernelFault, VmapError) as error:
        return Surveyed(name, done.built, done.facts, None, str(error))
    return Surveyed(name, built, facts, verdict)
