"""Every example in the documentation prints what is printed there."""

from __future__ import annotations

import doctest
import importlib.util
from pathlib import Path

import pytest

import vmaplab.kernel

ROOT = Path(__file__).parent.parent


def render(text: str) -> str:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "tools" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.render(text)


@pytest.mark.parametrize("name", ["README.md", "docs/kernel-differences.md"])
def test_commands_print_what_the_document_says(name):
    text = (ROOT / name).read_text()
    assert render(text) == text


def test_python_examples_of_the_readme_and_of_kernel():
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert (failed, tried > 3) == (0, True)
    failed, tried = doctest.testmod(vmaplab.kernel)
    assert (failed, tried > 2) == (0, True)
