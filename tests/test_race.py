# SPDX-License-Identifier: GPL-2.0-only
"""Calls that overlap: what orders accesses, where to switch, and which bugs only a schedule shows."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bugs import RACES, seeded
from object_support import SNIPPETS, needs_kernel
from vmaplab import release as releases
from vmaplab.cli.race import parse_schedule
from vmaplab.errors import InputError
from vmaplab.object import build, targets
from vmaplab.object.family import ACQUIRES, MARKED, RELEASES
from vmaplab.race.campaign import RacePlan, campaign, one, set_up
from vmaplab.race.explore import Explorer, Finding
from vmaplab.race.known import why_known
from vmaplab.race.marks import bits_of
from vmaplab.race.order import AFTER_FREE, AFTER_GRACE, AT_FREE, MIXED, PLAIN, PUBLISHED, Order
from vmaplab.race.overlap import Overlap
from vmaplab.race.pairs import all_pairs, drawn, parse_overlapping
from vmaplab.race.points import Points
from vmaplab.race.stepper import ALLOC, DROP, FREE, RCU, READ, TAKE, WRITE
from vmaplab.report.races import schedule_text

EXAMPLES = Path(__file__).parent.parent / "examples"
TABLES = 1 << 30, 1 << 31
LOCK, WORD, OTHER = 0x5000, 0x9000, 0xA000


def log(*events: tuple[int, int, int], **more: int) -> np.ndarray:
    """Rows of the log: CPU, kind with bits, address; each an instruction of its own."""
    rows = []
    for when, (cpu, what, address, *rest) in enumerate(events):
        kind, bits = what & 0xFF, what >> 8
        value = rest[0] if rest else 8
        rows.append((kind | bits << 8 | 8 << 16 | cpu << 32, 0x1000 + 4 * when, address, when, value))
    return np.array(rows, dtype=np.int64)


def kinds(*events: tuple[int, ...]) -> list[int]:
    return [int(kind) for kind, _, _ in Order(TABLES).look(log(*events))]


RELEASE, ACQUIRE = (MARKED | RELEASES) << 8, (MARKED | ACQUIRES) << 8


def test_two_plain_accesses_of_which_one_writes_are_a_race():
    assert kinds((0, WRITE, WORD), (1, READ, WORD)) == [PLAIN]
    assert kinds((0, READ, WORD), (1, READ, WORD)) == []
    assert kinds((0, WRITE, WORD), (0, WRITE, WORD)) == []
    assert kinds((0, WRITE, WORD), (1, WRITE, WORD + 8)) == []


def test_a_lock_keeps_two_accesses_apart_and_another_lock_does_not():
    held = [(0, TAKE, LOCK), (0, WRITE, WORD), (0, DROP, LOCK)]
    assert kinds(*held, (1, TAKE, LOCK), (1, WRITE, WORD), (1, DROP, LOCK)) == []
    assert kinds(*held, (1, TAKE, OTHER), (1, WRITE, WORD), (1, DROP, OTHER)) == [PLAIN]


def test_readers_that_share_a_lock_are_apart_from_its_writer_alone():
    shared = [(0, TAKE, LOCK | 1), (0, WRITE, WORD), (0, DROP, LOCK | 1)]
    assert kinds(*shared, (1, TAKE, LOCK | 1), (1, READ, WORD), (1, DROP, LOCK | 1)) == [PLAIN]
    assert kinds(*shared, (1, TAKE, LOCK), (1, READ, WORD), (1, DROP, LOCK)) == []


def test_a_release_that_an_acquire_has_seen_orders_what_is_around_them():
    before = [(0, WRITE, WORD), (0, WRITE | RELEASE, OTHER, 0)]
    assert kinds(*before, (1, READ | ACQUIRE, OTHER), (1, READ, WORD)) == []
    assert kinds(*before, (1, READ, WORD)) == [PLAIN]
    assert kinds((0, WRITE, WORD), (0, WRITE | MARKED << 8, OTHER, 0), (1, READ | ACQUIRE, OTHER), (1, READ, WORD)) == [
        PLAIN
    ]


def test_of_a_plain_and_a_marked_access_only_the_plain_read_is_a_race():
    assert kinds((0, WRITE | MARKED << 8, WORD, 0), (1, READ, WORD)) == [MIXED]
    assert kinds((0, WRITE, WORD), (1, READ | MARKED << 8, WORD)) == []
    assert kinds((0, WRITE | MARKED << 8, WORD, 0), (1, READ | MARKED << 8, WORD)) == []


def test_entries_of_page_tables_are_read_by_every_mmu_and_count_as_marked():
    assert kinds((0, WRITE, TABLES[0], 0), (1, READ, TABLES[0])) == []
    assert kinds((0, WRITE, WORD), (0, WRITE, TABLES[0], 0), (1, READ, TABLES[0]), (1, READ, WORD)) == []


def test_what_is_freed_is_not_touched():
    assert kinds((0, FREE, WORD, 64), (1, READ, WORD + 8)) == [AFTER_FREE]
    assert kinds((1, READ, WORD + 8), (0, FREE, WORD, 64)) == [AT_FREE]
    assert kinds((1, READ, WORD + 64), (0, FREE, WORD, 64)) == []


def test_what_is_freed_after_a_grace_period_may_be_touched_by_readers_that_were_there_before():
    later = FREE | AFTER_GRACE << 8
    assert kinds((1, RCU, 1), (0, later, WORD, 64), (1, READ, WORD), (1, RCU, 0)) == []
    assert kinds((0, later, WORD, 64), (1, RCU, 1), (1, READ, WORD)) == [AFTER_FREE]
    assert kinds((1, RCU, 1), (0, later, WORD, 64), (1, RCU, 0), (1, READ, WORD)) == [AFTER_FREE]


def test_what_was_published_is_not_written_plainly_without_a_lock():
    made = [(0, ALLOC, WORD, 64), (0, WRITE, WORD), (0, WRITE | RELEASE, OTHER, WORD)]
    assert kinds(*made) == []
    assert kinds(*made, (0, WRITE, WORD + 8)) == [PUBLISHED]
    assert kinds(*made, (0, TAKE, LOCK), (0, WRITE, WORD + 8), (0, DROP, LOCK)) == []


def test_a_log_of_as_many_words_as_it_has_room_for_is_looked_at():
    rows = log((0, WRITE, WORD), (1, WRITE, WORD))
    many = np.repeat(rows[:1], 1 << 17, axis=0)
    many[:, 2] += 8 * np.arange(len(many)) + 4  # each in two words of 8 bytes
    found = Order(TABLES).look(np.concatenate([many, rows[1:] + (0, 0, 8, 0, 0)]))
    assert [int(kind) for kind, _, _ in found] == [PLAIN]


def test_a_switch_matters_before_what_another_cpu_also_touches():
    def points(*events: tuple[int, ...]) -> list[tuple[int, int]]:
        return Points().of(log(*events))

    assert points((0, WRITE, WORD), (0, WRITE, OTHER), (1, READ, OTHER)) == [(0, 1), (1, 2)]
    assert points((0, READ, WORD), (1, READ, WORD)) == []
    locked = [(cpu, what, where, 7) for cpu in (0, 1) for what, where in ((TAKE, LOCK), (WRITE, WORD), (DROP, LOCK))]
    assert points(*locked) == [(0, 7), (1, 7)]  # before the lock is asked for, not within


@pytest.mark.parametrize(
    ("line", "bits"),
    [
        ("if (READ_ONCE(vb->free) < 4)", MARKED),
        ("WRITE_ONCE(vb->free, 0);", MARKED),
        ("vb->free = 0;", 0),
        ("rcu_assign_pointer(*slot, entry);", MARKED | RELEASES),
        ("return rcu_dereference_check(xa->xa_head,", MARKED | ACQUIRES),
        ("atomic_long_add(nr, &vmap_lazy_nr);", MARKED | ACQUIRES | RELEASES),
        ("list_for_each_entry_rcu(vb, &vbq->free, free_list) {", MARKED | ACQUIRES),
        ("list_for_each_entry(va, &vn->busy.head, list) {", 0),
    ],
)
def test_what_a_line_of_the_source_marks(line, bits):
    assert bits_of(["{", f"\t{line}", "\tother();"], 2) == bits


def test_a_statement_of_several_lines_is_marked_as_a_whole():
    source = ["{", "\tx = READ_ONCE(", "\t\ty);", "\tz = 1;", "}"]
    assert [bits_of(source, line) for line in range(1, 6)] == [0, MARKED, MARKED, 0, 0]


def test_overlapping_calls_are_text_and_back():
    text = "vmap 0x110+4; cpu 1 || vunmap @0; vmap 0x100+4; vunmap @3 || aliases"
    found = parse_overlapping(text)
    assert str(found) == text and [len(body) for body in found.bodies] == [3, 1]
    assert parse_overlapping(" || aliases || aliases").setup == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("vmap 0x100+4; vunmap @0", "SETUP may be empty"),
        (" || vmap 0x100+4 || vunmap @0", "of another CPU"),
        (" || frobnicate || aliases", "no step"),
        ("boot nohugevmalloc; vmap 0x0 || aliases || aliases", "no 'boot'"),
    ],
)
def test_what_does_not_overlap_is_said(text, why):
    with pytest.raises(InputError, match=why):
        parse_overlapping(text)


def test_a_schedule_is_text_and_back():
    schedule = ((0, 300), (1, -1), (0, -1))
    assert schedule_text(schedule) == "0:300,1,0" and parse_schedule("0:300, 1,0") == schedule
    with pytest.raises(InputError, match="write CPUs with commas"):
        parse_schedule("0;1")


@pytest.mark.parametrize("arch", targets.MAIN)
def test_every_pair_of_calls_is_there_and_can_be_read(arch):
    pairs = dict(all_pairs(releases.get(releases.DEFAULT).on(arch)))
    assert len(pairs) > 400 and {bug.scenario for bug in RACES.values()} <= pairs.keys()
    assert len(list(drawn(releases.get(releases.DEFAULT).on(arch), 4, 20, 1))) == 20


@cache
def explorer(call: str, snippet: Path = SNIPPETS / "races.c", arch: str = "arm64-4k") -> Explorer:
    return Explorer(Overlap(build.build(targets.get(arch), None, targets.smp(), snippet, call), 2))


def findings_of(tried_by: Explorer, text: str, preemptions: int = 1) -> list[Finding]:
    moment, bodies = set_up(tried_by.kernel, parse_overlapping(text))
    found = tried_by.explore(moment, bodies, preemptions).findings.values()
    return [tried_by.shrunk(moment, bodies, it) for it in found]


@needs_kernel
@pytest.mark.parametrize("name", RACES)
def test_a_race_of_the_field_is_found_with_few_switches_and_repeats(name, tmp_path):
    built = build.build(targets.get("arm64-4k"), seeded(name, tmp_path), targets.smp())
    ours = Explorer(Overlap(built, 2))
    pair = dict(all_pairs(ours.kernel.arch))[RACES[name].scenario]
    found = [it for it in findings_of(ours, str(pair)) if not why_known(it, built)]
    assert found and min(len(it.schedule) for it in found) <= 6
    moment, bodies = set_up(ours.kernel, pair)
    again = ours.replay(moment, bodies, found[0].schedule)
    assert found[0].kind in again.findings


@needs_kernel
@pytest.mark.parametrize("arch", targets.MAIN)
def test_released_code_holds(arch):
    built = build.build(targets.get(arch), config=targets.smp())
    plan = RacePlan(built)
    wanted = {"vm_map_ram | vm_unmap_aliases", "vfree | vmallocinfo", *(bug.scenario for bug in RACES.values())}
    ours = Explorer(Overlap(built, 2))
    for name, pair in plan.work:
        if name in wanted:
            assert [str(it) for it in findings_of(ours, str(pair)) if not why_known(it, built)] == [], name


@needs_kernel
def test_the_same_campaign_comes_to_the_same_verdict():
    built = build.build(targets.get("arm64-4k"), config=targets.smp())
    plan = RacePlan(built, calls=3, cases=12)

    def told(jobs: int) -> tuple[object, ...]:
        verdict = campaign(plan, jobs, lambda: None)
        shown = [(it.finding.kind, it.finding.schedule, it.name, it.also) for it in verdict.shown]
        return verdict.tried, verdict.schedules, shown, verdict.word

    assert told(1) == told(2) and told(1)[0] == 12


@needs_kernel
@pytest.mark.parametrize("arch", targets.MAIN)
def test_each_cpu_is_itself_whoever_made_the_last_call_before(arch):
    ours = explorer("counts_plainly", arch=arch)
    _, bodies = set_up(ours.kernel, parse_overlapping("cpu 1; map_ram 0x100+4 || map_ram 0x200+4 || map_ram 0x300+4"))
    played = ours.kernel.play(bodies, ((0, -1), (1, -1)))
    mine, others = (int(results[0]) for results in played.results)
    block = int(ours.kernel.arch.page_size) * 4
    assert played.fault == "" and abs(mine - others) > block  # CPU 0 has a block of its own; CPU 1 goes on in its one


@needs_kernel
def test_marked_accesses_do_not_make_a_check_and_its_use_one():
    """KCSAN has nothing to say of it; an order of the calls that gives both of them memory there is none."""
    (found,) = findings_of(explorer("quota_vmap", EXAMPLES / "quota_vmap.c"), " || vmap 0x100+6 || vmap 0x200+6")
    assert found.race is None and "no order of the calls gives this: what the calls return" in found.told
    assert len(found.schedule) == 3


@needs_kernel
def test_two_locks_in_two_orders_are_a_deadlock_with_both_stacks():
    ours = explorer("crosses_locks")
    text = " || vmap 0x100+1 || vmap 0x200+2"
    (found,) = findings_of(ours, text)
    assert "a deadlock: CPU 0 waits in crosses_locks()" in found.told and "for first_mutex" in found.told
    moment, bodies = set_up(ours.kernel, parse_overlapping(text))
    stacks = ours.stacks(moment, bodies, found)
    assert [who for who, _ in stacks] == ["CPU 0 stands", "CPU 1 stands"]
    assert all(any("crosses_locks() (races.c:" in place for place in places) for _, places in stacks)


@needs_kernel
def test_a_plain_counter_is_a_race_and_one_under_a_lock_is_none():
    found = findings_of(explorer("counts_plainly"), " || vmap 0x100+4 || vmap 0x200+4")
    assert any(it.race and it.race.memory == "plain_count" for it in found)
    assert all("counts_plainly() (races.c:" in it.race.first.place for it in found if it.race)
    assert findings_of(explorer("counts_under_lock"), " || vmap 0x100+4 || vmap 0x200+4") == []


@needs_kernel
def test_what_takes_two_preemptions_is_found_with_two_and_not_with_one():
    text = " || vmap 0x100+1 || vmap 0x200+2"
    assert findings_of(explorer("is_seen_twice"), text, 1) == []
    (found,) = findings_of(explorer("is_seen_twice"), text, 2)
    assert "what the calls return" in found.told and len(found.schedule) == 4


@needs_kernel
def test_a_cpu_that_waits_for_another_without_a_lock_is_told_and_ends():
    found = findings_of(explorer("waits_for_the_other"), " || vmap 0x100+4 || vmap 0x200+4", 0)
    assert any("no end" in it.told for it in found)


@needs_kernel
@pytest.mark.parametrize("arch", targets.MAIN)
def test_the_calls_that_led_to_an_access_are_named(arch):
    ours = explorer("counts_plainly", arch=arch)
    text = "vmap 0x180+4; vunmap @0 || aliases || info"
    _, bodies = set_up(ours.kernel, parse_overlapping(text))
    played = ours.kernel.play(bodies, ((0, -1), (1, -1)), trace=True)
    inside = [
        row
        for row in played.rows.tolist()
        if ours.kernel._cpu.image.place(row[1] % (1 << 64)).startswith("__purge_vmap_area_lazy")
    ]
    places = ours.kernel.stack(played, 0, inside[0][3])
    names = [place.partition("(")[0] for place in places]
    assert names[0] == "__purge_vmap_area_lazy" and names[-1].endswith("vm_unmap_aliases")


@needs_kernel
def test_random_switches_find_what_needs_two(tmp_path):
    built = build.build(targets.get("arm64-4k"), seeded("lazy-count-not-atomic", tmp_path), targets.smp())
    ours = Explorer(Overlap(built, 2))
    text = "vmap 0x110+4; vmap 0x120+4; vmap 0x130+4; vmap 0x140+4 || vunmap @0; vunmap @1 || vunmap @2; vunmap @3"
    moment, bodies = set_up(ours.kernel, parse_overlapping(text))
    tried = ours.sample(moment, bodies, random.Random(1), 400, 3)
    assert any("vmap_lazy_nr" in it.told for it in tried.findings.values())


@needs_kernel
def test_given_schedule_of_given_calls():
    built = build.build(targets.get("arm64-4k"), config=targets.smp())
    given = parse_overlapping(" || vmap 0x100+4; vunmap @0 || vmalloc 3")
    verdict = one(RacePlan(built), given, ((0, 300), (1, -1)))
    assert verdict.word == "holds" and verdict.schedules == 1
    with pytest.raises(InputError, match="before any call overlaps"):
        one(RacePlan(built), parse_overlapping("vmap null || aliases || aliases"), None)
