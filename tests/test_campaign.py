# SPDX-License-Identifier: GPL-2.0-only
"""Many scenarios, one verdict."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vmaplab import Kernel
from vmaplab.calls.generator import Generator
from vmaplab.check import campaign
from vmaplab.check.seen import Seen


@pytest.mark.parametrize(
    ("told", "found"),
    [(["", "", "they differ", "", ""], (3, 12, "they differ")), ([""] * 5, (5, None, ""))],
    ids=["one differs", "all agree"],
)
def test_a_difference_is_not_lost_behind_scenarios_that_agree(monkeypatch, told, found):
    answers = iter(told)
    monkeypatch.setattr(campaign, "compared", lambda *_: (next(answers), 0, 0, Seen()))
    generator = Generator(Kernel("x86_64").arch, seed=1)
    plan = SimpleNamespace(faults=False, judge=False, sample=0, guided=False, seed=1)
    monkeypatch.setattr(campaign, "_state", {"sides": (None, None), "generator": generator, "plan": plan})
    result = campaign._run(10, 15)
    assert (result.cases, result.number, result.told) == found
