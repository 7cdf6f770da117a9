# SPDX-License-Identifier: GPL-2.0-only
"""Sweeps: what a word names, what rows say, what is left when something breaks."""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from command import AFRESH, VMAPLAB, starting
from object_support import needs_kernel
from vmaplab.compare import compare
from vmaplab.errors import InputError
from vmaplab.kernel import Kernel
from vmaplab.pages.expand import expand, expand_all
from vmaplab.release import RELEASES
from vmaplab.sweep.plan import Plan, options_of
from vmaplab.sweep.rows import rows_of, table_of
from vmaplab.sweep.run import sweep
from vmaplab.sweep.store import CHUNK, Store
from vmaplab.sweep.summary import COLUMNS, summary_of
from vmaplab.vmcore.source import areas_of
from vmaplab.vmcore.would import comparable
from vmaplab.why import Small, runs_of, small

EXAMPLES = Path(__file__).parent.parent / "examples"
ARCHES = ("arm64-4k", "x86_64")
MANY = "heap:1M,fragmentation=0..1:0.01,seed=1..3"


def plan(
    arches: tuple[str, ...] = ARCHES, releases: tuple[str, ...] = ("linux-6.12", "mm-unstable"), **options: Any
) -> Plan:
    given_options = {"boot_args": "", "config": {}, "flip": ()} | options
    return Plan(arches, releases, options_of(arches, **given_options))


def command(*words: str, **keywords: Any) -> subprocess.CompletedProcess[str]:
    words = *starting(**keywords), "sweep", *words
    return subprocess.run(words, capture_output=True, text=True, timeout=120, **keywords)


def saved(folder: Path, count: int) -> Path:
    for number in range(count):
        np.save(folder / f"{number:03}.npy", np.arange(64, dtype=np.uint64) + 16 * number)
    return folder


# -- what a word names ---------------------------------------------------------------------------------


def test_a_heap_with_ranges_is_one_for_each_combination() -> None:
    assert expand("heap:1M..4M:*2,fragmentation=0..0.3:0.1,seed=7") == [
        f"heap:{size},fragmentation={share},seed=7"
        for size in ("1M", "2M", "4M")
        for share in ("0", "0.1", "0.2", "0.3")
    ]


def test_a_heap_without_ranges_is_itself() -> None:
    assert expand("heap:8M,orders=9/4/0,seed=3") == ["heap:8M,orders=9/4/0,seed=3"]


@pytest.mark.parametrize(
    "word",
    [
        "seed=5..1",
        "seed=1..",
        "seed=1..9:0",
        "fragmentation=0..1:*2",
        "seed=a..b",
        "seed=1..9999999999",
        "seed=NaN..1",
        "orders=1e..3",
    ],
)
def test_a_range_that_is_none_or_never_ends_is_refused(word: str) -> None:
    with pytest.raises(InputError, match=r"range|values|numbers"):
        expand(f"heap:1M,{word}")


def test_a_directory_is_all_page_files_below_it(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("z.npy", "a.csv", "b/c.txt", "b/readme.md"):
        (tmp_path / name).write_text("1\n")
    assert expand(str(tmp_path)) == [str(tmp_path / name) for name in ("a.csv", "z.npy", "b/c.txt")] or expand(
        str(tmp_path)
    ) == [str(tmp_path / name) for name in ("a.csv", "b/c.txt", "z.npy")]
    assert expand(f"{tmp_path}/**/*.txt") == [str(tmp_path / "b/c.txt")]


def test_a_pattern_does_not_go_through_links(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to(tmp_path)
    (tmp_path / "a.txt").write_text("1\n")
    (tmp_path / ".hidden.txt").write_text("1\n")
    assert expand(f"{tmp_path}/**/*.txt") == [str(tmp_path / "a.txt")]
    assert expand(f"{tmp_path}/.*.txt") == [str(tmp_path / ".hidden.txt")]


def test_files_inside_a_zip_are_page_arrays(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "arrays.zip", "w") as archive:
        archive.writestr("one.txt", "0x10+32\n")
        archive.writestr("deep/two.csv", "pfn,order\n0x200,5\n")
    found = expand(f"zip://*::{tmp_path}/arrays.zip") + expand(f"zip://deep::{tmp_path}/arrays.zip")
    rows = [row for source in found for row in rows_of(source, plan(("arm64-4k",), ("mm-unstable",)))]
    assert [row["tlb_entries"] for row in rows] == [2, 2]


def test_a_trace_is_each_of_its_calls(tmp_path: Path) -> None:
    line = "x-1 [000] 1.0: vmaplab: (vmap+0x0/0x10) at={at:#x} count=2 vmemmap=0x1000 p0={{0x{a:x},0x{b:x}}}\n"
    (tmp_path / "trace.txt").write_text(
        "".join(line.format(at=n, a=0x1000 + 64 * n, b=0x1040 + 64 * n) for n in (1, 2, 3))
    )
    found = expand(f"trace:{tmp_path}/trace.txt")
    assert found == [f"trace:{tmp_path}/trace.txt,call={number}" for number in range(3)]
    assert expand(f"trace:{tmp_path}/*.txt") == found
    assert table_of(found, plan())["error"].null_count == 12


@pytest.mark.parametrize("name", ["vmcore", "vmcore-broken"])
def test_a_vmcore_is_each_area_that_maps_pages(name: str) -> None:
    source = f"vmcore:{EXAMPLES / name}"
    areas = comparable(areas_of(source))
    rows = table_of(expand(source), plan(("arm64-4k",), ("linux-6.12",)))
    assert rows["error"].null_count == rows.num_rows == len(areas)
    assert rows["pages"].to_pylist() == [len(area.pfn) for area in areas]
    assert rows["source"].to_pylist() == [f"{source},area={area.start:#x}" for area in areas]


def test_a_vmcore_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes((EXAMPLES / "vmcore").read_bytes())
    whole = expand(f"vmcore:{path}")
    path.write_bytes((EXAMPLES / "vmcore-broken").read_bytes())
    os.utime(path, ns=(1, 1))
    assert len(expand(f"vmcore:{path}")) < len(whole)


def test_a_word_that_names_nothing_is_told_beside_the_others(tmp_path: Path) -> None:
    found, wrong, _ = expand_all(["heap:1M", str(tmp_path), "heap:1M"])
    assert found == ["heap:1M"]
    assert list(wrong) == [str(tmp_path)]


# -- rows ----------------------------------------------------------------------------------------------


def test_rows_say_what_compare_says() -> None:
    source = "heap:3M,fragmentation=0.4,seed=5"
    rows = list(rows_of(source, plan(releases=tuple(RELEASES))))
    wanted = compare(source, ARCHES, RELEASES)
    assert [(row["arch"], row["release"], row["tlb_entries"], row["gain"], row["walk_steps"]) for row in rows] == [
        (row.arch, row.release, row.cost.tlb_entries, row.gain, row.cost.walk_steps) for row in wanted if row.cost
    ]
    assert [row.get("leaves_64K", 0) for row in rows] == [row.leaves_by_size.get(1 << 16, 0) for row in wanted]


def reasons(pfns: list[int], mapping: Any, larger: int, takes: bool) -> Small:
    """The reasons of each page by itself."""
    block, found, stopped = larger // 4096, dict.fromkeys(Small._fields, 0), None
    singles = {(int(va) - mapping.addr) // 4096 for va, size, _ in mapping.leaves if size == 4096}
    for page in sorted(singles):
        low = high = page
        while low > 0 and pfns[low] == pfns[low - 1] + 1:
            low -= 1
        while high + 1 < len(pfns) and pfns[high + 1] == pfns[high] + 1:
            high += 1
        start = (mapping.addr // 4096 + page) // block * block - mapping.addr // 4096
        fills = low <= start and start + block - 1 <= high and pfns[max(start, 0)] % block == 0
        if stopped is None:
            stopped = takes and not fills
        reason = ("stop" if stopped else "kernel") if fills else "alignment" if high - low + 1 >= block else "order"
        found[reason] += 1
    return Small(**found)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=8),
    st.sampled_from(["linux-6.12", "series-v3", "mm-unstable"]),
)
def test_reasons_are_those_of_each_page_by_itself(runs: list[tuple[int, int]], release: str) -> None:
    pfns = [1000 * number + first + page for number, (first, count) in enumerate(runs) for page in range(count)]
    array = np.array(pfns, dtype=np.uint64)
    mapping = Kernel("arm64-4k", release).vmap(array)
    takes = release != "linux-6.12"
    found = small(array, runs_of(array), mapping.leaves, mapping.addr, 4096, 1 << 16, 1 << 16 if takes else None)
    assert found == reasons(pfns, mapping, 1 << 16, takes)
    assert sum(found) == int((mapping.leaves["size"] == 4096).sum())


def test_pages_behind_a_single_one_are_kept_small_by_the_stop() -> None:
    rows = list(rows_of("pfns:0x7,0x40+64", plan(("arm64-4k",), ("linux-6.12", "mm-unstable"))))
    assert [row["small_stop"] for row in rows] == [0, 0]  # at these addresses they are not aligned
    rows = list(rows_of("pfns:0x7,0x10+15,0x40+64", plan(("arm64-4k",), ("linux-6.12", "mm-unstable"))))
    assert [(row["small_order"], row["small_stop"], row["small_kernel"]) for row in rows] == [(16, 0, 64), (16, 64, 0)]


def test_a_block_behind_a_single_page_is_kept_small_by_the_stop_where_groups_are_off() -> None:
    source = "pfns:0x200+512,0x7,0x411+511,0x800+512"
    rows = list(rows_of(source, plan(("arm64-4k",), ("mm-unstable",), config={"HUGETLB_PAGE": False})))
    assert [(row["leaves_2M"], row["small_stop"]) for row in rows] == [(1, 512)]


def test_an_array_of_other_pages_is_a_row_with_its_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(4))
    rows = list(rows_of(str(tmp_path / "a.npy"), plan(("arm64-64k", "arm64-4k"), ("mm-unstable",))))
    assert "--page-size" in rows[0]["error"]
    assert rows[1]["tlb_entries"] == 4


def test_flips_try_each_option_the_other_way_round() -> None:
    flipped = plan(("arm64-4k",), ("series-v3",), flip=("all",))
    named = [one.flipped for one in flipped.options["arm64-4k"]]
    assert named[:4] == ["", "nohugeiomap", "nohugevmalloc", "kpti=1"]
    assert "CONFIG_HAVE_ARCH_HUGE_VMAP=n" in named
    summary = summary_of(table_of(["heap:1M", "heap:2M"], flipped).select(COLUMNS))
    changed = {one.flipped: (one.changed, one.worse, one.total) for one in summary.flips}
    assert changed["nohugeiomap"] == (2, 2, 16.0)
    assert changed["nohugevmalloc"] == (0, 0, 1.0)


def test_a_flip_that_is_not_known_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be flipped"):
        plan(flip=("nohuge",))


@needs_kernel
def test_a_kernels_own_code_has_microseconds(tmp_path: Path) -> None:
    words = ("heap:256K,seed=1..2", "--snippet", str(EXAMPLES / "batched_vmap.c"), "--call", "batched_vmap")
    told = command(*words, "-r", "linux-6.12,mm-unstable", "-o", str(tmp_path / "r.parquet"))
    assert told.returncode == 0, told.stderr
    rows = pq.read_table(tmp_path / "r.parquet").to_pylist()
    own = [row for row in rows if row["release"].endswith("batched_vmap()")]
    assert len(own) == 2
    for row in own:
        assert row["us_A55"] > row["us_A76"] > 0
        assert row["us_Zen4"] is row["pages_scanned"] is None
        assert row["instructions"] > 0
        assert row["tlb_entries"] == next(one for one in rows if one["release"] == "mm-unstable")["tlb_entries"]


# -- what they come to ---------------------------------------------------------------------------------


def test_quantiles_are_weighted_by_bytes() -> None:
    table = table_of(
        ["pfns:" + ",".join(f"{2 * n:#x}" for n in range(1, 65)), "heap:15M"], plan(("arm64-4k",), ("mm-unstable",))
    )
    (gain,) = summary_of(table.select(COLUMNS)).gains
    assert [gain.quantile(share) for share in (0.005, 0.05, 0.5)] == [1.0, 16.0, 16.0]
    assert gain.mean == pytest.approx((64 * 1 + 3840 * 16) / 3904)
    assert gain.total == pytest.approx(3904 / (64 + 240))


def test_errors_of_a_kind_are_one_line(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.npy").write_bytes(b"no array")
    (tmp_path / "x.csv").write_text("pfn\nabc\n")
    table = table_of(expand(str(tmp_path)), plan())
    found = summary_of(table.select(COLUMNS))
    assert [len(names) for names, _ in found.errors.values()] == [3, 1]
    assert found.mapped == 0


# -- results that are whole, or not there --------------------------------------------------------------


def store_of(path: Path, made: Plan, sources: list[str], resume: bool = False) -> Iterator[Store]:
    store = Store(str(path), made, sources, resume, False)
    try:
        yield store
    finally:
        store.leave()


stored = contextmanager(store_of)


def test_a_sweep_that_was_cut_off_goes_on_to_the_same_result(tmp_path: Path) -> None:
    sources = expand("heap:256K,fragmentation=0..1:0.005")
    made = plan(("arm64-4k",))
    whole, path = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    with stored(whole, made, sources) as store:
        sweep(sources, made, store, jobs=1)
    kept = 0

    def cut() -> None:
        nonlocal kept
        kept += 1
        if kept == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), stored(path, made, sources) as store:
        sweep(sources, made, store, jobs=1, advance=cut)
    assert not path.exists()
    with pytest.raises(InputError, match="was begun"), stored(path, made, sources):
        pass
    with pytest.raises(InputError, match="other arrays or options"), stored(path, plan(("x86_64",)), sources, True):
        pass
    with stored(path, made, sources, True) as store:
        assert len(store.done) == 2
        sweep(sources, made, store, jobs=2)
    assert pq.read_table(path).equals(pq.read_table(whole))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["cut.parquet", "whole.parquet"]


def test_a_part_that_is_damaged_or_of_another_place_is_made_anew(tmp_path: Path) -> None:
    sources = expand("heap:64K,seed=1..300")
    made, path = plan(("arm64-4k",)), tmp_path / "r.parquet"
    with stored(path, made, sources) as store:
        for number in range(4):
            store.put(number, table_of(sources[number * CHUNK : (number + 1) * CHUNK], made))
    parts = sorted((tmp_path / "r.parquet.parts").glob("0*.parquet"))
    parts[1].write_bytes(parts[0].read_bytes())
    parts[3].write_bytes(parts[3].read_bytes()[:100])
    (tmp_path / "r.parquet.parts" / "\u00b2.parquet").write_text("")
    with stored(path, made, sources, True) as store:
        assert store.done == {0, 2}
        sweep(sources, made, store, jobs=1)
    assert pq.read_table(path).equals(table_of(sources, made))


def test_two_sweeps_do_not_make_one_result(tmp_path: Path) -> None:
    made, path = plan(("arm64-4k",)), tmp_path / "r.parquet"
    with stored(path, made, ["heap:1M"]):
        told = command("heap:1M", "-o", str(path), "--force")
        assert (told.returncode, "another sweep makes" in told.stderr) == (2, True)
    assert command("heap:1M", "-o", str(path)).returncode == 0


def test_a_link_to_a_result_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link.parquet").symlink_to(tmp_path / "real.parquet")
    assert command("heap:1M", "-o", str(tmp_path / "link.parquet")).returncode == 0
    assert (tmp_path / "link.parquet").is_symlink()
    assert pq.read_metadata(tmp_path / "real.parquet").num_rows == len(RELEASES)


def test_an_old_result_outlives_arrays_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    assert command("heap:1M", "-o", str(path)).returncode == 0
    before = path.read_bytes()
    told = command("nowhere.npy", "-o", str(path), "--force")
    assert (told.returncode, "no page array could be read" in told.stderr) == (2, True)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_names_that_are_no_text_are_spelled(tmp_path: Path) -> None:
    folder = tmp_path / "arrays"
    folder.mkdir()
    (folder / "bad\udcff.txt").write_text("0x40+16\n")
    html = tmp_path / "page.html"
    told = command(str(folder), "heap:1M", "-o", str(tmp_path / "r.parquet"), "--html", str(html))
    assert told.returncode == 0, told.stderr
    assert "bad\\udcff.txt" in pq.read_table(tmp_path / "r.parquet")["source"][0].as_py()
    assert html.read_text()


def test_standard_input_is_no_array_of_a_sweep(tmp_path: Path) -> None:
    told = command("heap:1M", "-", "-o", str(tmp_path / "r.parquet"), input="0x40\n")
    assert (told.returncode, "no standard input" in told.stderr) == (2, True)


def test_processes_end_with_the_command(tmp_path: Path) -> None:
    words = [*AFRESH, "sweep", MANY, "-j", "2", "-o", str(tmp_path / "r.parquet")]
    running = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    wait_for(lambda: len(psutil.Process(running.pid).children(recursive=True)) >= 4)
    children = psutil.Process(running.pid).children(recursive=True)
    running.kill()
    running.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_a_result_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "r.parquet").write_text("mine")
    told = command("heap:1M", "-o", str(tmp_path / "r.parquet"))
    assert (told.returncode, told.stdout) == (2, "")
    assert "is there already" in told.stderr
    assert (tmp_path / "r.parquet").read_text() == "mine"
    assert command("heap:1M", "-o", str(tmp_path / "r.parquet"), "--force").returncode == 0
    again = command("heap:1M", "-o", str(tmp_path / "r.parquet"), "--resume")
    assert again.returncode == 0
    assert "1 page array of 1 MiB" in again.stdout


@pytest.mark.parametrize("name", ["result.csv", "no/such/dir/r.parquet/", "."])
def test_a_result_that_cannot_be_is_refused_before_anything_is_mapped(tmp_path: Path, name: str) -> None:
    told = command("heap:1M", "-o", str(tmp_path / name))
    assert told.returncode == 2
    assert len(told.stderr.splitlines()) == 1


def test_words_that_name_no_array_leave_no_result(tmp_path: Path) -> None:
    told = command("nowhere", "-o", str(tmp_path / "r.parquet"))
    assert told.returncode == 2
    assert list(tmp_path.iterdir()) == []
    refused = command("heap:1M", "--total-pages", "16", "-o", str(tmp_path / "r.parquet"))
    assert refused.returncode == 1
    assert pq.read_metadata(tmp_path / "r.parquet").num_rows == len(RELEASES)


def test_a_page_that_cannot_be_written_is_said_before_anything_is_mapped(tmp_path: Path) -> None:
    told = command("heap:1M", "-o", str(tmp_path / "r.parquet"), "--html", str(tmp_path / "no" / "page.html"))
    assert (told.returncode, "no directory" in told.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_is_no_plain_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    os.mkfifo(path)
    assert command("heap:1M", "-o", str(path), "--force").returncode == 2
    assert path.is_fifo()


def test_a_full_disk_is_said_and_what_is_done_is_kept(tmp_path: Path) -> None:
    """As full as that the parts fit and the result does not."""
    made, path = plan(("arm64-4k",), tuple(RELEASES)), tmp_path / "r.parquet"
    heaps = "heap:64K..1M:4K,fragmentation=0..1:0.25"
    pq.write_table(table_of(expand(heaps)[-CHUNK:], made), tmp_path / "part.parquet")
    assert command(heaps, "-o", str(path)).returncode == 0
    rows, whole, part = pq.read_table(path), path.stat().st_size, (tmp_path / "part.parquet").stat().st_size
    assert 1.5 * part < whole
    path.unlink()

    def little() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole - 1, whole - 1))

    told = command(heaps, "-j", "1", "-o", str(path), preexec_fn=little)
    assert told.returncode == 2, told.stderr
    assert "cannot write" in told.stderr
    assert "--resume" in told.stderr
    assert not path.exists()
    assert command(heaps, "-o", str(path), "--resume").returncode == 0
    assert pq.read_table(path).equals(rows)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_done(tmp_path: Path, number: int) -> None:
    path = tmp_path / "r.parquet"
    words = [*AFRESH, "sweep", MANY, "-a", "arm64-4k", "-o", str(path)]
    running = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    parts = tmp_path / "r.parquet.parts"
    wait_for(lambda: len(list(parts.glob("0*.parquet"))) >= 1)
    os.kill(running.pid, number)
    _, told = running.communicate(timeout=60)
    if running.returncode == 0:
        pytest.skip("it was done before")
    assert running.returncode == 130
    assert "--resume goes on" in told
    assert "Traceback" not in told
    assert not path.exists()
    assert subprocess.run([*words, "--resume"], capture_output=True, timeout=120).returncode == 0
    assert pq.read_metadata(path).num_rows == 303 * len(RELEASES)


def wait_for(holds: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


# -- a cluster -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cluster_loses_and_doubles_nothing_when_a_worker_is_killed(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", address, "--no-dashboard"]
    worker = [
        sys.executable,
        "-m",
        "distributed.cli.dask_worker",
        address,
        "--nthreads",
        "1",
        "--no-nanny",
        "--no-dashboard",
    ]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    running = [subprocess.Popen(dask, **quiet)]
    try:
        running += [subprocess.Popen(worker, **quiet) for _ in range(2)]
        path = tmp_path / "r.parquet"
        words = [*AFRESH, "sweep", MANY, "-o", str(path), "--scheduler", address]
        client = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        wait_for(lambda: len(list((tmp_path / "r.parquet.parts").glob("0*.parquet"))) >= 1)
        running[1].kill()
        _, told = client.communicate(timeout=120)
        assert client.returncode == 0, told
        made = pq.read_table(path)
        sources = expand(MANY)
        assert made["source"].to_pylist() == [source for source in sources for _ in RELEASES]
        assert made.equals(table_of(sources, plan(("arm64-4k",), tuple(RELEASES))))
        running[0].kill()
        gone = command("heap:1M", "-o", str(tmp_path / "gone.parquet"), "--scheduler", address)
        assert gone.returncode == 2
        assert "no Dask scheduler answers" in gone.stderr
    finally:
        for one in running:
            one.kill()


def test_a_comparison_of_several_goes_on_behind_a_bad_one(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([0.5]))
    np.save(tmp_path / "b.npy", np.arange(16))
    words = [*VMAPLAB, "compare", str(tmp_path), "heap:1M,seed=1..2", "-r", "mm-unstable"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stderr
    assert f"{tmp_path}/a.npy: '{tmp_path}/a.npy': page frame numbers are integers" in told.stdout
    assert [line.split()[-1] for line in told.stdout.splitlines() if line.startswith(("heap:", f"{tmp_path}/b"))] == [
        "1",
        "16",
        "16",
    ]


def test_json_has_what_the_tables_have(tmp_path: Path) -> None:
    told = json.loads(command("heap:1M,seed=1..3", "-o", str(tmp_path / "r.parquet"), "--json").stdout)
    assert (told["arrays"], told["mapped"], told["rows"]) == (3, 3, 3 * len(RELEASES))
    assert [one["p50"] for one in told["gains"]][-1] == 16.0
    assert CHUNK >= 3
