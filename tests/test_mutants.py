# SPDX-License-Identifier: GPL-2.0-only
"""Every seeded fault is noticed by a judge; docs/judges.md lists which."""

from __future__ import annotations

import pytest

from mutants import MUTANTS, run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("judge", ["invariants", "several", "mmu"])
def test_nothing_is_said_of_the_model_as_it_is(judge):
    assert run(None, judge) == ""


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fault)
def test_every_seeded_fault_is_noticed(mutant):
    told = run(mutant, "several")
    assert told or run(mutant, "mmu")
    if not told:
        assert not run(mutant, "invariants"), "many calls judged together hide it"
