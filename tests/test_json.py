# SPDX-License-Identifier: GPL-2.0-only
"""What programs rely on: schemas that are kept, hold for every command, and do not lose an address to rounding."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import pytest

from json_support import valid
from object_support import needs_kernel
from test_cli import vmaplab
from vmaplab import __version__
from vmaplab.object.build import tree_of

KEPT = Path("src/vmaplab/report/schema")
OUTPUTS = sorted(path.stem for path in KEPT.glob("*.json"))

BY_MODEL = [
    ("map", ("map", "heap:1M", "--verify", "--explain", "0x5000", "--events")),
    ("explain", ("explain", "0x68000100000f03")),
    ("compare", ("compare", "heap:64K", "pfns:0x1+3", "--arch", "arm64,amd64,8xx", "--release", "6.12,v4")),
    ("review", ("review", "--release", "v3", "--only", "scan")),
    (
        "replay",
        ("replay", "vmap 0x100+16; vmalloc 512 huge; set_memory @1+1 3; vunmap @0", "--info"),
    ),
    ("capture", ("capture", "heap:64K", "-o", "{tmp}/a.npy")),
    ("arches", ("arches",)),
    ("releases", ("releases",)),
    ("cache", ("cache",)),
    ("sweep", ("sweep", "heap:64K,seed=1..2", "--arch", "arm64", "-o", "{tmp}/s.parquet", "--flip", "nohugeiomap")),
]
BY_KERNEL = [
    ("map", ("map", "heap:64K", "--object", "--arch", "amd64")),
    ("compare", ("compare", "heap:64K", "--arch", "amd64", "--tree", "{tree}")),
    ("cost", ("cost", "heap:64K", "--arch", "arm64")),
    ("check", ("check", "--cases", "40", "--arch", "amd64", "--coverage")),
    ("race", ("check", "--race", "--arch", "amd64", "--scenario", " || vmap 0x100+6 || vmap 0x200+6")),
    ("object-build", ("object", "build", "--arch", "amd64")),
    ("object-survey", ("object", "survey", "--arch", "amd64")),
    ("review", ("review", "--object", "--arch", "amd64", "--only", "scan")),
]


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_schemas_in_the_package_are_those_of_the_tool(name, monkeypatch):
    monkeypatch.setattr(sys, "path", ["tools", *sys.path])
    import schema

    assert set(OUTPUTS) == set(schema.OUTPUTS)
    assert (KEPT / f"{name}.json").read_text() == schema.written(name)
    jsonschema.Draft202012Validator.check_schema(json.loads(schema.written(name)))


def checked(output: str, words: tuple[str, ...], tmp_path: Path) -> None:
    words = tuple(word.format(tmp=tmp_path, tree=tree_of() if "{tree}" in word else "") for word in words)
    done = vmaplab(*words, "--json")
    assert done.returncode in (0, 1), done.stderr
    found = valid(done.stdout)
    for row in found if isinstance(found, list) else [found]:
        assert (row["schema"], row["output"], row["version"]) == (2, output, __version__)
        given = dict(zip(words, [*words[1:], ""], strict=True))
        if "--arch" in given:
            assert row["options"]["arch"] == given["--arch"]
    hexes(found)


def hexes(value) -> None:
    """Integers that a double does not hold stand beside themselves in hex."""
    if isinstance(value, list):
        for one in value:
            hexes(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            if isinstance(one, int) and one >= 1 << 53 and f"{name}_hex" not in value:
                assert (name, value.get("high")) == ("value", 63), (name, one)
            if name.endswith("_hex") and one is not None:
                assert int(one, 16) == value[name.removesuffix("_hex")]
            hexes(one)


@pytest.mark.parametrize(("output", "words"), BY_MODEL, ids=[output for output, _ in BY_MODEL])
def test_what_the_model_prints_is_as_its_schema_says(output, words, tmp_path):
    checked(output, words, tmp_path)


@pytest.mark.slow
@needs_kernel
@pytest.mark.parametrize(("output", "words"), BY_KERNEL, ids=[f"{output}-{words[0]}" for output, words in BY_KERNEL])
def test_what_the_kernels_own_code_comes_to_is_as_its_schema_says(output, words, tmp_path):
    checked(output, words, tmp_path)


def test_what_is_refused_is_as_its_schema_says():
    done = vmaplab("map", "pfns:0x100+4", "--total-pages", "16", "--json")
    found = valid(done.stdout)
    assert (done.returncode, found["output"], found["error"]["errno"]) == (1, "refusal", 22)


def test_a_field_that_no_schema_knows_is_noticed():
    text = vmaplab("arches", "--json").stdout
    rows = json.loads(text)
    rows[0]["more"] = 1
    with pytest.raises(jsonschema.ValidationError, match="more"):
        valid(json.dumps(rows))
    del rows[0]["more"], rows[0]["note"]
    with pytest.raises(jsonschema.ValidationError, match="note"):
        valid(json.dumps(rows))
