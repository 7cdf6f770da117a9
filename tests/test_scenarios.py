# SPDX-License-Identifier: GPL-2.0-only
"""What went wrong once: each file of tests/scenarios, on the model and on the kernel's own code, watched."""

from __future__ import annotations

from pathlib import Path

import pytest

from object_support import object_of
from vmaplab import release as releases
from vmaplab.calls.scenario import parse
from vmaplab.check.one import check_one
from vmaplab.check.plan import Plan
from vmaplab.object.targets import TARGETS

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


def targets_of(path: Path) -> list[str]:
    head = path.read_text().splitlines()[0].removeprefix("#").partition(":")[0].strip()
    return list(TARGETS) if head == "all" else [name.strip() for name in head.split(",")]


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("path", "arch"),
    [(path, arch) for path in FILES for arch in targets_of(path)],
    ids=lambda value: value.stem if isinstance(value, Path) else value,
)
def test_what_went_wrong_once_goes_right(path, arch):
    plan = Plan(object_of(arch), None, releases.get("linux-6.12"), {}, seed=1, verify=True)
    assert check_one(plan, parse(path.read_text())).difference == ""


def test_there_are_some():
    assert len(FILES) > 3
