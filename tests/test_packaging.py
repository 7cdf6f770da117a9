# SPDX-License-Identifier: GPL-2.0-only
"""What a wheel brings, and what a core install can do without the extras."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from test_cli import vmaplab

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("dask", "distributed", "drgn", "fsspec", "jsonschema", "lzallright", "matplotlib", "pyarrow")


def locked(name: str) -> set[str]:
    lines = (ROOT / name).read_text().splitlines()
    return {line.partition("==")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}


def test_the_core_is_small_and_the_development_lock_has_it_too():
    core, everything = locked("requirements.lock"), locked("requirements-dev.lock")
    assert core <= everything
    assert core & set(EXTRAS) == set()
    assert set(EXTRAS) <= everything
    needed = {word.partition(">")[0] for word in PROJECT["dependencies"]}
    assert needed <= core


@pytest.mark.slow
def test_a_wheel_brings_examples_references_corpus_and_man_page(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    copy = tmp_path / "source"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__"))
    subprocess.run([*command, str(copy)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for end in (
        "share/man/man1/vmaplab.1",
        "share/doc/vmaplab/docs/calls.md",
        "share/doc/vmaplab/examples/batched_vmap.c",
        "share/doc/vmaplab/examples/vmcore",
        "share/doc/vmaplab/examples/vmcore-broken",
        "vmaplab/report/schema/map.json",
        "vmaplab/report/compare.html",
        "vmaplab/py.typed",
        "licenses/LICENSE",
    ):
        assert any(name.endswith(end) for name in names), end
    corpus = {path.name for path in (ROOT / "src/vmaplab/calls/corpus").iterdir() if path.is_file()}
    assert corpus <= {Path(name).name for name in names}
    assert not [name for name in names if name.startswith(("tests", "benchmarks"))]


@pytest.mark.parametrize(
    ("words", "library", "extra"),
    [
        (("map", "{tmp}/a.parquet"), "pyarrow", "arrow"),
        (("capture", "heap:64K", "-o", "{tmp}/b.parquet"), "pyarrow", "arrow"),
        (("sweep", "heap:64K", "-o", "{tmp}/s.parquet"), "pyarrow", "sweep"),
        (("compare", "memory://a/*.npy"), "fsspec", "sweep"),
    ],
)
def test_without_an_extra_its_name_is_said(words, library, extra, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules[{library!r}] = None\n")

    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}
    done = vmaplab(*(word.format(tmp=tmp_path) for word in words), env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"pip install 'vmaplab[{extra}]'" in done.stderr
    assert library in done.stderr
