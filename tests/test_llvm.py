# SPDX-License-Identifier: GPL-2.0-only
"""Objects that clang and ld.lld build, where the environment says LLVM= as it does to kbuild."""

from __future__ import annotations

import os
import shutil

import pytest

from effort import LONG, some
from object_support import changed_tree, needs_kernel
from vmaplab.check.campaign import check
from vmaplab.check.coverage import VMALLOC, Coverage
from vmaplab.check.plan import Plan
from vmaplab.errors import InputError
from vmaplab.object import build, targets, tools
from vmaplab.release import RELEASES

ARM64 = targets.get("arm64-4k")
FOUND = all(map(shutil.which, ("clang", "ld.lld", "llvm-strip")))
REQUIRED = os.environ.get("VMAPLAB_REQUIRE_KERNEL", "0") not in ("", "0")
needs_llvm = pytest.mark.skipif(not FOUND and not REQUIRED, reason="clang, ld.lld or llvm-strip is not installed")


def verdict_of(built: build.Built, cases: int):
    return check(Plan(built, None, RELEASES["linux-6.12"], {}, 1), cases, jobs=1)


@needs_llvm
@needs_kernel
@pytest.mark.slow
@pytest.mark.parametrize(
    "arch", ["arm64-4k", pytest.param("x86_64", marks=pytest.mark.skipif(not LONG, reason="slow"))]
)
def test_what_clang_builds_does_what_gcc_builds(arch, monkeypatch, tmp_path):
    target = targets.get(arch)
    by_gcc = build.build(target)
    monkeypatch.setenv("LLVM", "1")
    built = build.build(target)
    assert "clang" in built.compiler and built.guessed == () and built.answers == by_gcc.answers
    verdict = verdict_of(built, some(2000))
    assert (verdict.word, verdict.cases) == ("same", some(2000))
    assert verdict.ran is not None
    source, covered = (built.tree / VMALLOC).read_text().splitlines(), Coverage.of(built, verdict.ran)
    ran = {*covered.ran[VMALLOC], *(line for line, did in covered.passed[VMALLOC].items() if did)}
    lines = {source[line - 1].strip() for line in ran}
    inlined = "err = vmap_pages_p4d_range(pgd, addr, next, prot, pages, &nr, &mask);"
    assert len(ran) > 400 and inlined in lines

    tree = changed_tree(tmp_path / "tree", "mm/vmalloc.c", "flush_cache_vmap(addr, end);\n\treturn err;", "return err;")
    assert "flush_cache_vmap" in verdict_of(build.build(target, tree), 300).difference


@pytest.mark.parametrize("chosen", ["yes", "19", "0"])
def test_another_word_than_kbuilds_is_refused(monkeypatch, chosen):
    monkeypatch.setenv("LLVM", chosen)
    with pytest.raises(InputError, match=f"LLVM={chosen} is none of kbuild's"):
        tools.tools_for(ARM64.family)


@pytest.mark.parametrize(
    ("chosen", "packages"), [("1", "clang lld llvm make"), ("-19", "clang-19 lld-19 llvm-19 make")]
)
def test_a_missing_tool_of_llvm_says_how_to_get_it(monkeypatch, chosen, packages):
    monkeypatch.setenv("LLVM", chosen)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError, match=f"arm64 with LLVM={chosen}; apt-get install {packages}"):
        tools.tools_for(ARM64.family)
