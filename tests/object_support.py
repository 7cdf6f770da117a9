# SPDX-License-Identifier: GPL-2.0-only
"""What the tests of the kernel's own code share: objects built once, and skipped where they cannot be."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from vmaplab.errors import InputError
from vmaplab.object import targets
from vmaplab.object.build import Built, archive_of, build, tree_of
from vmaplab.object.tools import tools_for

SNIPPETS = Path(__file__).parent / "snippets"
EXAMPLE = Path(__file__).parent.parent / "examples" / "batched_vmap.c"


def missing() -> str:
    """Why no kernel code can be built here; empty if it can."""
    try:
        for target in targets.TARGETS.values():
            tools_for(target.family)
        archive_of()
    except InputError as error:
        return str(error)
    return ""


@cache
def object_of(arch: str, snippet: Path | None = None, call: str = "vmap") -> Built:
    """The object of the default tree for ``arch``."""
    return build(targets.get(arch), snippet=snippet, call=call)


def changed_tree(tree: Path, source: str, right: str, wrong: str, once: bool = True) -> Path:
    """Makes ``tree`` like the default one, with ``right`` replaced in ``source``; its other files are links.

    :param once: ``right`` stands there once.
    """
    original, here = tree_of(), tree
    for name in Path(source).parts:
        here.mkdir()
        for entry in (original / here.relative_to(tree)).iterdir():
            if entry.name != name:
                (here / entry.name).symlink_to(entry)
        here /= name
    text = (original / source).read_text()
    assert text.count(right) == 1 if once else right in text
    here.write_text(text.replace(right, wrong))
    return tree


needs_kernel = pytest.mark.kernel
"""Runs the kernel's own code: skipped where it cannot be built, unless VMAPLAB_REQUIRE_KERNEL is set (conftest.py)."""
