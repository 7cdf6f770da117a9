# SPDX-License-Identifier: GPL-2.0-only
"""Answers of a series, kept by the names of all that they depend on."""

from __future__ import annotations

import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

import vmaplab
from vmaplab._cache import cache_root
from vmaplab.object.tools import digest, forget

_KEPT = 4000
_ANSWER = "answer"


def own_state() -> str:
    """The state of vmaplab: another one may say something else."""
    if "state" not in _known:
        here = Path(vmaplab.__file__).parent
        said = (here / "report", here / "cli")
        files = sorted(path for path in here.rglob("*") if path.suffix in (".py", ".c", ".h", ".txt"))
        files = [path for path in files if not any(path.is_relative_to(folder) for folder in said)]
        _known["state"] = digest(path.read_bytes() for path in files)
    return _known["state"]


_known: dict[str, str] = {}


def of_key(key: str) -> Any:
    """What was kept by that name; None if nothing is."""
    path = cache_root() / "series" / "answers" / key / _ANSWER
    try:
        return pickle.loads(path.read_bytes())
    except (OSError, pickle.PickleError, EOFError, AttributeError):
        return None


def keep(key: str, value: Any) -> None:
    """Keep it, in place of the oldest if there are many."""
    path = cache_root() / "series" / "answers" / key / _ANSWER
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        half.write_bytes(pickle.dumps(value))
        half.replace(path)
        forget(path.parent.parent, _KEPT)
