# SPDX-License-Identifier: GPL-2.0-only
"""The manual: built without the network, nothing in it loaded from there, every page reached; the notebooks run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda *_: None)


@pytest.fixture(scope="module")
def manual(tmp_path_factory) -> Path:
    site = tmp_path_factory.mktemp("manual")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site


def pages_of(nav) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    return {page for one in (nav.values() if isinstance(nav, dict) else nav) for page in pages_of(one)}


def test_every_page_is_in_the_navigation():
    nav = yaml.load((ROOT / "mkdocs.yml").read_text(), _Loader)["nav"]
    assert pages_of(nav) == {path.name for path in (ROOT / "docs").glob("*.md")}


@pytest.mark.slow
def test_no_page_of_the_manual_takes_anything_from_the_network(manual):
    for page in manual.rglob("*.html"):
        for tag in re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text()):
            assert "://" not in tag or 'rel="canonical"' in tag, (page.name, tag)


@pytest.mark.slow
def test_the_manual_is_read_and_searched_as_a_file(manual, browser):
    page = browser.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: wrong.append(asked.url) if asked.url.startswith("http") else None)
    page.goto((manual / "index.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("break-before-make")
    page.wait_for_selector(".md-search-result__item", timeout=10_000)
    assert "Glossary" in page.inner_text(".md-search-result__list")
    assert wrong == []


@pytest.mark.slow
def test_the_reference_has_the_docstrings(manual):
    text = re.sub(r"<[^>]+>", "", (manual / "api.html").read_text())
    for word in ("Kernel", "vmap", "vm_map_ram", "vmalloc_to_pfn", "Witness", "tlb_entries", "VmapError"):
        assert word in text, word


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_keeps_no_output(path):
    notebook = nbformat.read(path.open(), as_version=4)
    assert not [cell for cell in notebook.cells if cell.get("outputs")]
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()


def test_there_are_two_notebooks():
    assert len(NOTEBOOKS) == 2
