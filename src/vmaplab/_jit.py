"""Compile the functions that mirror the kernel with numba, and keep the result for the next start.

With NUMBA_DISABLE_JIT=1 the same functions run as plain Python, for debugging and coverage.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

_config = cast(Any, numba.config)

F = TypeVar("F", bound=Callable[..., Any])

_KEPT_CACHES = 3


def _source_tag() -> str:
    """Names the state of all our sources: numba alone does not see that a callee in another file changed."""
    state = hashlib.sha256(numba.__version__.encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        stat = path.stat()
        state.update(f"{path}:{stat.st_mtime_ns}:{stat.st_size}".encode())
    return state.hexdigest()[:16]


def _cache_dir() -> str:
    """A directory for this state of the sources; older ones are removed. Empty if none can be written."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "vmaplab" / "numba"
    path = root / _source_tag()
    if path.is_dir():
        return str(path) if os.access(path, os.W_OK) else ""
    try:
        path.mkdir(parents=True, exist_ok=True)
        others = sorted((d for d in root.iterdir() if d != path), key=lambda d: d.stat().st_mtime)
        for old in others[: -_KEPT_CACHES + 1]:
            shutil.rmtree(old, ignore_errors=True)
    except OSError:
        return ""
    return str(path)


_CACHE_DIR = "" if _config.DISABLE_JIT else _cache_dir()


def _compiled(function: F, **options: Any) -> F:
    if _config.DISABLE_JIT:
        return function
    saved = _config.CACHE_DIR
    _config.CACHE_DIR = _CACHE_DIR
    try:
        return cast(F, numba.njit(cache=bool(_CACHE_DIR), error_model="numpy", nogil=True, **options)(function))
    finally:
        _config.CACHE_DIR = saved


def jit(function: F) -> F:
    """Compile ``function`` with ``numba.njit`` at its first call, cached on disk where that is possible."""
    return _compiled(function)


def inlined(function: F) -> F:
    """As :func:`jit`, and copy it into its callers: for the few functions whose call costs more than their work."""
    return _compiled(function, inline="always")
