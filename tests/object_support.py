"""What the tests of the kernel's own code share: objects built once, and skipped where they cannot be."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from vmaplab.errors import InputError
from vmaplab.object import targets
from vmaplab.object.build import Built, Tools, archive_of, build

EXAMPLE = Path(__file__).parent.parent / "examples" / "batched_vmap.c"


def missing() -> str:
    """Why no kernel code can be built here; empty if it can."""
    try:
        for target in targets.TARGETS.values():
            Tools(target.family)
        archive_of()
    except InputError as error:
        return str(error)
    return ""


@cache
def object_of(arch: str, snippet: Path | None = None, call: str = "vmap") -> Built:
    """The object of the default tree for ``arch``."""
    return build(targets.get(arch), snippet=snippet, call=call)


needs_kernel = pytest.mark.skipif(bool(missing()), reason=missing() or "-")
