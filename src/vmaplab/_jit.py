# SPDX-License-Identifier: GPL-2.0-only
"""Compile the functions that mirror the kernel with numba, and keep the result for the next start.

The same functions run as plain Python with NUMBA_DISABLE_JIT=1, for debugging and coverage, and after
:func:`stay_plain`, for work so small that starting the compiler would take longer.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from vmaplab._cache import ELSEWHERE, cache_root

F = TypeVar("F", bound=Callable[..., Any])

_KEPT_CACHES = 3
_SAID = "VMAPLAB_CACHE_SAID"  # to the processes that this one starts
_plain = False
_cache_dir: str | None = None


def stay_plain() -> None:
    """Compile nothing in this process; to be called before any module with compiled functions is imported."""
    global _plain
    _plain = True
    np.seterr(over="ignore")  # compiled code wraps around silently


if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
    stay_plain()


_COMPILES = re.compile(r"^from vmaplab\._jit import .*\b(?:jit|allocating|inlined|callback|native)\b", re.MULTILINE)
_CONSTANTS = re.compile(r"^from vmaplab\.([\w.]+) import (\([^)]*\)|.*)$", re.MULTILINE)


def compiled_sources() -> list[Path]:
    """The files whose contents go into compiled code: those with compiled functions, and where their constants are.

    numba sees that a file changed, not that a constant or a function of another file did, which it has put in line.
    """
    package = Path(__file__).parent
    texts = {path: path.read_text() for path in package.rglob("*.py")}
    found = {path for path, text in texts.items() if _COMPILES.search(text)} | {Path(__file__)}
    todo = list(found)
    while todo:
        for module, names in _CONSTANTS.findall(texts[todo.pop()]):
            path = package.joinpath(*module.split(".")).with_suffix(".py")
            if path in texts and path not in found and re.search(r"\b[A-Z][A-Z_0-9]+\b", names):
                found.add(path)
                todo.append(path)
    return sorted(found)


def _source_tag(version: str) -> str:
    """Names the state of all that is compiled."""
    state = hashlib.sha256(version.encode())
    for path in compiled_sources():
        state.update(f"{path}\0".encode() + path.read_bytes() + b"\0")
    return state.hexdigest()[:16]


def _make_cache_dir(version: str) -> str:
    """A directory for this state of the sources; older ones are removed. Empty if none can be written."""
    root = cache_root() / "numba"
    path = root / _source_tag(version)
    try:
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
            others = sorted((d for d in root.iterdir() if d != path), key=lambda d: d.stat().st_mtime)
            for old in others[: -_KEPT_CACHES + 1]:
                shutil.rmtree(old, ignore_errors=True)
        if os.access(path, os.W_OK):
            return str(path)
        why = "it is not writable"
    except OSError as error:
        why = error.strerror or str(error)
    if not os.environ.get(_SAID):
        os.environ[_SAID] = "1"
        print(
            f"vmaplab: no cache in {root}: {why}; each start compiles anew, half a minute. {ELSEWHERE}", file=sys.stderr
        )
    return ""


def _compiled(function: F, **options: Any) -> F:
    if _plain:
        return function
    import numba

    return cast(F, _kept(lambda **kept: numba.njit(error_model="numpy", nogil=True, **options, **kept)(function)))


def _kept(compiled: Callable[..., Any]) -> Any:
    """What ``compiled`` gives, which is told whether numba can keep it in our cache."""
    import numba

    global _cache_dir
    if _cache_dir is None:
        _cache_dir = _make_cache_dir(numba.__version__)
    config = cast(Any, numba.config)
    saved, config.CACHE_DIR = config.CACHE_DIR, _cache_dir
    try:
        return compiled(cache=bool(_cache_dir))
    finally:
        config.CACHE_DIR = saved


def jit(function: F) -> F:
    """Compile ``function`` with ``numba.njit`` at its first call, cached on disk where that is possible.

    It makes no array and returns none: references are not counted, which takes a fifth of the time of a short walk.
    """
    return _compiled(function, _nrt=False)


def allocating(function: F) -> F:
    """As :func:`jit`, for the few functions that make arrays."""
    return _compiled(function, _nrt=True)


def inlined(function: F) -> F:
    """As :func:`jit`, and copy it into its callers: for the few functions whose call costs more than their work."""
    return _compiled(function, inline="always", _nrt=False)


def callback(signature: Any) -> Callable[[F], Any]:
    """Compile a function that C code calls: also where all else stays plain Python. Cached as :func:`jit`."""
    import numba

    return lambda function: _native(lambda **options: numba.cfunc(signature, **options)(function))


def native(function: F) -> F:
    """Compile a function that a :func:`callback` calls: as that, also where all else stays plain Python."""
    import numba

    return cast(F, _native(lambda **options: numba.njit(error_model="numpy", nogil=True, **options)(function)))


def _native(compiled: Callable[..., Any]) -> Any:
    import numba

    config = cast(Any, numba.config)
    saved, config.DISABLE_JIT = config.DISABLE_JIT, 0
    try:
        return _kept(compiled)
    finally:
        config.DISABLE_JIT = saved


_C_TYPES: dict[Any, str] = {ctypes.c_void_p: "uintp", ctypes.c_uint64: "uint64", ctypes.c_int: "int32"}


def foreign(library: ctypes.CDLL, name: str, *arguments: type) -> Any:
    """The C function ``name`` of ``library``, which returns an int, for compiled and for plain code.

    :param arguments: their ctypes: ``c_void_p``, ``c_uint64`` or ``c_int``.
    """
    if not _plain:
        return for_callbacks(library, name, *arguments)
    function = getattr(library, name)
    function.argtypes, function.restype = arguments, ctypes.c_int
    return function


def for_callbacks(library: ctypes.CDLL, name: str, *arguments: type) -> Any:
    """As :func:`foreign`, for a :func:`callback`: what is compiled also where all else stays plain Python."""
    from llvmlite import binding
    from numba.core import types
    from numba.core.typing import templates

    binding.load_library_permanently(library._name)  # compiled code finds it by its name, also from the cache
    given = [getattr(types, _C_TYPES[argument]) for argument in arguments]
    return types.ExternalFunction(name, cast(Any, templates).signature(types.int32, *given))
