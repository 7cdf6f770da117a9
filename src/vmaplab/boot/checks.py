# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own checks that can be built into one that boots; what they report is a finding."""

from __future__ import annotations

import re

from vmaplab.errors import InputError

CHECKS = {
    "kasan": ("KASAN=y", "KASAN_GENERIC=y", "KASAN_VMALLOC=y"),
    "lockdep": ("PROVE_LOCKING=y", "DEBUG_ATOMIC_SLEEP=y"),
    "page-table-check": ("PAGE_TABLE_CHECK=y", "PAGE_TABLE_CHECK_ENFORCED=y"),
    "debug-vm": ("DEBUG_VM=y", "DEBUG_LIST=y"),
}
"""Name -> its options."""

_LOCKDEP = (
    "possible ",
    "inconsistent lock state",
    "suspicious RCU usage",
    "bad unlock balance",
    "bad contention",
    "Nested lock was not taken",
    "held lock freed",
    "lock held when returning",
    r"\S+-safe -> \S+-unsafe",
    "Softirq",
)
_REPORT = re.compile(rf"BUG: .*|\bWARNING: (?:{'|'.join(_LOCKDEP)}).*")


def checks_of(text: str) -> tuple[str, ...]:
    """The checks that ``text`` names, with commas, or all.

    :raises InputError: for one that is not known.
    """
    names = list(CHECKS) if text == "all" else [word.strip() for word in text.split(",") if word.strip()]
    for name in names:
        if name not in CHECKS:
            raise InputError(f"unknown check '{name}'; known: {', '.join(CHECKS)}, all")
    return tuple(name for name in CHECKS if name in names)


def report_in(line: str) -> str:
    """What a line of the kernel reports, if that is more than a WARN(); or ""."""
    found = _REPORT.search(line)
    return found[0].rstrip(" ]").strip() if found else ""
