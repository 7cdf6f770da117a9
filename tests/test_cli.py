# SPDX-License-Identifier: GPL-2.0-only
"""The command line as a user meets it: output, exit status, one line for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from command import AFRESH, starting
from object_support import EXAMPLE, needs_kernel
from vmaplab import pages
from vmaplab.arch import NAMES


def vmaplab(*words: str, **keywords) -> subprocess.CompletedProcess[str]:
    command = [*starting(**keywords), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **keywords)


def test_map_prints_leaves_and_cost():
    done = vmaplab("map", "heap:1M", "--arch", "arm64-4k", "--release", "series-v4")
    assert (done.returncode, done.stderr) == (0, "")
    assert "vmap() of 256 pages (1M) on arm64-4k, series-v4" in done.stdout
    assert "0xffff800080000000   64K      16     1M" in done.stdout
    assert "tlb_entries        16" in done.stdout


def test_map_json_has_the_promised_shape():
    done = vmaplab("map", "heap:100K", "--release", "series-v4", "--boot-args", "nohugeiomap", "--json")
    result = json.loads(done.stdout)
    assert list(result)[:5] == ["schema", "output", "version", "options", "arch"]
    assert result["options"]["boot_args"] == "nohugeiomap"
    assert (result["arch"], result["release"], result["boot_args"]) == ("arm64-4k", "series-v4", "nohugeiomap")
    assert (result["addr"], result["pages"]) == (0xFFFF800080000000, 25)
    leaf = {"va": 0xFFFF800080000000, "va_hex": "0xffff800080000000", "size": 65536, "pfn": 0x100000}
    assert result["leaves"][0] == leaf
    assert result["cost"]["tlb_entries"] == len(result["leaves"]) == 10


@pytest.mark.parametrize("arch", NAMES)
def test_map_says_why_each_base_page_is_one(arch):
    for release in ("linux-6.12", "mm-unstable"):
        done = vmaplab("map", "heap:4M,fragmentation=0.5,seed=1", "--arch", arch, "--release", release, "--json")
        found = json.loads(done.stdout)
        single = sum(leaf["size"] == found["page_size"] for leaf in found["leaves"])
        assert sum(found["small"].values()) == single
        told = vmaplab("map", "heap:4M,fragmentation=0.5,seed=1", "--arch", arch, "--release", release).stdout
        assert (f"{single} of {found['pages']} page" in told) == (single > 0)


def test_heap_of_100m_needs_16_times_fewer_tlb_entries_with_series_v4():
    entries = {}
    for release in ("linux-6.12", "series-v4"):
        done = vmaplab("map", "heap:100M", "--arch", "arm64-4k", "--release", release, "--json")
        entries[release] = json.loads(done.stdout)["cost"]["tlb_entries"]
    assert entries["linux-6.12"] == 16 * entries["series-v4"]


def test_map_shows_events():
    done = vmaplab("map", "heap:64K", "--events")
    assert done.stdout.count("\nstore  ") == 3 + 16
    assert "flush_cache_vmap" in done.stdout
    done = vmaplab("map", "heap:64K", "--events", "--json")
    assert json.loads(done.stdout)["events"][-1]["kind"] == "flush_cache_vmap"


@pytest.mark.slow
def test_compare_shows_every_release_and_says_which_architectures_cannot_take_the_source(tmp_path):
    done = vmaplab("compare", "heap:1M", "--arch", "all", "--json")
    rows = json.loads(done.stdout)
    assert len(rows) == 12 * 9
    assert {row["gain"] for row in rows if row["release"] == "linux-6.12"} == {1.0}
    path = tmp_path / "p.parquet"
    pages.save(str(path), pages.load("heap:1M", "arm64-16k"))
    rows = json.loads(vmaplab("compare", str(path), "--arch", "all", "--json").stdout)
    assert sorted({row["arch"] for row in rows if "cost" in row}) == ["arm64-16k", "loongarch64"]
    refused = {row["arch"]: row["refused"] for row in rows if "cost" not in row}
    assert "not valid" in refused.pop("powerpc-8xx-16k")  # RAM above 4 GiB
    assert all("pages of 16K" in reason for reason in refused.values())
    done = vmaplab("compare", str(path), "--arch", "x86_64")
    assert (done.returncode, done.stdout) == (2, "")
    text = vmaplab("compare", "heap:1M", "--arch", "arm64-4k,x86_64").stdout
    assert "series-v3" in text
    assert "16.0x" in text


def test_compare_with_one_release_still_relates_to_6_12():
    rows = json.loads(vmaplab("compare", "heap:1M", "--release", "series-v4", "--json").stdout)
    assert [(row["release"], row["gain"]) for row in rows] == [("series-v4", 16.0)]


def test_compare_advances_once_per_row_and_keeps_the_order_asked_for():
    from vmaplab.compare import compare

    steps = []
    arches, releases = ["x86_64", "loongarch64"], ["series-v4", "linux-6.12"]
    config = {"HAVE_ARCH_HUGE_VMAP": True}  # which loongarch64 cannot have
    rows = compare("heap:64K", arches, releases, config=config, advance=lambda: steps.append(1))
    assert len(steps) == 4
    assert [(row.arch, row.release) for row in rows] == [
        ("x86_64", "series-v4"),
        ("x86_64", "linux-6.12"),
        ("loongarch64", ""),
    ]


@pytest.mark.parametrize("suffix", ["txt", "csv", "npy", "parquet"])
def test_capture_writes_what_map_reads(tmp_path, suffix):
    path = str(tmp_path / f"p.{suffix}")
    done = vmaplab("capture", "heap:1M,fragmentation=0.5", "-o", path)
    assert (done.returncode, done.stdout) == (0, f"256 pages of 4K written to {path}\n")
    outputs = (vmaplab("map", source, "--json").stdout for source in ("heap:1M,fragmentation=0.5", path))
    direct, again = ({**json.loads(output), "options": None, "note": None} for output in outputs)
    assert direct == again


@pytest.mark.skipif(os.geteuid() != 0, reason="page frame numbers are hidden from ordinary users")
def test_a_live_process_can_be_captured_and_mapped(tmp_path):
    path = str(tmp_path / "p.parquet")
    assert vmaplab("capture", f"pid:{os.getpid()}", "-o", path).returncode == 0
    done = vmaplab("map", path, "--arch", "x86_64", "--json")
    assert json.loads(done.stdout)["pages"] > 100


@pytest.mark.parametrize("command", ["arches", "releases"])
def test_lists(command):
    text, data = vmaplab(command), json.loads(vmaplab(command, "--json").stdout)
    assert all(item["name"] in text.stdout for item in data)
    assert len(data) == {"arches": 12, "releases": 9}[command]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["frobnicate"],
        ["map"],
        ["map", "heap:1M", "extra"],
        ["map", "heap:1M", "--arch", "pdp11"],
        ["map", "heap:1M", "--release", "linux-7"],
        ["map", "heap:1M", "--boot-args", "quiet"],
        ["map", "heap:1M", "--config", "KASAN=y"],
        ["map", "heap:1M", "--config", "KMSAN"],
        ["map", "heap:1M", "--config", "KMSAN=maybe"],
        ["map", "heap:1M", "--config", "HAVE_ARCH_HUGE_VMAP=y", "--arch", "loongarch64"],
        ["map", "heap:1M", "--rows", "0"],
        ["map", "heap:1M", "--total-pages", "0"],
        ["map", "heap:1M", "--total-pages", "x"],
        ["map", "heap:1M", "--page-size", "4K"],
        ["map", "nowhere.txt", "--page-size", "1000"],
        ["map", "heap:1M,seed=1,seed=2"],
        ["map", "heap:oops"],
        ["map", "nowhere.txt"],
        ["map", "pid:4194305"],
        ["map", "what:ever"],
        ["map", "heap:1M", "--nonsense"],
        ["compare", "heap:1M", "--arch", "arm64-4k,pdp11"],
        ["compare", "heap:1M", "--release", ","],
        ["compare", "nowhere.parquet", "--arch", "all"],
        ["capture", "heap:1M"],
        ["capture", "heap:1M", "-o", "pages.doc"],
        ["capture", "heap:1M", "-o", "/nowhere/pages.txt"],
        ["arches", "x"],
    ],
    ids=" ".join,
)
def test_mistakes_get_one_line_on_stderr_and_status_2(words, tmp_path):
    done = vmaplab(*words, cwd=tmp_path)
    assert done.returncode == 2
    if words:
        assert done.stdout == ""
        assert done.stderr.startswith("vmaplab: ")
        assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_refusal_of_the_kernel_is_status_1():
    done = vmaplab("map", "heap:1M", "--total-pages", "10")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "vmaplab: the kernel would refuse: ENOMEM (Cannot allocate memory): 256 pages, but the machine has 10\n"
    )
    done = vmaplab("map", "heap:1M", "--total-pages", "10", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["errno"] == 12


def test_output_to_a_closed_pipe_is_no_error():
    for words in ("map heap:4M --events", "map heap:4M --json --release linux-6.12", "compare heap:1M --arch all"):
        command = f"set -o pipefail; {sys.executable} -m vmaplab.cli {words} | head -c 10"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=300)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_plain_python_and_compiled_code_print_the_same():
    source = "heap:40M,fragmentation=0.6"  # too large to run as plain Python by itself
    outputs = [
        vmaplab("map", source, "--arch", arch, "--json", env=os.environ | {"NUMBA_DISABLE_JIT": plain})
        for arch in ("arm64-4k", "powerpc-8xx-16k", "loongarch64")
        for plain in ("0", "1")
    ]
    assert all(done.stderr == "" for done in outputs)
    for compiled, plain in zip(outputs[::2], outputs[1::2], strict=True):
        assert compiled.stdout == plain.stdout


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path):
    nowhere = os.environ | {"XDG_CACHE_HOME": "/proc/none", "HOME": "/proc/none", "NUMBA_DISABLE_JIT": "0"}
    done = vmaplab("map", "heap:1M", env=nowhere)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "one.py").write_text(
        "from vmaplab._jit import jit\n@jit\ndef one(a):\n    return a + 1\nprint(one(1), one.signatures)\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "one.py"], capture_output=True, text=True, check=False, env=nowhere
    )
    assert (done.stdout, done.stderr.count("\n")) == ("2 [(int64,)]\n", 1)
    assert "no cache in /proc/none/vmaplab/numba" in done.stderr


def test_a_full_disk_is_one_line_and_status_2():
    with open("/dev/full", "w") as full:
        command = [*AFRESH, "map", "heap:1M"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (2, "vmaplab: cannot write the output: No space left on device\n")


def test_a_narrow_terminal_loses_no_column():
    script = f"stty cols 40; {sys.executable} -m vmaplab.cli compare heap:100K"
    done = subprocess.run(["script", "-qec", script, "/dev/null"], capture_output=True, text=True, timeout=300)
    assert "gain" in done.stdout
    assert "…" not in done.stdout


def test_extreme_page_frame_numbers_are_refused_without_noise(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("0x7fffffffffffffff\n0x8000000000000000\n")
    done = vmaplab("map", str(path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert vmaplab("map", "heap:1M", "--total-pages", "18446744073709551615").returncode == 0


def test_compare_has_no_ratio_to_a_baseline_that_refuses():
    done = vmaplab("compare", "heap:1M", "--total-pages", "1048600", "--json")
    rows = {row["release"]: row for row in json.loads(done.stdout)}
    assert "refused" in rows["linux-6.12"]
    assert rows["series-v4"]["gain"] is None
    text = vmaplab("compare", "heap:1M", "--total-pages", "1048600").stdout
    assert "linux-6.12 refuses: ENOMEM" in text
    assert vmaplab("compare", "heap:1M", "--total-pages", "10").returncode == 1


class TestReplay:
    def test_a_file_of_two_cpus(self, tmp_path):
        (tmp_path / "recorded.txt").write_text("# a buffer\nvmap 0x100+16\ncpu 1\nvunmap @0\n")
        done = vmaplab("replay", str(tmp_path / "recorded.txt"), "--cpus", "2", "--debug", "--info")
        assert (done.returncode, done.stderr) == (0, "")
        assert "@2  1    vunmap @0      0" in done.stdout and "unpurged vm_area" in done.stdout

    def test_json(self):
        steps = "vmalloc 512 huge; set_memory @0+1 3; unmap_ram 0x1 1"
        done = vmaplab("replay", steps, "-r", "linux-6.12", "-a", "riscv64-sv48", "--json")
        result = json.loads(done.stdout)
        assert [one["call"] for one in result["steps"]] == steps.split("; ")
        assert result["steps"][1]["set_memory"]["hazards"][0]["outcome"] == "whole"
        assert [one["bug"] for one in result["steps"]] == [False, False, True]

    def test_what_may_be_left_out_stands_in_any_order(self):
        done = vmaplab("replay", "vmalloc 4 gfp=GFP_NOFS flags=0x8 align=4 huge; vmalloc 4 by=vzalloc")
        assert done.returncode == 0 and "vmalloc 4 huge align=4 gfp=GFP_NOFS flags=0x8  0xffff" in done.stdout

    def test_each_step_says_what_it_came_to(self):
        steps = "memory 9; vmalloc 4 by=vmalloc_user; vmalloc 8; vfree @2; dump @1+1; remap @1 2 0x1"
        done = vmaplab("replay", steps)
        rows = {line.split("  ")[0]: line.split() for line in done.stdout.splitlines() if line.startswith("@")}
        assert done.returncode == 0 and rows["@0"][-1] == "9" and rows["@3"][-1] == "-" and rows["@5"][-1] == "0"
        assert "@3 is not called: @2 returned no address" in done.stdout
        assert "@4 prints 4-page vmalloc region starting at 0xffff800080000000" in done.stdout
        assert "@5 gives a process 0x100001+2" in done.stdout
        told = json.loads(vmaplab("replay", steps, "--json").stdout)["steps"]
        assert [one["called"] for one in told] == [True, True, True, False, True, True]
        assert told[5]["pfns"] == [0x100001, 0x100002] and told[4]["text"].startswith("4-page vmalloc region")

    def test_what_waits_for_ever_ends_it(self):
        steps = "vmalloc 512 huge at=0xffff800080001000+514 gfp=GFP_KERNEL|__GFP_NOFAIL; vmalloc 2"
        done = vmaplab("replay", steps)
        assert done.returncode == 0 and "@0 is not defined, or never ends" in done.stdout and "@1" not in done.stdout
        assert "__GFP_NOFAIL waits" in done.stdout

    def test_bytes_that_wrap_are_named(self):
        done = vmaplab("replay", "vmalloc 0x100001", "-a", "powerpc-8xx")
        assert "1 x 4K" in done.stdout
        assert "@0 asks for 0x100001000 bytes: an unsigned long of 32 bits holds 0x1000" in done.stdout

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["vmop 1"], "'vmop' is no step"),
            (["cpu 1"], "say --cpus 2"),
            (["steps.txt"], "there is no file steps.txt"),
            (["vmap 0x1; set_memory @0 0"], "step 1 (set_memory @0 0): set_memory_*() of 0 pages"),
            (["vmalloc 1 huge huge"], "'huge' cannot stand there"),
            (["vmap_put 513"], "step 0 (vmap_put 513): 513 pages: give as many as"),
            (["percpu 0+1"], "say --cpus 2"),
            (["vmalloc 1; vrealloc @0 2", "-r", "linux-6.1"], "step 1 (vrealloc @0 2): linux-6.1 has no vrealloc()"),
            (["shrink", "-r", "linux-6.1"], "linux-6.1 has no vmap_node_shrink_scan()"),
            (["memory 1 11"], "MAX_PAGE_ORDER is 10"),
            (["signal 2"], "it takes 0 to 1"),
            ([""], "at least"),
        ],
    )
    def test_bad_input_is_one_line(self, words, told):
        done = vmaplab("replay", *words)
        assert done.returncode == 2 and told in done.stderr and done.stderr.count("\n") == 1


class TestReplayVerified:
    STEPS = "vmap 0x100+16; vmalloc 512 huge; cpu 1; map_ram 0x200+3; vunmap @0; ioremap 0x40000+1024; vfree @1"

    def test_it_says_what_was_looked_at(self):
        done = vmaplab("replay", self.STEPS, "--cpus", "2", "--verify")
        assert (done.returncode, done.stderr) == (0, "")
        assert "Unicorn's arm64 CPU translates what is mapped, " in done.stdout and "\nuntil" not in done.stdout
        assert "areas in use: 1, 4100K" in done.stdout

    def test_it_says_after_what_it_judged_nothing(self):
        done = vmaplab("replay", "map_ram 0x100+3; vunmap @0; vmap 0x1", "--verify", "--json")
        told = json.loads(done.stdout)["verified"]
        assert told["judged_until"] == "vunmap() of what vm_map_ram() has mapped" and told["translated"] == 3

    def test_a_bug_ends_it(self):
        done = vmaplab("replay", "vmap 0x1; unmap_ram 0x1 1", "--verify")
        assert done.returncode == 0 and "\nuntil" in done.stdout and "nothing is judged after that" in done.stdout


@needs_kernel
def test_compare_shows_code_beside_the_releases():
    words = ["--snippet", str(EXAMPLE), "--call", "batched_vmap", "--release", "mm-unstable", "--arch", "arm64-4k"]
    done = vmaplab("compare", "heap:1M", *words, "--json")
    model, code = json.loads(done.stdout)
    assert (code["release"], code["leaves_by_size"]) == ("Linux 6.12.117 with batched_vmap()", model["leaves_by_size"])
    assert "walk_steps" in model["cost"] and "walk_steps" not in code["cost"]
    assert "with batched_vmap()" in vmaplab("compare", "heap:1M", *words).stdout
    refused = vmaplab("compare", "heap:1M", *words, "--config", "HUGETLB_PAGE=n")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
