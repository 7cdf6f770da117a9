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
from vmaplab.errors import InputError
from vmaplab.object import build, targets
from vmaplab.object.family import ACQUIRES, ATOMIC, MARKED, RELEASES
from vmaplab.race.campaign import RacePlan, campaign, one, set_up
from vmaplab.race.explore import Ends, Explorer, Finding, Tried
from vmaplab.race.hooks import ALLOC, BARRIER, DROP, FLUSH, FREE, RCU, READ, TAKE, WRITE
from vmaplab.race.known import why_known
from vmaplab.race.locks import LockOrder
from vmaplab.race.marks import bits_of
from vmaplab.race.order import AFTER_FREE, AFTER_GRACE, AT_FREE, MIXED, PLAIN, PUBLISHED, UNSEEN, ZEROED, Order
from vmaplab.race.overlap import Overlap
from vmaplab.race.pairs import all_pairs, drawn, parse_overlapping
from vmaplab.race.played import Played
from vmaplab.race.points import Points
from vmaplab.race.promises import Call, owed
from vmaplab.race.schedule import Turn, parse_schedule, schedule_text

EXAMPLES = Path(__file__).parent.parent / "examples"
TABLES = 1 << 30, 1 << 31
LOCK, WORD, OTHER = 0x5000, 0x9000, 0xA000


def log(*events: tuple[int, int, int], **more: int) -> np.ndarray:
    """Rows of the log: CPU, kind with bits, address; each an instruction of its own."""
    rows = []
    for when, (cpu, what, address, *rest) in enumerate(events):
        kind, bits = what & 0xFF, what >> 8
        value = rest[0] if rest else 8
        rows.append((kind | bits << 8 | 8 << 16 | cpu << 32, 0x1000 + 4 * when, address, when, value, 0))
    return np.array(rows, dtype=np.int64)


def kinds(*events: tuple[int, ...], in_order: bool = False) -> list[int]:
    return [int(kind) for kind, _, _ in Order(TABLES, in_order).look(log(*events))]


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
    told = [(0, WRITE, TABLES[0], 0), (1, READ, TABLES[0]), (1, READ, WORD)]
    assert kinds((0, WRITE, WORD), (0, BARRIER, 0), *told) == []
    assert kinds((0, WRITE, WORD), *told) == [PLAIN]


def test_a_marked_store_tells_of_what_a_barrier_is_before():
    store, load = (0, WRITE | MARKED << 8, OTHER, 0), (1, READ | MARKED << 8, OTHER)
    assert kinds((0, WRITE, WORD), (0, BARRIER, 0), store, load, (1, READ, WORD)) == []
    assert kinds((0, WRITE, WORD), store, load, (1, READ, WORD)) == [PLAIN]
    assert kinds((0, WRITE, WORD), store, (0, BARRIER, 0), load, (1, READ, WORD)) == [PLAIN]
    assert kinds((0, WRITE, WORD), store, load, (1, READ, WORD), in_order=True) == []


def circles(*events: tuple[int, ...]) -> list[list[int]]:
    """Per circle the locks that are outer; each event is a CPU, a kind, a lock, and the place that takes it."""
    rows = log(*(event[:3] for event in events))
    rows[:, 1] = [event[3] if len(event) > 3 else 1 for event in events]
    return [sorted(one.outer for one in circle) for circle in LockOrder().look(rows)]


def nested(cpu: int, *locks: tuple[int, int]) -> list[tuple[int, ...]]:
    taken = [(cpu, TAKE, lock, place) for lock, place in locks]
    return [*taken, *((cpu, DROP, lock & ~2) for lock, _ in locks[::-1])]


def test_two_locks_taken_in_two_orders_are_a_circle():
    first, second, third = 0x100, 0x200, 0x300
    assert circles(*nested(0, (first, 1), (second, 2)), *nested(1, (second, 3), (first, 4))) == [[first, second]]
    assert circles(*nested(0, (first, 1), (second, 2)), *nested(1, (first, 3), (second, 4))) == []
    assert circles(*nested(0, (first, 1)), *nested(0, (second, 2)), *nested(1, (second, 3), (first, 4))) == []
    around = [*nested(0, (first, 1), (second, 2)), *nested(0, (second, 3), (third, 4))]
    assert circles(*around, *nested(1, (third, 5), (first, 6))) == [[first, second, third]]


def test_who_only_tries_or_shares_a_lock_closes_no_circle():
    first, second = 0x100, 0x200
    assert circles(*nested(0, (first, 1), (second, 2)), *nested(1, (second, 3), (first | 2, 4))) == []
    assert circles(*nested(0, (first | 2, 1), (second, 2)), *nested(1, (second, 3), (first, 4))) == [[first, second]]
    shared = [*nested(0, (first, 1), (second | 1, 2)), *nested(1, (second | 1, 3), (first, 4))]
    assert circles(*shared) == []
    assert circles(*nested(0, (first | 1, 1), (second, 2)), *nested(1, (second, 3), (first, 4))) == [[first, second]]


def test_locks_that_one_place_takes_are_of_one_kind():
    first, second, other = 0x100, 0x200, 0x300
    once = nested(0, (first, 1), (other, 2))
    assert circles(*once, *nested(1, (other, 3), (second, 4))) == []
    assert circles(*once, *nested(1, (other, 3), (second, 1))) == [[first, other]]


def purges(*calls: Call) -> tuple[tuple[int, int, str], ...]:
    return owed(calls)


def test_what_a_purge_owes_is_of_calls_that_were_over_when_it_began():
    done, later = Call("vunmap", False, 1, 0, 1, 4), Call("vm_unmap_aliases", True, 2, 4, 2, 9)
    assert purges(done, later) == ((4, 9, "vm_unmap_aliases"),)
    under_way = Call("vunmap", False, 1, 0, 3, 9)
    assert purges(under_way, later) == ((0, 9, "vm_unmap_aliases"),)
    assert purges(done, Call("vm_unmap_aliases", True, 2, 4)) == ()


def test_who_reads_a_plain_flag_behind_a_barrier_races_with_it_and_with_nothing_before_it():
    flag, seen = (0, WRITE, OTHER), [(1, READ, OTHER), (1, READ, WORD)]
    assert kinds((0, WRITE, WORD), (0, BARRIER, 0), flag, *seen) == [PLAIN]
    assert kinds((0, WRITE, WORD), flag, *seen) == [PLAIN, PLAIN]
    assert kinds((0, WRITE, WORD), flag, *seen, in_order=True) == [PLAIN]
    assert kinds(flag, (0, WRITE, WORD), *seen, in_order=True) == [PLAIN, PLAIN]


def test_a_table_is_not_to_be_found_before_its_zeroes():
    new, entry = TABLES[0] + 4096, (0, WRITE, TABLES[0], 0)
    made, seen = (0, ALLOC | ZEROED << 8, new, 4096), [(1, READ, TABLES[0]), (1, READ, new + 8)]
    assert kinds(made, (0, BARRIER, 0), entry, *seen) == []
    assert kinds(made, entry, *seen) == [UNSEEN]


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
    found = Order(TABLES, False).look(np.concatenate([many, rows[1:] + (0, 0, 8, 0, 0, 0)]))
    assert [int(kind) for kind, _, _ in found] == [PLAIN]


def test_a_switch_matters_before_what_another_cpu_also_touches():
    def points(*events: tuple[int, ...]) -> list[tuple[int, ...]]:
        return [tuple(one) for one in Points(TABLES).of(log(*events)).tolist()]

    assert points((0, WRITE, WORD), (0, WRITE, OTHER), (1, READ, OTHER)) == [(0, 1, 1 << 1)]
    assert points((1, READ, OTHER), (0, WRITE, OTHER), (1, READ, OTHER)) == [(0, 1, 1 << 1), (1, 0, 1 << 0)]
    assert points((0, READ, WORD), (1, READ, WORD)) == []
    locked = [(cpu, what, where, 7) for cpu in (0, 1) for what, where in ((TAKE, LOCK), (WRITE, WORD), (DROP, LOCK))]
    assert points(*locked) == [(0, 7, 1 << 1)]  # before the lock is asked for, not within
    assert points((0, FLUSH, WORD, 0), (1, WRITE, TABLES[0])) == [(0, 0, 1 << 1)]  # what may be in a TLB is mapped
    assert points((0, FLUSH, WORD, 0), (1, READ, WORD)) == [(0, 0, 1 << 1)]  # or nobody flushes whom it relies on
    assert points((1, READ, WORD), (0, FLUSH, WORD, 0)) == []
    assert points((0, WRITE, TABLES[0], 0), (1, FLUSH, WORD, 0)) == [(0, 0, 1 << 1)]  # cleared behind the flush
    assert points((0, WRITE, TABLES[0], 8), (1, FLUSH, WORD, 0)) == []


def test_a_store_can_come_late_up_to_the_next_barrier_or_release():
    def late(*events: tuple[int, ...]) -> list[tuple[tuple[int, int, int], tuple[int, ...]]]:
        points, rows = Points(TABLES), log(*events)
        points.of(rows)
        return points.late(rows)

    seen = [(1, READ, OTHER), (1, READ, WORD)]
    assert late((0, WRITE, WORD), (0, WRITE, OTHER), *seen) == [((0, 2, 1 << 1), (0,))]
    assert late((0, WRITE, WORD), (0, BARRIER, 0), (0, WRITE, OTHER), *seen) == []
    assert late((0, WRITE, WORD), (0, WRITE | RELEASE, OTHER, 0), *seen) == []
    assert late((0, WRITE | (MARKED | ATOMIC) << 8, WORD), (0, WRITE, OTHER), *seen) == []
    assert late((0, WRITE, WORD), (0, WRITE, WORD), (1, READ, WORD)) == []
    assert late((0, WRITE, WORD), (0, READ, OTHER), (1, WRITE, OTHER), (1, READ, WORD)) == [((0, 2, 1 << 1), (0,))]


@pytest.mark.parametrize(
    ("line", "bits"),
    [
        ("if (READ_ONCE(vb->free) < 4)", MARKED),
        ("WRITE_ONCE(vb->free, 0);", MARKED),
        ("vb->free = 0;", 0),
        ("rcu_assign_pointer(*slot, entry);", MARKED | RELEASES),
        ("return rcu_dereference_check(xa->xa_head,", MARKED | ACQUIRES),
        ("atomic_long_add(nr, &vmap_lazy_nr);", MARKED),
        ("nr_lazy = atomic_long_add_return(nr, &vmap_lazy_nr);", MARKED | ACQUIRES | RELEASES),
        ("if (!atomic_dec_and_test(&users))", MARKED | ACQUIRES | RELEASES),
        ("set_bit(VMAP_RAM, &flags);", MARKED),
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
    commented = parse_overlapping("vmap 0x100 # one || two\n || vunmap @0 # three\n || aliases")
    assert [len(body) for body in commented.bodies] == [1, 1]
    assert parse_overlapping(" || aliases || aliases").setup == ()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("vmap 0x100+4; vunmap @0", "SETUP may be empty"),
        (" || vmap 0x100+4 || vunmap @0", "of another CPU"),
        (" || frobnicate || aliases", "no step"),
        (" || || aliases", "CPU 0 has no calls"),
        ("vmap 0x100+1 # setup || vunmap @0 || aliases", "are written"),
        ("boot nohugevmalloc; vmap 0x0 || aliases || aliases", "no 'boot'"),
    ],
)
def test_what_does_not_overlap_is_said(text, why):
    with pytest.raises(InputError, match=why):
        parse_overlapping(text)


def test_a_schedule_is_text_and_back():
    schedule = (Turn(0, 300), Turn(1), Turn(0))
    assert schedule_text(schedule) == "0:300,1,0" and parse_schedule("0:300, 1,0") == schedule
    schedule = (Turn(0, 300, (20, 31)), Turn(1), Turn(0))
    assert schedule_text(schedule) == "0:300/20/31,1,0" and parse_schedule("0:300/20/31,1,0") == schedule
    for text, why in (("0;1", "write CPUs with commas"), ("0:8/9,1,0", "instruction 9 comes behind the 8 of its turn")):
        with pytest.raises(InputError, match=why):
            parse_schedule(text)


@pytest.mark.parametrize("arch", targets.MAIN)
def test_every_pair_of_calls_is_there_and_can_be_read(arch):
    pairs = dict(all_pairs(releases.get(releases.DEFAULT).on(arch)))
    assert len(pairs) > 2000 and len(set(map(str, pairs.values()))) == len(pairs)
    assert {bug.scenario for bug in RACES.values()} <= pairs.keys()
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
    built = build.build(targets.get(RACES[name].arch), seeded(name, tmp_path), targets.smp())
    ours = Explorer(Overlap(built, 2))
    pair = dict(all_pairs(ours.kernel.arch))[RACES[name].scenario]
    found = [it for it in findings_of(ours, str(pair)) if not why_known(it.race, it.told, built, str(pair))]
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
            assert [
                str(it) for it in findings_of(ours, str(pair)) if not why_known(it.race, it.told, built, str(pair))
            ] == [], name


@needs_kernel
def test_a_campaign_ends_behind_the_pairs_that_show_something_new(tmp_path):
    built = build.build(targets.get("arm64-4k"), seeded("lazy-count-not-atomic", tmp_path), targets.smp())
    plan = RacePlan(built)
    verdict = campaign(plan, 2, lambda: None)
    assert verdict.word == "RACE" and verdict.tried % 100 == 0 and verdict.tried < len(plan.work) / 2
    assert len(verdict.skipped) == len(plan.work) - verdict.tried
    assert [name for name, _ in RacePlan(built, cases=7).work] == [name for name, _ in plan.work[:7]]


@needs_kernel
def test_of_a_pair_with_many_findings_some_are_enough():
    built = build.build(targets.get("arm64-4k"), config=targets.smp())
    ours = Explorer(Overlap(built, 2))
    moment, bodies = set_up(ours.kernel, parse_overlapping("vmap 0x110+4 || vunmap @0 || aliases"))
    ours._order.look = lambda rows: [(PLAIN, at, at) for at in np.flatnonzero(rows[:, 0] & 0xFF == WRITE)]
    tried = ours.explore(moment, bodies, 1)
    assert tried.schedules < 5 and not tried.exhausted and "kinds of findings are enough" in tried.undefined


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
    played = ours.kernel.play(bodies, (Turn(0), Turn(1)))
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
    (found,) = [it for it in findings_of(ours, text) if not it.kind.startswith("locks in two orders")]
    assert "a deadlock: CPU 0 waits in crosses_locks()" in found.told and "for first_mutex" in found.told
    moment, bodies = set_up(ours.kernel, parse_overlapping(text))
    stacks = ours.stacks(moment, bodies, found)
    assert [who for who, _ in stacks] == ["CPU 0 stands", "CPU 1 stands"]
    assert all(any("crosses_locks() (races.c:" in place for place in places) for _, places in stacks)


@needs_kernel
@pytest.mark.parametrize("arch", targets.MAIN)
def test_locks_in_two_orders_are_found_where_the_calls_never_meet(arch):
    (found,) = findings_of(explorer("crosses_locks", arch=arch), " || vmap 0x100+1 || vmap 0x200+2", 0)
    assert found.told.startswith("locks in two orders: crosses_locks() (races.c:18) takes first_mutex while second_m")
    assert findings_of(explorer("crosses_locks", arch=arch), " || vmap 0x100+1 || vmap 0x200+1", 0) == []


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
@pytest.mark.parametrize(("arch", "found"), [("arm64-4k", 1), ("x86_64", 0), ("riscv64-sv48", 1)])
def test_stores_without_a_barrier_are_seen_in_another_order_where_the_architecture_allows_that(arch, found):
    text = " || vmap 0x100+1 || vmap 0x200+2"
    told = [it for it in findings_of(explorer("tells_without_barrier", arch=arch), text) if it.race is None]
    assert len(told) == found and all(it.schedule[0].late for it in told)
    assert [it for it in findings_of(explorer("tells_with_barrier", arch=arch), text) if it.race is None] == []


@needs_kernel
def test_switches_at_any_instruction_find_nothing_that_those_that_matter_do_not():
    for call, text in (
        ("quota_twice", " || vmap 0x100+1 || vmap 0x200+2"),
        ("counts_plainly", "map_ram 0x150+4; map_ram 0x160+4 || unmap_ram @0 4 || map_ram 0x130+4"),
    ):
        ours = explorer(call)
        moment, bodies = set_up(ours.kernel, parse_overlapping(text))
        chosen, every = Ends(), Ends()
        for ends in (chosen, every):
            for way in ((Turn(0), Turn(1)), (Turn(1), Turn(0))):
                ours.run(moment, bodies, way, ends, Tried(), True)
        found = ours.explore(moment, bodies, 1, ends=chosen).findings
        tried = Tried()
        for first in (0, 1):
            ours.kernel.go_back(moment)
            length = ours.kernel.play(bodies, (Turn(first), Turn(1 - first))).segments[0].end
            for at in range(1, length, 3):
                ours.run(moment, bodies, (Turn(first, at), Turn(1 - first), Turn(first)), every, tried)
        assert tried.findings.keys() <= found.keys()
        assert set(map(str, every.known.values())) <= set(map(str, chosen.known.values()))


@needs_kernel
@pytest.mark.parametrize("arch", targets.MAIN)
def test_another_cpu_comes_between_two_times_that_a_lock_is_held(arch):
    found = findings_of(explorer("locks_twice", arch=arch), " || vmap 0x100+6 || vmap 0x200+6")
    assert [it for it in found if "what the calls return" in it.told and len(it.schedule) == 3]


@needs_kernel
def test_a_work_overlaps_the_call_that_has_queued_it():
    ours = explorer("counts_plainly")
    text = "vmalloc 2; vmalloc 2 || vfree_atomic @0; vfree_atomic @1 || aliases"
    moment, bodies = set_up(ours.kernel, parse_overlapping(text))
    schedules: list[Played] = []
    play = ours.kernel.play
    ours.kernel.play = lambda *given: schedules.append(play(*given)) or schedules[-1]
    tried = ours.explore(moment, bodies, 1)
    del ours.kernel.play
    assert tried.findings == {} and any([one.cpu for one in it.segments][:3] == [0, 2, 0] for it in schedules)


@needs_kernel
def test_a_cpu_that_waits_for_another_without_a_lock_gives_it_the_turn():
    text = " || vmap 0x100+4 || vmap 0x200+4"
    assert findings_of(explorer("waits_for_the_other"), text, 0) == []
    (found,) = findings_of(explorer("waits_for_nobody"), text, 0)
    assert "no end" in found.told


@needs_kernel
@pytest.mark.parametrize("arch", targets.MAIN)
def test_the_calls_that_led_to_an_access_are_named(arch):
    ours = explorer("counts_plainly", arch=arch)
    text = "vmap 0x180+4; vunmap @0 || aliases || info"
    _, bodies = set_up(ours.kernel, parse_overlapping(text))
    played = ours.kernel.play(bodies, (Turn(0), Turn(1)), trace=True)
    inside = [
        row
        for row in played.rows.tolist()
        if ours.kernel._cpu.image.place(row[1] % (1 << 64)).startswith("__purge_vmap_area_lazy")
    ]
    places = ours.teller.stack(played, 0, inside[0][3])
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
    verdict = one(RacePlan(built), given, (Turn(0, 300), Turn(1)))
    assert verdict.word == "holds" and verdict.schedules == 1
    for text, why in (
        ("0:99999999", "are over after"),
        ("2,0,1", "CPU 2 has nothing to run"),
        ("0,1,0", "CPU 0 has nothing to run"),
        ("0:50/7,1", "instruction 7 of a turn of CPU 0 stores nothing"),
    ):
        with pytest.raises(InputError, match=f"cannot be followed: .*{why}"):
            one(RacePlan(built), given, parse_schedule(text))
    with pytest.raises(InputError, match="before any call overlaps"):
        one(RacePlan(built), parse_overlapping("vmap null || aliases || aliases"), None)
