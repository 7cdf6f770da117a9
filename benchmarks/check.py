# SPDX-License-Identifier: GPL-2.0-only
"""How fast scenarios are compared, how long a build takes, and how much memory a long campaign needs.

    python benchmarks/check.py [FILE]

Prints Markdown; with FILE, puts it there between the lines "<!-- bench check -->" and "<!-- /bench check -->".
References in the same run: a call of an empty function in the emulator, and a walk of the model alone.
"""

from __future__ import annotations

import cProfile
import os
import platform
import pstats
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

import document
from document import table
from vmaplab import Kernel, release
from vmaplab.check.campaign import check
from vmaplab.check.differential import compare
from vmaplab.check.plan import Plan
from vmaplab.object import build, targets
from vmaplab.object.kernel import ObjectKernel

ARCHES = ("arm64-4k", "x86_64", "riscv64-sv48")
CASES = (2000, 8000)
PFNS = np.arange(1 << 20, (1 << 20) + 256, dtype=np.uint64)


def timed(call: Callable[[], object], rounds: int = 15, repeat: int = 100) -> float:
    """Median microseconds of a call."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeat):
            call()
        times.append((time.perf_counter() - start) / repeat)
    return statistics.median(times) * 1e6


def plan(arch: str) -> Plan:
    return Plan(build.build(targets.get(arch)), None, release.get("linux-6.12"), {}, 1)


def campaigns() -> str:
    for arch in ARCHES:
        check(plan(arch), 400, jobs=2)  # compiles, where the sources changed
    rows = []
    for arch in ARCHES:
        rates = []
        for cases in CASES:
            start = time.perf_counter()
            verdict = check(plan(arch), cases, jobs=2)
            assert verdict.difference == "" and verdict.cases == cases
            rates.append(f"{cases / (time.perf_counter() - start):.0f}/s")
        rows.append([arch, *rates, f"{verdict.calls / verdict.cases:.1f}"])
    return table(["architecture, 2 processes", *(f"{cases} scenarios" for cases in CASES), "calls a scenario"], rows)


def one_call() -> str:
    rows = []
    for arch in ARCHES:
        kernel = ObjectKernel(build.build(targets.get(arch)))

        def ours(kernel: ObjectKernel = kernel) -> None:
            kernel.reset()
            kernel.vunmap(kernel.vmap(PFNS).addr)

        def theirs(arch: str = arch) -> None:
            model = Kernel(arch, "linux-6.12", record=True)
            model.vunmap(model.vmap(PFNS).addr)

        empty = timed(lambda kernel=kernel: kernel.vunmap(0))
        both = timed(ours)
        rows.append([arch, f"{empty:.0f}", f"{both:.0f}", f"{timed(theirs):.0f}", f"{both / empty:.0f}x"])
    header = ["architecture, one core", "empty call, us", "object, us", "model, us", "object / empty call"]
    return table(header, rows)


def builds() -> str:
    tree = build.tree_of()
    kept = os.environ.get("XDG_CACHE_HOME")
    rows = []
    for arch in ARCHES:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["XDG_CACHE_HOME"] = folder
            took = []
            for _ in range(2):
                start = time.perf_counter()
                build.build(targets.get(arch), tree)
                took.append(time.perf_counter() - start)
        rows.append([arch, f"{took[0]:.0f}", f"{took[1]:.2f}"])
    os.environ.pop("XDG_CACHE_HOME")
    if kept is not None:
        os.environ["XDG_CACHE_HOME"] = kept
    return table(["build of one architecture, 2 cores", "cold, s", "cached, s"], rows)


GROUPS = {
    "the emulator: code and its hooks": ("unicorn/", "object/hooks"),
    "what the rest of the kernel answers": ("object/answers", "object/memory", "object/standin", "pages/"),
    "calling the kernel's code": ("object/",),
    "judges": ("judge/",),
    "the model": ("kernel.py", "vmalloc/", "pgtable/", "machine.py", "mapping.py", "trace.py"),
    "drawing, lowering and comparing": ("calls/", "check/"),
}


def group_of(file: str) -> str:
    found = file.rpartition("vmaplab/")[2] if "/vmaplab/" in file else file
    return next((group for group, parts in GROUPS.items() if any(part in found for part in parts)), "all else")


def where(cases: int = 1000) -> str:
    """Own time by what it goes to; of C functions, by who calls them."""
    columns = {}
    for arch in ARCHES:
        check(plan(arch), 50, jobs=1)
        profile = cProfile.Profile()
        profile.runcall(check, plan(arch), cases, jobs=1)
        spent: Counter[str] = Counter()
        for (file, _, _), (_, _, own, _, callers) in pstats.Stats(profile).stats.items():
            if file == "~":
                for (caller, _, _), (_, _, part, _) in callers.items():
                    spent[group_of(caller)] += part
            else:
                spent[group_of(file)] += own
        columns[arch] = spent
    rows = []
    for name in [*GROUPS, "all else"]:
        parts = [(column[name], column.total()) for column in columns.values()]
        rows.append([name, *(f"{own / cases * 1e6:.0f} ({own / whole:.0%})" for own, whole in parts)])
    rows.append(["in all", *(f"{column.total() / cases * 1e6:.0f}" for column in columns.values())])
    return table(["us a scenario, under a profiler", *ARCHES], rows)


def memory() -> str:
    whole = plan("arm64-4k")
    ours, theirs = whole.sides()
    generator = whole.generator()
    seen = {}
    for number in range(10_000):
        if number in (1000, 5000, 9999):
            seen[number] = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20
        assert compare(generator.scenario(number), ours, theirs) == ""
    return "Resident memory of a process that compares 10,000 scenarios on arm64-4k: " + ", ".join(
        f"{size} MiB after {number}" for number, size in seen.items()
    )


def main() -> None:
    machine = f"{platform.machine()}, Python {platform.python_version()}, {len(os.sched_getaffinity(0))} cores"
    held = memory() + "."  # before anything else takes some
    report = "\n\n".join([f"Measured on: {machine}.", campaigns(), where(), one_call(), builds(), held])
    document.publish(report, "bench check")


if __name__ == "__main__":
    main()
