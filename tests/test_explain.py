# SPDX-License-Identifier: GPL-2.0-only
"""Entries read bit by bit, walks of one address, and stores in words."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from object_support import needs_kernel
from test_cli import vmaplab
from vmaplab import Kernel, pages
from vmaplab.arch import NAMES
from vmaplab.errors import InputError
from vmaplab.explain import INVALID, LEAF, TABLE, Explainer
from vmaplab.judge.format import EXEC, NORMAL, USER, USER_EXEC, WRITE
from vmaplab.object.build import tree_of
from vmaplab.release import DEFAULT, get
from vmaplab.report.explained import in_words

ARCHES = get(DEFAULT).arches


def bits_of(explainer: Explainer) -> int:
    return 8 * np.dtype(explainer.form.entry).itemsize


@pytest.mark.parametrize("arch", NAMES)
def test_the_fields_of_an_entry_are_all_its_bits_once_each_with_a_meaning_for_each_value_or_for_none(arch):
    explainer = Explainer(ARCHES[arch])
    for level in range(len(explainer.names)):
        for leaf in (False, True):
            fields = explainer.form.fields(level, leaf)
            bits = [bit for field in fields for bit in range(field.high, field.low - 1, -1)]
            assert bits == list(range(bits_of(explainer) - 1, -1, -1))
            assert all(len(field.means) in (0, 1 << field.high - field.low + 1) for field in fields)


@pytest.mark.parametrize("arch", NAMES)
def test_the_bits_called_an_address_are_those_that_make_it(arch):
    explainer, draw = Explainer(ARCHES[arch]), random.Random(1)
    seen = set()
    for _ in range(300):
        level = draw.randrange(len(explainer.names))
        value = draw.getrandbits(bits_of(explainer)) & draw.getrandbits(bits_of(explainer))
        value |= draw.choice((0, 1, 3, 0xC << 60 if bits_of(explainer) == 64 else 1))  # valid more often
        found = explainer.entry(value, level)
        seen.add(found.kind)
        if found.kind == INVALID:
            continue
        for field in found.fields:
            for bit in range(field.low, field.high + 1):
                other = explainer.entry(value ^ 1 << bit, level)
                taken = not found.wrong and not other.wrong
                if other.kind == found.kind and (field.address or taken):
                    assert (other.phys != found.phys) == field.address, (field, bit)
    assert {LEAF, TABLE} <= seen


@pytest.mark.parametrize(
    ("arch", "name", "right"),
    [
        ("arm64-4k", "PXN", EXEC),
        ("arm64-16k", "UXN", USER_EXEC),
        ("x86_64", "XD", EXEC),
        ("x86_64", "R/W", WRITE),
        ("x86_64", "U/S", USER),
        ("riscv64-sv48", "X", EXEC),
        ("riscv64-sv48", "W", WRITE),
        ("riscv64-sv48", "U", USER),
        ("riscv64-sv48", "G", NORMAL),
        ("powerpc64-radix", "EAA[3]", EXEC),
        ("powerpc64-radix", "EAA[2]", WRITE),
        ("powerpc64-radix", "EAA[0]", USER),
        ("powerpc-8xx", "_PAGE_EXEC", EXEC),
        ("powerpc-8xx", "CI", NORMAL),
        ("loongarch64", "NX", EXEC),
    ],
)
def test_a_bit_that_is_named_for_a_right_decides_about_it(arch, name, right):
    explainer = Explainer(ARCHES[arch])
    value = ARCHES[arch].leaf_prot(ARCHES[arch].page_kernel, 0)
    (found,) = (field for field in explainer.form.fields(0, True) if field.name == name)
    rights = explainer.form.decode(0, np.array([value, value ^ 1 << found.low], dtype=np.uint64)).rights
    assert int(rights[0] ^ rights[1]) & right


@pytest.mark.parametrize("arch", NAMES)
def test_the_walk_of_every_page_ends_at_its_frame_in_an_entry_that_the_kernel_made(arch):
    kernel = Kernel(arch)
    source = pages.load("heap:8M,fragmentation=0.5,seed=1", arch)
    mapping = kernel.vmap(source)
    explainer = Explainer(kernel.arch)
    place = kernel.live_tables(), kernel.arch.table_base, kernel.table_root
    page = kernel.arch.page_size
    for number in range(0, len(source), 37):
        va = mapping.addr + number * page
        *above, last = list(explainer.walk(*place, va))
        assert [step.entry.kind for step in above] == [TABLE] * len(above)
        assert all(step.entry.same == "p?d_populate()" for step in above)
        assert (last.entry.kind, last.entry.wrong) == (LEAF, "")
        assert last.entry.same in ("PAGE_KERNEL", "pgprot_nx(PAGE_KERNEL)")
        for byte in (0, 5, page // 2 + 3, page - 1):
            steps = list(explainer.walk(*place, va + byte))
            assert explainer.translate(steps, va + byte) == int(source[number]) * page + byte
    outside = list(explainer.walk(*place, mapping.addr + mapping.size))  # the guard page
    assert outside[-1].entry.kind == INVALID


@pytest.mark.parametrize("arch", NAMES)
def test_every_store_is_told_by_level_and_address(arch):
    kernel = Kernel(arch, record=True)
    mapping = kernel.vmap(pages.load("heap:1M", arch))
    explainer = Explainer(kernel.arch)
    place = kernel.live_tables(), kernel.arch.table_base, kernel.table_root
    stores = explainer.stores(mapping.events, *place)
    told = [step for event, step in zip(mapping.events, stores, strict=True) if event.kind == "store"]
    assert None not in told
    leaves = [step for step in told if step.entry.kind == LEAF]
    vas = {step.va for step in leaves}
    assert {int(va) for va in mapping.leaves["va"]} <= vas
    assert all(mapping.addr <= va < mapping.addr + mapping.size for va in vas)
    walked = {step.at for va in vas for step in explainer.walk(*place, va)}
    assert {step.at for step in leaves} <= walked


@given(st.sampled_from(NAMES), st.integers(0, 4), st.integers(0, (1 << 64) - 1))
def test_any_number_can_be_read_or_is_refused_in_a_line(arch, level, value):
    explainer = Explainer(ARCHES[arch])
    try:
        found = explainer.entry(value, min(level, len(explainer.names) - 1))
    except InputError as error:
        assert bits_of(explainer) == 32 <= value.bit_length() and "32 bits" in str(error)
        return
    assert sum(field.of(value) << field.low for field in found.fields) == value


def test_an_entry_is_printed_with_the_names_of_the_manual():
    done = vmaplab("explain", "0xf8000100005703", "--arch", "arm64")
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    assert head.endswith("a PTE entry on arm64-4k: 4K at PFN 0x100005, in a 64K group; PAGE_KERNEL")
    names = [line.split()[1] for line in lines[2:-1]]
    for name in ("UXN", "PXN", "Contiguous", "DBM", "GP", "OA", "nG", "AF", "SH", "AP[2:1]", "NS", "AttrIndx"):
        assert name in names
    private = vmaplab("explain", hex(0xF8000100005703 | 1 << 11), "--arch", "arm64", "--boot-args", "kpti=1").stdout
    assert "PAGE_KERNEL" in private.splitlines()[0]


def test_an_entry_as_json_has_every_field():
    done = vmaplab("explain", "0x80000001000001e3", "--arch", "amd64", "--level", "pmd", "--json")
    found = json.loads(done.stdout)
    assert (found["output"], found["arch"], found["level"], found["kind"]) == ("explain", "x86_64", "PMD", "leaf")
    assert (found["size"], found["phys_hex"], found["value_hex"]) == (2 << 20, "0x100000000", "0x80000001000001e3")
    assert {"high": 7, "low": 7, "name": "PS", "value": 1, "means": "maps a page"} in found["fields"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("0xzz",), "is no entry"),
        (("-1",), "No such option"),
        (("0x1", "--level", "P4D"), "has no level 'P4D'; it has PTE, PMD, PUD, PGD"),
        (("0x100000000", "--arch", "8xx"), "those have 32 bits"),
        (("0x1", "--config", "KASAN=y"), "name one with --tree"),
        (("0x1", "--release", "6.12", "--tree", "/nowhere"), "--release is for the model"),
    ],
)
def test_what_cannot_be_explained_is_said_in_one_line(words, says):
    done = vmaplab("explain", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_map_walks_an_address_or_bytes_from_the_start():
    first = vmaplab("map", "heap:128K", "--explain", "0x5000").stdout
    assert "PTE[5]" in first
    assert first == vmaplab("map", "heap:128K", "--explain", "0xffff800080005000").stdout
    found = json.loads(vmaplab("map", "heap:128K", "--explain", "0x5000", "--json").stdout)["walk"]
    assert [step["entry"]["level"] for step in found["steps"]] == ["PGD", "PUD", "PMD", "PTE"]
    assert found["steps"][-1]["entry"]["pfn"] == 0x100005
    refused = vmaplab("map", "heap:128K", "--explain", "0x7fff00000000")
    assert (refused.returncode, "nor an address of vmalloc space" in refused.stderr) == (2, True)
    behind = vmaplab("map", "heap:128K", "--explain", "131072")
    assert (behind.returncode, "one of the 0x20000 bytes" in behind.stderr) == (2, True)
    for word in ("-1", "''", "0x", "1_0", "\u0663"):
        assert vmaplab("map", "heap:128K", "--explain", word).returncode == 2


@pytest.mark.parametrize(
    ("arch", "level", "value", "said"),
    [
        ("arm64-4k", "PMD", 0x68000040010701, "2M at PFN 0x40000"),  # nT is no address
        ("riscv64-sv39", "PTE", 0x20000067, "dirty bit clear"),
        ("powerpc64-radix", "PTE", 0xC000000000010107, "dirty bit clear"),
        ("arm64-4k", "PTE", 0x68000100000F01, "reserved encoding"),
        ("riscv64-sv39", "PTE", 0x20000001, "reserved encoding"),
    ],
)
def test_what_an_mmu_makes_of_odd_entries_is_said(arch, level, value, said):
    explainer = Explainer(ARCHES[arch])
    found = explainer.entry(value, explainer.level_of(level))
    words = in_words(explainer, found)
    assert said in words
    assert "table at" not in words


def test_a_pointer_of_riscv_has_no_rights_of_its_own():
    explainer = Explainer(ARCHES["riscv64-sv39"])
    found = explainer.entry(0x20000001, 1)
    assert found.kind == TABLE
    said = " ".join(found.means(field) for field in found.fields)
    assert "pointer" in said and "supervisor" not in said and "not written" not in said


@pytest.mark.parametrize("closed", ["1>&-", "2>&-"])
def test_a_closed_output_is_no_surprise(closed):
    command = f"{sys.executable} -m vmaplab map heap:64K {closed}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "not expected" not in done.stdout + done.stderr
    assert done.returncode == (2 if closed.startswith("1") else 0)


@needs_kernel
def test_the_kernels_own_entries_are_explained_alike():
    for more in ((), ("--verify",)):
        words = ("map", "heap:64K", "--arch", "x86_64", "--explain", "0", "--json", *more)
        ours, theirs = (json.loads(vmaplab(*words, *other).stdout)["walk"] for other in ((), ("--object",)))
        assert [step["index"] for step in ours["steps"]] == [step["index"] for step in theirs["steps"]]
        last = [walk["steps"][-1]["entry"] for walk in (ours, theirs)]
        assert last[0]["fields"] == last[1]["fields"] or last[0]["pfn"] == last[1]["pfn"]
        assert {entry["same"] for entry in last} <= {"PAGE_KERNEL", "pgprot_nx(PAGE_KERNEL)"}


@needs_kernel
def test_a_tree_says_what_its_protections_are():
    done = vmaplab("explain", "0xf8000100005703", "--tree", str(tree_of()))
    assert done.stdout.splitlines()[0].endswith("; PAGE_KERNEL")
    assert done.stdout == vmaplab("explain", "0xf8000100005703", "--release", "6.12").stdout


def test_a_mapping_shows_itself_in_a_notebook():
    mapping = Kernel("x86_64").vmap(pages.load("heap:1M", "x86_64"))
    shown = mapping._repr_html_()
    assert f"{mapping.addr:#x}" in shown
    assert "... and 246 more" in shown
    assert f"<td>leaves</td><td>{mapping.cost.leaves}</td>" in shown
