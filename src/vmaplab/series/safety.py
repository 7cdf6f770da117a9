# SPDX-License-Identifier: GPL-2.0-only
"""What a stranger's patch may bring into a build, and what is refused before anything is built.

Makefiles, Kconfig, scripts and linker files run code; what is compiled can read files by their names. The build itself
runs confined (:mod:`vmaplab.object.confine`): this is the first of two fences.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from vmaplab.errors import InputError
from vmaplab.series.mails import Patch

_BUILT = re.compile(r"(?:mm|include|lib|arch/[^/]+/(?:mm|include))/.*\.[chS]")
_NAMES = re.compile(
    rb"^(?:diff --git (?P<both>.*)|(?:---|\+\+\+) (?P<one>[^\t\n]+)|(?:rename|copy) (?:from|to) (?P<moved>.*))$",
    re.MULTILINE,
)
_MODE = re.compile(rb"^(?:new file mode|new mode|deleted file mode|old mode) (\d+)$", re.MULTILINE)
_ESCAPE = re.compile(rb'\\([0-7]{3}|[abfnrtv"\\])')
_PLAIN = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_PLAIN |= {b'"': b'"', b"\\": b"\\"}
_HUNK = re.compile(rb"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_INCLUDE = re.compile(rb"(?:#|%:|\?\?=)\s*(?:include|include_next|import|embed)\s*[<\"]([^>\"]+)[>\"]")
_READS = re.compile(rb"\.\s*incbin\b|\.\s*include\s*\\?\"|#\s*embed\b|\b__has_embed\b|#\s*pragma\s+GCC\s+dependency")


def is_built(name: str) -> bool:
    """Whether a change of the file ``name`` goes into the tree that is built without further ado."""
    return _BUILT.fullmatch(name) is not None


def names(patch: Patch) -> list[str]:
    """The files that ``patch`` names, in the tree.

    :raises InputError: for a path that leaves the tree.
    """
    found: dict[str, None] = {}
    for match in _NAMES.finditer(patch.diff):
        for text in _paths(match):
            if text == "/dev/null":
                continue
            if text.startswith("/") or ".." in text.split("/") or "\0" in text or posixpath.normpath(text) != text:
                raise InputError(f"'{patch.subject}' names the path {text!r}: it leaves the tree; nothing was built")
            if text.split("/")[0] == ".git":
                raise InputError(f"'{patch.subject}' writes into .git; nothing was built")
            found[text] = None
    if not found:
        raise InputError(f"'{patch.subject}' changes no file that its diff names")
    return list(found)


def _paths(match: re.Match[bytes]) -> Iterator[str]:
    """The names in a line of a diff's header, without what git puts before them."""
    if match["moved"] is not None:
        yield _unquoted(match["moved"])
    elif match["one"] is not None:
        text = _unquoted(match["one"])
        yield text if text == "/dev/null" else text.partition("/")[2] if text[:2] in ("a/", "b/") else text
    else:
        halves = re.fullmatch(rb'"?a/(.*?)"? "?b/(.*?)"?', match["both"])
        for half in halves.groups() if halves else ():
            yield half.decode(errors="surrogateescape")


def _unquoted(text: bytes) -> str:
    """A name as git writes it: in quotes, with C's escapes, where it has odd characters."""
    text = text.strip()
    if len(text) > 1 and text.startswith(b'"') and text.endswith(b'"'):
        text = _ESCAPE.sub(lambda it: bytes([int(it[1], 8) & 255]) if it[1].isdigit() else _PLAIN[it[1]], text[1:-1])
    return text.decode(errors="surrogateescape")


def check(patch: Patch) -> None:
    """Refuse what no patch of memory management needs.

    :raises InputError: binary patches, links, submodules, and sources that read files that are none of the tree's.
    """
    if re.search(rb"^(?:GIT binary patch|Binary files .* differ)$", patch.diff, re.MULTILINE):
        raise InputError(f"'{patch.subject}' is a binary patch: only text is reviewed; nothing was built")
    for mode in _MODE.findall(patch.diff):
        if not mode.startswith(b"100"):
            what = {b"120000": "a symbolic link", b"160000": "a submodule"}.get(mode, f"a file of mode {mode.decode()}")
            raise InputError(f"'{patch.subject}' makes {what}; nothing was built")
    name, gone, come = "", 0, 0  # lines that a hunk still has
    for line in patch.diff.split(b"\n"):
        if gone > 0 or come > 0:
            gone -= not line.startswith((b"+", b"\\"))
            come -= not line.startswith((b"-", b"\\"))
            if line.startswith(b"+") and is_built(name):
                _look(patch, name, line[1:])
        elif hunk := _HUNK.match(line):
            gone, come = (1 if count is None else int(count) for count in hunk.groups())
        elif line.startswith(b"+++ "):
            name = _unquoted(line[4:].partition(b"\t")[0]).partition("/")[2]


def _look(patch: Patch, name: str, line: bytes) -> None:
    """One added line of a source that would be compiled."""
    told = ""
    if found := _INCLUDE.search(line):
        path = found[1].decode(errors="replace")
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        if path.startswith("/") or inside.startswith(".."):
            told = f"includes {path!r}, which is not in the tree"
    if _READS.search(line):
        told = "reads a file into the object"
    if told:
        raise InputError(f"'{patch.subject}': {name} {told}; nothing was built")
