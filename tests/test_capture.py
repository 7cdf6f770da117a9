# SPDX-License-Identifier: GPL-2.0-only
"""Page arrays from devices: what docs/capture.md's commands print is what is read."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from documents import blocks
from vmaplab import InputError, pages
from vmaplab.cli.app import app
from vmaplab.pages import pid, trace

EVENT = "  init-1  [000] d..1. 1.5: vmaplab_{}: (vmap+0x0/0x100) at={} count={}"
BASE = "vmemmap=0xffffea0000000000"
TRACE = "\n".join(
    [
        "# tracer: nop",
        f"{EVENT.format(0, '0x88', '0x3')} {BASE} p0={{0xffffea0000004000,0xffffea0000004040}} "
        "p1={0xffffea0000008000,0x1234}",
        f"{EVENT.format(1, '0x88', '0x3')} p0=(fault)",
        f"{EVENT.format(0, '0x99', '0x1')} {BASE} p0={{0xffffea0000000040}}",
        "",
    ]
)


def load(text: str, tmp_path: Path, words: str = "", arch: str = "x86_64") -> pages.PageArray:
    (tmp_path / "trace.txt").write_text(text)
    return pages.load(f"trace:{tmp_path}/trace.txt{words}", arch)


class TestTrace:
    def test_each_call_is_an_array(self, tmp_path):
        assert load(TRACE, tmp_path, ",call=0").tolist() == [0x100, 0x101, 0x200]
        assert load(TRACE, tmp_path, ",call=1").tolist() == [1]

    def test_events_of_two_cpus_can_lie_between_each_other(self, tmp_path):
        mixed = TRACE.replace("p1={0xffffea0000008000,0x1234}", "")
        mixed += "  init-1 [000] 1.7: vmaplab_1: (vmap+0x0/0x100) at=0x88 count=0x3 p0={0xffffea0000008000,0x0}\n"
        assert load(mixed, tmp_path, ",call=0").tolist() == [0x100, 0x101, 0x200]

    def test_the_last_event_of_a_probe_can_come_first(self, tmp_path):
        lines = TRACE.replace("p1={0xffffea0000008000,0x1234}", "").splitlines()
        late = f"{EVENT.format(1, '0x88', '0x3')} p0={{0xffffea0000008000,0x0}}"
        assert load("\n".join([late, lines[1]]), tmp_path, ",call=0").tolist() == [0x100, 0x101, 0x200]

    def test_vmemmap_can_be_said(self, tmp_path):
        text = TRACE.replace(BASE, "")
        assert load(text, tmp_path, ",call=1,vmemmap=0xffffea0000000000").tolist() == [1]

    def test_blocks_that_a_driver_maps_one_after_the_other_are_one_array(self, tmp_path):
        text = "".join(
            f"  x-1 [0] 1.0: vmaplab_map: (remap_pfn_range+0x0/0x90) at={at:#x} pfn={pfn:#x} size={size:#x}\n"
            for at, pfn, size in [(0x10000, 5, 0x2000), (0x12000, 9, 0x1000), (0x40000, 2, 0x1000)]
        )
        assert load(text, tmp_path, ",call=0").tolist() == [5, 6, 9]
        assert load(text, tmp_path, ",call=1").tolist() == [2]
        with pytest.raises(InputError, match="no pages of 65536 bytes"):
            load(text, tmp_path, ",call=1", "arm64-64k")

    @pytest.mark.parametrize(
        ("text", "words", "said"),
        [
            (TRACE, "", "has 2 calls: say call=N, one of 0 (3 pages), 1 (1 pages)"),
            (TRACE, ",call=7", "has no call 7: they are numbered from 0 to 1"),
            (TRACE, ",call=x", "'x' is no natural number"),
            (TRACE, ",call=1,vmemmap=zz", "'zz' is no address"),
            (TRACE, ",call=1,vmemmap=0xffffea0000000001", "no struct page, with vmemmap at 0xffffea0000000001"),
            (TRACE.replace(BASE, ""), ",call=1", "does not say where vmemmap is"),
            (TRACE.replace("p1={", "q1={"), ",call=0", "had 3 pages, and 2 of them were traced"),
            (TRACE.replace("count=0x3 v", "count=0x0 v"), ",call=0", "has no at= and count= of a call"),
            (TRACE.replace("0xffffea0000004040", "0xfgh"), ",call=0", "'0xfgh' is no number"),
            ("nothing\n", "", "has no event 'vmaplab', as docs/capture.md has them"),
            (
                "x: vmaplab_1: (vmap) at=0x1 count=1 p0={0x1}\n",
                ",vmemmap=0x0",
                "had 1 pages, and 0 of them were traced",
            ),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(self, text, words, said, tmp_path):
        with pytest.raises(InputError) as caught:
            load(text, tmp_path, words)
        assert said in str(caught.value)
        assert "\n" not in str(caught.value)

    @given(st.text("vmaplab_01: =(){}x,patcounsrd\n"))
    def test_no_text_is_more_than_an_error(self, tmp_path_factory, text):
        path = tmp_path_factory.getbasetemp() / "text"
        path.write_text(text)
        with contextlib.suppress(InputError):
            trace.load(path, 4096)

    def test_what_bpftrace_prints_is_read_as_that_of_events(self, tmp_path):
        """Its program in docs/capture.md: eight pointers a line, also what lies behind the array's end."""
        form = re.search(r'printf\("(.*?)\\n"', blocks("capture.md", "bpftrace")[0])[1]
        form = re.sub(r"%lu|%d", "{}", form.replace("{", "{{").replace("}", "}}")).replace("%lx", "{:x}")
        base, lines = 0xFFAF_C4DE_C000_0000, ["Attaching 1 probe..."]
        for piece in range(2):
            pointers = [base + 64 * (0x500 + 2 * n) for n in range(8 * piece, 8 * piece + 8)]
            lines.append(form.format(piece, 15121435202, 11, base, *pointers))
        text = "\n".join(lines) + "\n"
        assert load(text, tmp_path, "", "x86_64").tolist() == [0x500 + 2 * n for n in range(11)]
        with pytest.raises(InputError, match="had 11 pages, and 8 of them were traced"):
            load(text.replace(lines[-1], ""), tmp_path, "", "x86_64")

    def test_the_shell_writes_events_that_cover_an_array(self, tmp_path):
        events = kprobe_events(tmp_path)
        assert len(events) == 9
        assert events[8] == "p:vmaplab_map remap_pfn_range at=$arg2 pfn=$arg3 size=$arg4"
        offsets = [int(word) for line in events for word in re.findall(r"\+(\d+)\(\$arg1\):x64\[64\]", line)]
        assert offsets == list(range(0, 8 * 5 * 512, 512))
        assert (tmp_path / "events/kprobes/enable").read_text() == "1\n"


def kprobe_events(folder: Path) -> list[str]:
    """The lines that the document's commands write, run in ``folder`` instead of tracefs."""
    (folder / "events/kprobes").mkdir(parents=True)
    for script in (blocks("capture.md", "sh")[0], blocks("capture.md", "sh")[2]):
        assert script.startswith("cd /sys/kernel/tracing\n")
        subprocess.run(["bash", "-ec", script.partition("\n")[2]], cwd=folder, check=True)
    return (folder / "kprobe_events").read_text().splitlines()


class TestPagemap:
    @pytest.mark.skipif(os.geteuid() != 0, reason="the kernel hides page frames from others than root")
    def test_what_dd_copies_of_a_process_are_its_pages(self, tmp_path):
        with mmap.mmap(-1, 64 * 4096) as buffer:
            buffer[:] = b"x" * len(buffer)
            start = np.frombuffer(buffer, dtype=np.uint8).ctypes.data
            words = {"PID": str(os.getpid()), "START": hex(start), "END": hex(start + len(buffer))}
            script = blocks("capture.md", "sh")[3]
            subprocess.run(["bash", "-ec", script], cwd=tmp_path, check=True, env=os.environ | words)
            found = pages.load(f"pagemap:{tmp_path}/pages.pagemap", "x86_64")
            if not found.any():
                pytest.skip("the kernel hides page frames")
            assert found.tolist() == pid.load(os.getpid(), start, start + len(buffer)).tolist()
            assert len(found) == 64

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "no copy of a pagemap: it has 0 bytes"),
            (b"1234567", "it has 7 bytes, not 8 for each page"),
            (bytes(64), "has no page that is present"),
            ((1 << 63).to_bytes(8, "little") * 4, "the kernel hid the page frame numbers"),
        ],
    )
    def test_what_is_wrong_is_said_in_a_line(self, content, said, tmp_path):
        (tmp_path / "p").write_bytes(content)
        with pytest.raises(InputError, match=said):
            pages.load(f"pagemap:{tmp_path}/p", "x86_64")
        with pytest.raises(InputError, match="is no regular file"):
            pages.load(f"pagemap:{tmp_path}", "x86_64")

    def test_pages_of_another_size_have_to_be_said(self, tmp_path):
        (tmp_path / "p").write_bytes((1 << 63 | 5).to_bytes(8, "little"))
        with pytest.raises(InputError, match="does not say how large its pages are"):
            pages.load(f"pagemap:{tmp_path}/p", "arm64-64k")
        assert pages.load(f"pagemap:{tmp_path}/p", "arm64-64k", page_size=65536).tolist() == [5]


class TestSeveral:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for number in (1, 2):
            (tmp_path / f"{number}.txt").write_text(f"0x1000+{16 * number}\n")
        (tmp_path / "notes.md").write_text("no pages\n")
        return tmp_path

    def test_compare_takes_a_directory_or_a_pattern(self, folder):
        for source in (str(folder), f"{folder}/*.txt", f"{folder}/[12].txt"):
            said = CliRunner().invoke(app, ["compare", source, "-r", "linux-7.1,mm-unstable"]).output
            assert [line.split()[1:] for line in said.splitlines()[2:6]] == [
                ["16", "16", "1"],
                ["32", "32", "2"],
                ["48", "48", "3"],
                ["1.0x", "16.0x"],
            ]

    def test_json_has_a_row_for_each(self, folder):
        rows = json.loads(CliRunner().invoke(app, ["compare", str(folder), "-r", "mm-unstable", "--json"]).output)
        assert [(Path(row["source"]).name, row["cost"]["pages"]) for row in rows] == [
            ("1.txt", 16),
            ("2.txt", 32),
        ]

    def test_the_others_take_one(self, folder):
        with pytest.raises(InputError, match="is 2 page arrays: compare and sweep take several"):
            pages.load(str(folder), "arm64-4k")
        (folder / "2.txt").unlink()
        assert len(pages.load(str(folder), "arm64-4k")) == 16
        (folder / "1.txt").unlink()
        for source in (str(folder), f"{folder}/*.txt"):
            with pytest.raises(InputError, match="has no page file"):
                pages.load(source, "arm64-4k")
