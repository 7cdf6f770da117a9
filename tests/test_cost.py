# SPDX-License-Identifier: GPL-2.0-only
"""Traces of the kernel's code, their decoding, and their time on cores: known cycles, and what must never be faster."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from pathlib import Path

import capstone
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assembled import ARCH, BASE, repeated
from command import VMAPLAB
from effort import nightly
from object_support import needs_kernel
from test_boot import bootable
from vmaplab.calls.scenario import parse
from vmaplab.cost.boards import options_of
from vmaplab.cost.booted import counted_vmap
from vmaplab.cost.core import Core, Corner
from vmaplab.cost.cores import cores, cores_of
from vmaplab.cost.decode import decode, instructions_of
from vmaplab.cost.executed import Executed
from vmaplab.cost.isa.base import Kind, Op
from vmaplab.cost.measure import DEFAULTS, traced_scenario, traced_vmap
from vmaplab.cost.time import CAUSES, Situation, band_of
from vmaplab.errors import InputError, VmapError
from vmaplab.object import targets
from vmaplab.object.build import build, tree_of
from vmaplab.report import costs

CORES = cores()
TIMES = 2000
IN_ORDER = [name for name, core in CORES.items() if core.window == 0]


def vmaplab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VMAPLAB, *words], capture_output=True, text=True, check=False)


def cycles(core: Core | str, text: str, each: list[int] | None = None, times: int = TIMES, **situation: bool) -> float:
    """Cycles of one of many rounds of ``text``; ``each``: what a round accesses."""
    core = CORES[core] if isinstance(core, str) else core
    addresses = None if each is None else [each] * times
    executed = repeated(core.family, text, times, addresses)
    return band_of(executed, core, Situation(**situation)).usual.cycles / times


def lines(*texts: str) -> str:
    return "\n".join(texts)


ADDS = {
    "arm64": [f"add x{n}, x20, x21" for n in range(12)],
    "x86": [f"lea r{n}, [rsi + rdi]" for n in range(8, 16)],
    "riscv": [f"add x{n}, x28, x29" for n in range(10, 22)],
}
CHAIN = {"arm64": "add x0, x0, x1", "x86": "add rax, rbx", "riscv": "add a0, a0, a1"}
CHASE = {"arm64": "ldr x0, [x0]", "x86": "mov rax, [rax]", "riscv": "ld a0, 0(a0)"}
MULTIPLY = {"arm64": "mul x0, x0, x1", "x86": "imul rax, rbx", "riscv": "mul a0, a0, a1"}
STORE = {"arm64": "str x1, [x20]", "x86": "mov [rsi], rbx", "riscv": "sd a1, 0(s2)"}
BARRIER = {"arm64": "dsb ish", "x86": "mfence", "riscv": "fence"}


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
class TestKnownCycles:
    """Each core does what its own facts say, alone and one at a time."""

    def test_a_chain_of_additions_is_one_cycle_each(self, core):
        assert cycles(core, CHAIN[core.family]) == pytest.approx(1, rel=0.02)

    def test_independent_additions_are_as_wide_as_the_pipes(self, core):
        texts = ADDS[core.family]
        width = min(core.width.usual, core.pipes["alu"].number)
        assert cycles(core, lines(*texts)) / len(texts) == pytest.approx(1 / width, rel=0.05)

    def test_a_chain_of_loads_takes_the_latency_of_l1(self, core):
        wanted = core.levels[0].latency.usual
        assert cycles(core, CHASE[core.family], [0x2000]) == pytest.approx(wanted, rel=0.05)

    def test_a_chain_of_loads_beyond_l1_takes_the_latency_of_l2(self, core):
        count = 2 * core.levels[0].size >> 6
        order = np.random.default_rng(1).permutation(count)
        found = []
        for rounds in (2, 4):  # the first brings what is not there yet
            addresses = [[0x100000 + 64 * int(at)] for _ in range(rounds) for at in order]
            executed = repeated(core.family, CHASE[core.family], len(addresses), addresses)
            found.append(band_of(executed, core, Situation(prefetch=False)).usual.cycles)
        assert (found[1] - found[0]) / (2 * count) == pytest.approx(core.levels[1].latency.usual, rel=0.02)

    def test_a_chain_of_multiplications(self, core):
        assert cycles(core, MULTIPLY[core.family]) == pytest.approx(core.uses[Kind.MUL].latency.usual, rel=0.02)

    def test_barriers_one_behind_the_other(self, core):
        assert cycles(core, BARRIER[core.family]) == pytest.approx(core.sync.usual, rel=0.05)

    def test_a_stream_from_memory_is_faster_with_a_prefetcher(self, core):
        addresses = [[0x100000 + 64 * at] for at in range(TIMES)]
        executed = repeated(core.family, CHASE[core.family], TIMES, addresses)
        off = band_of(executed, core, Situation(cold=True, prefetch=False)).usual.cycles
        on = band_of(executed, core, Situation(cold=True)).usual.cycles
        memory = core.memory.usual * core.mhz.usual / 1000
        assert off / TIMES == pytest.approx(memory, rel=0.05)
        assert on < off / 2 if core.ahead.usual else on == off

    def test_a_branch_that_nobody_can_foretell_costs_the_penalty_half_the_time(self, core):
        taken = np.random.default_rng(2).random(20_000) < 0.5
        always = np.ones(20_000, dtype=bool)
        costs_of = [branches(core, which) for which in (taken, always)]
        lost = (costs_of[0] - costs_of[1]) / 20_000
        assert lost == pytest.approx(core.mispredict.usual / 2, rel=0.25)


def branches(core: Core, taken: np.ndarray) -> int:
    """Cycles of conditional branches over a block, which are taken or not."""
    text = {"arm64": "cbz x0, .+8", "x86": "jz .+3", "riscv": "beqz a0, .+8"}[core.family]
    over = {"arm64": "nop", "x86": "nop", "riscv": "nop"}[core.family]
    one, other = (repeated(core.family, each, 1).code[0] for each in (text, over))
    after = one.address + len(one.data)
    blocks = [one, other._replace(address=after), other._replace(address=after + len(other.data))]
    which = [part for it in taken.tolist() for part in ((0, 2) if it else (0, 1, 2))]
    executed = Executed(
        core.family,
        blocks,
        ["code"] * 3,
        np.array(which, dtype=np.uint32),
        np.zeros(len(which) + 1, dtype=np.int64),
        np.zeros(0, dtype=np.int64),
    )
    return band_of(executed, core).usual.cycles


def mca(core: str, text: str, family: str) -> float:
    """Cycles of a round of ``text``, by LLVM's model."""
    triple = {"arm64": "aarch64", "x86": "x86_64", "riscv": "riscv64"}[family]
    syntax = [".intel_syntax noprefix"] if family == "x86" else []
    done = subprocess.run(
        ["llvm-mca-19", f"-mtriple={triple}", f"-mcpu={core}", "-iterations=1000"],
        input=lines(*syntax, text) + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.partition("Total Cycles:")[2].split()[0]) / 1000


@pytest.mark.skipif(shutil.which("llvm-mca-19") is None, reason="llvm-mca-19 is not installed")
@pytest.mark.parametrize(
    ("core", "name"), [("A55", "cortex-a55"), ("N1", "neoverse-n1"), ("Zen4", "znver4"), ("U74", "sifive-u74")]
)
@pytest.mark.parametrize("what", ["chain", "adds", "chase", "loads", "stores", "mixed"])
def test_llvms_models_say_the_same_where_they_say_something(core, name, what):
    """Memory and branches they do not have."""
    if core == "Zen4" and what in ("stores", "mixed"):
        pytest.skip("AMD's guide has two stores a cycle, LLVM one in two")
    family = CORES[core].family
    load = {
        "arm64": lambda n: f"ldr x{n}, [x20]",
        "x86": lambda n: f"mov r{n}, [rsi]",
        "riscv": lambda n: f"ld x{n}, 0(x20)",
    }[family]
    loads = lines(*(load(n) for n in range(10, 14)))
    text = {
        "chain": CHAIN[family],
        "adds": lines(*ADDS[family]),
        "chase": CHASE[family],
        "loads": loads,
        "stores": lines(*[STORE[family]] * 4),
        "mixed": lines(*ADDS[family][:4], load(13), CHAIN[family], STORE[family]),
    }[what]
    accesses = {"chase": 1, "loads": 4, "stores": 4, "mixed": 2}.get(what, 0)
    ours, theirs = cycles(core, text, [0x2000] * accesses or None), mca(name, text, family)
    assert ours == pytest.approx(theirs, rel=0.35), (ours, theirs)


ADD = {family: texts[0] for family, texts in ADDS.items()}
PARTS = {"chain": CHAIN, "add": ADD, "load": CHASE, "store": STORE, "mul": MULTIPLY}
CORE_NAMES = st.sampled_from(sorted(CORES))


@settings(max_examples=40, deadline=None)
@given(CORE_NAMES, st.lists(st.sampled_from(sorted(PARTS)), min_size=1, max_size=12), st.data())
def test_a_barrier_never_makes_code_faster(name, words, data):
    core = CORES[name]
    at = data.draw(st.integers(0, len(words)))
    texts = [PARTS[word][core.family] for word in words]
    accesses = [0x2000 + 8 * number for number, word in enumerate(words) if word in ("load", "store")]
    plain = cycles(core, lines(*texts), accesses, 50)
    fenced = cycles(core, lines(*texts[:at], BARRIER[core.family], *texts[at:]), accesses, 50)
    assert fenced >= plain


@settings(max_examples=30, deadline=None)
@given(CORE_NAMES, st.integers(1, 200), st.integers(1, 200))
def test_more_of_the_same_never_costs_less(name, few, more):
    core = CORES[name]
    text = lines(CHASE[core.family], CHAIN[core.family], STORE[core.family])
    cost = [
        band_of(repeated(core.family, text, times, [[64 * at, 64 * at] for at in range(times)]), core).usual.cycles
        for times in (few, few + more)
    ]
    assert cost[0] <= cost[1]


@pytest.mark.parametrize("core", CORES.values(), ids=CORES)
def test_every_number_of_a_core_has_a_source_and_its_ends_are_in_order(core):
    for name, one in costs.facts_of(core):
        assert one.source, name
        assert one.fast <= one.usual <= one.slow or one.fast >= one.usual >= one.slow, name


def test_cores_are_found_by_their_names_and_their_makers():
    assert [core.name for core in cores_of("cortex-a55,Neoverse-N1,zen4")] == ["A55", "N1", "Zen4"]
    assert len(cores_of("all")) == len(CORES)
    with pytest.raises(InputError, match="unknown core 'A53'; known: A55, A76, N1, U74, Zen4, all"):
        cores_of("A53")


def test_a_trace_of_another_instruction_set_is_refused():
    with pytest.raises(InputError, match="Zen 4 does not execute arm64 code"):
        band_of(repeated("arm64", "nop", 1), CORES["Zen4"])


class TestFiles:
    def trace(self) -> Executed:
        return repeated("arm64", lines("ldr x0, [x1]", "add x0, x0, x2"), 3, [[0x1000], [0x2000], [-8]])

    def test_a_trace_is_read_as_it_was_written(self, tmp_path):
        one = self.trace()
        one.save(tmp_path / "x.trace")
        other = Executed.load(tmp_path / "x.trace")
        assert (one.family, one.code, one.names) == (other.family, other.code, other.names)
        for name in ("blocks", "first", "accesses"):
            assert np.array_equal(getattr(one, name), getattr(other, name))

    @pytest.mark.parametrize("data", [b"", b"nonsense", b"PK\x03\x04"])
    def test_what_is_no_trace_is_one_line(self, tmp_path, data):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(InputError, match="no trace"):
            Executed.load(tmp_path / "x")

    def test_one_that_is_cut_off_is_no_trace(self, tmp_path):
        self.trace().save(tmp_path / "x")
        whole = (tmp_path / "x").read_bytes()
        for size in range(0, len(whole), 97):
            (tmp_path / "x").write_bytes(whole[:size])
            with pytest.raises(InputError, match="no trace"):
                Executed.load(tmp_path / "x")

    def test_one_that_cannot_be_written_leaves_nothing(self, tmp_path):
        with pytest.raises(InputError, match="cannot write"):
            self.trace().save(tmp_path / "nowhere" / "x")


@needs_kernel
@pytest.mark.kernel
@pytest.mark.parametrize("arch", ARCH.values())
class TestOfTheKernel:
    def test_each_block_accesses_what_its_instructions_say(self, arch):
        executed = traced_vmap(build(targets.get(arch)), np.arange(0x100, 0x500, dtype=np.uint64)).executed
        decoded = decode(executed)
        sums = np.add.reduceat(np.append(decoded.accesses.astype(int), 0), decoded.bounds[:-1])
        sums[decoded.bounds[:-1] == decoded.bounds[1:]] = 0
        made = np.diff(executed.first)
        wrong = executed.blocks[made != sums[executed.blocks]]
        assert len(wrong) <= 2 and len(executed.blocks) > 5000  # what is told of a store that may fail is not in there

    def test_no_instruction_is_left_out(self, arch):
        executed = traced_vmap(build(targets.get(arch)), np.arange(0x100, 0x140, dtype=np.uint64)).executed
        family = targets.get(arch).family
        machine = capstone.Cs(*family.disassembler)
        for one in executed.code:
            assert sum(size for _, size, _, _ in machine.disasm_lite(one.data, one.address)) == len(one.data)

    def test_more_pages_never_cost_less(self, arch):
        built = build(targets.get(arch))
        core = CORES[DEFAULTS[targets.get(arch).family.name][0]]
        found = []
        for pages in (1, 2, 16, 64, 512, 513, 4096):
            executed = traced_vmap(built, np.arange(0x1000, 0x1000 + pages, dtype=np.uint64)).executed
            band = band_of(executed, core)
            found.append([band.at(corner).cycles for corner in Corner])
            assert sum(band.usual.causes) == pytest.approx(band.usual.cycles, rel=0.02, abs=20)
            assert sum(band.usual.functions.values()) == pytest.approx(band.usual.cycles, rel=0.02, abs=20)
        assert (np.diff(np.array(found), axis=0) >= 0).all()
        assert all(fast <= usual <= slow for fast, usual, slow in found)

    def test_the_second_call_at_the_same_addresses_allocates_no_table(self, arch):
        built, pfns = build(targets.get(arch)), np.arange(0x1000, 0x1400, dtype=np.uint64)
        core = CORES[DEFAULTS[targets.get(arch).family.name][0]]
        first, again = (band_of(traced_vmap(built, pfns, again=it).executed, core).usual for it in (False, True))
        at = CAUSES.index("allocation")
        assert again.causes[at] < first.causes[at] and again.cycles < first.cycles

    def test_a_scenario_times_its_last_call(self, arch):
        built = build(targets.get(arch))
        one = traced_scenario(built, parse("vmap 0x1000+64; vunmap @0"))
        assert "vunmap" in one.names and "vmap" not in one.names
        with pytest.raises(InputError, match="runs no code"):
            traced_scenario(built, parse("vmap 0x1000+64; tables 3"))


@needs_kernel
@pytest.mark.kernel
class TestCommand:
    def test_a_board_is_its_options(self):
        assert "SHADOW_CALL_STACK=y" in options_of(["gki", "NUMA=y"], "arm64")
        with pytest.raises(InputError, match="'gki' is neither KEY=value nor a board of x86"):
            options_of(["gki"], "x86")
        done = vmaplab("cost", "heap:256K", "--config", "gki", "--json")
        rows = json.loads(done.stdout)
        assert [row["core"] for row in rows] == ["A55", "A76"] and "PREEMPT=y" in rows[0]["config"]
        assert rows[0]["us_fast"] < rows[0]["us"] < rows[0]["us_slow"]

    def test_before_and_after_are_told_as_a_ratio(self):
        example = str(Path(__file__).parent.parent / "examples" / "batched_vmap.c")
        done = vmaplab("cost", "heap:4M", "--snippet", example, "--call", "batched_vmap", "--core", "a55")
        assert done.returncode == 0 and "A55: " in done.stdout and "x as fast (" in done.stdout

    def test_a_snippet_is_held_against_the_vmap_of_its_own_tree(self):
        example = str(Path(__file__).parent.parent / "examples" / "batched_vmap.c")
        words = ["--tree", str(tree_of("linux-source-6.1")), "--snippet", example, "--call", "batched_vmap", "--json"]
        words += [f"--config={option}" for option in targets.smp()]
        rows = json.loads(vmaplab("cost", "heap:256K", *words).stdout)
        assert len(rows) == 4 and all(row["kernel"].startswith("Linux 6.1.") for row in rows)

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            ([], "give a page array, or --scenario"),
            (["heap:1M", "--scenario", "vmap 0x1"], "give a page array, or --scenario"),
            (["heap:1M", "--core", "A53"], "unknown core 'A53'"),
            (["heap:1M", "--core", "Zen4"], "AMD Zen 4 does not execute arm64 code"),
            (["heap:1M", "--arch", "s390x"], "s390x"),
            (["heap:1M", "--arch", "all"], "one architecture at a time"),
            (["heap:1M", "--config", "nexus"], "neither KEY=value nor a board"),
            (["--scenario", "vmap 0x1", "--again"], "leave out"),
            (["heap:1M", "--core", ","], "no core is named"),
            (["heap:1M", "--assumed"], "--assumed prints the numbers"),
            (["heap:4K", "--trace", "/dev/null"], "it is no plain file"),
            (["heap:1M", "--booted"], "say --again, too"),
            (["heap:1M", "--trace", "/nowhere/x"], "cannot write /nowhere/x"),
        ],
    )
    def test_bad_usage_is_one_line_and_status_2(self, words, told):
        done = vmaplab("cost", *words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1) and told in done.stderr

    def test_a_refusal_is_told(self):
        with pytest.raises(VmapError):
            traced_vmap(build(targets.get("arm64-4k")), np.zeros(0, dtype=np.uint64))


@needs_kernel
@pytest.mark.kernel
@pytest.mark.slow
def test_a_booted_kernel_executes_what_the_trace_has():
    kernel = bootable()
    pfns = np.arange(0x1000, 0x1000 + 2 * 8192, 2, dtype=np.uint64)
    ours = instructions_of(traced_vmap(build(targets.get("arm64-4k")), pfns, again=True).executed)
    theirs = counted_vmap(kernel, pfns)
    hot = max(ours, key=lambda name: ours[name])
    assert abs(theirs.functions[hot] - ours[hot]) < 100 and ours[hot] > 50 * len(pfns)
    assert sum(ours.values()) == pytest.approx(theirs.instructions, rel=0.03)
    with pytest.raises(InputError, match="the machine that boots has 262144"):
        counted_vmap(kernel, np.array([0, 1 << 19], dtype=np.uint64))


def ops(family: str, text: str) -> list[Op]:
    executed = repeated(family, text, 1)
    isa = importlib.import_module(f"vmaplab.cost.isa.{family}")
    machine = capstone.Cs(*isa.DISASSEMBLER)
    machine.detail = True
    return [op for one in machine.disasm(executed.code[0].data, BASE) for op in isa.ops_of(one)]


A, L, S, C = Kind.ALU, Kind.LOAD, Kind.STORE, Kind.COND


@pytest.mark.parametrize(
    ("family", "text", "wanted"),
    [
        ("arm64", "cmp x1, x2", [(A, {1, 2}, {32}, 0)]),
        ("arm64", "csel x0, x1, x2, eq", [(A, {1, 2, 32}, {0}, 0)]),
        ("arm64", "ccmp x1, x2, #0, eq", [(A, {1, 2, 32}, {32}, 0)]),
        ("arm64", "movk x3, #1, lsl #16", [(A, {3}, {3}, 0)]),
        ("arm64", "add x0, x1, x2, lsl #3", [(Kind.SHIFT, {1, 2}, {0}, 0)]),
        ("arm64", "add x0, x1, #1, lsl #12", [(A, {1}, {0}, 0)]),
        ("arm64", "bfi x0, x1, #3, #4", [(Kind.SHIFT, {0, 1}, {0}, 0)]),
        ("arm64", "ldp x0, x1, [sp], #16", [(L, {31}, {0, 1}, 2), (A, {31}, {31}, 0)]),
        ("arm64", "stp x0, x1, [sp, #-16]!", [(S, {31, 0, 1}, set(), 2), (A, {31}, {31}, 0)]),
        ("arm64", "ldr x0, [x1, x2, lsl #3]", [(L, {1, 2}, {0}, 1)]),
        ("arm64", "cbz x4, .", [(C, {4}, set(), 0)]),
        ("arm64", "b.eq .", [(C, {32}, set(), 0)]),
        ("arm64", "stxr w3, x4, [x5]", [(Kind.ATOMIC, {4, 5}, {3}, 2)]),
        ("arm64", "dsb ishst", [(Kind.SYNC_STORES, set(), set(), 0)]),
        ("arm64", "dmb ish", [(Kind.ORDER, set(), set(), 0)]),
        ("arm64", "mrs x0, sp_el0", [(Kind.STATUS, set(), {0}, 0)]),
        ("arm64", "dc zva, x3", [(S, {3}, set(), 1)]),
        ("x86", "xor eax, eax", [(A, set(), {0, 16}, 0)]),
        ("x86", "cmove rax, rbx", [(A, {0, 1, 16}, {0}, 0)]),
        ("x86", "test [rdi], rsi", [(L, {5}, {62}, 1), (A, {62, 4}, {16}, 0)]),
        ("x86", "add [rdi], rsi", [(L, {5}, {62}, 1), (A, {62, 4}, {61, 16}, 0), (S, {5, 61}, set(), 1)]),
        ("x86", "mov [rdi + rcx*8], rsi", [(S, {5, 2, 4}, set(), 1)]),
        ("x86", "movsx rax, byte ptr [rdi]", [(L, {5}, {0}, 1)]),
        ("x86", "push rbx", [(S, {7, 1}, set(), 1)]),
        ("x86", "pop rbx", [(L, {7}, {1}, 1)]),
        ("x86", "cmpxchg [rdi], rsi", [(L, {5, 0, 4}, {0, 16}, 1), (S, {5, 16}, set(), 1)]),
        ("x86", "lock add [rdi], rsi", [(Kind.ATOMIC, {5, 4}, {16}, 2)]),
        ("x86", "mov cr3, rax", [(Kind.SYSTEM, {0}, set(), 0)]),
        ("riscv", "ld a0, 8(a1)", [(L, {11}, {10}, 1)]),
        ("riscv", "sd a0, 8(a1)", [(S, {10, 11}, set(), 1)]),
        ("riscv", "beq a0, a1, .", [(C, {10, 11}, set(), 0)]),
        ("riscv", "amoadd.d zero, a3, (a4)", [(Kind.ATOMIC, {13, 14}, set(), 2)]),
        ("riscv", "sfence.vma a0, a1", [(Kind.SYSTEM, {10, 11}, set(), 0)]),
        ("riscv", "csrw satp, a0", [(Kind.SYSTEM, {10}, set(), 0)]),
        ("riscv", "fence w, w", [(Kind.ORDER_STORES, set(), set(), 0)]),
        ("riscv", "fence rw, rw", [(Kind.SYNC, set(), set(), 0)]),
    ],
)
def test_an_instruction_is_what_it_reads_writes_and_accesses(family, text, wanted):
    text = "\n".join([".arch armv8.2-a"] * (family == "arm64") + [text])
    assert [(op.kind, set(op.reads), set(op.writes), op.accesses) for op in ops(family, text)] == wanted


class TestMemory:
    """What a core's caches and memory do beside latency."""

    def run(self, text: str, addresses: list[list[int]], core: str = "A55", **situation: bool) -> float:
        executed = repeated(CORES[core].family, text, len(addresses), addresses)
        return band_of(executed, CORES[core], Situation(**situation)).usual.cycles / len(addresses)

    def test_what_fits_is_all_there_when_it_is_warm(self):
        for name, core in CORES.items():
            count = core.levels[-1].size // 2 >> 6
            order = np.random.default_rng(3).permutation(count)[:20_000]
            addresses = [[0x100000 + 64 * int(at)] for at in order]
            found = self.run(CHASE[core.family], addresses, name, prefetch=False)
            assert found == pytest.approx(core.levels[-1].latency.usual, rel=0.05), name

    def test_a_second_load_of_a_line_that_is_on_its_way_waits_for_it(self):
        text = lines("ldr x0, [x1]", "ldr x2, [x1, #8]", "add x3, x2, #1")
        addresses = [[0x100000 + 4096 * at, 0x100008 + 4096 * at] for at in range(500)]
        core = CORES["A55"]
        assert self.run(text, addresses, cold=True) >= core.memory.usual * core.mhz.usual / 1000

    def test_a_stream_is_no_faster_than_memory_sends_it(self):
        for name, core in CORES.items():
            addresses = [[0x100000 + 64 * at] for at in range(TIMES)]
            text = {"arm64": "ldr x0, [x1]", "x86": "mov rax, [rsi]", "riscv": "ld a0, 0(a1)"}[core.family]
            found = self.run(text, addresses, name, cold=True)
            assert found >= 0.95 * 64 / core.bandwidth.usual * core.mhz.usual / 1000, name

    def test_a_load_waits_for_the_store_of_the_same_word(self):
        for name in ("A76", "N1"):
            text = lines("ldr x0, [x1]", "add x0, x0, #1", "str x0, [x1]")
            found = self.run(text, [[0x2000, 0x2000]] * 1000, name)
            assert found >= CORES[name].forward.usual + 1

    def test_a_barrier_between_loads_holds_the_second(self):
        for name in ("A55", "A76"):
            fenced = self.run(lines("ldr x0, [x1]", "dmb ish", "ldr x2, [x1]"), [[0x2000, 0x2000]] * 1000, name)
            plain = self.run(lines("ldr x0, [x1]", "ldr x2, [x1]"), [[0x2000, 0x2000]] * 1000, name)
            assert fenced > plain + CORES[name].order.usual / 2

    def test_a_barrier_for_stores_does_not_wait_for_loads(self):
        far = [[0x100000 + 4096 * at] for at in range(500)]
        loads = self.run("ldr x0, [x1]", far, cold=True, prefetch=False)
        stores = self.run(lines("ldr x0, [x1]", "dsb ishst"), far, cold=True, prefetch=False)
        both = self.run(lines("ldr x0, [x1]", "dsb ish"), far, cold=True, prefetch=False)
        assert stores < loads + CORES["A55"].sync.usual + 2 < both


@needs_kernel
@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "board"),
    [("arm64-4k", "gki")]  # which is the board, and more
    + [pytest.param(arch, "board", marks=nightly) for arch in ("arm64-4k", "x86_64", "riscv64-sv48")],
)
def test_the_configuration_of_a_board_builds_and_runs(arch, board):
    target = targets.get(arch)
    built = build(target, None, options_of([board], target.family.name))
    assert len(traced_vmap(built, np.arange(0x100, 0x200, dtype=np.uint64)).executed.blocks) > 1000
