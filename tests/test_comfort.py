# SPDX-License-Identifier: GPL-2.0-only
"""What makes the command line easy to live with: help, aliases, what was meant, completion, plain terminals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from command import VMAPLAB
from test_cli import vmaplab
from vmaplab import pages
from vmaplab.cli.app import SECTIONS

COMMANDS = [name for names in SECTIONS.values() for name in names]


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*([sys.executable, "-m", "vmaplab"] if environment else VMAPLAB), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | environment)


def test_the_help_has_each_command_on_a_line_of_its_own():
    said = run("-h").stdout
    assert said == run("--help").stdout.replace("vmaplab.cli", "vmaplab")
    lines = {line.split()[0]: line for line in said.splitlines() if line.startswith("  ") and line.strip()}
    for name in COMMANDS:
        assert len(lines[name]) <= 80
        assert lines[name].rstrip().endswith("."), lines[name]


def test_every_command_is_in_a_section():
    import typer

    from vmaplab.cli import app

    assert sorted(typer.main.get_command(app).commands) == sorted(COMMANDS)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("arm64", "arm64-4k"),
        ("aarch64", "arm64-4k"),
        ("AMD64", "x86_64"),
        ("sv48", "riscv64-sv48"),
        ("8xx", "powerpc-8xx"),
    ],
)
def test_an_architecture_has_the_names_that_people_type(alias, name):
    assert json.loads(run("map", "heap:4K", "--arch", alias, "--json").stdout)["arch"] == name


@pytest.mark.parametrize(("alias", "name"), [("6.12", "linux-6.12"), ("v4", "series-v4"), ("review", "suggested")])
def test_a_release_has_the_names_that_people_type(alias, name):
    assert json.loads(run("map", "heap:4K", "--release", alias, "--json").stdout)["release"] == name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("map", "heap:4K", "--arch", "x86-46"), "did you mean x86_64?"),
        (("map", "heap:4K", "--arch", "riscv64"), "did you mean riscv64-sv39 or riscv64-sv48 or riscv64-sv57?"),
        (("map", "heap:4K", "--release", "linux-6.13"), "linux-6.12 is the nearest before it"),
        (("areas", "x", "-r", "6.12", "v4"), "separate several names with commas: --release 6.12,v4"),
        (("map", "heap:4K", "--arch", ""), "--arch is empty"),
        (("compare", "heap:4K", "--tree", ""), "--tree is empty"),
        (("map", "heap:4K", "--arch", "arm64", "x86_64"), "one --arch at a time; 'vmaplab compare' takes several"),
        (("compare", "heap:4K", "--arch", "arm64", "x86_64"), "separate several names with commas: --arch NAME,x86_64"),
        (("compare", "heap:4K", "--arch", "arm64 x86_64"), "separate several names with commas, arm64,x86_64"),
        (("compare", "heap:4K", "-r", "6.12 v4"), "separate several names with commas, 6.12,v4"),
        (("mpa", "heap:4K"), "map"),
        (("map", "heap:4K", "--relase", "v4"), "--release"),
        (("cache", "--clear", "tree"), "did you mean trees?"),
    ],
)
def test_a_near_miss_is_told_what_was_probably_meant(words, said):
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("typed", "offered"), [("x86", ["x86_64", "x86_64-la57"]), ("x86_64,arm64-6", ["x86_64,arm64-64k"])]
)
def test_a_shell_completes_names_also_behind_a_comma(typed, offered):
    words = f"vmaplab compare heap:1M --arch {typed}"
    found = subprocess.run(
        [str(Path(sys.executable).parent / "vmaplab")],
        env=os.environ | {"_VMAPLAB_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.split() == offered, found.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_completion_for_three_shells(shell):
    vmaplab_script = str(Path(sys.executable).parent / "vmaplab")
    environment = os.environ | {"_VMAPLAB_COMPLETE": f"source_{shell}"}
    done = subprocess.run([vmaplab_script], env=environment, capture_output=True, text=True, check=False)
    assert "vmaplab" in done.stdout


def test_capture_does_not_write_over_a_file_unless_it_is_told_to(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("mine\n")
    done = run("capture", "heap:64K", "-o", str(path))
    assert (done.returncode, path.read_text()) == (2, "mine\n")
    assert "--force writes over it" in done.stderr
    assert run("capture", "heap:64K", "-o", str(path), "--force").returncode == 0
    assert len(pages.load(str(path), "arm64-4k")) == 16


def test_bytes_that_are_less_than_a_page_are_noted():
    assert "heap:100 is 100 bytes: part of one page; heap:100K" in run("map", "heap:100").stdout
    assert "vmap() of 1 page (4K)" in run("map", "heap:100").stdout
    assert "are KiB and MiB; from a zone" in run("map", "heap:100,fragmentation=0.5").stdout


def test_the_cache_is_measured_and_cleared_by_kind(tmp_path):
    for kind, size in (("trees", 5000), ("object", 9000)):
        (tmp_path / "vmaplab" / kind).mkdir(parents=True)
        (tmp_path / "vmaplab" / kind / "a").write_bytes(b"x" * size)
    shown = json.loads(run("cache", "--json", XDG_CACHE_HOME=str(tmp_path)).stdout)
    assert shown["path"] == str(tmp_path / "vmaplab")
    found = {kind["kind"]: (kind["bytes"] >= 4096, kind["files"]) for kind in shown["kinds"]}
    assert found["trees"] == found["object"] == (True, 1)
    assert found["boot"] == (False, 0)
    run("cache", "--clear", "trees", XDG_CACHE_HOME=str(tmp_path))
    assert not (tmp_path / "vmaplab" / "trees").exists()
    assert (tmp_path / "vmaplab" / "object" / "a").exists()
    assert "removed" in run("cache", "--clear", "all", XDG_CACHE_HOME=str(tmp_path)).stdout
    assert not (tmp_path / "vmaplab" / "object").exists()


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_said_once_with_what_it_costs(tmp_path):
    (tmp_path / "file").write_text("")
    words = ["capture", "heap:64M,fragmentation=0.5", "-o", str(tmp_path / "it.txt")]  # a part of all that is compiled
    done = run(*words, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert "no cache in" in line and "half a minute" in line and "XDG_CACHE_HOME" in line


def test_a_terminal_that_obeys_nothing_gets_no_escape_codes(tmp_path):
    for environment in ("TERM=dumb", "TERM=xterm NO_COLOR=1"):
        command = f"env {environment} {sys.executable} -m vmaplab map heap:64K"
        done = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, check=False)
        assert "vmap() of 16 pages" in done.stdout
        assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("map", "heap:8M,fragmentation=0.5,seed=1", "--arch", "powerpc-8xx"),
        ("compare", "heap:8M,fragmentation=0.5,seed=1", "--arch", "arm64,amd64", "--legend"),
        ("arches",),
        ("releases",),
        ("cache",),
        ("replay", "vmap 0x100+16; map_ram 0x200+3; unmap_ram @1 3"),
    ],
    ids=lambda words: words[0],
)
def test_tables_fit_80_columns(words):
    lines = run(*words).stdout.splitlines()
    assert max(map(len, lines)) <= 80, max(lines, key=len)


def test_the_reference_of_commands_is_what_they_say(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", ["tools", *sys.path])
    import commands

    commands.write(tmp_path / "commands.md", tmp_path / "vmaplab.1")
    assert (tmp_path / "commands.md").read_text() == Path("docs/commands.md").read_text()
    assert (tmp_path / "vmaplab.1").read_text() == Path("man/vmaplab.1").read_text()


def test_the_old_way_to_start_it_still_works():
    assert vmaplab("--version").stdout == run("--version").stdout


@pytest.mark.parametrize("words", [("--version",), ("-h",), ("map", "-h")], ids=" ".join)
def test_what_computes_nothing_loads_no_numpy(words):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "vmaplab", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "numpy" not in done.stderr
