# SPDX-License-Identifier: GPL-2.0-only
"""Measure sweeps: what an array costs as they become more, and how soon a browser shows a page of them.

python benchmarks/sweep.py [docs/sweep.md [docs/sweep-growth.svg]]

ARRAYS in the environment, or build/arrays, is a directory of at least 10,000 page files of 8 MiB, as
benchmarks/arrays.py captures them. Reference in the same run: loading the files, and one process that maps some.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

import matplotlib
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from document import publish, table
from vmaplab.release import RELEASES
from vmaplab.report import plots
from vmaplab.report.pictures import alone
from vmaplab.sweep.plan import Plan, options_of
from vmaplab.sweep.rows import table_of
from vmaplab.sweep.summary import COLUMNS, summary_of

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "vmaplab"  # the same picture for the same numbers
from matplotlib import pyplot  # noqa: E402

ARRAYS = Path(os.environ.get("ARRAYS", "build/arrays"))
COUNTS = (100, 1_000, 10_000, 100_000)
ARCHES = ("arm64-4k", "x86_64", "riscv64-sv48")
RELEASES_OF_THE_MISSION = ("linux-6.12", "linux-7.1", "series-v3", "suggested", "series-v4", "mm-unstable")
DRAWN = ("arm64-4k", "x86_64")
RESULT = Path("captured.parquet")
FEW = ("linux-6.12", "mm-unstable")


def swept(folder: Path, arches: tuple[str, ...], releases: tuple[str, ...], *more: str) -> tuple[float, float, str]:
    """Seconds of a sweep over a directory, the most memory of all its processes in MB, and what it printed."""
    with tempfile.TemporaryFile("w+") as out:
        words = ["sweep", str(folder), "-a", ",".join(arches), "-r", ",".join(releases), "-o", str(RESULT), "--force"]
        start, most = time.perf_counter(), 0
        running = subprocess.Popen([sys.executable, "-m", "vmaplab.cli", *words, *more], stdout=out)
        while running.poll() is None:
            most = max(most, _memory(running.pid))
            time.sleep(0.05)
        if running.returncode:
            raise SystemExit("the sweep failed")
        took = time.perf_counter() - start
        out.seek(0)
        return took, most / 1e6, out.read()


def _memory(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        for one in (parent, *parent.children(recursive=True)):
            total += one.memory_full_info().pss
    except psutil.Error:
        pass
    return total


def directories(files: list[Path], room: Path) -> dict[int, Path]:
    """Directories with so many links to the files."""
    found = {}
    for count in COUNTS:
        found[count] = room / str(count)
        found[count].mkdir()
        for number in range(count):
            (found[count] / f"{number:06}.npy").hardlink_to(files[number % len(files)])
    return found


def page(html: Path) -> float:
    """Seconds until Chromium has loaded a page and its script has filled the table."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page()
        start = time.perf_counter()
        tab.goto(html.resolve().as_uri())
        tab.wait_for_function("document.querySelectorAll('#arrays tbody tr').length === 50")
        took = time.perf_counter() - start
        browser.close()
    return took


def draw(table: pa.Table) -> None:
    """The plots of docs/sweep.md."""
    for gain_of in groupby(summary_of(table).gains, key=lambda one: one.arch):
        arch, gains = gain_of[0], list(gain_of[1])
        if len(sys.argv) > 2 and arch in DRAWN:
            Path(sys.argv[2]).with_name(f"sweep-{arch}.svg").write_text(alone(plots.gains(gains)))


def by_kind(found: pa.Table) -> str:
    """What the arrays of each kind gain on the last release."""
    rows = []
    kinds = pc.extract_regex(found["source"], r"/(?P<kind>[a-z]+)-\d+\.npy$")
    found = found.append_column("kind", pc.struct_field(kinds, "kind"))
    for kind in ("huge", "file", "small"):
        mine = found.filter(pc.equal(found["kind"], kind))
        for arch in DRAWN:
            gain = next(one for one in reversed(summary_of(mine).gains) if one.arch == arch)
            small = [f"{gain.small[reason]:.1%}" for reason in ("order", "alignment", "stop")]
            runs = int(np.median(mine["runs"].to_numpy()))
            rows.append([kind, arch, str(len(gain.gains)), str(runs), f"{gain.total:.1f}x", *small])
    return table(["arrays", "arch", "number", "runs, median", "in all", "order", "alignment", "stop"], rows)


def main() -> None:
    files = sorted(ARRAYS.glob("*.npy"))[:10_000]
    with tempfile.TemporaryDirectory(dir=ARRAYS.parent) as name:
        room = Path(name)
        places = directories(files, room)
        start = time.perf_counter()
        for path in files[:1000]:
            np.load(path)
        load = (time.perf_counter() - start) / 1000
        plan = Plan(("arm64-4k",), FEW, options_of(("arm64-4k",), "", {}, ()))
        table_of(map(str, files[:10]), plan)
        start = time.perf_counter()
        table_of(map(str, files[:500]), plan)
        alone = (time.perf_counter() - start) / 500
        told = {count: swept(places[count], ("arm64-4k",), FEW) for count in COUNTS}
        html = room / "page.html"
        swept(places[10_000], ("arm64-4k",), FEW, "--html", str(html))
        opened = page(html)
        size = html.stat().st_size
    whole = swept(ARRAYS, ARCHES, RELEASES_OF_THE_MISSION, "--least", "3")
    captured = pq.read_table(RESULT, columns=list(COLUMNS))
    draw(captured)
    kinds = by_kind(captured)
    RESULT.unlink()
    rows = [
        [f"{count:,}", f"{took:.1f}", f"{1e6 * took / count:.0f}", f"{most:.0f}"]
        for count, (took, most, _) in told.items()
    ]
    text = table(["arrays of 8 MiB", "seconds", "us an array", "MB, all processes"], rows)
    text += (
        f"\n\nOne process, no command: {1e6 * alone:.0f} us an array; loading its file alone: {1e6 * load:.0f} us.\n"
        f"10,000 arrays x {len(ARCHES)} architectures x {len(RELEASES_OF_THE_MISSION)} releases: {whole[0]:.0f} s, "
        f"{whole[1]:.0f} MB. A page of 10,000 arrays ({size / 1e6:.1f} MB) is open after {opened:.2f} s."
    )
    publish(text, "sweep")
    publish(kinds, "kinds")
    publish(f"```text\n{whole[2].rstrip()}\n```", "captured")
    figure, axis = pyplot.subplots(figsize=(6, 3), layout="constrained")
    axis.plot(COUNTS, [1e6 * told[count][0] / count for count in COUNTS], marker="o", label="us an array")
    axis.plot(COUNTS, [told[count][1] for count in COUNTS], marker="s", label="MB, all processes")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(100, 100_000)
    axis.set_xlabel("page arrays of 8 MiB, arm64-4k, 2 releases")
    axis.grid(alpha=0.3)
    axis.legend()
    if len(sys.argv) > 2:
        figure.savefig(sys.argv[2], metadata={"Date": None})


if __name__ == "__main__":
    assert set(RELEASES_OF_THE_MISSION) <= set(RELEASES)
    main()
