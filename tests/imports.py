# SPDX-License-Identifier: GPL-2.0-only
"""The import graph of the package, read from its sources."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "src" / "vmaplab"


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(types: bool) -> dict[str, frozenset[str]]:
    """Each module and what it imports of the package, anywhere in it; ``types``: also what only types need."""
    return {name: frozenset(_imported(name, path, types)) - {name} for name, path in MODULES.items()}


def _imported(name: str, path: Path, types: bool) -> set[str]:
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and not types and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return {module for module in found if module in MODULES}


def reached(start: str, graph: dict[str, frozenset[str]]) -> set[str]:
    """Everything that ``start`` imports, and what that imports."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        for module in graph[todo.pop()] - seen:
            seen.add(module)
            todo.append(module)
    return seen


def circles(graph: dict[str, frozenset[str]]) -> list[set[str]]:
    """The modules that import each other, in groups."""
    below = {name: reached(name, graph) for name in graph}
    groups = {
        frozenset(other for other in below[name] if name in below[other] or other == name)
        for name in graph
        if name in below[name]
    }
    return [set(group) for group in groups]
