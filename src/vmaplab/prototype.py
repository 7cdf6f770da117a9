# SPDX-License-Identifier: GPL-2.0-only
"""C prototypes: what a stand-in declares, and what the tree under test declares, in a form that can be compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

_QUALIFIERS = frozenset(
    ["const", "volatile", "restrict", "__restrict", "extern", "static", "inline", "struct", "enum", "union"]
)
_BY_GCC = re.compile(r"^/\* \S+?:\d+:\w+ \*/ extern (?P<text>[^;]+);", re.MULTILINE)
_BY_CLANG = re.compile(r"^(?!static\b|typedef\b)(?P<text>\w[^;{]*\))\s*;$", re.MULTILINE)
_ATTRIBUTE = re.compile(r"__attribute__\((\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))\) ?")


class CType(NamedTuple):
    """A type as a calling convention sees it.

    :param words: its specifiers, sorted, without qualifiers; ``unsigned long`` and ``long unsigned int`` are one.
    :param stars: how many times it is a pointer; a pointer to a function is one.
    """

    words: tuple[str, ...]
    stars: int

    def reader(self) -> Callable[[int], int]:
        """Gives the value of this type in a register of 64 bits."""
        if self.stars or not _NARROW.issuperset(self.words):
            return lambda register: register
        if self.words == ("bool",):
            return lambda register: register & 1
        if self.words == ("int",):
            return lambda register: ((register & 0xFFFF_FFFF) ^ 1 << 31) - (1 << 31)
        return lambda register: register & 0xFFFF_FFFF


_NARROW = frozenset({"int", "unsigned", "gfp_t", "bool"})


class Prototype(NamedTuple):
    """The types of a C function, and what its parameters are called.

    :param name: of the function.
    :param returns: the type of its result.
    :param types: of its parameters; ``...`` is left out.
    :param names: of its parameters, as far as they are named.
    :param variadic: whether it ends in ``...``.
    """

    name: str
    returns: CType
    types: tuple[CType, ...]
    names: tuple[str, ...]
    variadic: bool

    def matches(self, other: Prototype) -> bool:
        """Whether a caller of ``other`` can call this."""
        mine, theirs = (self.returns, self.types, self.variadic), (other.returns, other.types, other.variadic)
        return mine == theirs


@lru_cache(1 << 14)
def parse(text: str) -> Prototype:
    """The prototype that ``text`` spells: ``void *kmalloc(size_t size, gfp_t flags)``.

    :raises ValueError: if it is none, or returns a pointer to a function.
    """
    match = re.fullmatch(r"(?P<head>[^()]*?)(?P<name>\w+)\s*\((?P<rest>.*)\)", " ".join(text.split()))
    if match is None:
        raise ValueError(f"'{text}' is no prototype that vmaplab can read")
    parameters = [part.strip() for part in _parted(match["rest"])]
    variadic = parameters[-1:] == ["..."]
    parameters = [part for part in parameters if part not in ("...", "void", "")]
    typed = [_parameter(part) for part in parameters]
    names = tuple(name for _, name in typed if name)
    return Prototype(match["name"], _type(match["head"]), tuple(it for it, _ in typed), names, variadic)


def declared(files: Iterable[Path]) -> dict[str, list[Prototype]]:
    """Every function that compilers tell of in ``files``, by name; those that vmaplab cannot read are left out.

    :param files: what gcc's ``-aux-info`` or clang's ``-ast-print`` writes.
    """
    found: dict[str, list[Prototype]] = {}
    for text in dict.fromkeys(text for path in files for text in _told(path.read_text(errors="replace"))):
        try:
            prototype = parse(text)
        except ValueError:
            continue
        known = found.setdefault(prototype.name, [])
        if not any(prototype.matches(other) for other in known):
            known.append(prototype)
    return found


def _told(text: str) -> Iterator[str]:
    """The declarations in what a compiler has written."""
    if text.startswith("/*"):
        yield from (match["text"] for match in _BY_GCC.finditer(text))
    else:
        plain = _ATTRIBUTE.sub("", text) if "__attribute__" in text else text
        yield from (match["text"].strip() for match in _BY_CLANG.finditer(plain))


def _parted(text: str) -> list[str]:
    """``text`` at its commas outside of parentheses.

    :raises ValueError: if they do not match: a function that returns a pointer to a function.
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            raise ValueError(f"'{text}' is no list of parameters")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _parameter(text: str) -> tuple[CType, str]:
    """The type of a parameter, and its name if it has one."""
    pointer = re.search(r"\(\s*\*\s*(\w*)\s*\)\s*\(", text)
    if pointer:
        return CType(("function",), 1), pointer[1]
    text = re.sub(r"\(\s*(\w+)\s*\)", r" \1", text)  # a name in parentheses
    text = re.sub(r"\[[^]]*\]", "*", text)
    match = re.fullmatch(r"(.*[\s*])(\w+)(\**)", text)
    if match and match[2] not in _WORDS and not re.fullmatch(r"\s*(const|struct|enum|union|unsigned|\s)*", match[1]):
        return _type(match[1] + match[3]), match[2]
    return _type(text), ""


_WORDS = frozenset(["int", "long", "unsigned", "char", "short", "void", "_Bool", "bool", "double", "float", "const"])


def _type(text: str) -> CType:
    words = [word for word in re.findall(r"\w+", text) if word not in _QUALIFIERS]
    words = ["bool" if word == "_Bool" else word for word in words]
    if len(words) > 1 and {"unsigned", "long", "short"} & set(words):
        words = [word for word in words if word not in ("int", "signed")]
    return CType(tuple(sorted(words)), text.count("*"))
