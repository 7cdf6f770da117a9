# SPDX-License-Identifier: GPL-2.0-only
"""The ways in which vmaplab says no."""

from __future__ import annotations

import errno as _errno
import os


def plain(text: str) -> str:
    """``text`` of others, a file name for instance: nothing in it that a terminal obeys."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


class InputError(ValueError):
    """The caller asked for something that cannot be: one line that says what is wrong and what to do."""


def not_installed(what: str, error: ImportError, extra: str) -> InputError:
    """That ``what`` needs a library of one of the extras of pyproject.toml."""
    return InputError(f"{what} needs {error.name}: pip install 'vmaplab[{extra}]', or '.[{extra}]' in its sources")


class Unprovided(InputError):  # noqa: N818 - not the caller's fault, nor the kernel's
    """The kernel's own code needs something that vmaplab does not have: it cannot be run here; no finding."""


class VmapError(OSError):
    """The kernel would have refused: ``.errno`` is what its functions return, positive.

    Where the kernel returns NULL without an errno, ENOMEM stands for "no memory, no address space, more
    pages than the machine has" and EINVAL for arguments that it refuses. ``.bug``: the kernel has a BUG() there.
    ``.undefined``: what it does depends on what is in memory that is no page table, or it waits for ever;
    nothing after it can be told.
    """

    def __init__(self, errno: int, reason: str, bug: bool = False, undefined: bool = False) -> None:
        super().__init__(errno, f"{_errno.errorcode[errno]} ({os.strerror(errno)}): {reason}")
        self.bug, self.undefined = bug, undefined

    def __str__(self) -> str:
        return str(self.strerror)


class KernelFault(Exception):  # noqa: N818 - a finding about the kernel, no error of ours
    """The kernel's own code, in the emulator, did what no kernel may do: a finding, in one line.

    A BUG(), an endless loop, a jump to where no code is, an access outside its memory, a double free.
    """


class Undefined(KernelFault):
    """The kernel's own code takes a page that a leaf maps for a page table, or waits for what never comes.

    What it does then is not defined.
    """


BREAKS = "breaks an invariant: "
"""How a violation begins among other findings."""


class Violation(Exception):  # noqa: N818 - a finding about a kernel, no error of ours
    """A kernel, model or the real code, broke an invariant of page tables: a finding, in one line."""


class Misplaced(Violation):
    """A page is mapped that should not be, or not mapped, or goes to another frame than the one that was given."""
