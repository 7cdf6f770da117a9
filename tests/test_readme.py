# SPDX-License-Identifier: GPL-2.0-only
"""Every example in the documentation prints what is printed there."""

from __future__ import annotations

import doctest
import importlib.util
import re
import shutil
from pathlib import Path

import pytest

import command
import vmaplab.kernel

ROOT = Path(__file__).parent.parent


def render(text: str) -> str:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "tools" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.render(text, command.FOLDER)


def of_any_kernel(text: str) -> str:
    """``text`` without what changes with each update of Debian's kernel package and compiler."""
    text = re.sub(r"Linux 6\.12\.\d+", "Linux 6.12.N", text)
    if re.search(r"\$ vmaplab cost (?!--assumed)", text):  # what is executed takes other times then
        text = re.sub(r"[ -]+", " ", re.sub(r"\d+(\.\d+)?", "N", text))
    text = re.sub(r"(?m)^(us \(\w+\)) +[\d.]+", r"\1", text)
    return re.sub(r"(?m)^(instructions|loads|stores|barriers) +\d+", r"\1", text)


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITH_COMMANDS = [path for path in PAGES if "```console" in path.read_text()]
WITH_PYTHON = [path for path in PAGES if ">>>" in path.read_text()]


def on_pages(pages):
    return pytest.mark.parametrize("path", pages, ids=lambda path: path.name)


def examples():
    """The console blocks of each page, so that they run beside each other; one that leaves a file is not alone."""
    for path in WITH_COMMANDS:
        blocks = re.findall(r"(?ms)^```console\n.*?^```\n", path.read_text())
        if re.search(r"(?m)^\$ .*( -o |> )", "".join(blocks)):
            blocks = ["".join(blocks)]
        for number, block in enumerate(blocks, 1):
            yield pytest.param(block, id=f"{path.name}-{number}")


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("text", list(examples()))
def test_commands_print_what_the_document_says(text):
    if "vmaplab boot" in text and shutil.which("qemu-system-aarch64") is None:
        pytest.skip("qemu-system-aarch64 is not installed")
    assert of_any_kernel(render(text)) == of_any_kernel(text)


@pytest.mark.kernel
@on_pages(WITH_PYTHON)
def test_python_examples_return_what_the_document_says(path):
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert (failed, tried > 3) == (0, True)


def test_the_python_example_of_kernel_returns_what_it_says():
    failed, tried = doctest.testmod(vmaplab.kernel)
    assert (failed, tried > 2) == (0, True)


def test_the_readme_is_read_in_a_minute():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


@on_pages(PAGES)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_every_source_says_its_license():
    files = [path for top in ("src", "tests", "tools", "benchmarks", "examples") for path in (ROOT / top).rglob("*.*")]
    sources = [path for path in files if path.suffix in (".py", ".sh", ".c", ".h")]
    assert len(sources) > 100
    assert not [path for path in sources if "SPDX-License-Identifier: GPL-2.0-only" not in path.read_text()[:200]]
