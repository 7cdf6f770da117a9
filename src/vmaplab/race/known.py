# SPDX-License-Identifier: GPL-2.0-only
"""Races of kernels as they are, each understood: why it does no harm, or where it is written down.

An entry names both sides and the memory, and where it holds; whatever it does not name is a finding.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from vmaplab.object.build import Built
from vmaplab.race.tell import Race


class Known(NamedTuple):
    """One; all but the last are patterns.

    :param one: the functions of one side; of a fault the whole of its text.
    :param other: the functions of the other side; of a fault the calls.
    :param memory: what it is about; "" for a fault.
    :param versions: of the kernel; ``families``: of architectures.
    :param why: why it is none to worry about, or where it is written down.
    """

    one: str
    other: str
    memory: str
    versions: str
    families: str
    why: str


_ANY = r".*"
_MAKERS = r"vmap|vmaplab_ioremap|vmap_pfn"
_VMALLOC = r"__vmalloc_node_range(_noprof)?|__vmalloc_area_node.*"
_AREA = r"the object of \d+ bytes that __get_vm_area_node\S*\(\)"
_FLAGS = _AREA + r".* at byte 24$"
"""``flags`` of vm_struct: clear_vm_uninitialized_flag() tells there, behind a barrier, that the rest is made."""
_LATER = "docs/kernel-differences.md, "
_SHRINKER = _LATER + "the shrinker without vmap_purge_lock"
_ALIASES = _LATER + "vm_unmap_aliases() beside a block that becomes empty"
_PTDUMP = _LATER + "ptdump: the walk and the end of a table that a block replaces"

_LAST, _PURGE = r"[^|]*\bunmap_ram @\d+ 64\b[^|]*", r"[^|]*\baliases\b[^|]*"

KNOWN = (
    Known(
        r"vmalloc_info_show|s_show",
        _MAKERS,
        _AREA,
        _ANY,
        _ANY,
        "/proc/vmallocinfo reads an area that its maker is still filling in: it prints what was there before or after",
    ),
    Known(
        r"vmalloc_info_show|s_show|vread_iter",
        _VMALLOC,
        _FLAGS,
        _ANY,
        _ANY,
        "/proc/vmallocinfo and vread_iter() read the flags of an area that its maker is still filling in: they pass "
        "over it, or see what its maker has stored before the last barrier in front of the flags",
    ),
    Known(
        r"vmalloc_dump_obj",
        f"{_MAKERS}|{_VMALLOC}",
        _AREA,
        _ANY,
        _ANY,
        "vmalloc_dump_obj() reads an area that its maker is still filling in: it prints what was there before or after",
    ),
    Known(
        _ANY,
        _ANY,
        r"new_vmalloc",
        _ANY,
        "riscv",
        "flush_cache_vmap() sets the flags of all CPUs with plain stores, always to the same value",
    ),
    Known(
        r"purge_fragmented_blocks_allcpus|purge_fragmented_blocks",
        r"vm_map_ram|vm_unmap_ram|vb_alloc|vb_free",
        r"the object of \d+ bytes that (vm_map_ram|new_vmap_block)\(\)",
        r"6\.1\..*",
        _ANY,
        "purge_fragmented_blocks() looks at a block's counters before it takes the block's lock, and again with it",
    ),
    # One reader's table that another frees: no lock before 6.12.y and 7.2 but on arm64, from 6.17 on.
    Known(r"ptdump_\w+|walk_p\w+_range", _ANY, r"a page table, ", r"(6\.18|6\.19|7\.\d)\..*", "x86|riscv", _PTDUMP),
    Known(r"ptdump_\w+\+0x[0-9a-f]+ reads from .*", r".*\bptdump\b.*", "", r"(6\.18|6\.19|7\.\d)\..*", _ANY, _PTDUMP),
    Known(
        r"the MMU of another CPU: vm_unmap_aliases\(\) returns, .* unmapped before it began",
        rf".*\|\|{_LAST}\|\|{_PURGE}|.*\|\|{_PURGE}\|\|{_LAST}",
        "",
        _ANY,
        _ANY,
        _ALIASES,
    ),
    Known(
        r"decay_va_pool_node",
        r"decay_va_pool_node",
        r"the object of \d+ bytes that vmalloc_init\(\)",
        r"6\.1[89]\..*",
        _ANY,
        _SHRINKER,
    ),
    Known(r"a node's pool of areas of .*, and its len is .*", r".*\bshrink\b.*", "", r"6\.1[89]\..*", _ANY, _SHRINKER),
)


def why_known(race: Race | None, told: str, built: Built, calls: str) -> str:
    """Why a finding of these calls, a race or what is ``told``, is none to worry about; "" if it is new."""
    for known in KNOWN:
        if not re.fullmatch(known.versions, built.version) or not re.fullmatch(
            known.families, built.target.family.name
        ):
            continue
        if race is None:
            if not known.memory and re.fullmatch(known.one, told) and re.fullmatch(known.other, calls):
                return known.why
            continue
        if not known.memory or not re.match(known.memory, race.memory):
            continue
        names = [one.place.partition("(")[0] for one in (race.first, race.second)]
        for pair in (names, names[::-1]):
            if re.fullmatch(known.one, pair[0]) and re.fullmatch(known.other, pair[1]):
                return known.why
    return ""
