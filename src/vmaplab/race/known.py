# SPDX-License-Identifier: GPL-2.0-only
"""Races of the kernel as it is, each understood: why it does no harm, or where it is written down.

An entry names both sides and the memory; what it does not name is a finding. docs/kernel-differences.md has more.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from vmaplab.race.explore import Finding


class Known(NamedTuple):
    """One.

    :param one: the functions of one side, a pattern; ``other``: of the other.
    :param memory: what it is about, a pattern.
    :param why: why it is none to worry about, or where it is written down.
    """

    one: str
    other: str
    memory: str
    why: str


_MAKERS = r"vmap|__vmalloc_node_range(_noprof)?|__vmalloc_area_node.*|vmaplab_ioremap|vmap_pfn|vmaplab_remap"
KNOWN = (
    Known(
        r"vmalloc_info_show|s_show",
        _MAKERS,
        r"the object of \d+ bytes that __get_vm_area_node\(\)",
        "/proc/vmallocinfo reads an area that its maker is still filling in: it prints what was there before or after",
    ),
    Known(
        r"vmalloc_dump_obj",
        _MAKERS,
        r"the object of \d+ bytes that __get_vm_area_node\(\)",
        "vmalloc_dump_obj() reads an area that its maker is still filling in: it prints what was there before or after",
    ),
    Known(
        r".*",
        r".*",
        r"new_vmalloc\b",
        "riscv: flush_cache_vmap() sets the flags of all CPUs with plain stores, always to the same value",
    ),
)


def why_known(finding: Finding) -> str:
    """Why ``finding`` is none to worry about; "" if it is new."""
    race = finding.race
    if race is None:
        return ""
    names = [one.place.partition("(")[0] for one in (race.first, race.second)]
    for known in KNOWN:
        if re.match(known.memory, race.memory):
            for pair in (names, names[::-1]):
                if re.fullmatch(known.one, pair[0]) and re.fullmatch(known.other, pair[1]):
                    return known.why
    return ""
