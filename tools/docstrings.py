# SPDX-License-Identifier: GPL-2.0-only
"""Extension of griffe: docstrings as Markdown, without Sphinx's roles, and with examples as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|meth|func|attr|data|mod|exc):`~?(?:[\w.]*\.)?(\w+)`")
_EXAMPLE = re.compile(r"(?m)^>>> .*(?:\n(?!\n).*)*")


def as_markdown(text: str) -> str:
    """A docstring without what only Sphinx reads."""
    return _EXAMPLE.sub(lambda found: f"```python\n{found[0]}\n```", _ROLE.sub(r"`\1`", text))


class Docstrings(griffe.Extension):
    """Rewrites each docstring as it is loaded."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
