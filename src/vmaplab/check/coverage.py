# SPDX-License-Identifier: GPL-2.0-only
"""Which lines and branches of the kernel's sources have run: basic blocks of the emulator, lines of DWARF."""

from __future__ import annotations

import filecmp
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import capstone
import numpy as np
from numpy.typing import NDArray

from vmaplab.errors import InputError
from vmaplab.object.build import Built, check_tree, tree_of
from vmaplab.object.image import Image

Ran = NDArray[np.uint8]
"""Per byte of the code, not 0 where a basic block begins that has run: its bytes; see :class:`.Emulator`."""

VMALLOC = "mm/vmalloc.c"

_EARLY = "areas from before vmalloc_init(): none is registered here"
NO_STEP = {
    "is_vmalloc_or_module_addr": "no step calls it",
    "vmalloc_to_pfn": "vmalloc_to_page() does the work; 'lookup' calls that",
    "vmalloc_nr_pages": "the engine reads the counter itself",
    "register_vmap_purge_notifier": "for drivers: no step calls it",
    "unregister_vmap_purge_notifier": "for drivers: no step calls it",
    "__get_vm_area_caller": "for modules: no step calls it",
    "vm_area_page_order": "inlined where it is used",
    "vm_area_add_early": _EARLY,
    "vm_area_register_early": _EARLY,
    "vmap_init_free_space": _EARLY,
    "vmalloc_init": _EARLY,
    "proc_vmalloc_init": "makes /proc/vmallocinfo at boot",
    "free_vmap_area": "undoes an allocation where KASAN's shadow fails",
    "remap_vmalloc_range": "calls remap_vmalloc_range_partial(), as the step 'remap' does",
    "vmap_node_shrink_count": "counts for the shrinker; 'shrink' scans",
}
"""Functions of mm/vmalloc.c of which lines can be out of the reach of all steps, and why."""
_HEAD = re.compile(r"^(?:[A-Za-z_][\w\s*]*[\s*])?([A-Za-z_]\w*)\s*\(")
_NUMBER = re.compile(r"(-?(?:0x)?[0-9a-f]+)$")
_NO_HEAD = re.compile(r"^(?:EXPORT_SYMBOL|DEFINE_|DECLARE_|module_|late_initcall|struct\b[^(]*[;{=])")
_GUARD = re.compile(r"^\s*(?:\}\s*)?(?:(?:else|if|while|for\w*|do|switch|case|default)\b.*|\w+:\s*)$")


class Function(NamedTuple):
    """A function of a source.

    :param first: its first line, ``last`` its last, from 1.
    """

    name: str
    first: int
    last: int


class FunctionCoverage(NamedTuple):
    """How much of a function has run.

    :param lines: lines that have code; ``ran``: those of them that ran.
    :param missing: the others, ascending.
    """

    function: Function
    lines: int
    ran: int
    missing: tuple[int, ...]


@dataclass(frozen=True)
class Coverage:
    """What has run of the code of ``built``.

    :param image: what is in its ELF file.
    :param code: source, by its name in the tree -> its lines that have code; ``ran``: those of them that ran.
    :param passed: likewise, lines of which others have the code, as that of a call that is inlined; whether it ran.
    :param blocks: where the basic blocks that ran begin.
    """

    built: Built
    image: Image
    code: dict[str, frozenset[int]]
    ran: dict[str, frozenset[int]]
    passed: dict[str, dict[int, bool]]
    blocks: Ran

    @classmethod
    def of(cls, built: Built, ran: Ran) -> Coverage:
        """From what machines with this code have noted."""
        image = Image(built.image)
        table, base = image.lines, image.text[0]
        offsets = (table.starts.view(np.uint64) - np.uint64(base)).astype(np.int64)
        inside = (offsets >= 0) & (offsets < len(ran)) & (table.file >= 0)
        ends = np.append(offsets[1:], len(ran))
        change = np.zeros(len(ran) + 256, dtype=np.int32)
        begun = np.flatnonzero(ran)
        np.add.at(change, begun, 1)
        np.add.at(change, begun + ran[begun], -1)
        covered = np.concatenate([[0], np.cumsum(np.cumsum(change)[: len(ran)] > 0)])
        code: dict[str, set[int]] = {name: set() for name in table.files}
        found: dict[str, set[int]] = {name: set() for name in table.files}
        for row in np.flatnonzero(inside).tolist():
            start, end = int(offsets[row]), min(int(ends[row]), len(ran))
            if end <= start:
                continue
            name, line = table.files[table.file[row]], int(table.line[row])
            code[name].add(line)
            if covered[end] > covered[start]:
                found[name].add(line)
        passed: dict[str, dict[int, bool]] = {name: {} for name in table.files}
        for row, source, line in table.passed.tolist():
            name, start = table.files[source], int(offsets[row])
            if inside[row] and line not in code[name]:
                passed[name][line] = passed[name].get(line, False) or bool(covered[start + 1] > covered[start])
        return cls(
            built,
            image,
            {name: frozenset(lines) for name, lines in code.items()},
            {name: frozenset(lines) for name, lines in found.items()},
            passed,
            ran,
        )

    def ways(self, source: str = VMALLOC) -> Iterator[tuple[int, bool, bool]]:
        """Of each conditional branch of ``source``, by address: its line, and whether it was passed and taken."""
        family, image = self.built.target.family, self.image
        start, data, table = image.text[0], image.code, image.lines
        wanted = table.files.index(source) if source in table.files else -2
        rows = (table.starts.view(np.uint64) - np.uint64(start)).astype(np.int64)
        engine = capstone.Cs(*family.disassembler)
        for row in np.flatnonzero(table.file == wanted).tolist():
            first, last = int(rows[row]), int(rows[row + 1]) if row + 1 < len(rows) else len(data)
            for address, size, mnemonic, operands in engine.disasm_lite(data[first:last], start + first):
                number = _NUMBER.search(operands)
                if not family.conditional(mnemonic) or number is None:
                    continue
                target = int(number[1], 0) + (address if family.relative else 0)
                ran = [
                    bool(0 <= at < len(self.blocks) and self.blocks[at])
                    for at in (address + size - start, target - start)
                ]
                yield int(table.line[row]), ran[0], ran[1]

    def branches(self, source: str = VMALLOC) -> tuple[int, int]:
        """How many ways the conditional branches of ``source`` have, two each, and how many of them were taken."""
        found = [(passed, taken) for _, passed, taken in self.ways(source)]
        return 2 * len(found), sum(passed + taken for passed, taken in found)

    def functions(self, source: str = VMALLOC) -> list[FunctionCoverage]:
        """What has run of each function of ``source`` that has code."""
        code, ran = self.code.get(source, frozenset()), self.ran.get(source, frozenset())
        found = []
        for one in functions_of(self.built.tree / source):
            lines = {line for line in code if one.first <= line <= one.last}
            if lines:
                found.append(FunctionCoverage(one, len(lines), len(lines & ran), tuple(sorted(lines - ran))))
        return found

    def reached(self) -> tuple[int, int, int]:
        """Of mm/vmalloc.c: lines that ran, lines that steps can reach, and all that have code."""
        functions = self.functions()
        ran, lines = sum(one.ran for one in functions), sum(one.lines for one in functions)
        return ran, lines - sum(len(one.missing) for one in functions if one.function.name in NO_STEP), lines


class Changed(NamedTuple):
    """Which of the lines that a tree changes have run.

    :param base: the tree that it is compared with.
    :param code: source -> its changed lines that have code, on any of the architectures; ``ran``: those that ran.
    :param silent: changed lines of those sources without code of their own: declarations, macros, comments.
    :param elsewhere: sources of memory management that differ too, and of which the object has nothing.
    """

    base: Path
    code: dict[str, list[int]]
    ran: dict[str, list[int]]
    silent: int
    elsewhere: tuple[str, ...]

    @property
    def missing(self) -> list[str]:
        """The changed lines with code that did not run, ``mm/vmalloc.c:3561-3562``."""
        return [
            f"{name}:{first}" + (f"-{last}" if last > first else "")
            for name, lines in self.code.items()
            for first, last in spans(sorted(set(lines) - set(self.ran[name])))
        ]

    @property
    def counts(self) -> tuple[int, int]:
        """How many of them ran, and how many there are."""
        return sum(map(len, self.ran.values())), sum(map(len, self.code.values()))


def spans(lines: list[int]) -> list[tuple[int, int]]:
    """Ascending numbers as first and last of each run."""
    found: list[tuple[int, int]] = []
    for line in lines:
        if found and found[-1][1] == line - 1:
            found[-1] = found[-1][0], line
        else:
            found.append((line, line))
    return found


def changes_ran(covered: list[Coverage], base: Path | None) -> Changed | None:
    """What ran of the lines that the tree of ``covered`` changes, on any of the architectures together.

    :param base: the tree that it changes; if None, Debian's of the same version, if that is there.
    :returns: None if there is no such tree, or it is the tree itself.
    """
    built = covered[0].built
    base = base or _released(built)
    if base is None or base.resolve() == built.tree:
        return None
    files = sorted({name for one in covered for name in (*one.built.files, *one.code)})
    lines = changed_lines(built.tree, base, files)
    code, ran, silent = {}, {}, 0
    for name, changed in lines.items():
        has = {line for one in covered for line in (*one.code.get(name, ()), *one.passed.get(name, ()))}
        did = {line for one in covered for line in one.ran.get(name, ())}
        did |= {line for one in covered for line, ran in one.passed.get(name, {}).items() if ran}
        code[name] = [line for line in changed if line in has]
        ran[name] = [line for line in changed if line in did]
        silent += len(changed) - len(code[name])
    return Changed(base, code, ran, silent, _elsewhere(built.tree, base, covered, set(files)))


def _elsewhere(tree: Path, base: Path, covered: list[Coverage], known: set[str]) -> tuple[str, ...]:
    """Sources of mm/, and of mm/ and lib/ of the architectures, that differ between two trees and are not ``known``."""
    arches = {one.built.target.family.srcarch for one in covered}
    folders = ["mm", *(f"arch/{arch}/{name}" for arch in sorted(arches) for name in ("mm", "lib"))]
    found = []
    for path in (path for folder in folders for path in sorted((tree / folder).glob("*.[cS]"))):
        name = str(path.relative_to(tree))
        if name not in known and not _same_file(path, base / name):
            found.append(name)
    return tuple(found)


def _same_file(path: Path, other: Path) -> bool:
    """Whether two files have the same contents; one that is not there has none."""
    return other.is_file() and (path.samefile(other) or filecmp.cmp(path, other, shallow=False))


def _released(built: Built) -> Path | None:
    """Debian's tree of the same version, if it is installed."""
    try:
        tree = tree_of(f"linux-source-{'.'.join(built.version.split('.')[:2])}")
    except InputError:
        return None
    return tree if check_tree(tree) == built.version else None


def functions_of(path: Path) -> list[Function]:
    """The functions of a C source in kernel style: a head at the left edge, a brace of its own at each end."""
    found = []
    lines = path.read_text(errors="replace").splitlines()
    head, first = "", 0
    for number, text in enumerate(lines, start=1):
        match = _HEAD.match(text)
        if match and not _NO_HEAD.match(text) and not text.rstrip().endswith(";"):
            head, first = match[1], number
        elif text.startswith("}") and head:
            found.append(Function(head, first, number))
            head = ""
        elif text.startswith(("#define", "struct", "enum", "static const")):
            head = ""
    return found


def guard_of(lines: list[str], line: int) -> tuple[int, str]:
    """The condition under which ``line`` (from 1) of a C source runs, by its indentation: its line and text."""
    deep = _depth(lines[line - 1])
    for number in range(line - 1, 0, -1):
        text = lines[number - 1]
        if text.strip() and _depth(text) < deep and not text.startswith("#"):
            deep = _depth(text)
            if _GUARD.match(text):
                return number, " ".join(text.split())
            if not deep:
                break
    return 0, ""


def _depth(text: str) -> int:
    return len(text.expandtabs(8)) - len(text.expandtabs(8).lstrip())


def changed_lines(tree: Path, base: Path, files: list[str]) -> dict[str, list[int]]:
    """The lines of ``files`` that ``tree`` has otherwise than ``base``; of what is gone, the line behind it."""
    found = {}
    for name in files:
        ours, theirs = tree / name, base / name
        if not ours.is_file():
            continue
        mine = ours.read_text(errors="replace").splitlines()
        other = theirs.read_text(errors="replace").splitlines() if theirs.is_file() else []
        if mine == other:
            continue
        changed = set()
        for tag, _, _, start, end in SequenceMatcher(None, other, mine, autojunk=False).get_opcodes():
            if tag != "equal":
                changed |= set(range(start + 1, max(end, start + 1) + 1))
        found[name] = sorted(changed)
    return found
