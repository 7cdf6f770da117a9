# SPDX-License-Identifier: GPL-2.0-only
"""Using what is mapped: TLBs against plain lists, patterns, and what is refused of them."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import VMAPLAB
from vmaplab import Kernel
from vmaplab.cost.core import Buffer, Core
from vmaplab.cost.cores import cores
from vmaplab.cost.patterns import PATTERNS, offsets_of
from vmaplab.cost.use import use
from vmaplab.errors import InputError
from vmaplab.mapping import LEAF_DTYPE

ADDR, PAGE, GROUP = 0xFFFF_8000_0000_0000, 4096, {65536: 4096}
A55, ZEN4 = (cores()[name] for name in ("A55", "Zen4"))


def leaves_of(*sizes: int) -> np.ndarray:
    """Leaves of these sizes, one after the other."""
    found = np.zeros(len(sizes), dtype=LEAF_DTYPE)
    found["size"] = sizes
    found["va"] = ADDR + np.cumsum([0, *sizes[:-1]]).astype(np.uint64)
    return found


def core_with(first: int, second: int, ways: int, largest: int = 1 << 30, groups: bool = True) -> Core:
    tlbs = Buffer(first, first, largest, groups, "x"), Buffer(second, ways, largest, groups, "x")
    return replace(A55, tlbs=tlbs)


class Lru:
    """A TLB as a list per set, what was used last at its end."""

    def __init__(self, buffer: Buffer) -> None:
        self.sets: list[list[tuple[int, int]]] = [[] for _ in range(buffer.entries // buffer.ways)]
        self.ways = buffer.ways

    def hit(self, entry: tuple[int, int]) -> bool:
        held = self.sets[entry[0] % len(self.sets)]
        there = entry in held
        if there:
            held.remove(entry)
        held.append(entry)
        del held[: -self.ways]
        return there


def naive(sizes: list[int], offsets: np.ndarray, core: Core) -> tuple[int, int]:
    """Misses of both levels in the second pass."""
    bounds = np.cumsum([0, *sizes])
    levels = [(buffer, Lru(buffer)) for buffer in core.tlbs]
    first = second = 0
    for _ in range(2):
        first = second = 0
        for offset in offsets.tolist():
            size = sizes[int(np.searchsorted(bounds, offset, side="right")) - 1]
            for number, (buffer, lru) in enumerate(levels):
                mapped = min(size, buffer.largest)
                mapped = mapped if buffer.groups else GROUP.get(size, mapped)
                if lru.hit(((offset + (ADDR - (1 << 64))) // mapped, mapped)):
                    break
                if number == 0:
                    first += 1
                else:
                    second += 1
    return first, second


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([4096, 65536, 2 << 20]), min_size=1, max_size=12),
    st.sampled_from([(2, 8, 2), (4, 16, 4), (1, 4, 1), (8, 32, 8)]),
    st.sampled_from([4096, 65536, 1 << 30]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_tlbs_hit_and_miss_as_lists_do(sizes, shape, largest, groups, random):
    sizes = sorted(sizes, reverse=True)  # so each lies at a multiple of its size
    core = core_with(*shape, largest, groups)
    offsets = np.array([random.randrange(sum(sizes)) & -64 for _ in range(400)], dtype=np.int64)
    found = use(leaves_of(*sizes), ADDR, PAGE, GROUP, offsets, core)
    assert (found.first, found.walks) == naive(sizes, offsets, core)


def test_a_mapping_that_fits_is_walked_once():
    found = use(leaves_of(*[4096] * 64), ADDR, PAGE, GROUP, offsets_of("stream", 64 * 4096), core_with(16, 64, 4))
    assert (found.entries, found.walks, found.first, found.reach) == (64, 0, 64, 64 * 4096)


def test_a_stream_through_more_than_fits_walks_for_each_entry():
    size = 256 * 4096
    found = use(leaves_of(*[4096] * 256), ADDR, PAGE, GROUP, offsets_of("stream", size), core_with(16, 64, 64))
    assert (found.walks, found.bytes_read, found.walks_per_mb) == (256, 2048, 256.0)
    assert found.reach == 64 * 4096
    assert found.us() == pytest.approx(256 * A55.walk.usual / A55.mhz.usual)


def test_a_core_without_groups_takes_their_pages_one_by_one():
    leaves, offsets = leaves_of(*[65536] * 8), offsets_of("stream", 8 * 65536)
    assert use(leaves, ADDR, PAGE, GROUP, offsets, A55).entries == 8
    assert use(leaves, ADDR, PAGE, GROUP, offsets, ZEN4).entries == 128


def test_larger_leaves_never_walk_more():
    pfns = np.arange(1 << 20, (1 << 20) + 4096, dtype=np.uint64)
    for pattern in ("stream", "random:count=20000", "stride:bytes=8192", "scanout:pitch=4096,rotate=90"):
        walks = []
        for release in ("linux-6.12", "mm-unstable"):
            kernel = Kernel("arm64-4k", release)
            made = kernel.vmap(pfns)
            offsets = offsets_of(pattern, made.size)
            walks.append(use(made.leaves, made.addr, PAGE, GROUP, offsets, A55).walks)
        assert walks[1] <= walks[0] and walks[0] > 0


class TestPatterns:
    SIZE = 1 << 20

    @pytest.mark.parametrize("name", sorted(set(PATTERNS) - {"offsets"}))
    def test_each_stays_in_the_buffer_and_reads_whole_lines(self, name):
        found = offsets_of(name, self.SIZE)
        assert found.min() >= 0 and found.max() < self.SIZE and not (found % 64).any()

    @pytest.mark.parametrize(
        "name", ["stream", "stride:bytes=8192", "scanout:pitch=4096", "scanout:pitch=4096,rotate=90"]
    )
    def test_a_pass_reads_every_line_once(self, name):
        assert sorted(offsets_of(name, self.SIZE).tolist()) == list(range(0, self.SIZE, 64))

    def test_tiles_are_read_one_after_the_other(self):
        found = offsets_of("blocks:pitch=1024,width=128,height=2", 4096)
        assert found[:6].tolist() == [0, 64, 1024, 1088, 128, 192]

    def test_a_turned_image_is_read_by_columns(self):
        assert offsets_of("scanout:pitch=256,rotate=90", 1024)[:5].tolist() == [0, 256, 512, 768, 64]

    def test_offsets_come_from_a_file(self, tmp_path):
        (tmp_path / "a.txt").write_text("0x40\n128\n0\n")
        np.save(tmp_path / "a.npy", np.array([64, 128, 0], dtype=np.uint32))
        for name in ("a.txt", "a.npy"):
            assert offsets_of(f"offsets:file={tmp_path / name}", 4096).tolist() == [64, 128, 0]

    @pytest.mark.parametrize(
        ("pattern", "told"),
        [
            ("walk", "unknown pattern 'walk'; known: stream, stride, random, blocks, scanout, offsets"),
            ("stream:bytes=4", "stream has no 'bytes'"),
            ("stride:bytes=0", "bytes=0 is no number from 1 on"),
            ("stride:bytes=-1", "bytes=-1 is no number"),
            ("random:count=999999999", "makes 999999999 accesses: 16777216 are the most"),
            ("scanout:pitch=99999999", "makes 0 accesses"),
            ("scanout:rotate=45", "rotate=45 is none of 0, 90, 270"),
            ("blocks:pitch=64,width=128", "a tile of 128 bytes is wider than a row of 64"),
            ("offsets", "offsets has no file="),
            ("offsets:file=/nowhere", "no offsets"),
            ("offsets:file=/dev/zero", "no offsets: a file of 256 MiB at most"),
        ],
    )
    def test_what_is_wrong_is_said(self, pattern, told):
        with pytest.raises(InputError, match=told.replace("(", r"\(")):
            offsets_of(pattern, self.SIZE)

    @pytest.mark.parametrize("text", ["x\n", "1.5\n", "-64\n", "1048576\n", "99999999999999999999999\n", "\udcff"])
    def test_a_file_that_is_no_list_of_offsets_is_one_line(self, tmp_path, text):
        (tmp_path / "a.txt").write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(InputError) as caught:
            offsets_of(f"offsets:file={tmp_path / 'a.txt'}", self.SIZE)
        assert "\n" not in str(caught.value)

    def test_the_command_refuses_a_pattern_for_a_scenario(self):
        words = ["cost", "--scenario", "vmap 0x1", "--use", "stream"]
        done = subprocess.run([*VMAPLAB, *words], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "--use is for a page array" in done.stderr
