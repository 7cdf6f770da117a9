# SPDX-License-Identifier: GPL-2.0-only
"""Where architecture, boot arguments and configuration meet: what they make of one kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from vmaplab.arch import Arch
from vmaplab.errors import InputError
from vmaplab.pgtable.geometry import Geometry, geometry

BOOT_ARGS = ("nohugeiomap", "nohugevmalloc")
"""Boot arguments of every architecture; an architecture has more (``Arch.boot_args``)."""
CONFIG: dict[str, bool | None] = {
    "HAVE_ARCH_HUGE_VMAP": None,  # None: as the architecture selects it
    "HAVE_ARCH_HUGE_VMALLOC": None,
    "HUGETLB_PAGE": True,
    "KMSAN": False,
    "PTDUMP_DEBUGFS": False,
    "SPARSEMEM_VMEMMAP": True,
}


def parse_boot_args(arch: Arch, given: str | Iterable[str]) -> tuple[str, ...]:
    """The boot arguments in ``given``, each once.

    :raises InputError: for one that is not known, or not on ``arch``.
    """
    known = [*BOOT_ARGS, *arch.boot_args]
    try:
        words = given.split() if isinstance(given, str) else [word for arg in given for word in arg.split()]
    except (TypeError, AttributeError):
        raise InputError(f"boot arguments are a string or several, not {given!r}") from None
    for word in words:
        if word not in known:
            raise InputError(f"unknown boot argument '{word}' on {arch.name}; known there: {', '.join(known)}")
    return tuple(dict.fromkeys(words))


def booted(arch: Arch, boot_args: Iterable[str]) -> Arch:
    """``arch`` after boot with these arguments."""
    for word in boot_args:
        if word in arch.boot_args:
            arch = arch.boot_args[word](arch)
    return arch


def settings(boot_args: Iterable[str], config: Mapping[str, bool]) -> list[str]:
    """Boot arguments and configuration as a reader of kernels writes them: ``nohugeiomap``, ``CONFIG_KMSAN=y``."""
    return [*boot_args, *(f"CONFIG_{key}={'y' if on else 'n'}" for key, on in config.items())]


def complete_config(arch: Arch, given: Mapping[str, bool] | None) -> dict[str, bool]:
    """The whole configuration: what is given, and the architecture's defaults.

    :raises InputError: for an option that is not known, no bool, or not to be had on ``arch``.
    """
    if given is not None and not isinstance(given, Mapping):
        raise InputError(f"the configuration is a dictionary of options, not {given!r}")
    for option, value in (given or {}).items():
        if option not in CONFIG:
            raise InputError(f"unknown configuration option '{option}'; known: {', '.join(CONFIG)}")
        if not isinstance(value, bool):
            raise InputError(f"configuration option {option} is {value!r}; it takes True or False")
    chosen = {option: arch.huge_vmap if value is None else value for option, value in CONFIG.items()}
    chosen.update(given or {})
    if chosen["HAVE_ARCH_HUGE_VMAP"] and not arch.huge_vmap:
        raise InputError(f"{arch.name} does not select CONFIG_HAVE_ARCH_HUGE_VMAP")
    chosen["HAVE_ARCH_HUGE_VMALLOC"] &= chosen["HAVE_ARCH_HUGE_VMAP"]
    return chosen


def geometry_of(arch: Arch, config: Mapping[str, bool], total_pages: int | None) -> Geometry:
    """The page-table format of this kernel, with the hooks that its tree and configuration have.

    :param total_pages: PFNs from there on are not valid; None for what the architecture can address.
    """
    return _geometry(arch, tuple(config.items()), total_pages)


@lru_cache(maxsize=64)
def _geometry(arch: Arch, options: tuple[tuple[str, bool], ...], total_pages: int | None) -> Geometry:
    config = dict(options)
    huge = config["HAVE_ARCH_HUGE_VMAP"]
    blocked = any(config[option] for option in arch.leaf_blockers)
    return geometry(
        arch,
        block_leaves=huge and not blocked,
        group_hooks=huge and arch.group_hooks,
        group_maps=config["HUGETLB_PAGE"],
        group_multi=arch.group_multi,
        pfn_limit=min(total_pages or arch.addressable_pages, arch.addressable_pages),
    )
