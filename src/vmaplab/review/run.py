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
    chosen = [experiment for experiment in EXPERIMENTS if not only or experiment.name in only]
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
    asked = tuple((experiment.name, experiment.question) for experiment in chosen)
    return Review(subject.name, tuple(subject.arches), asked, tuple(merged(found)), tuple(unfinished))
