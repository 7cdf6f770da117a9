# SPDX-License-Identifier: GPL-2.0-only
"""The buddy allocator and the system heap's policy on top of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmaplab import InputError, Kernel, pages
from vmaplab.pages import buddyinfo, heap
from vmaplab.pages.heap import Buddy, alloc_block, free_block


def free_blocks(buddy: Buddy) -> dict[int, int]:
    """First page -> order of every free block, read from the lists, both ways."""
    zone, found = buddy.zone, {}
    for order in range(heap.MAX_PAGE_ORDER + 1):
        before, page = heap.NONE, int(zone.head[order])
        while page != heap.NONE:
            assert (zone.order[page], zone.prev[page]) == (order, before)
            found[page] = order
            before, page = page, int(zone.next[page])
    assert set(found) == set(np.flatnonzero(zone.order != heap.NONE).tolist())
    return found


@given(st.integers(0, 3000), st.integers(1, 5000), st.lists(st.integers(0, 10), max_size=60), st.randoms())
def test_buddy_never_hands_out_a_page_twice_and_coalesces_all_of_it_again(first, size, orders, random):
    buddy = Buddy(first, size)
    fresh = free_blocks(buddy)
    taken: dict[int, int] = {}
    for order in orders:
        page = int(alloc_block(buddy.zone, order))
        if page == heap.NONE:
            assert not any(size >= order for size in free_blocks(buddy).values())
            continue
        assert (page + first) % (1 << order) == 0
        taken[page] = order
        if taken and random.random() < 0.3:
            page = random.choice(sorted(taken))
            free_block(buddy.zone, page, taken.pop(page))
        used = [
            p
            for blocks in (taken, free_blocks(buddy))
            for start, o in blocks.items()
            for p in range(start, start + (1 << o))
        ]
        assert sorted(used) == list(range(size))
        assert buddy.free == sum(1 << o for o in free_blocks(buddy).values())
    for page, order in sorted(taken.items(), key=lambda _: random.random()):
        free_block(buddy.zone, page, order)
    assert free_blocks(buddy) == fresh


def test_splitting_a_block_returns_the_upper_halves_smallest_first():
    buddy = Buddy(0, 1024)
    assert alloc_block(buddy.zone, 8) == 0
    assert free_blocks(buddy) == {256: 8, 512: 9}
    assert [alloc_block(buddy.zone, 8) for _ in range(4)] == [256, 512, 768, heap.NONE]


def runs_of(pfns) -> list[int]:
    return [len(run) for run in np.split(pfns, np.flatnonzero(np.diff(pfns.astype(np.int64)) != 1) + 1)]


def test_heap_takes_the_largest_order_that_fits_what_is_left():
    pfns = heap.allocate(256 * 2 + 16 * 3 + 5, 0x1000, clients=2).pfns
    assert runs_of(pfns)[:2] == [256, 256]
    assert sum(runs_of(pfns)) == 565
    assert len(set(pfns.tolist())) == 565


def test_one_client_of_a_fresh_zone_gets_contiguous_memory_and_two_get_blocks():
    assert runs_of(heap.allocate(4096, 0x1000, clients=1).pfns) == [4096]
    assert runs_of(heap.allocate(4096, 0x1000, clients=2).pfns) == [256] * 16


def test_heap_never_takes_a_larger_order_again_after_a_failure():
    zone = Buddy(0, 1024).zone
    held = [int(alloc_block(zone, 8)) for _ in range(4)]
    free_block(zone, held[1], 8)
    out, state = np.zeros(300, dtype=np.int64), np.array([0, 300], dtype=np.int64)
    orders = np.array([8, 4, 0], dtype=np.int64)
    assert heap.system_heap(zone, orders, 1, 0, out, 300, state) == 256  # nothing left: order 0 failed too
    free_block(zone, held[2], 8)
    out, state = np.zeros(300, dtype=np.int64), np.array([1, 300], dtype=np.int64)
    assert heap.system_heap(zone, orders, 1, 0, out, 300, state) == 256
    assert state.tolist() == [3, 44]
    assert [int(pfn) for pfn in out[:256]] == list(range(512, 768))


@pytest.mark.parametrize("wanted", [0.0, 0.1, 0.3, 0.5, 0.8, 1.0])
def test_fragmentation_level_is_reached(wanted):
    for seed in range(3):
        zone = heap.zone_of_blocks(0, heap.fragmented(20000, wanted), seed)
        assert zone.unusable_index(8) == pytest.approx(wanted, abs=0.06)
        assert zone.free >= 20000
        free_blocks(zone)


def test_fragmentation_makes_runs_shorter():
    means = [np.mean(runs_of(heap.allocate(8192, 0, fragmentation=f, seed=1).pfns)) for f in (0, 0.3, 0.6, 1)]
    assert means == sorted(means, reverse=True)
    assert means[-1] < 40


def test_heap_is_the_same_for_the_same_seed_and_another_for_another():
    first, again, other = (pages.load(f"heap:8M,fragmentation=0.5,seed={n}", "arm64-4k") for n in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize("orders", ["9/0", "0", "10/9/8/0", "3,fragmentation=0"])
def test_other_orders(orders):
    given = orders if "fragmentation" in orders else f"{orders},fragmentation=0.4"
    pfns = pages.load(f"heap:1M,orders={given}", "arm64-4k")
    assert len(set(pfns.tolist())) == 256


def gain(source: str) -> float:
    pfns = pages.load(source, "arm64-4k")
    return len(pfns) / Kernel("arm64-4k", "mm-unstable").vmap(pfns).cost.tlb_entries


@pytest.mark.parametrize("source", ["heap:32M", "heap:100M", "heap:100M,clients=1"])
def test_the_more_fragmented_the_zone_the_less_batching_gains_down_to_nothing(source):
    for seed in (1, 2):
        gains = [gain(f"{source},fragmentation={step / 20},seed={seed}") for step in range(21)]
        assert gains == sorted(gains, reverse=True)
        assert gains[0] >= 16
        assert 1.5 < gains[12] < 5
        assert gains[18] < 1.2
        assert gains[20] == 1


def test_a_zone_has_the_free_blocks_that_are_asked_for():
    counts = [5, 4, 0, 3, 2, 0, 1, 0, 2, 1, 3]
    for seed in range(5):
        buddy = heap.zone_of_blocks(1 << 12, counts, seed)
        blocks = free_blocks(buddy)
        assert [list(blocks.values()).count(order) for order in range(11)] == counts
        assert buddy.free == sum(count << order for order, count in enumerate(counts))
        assert all(page % (1 << order) == 0 for page, order in blocks.items())
        for order in blocks.values():
            heap.free_block(buddy.zone, int(alloc_block(buddy.zone, order)), order)  # nothing coalesces
        assert [list(free_blocks(buddy).values()).count(order) for order in range(11)] == counts


class TestBuddyinfo:
    BUDDYINFO = (
        "Node 0, zone      DMA      0      0      0      0      0      0      0      0      1      1      2 \n"
        "Node 0, zone   Normal    512     40     30     20    10      0      0      0      4      0      0 \n"
        "Node 1, zone   Normal   9000      0      0      0     0      0      0      0      0      0      0 \n"
    )
    PAGETYPEINFO = (
        "Page block order: 9\nPages per block:  512\n\n"
        "Free pages count per migrate type at order       0      1      2      3 \n"
        "Node    0, zone   Normal, type    Unmovable      1      2      0      0 \n"
        "Node    0, zone   Normal, type      Movable >100000     0      1      0 \n"
        "Node    0, zone   Normal, type          CMA      7      7      7      7 \n\n"
        "Number of blocks type     Unmovable      Movable  Reclaimable   HighAtomic          CMA      Isolate \n"
        "Node 0, zone   Normal           12          340           20            1            2            0 \n"
    )

    def test_the_heap_takes_what_there_is(self, tmp_path):
        (tmp_path / "b").write_text(self.BUDDYINFO)
        pfns = pages.load(f"heap:4M,buddyinfo={tmp_path}/b,clients=1", "arm64-4k")
        assert sorted(runs_of(pfns), reverse=True)[:4] == [256] * 4
        assert pfns.note == ("from node 0, zone Normal with free blocks of order 0 to 10: 512 40 30 20 10 0 0 0 4 0 0")
        assert gain(f"heap:8M,buddyinfo={tmp_path}/b,clients=1,node=1") == 1

    def test_pagetypeinfo_is_summed_over_the_types_that_can_be_had(self, tmp_path):
        (tmp_path / "p").write_text(self.PAGETYPEINFO)
        assert buddyinfo.load(tmp_path / "p") == ([100001, 2, 1] + [0] * 8, "node 0, zone Normal")

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("buddyinfo={0}/b,zone=High", "has no zone 'High' of node 0; it has DMA, Normal"),
            ("buddyinfo={0}/b,node=7", "has no node 7; it has 0, 1"),
            ("buddyinfo={0}/none", "there is no file"),
            ("buddyinfo={0}/noise", "is no /proc/buddyinfo or /proc/pagetypeinfo"),
            ("buddyinfo={0}/b,fragmentation=0.1", "say fragmentation= or buddyinfo=, not both"),
            ("node=0", "choose a zone of buddyinfo=FILE"),
            ("buddyinfo={0}/b,clients=9", "free pages, and 9 clients want 1024 each"),
        ],
    )
    def test_what_is_wrong_is_said(self, words, said, tmp_path):
        (tmp_path / "b").write_text(self.BUDDYINFO)
        (tmp_path / "noise").write_bytes(bytes(range(256)) * 9)
        with pytest.raises(InputError) as caught:
            pages.load(f"heap:4M,{words.format(tmp_path)}", "arm64-4k")
        assert said in str(caught.value)


def test_a_heap_of_100m_on_arm64_4k_has_16_times_fewer_tlb_entries_with_series_v4_than_with_6_12():
    pfns = pages.load("heap:100M", "arm64-4k")
    old, new = (Kernel("arm64-4k", release).vmap(pfns).cost for release in ("linux-6.12", "series-v4"))
    assert (old.tlb_entries, new.tlb_entries) == (25600, 1600)


@pytest.mark.parametrize(
    "source",
    [
        "heap",
        "heap:",
        "heap:0",
        "heap:-1M",
        "heap:1X",
        "heap:1.5M",
        "heap:9999999999T",
        "heap:1M,seed=x",
        "heap:1M,seed=-1",
        "heap:1M,fragmentation=2",
        "heap:1M,fragmentation=nan",
        "heap:1M,fragmentation=",
        "heap:1M,orders=0/8",
        "heap:1M,orders=11/0",
        "heap:1M,orders=",
        "heap:1M,orders=8/8/0",
        "heap:1M,clients=0",
        "heap:1M,foo=1",
        "heap:1M,seed",
        "heap:5K,orders=8",
        "heap:\u0661M",
    ],
)
def test_bad_heaps_are_refused(source):
    with pytest.raises(InputError):
        pages.load(source, "arm64-4k")
