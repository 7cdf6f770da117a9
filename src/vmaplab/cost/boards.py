# SPDX-License-Identifier: GPL-2.0-only
"""Configurations of boards by name: of what they set, the options that change the code of mm/vmalloc.c."""

from __future__ import annotations

from vmaplab.errors import InputError

_STACK = ("STACKPROTECTOR=y", "STACKPROTECTOR_STRONG=y")
BOARDS: dict[str, dict[str, tuple[str, ...]]] = {
    # arch/arm64/configs/defconfig, arch/x86/configs/x86_64_defconfig, arch/riscv/configs/defconfig, and what Kconfig
    # takes there by default; x86_64's stack protector reads what a kernel has at %gs:40, and there is none here.
    "board": {
        "arm64": ("PREEMPT=y", "RANDOMIZE_BASE=y", "UNMAP_KERNEL_AT_EL0=y", "TRANSPARENT_HUGEPAGE=y", *_STACK),
        "x86": ("SMP=y", "PREEMPT_VOLUNTARY=y"),
        "riscv": ("SMP=y", "TRANSPARENT_HUGEPAGE=y", *_STACK),
    },
    # arch/arm64/configs/gki_defconfig of the Android common kernel; CFI, which wants clang, is left out.
    "gki": {
        "arm64": (
            *("PREEMPT=y", "RANDOMIZE_BASE=y", "UNMAP_KERNEL_AT_EL0=y", "TRANSPARENT_HUGEPAGE=y", *_STACK),
            *("SHADOW_CALL_STACK=y", "INIT_STACK_ALL_ZERO=y"),
        ),
    },
}
"""Name -> family -> options."""


def options_of(words: list[str], family: str) -> list[str]:
    """Options, with those of a board in place of its name.

    :raises InputError: if there is no such board for the family.
    """
    found: list[str] = []
    for word in words:
        if "=" in word:
            found.append(word)
        elif family not in BOARDS.get(word, {}):
            known = ", ".join(name for name, by_family in BOARDS.items() if family in by_family)
            raise InputError(f"configuration: '{word}' is neither KEY=value nor a board of {family} ({known})")
        else:
            found += BOARDS[word][family]
    return found
