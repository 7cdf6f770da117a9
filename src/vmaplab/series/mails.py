# SPDX-License-Identifier: GPL-2.0-only
"""Read a patch series as people have it: an mbox, saved mails, ``git format-patch`` files, a directory, stdin.

Nothing is applied here; what comes out is text that nobody has looked at yet (:mod:`.safety`).
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import cast

from vmaplab.errors import InputError

MOST_BYTES = 20 << 20
MOST_PATCHES = 200
MOST_HUNKS = 10_000
STDIN = "-"

_SUFFIXES = (".patch", ".diff", ".eml", ".mbox", ".mbx")
_BEGINS = re.compile(rb"^(?=From \S+ .*\d\d:\d\d.*\d{4}[ \t]*\n(?:[A-Za-z][\w-]*:|>))", re.MULTILINE)
_TAGS = re.compile(r"^\s*(?P<tags>(?:\[[^\]]*\]\s*)*)(?P<title>.*)$", re.DOTALL)
_DIFF = re.compile(rb"^(?:diff --git |--- (?:a/|/dev/null|\S+/)|Index: )", re.MULTILINE)
_BODY_ENDS = re.compile(rb"^(?:---[ \t]*$|diff -|Index: )", re.MULTILINE)
_HUNK = re.compile(rb"^@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@", re.MULTILINE)
_BASE = re.compile(rb"^base-commit: ([0-9a-f]{7,40})\b", re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


@dataclass(frozen=True)
class Patch:
    """One patch.

    :param title: its subject without the tag in brackets.
    :param tag: what stands in the brackets, ``PATCH v3 5/6``; "" if nothing does.
    :param number: its place in the series, from 1; ``total``: how many there are.
    :param version: of the series.
    :param message_id: of the mail, without brackets; "" if there is none.
    :param author: as the mail has it.
    :param diff: from the first line that git would apply from, LF line ends.
    :param source: the file that it was read from.
    """

    title: str
    tag: str
    number: int
    total: int
    version: int
    message_id: str
    author: str
    diff: bytes
    source: str

    @property
    def subject(self) -> str:
        """As in the mail, in one line."""
        return f"[{self.tag}] {self.title}" if self.tag else self.title

    @property
    def place(self) -> str:
        """``5/6``."""
        return f"{self.number}/{self.total}"


@dataclass(frozen=True)
class Series:
    """Patches in the order in which they apply.

    :param cover: the subject of the cover letter; "" if there is none.
    :param cover_id: its message-id.
    :param base_commit: what the mails say that it applies to; "" if nothing.
    :param notes: what a reader must know of how it was read, a line each.
    """

    patches: tuple[Patch, ...]
    cover: str = ""
    cover_id: str = ""
    base_commit: str = ""
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What to call it."""
        return self.cover or self.patches[0].subject

    @property
    def message_id(self) -> str:
        """By which others find it; "" if it has none."""
        return self.cover_id or self.patches[0].message_id


@dataclass(frozen=True)
class _Mail:
    """A message: its headers, its text, and what its subject says."""

    subject: str
    tag: str
    title: str
    version: int
    number: int | None
    total: int | None
    message_id: str
    author: str
    text: bytes
    source: str

    @property
    def is_reply(self) -> bool:
        return bool(re.match(r"(?:re|aw|antw|sv)\s*:", self.subject, re.IGNORECASE))

    @property
    def has_diff(self) -> bool:
        return bool(_HUNK.search(self.text) and _DIFF.search(self.text)) or b"\nGIT binary patch" in self.text


def read(sources: Iterable[str]) -> Series:
    """The series in ``sources``: files, directories, or :data:`STDIN`.

    :raises InputError: if there is none, it is too large, or two patches claim the same place.
    """
    return parse(list(_texts(sources)))


def parse(texts: list[tuple[str, bytes]]) -> Series:
    """The same of texts, each with the name of where it comes from."""
    if sum(len(text) for _, text in texts) > MOST_BYTES:
        raise InputError(f"the mails have more than {MOST_BYTES >> 20} MiB: no patch series is so large")
    mails = [mail for name, text in texts for mail in _mails(name, text)]
    notes: list[str] = []
    if replies := sum(mail.is_reply for mail in mails):
        notes.append(f"{replies} repl{'ies are' if replies > 1 else 'y is'} in the mails: not read")
    mails = [mail for mail in mails if not mail.is_reply]
    versions = Counter(mail.version for mail in mails if mail.has_diff)
    if not versions:
        told = f" ({'; '.join(notes)})" if notes else ""
        names = ", ".join(dict.fromkeys(name for name, _ in texts)) or "nothing"
        raise InputError(f"{names}: no patch in there{told}; give an mbox, saved mails or git format-patch files")
    version = max(versions)
    if len(versions) > 1:
        every = ", ".join(f"v{one}" for one in sorted(versions))
        notes.append(f"versions {every} are in the mails; v{version} is reviewed")
    older = [mail for mail in mails if mail.version < version and mail.has_diff and mail.number is not None]
    mails = [mail for mail in mails if mail.version == version]
    numbers = {mail.number for mail in mails}
    total = max((mail.total or 0 for mail in mails), default=0)
    for mail in sorted(older, key=lambda mail: -mail.version):  # sent again was only what changed
        if mail.total == total and mail.number not in numbers:
            numbers.add(mail.number)
            mails.append(mail)
            notes.append(f"{mail.number}/{mail.total} is taken from v{mail.version}")
    covers = [mail for mail in mails if not mail.has_diff and mail.number in (0, None) and mail.tag]
    patches = _in_order([mail for mail in mails if mail.has_diff], notes)
    if len(patches) > MOST_PATCHES:
        raise InputError(f"{len(patches)} patches: vmaplab reviews {MOST_PATCHES} at most")
    for patch in patches:
        if (hunks := len(_HUNK.findall(patch.diff))) > MOST_HUNKS:
            raise InputError(f"'{patch.subject}' has {hunks} hunks: vmaplab reads {MOST_HUNKS} at most")
    bases = [match[1].decode() for mail in mails if (match := _BASE.search(mail.text))]
    cover = covers[0] if covers else None
    return Series(
        tuple(patches),
        cover.subject if cover else "",
        cover.message_id if cover else "",
        bases[0] if bases else "",
        tuple(notes),
    )


def _texts(sources: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Name and contents of each file, and of those in directories."""
    for source in sources:
        if not source:
            raise InputError("a file or directory with an empty name: give an mbox, patches, or - for stdin")
        if source == STDIN:
            yield "stdin", sys.stdin.buffer.read(MOST_BYTES + 1)
            continue
        path = Path(source)
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file() and file.suffix in _SUFFIXES)
            if not files:
                raise InputError(f"{source}: no file in there ends in {', '.join(_SUFFIXES)}")
        else:
            files = [path]
        for file in files:
            try:
                if file.stat().st_size > MOST_BYTES:
                    raise InputError(f"{file} has more than {MOST_BYTES >> 20} MiB: no patch series is so large")
                yield file.name, file.read_bytes()
            except OSError as error:
                raise InputError(f"{file}: {error.strerror}") from None


def _mails(name: str, text: bytes) -> Iterator[_Mail]:
    text = text.replace(b"\r\n", b"\n").removeprefix(b"\xef\xbb\xbf").lstrip(b"\n")
    starts = [match.start() for match in _BEGINS.finditer(text)]
    if not starts:
        headers = re.match(rb"(?:[A-Za-z][\w-]*:[^\n]*\n(?:[ \t][^\n]*\n)*)+\n", text)
        if not headers:  # a bare diff
            yield _Mail(name, "", name, 1, None, None, "", "", text, name)
            return
        starts = [0]
    elif starts[0]:  # a mail without the line that begins one
        starts.insert(0, 0)
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        one = text[start:end]
        if one.startswith(b"From "):
            one = one.partition(b"\n")[2]
        message = message_from_bytes(one, policy=policy.default)
        inside = [part.get_payload(0) for part in message.walk() if part.get_content_type() == "message/rfc822"]
        for held in inside or [message]:  # a digest, or forwarded
            try:
                yield _mail(name, cast(EmailMessage, held))
            except (ValueError, LookupError) as error:
                raise InputError(f"{name}: a mail in there is malformed: {plain(str(error))[:80]}") from None


def _mail(name: str, message: EmailMessage) -> _Mail:
    subject = plain(str(message.get("Subject", "")))
    match = _TAGS.match(re.sub(r"^(?:(?:re|fwd?)\s*:\s*)+", "", subject, flags=re.IGNORECASE))
    assert match is not None
    tag, title = " ".join(re.findall(r"\[([^\]]*)\]", match["tags"])), match["title"]
    if not re.search(r"\b(?:PATCH|RFC)", tag, re.IGNORECASE):
        tag, title = "", subject
    place = re.search(r"\b(\d{1,6})\s*/\s*(\d{1,6})\b", tag)
    version = re.search(r"(?:\b|PATCH|RFC)v\s?(\d{1,3})\b", tag, re.IGNORECASE)
    return _Mail(
        subject,
        " ".join(tag.split()),
        title,
        int(version[1]) if version else 1,
        int(place[1]) if place else None,
        int(place[2]) if place else None,
        plain(str(message.get("Message-ID", ""))).strip("<> "),
        plain(str(message.get("From", ""))),
        _text_of(message),
        name,
    )


def _text_of(message: EmailMessage) -> bytes:
    """The text of a mail, decoded, as UTF-8; patches that are attached behind it."""
    found = []
    for part in message.walk():
        if part.get_content_maintype() != "text" or part.get_content_subtype() == "html":
            continue
        held = part.get_payload(decode=True)
        if not isinstance(held, bytes):
            continue
        charset = part.get_content_charset() or "utf-8"
        if charset.lower() not in ("utf-8", "us-ascii"):
            with suppress(LookupError, ValueError):  # else as it is
                held = held.decode(charset).encode()
        found.append(held.replace(b"\r\n", b"\n"))
    return b"\n".join(found)


def _in_order(mails: list[_Mail], notes: list[str]) -> list[Patch]:
    """The patches, each at its place; those that name none stay in their order."""
    numbered: dict[int, _Mail] = {}
    bare = []
    for mail in mails:
        if mail.number is None:
            bare.append(mail)
        elif mail.number not in numbered:
            numbered[mail.number] = mail
        elif _diff(numbered[mail.number].text) != _diff(mail.text):
            raise InputError(f"two different patches are both {mail.number}/{mail.total} of v{mail.version}")
    if not numbered:
        return [_patch(mail, number, len(bare)) for number, mail in enumerate(bare, start=1)]
    if bare:
        notes.append(f"{len(bare)} patches name no place in the series: not read")
    total = max([*(mail.total or 0 for mail in numbered.values()), *numbered])
    if total > MOST_PATCHES:
        raise InputError(f"a series of {total} patches: vmaplab reviews {MOST_PATCHES} at most")
    if missing := [f"{number}/{total}" for number in range(1, total + 1) if number not in numbered]:
        several = len(missing) > 1
        notes.append(f"{', '.join(missing)} {'are' if several else 'is'} missing: what follows is tried without")
    return [_patch(mail, number, total) for number, mail in sorted(numbered.items())]


def _patch(mail: _Mail, number: int, total: int) -> Patch:
    return Patch(
        mail.title, mail.tag, number, total, mail.version, mail.message_id, mail.author, _diff(mail.text), mail.source
    )


def _diff(text: bytes) -> bytes:
    """What git would apply: from the line that ends the message on."""
    match = _BODY_ENDS.search(text)
    diff = text[match.start() :] if match else text
    return diff if diff.endswith(b"\n") else diff + b"\n"


def plain(text: str) -> str:
    """Text of a stranger in one line, without what a terminal takes for more."""
    return " ".join(_CONTROL.sub(" ", text).split())


def only(series: Series, number: int) -> Series:
    """The patches up to ``number``."""
    return replace(series, patches=tuple(patch for patch in series.patches if patch.number <= number))
