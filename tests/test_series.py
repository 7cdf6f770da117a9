# SPDX-License-Identifier: GPL-2.0-only
"""A series from its mails to its verdict: what is read, what is refused, what is found, what is printed."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib
import numpy as np
import pytest

from command import VMAPLAB
from json_support import matches
from object_support import needs_kernel
from patches import SIGNED, Edit, mailed, repository
from vmaplab.errors import InputError
from vmaplab.mapping import LEAF_DTYPE
from vmaplab.object import confine, tools
from vmaplab.object.build import tree_of
from vmaplab.report import series as report
from vmaplab.report.series_html import as_html
from vmaplab.report.series_junit import as_junit
from vmaplab.report.series_mail import as_mail
from vmaplab.review.findings import Finding
from vmaplab.review.subject import Table
from vmaplab.series import ask, ground, mails, safety
from vmaplab.series.ask import Effort, Measured, Step, Wrong
from vmaplab.series.found import Cell, Remark, Reviewed
from vmaplab.series.remarks import Remarks
from vmaplab.series.run import review_series

matplotlib.use("agg")
from matplotlib import pyplot

VMALLOC = "mm/vmalloc.c"


def diff(name: str = VMALLOC, added: str = "int b;", mode: str = "") -> str:
    return f"diff --git a/{name} b/{name}\n{mode}--- a/{name}\n+++ b/{name}\n@@ -1,1 +1,2 @@\n int a;\n+{added}\n"


def mail(subject: str, body: str, message: str = "one@example.org", **headers: str) -> str:
    more = "".join(f"{name.replace('_', '-')}: {value}\n" for name, value in headers.items())
    return f"From: Ann Author <ann@example.org>\nSubject: {subject}\nMessage-ID: <{message}>\n{more}\n{body}"


def patch_mail(subject: str, added: str = "int b;", message: str = "one@example.org", name: str = VMALLOC) -> str:
    return mail(subject, f"Because.\n\n{SIGNED}\n---\n {name} | 1 +\n\n{diff(name, added)}-- \n2.39.5\n\n", message)


def mbox(*texts: str) -> bytes:
    return "".join(f"From git@z Thu Jan  1 00:00:00 1970\n{text}\n" for text in texts).encode()


def read(text: bytes) -> mails.Series:
    return mails.parse([("series.mbx", text)])


class TestMails:
    def test_a_series_is_read_in_its_order_with_cover_letter_and_base(self):
        cover = mail("[PATCH v3 0/2] mm: faster", f"Hello.\n\nbase-commit: {'0123456789' * 4}\n", "cover@example.org")
        found = read(mbox(patch_mail("[PATCH v3 2/2] second", "int c;"), cover, patch_mail("[PATCH v3 1/2] first")))
        assert [patch.subject for patch in found.patches] == ["[PATCH v3 1/2] first", "[PATCH v3 2/2] second"]
        assert [patch.place for patch in found.patches] == ["1/2", "2/2"]
        assert (found.title, found.message_id) == ("[PATCH v3 0/2] mm: faster", "cover@example.org")
        assert (found.base_commit, found.notes) == ("0123456789" * 4, ())
        assert found.patches[0].diff.decode().startswith(f" {VMALLOC}") or b"diff --git" in found.patches[0].diff

    def test_replies_are_not_read_and_crlf_is_the_wires(self):
        quoted = "".join(f"> {line}\n" for line in diff().splitlines())
        reply = mail("Re: [PATCH 1/1] one", f"On Monday Ann wrote:\n{quoted}Looks wrong.\n{diff(added='int reply;')}")
        found = read(mbox(patch_mail("[PATCH 1/1] one"), reply).replace(b"\n", b"\r\n"))
        (patch,) = found.patches
        assert b"reply" not in patch.diff and b"\r" not in patch.diff
        assert found.notes == ("1 reply is in the mails: not read",)

    def test_quoted_printable_and_folded_subjects_are_decoded(self):
        body = "---\n" + diff(added="x =3D y; /* =C3=A9 */")
        encoding = {"Content_Transfer_Encoding": "quoted-printable", "Content_Type": "text/plain; charset=utf-8"}
        text = mail("[PATCH v2] mm/vmalloc: map contiguous pages\n in batches", body, **encoding)
        (patch,) = read(mbox(text)).patches
        assert "x = y; /* é */" in patch.diff.decode()
        assert patch.title == "mm/vmalloc: map contiguous pages in batches"

    def test_what_is_missing_or_older_is_said(self):
        found = read(
            mbox(patch_mail("[PATCH v2 1/3] a"), patch_mail("[PATCH v2 3/3] c"), patch_mail("[PATCH 1/1] old"))
        )
        assert [patch.number for patch in found.patches] == [1, 3]
        assert found.notes == (
            "versions v1, v2 are in the mails; v2 is reviewed",
            "2/3 is missing: what follows is tried without",
        )

    def test_two_different_patches_for_one_place_are_refused(self):
        with pytest.raises(InputError, match=r"two different patches are both 1/2 of v1"):
            read(mbox(patch_mail("[PATCH 1/2] a"), patch_mail("[PATCH 1/2] b", "int other;")))
        assert len(read(mbox(*[patch_mail("[PATCH 1/2] a")] * 2)).patches) == 1

    def test_bare_diffs_are_patches_in_the_order_in_which_they_are_given(self):
        found = mails.parse([("b.diff", diff(added="int b;").encode()), ("a.diff", diff(added="int c;").encode())])
        assert [(patch.title, patch.place) for patch in found.patches] == [("b.diff", "1/2"), ("a.diff", "2/2")]

    def test_a_message_that_shows_a_diff_of_its_own_is_not_applied(self):
        """As git am has it, the message ends at the first of '---' and 'diff -'."""
        body = f"It was:\n\n    --- a/x\n\n---\n{diff()}"
        assert b"a/x" not in read(mbox(mail("[PATCH] a", body))).patches[0].diff

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (b"Hello.\n", "no patch in there"),
            (mbox(mail("[PATCH 0/3] cover", "Hello.\n")), "no patch in there"),
            (b"x" * (mails.MOST_BYTES + 1), "more than 20 MiB"),
            (mbox(patch_mail("[PATCH] a") + "@@ -1,1 +1,1 @@\n" * 10_001), "has 10002 hunks"),
        ],
        ids=["no mail", "no diff", "too large", "too many hunks"],
    )
    def test_what_is_no_series_is_said_in_a_line(self, text, told):
        with pytest.raises(InputError, match=told):
            read(text)

    @pytest.mark.parametrize(
        ("first", "second"),
        [("[PATCHv2 1/2] a", "[PATCHv2 2/2] b"), ("[RFC][PATCH v2 1/2] a", "[RFC] [PATCH v2 2/2] b")],
    )
    def test_tags_as_people_write_them(self, first, second):
        found = read(mbox(patch_mail(second, "int c;"), patch_mail(first)))
        assert [(patch.place, patch.version, patch.title) for patch in found.patches] == [
            ("1/2", 2, "a"),
            ("2/2", 2, "b"),
        ]

    @pytest.mark.parametrize("before", [b"\n", b"\xef\xbb\xbf", b"\n\n\n"], ids=["line", "BOM", "lines"])
    def test_what_stands_before_the_first_mail_takes_none_away(self, before):
        text = mbox(patch_mail("[PATCH 1/2] a"), patch_mail("[PATCH 2/2] b", "int c;"))
        assert len(read(before + text).patches) == 2
        assert len(read(text.replace(b"\n\nFrom git@z", b"\nFrom git@z")).patches) == 2
        assert len(read(text.partition(b"\n")[2]).patches) == 2

    def test_of_a_patch_that_was_not_sent_again_the_older_version_is_taken(self):
        found = read(mbox(patch_mail("[PATCH 1/2] a"), patch_mail("[PATCH v2 2/2] b", "int c;")))
        assert [patch.title for patch in found.patches] == ["a", "b"]
        assert "1/2 is taken from v1" in found.notes

    def test_a_series_may_be_numbered_from_0_and_forwarded(self):
        found = read(mbox(patch_mail("Fwd: [PATCH 0/1] a"), patch_mail("Fwd: [PATCH 1/1] b", "int c;")))
        assert [patch.place for patch in found.patches] == ["0/1", "1/1"]

    @pytest.mark.parametrize(
        "text",
        [
            mbox(patch_mail(f"[PATCH 1/{'9' * 5000}] a")),
            mbox(mail("[PATCH] a", "---\n" + diff(), Content_Type="text/plain; charset=undefined")),
        ],
        ids=["a long number", "an odd charset"],
    )
    def test_odd_headers_are_read_as_far_as_they_go(self, text):
        assert len(read(text).patches) == 1

    def test_a_series_of_millions_is_refused(self):
        with pytest.raises(InputError, match="a series of 999999 patches"):
            read(mbox(patch_mail("[PATCH 1/999999] a")))

    def test_a_directory_is_read_in_the_order_of_its_names(self, tmp_path):
        for number, name in ((2, "0002-b.patch"), (1, "0001-a.patch")):
            (tmp_path / name).write_text(patch_mail(f"[PATCH {number}/2] {name}", f"int x{number};"))
        (tmp_path / "notes.txt").write_text("no patch")
        assert [patch.number for patch in mails.read([str(tmp_path)]).patches] == [1, 2]

    def test_control_characters_of_a_stranger_are_blanks(self):
        assert read(mbox(patch_mail("[PATCH] a =?utf-8?q?=1b=5b31mred=e2=80=ae?= b"))).patches[0].title == "a [31mred b"


class TestSafety:
    def patch(self, text: str) -> mails.Patch:
        return mails.Patch("x", "PATCH", 1, 1, 1, "", "", text.encode(), "x")

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (diff("../../etc/passwd"), "leaves the tree"),
            (diff("mm/../../x.c"), "leaves the tree"),
            (diff(".git/hooks/x"), r"writes into \.git"),
            (diff("mm/./x.c"), "leaves the tree"),
        ],
    )
    def test_a_path_that_leaves_the_tree_is_refused(self, text, told):
        with pytest.raises(InputError, match=told):
            safety.names(self.patch(text))

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            (diff(mode="new file mode 120000\n"), "makes a symbolic link"),
            (diff(mode="new file mode 160000\n"), "makes a submodule"),
            ("diff --git a/mm/x b/mm/x\nGIT binary patch\nliteral 3\n", "is a binary patch"),
            (diff(added='#include "/etc/passwd"'), "which is not in the tree"),
            (diff(added="# include <../../../../etc/passwd>"), "which is not in the tree"),
            (diff(added='asm(".incbin \\"/etc/passwd\\"");'), "reads a file into the object"),
            (diff(added="#embed <x>"), "reads a file into the object"),
            (diff(added='%:include "/etc/passwd"'), "which is not in the tree"),
            (diff(added="++ b/x.txt").replace("+1,2 @@", "+1,3 @@") + '+#include "/etc/passwd"\n', "not in the tree"),
        ],
    )
    def test_what_reads_or_makes_more_than_text_of_the_tree_is_refused(self, text, told):
        with pytest.raises(InputError, match=told):
            safety.check(self.patch(text))

    def test_names_in_quotes_are_read_as_git_writes_them(self):
        text = 'diff --git "a/mm/\\303\\244.c" "b/mm/\\303\\244.c"\n--- "a/mm/\\303\\244.c"\n+++ "b/mm/\\303\\244.c"\n'
        assert "mm/ä.c" in safety.names(self.patch(text))
        assert safety.names(self.patch('--- "a/mm/\\x"\n+++ "b/mm/\\x"\n'))

    def test_what_a_patch_takes_away_and_a_neighbour_it_includes_are_no_matter(self):
        safety.check(
            self.patch(diff(added='#include "../mm/internal.h"').replace(" int a;", '-#include "/etc/passwd"'))
        )

    @pytest.mark.parametrize(
        ("name", "built"),
        [
            ("mm/vmalloc.c", True),
            ("include/linux/vmalloc.h", True),
            ("arch/arm64/mm/mmu.c", True),
            ("arch/arm64/include/asm/vmalloc.h", True),
            ("lib/memcpy.S", True),
            ("mm/Makefile", False),
            ("mm/Kconfig", False),
            ("arch/arm64/Kconfig", False),
            ("arch/arm64/kernel/vmlinux.lds.S", False),
            ("scripts/basic/fixdep.c", False),
            ("tools/objtool/check.c", False),
            ("kernel/fork.c", False),
            ("lib/x.lds", False),
        ],
    )
    def test_only_memory_managements_c_is_built_unasked(self, name, built):
        assert safety.is_built(name) == built


class TestGround:
    @pytest.fixture
    def tree(self, tmp_path):
        tree = tmp_path / "tree"
        for name, text in (
            (VMALLOC, "int a;\n"),
            ("mm/internal.h", "int i;\n"),
            ("Makefile", "VERSION = 6\nPATCHLEVEL = 12\n"),
            ("Documentation/x.rst", "x\n"),
            ("scripts/x.sh", "echo\n"),
            ("arch/arm64/mm/mmu.c", "int m;\n"),
        ):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
        return tree

    def apply(self, tree: Path, *texts: str, trust: bool = False) -> tuple[list[ground.Step], list[Path]]:
        with ground.ground(tree) as place:
            steps = [place.apply(patch, trust) for patch in read(mbox(*texts)).patches]
            return steps, [place.tree_of(step) for step in steps if not step.error]

    def test_each_patch_has_a_tree_and_the_readers_is_as_it_was(self, tree):
        before = {path: (path.stat().st_ino, path.read_bytes()) for path in tree.rglob("*") if path.is_file()}
        behind = "@@ -1,2 +1,3 @@\n int a;\n int b;\n+int c;"
        second = patch_mail("[PATCH 2/2] b", "int c;").replace("@@ -1,1 +1,2 @@\n int a;\n+int c;", behind)
        steps, trees = self.apply(tree, patch_mail("[PATCH 1/2] a"), second)
        assert [step.error for step in steps] == ["", ""]
        assert [(one / VMALLOC).read_text() for one in trees] == ["int a;\nint b;\n", "int a;\nint b;\nint c;\n"]
        assert {path: (path.stat().st_ino, path.read_bytes()) for path in tree.rglob("*") if path.is_file()} == before
        assert not {(one / VMALLOC).stat().st_ino for one in trees} & {inode for inode, _ in before.values()}
        assert (trees[0] / "mm/internal.h").is_symlink() and not (trees[0] / "mm").is_symlink()
        assert not list(tree.rglob(".git"))

    def test_a_tree_stays_as_long_as_the_readers_has_the_same_files(self, tree):
        text = patch_mail("[PATCH 1/1] a")
        (first,), (second,) = (self.apply(tree, text)[1] for _ in range(2))
        assert first == second and (first / "mm/internal.h").resolve() == tree / "mm/internal.h"
        (tree / "mm/new.h").write_text("int n;\n")
        (third,) = self.apply(tree, text)[1]
        assert third == first and (third / "mm/new.h").exists()

    def test_what_does_not_apply_is_said_as_git_says_it(self, tree):
        steps, trees = self.apply(tree, patch_mail("[PATCH 1/1] a").replace(" int a;", " int other;"))
        assert steps[0].error == f"error: patch failed: {VMALLOC}:1" or VMALLOC in steps[0].error
        assert not trees

    def test_what_runs_code_is_left_out_unless_it_is_trusted(self, tree):
        text = "obj-y += x.o"
        both = patch_mail("[PATCH 1/1] a") + diff("scripts/x.sh", text).replace(" int a;", " echo")
        (step,), (made,) = self.apply(tree, both)
        assert (step.files, step.left_out) == ((VMALLOC,), ("scripts/x.sh",))
        assert (made / "scripts/x.sh").read_text() == "echo\n"
        (step,), (made,) = self.apply(tree, both, trust=True)
        assert (step.left_out, (made / "scripts/x.sh").read_text()) == ((), f"echo\n{text}\n")

    def test_files_come_and_go(self, tree):
        new = "diff --git a/mm/new.c b/mm/new.c\nnew file mode 100644\n--- /dev/null\n+++ b/mm/new.c\n"
        new += "@@ -0,0 +1 @@\n+int n;\n"
        gone = f"diff --git a/{VMALLOC} b/{VMALLOC}\ndeleted file mode 100644\n--- a/{VMALLOC}\n+++ /dev/null\n"
        gone += "@@ -1 +0,0 @@\n-int a;\n"
        steps, trees = self.apply(tree, mail("[PATCH 1/2] a", f"---\n{new}"), mail("[PATCH 2/2] b", f"---\n{gone}"))
        assert [step.error for step in steps] == ["", ""]
        assert (trees[0] / "mm/new.c").read_text() == "int n;\n" and (trees[0] / VMALLOC).exists()
        assert (trees[1] / "mm/new.c").exists() and not (trees[1] / VMALLOC).exists()
        assert (tree / VMALLOC).exists()

    def test_a_link_out_of_the_tree_is_not_followed(self, tree, tmp_path):
        (tmp_path / "secret").write_text("int a;\n")
        (tree / VMALLOC).unlink()
        (tree / VMALLOC).symlink_to(tmp_path / "secret")
        steps, _ = self.apply(tree, patch_mail("[PATCH 1/1] a"))
        assert steps[0].error and (tmp_path / "secret").read_text() == "int a;\n"

    def test_a_range_of_commits_is_a_series_over_its_base(self, tree, tmp_path):
        repo = repository(tree, tmp_path / "repo", [("one", [Edit(VMALLOC, "int a;", "int b;")])])
        base = ground.exported(repo, "HEAD~1")
        assert (base / VMALLOC).read_text() == "int a;\n"
        assert ground.exported(repo, "HEAD~1") == base
        with pytest.raises(InputError, match="has no commit 'nowhere'"):
            ground.exported(repo, "nowhere")

    def test_the_readers_git_configuration_and_hooks_do_not_run(self, tree, tmp_path, monkeypatch):
        (tmp_path / "hooks").mkdir()
        hook = tmp_path / "hooks/post-commit"
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        hook.chmod(0o755)
        (tmp_path / "config").write_text(f"[core]\n\thooksPath = {tmp_path}/hooks\n")
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
        self.apply(tree, patch_mail("[PATCH 1/1] a"))
        assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(confine.why_not() != "", reason=confine.why_not())
class TestConfined:
    def run(self, script: str, tmp_path: Path, writes: tuple[Path, ...] = ()) -> subprocess.CompletedProcess[str]:
        with confine.confined((tmp_path,)):
            return tools.run(["sh", "-c", script], tmp_path, writes=writes)

    def test_a_command_writes_only_where_it_may(self, tmp_path):
        (tmp_path / "build").mkdir()
        (tmp_path / "tree").mkdir()
        done = self.run("echo x > tree/x", tmp_path, (tmp_path / "build",))
        assert done.returncode and not (tmp_path / "tree/x").exists()
        assert self.run("echo x > build/x", tmp_path, (tmp_path / "build",)).returncode == 0
        assert (tmp_path / "build/x").exists()

    def test_it_sees_no_home_and_no_network(self, tmp_path):
        home = Path.home()
        listed = self.run(
            f"ls -A {home} | grep -v '^{tmp_path.parts[2]}$' | wc -l; ls /sys/class/net 2>/dev/null", tmp_path
        )
        assert int(listed.stdout.split()[0]) <= 1
        assert "eth0" not in self.run("cat /proc/net/dev", tmp_path).stdout

    def test_of_the_system_it_sees_compilers_and_no_secrets(self, tmp_path):
        assert self.run("gcc --version && make --version", tmp_path).returncode == 0
        assert self.run("cat /etc/passwd /etc/shadow", tmp_path).stdout == ""

    def test_its_files_and_its_memory_are_limited(self, tmp_path):
        assert self.run("ulimit -f; ulimit -v", tmp_path).stdout.split() != ["unlimited", "unlimited"]


def reviewed(title: str = "a patch") -> Reviewed:
    """What came of two patches of which the second brings something wrong, without a kernel."""
    series = read(mbox(patch_mail("[PATCH 1/2] first"), patch_mail("[PATCH 2/2] X", "int c;")))
    patches = (series.patches[0], replace(series.patches[1], title=title))
    found = Reviewed(replace(series, patches=patches), "a tree", ("arm64-4k",), Effort(), "6.12.1")
    found.steps = [
        ground.Step(None),
        ground.Step(patches[0], (VMALLOC,)),
        ground.Step(patches[1], (VMALLOC,), ("mm/Kconfig",)),
    ]
    one = Measured("arm64-4k", "6.12.1", image="i", scenarios=10, failing=9)
    wrong = Wrong("k", "breaks an invariant: vmap(): it is wrong", "vmap 0x1")
    for number in range(3):
        measured = replace(one, wrong=(wrong,) if number == 2 else (), image=f"i{number}")
        step = Step(
            differs="step 0\n  before: a\n  after: b",
            scenario="vmap 0x1",
            code={VMALLOC: (2, 3)},
            ran={VMALLOC: (2,)},
            compared=7,
        )
        found.cells[number, "arm64-4k"] = Cell(number, "arm64-4k", measured, step if number else None)
    found.remarks = (
        Remark("wrong", "k", wrong.told, "arm64-4k", ("arm64-4k",), 2, place=f"{VMALLOC}:2", wrong=wrong),
        Remark("build", "b", "it does not build", "arm64-4k", ("arm64-4k",), 1, gone=2),
    )
    return found


class TestReports:
    def test_the_verdict_is_at_the_top(self):
        lines = report.as_text(reviewed()).splitlines()
        assert lines[0].startswith("right?   WRONG: 1 thing that 2/2 brings first; 1/2 does not build, mended in 2/2")
        assert lines[2] == f"looked?  2 of 4 changed lines with code ran; not: 1/2 {VMALLOC}:3, 2/2 {VMALLOC}:3"
        assert "   same: as the tree before it in 7 scenarios" in lines
        assert "1. does not build" not in lines[0] and any(line.startswith("1. WRONG") for line in lines)

    def test_nothing_of_a_mail_is_markup(self):
        page = as_html(reviewed('<script>alert(1)</script> & "x"'))
        assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert not re.search(r"(?:src|href)=|https?://", page)

    @pytest.mark.slow
    @pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed: apt-get install chromium")
    def test_a_browser_shows_the_page_and_asks_for_nothing(self, tmp_path):
        (tmp_path / "page.html").write_text(as_html(reviewed()))
        words = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
        words += ["--disable-background-networking", f"--user-data-dir={tmp_path}/profile", "--window-size=800,900"]
        page = f"file://{tmp_path}/page.html"
        shown = subprocess.run(["chromium", *words, "--dump-dom", page], capture_output=True, text=True, timeout=120)
        assert shown.returncode == 0 and "CONSOLE" not in shown.stderr
        assert "<h1>[PATCH 1/2] first</h1>" in shown.stdout
        taken = ["chromium", *words, f"--screenshot={tmp_path}/page.png", page]
        subprocess.run(taken, capture_output=True, timeout=120, check=True)
        pixels = pyplot.imread(tmp_path / "page.png")
        assert pixels.shape[:2] == (900, 800) and len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 16

    def test_junit_has_a_case_per_patch_and_is_xml_whatever_the_subject(self):
        root = ET.fromstring(as_junit(reviewed("a \x01 <b> & c")))
        (suite,) = root
        assert (suite.get("tests"), suite.get("failures")) == ("2", "2")
        assert [case.get("name") for case in suite] == ["1/2 first", "2/2 a ? <b> & c"]
        assert "vmaplab check --tree ." in suite[1].find("failure").text

    def test_a_mail_has_72_columns_but_for_what_is_quoted_and_names_no_path(self):
        text = as_mail(reviewed())
        assert all(len(line) <= 72 or line.startswith(">") for line in text.splitlines())
        quoted = text.index("> +int c;")
        assert quoted < text.index("wrong: breaks an invariant") and str(Path.home()) not in text
        assert "b4 shazam one@example.org" in text and "Not looked at: mm/Kconfig" in text

    def test_nothing_is_claimed_of_what_was_not_run(self):
        found = reviewed()
        found.cells, found.remarks, found.unfinished = {}, (), 3
        assert [line.split(maxsplit=1)[1].partition(";")[0] for line in report.verdict(found)] == [
            "nobody knows: no patch ran",
            "nobody knows: the last patch was not run",
            "no patch was looked at",
        ]

    def test_json_says_the_same(self):
        told = matches("series", report.as_json(reviewed()))
        assert [one["state"] for one in told["remarks"]] == ["new", "in between"]
        assert told["patches"][2]["cells"]["arm64-4k"]["word"] == "1 wrong, changed"
        assert told["remarks"][0]["commands"] == [
            "vmaplab check --tree . --arch arm64-4k --judge --scenario 'vmap 0x1'"
        ]

    def test_kinds_are_told_apart_by_their_words_alone(self):
        one, other = "vmap() at 0x1f (mm/vmalloc.c:12) is wrong", "vmap() at 0x20 (mm/vmalloc.c:99) is wrong"
        assert ask.kind_of(one) == ask.kind_of(other) != ask.kind_of("vmap() is right")
        assert ask.alike(ask.kind_of(one)) == ask.alike(ask.kind_of(one.replace("vmap", "vmalloc")))


class TestSinceWhen:
    """Which patch a finding is told of, from which trees show it on which architecture."""

    def remarks(
        self,
        shows: dict[str, set[int]],
        broken: dict[str, set[int]] | None = None,
        warns: dict[int, tuple[str, ...]] | None = None,
    ) -> list[Remark]:
        series = read(mbox(patch_mail("[PATCH 1/3] a"), patch_mail("[PATCH 2/3] b"), patch_mail("[PATCH 3/3] c")))
        found = Reviewed(series, "a tree", tuple(shows), Effort(), "6.12.1")
        found.steps = [ground.Step(None), *(ground.Step(patch, (VMALLOC,)) for patch in series.patches)]
        nothing = Table(0, np.zeros(0, dtype=LEAF_DTYPE))
        for number in range(4):
            for arch, trees in shows.items():
                lost = Finding("lost", "k", "it is lost", arch, np.zeros(0), nothing, nothing, "", "", "", ())
                error = "does not" if number in (broken or {}).get(arch, set()) else ""
                findings = (lost,) if number in trees and not error else ()
                said = (warns or {}).get(number, ())
                measured = Measured(arch, error=error, image=f"i{number}", findings=findings, warnings=said)
                found.cells[number, arch] = Cell(number, arch, measured, Step() if number else None)
        found_in = Remarks(found, lambda number: Path(), Path(), None, 1)
        return [it for it in found_in.remarks() if it.kind in ("lost", "warning")]

    @pytest.mark.parametrize(
        ("trees", "first", "gone", "state"),
        [
            ({0, 1, 2, 3}, 0, 0, "as before"),
            ({0, 1}, 0, 2, "gone"),
            ({2, 3}, 2, 0, "new"),
            ({1}, 1, 2, "in between"),
            ({1, 3}, 1, 0, "new"),
        ],
    )
    def test_the_first_tree_that_shows_it_and_the_first_that_does_not_again(self, trees, first, gone, state):
        (remark,) = self.remarks({"arm64-4k": trees})
        assert (remark.first, remark.gone, remark.state, remark.of) == (first, gone, state, first)

    def test_what_is_mended_on_one_architecture_alone_is_a_remark_on_that_patch(self):
        gone, stays = self.remarks({"arm64-4k": {0, 1}, "x86_64": {0, 1, 2, 3}})
        assert (gone.state, gone.arches, gone.of) == ("gone", ("arm64-4k",), 0)
        assert (stays.state, stays.arches, stays.of) == ("not everywhere", ("x86_64",), 2)

    def test_a_warning_is_told_of_the_first_patch_that_has_it_and_not_of_the_base(self):
        """What is not compiled again warns of nothing, so that nothing says that one is gone."""
        old, new = "mm/vmalloc.c:1:2: warning: old [-Wold]", "mm/vmalloc.c:3:4: warning: new [-Wnew]"
        (remark,) = self.remarks({"arm64-4k": set()}, warns={0: (old,), 1: (old,), 2: (new,)})
        assert (remark.kind, remark.first, remark.gone, remark.place) == ("warning", 2, 0, "mm/vmalloc.c:3")

    def test_what_does_not_build_mends_nothing(self):
        gone, stays = self.remarks({"arm64-4k": {0, 1}, "x86_64": {0, 1, 2, 3}}, {"x86_64": {2, 3}})
        assert gone.state == "gone" and (stays.state, stays.of) == ("as before", 0)


COMMENT = [Edit(VMALLOC, "void vunmap(const void *addr)\n{", "/* nothing */\nvoid vunmap(const void *addr)\n{")]
FLUSH = [
    Edit(
        VMALLOC,
        "	err = vmap_pages_range_noflush(addr, end, prot, pages, page_shift);\n	flush_cache_vmap(addr, end);",
        "	err = vmap_pages_range_noflush(addr, end, prot, pages, page_shift);\n	addr += PAGE_SIZE;\n"
        "	flush_cache_vmap(addr, end);",
    )
]
NO_HELPER = [
    Edit(
        VMALLOC,
        "	size = (unsigned long)count << PAGE_SHIFT;\n	area = get",
        "	size = bytes_of(count);\n	area = get",
    )
]
HELPER = [
    Edit(
        VMALLOC,
        "	size = (unsigned long)count << PAGE_SHIFT;\n	area = get",
        "	size = bytes_of(count);\n	area = get",
    )
]
HELPER = [
    Edit(
        VMALLOC,
        "/**\n * vmap - map",
        "static unsigned long bytes_of(unsigned int count)\n{\n	return PAGE_SIZE * count;\n}\n\n/**\n * vmap - map",
    )
]
LEAK = [
    Edit(
        VMALLOC,
        "				pages, PAGE_SHIFT) < 0) {\n		vunmap(area->addr);\n		return NULL;\n	}",
        "				pages, PAGE_SHIFT) < 0)\n		return NULL;",
    )
]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Reviewed:
    room = tmp_path_factory.mktemp("series")
    patches = [("comment", COMMENT), ("use a helper", NO_HELPER), ("add the helper", HELPER)]
    patches += [("flush", FLUSH), ("tidy an error path", LEAK)]
    repo = repository(tree_of(), room / "repo", patches)
    series = mails.read([str(path) for path in mailed(repo, room / "mails", 5)])
    return review_series(series, tree_of(), "Debian's", ["arm64-4k"], Effort(60, 30))


@needs_kernel
@pytest.mark.slow
class TestOfTheKernel:
    """One series with everything: nothing, a build that breaks and is mended, a bug, and one that it could hide."""

    def of(self, found: Reviewed, kind: str) -> list[Remark]:
        return [remark for remark in found.remarks if remark.kind == kind]

    def test_a_comment_makes_the_same_code(self, found):
        assert report.word_of(found, 1, "arm64-4k") == "same code"

    def test_a_build_that_breaks_and_is_mended_is_told_with_its_line(self, found):
        (remark,) = self.of(found, "build")
        assert (remark.first, remark.gone) == (2, 3) and "bytes_of" in remark.headline
        assert remark.place.startswith(f"{VMALLOC}:")

    def test_each_bug_is_told_of_the_patch_that_brings_it(self, found):
        wrong = {remark.first: remark for remark in self.of(found, "wrong")}
        assert set(wrong) == {4, 5}
        assert "is mapped without a flush_cache_vmap() over it" in wrong[4].headline
        assert (found.series.patches[3].title, found.found) == ("flush", True)
        line = int(wrong[4].place.partition(":")[2])
        assert line in found.cells[4, "arm64-4k"].step.code[VMALLOC]

    def test_what_the_base_has_is_no_news(self, found):
        assert {remark.state for remark in self.of(found, "lost")} == {"as before"}

    def test_the_mail_quotes_the_patch(self, found):
        text = as_mail(found)
        assert "> +	addr += PAGE_SIZE;" in text and str(tree_of()) not in text

    def test_unchanged_it_is_not_asked_again(self, found):
        series, cells = found.series, []
        again = review_series(
            series, tree_of(), "Debian's", ["arm64-4k"], Effort(60, 30), told=lambda _, cell: cells.append(cell)
        )
        assert all(cell.kept for cell in cells if cell) and len(cells) == 7
        assert [(it.headline, it.first, it.place) for it in again.remarks] == [
            (it.headline, it.first, it.place) for it in found.remarks
        ]


class TestCommand:
    def vmaplab(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*VMAPLAB, *words], input=stdin, capture_output=True, check=False)
        return subprocess.CompletedProcess(words, done.returncode, done.stdout.decode(), done.stderr.decode())

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["nowhere.mbx"], "No such file"),
            (["-"], "no patch in there"),
            (["x..y"], "is no git repository with x and y"),
            (["a.mbx", "--release", "series-v3"], "of a series only"),
            (["a.mbx", "--since", "HEAD~1"], "not both"),
            (["--trust"], "are for a series"),
            (["a.mbx", "--html", "nowhere/x.html"], "there is no directory"),
            (["-", "--mail", "--json"], "exclude each other"),
        ],
    )
    def test_bad_usage_is_one_line_and_status_2(self, words, told, tmp_path):
        done = self.vmaplab("review", *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert told in done.stderr

    @needs_kernel
    def test_what_does_not_apply_is_status_2_with_the_subject(self, tmp_path):
        bad = patch_mail("[PATCH 1/1] a change of what is not there")
        done = self.vmaplab("review", "-", "--arch", "arm64-4k", stdin=mbox(bad))
        assert done.returncode == 2 and "a change of what is not there" in done.stdout
        assert "does not apply: error: " in done.stdout
