# SPDX-License-Identifier: GPL-2.0-only
"""Hook of MkDocs: what the Markdown files say of files beside the manual, without a link that leads nowhere in it."""

from __future__ import annotations

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./|(?=[\w-]+\.txt\)))([^)]+)\)")
_SHIM = re.compile(r'<script src="https://unpkg\.com/iframe-worker/shim"></script>')


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to sources, examples and mails become their names."""
    return _OUTSIDE.sub(lambda found: _named(found[1], found[2]), markdown)


def _named(text: str, path: str) -> str:
    return f"`{path}`" if text == path else f"{text} (`{path}`)"


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """The search of a page that is opened as a file needs a script; the theme takes it from the network."""
    up = "../" * page.url.count("/")
    return _SHIM.sub(f'<script src="{up}local-worker.js"></script>', output)


def on_post_template(output_content: str, **_: Any) -> str:
    """The same of the page for what is not there."""
    return _SHIM.sub('<script src="local-worker.js"></script>', output_content)
