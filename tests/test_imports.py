# SPDX-License-Identifier: GPL-2.0-only
"""The house: who may import whom."""

from __future__ import annotations

import pytest

from imports import circles, imports, reached

JUDGES = [name for name in imports(False) if name.startswith("vmaplab.judge")]
JUDGED = ("vmaplab.arch", "vmaplab.pgtable", "vmaplab.vmalloc", "vmaplab.kernel", "vmaplab.object", "vmaplab.release")


@pytest.mark.parametrize("types", [False, True], ids=["at run time", "with what types need"])
def test_the_import_graph_has_no_circle(types):
    assert circles(imports(types)) == []


@pytest.mark.parametrize("name", JUDGES)
def test_a_judge_reaches_nothing_of_what_it_judges(name):
    reaches = reached(name, imports(False))
    assert not [module for module in reaches if module.startswith(JUDGED)]


def test_the_vocabulary_knows_no_machine():
    for name, module in imports(True).items():
        if name.startswith("vmaplab.calls") and name != "vmaplab.calls.generator":
            assert not [one for one in module if one.startswith(("vmaplab.kernel", "vmaplab.object", "vmaplab.judge"))]


def test_the_model_and_the_kernels_code_do_not_know_who_checks_them():
    for name in ("vmaplab.kernel", "vmaplab.object.kernel"):
        reaches = reached(name, imports(True))
        assert not [one for one in reaches if one.startswith(("vmaplab.check", "vmaplab.review", "vmaplab.report"))]


def test_a_circle_is_found():
    graph = {"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"a"}), "d": frozenset({"a"})}
    assert circles(graph) == [{"a", "b", "c"}]
