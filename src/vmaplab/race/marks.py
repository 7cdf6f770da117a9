# SPDX-License-Identifier: GPL-2.0-only
"""How each instruction touches memory that CPUs share: plainly, or as the source or the instruction itself says.

A load or store is marked where its line says READ_ONCE() or its like (tools/memory-model/Documentation/access-marking
of the kernel); an atomic instruction is marked in any case.
"""

from __future__ import annotations

import re
from pathlib import Path

import capstone
import numpy as np
from numpy.typing import NDArray

from vmaplab.object.bind import OWN
from vmaplab.object.family import ACQUIRES, MARKED, RELEASES, Family
from vmaplab.object.image import Image
from vmaplab.race.hooks import OURS

_RELEASE = re.compile(r"\b(?:smp_store_release|rcu_assign_pointer|smp_store_mb|\w*_release|hlist\w*_rcu|xchg)\b")
_ACQUIRE = re.compile(
    r"\b(?:smp_load_acquire|smp_cond_load_acquire|rcu_dereference\w*|\w*_acquire|xchg|list_\w+_rcu)\b"
)
_ATOMIC = re.compile(
    r"\b(?:\w*cmpxchg|(?:arch_|raw_)?atomic(?:64|_long)?_(?:fetch_\w+|\w+_return|\w+_and_test|\w+_unless|inc_not_zero"
    r"|add_negative|try_\w+|xchg)|test_and_(?:set|clear|change)_bit)(?<!_relaxed)(?<!_acquire)(?<!_release)\b"
)
"""Those that return something, and so order what is before them and behind them (Documentation/atomic_t.txt)."""
_RELAXED = re.compile(r"\b(?:\w*xchg_relaxed|(?:arch_|raw_)?atomic(?:64|_long)?_\w+|(?:set|clear|change)_bit)\b")
_MARKED = re.compile(
    r"\b(?:_{0,2}READ_ONCE\w*|_{0,2}WRITE_ONCE\w*|data_race|RB_EMPTY_ROOT|\w*ptep_get\w*|p[gu4m]dp?_?get\w*|volatile)\b"
)
_STATEMENT = 4
"""Lines of a statement before and after one of its lines, at most."""


def kinds_of(image: Image, family: Family, tree: Path) -> NDArray[np.uint8]:
    """Per byte of the code, where an instruction begins, its bits."""
    start, end = image.text
    kinds = np.zeros(end - start, dtype=np.uint8)
    _mark_lines(kinds, image, tree)
    for address, size, mnemonic, operands in capstone.Cs(*family.disassembler).disasm_lite(image.code, start):
        if ordering := family.ordering(mnemonic, operands):
            kinds[address - start : address - start + size] |= ordering
    first, last = (image.address(name) - start for name in OWN)
    kinds[first:last] |= OURS
    return kinds


def _mark_lines(kinds: NDArray[np.uint8], image: Image, tree: Path) -> None:
    """Set the bits that the source lines say."""
    lines, (start, _) = image.lines, image.text
    texts = [(tree / name).read_text(errors="replace").splitlines() for name in lines.files]
    known: dict[tuple[int, int], int] = {}
    starts = lines.starts.view(np.uint64).astype(object)
    for row in range(len(starts)):
        file, line = int(lines.file[row]), int(lines.line[row])
        if file < 0:
            continue
        if (file, line) not in known:
            known[file, line] = bits_of(texts[file], line)
        if bits := known[file, line]:
            last = int(starts[row + 1]) if row + 1 < len(starts) else start + len(kinds)
            kinds[int(starts[row]) - start : last - start] |= bits


def bits_of(source: list[str], line: int) -> int:
    """The bits of the statement that has ``line``, from 1, of ``source``."""
    if not 0 < line <= len(source):
        return 0
    first = last = line - 1
    while first > 0 and line - first <= _STATEMENT and not _ends(source[first - 1]):
        first -= 1
    while last + 1 < len(source) and last - line < _STATEMENT and not _ends(source[last]):
        last += 1
    text = " ".join(source[first : last + 1])
    bits = 0
    if _MARKED.search(text) or _RELAXED.search(text):
        bits |= MARKED
    if _RELEASE.search(text):
        bits |= MARKED | RELEASES
    if _ACQUIRE.search(text):
        bits |= MARKED | ACQUIRES
    if _ATOMIC.search(text):
        bits |= MARKED | ACQUIRES | RELEASES
    return bits


def _ends(text: str) -> bool:
    """Whether a statement ends with this line."""
    code = text.split("//")[0].rstrip().rstrip("\\").rstrip()
    return not code or code.endswith((";", "{", "}", "*/", ":")) or code.lstrip().startswith("#")
