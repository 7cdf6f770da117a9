"""Every example in the documentation prints what is printed there."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path

import pytest

import vmaplab.kernel
from object_support import missing

ROOT = Path(__file__).parent.parent


def render(text: str) -> str:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "tools" / "readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.render(text)


def of_any_kernel(text: str) -> str:
    """``text`` without what changes with each update of Debian's kernel package and compiler."""
    text = re.sub(r"Linux 6\.12\.\d+", "Linux 6.12.N", text)
    return re.sub(r"(?m)^(instructions|loads|stores|barriers) +\d+", r"\1", text)


@pytest.mark.parametrize("name", ["README.md", "docs/kernel-differences.md"])
def test_commands_print_what_the_document_says(name):
    text = (ROOT / name).read_text()
    if missing() and any(word in text for word in ("vmaplab check", "--object")):
        pytest.skip(missing())
    assert of_any_kernel(render(text)) == of_any_kernel(text)


def test_python_examples_of_the_readme_and_of_kernel():
    if missing():
        pytest.skip(missing())
    for name, least in (("README.md", 4), ("docs/calls.md", 6)):
        failed, tried = doctest.testfile(str(ROOT / name), module_relative=False)
        assert (failed, tried >= least) == (0, True)
    failed, tried = doctest.testmod(vmaplab.kernel)
    assert (failed, tried > 2) == (0, True)
