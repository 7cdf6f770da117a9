# SPDX-License-Identifier: GPL-2.0-only
"""What a review finds."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vmaplab.review.subject import Pfns, Table


@dataclass(frozen=True)
class Finding:
    """One thing that a reviewer would remark on, with the smallest array that shows it.

    :param experiment: which experiment found it.
    :param key: what tells it from other findings of the experiment, on any architecture.
    :param headline: one sentence.
    :param arch: the architecture of the example.
    :param arches: all on which it shows.
    :param pfns: the array.
    :param ours: what the subject built.
    :param other: what it is compared with, and ``other_name`` what that is.
    :param cost: the difference in numbers, one line.
    :param commands: the words after ``vmaplab`` that show it again, one list per command.
    :param evidence: a small table: header and rows.
    :param note: what callers must know; no remark on the subject.
    :param lines: what shows it, where no array does; then there are no tables.
    """

    experiment: str
    key: str
    headline: str
    arch: str
    pfns: Pfns
    ours: Table
    other: Table
    ours_name: str
    other_name: str
    cost: str
    commands: tuple[tuple[str, ...], ...]
    evidence: tuple[tuple[str, ...], ...] = ()
    arches: tuple[str, ...] = ()
    note: bool = False
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Review:
    """What came of all experiments.

    :param subject: whose ``vmap()`` it was.
    :param arches: on which architectures.
    :param experiments: those that were run: name and question.
    :param unfinished: experiment, architecture and reason where ``vmap()`` refused an array or went wrong.
    """

    subject: str
    arches: tuple[str, ...]
    experiments: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...] = ()
    unfinished: tuple[tuple[str, str, str], ...] = ()

    @property
    def clean(self) -> bool:
        """Whether every question was asked to the end, and nothing came of it but notes."""
        return not self.unfinished and all(finding.note for finding in self.findings)


def merged(findings: list[Finding]) -> list[Finding]:
    """One finding per experiment and key: the example of the first architecture, and all architectures."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.experiment, finding.key), []).append(finding)
    return [
        replace(group[0], arches=tuple(dict.fromkeys(finding.arch for finding in group))) for group in groups.values()
    ]
