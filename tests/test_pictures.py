# SPDX-License-Identifier: GPL-2.0-only
"""Pictures of page tables, and the pages of compare and sweep in a browser."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot

from command import VMAPLAB
from vmaplab import Kernel, pages
from vmaplab.compare import compare
from vmaplab.mapping import LEAF_DTYPE
from vmaplab.report import compare_html, sweep_html
from vmaplab.report.pictures import MOST_MARKS, alone, page_tables, strip
from vmaplab.sweep.plan import Plan, options_of
from vmaplab.sweep.rows import as_table, rows_of, table_of
from vmaplab.sweep.summary import COLUMNS, summary_of

DOCS = Path(__file__).parent.parent / "docs"
SVG = "{http://www.w3.org/2000/svg}"
PLAN = Plan(("arm64-4k", "x86_64"), ("linux-6.12", "mm-unstable"), options_of(("arm64-4k", "x86_64"), "", {}, ("all",)))


def drawn(source: str, arch: str = "arm64-4k", release: str = "mm-unstable") -> tuple[ET.Element, Any]:
    pfns = pages.load(source, arch)
    kernel = Kernel(arch, release)
    mapping = kernel.vmap(pfns)
    picture = page_tables(kernel.arch, mapping.leaves, mapping.addr, pfns, f"{source} <&>")
    return ET.fromstring(alone(picture)), mapping


def titles(root: ET.Element) -> list[str]:
    return [one.findtext(f"{SVG}title") or "" for one in root.iter(f"{SVG}rect")]


@pytest.mark.parametrize("arch", ["arm64-4k", "arm64-64k", "x86_64", "riscv64-sv48", "powerpc-8xx"])
@pytest.mark.parametrize("source", ["heap:1M", "heap:9M,fragmentation=0.6,seed=1", "pfns:0x0+512"])
def test_tables_are_as_many_as_the_kernel_allocated(arch: str, source: str) -> None:
    root, mapping = drawn(source, arch)
    counted = [
        int(text.split()[0]) for one in root.iter(f"{SVG}text") if re.fullmatch(r"\d+ tables?", text := one.text or "")
    ]
    assert sum(counted) - 1 == mapping.cost.tables_allocated  # the kernel has the uppermost one


def test_each_leaf_is_drawn_where_it_is() -> None:
    root, mapping = drawn("pfns:0x0+16,0x100+16,0x200+256,0x7")
    told = [title for title in titles(root) if re.match(r"\d+[KM] at ", title)]
    assert told == [f"{['4K', '64K'][int(size) > 4096]} at {int(va):#x}" for va, size, _ in mapping.leaves]
    marks = {one.findtext(f"{SVG}title"): one for one in root.iter(f"{SVG}rect")}
    first, last = marks[told[0]], marks[told[-1]]
    assert float(first.get("width", 0)) == pytest.approx(16 * float(last.get("width", 0)), abs=0.2)


@pytest.mark.parametrize("source", ["heap:600M,fragmentation=0.9,seed=1", "heap:1G,fragmentation=1,seed=1"])
def test_a_picture_of_many_leaves_stays_small(source: str) -> None:
    root, mapping = drawn(source)
    assert len(mapping.leaves) > 100_000
    assert sum(1 for _ in root.iter()) < 9000


@pytest.mark.filterwarnings("error")
def test_many_runs_of_fewer_pages_than_pixels_have_a_height() -> None:
    root, mapping = drawn("pfns:" + ",".join(f"{2 * page:#x}" for page in range(1, 513)))
    assert len(mapping.leaves) == 512
    heights = [float(one.get("height", 0)) for one in root.iter(f"{SVG}rect") if one.get("class") == "r"]
    assert heights == [17.0]  # single pages are half as high as the highest can be


def test_columns_have_the_bytes_that_the_leaves_have() -> None:
    """Groups and pages by turns, as no vmap() of today builds them: too many stretches to tell apart."""
    arch, addr, turns = Kernel("arm64-4k").arch, 0xFFFF800080000000, 1000
    sizes = np.tile(np.r_[[1 << 16], np.full(48, 1 << 12)], turns).astype(np.uint64)
    leaves = np.zeros(len(sizes), dtype=LEAF_DTYPE)
    leaves["size"], leaves["va"] = sizes, np.uint64(addr) + np.cumsum(sizes) - sizes
    pfns = np.arange(64 * turns, dtype=np.uint64)
    root = ET.fromstring(alone(page_tables(arch, leaves, addr, pfns, "by turns")))
    area = {"t1": 0.0, "t2": 0.0}
    for one in root.iter(f"{SVG}rect"):
        if "of these bytes" in (one.findtext(f"{SVG}title") or ""):
            area[one.get("class", "")] += float(one.get("width", 0)) * float(one.get("height", 0)) / 20 / 800
    assert area["t2"] == pytest.approx(0.25, abs=0.02)
    assert area["t1"] == pytest.approx(0.75, abs=0.02)


def test_a_strip_draws_leaves_one_by_one_while_they_are_few() -> None:
    assert strip([(4096, MOST_MARKS)], "a").count("<rect") == MOST_MARKS
    assert strip([(4096, MOST_MARKS + 1)], "a").count("<rect") == 1
    assert strip([], "a") == ""


def test_names_of_files_are_no_markup() -> None:
    name = "pfns:0x1</script><script>alert(1)</script>"
    rows = [row | {"source": name} for row in rows_of("pfns:0x1", PLAN)]
    table = as_table(rows).select(COLUMNS)
    page = sweep_html.as_html(summary_of(table), table, "<b>r</b>.parquet", PLAN)
    assert "<script>alert" not in page
    assert "<b>r</b>" not in page


def shown(browser: Any, path: Path, **look: Any) -> tuple[Any, list[str]]:
    """A page, and what it complained of or asked for."""
    page, told = browser.new_page(**look), []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: told.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    return page, told


def colours(page: Any, path: Path) -> int:
    page.screenshot(path=path)
    pixels = pyplot.imread(path)
    return len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0))


@pytest.mark.slow
def test_the_page_of_a_sweep_is_quiet_and_works_by_keyboard(browser: Any, tmp_path: Path) -> None:
    sources = [f"heap:256K,fragmentation=0.{tenth},seed={seed}" for tenth in range(10) for seed in range(12)]
    table = table_of([*sources, "none.npy"], PLAN).select(COLUMNS)
    path = tmp_path / "sweep.html"
    path.write_text(sweep_html.as_html(summary_of(table), table, "r.parquet", PLAN))
    page, told = shown(browser, path)
    assert page.locator("h1").inner_text().startswith("121 page arrays of 30 MiB")
    assert page.locator("#where").inner_text() == "1 to 50 of 240"
    assert page.locator("svg.plot").count() == 4
    page.locator("#find").focus()
    page.keyboard.type("0.3,seed=11")
    assert page.locator("#where").inner_text() == "1 to 2 of 2"
    page.locator("#find").fill("")
    for _ in range(2):
        page.locator("#arrays th button", has_text="gain").press("Enter")
    gains = [float(text.rstrip("x")) for text in page.locator("#arrays tbody td:nth-child(7)").all_inner_texts()]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 1
    page.locator("#after").press("Enter")
    assert page.locator("#where").inner_text() == "51 to 100 of 240"
    assert colours(page, tmp_path / "day.png") > 16
    assert told == []


@pytest.mark.slow
def test_the_page_of_a_comparison_is_quiet_by_day_by_night_and_on_paper(browser: Any, tmp_path: Path) -> None:
    source = "heap:4M,fragmentation=0.4,seed=2"
    found = {source: compare(source, ["arm64-4k", "x86_64"], ["linux-6.12", "mm-unstable"], keep=True)}
    path = tmp_path / "compare.html"
    path.write_text(compare_html.as_html(source, found, "", {}))
    back = []
    for scheme in ("light", "dark"):
        page, told = shown(browser, path, color_scheme=scheme)
        assert told == []
        assert colours(page, tmp_path / f"{scheme}.png") > 16
        back.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.locator("svg.tables").count() == 3  # x86_64 builds the same twice
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert back == ["rgb(255, 255, 255)", "rgb(15, 20, 25)"]
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.slow
def test_a_picture_alone_is_an_image(browser: Any, tmp_path: Path) -> None:
    pfns = pages.load("heap:2M", "arm64-4k")
    kernel = Kernel("arm64-4k")
    mapping = kernel.vmap(pfns)
    (tmp_path / "a.svg").write_text(alone(page_tables(kernel.arch, mapping.leaves, mapping.addr, pfns, "a")))
    page, told = shown(browser, tmp_path / "a.svg")
    assert told == []
    assert colours(page, tmp_path / "a.png") > 8


def test_the_picture_of_the_documentation_is_what_the_command_draws(tmp_path: Path) -> None:
    words = ["map", "heap:8M,fragmentation=0.5,seed=1", "--svg", str(tmp_path / "tables.svg")]
    subprocess.run([*VMAPLAB, *words], check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "tables.svg").read_text() == (DOCS / "tables.svg").read_text()
