# SPDX-License-Identifier: GPL-2.0-only
"""Pages that need nothing else: one file, light and dark, with what moves in it by keyboard, too."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vmaplab import __version__
from vmaplab.report.pictures import MARKS, colours


def render(template: str, **values: Any) -> str:
    """The page that a template makes; what is no markup of ours is text."""
    environment = Environment(
        loader=PackageLoader("vmaplab", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    look = {"version": __version__, "colours": Markup(colours()), "marks": Markup(MARKS)}
    return environment.get_template(template).render(look | values)
