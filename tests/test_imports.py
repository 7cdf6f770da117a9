# SPDX-License-Identifier: GPL-2.0-only
"""The house: who may import whom."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from imports import circles, imports, reached
from vmaplab import _jit

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


def compiled_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and any(
            one.id in ("jit", "allocating", "inlined", "native", "callback")
            for decorator in node.decorator_list
            for one in ast.walk(decorator)
            if isinstance(one, ast.Name)
        )
    ]


def used_in_compiled_code(path: Path) -> dict[str, str]:
    """Names that the compiled functions of a file use and import from vmaplab -> the module of each."""
    tree = ast.parse(path.read_text())
    imported = {
        name.asname or name.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("vmaplab.")
        for name in node.names
    }
    used = {
        one.id
        for function in compiled_functions(tree)
        for line in function.body
        for one in ast.walk(line)
        if isinstance(one, ast.Name)
    }
    return {name: imported[name] for name in used & set(imported)}


def test_the_cache_of_compiled_code_covers_every_file_that_goes_into_it():
    """A constant or a function of another file is put in line: compiled code that outlives it would be wrong."""
    package = Path(_jit.__file__).parent
    covered = _jit.compiled_sources()
    compiled = {path for path in package.rglob("*.py") if compiled_functions(ast.parse(path.read_text()))}
    assert len(compiled) > 8
    assert compiled <= set(covered)
    seen = 0
    for path in covered:
        for name, module in used_in_compiled_code(path).items():
            seen += 1
            source = package.joinpath(*module.split(".")[1:])
            files = {source.with_suffix(".py"), source / "__init__.py"}
            assert files & set(covered), f"{path.name} uses {name} of {module}"
    assert seen > 100


def test_a_name_of_another_file_is_seen(tmp_path):
    path = tmp_path / "one.py"
    path.write_text("from vmaplab.a.b import LIMIT, other\n@jit\ndef f():\n    return LIMIT\ndef g():\n    other()\n")
    assert used_in_compiled_code(path) == {"LIMIT": "vmaplab.a.b"}
