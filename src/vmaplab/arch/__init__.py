"""The architectures, by name. Adding one is one file with its ``ARCHES`` and a line here."""

from __future__ import annotations

from vmaplab.arch import arm64, loongarch, powerpc, riscv, x86
from vmaplab.arch.base import Arch, Group, Level
from vmaplab.errors import InputError

ARCHES: dict[str, Arch] = {
    arch.name: arch for family in (arm64, x86, riscv, powerpc, loongarch) for arch in family.ARCHES
}


def get(name: str) -> Arch:
    """The architecture called ``name``.

    :raises InputError: if there is none.
    """
    try:
        return ARCHES[name]
    except KeyError:
        raise InputError(f"unknown architecture '{name}'; known: {', '.join(ARCHES)}") from None


__all__ = ["ARCHES", "Arch", "Group", "Level", "get"]
