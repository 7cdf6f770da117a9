# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that boot in QEMU: what they do is what model and emulator do, and what breaks in them is told."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from command import VMAPLAB
from effort import LONG, some
from json_support import matches, valid
from object_support import needs_kernel
from patches import Edit, mailed, repository
from vmaplab.boot.board import BOARDS, board_of
from vmaplab.boot.build import FAULTS, Bootable, build
from vmaplab.boot.checks import CHECKS, checks_of, report_in
from vmaplab.boot.guest import _cause
from vmaplab.boot.machine import CALLS, BootedKernel, Step, lines_of
from vmaplab.calls.scenario import parse
from vmaplab.calls.table import STEPS
from vmaplab.check.booted import Trio, check_booted
from vmaplab.check.came import _is_same_page, _twice, kinds_of
from vmaplab.check.failing import check_failing
from vmaplab.check.sides import play
from vmaplab.check.together import EACH, _round, check_together, program
from vmaplab.check.tree import facts_of
from vmaplab.errors import InputError, KernelFault, Unprovided, VmapError
from vmaplab.judge import walker
from vmaplab.kernel import Kernel
from vmaplab.object import build as objects
from vmaplab.object import targets
from vmaplab.object.targets import smp
from vmaplab.release import RELEASES
from vmaplab.report import boots
from vmaplab.report import series as report
from vmaplab.report.series_mail import as_mail
from vmaplab.series import mails
from vmaplab.series.ask import Effort
from vmaplab.series.run import review_series

SNIPPETS = Path(__file__).parent / "snippets" / "booted.c"
ARCHES = [
    "arm64-4k",
    *(
        pytest.param(one, marks=pytest.mark.skipif(not LONG, reason="make nightly"))
        for one in ("x86_64", "riscv64-sv39")
    ),
]


def bootable(arch: str = "arm64-4k", **given) -> Bootable:
    if shutil.which(board_of(arch).command[0]) is None:
        pytest.skip(f"{board_of(arch).command[0]} is not installed")
    return build(arch, **given)


def both(call: str) -> tuple[Bootable, objects.Built]:
    """A kernel and an object that have the functions of SNIPPETS, and call one of them for vmap()."""
    given = {"snippet": SNIPPETS, "call": call}
    return bootable(**given), objects.build(targets.get("arm64-4k"), **given)


def vmaplab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VMAPLAB, *words], capture_output=True, text=True, check=False)


def test_the_calls_that_can_be_made_are_calls_of_the_table():
    assert set(STEPS) >= CALLS


def test_each_family_of_the_object_engine_has_a_board():
    assert set(BOARDS) == {target.family.name for target in targets.TARGETS.values()}


def test_pages_taken_one_by_one_differ_in_their_bits_unless_their_leaves_do():
    """A contiguous group has a bit of its own; whether pages make one is chance."""
    assert not _is_same_page((0x1000, 3, 0x703, 1), (0x1000, 3, 0x723, 1))
    assert _is_same_page((0x1000, 3, 0x703, 1), (0x1000, 3, 0x10703, 16))
    assert not _is_same_page((0x1000, 3, 0x703, 1), (0x1000, 1, 0x10703, 16))


def test_an_architecture_that_nothing_boots_is_refused():
    with pytest.raises(InputError, match="no kernel of s390x can be booted; arm64-4k, arm64-16k"):
        board_of("s390x")
    done = vmaplab("boot", "--arch", "x86_64-la57,nonsense")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "unknown architecture 'nonsense'" in done.stderr


def test_what_a_booted_kernel_is_not_asked_for_is_refused():
    for words in (["--faults"], ["--base", "/"], ["--calls", "3"], ["--cpus", "2"]):
        done = vmaplab("check", "--booted", *words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and f"leave out {words[0]}\n" in done.stderr


def test_without_qemu_it_is_said_which_package_has_it(monkeypatch):
    monkeypatch.setattr("vmaplab.boot.build.shutil.which", lambda tool: None)
    monkeypatch.setattr("vmaplab.boot.build.tree_of", lambda: Path("/"))
    monkeypatch.setattr("vmaplab.boot.build.check_tree", lambda tree: "6.12.1")
    with pytest.raises(InputError, match=r"qemu-system-riscv64 is missing .*; apt-get install qemu-system-misc"):
        build("riscv64-sv48")


def test_lines_of_vmallocinfo_lose_their_callers_and_what_was_there_since_boot():
    text = (
        "0xffff800080000000-0xffff800080002000    8192 start_kernel+0x1/0x2 pages=1 vmalloc N0=1\n"
        "0xffff800080004000-0xffff800080006000    8192 0xffff80008015bd0c phys=0x0000000040200000 ioremap\n"
    )
    reserved = np.array([[0xFFFF_8000_8000_0000, 0xFFFF_8000_8000_2000]], dtype=np.uint64)
    assert lines_of(text, reserved) == ["0xffff800080004000-0xffff800080006000 8192 phys=0x0000000040200000 ioremap"]
    assert len(lines_of(text, reserved[:0])) == 2


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (
            "x\nkernel BUG at mm/vmalloc.c:113!\npc : 0x12\nKernel panic - not",
            "kernel BUG at mm/vmalloc.c:113! (pc : 0x12)",
        ),
        (
            "BUG: unable to handle page fault\nRIP: 0010:vmap+0x1\n",
            "BUG: unable to handle page fault (RIP: 0010:vmap+0x1)",
        ),
        ("all is well", ""),
    ],
)
def test_why_a_kernel_has_stopped_is_said_in_its_words(said, why):
    assert _cause(said.encode()) == why


def test_reports_of_the_kernels_checks_are_told_from_warnings():
    assert report_in("[    1.0] BUG: KASAN: vmalloc-out-of-bounds in vmap+0x1/0x2") == (
        "BUG: KASAN: vmalloc-out-of-bounds in vmap+0x1/0x2"
    )
    assert report_in("[ BUG: Invalid wait context ]") == "BUG: Invalid wait context"
    for line in ("WARNING: possible recursive locking detected", "WARNING: inconsistent lock state"):
        assert report_in(line) == line
    for line in (
        "WARNING: CPU: 0 PID: 1 at mm/vmalloc.c:1 vmap+0x1",
        "WARNING: mm/vmalloc.c:1 at vmap+0x1, CPU#0: init/1",
    ):
        assert report_in(line) == ""
    assert checks_of("all") == tuple(CHECKS) and checks_of("lockdep, kasan") == ("kasan", "lockdep")
    with pytest.raises(InputError, match="unknown check 'x'"):
        checks_of("kasan,x")


def test_a_program_ends_only_what_it_has_mapped_and_once():
    for seed in range(20):
        steps = program(np.random.Generator(np.random.PCG64(seed)), 1 << 16)
        assert len(steps) == EACH
        ends = [step.ref for step in steps if step.ref >= 0]
        assert len(set(ends)) == len(ends) > 20
        pairs = {"vunmap": "vmap", "vfree": "vmaplab_vmalloc", "vm_unmap_ram": "vm_map_ram"}
        for number, step in enumerate(steps):
            if step.ref >= 0:
                begun = steps[step.ref]
                assert step.ref < number and pairs[step.function] == begun.function
                if step.function == "vm_unmap_ram":
                    assert begun.pfns is not None and step.arguments[1] == len(begun.pfns) == begun.arguments[1]


class Confused:
    """A booted kernel that gave two CPUs the same address, or says something that breaks a rule."""

    def __init__(self, results, entries=None):
        self.arch, self.kernel = Kernel("arm64-4k").arch, SimpleNamespace(target=targets.get("arm64-4k"))
        self.results, self.reserved, self.first_frame = results, np.zeros((0, 2), dtype=np.uint64), 0
        self.entries = np.zeros(0, dtype=walker.ENTRY) if entries is None else entries

    def together(self, programs):
        return self.results

    def since(self, areas):
        return self.entries


def test_one_address_for_two_cpus_is_told_as_what_it_is():
    steps = [Step("vmap", (0, 2, 4), np.array(pfns, dtype=np.uint64)) for pfns in ([1, 2], [3, 4])]
    live, wrong = _round(Confused([[0x5000], [0x5000]]), [[step] for step in steps])
    assert len(live) == 2 and "(call 0 of CPU 1) lies in 2 pages at 0x5000 (call 0 of CPU 0)" in wrong


def test_a_leaf_that_breaks_a_rule_is_what_a_run_on_several_cpus_came_to(monkeypatch):
    entries = np.zeros(1, dtype=walker.ENTRY)
    entries["va"], entries["size"], entries["phys"] = 0x200000, 0x200000, 0x1000
    booted = Confused([[]], entries)
    booted.values, booted.total_pages, booted.close = {"page_kernel": 0}, 1 << 16, lambda: None
    monkeypatch.setattr("vmaplab.check.together.BootedKernel", lambda kernel, cpus: booted)
    monkeypatch.setattr("vmaplab.check.together.program", lambda rng, frames: [])
    assert "not aligned" in check_together(None, 1, 3).difference


def test_several_cpus_are_compared_with_no_model():
    done = vmaplab("boot", "--cpus", "2", "--scenario", "vmap 0x1")
    assert (done.returncode, done.stderr) == (2, "vmaplab: --cpus compares with no model; leave out --scenario\n")


def test_a_page_that_two_entries_map_is_found():
    entries = np.zeros(3, dtype=walker.ENTRY)
    entries["phys"], entries["size"] = [0x400000, 0x200000, 0x600000], [0x1000, 0x200000, 0x1000]
    assert _twice(entries) == 0 and _twice(entries[:0]) == 0
    entries["phys"][2] = 0x3FF000
    assert _twice(entries) == 0x3FF000


@needs_kernel
@pytest.mark.slow
class TestBooted:
    @pytest.mark.parametrize("arch", ARCHES)
    def test_it_does_what_model_and_object_do(self, arch):
        found = check_booted(bootable(arch), objects.build(targets.get(arch)), some(2000))
        assert (found.difference, found.scenarios, found.boots) == ("", some(2000), 1)
        assert found.pages > 20 * some(2000)

    def test_batched_mapping_does_what_mm_unstable_says(self):
        kernel, built = both("batched_vmap")
        found = check_booted(kernel, built, some(1000))
        assert found.difference == "" and found.against.startswith("mm-unstable over")

    def test_a_wrong_frame_is_found(self):
        found = check_booted(*both("has_a_wrong_frame"), 200)
        assert "an entry" in found.difference and "booted:" in found.difference and found.scenario is not None

    def test_another_release_is_another_kernel(self):
        built = objects.build(targets.get("arm64-4k"))
        wrong = facts_of(built).under(RELEASES["mm-unstable"])
        assert check_booted(bootable(), built, 100, release=wrong).difference != ""

    def test_what_kills_it_is_told_and_it_is_booted_anew(self):
        kernel = BootedKernel(bootable())
        try:
            with pytest.raises(KernelFault, match=r"Unable to handle|paging request"):
                kernel._call("memset", 0x10, 0, 8)
            with pytest.raises(KernelFault, match="the kernel has ended"):
                kernel.vmap([1])
            kernel.reset()
            assert kernel.boots == 2 and kernel.vmap([1]).leaves["size"].tolist() == [4096]
            with pytest.raises(Unprovided):
                kernel.set_limit(3)
        finally:
            kernel.close()

    def test_nothing_is_left_of_a_scenario(self):
        trio = Trio(bootable(), objects.build(targets.get("arm64-4k")))
        first = trio.booted.reserved
        try:
            for text in (
                "vmap 0x100+16; vmalloc 700; map_ram 0x5+3; ioremap 0x80000+512; area 3",
                "area 1; map @0 0x0+40 12",
            ):
                assert trio.compare(parse(text))[0] == ""
                trio.booted.reset()
                assert len(trio.booted.since(trio.booted.reserved)) == 0 and trio.booted.boots == 1
                assert np.array_equal(trio.booted.areas(), first)
        finally:
            trio.close()

    def test_a_kernel_that_dies_while_all_is_ended_has_died_of_the_scenario(self):
        kernel = BootedKernel(bootable())
        try:
            kernel.vmap([1])
            kernel._call("vmaplab_forget")
            with pytest.raises(KernelFault):
                kernel._call("memset", 0x10, 0, 8)
            assert "the kernel has ended" in kernel.reset() and kernel.boots == 2
            assert kernel.reset() == ""
        finally:
            kernel.close()

    @pytest.mark.parametrize(
        ("what", "told"),
        [
            ("reset", "when all is ended\n  booted: kernel BUG at mm/vmalloc.c:1"),
            ("complaint", "what the kernel says\n  the model: nothing\n  booted:    kernel BUG at mm/vmalloc.c:1"),
        ],
    )
    def test_what_a_kernel_says_or_dies_of_where_all_else_is_the_same_is_a_difference(self, monkeypatch, what, told):
        kernel, built = bootable(), objects.build(targets.get("arm64-4k"))
        assert check_booted(kernel, built, 1, scenario=parse("vmap 0x1")).difference == ""
        monkeypatch.setattr(BootedKernel, what, lambda self: "kernel BUG at mm/vmalloc.c:1")
        assert check_booted(kernel, built, 1, scenario=parse("vmap 0x1")).difference == told

    def test_frames_of_an_area_in_the_place_of_another_are_compared(self):
        model = Kernel("arm64-4k", "linux-6.12")
        scenario = parse("vmalloc 4; vfree @0; aliases; vmap 0x100+4; vmap_put 3; ioremap 0x80000+2")
        results, _, _ = play(model, scenario)
        info = lines_of(model.vmalloc_info(), np.empty((0, 2), dtype=np.uint64))
        kinds = kinds_of(info, scenario, results, 4096)
        assert results[0] == results[3] and [start for start, _ in kinds.own] == [results[4]]
        assert kinds.single == kinds.own and [start for start, _ in kinds.given] == [results[5]]

    def test_what_a_call_queues_runs_behind_it(self):
        """vfree() lets others run between its pages: a purge that ran there left the area of its page array."""
        steps = "area {}; vunmap @0; vmalloc 1025 huge align=1024 gfp=GFP_KERNEL|__GFP_NOFAIL; vfree @2"
        built = objects.build(targets.get("arm64-4k"))
        for pages in (7994, 7995):
            assert check_booted(bootable(), built, 1, scenario=parse(steps.format(pages))).difference == ""

    @pytest.mark.skipif(not LONG, reason="make nightly: another kernel, of minutes")
    def test_the_kernels_own_checks_find_nothing_in_the_kernel(self):
        kernel = bootable(checks=tuple(CHECKS))
        found = check_booted(kernel, objects.build(targets.get("arm64-4k")), 500)
        assert (found.difference, found.scenarios) == ("", 500)

    @pytest.mark.skipif(not LONG, reason="make nightly: another kernel, of minutes")
    @pytest.mark.parametrize(
        ("call", "report"),
        [
            ("reads_behind_the_array", "BUG: KASAN: slab-out-of-bounds in reads_behind_the_array"),
            ("takes_locks_in_both_orders", "WARNING: possible circular locking dependency detected"),
            ("frees_a_mapped_page", "kernel BUG at mm/page_table_check.c"),
            ("holds_a_free_page", "kernel BUG at include/linux/mm.h"),
        ],
    )
    def test_the_kernels_own_checks_report_what_was_put_in(self, call, report):
        given = {"snippet": Path(__file__).parent / "snippets" / "reports.c", "call": call}
        kernel = bootable(checks=tuple(CHECKS), **given)
        found = check_booted(kernel, objects.build(targets.get("arm64-4k"), **given), 200)
        assert report in found.difference and found.scenario is not None

    def test_boot_arguments_are_given_to_all_three(self):
        kernel, built = both("batched_vmap")
        for boot_args in ("nohugevmalloc", "nohugeiomap"):
            assert check_booted(kernel, built, 40, boot_args=boot_args).difference == ""
        done = vmaplab("boot", "--boot-args", "nosuchthing")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "unknown boot argument" in done.stderr

    def test_what_the_emulator_does_not_have_is_held_against_the_model_alone(self):
        found = check_booted(*both("copies"), 30)
        assert found.difference == "" and found.scenarios == 30
        assert found.without.startswith("copies() calls kmemdup")

    @pytest.mark.skipif(not LONG, reason="make nightly: another kernel, of minutes")
    def test_several_cpus_map_at_the_same_time(self):
        found = check_together(bootable(config=smp(4)), 4, 200)
        matches("boot-together", boots.together_as_json([found], 1))
        assert (found.difference, found.rounds, found.calls) == ("", 200, 200 * 4 * EACH)
        assert found.pages > 200 * 100

    @pytest.mark.skipif(not LONG, reason="make nightly: another kernel, of minutes")
    def test_an_array_that_callers_share_is_met(self):
        given = {"snippet": Path(__file__).parent / "snippets" / "races.c", "call": "shares_its_array"}
        found = check_together(bootable(config=smp(4), **given), 4, 1000)
        assert "goes to frame" in found.difference and "of CPU" in found.difference

    def test_what_cannot_be_asked_for_is_refused_in_one_line(self):
        for steps in (
            "boot nohugeiomap; vmap 0x1",
            "pages 0x8000; vmap 0x1",
            "tables 3; vmap 0x1",
            "vmap 0x0+0x100000",
        ):
            done = vmaplab("boot", "--scenario", steps)
            assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)

    def test_it_ends_with_whoever_made_it(self):
        bootable()
        code = (
            "import os; from vmaplab.boot.build import build; from vmaplab.boot.guest import Guest;"
            "guest = Guest(build('arm64-4k')); print(guest._process.pid, flush=True); os._exit(0)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        process = Path("/proc", done.stdout.strip())
        for _ in range(100):
            if not process.exists() or "Z" in (process / "stat").read_text().split()[2]:
                break
            time.sleep(0.05)
        else:
            pytest.fail("QEMU is still there")

    def test_the_command_says_what_was_compared(self):
        bootable()
        done = vmaplab("boot", "--cases", "20", "--json")
        (told,) = valid(done.stdout)
        assert done.returncode == 0 and (told["scenarios"], told["verdict"], told["boots"]) == (20, "same", 1)


@needs_kernel
@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "told", "alone"),
    [
        ("fails_after_fifty", "booted:    NULL", False),
        ("leaves_an_area", " is left", True),
        ("warns", "a WARN()", True),
    ],
)
def test_what_comes_of_what_went_before_is_told_too(call, told, alone):
    found = check_booted(*both(call), 200)
    assert told in found.difference and found.alone is alone


IN_INIT = [
    Edit(
        "mm/vmalloc.c",
        "	might_sleep();\n\n	if (WARN_ON_ONCE(flags & VM_FLUSH_RESET_PERMS))",
        "	might_sleep();\n	if (current->pid && count == 2)\n		return NULL;\n\n"
        "	if (WARN_ON_ONCE(flags & VM_FLUSH_RESET_PERMS))",
    )
]
NO_FLUSH = [
    Edit(
        "mm/vmalloc.c",
        "	err = vmap_pages_range_noflush(addr, end, prot, pages, page_shift);\n	flush_cache_vmap(addr, end);",
        "	err = vmap_pages_range_noflush(addr, end, prot, pages, page_shift);\n	flush_cache_vmap(end, end);",
    )
]
COMMENT = [Edit("mm/vmalloc.c", "void vunmap(const void *addr)\n{", "/* nothing */\nvoid vunmap(const void *addr)\n{")]


@needs_kernel
@pytest.mark.slow
@pytest.mark.skipif(not LONG, reason="make nightly: a kernel for each patch")
def test_the_trees_of_a_series_are_booted(tmp_path):
    """What only a kernel that runs does is told of its patch; what a judge finds is tried there, too."""
    bootable()
    tree = objects.tree_of()
    patches = [("comment", COMMENT), ("flush nothing", NO_FLUSH), ("refuse two pages", IN_INIT)]
    repo = repository(tree, tmp_path / "repo", patches)
    series = mails.read([str(path) for path in mailed(repo, tmp_path / "mails", 3)])
    found = review_series(series, tree, "Debian's", ["arm64-4k"], Effort(20, 10), booted=True)
    told = [report.booted_of(found, number) for number in range(4)]
    assert told == ["as its code here", "-", "as its code here", "arm64-4k DIFFERENT"]
    by_kind = {remark.kind: remark for remark in found.remarks if remark.is_wrong}
    assert set(by_kind) == {"wrong", "booted"}
    assert (by_kind["wrong"].first, by_kind["wrong"].booted) == (2, "the same results, entries and areas")
    booted = by_kind["booted"]
    assert (booted.first, booted.wrong.scenario.split()[0], found.unfinished) == (3, "vmap", 0)
    assert booted.place.startswith("mm/vmalloc.c:") and report.commands(booted)[0][0] == "boot"
    text = report.as_text(found)
    assert "booted: in QEMU; results, areas and entries as of its code in the emulator, " in text
    assert "WRONG: 2 things" in text and "booted: the same results" in as_mail(found)


@needs_kernel
@pytest.mark.skipif(not LONG, reason="make nightly: another kernel, of minutes")
def test_a_kernel_with_another_allocator_is_held_against_its_code_alone():
    tree = objects.tree_of("linux-source-6.1")
    found = check_booted(bootable(tree=tree), objects.build(targets.get("arm64-4k"), tree), 200)
    assert (found.difference, found.scenarios, found.against) == ("", 200, "")
    assert found.unmodelled == "the model has the allocator of kernels from 6.9 on"


@needs_kernel
@pytest.mark.skipif(not LONG, reason="make nightly: another kernel, of minutes")
class TestFailingAllocations:
    def test_what_fails_booted_fails_so_in_the_emulator(self):
        found = check_failing(bootable(config=FAULTS), objects.build(targets.get("arm64-4k")), 200)
        matches("boot-failing", boots.failing_as_json([found], [""], 1))
        assert (found.difference, found.scenarios) == ("", 200)
        assert found.outcomes > found.met > 0.7 * found.outcomes and found.runs > found.failed > 200

    def test_an_error_path_that_goes_otherwise_booted_is_told(self, tmp_path):
        file = tmp_path / "again.c"
        head = "void *again(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)"
        file.write_text(
            f"{head};\n{head}\n{{\n\tvoid *addr = vmap(pages, count, flags, prot);\n\n"
            "\treturn addr || !current->pid ? addr : vmap(pages, 1, flags, prot);\n}\n"
        )
        given = {"snippet": file, "call": "again"}
        kernel = bootable(config=FAULTS, **given)
        found = check_failing(kernel, objects.build(targets.get("arm64-4k"), **given), 20)
        assert "booted: " in found.difference and str(found.scenario).startswith("fail ")

    @pytest.mark.parametrize(
        ("call", "told"),
        [("leaves_an_area_on_failure", "when all is ended"), ("fails_without_failure", "booted:     NULL")],
    )
    def test_what_is_left_behind_and_what_fails_without_a_failure_is_told(self, call, told):
        given = {"snippet": SNIPPETS, "call": call}
        kernel = bootable(config=FAULTS, **given)
        found = check_failing(kernel, objects.build(targets.get("arm64-4k"), **given), 40)
        assert told in found.difference

    def test_two_at_a_time_are_not_to_be_had(self):
        kernel = BootedKernel(bootable(config=FAULTS))
        try:
            with pytest.raises(Unprovided, match="one allocation of a task fail, not two"):
                kernel.fail([1, 2])
            kernel.fail([0])
            with pytest.raises(VmapError):
                kernel.vmap([1])
            assert kernel.allocations == 1
        finally:
            kernel.close()
