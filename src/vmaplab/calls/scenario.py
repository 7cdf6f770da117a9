# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios: short programs of calls, as text that can be pasted. docs/calls.md has the steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from vmaplab.calls.kinds import merged
from vmaplab.calls.operation import Operation
from vmaplab.calls.table import STEPS
from vmaplab.errors import InputError
from vmaplab.pages.runs import frame_number

_FIRST = {"boot": "boot nohugeiomap", "pages": "pages 0x100000"}
"""What can stand before the steps, and is none."""


@dataclass(frozen=True)
class Scenario:
    """Steps, and the machine on which they run.

    :param boot_args: boot arguments, separated by blanks.
    :param total_pages: pages of RAM, or None for all that the architecture can address.
    """

    steps: tuple[Operation, ...]
    boot_args: str = ""
    total_pages: int | None = None

    def __str__(self) -> str:
        words = [f"boot {self.boot_args}"] if self.boot_args else []
        words += [f"pages {self.total_pages:#x}"] if self.total_pages else []
        return "; ".join([*words, *map(text_of, self.steps)])

    def short(self, most: int = 60) -> str:
        """The same text, cut where it is too long for a line."""
        text = str(self)
        return text if len(text) < most else text[: most - 4] + " ..."


def text_of(step: Operation) -> str:
    """``step`` as text."""
    words = [step.call, *(kind.text(step) for kind in STEPS[step.call].form)]
    return " ".join(word for word in words if word)


def parse(text: str) -> Scenario:
    """The scenario that ``text`` spells: steps separated by semicolons or lines; ``#`` begins a comment.

    :raises InputError: naming the step that cannot be read.
    """
    steps: list[Operation] = []
    boot_args, total_pages = "", None
    for part in re.split(r";|\n", re.sub(r"#.*", "", text)):
        words = part.split()
        if not words:
            continue
        word = words[0]
        form = _FIRST.get(word) or (STEPS[word].example if word in STEPS else "")
        if not form:
            raise InputError(f"'{word}' is no step; the steps are {', '.join([*_FIRST, *STEPS])}")
        try:
            if word in _FIRST and steps:
                raise ValueError("it comes first, if at all")
            if word == "boot":
                boot_args = " ".join(words[1:])
            elif word == "pages":
                (total_pages,) = (frame_number(number) for number in words[1:])
            else:
                steps.append(_parse_step(word, words[1:], len(steps)))
        except (ValueError, IndexError, OverflowError) as error:
            why = str(error) if " " in str(error) and "literal" not in str(error) else "it does not look like that"
            raise InputError(f"the step '{part.strip()}': {why}; write '{form}'") from None
    if not steps:
        raise InputError("a scenario has one step at least, e.g. 'vmap 0x100+16; vunmap @0'")
    return Scenario(tuple(steps), boot_args, total_pages)


def _parse_step(call: str, words: list[str], before: int) -> Operation:
    """What must be there comes first, in order; what may be left out follows in any order."""
    form = STEPS[call].form
    needed = [kind for kind in form if not kind.optional]
    options = {kind: "" for kind in form if kind.optional}
    if len(words) < len(needed):
        raise ValueError(call)
    for word in words[len(needed) :]:
        kind = next((kind for kind, taken in options.items() if not taken and kind.takes(word)), None)
        if kind is None:
            raise ValueError(f"'{word}' cannot stand there" if options else call)
        options[kind] = word
    fields: dict[str, Any] = {}
    for kind, word in [*zip(needed, words, strict=False), *options.items()]:
        fields = merged(fields, kind.parse(word, before))
    return Operation(call, **fields)
