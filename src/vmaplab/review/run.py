# SPDX-License-Identifier: GPL-2.0-only
"""Run the experiments on a subject."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vmaplab.errors import InputError, KernelFault, Violation, VmapError
from vmaplab.review.experiments import EXPERIMENTS
from vmaplab.review.findings import Finding, Review, merged
from vmaplab.review.subject import Subject


def review(subject: Subject, only: Iterable[str] = (), advance: Callable[[], None] = lambda: None) -> Review:
    """Ask every question on every architecture of ``subject``.

    :param only: names of experiments; all if empty.
    :param advance: called after each experiment on each architecture.
    :raises InputError: for a name that is no experiment.
    """
    names = [experiment.name for experiment in EXPERIMENTS]
    for name in only:
        if name not in names:
            raise InputError(f"unknown experiment '{name}'; known: {', '.join(names)}")
    chosen = [it for it in EXPERIMENTS if (not only or it.name in only) and it.of(subject)]
    found: list[Finding] = []
    unfinished: list[tuple[str, str, str]] = []
    for experiment in chosen:
        for arch in subject.arches:
            try:
                for finding in experiment.ask(subject, arch):
                    found.append(finding)  # noqa: PERF402 - those before an error count
            except (VmapError, KernelFault, Violation) as error:
                unfinished.append((experiment.name, arch, str(error)))
                subject.restart()
            advance()
    tried = f" (tried: {', '.join(subject.options)})"
    asked = tuple((it.name, it.question + tried * (it.name == "coupling")) for it in chosen)
    return Review(subject.name, tuple(subject.arches), asked, tuple(merged(found)), tuple(unfinished))
