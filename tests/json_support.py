# SPDX-License-Identifier: GPL-2.0-only
"""What is printed with --json, held against its schema."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import jsonschema


def matches(name: str, value: Any) -> Any:
    """What a report makes for programs, as it is printed, which is as the schema of that output says."""
    head = {"schema": 2, "output": name, "version": "", "options": {}}
    rows = [{**head, **row} for row in value] if isinstance(value, list) else {**head, **value}
    return valid(json.dumps(rows))


def valid(text: str) -> Any:
    """What ``text`` spells, which is as the schema of its output says."""
    found = json.loads(text)
    name = (found[0] if isinstance(found, list) else found)["output"]
    schema = json.loads(files("vmaplab").joinpath("report", "schema", f"{name}.json").read_text())
    for one in [schema, *schema.get("$defs", {}).values()]:  # this version's outputs have nothing else
        if "properties" in one:
            one["additionalProperties"] = False
    jsonschema.Draft202012Validator(schema).validate(found)
    return found
