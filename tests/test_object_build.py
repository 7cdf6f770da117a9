# SPDX-License-Identifier: GPL-2.0-only
"""Building the object: cached by contents, and the kernel's own error where its build fails."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from command import VMAPLAB
from object_support import EXAMPLE, changed_tree, needs_kernel, object_of
from vmaplab.check.campaign import check
from vmaplab.check.plan import Plan
from vmaplab.errors import InputError
from vmaplab.object import build, kbuild, seed, targets, tools
from vmaplab.release import RELEASES

ARM64 = targets.get("arm64-4k")


def vmaplab(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*VMAPLAB, *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    """Makes a tree like the default one whose mm/vmalloc.c has some text replaced; its other files are links."""

    def of(right: str, wrong: str) -> Path:
        return changed_tree(tmp_path_factory.mktemp("trees") / "tree", "mm/vmalloc.c", right, wrong, once=False)

    return of


@needs_kernel
class TestCache:
    def test_the_second_build_is_found(self):
        object_of("arm64-4k")
        assert not build.build(ARM64).fresh

    def test_another_tree_with_the_same_contents_shares_it(self, patched):
        object_of("arm64-4k")
        again = build.build(ARM64, patched("vmap", "vmap"))
        assert not again.fresh and again.image == object_of("arm64-4k").image

    @pytest.mark.slow
    def test_what_a_patch_compiles_is_what_a_whole_build_compiles(self, patched, tmp_path, monkeypatch):
        """A header that mm/vmalloc.c and others include; only these are compiled, beside 20 that are not."""
        object_of("riscv64-sv39")
        changed = {"right": "#define VM_ALLOC\t\t0x00000002", "wrong": "#define VM_ALLOC\t\t0x00000042"}
        tree = changed_tree(tmp_path / "tree", "include/linux/vmalloc.h", **changed)
        monkeypatch.setattr(build, "find", lambda *_: None)  # the cache can have it, of an earlier run
        done = build.build(targets.get("riscv64-sv39"), tree)
        monkeypatch.setattr(seed, "_plant", lambda *_: None)
        elsewhere = changed_tree(tmp_path / "elsewhere", "include/linux/vmalloc.h", **changed)
        whole = build.build(targets.get("riscv64-sv39"), elsewhere)
        assert done.image.read_bytes() == whole.image.read_bytes()
        assert done.image.read_bytes() != object_of("riscv64-sv39").image.read_bytes()

    def test_a_link_to_a_tree_is_that_tree(self, tmp_path, monkeypatch):
        """The kernel's makefiles follow links: a file has one name, in warnings too."""
        link = tmp_path / "link"
        link.symlink_to(object_of("arm64-4k").tree)
        monkeypatch.setattr(build, "tree_of", lambda: link)
        assert build.build(ARM64).tree == link.resolve()

    def test_a_header_that_takes_the_place_of_another_is_another_tree(self):
        built = object_of("arm64-4k")
        files = json.loads((built.image.parent / "manifest.json").read_text())["files"]
        headers = {name for name, known in files.items() if not known}
        # Before one that is generated, one of include/, and one of include/uapi/.
        assert {f"arch/arm64/include/{name}" for name in ("asm/div64.h", "linux/mm.h", "asm/errno.h")} <= headers
        assert "include/linux/errno.h" not in headers
        assert not any((built.tree / name).exists() for name in headers)

    def test_the_sources_of_objtool_are_sources(self):
        built = object_of("x86_64")
        files = json.loads((built.image.parent / "manifest.json").read_text())["files"]
        assert {"tools/objtool/check.c", "tools/lib/subcmd/help.c", "tools/arch/x86/lib/insn.c"} <= set(files)

    def test_a_warning_of_the_compiler_is_told_and_none_of_our_files(self, tmp_path):
        snippet = tmp_path / "warns.c"
        snippet.write_text("int warns(void);\nint warns(void)\n{\n\tint unused;\n\treturn 1;\n}\n")
        (warning,) = build.build(ARM64, snippet=snippet, call="warns").warnings
        assert "unused variable" in warning
        assert not any("/support/" in one for one in object_of("x86_64").warnings)

    def test_a_lock_is_held_until_the_commands_have_ended(self, tmp_path):
        """A killed process leaves make behind, which goes on writing."""
        path = tmp_path / "lock"
        with tools.lock(path):
            tools.run(["sh", "-c", "sleep 3 >/dev/null 2>&1 &"], tmp_path)
        with path.open() as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    @pytest.mark.slow
    def test_a_changed_source_is_compiled_and_does_what_it_says(self, patched):
        """--base says what the change changes."""
        tree = patched("size += PAGE_SIZE;", "size += 2 * PAGE_SIZE;")
        done = vmaplab("check", "--tree", str(tree), "--base", str(build.tree_of()), "--arch", "arm64-4k", "--json")
        (verdict,) = json.loads(done.stdout)
        assert done.returncode == 1
        assert verdict["scenario"].count(";") <= 1 and "the base" in verdict["difference"]
        again = vmaplab("check", *verdict["command"].split("'")[0].split()[2:-1], "--scenario", verdict["scenario"])
        assert again.returncode == 1

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "right, wrong",
        [
            ("\t\tflush_tlb_kernel_range(start, end);", "\t\t;"),  # of the purge
            ("flush_cache_vmap(addr, end);\n\treturn err;", "return err;"),
            ("flush_cache_vunmap(va->va_start, va->va_end);", ""),
        ],
    )
    def test_a_patch_that_breaks_something_is_found(self, patched, right, wrong):
        tree = patched(right, wrong)
        built = build.build(ARM64, tree)
        verdict = check(Plan(built, None, RELEASES["linux-6.12"], {}, 1), 3000, jobs=1)
        assert verdict.difference != ""

    def test_a_snippet_is_part_of_the_key(self, tmp_path):
        plain, with_snippet = object_of("arm64-4k"), object_of("arm64-4k", EXAMPLE, "batched_vmap")
        assert plain.image != with_snippet.image
        copy = tmp_path / "other_name.c"
        copy.write_text(EXAMPLE.read_text())
        assert build.build(ARM64, snippet=copy, call="batched_vmap").image == with_snippet.image

    def test_an_option_changes_the_object(self):
        done = build.build(targets.get("riscv64-sv39"), config=targets.smp())
        assert done.image != object_of("riscv64-sv39").image
        assert object_of("riscv64-sv39").image == object_of("riscv64-sv57").image


@needs_kernel
class TestBadInput:
    def test_an_error_in_a_macro_of_a_header_is_told_of_who_uses_it(self, patched):
        wrong = "	size = min(count, -1L) << PAGE_SHIFT;\n	area = get_vm_area_caller"
        tree = patched("	size = (unsigned long)count << PAGE_SHIFT;\n	area = get_vm_area_caller", wrong)
        with pytest.raises(InputError, match=r"^tree: mm/vmalloc\.c:\d+:\d+ in min\(\): include/linux/\S+ error: "):
            build.build(ARM64, tree)

    def test_an_error_in_the_kernel_is_shown(self, patched):
        with pytest.raises(InputError, match=r"^tree: mm/vmalloc.c:\d+:\d+: error"):
            build.build(ARM64, patched("void vunmap(const void *addr)\n{", "void vunmap(const void *addr)\n{ oops;"))

    def test_an_option_that_does_not_hold_is_named(self):
        with pytest.raises(InputError, match="CONFIG_NO_SUCH_THING=y does not hold"):
            build.build(ARM64, config=["NO_SUCH_THING=y"])

    @pytest.mark.slow
    def test_data_that_nobody_defines_and_nobody_knows_ends_the_build_with_its_name(self, patched):
        tree = patched(
            "void vunmap(const void *addr)\n{",
            "extern int nobodys_data;\nvoid vunmap(const void *addr)\n{\n\tif (nobodys_data)\n\t\treturn;",
        )
        # By the compiler: the first reader may be vmap(), with vunmap() inline.
        with pytest.raises(InputError, match=r"^tree: nobodys_data \(in \w+\) is data that nothing here defines"):
            build.build(ARM64, tree)

    @pytest.mark.slow
    def test_an_option_of_ours_that_a_tree_lacks_is_a_guess_that_is_said(self):
        wanting = replace(targets.get("riscv64-sv39"), config=("AN_OPTION_OF_NEXT_YEAR=y",))
        done = build.build(wanting)
        assert [guess for guess in done.guessed if "CONFIG_AN_OPTION_OF_NEXT_YEAR" in guess]

    @pytest.mark.slow
    def test_a_source_that_changes_while_it_is_built_is_no_entry_of_the_cache(self, patched, monkeypatch):
        tree = patched("#include <linux/mm.h>\n", "#include <linux/mm.h>\n\n")
        link = kbuild.KernelBuild._link

        def edit_and_link(self, *arguments):
            source = tree / "mm" / "vmalloc.c"
            source.write_text(source.read_text() + "\n")
            return link(self, *arguments)

        monkeypatch.setattr(kbuild.KernelBuild, "_link", edit_and_link)
        with pytest.raises(InputError, match=r"mm/vmalloc.c changed while it was built"):
            build.build(ARM64, tree)

    def test_a_configured_tree_is_the_kernels_own_complaint(self, patched):
        tree = patched("vmap", "vmap ")
        (tree / ".config").write_text("CONFIG_64BIT=y\n")
        with pytest.raises(InputError, match="source tree is not clean"):
            build.build(ARM64, tree)


class TestSeed:
    """A build directory begins as a copy of one whose tree differs in C files alone."""

    @pytest.fixture
    def builds(self, tmp_path):
        """Two trees, and a directory that the first was built in."""
        for name in ("old", "new"):
            (tmp_path / name / "mm").mkdir(parents=True)
            (tmp_path / name / "mm/vmalloc.c").write_text("int vmalloc;")
            (tmp_path / name / "mm/memory.c").write_text("int memory;")
            (tmp_path / name / "Makefile").write_text("VERSION = 9")
        folder = tmp_path / "builds" / "first"
        (folder / "mm").mkdir(parents=True)
        for name in ("vmalloc", "memory"):
            source = f"{tmp_path}/old/mm/{name}.c"
            (folder / f"mm/.{name}.o.cmd").write_text(
                f"cmd := gcc -I{tmp_path}/old/include -o {folder}/x \\\n {source} \\\n"
            )
            (folder / f"mm/{name}.o").write_bytes(b"\0" + name.encode())
        (folder / "source").symlink_to(tmp_path / "old")
        files = {name: tools.file_digest(tmp_path / "old" / name) for name in ("Makefile",)}
        seed.finish(folder, self.RECIPE, tmp_path / "old", {**files, "include/asm/absent.h": ""}, set())
        (tmp_path / "builds" / "second").mkdir()
        return tmp_path

    KIND = "compiler\n"
    RECIPE = f"{KIND}OPTION=y\n."

    def plant(self, builds: Path, recipe: str = RECIPE, kind: str = KIND) -> dict[str, str]:
        """Plants the second directory; its files."""
        second = builds / "builds" / "second"
        seed.prepare(second, recipe, kind, builds / "new")
        assert sorted(path.name for path in (builds / "builds").glob("*/")) == ["first", "second"]
        return {
            str(path.relative_to(second)): path.read_bytes().decode()
            for path in second.rglob("*")
            if path.is_file() and path.suffix != ".json"
        }

    def test_what_a_changed_file_made_is_left_out_and_paths_are_the_new_ones(self, builds):
        (builds / "new/mm/vmalloc.c").write_text("int vmalloc = 2;")
        planted = self.plant(builds)
        assert set(planted) == {"mm/.memory.o.cmd", "mm/memory.o"}
        assert planted["mm/.memory.o.cmd"].split() == [
            *("cmd", ":=", "gcc", f"-I{builds}/new/include", "-o", f"{builds}/builds/second/x", "\\"),
            *(f"{builds}/new/mm/memory.c", "\\"),
        ]
        second = builds / "builds/second"
        assert (second / "source").readlink() == builds / "new"
        assert len({path.lstat().st_mtime_ns for path in second.rglob("*")}) == 1

    @pytest.mark.parametrize("name", ["Makefile", "include/asm/absent.h"])
    def test_more_than_c_that_is_different_is_built_from_nothing(self, builds, name):
        (builds / "new" / name).parent.mkdir(parents=True, exist_ok=True)
        (builds / "new" / name).write_text("something else")
        assert not self.plant(builds)

    def test_a_file_that_is_gone_is_built_from_nothing(self, builds):
        (builds / "new/mm/memory.c").unlink()
        assert not self.plant(builds)

    def test_a_changed_file_that_no_command_names_is_built_from_nothing(self, builds):
        """Its own name may be another one: what was made of it is not known."""
        first = builds / "builds/first"
        files = {"mm/rbtree.c": tools.file_digest(builds / "old/mm/memory.c")}
        seed.finish(first, self.RECIPE, builds / "old", files, set())
        (builds / "new/mm/rbtree.c").write_text("int other;")
        assert not self.plant(builds)

    def test_a_file_beside_the_tree_that_has_changed_is_built_from_nothing(self, builds):
        first, tool = builds / "builds/first", builds / "tool.c"
        tool.write_text("int tool;")
        (first / "mm/.tool.o.cmd").write_text(f"deps := {tool} \\\n")
        seed.finish(first, self.RECIPE, builds / "old", {}, set())
        tool.write_text("int tool = 2;")
        assert not self.plant(builds)

    def test_another_compiler_and_a_directory_that_is_being_changed_are_not_copied(self, builds):
        assert not self.plant(builds, "another\n.", "another\n")
        seed.prepare(builds / "builds/first", self.RECIPE, self.KIND, builds / "old")
        assert not self.plant(builds)

    def test_another_configuration_is_copied_and_kbuild_looks_at_all_of_it(self, builds):
        assert set(self.plant(builds, f"{self.KIND}OPTION=n\n.")) >= {"mm/vmalloc.o", "mm/memory.o"}
        # The same configuration is nearer, though more files differ.
        (builds / "builds/third").mkdir()
        (builds / "builds/second/of-the-other").touch()
        files = {"Makefile": tools.file_digest(builds / "new/Makefile")}
        seed.finish(builds / "builds/second", f"{self.KIND}OPTION=n\n.", builds / "new", files, set())
        (builds / "new/mm/vmalloc.c").write_text("int vmalloc = 2;")
        gone = seed.prepare(builds / "builds/third", self.RECIPE, self.KIND, builds / "new")
        assert gone == {"mm/vmalloc.o"}
        assert not (builds / "builds/third/of-the-other").exists()

    def test_it_is_told_what_is_to_be_made_if_that_is_known(self, builds):
        first = builds / "builds/first"

        def prepared(recipe: str = self.RECIPE) -> set[str] | None:
            return seed.prepare(first, recipe, self.KIND, builds / "old")

        (builds / "old/mm/vmalloc.c").write_text("int vmalloc = 2;")
        assert prepared() == {"mm/vmalloc.o"}
        assert prepared() is None  # nobody said that it was finished
        seed.finish(first, self.RECIPE, builds / "old", {}, set())
        assert prepared() == set()
        assert prepared(f"{self.KIND}OPTION=n\n.") is None

    def test_a_file_that_only_goes_into_what_is_made_anew_takes_nothing_away(self, builds):
        first, ours = builds / "builds/first", builds / "old/mm/ours.c"
        ours.write_text("int ours;")
        seed.finish(first, self.RECIPE, builds / "old", {"mm/ours.c": tools.file_digest(ours)}, {"mm/ours.c"})
        ours.write_text("int ours = 2;")
        assert seed.prepare(first, self.RECIPE, self.KIND, builds / "old") == set()
        assert (first / "mm/vmalloc.o").exists()

    def test_a_source_that_was_replaced_by_an_older_one_is_compiled(self, builds):
        first = builds / "builds/first"
        (builds / "old/mm/vmalloc.c").write_text("int vmalloc = 2;")
        os.utime(builds / "old/mm/vmalloc.c", (1, 1))
        seed.prepare(first, self.RECIPE, self.KIND, builds / "old")
        assert not (first / "mm/vmalloc.o").exists()
        assert (first / "mm/memory.o").exists()
        # The build fails, and the file is what it was before: nobody knows what the object was made of.
        (first / "mm/vmalloc.o").write_bytes(b"of the second one")
        (first / "mm/.vmalloc.o.cmd").write_text(f" {builds}/old/mm/vmalloc.c \\\n")
        (builds / "old/mm/vmalloc.c").write_text("int vmalloc;")
        os.utime(builds / "old/mm/vmalloc.c", (1, 1))
        seed.prepare(first, self.RECIPE, self.KIND, builds / "old")
        assert not (first / "mm/vmalloc.o").exists()

    def test_after_a_build_that_failed_only_what_is_changed_is_compiled(self, builds):
        """What compiles it is gone with the object, and is known all the same."""
        first = builds / "builds/first"
        (builds / "old/mm/vmalloc.c").write_text("int vmalloc; oops")
        for _ in range(2):
            seed.prepare(first, self.RECIPE, self.KIND, builds / "old")
            assert not (first / "mm/vmalloc.o").exists()
            assert (first / "mm/memory.o").exists()

    def test_a_directory_that_somebody_holds_is_not_removed(self, builds):
        os.utime(builds / "builds/first", (1, 1))  # the oldest
        with tools.lock(builds / "builds/first.lock"):
            tools.forget(builds / "builds", 1)
            assert (builds / "builds/first").exists()
        tools.forget(builds / "builds", 1)
        assert not (builds / "builds/first").exists()
        assert (builds / "builds/second").exists()

    def test_a_directory_of_a_tree_that_is_gone_goes_first(self, builds):
        os.utime(builds / "builds/second", (1, 1))  # the oldest
        shutil.rmtree(builds / "old")  # of which the first was made
        shutil.copytree(
            builds / "builds/first", builds / "builds/new-1", symlinks=True
        )  # as while another is being filled from it
        assert seed.is_of_no_tree(builds / "builds/first") and not seed.is_of_no_tree(builds / "builds/new-1")
        shutil.rmtree(builds / "builds/new-1")
        tools.forget(builds / "builds", 1, seed.is_of_no_tree)
        assert [path.name for path in (builds / "builds").iterdir() if path.is_dir()] == ["second"]

    def test_a_directory_of_which_nothing_is_known_is_emptied(self, builds):
        first = builds / "builds/first"
        (first / "vmaplab-inputs.json").unlink()
        seed.prepare(first, self.RECIPE, self.KIND, builds / "old")
        assert not list(first.iterdir())

    def test_what_is_edited_while_it_is_copied_is_newer_than_what_is_copied(self, builds, monkeypatch):
        copied = shutil.copytree

        def edit_and_copy(*arguments, **keywords):
            (builds / "new/mm/memory.c").write_text("int memory = 2;")
            return copied(*arguments, **keywords)

        monkeypatch.setattr(shutil, "copytree", edit_and_copy)
        self.plant(builds)
        edited = (builds / "new/mm/memory.c").stat().st_mtime_ns
        assert (builds / "builds/second/mm/memory.o").stat().st_mtime_ns < edited

    def test_a_tool_of_the_build_that_has_changed_is_built_from_nothing(self, builds):
        (builds / "old/tools/objtool").mkdir(parents=True)
        (builds / "old/tools/objtool/check.c").write_text("int check;")
        shutil.copytree(builds / "old/tools", builds / "new/tools")
        files = {"tools/objtool/check.c": tools.file_digest(builds / "old/tools/objtool/check.c")}
        (builds / "builds/first/.check.o.cmd").write_text(f" {builds}/old/tools/objtool/check.c \\\n")
        seed.finish(builds / "builds/first", self.RECIPE, builds / "old", files, set())
        (builds / "new/tools/objtool/check.c").write_text("int check = 2;")
        assert not self.plant(builds)


def test_no_tree_is_said_so(tmp_path):
    with pytest.raises(InputError, match="is no kernel tree"):
        build.build(ARM64, tmp_path)
    done = vmaplab("check", "--tree", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_missing_package_says_how_to_get_it():
    with pytest.raises(InputError, match=r"apt-get install linux-source-9\.9, or name a kernel tree with --tree"):
        build.tree_of("linux-source-9.9")


def test_missing_tools_say_how_to_get_them(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InputError, match="apt-get install gcc-aarch64-linux-gnu binutils gcc make"):
        tools.tools_for(ARM64.family)


def test_flags_of_the_environment_do_not_reach_the_build(monkeypatch, tmp_path):
    """They are no part of the cache's key."""
    monkeypatch.setenv("KCFLAGS", "-DPOISON")
    assert tools.run(["sh", "-c", 'test -z "$KCFLAGS"'], tmp_path).returncode == 0


def test_a_half_written_image_is_passed_over(tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "manifest.json").write_text("")
    assert build.find(tmp_path, tmp_path) is None


def test_a_word_that_is_no_option_is_refused():
    with pytest.raises(InputError, match="write KEY=y"):
        build.parse_config(["rm -rf"])
    assert build.parse_config(["CONFIG_KASAN=y", "NR_CPUS=4"]) == ("KASAN=y", "NR_CPUS=4")


@pytest.mark.parametrize(
    "words",
    [
        ["check", "--arch", "loongarch64"],
        ["check", "--arch", "nothing"],
        ["check", "--cases", "0"],
        ["check", "--scenario", "vmap"],
        ["check", "--scenario", "vmap 0x1; vunmap @7"],
        ["check", "--scenario", "jump 3"],
        ["check", "--snippet", "x.c"],
        ["check", "--call", "x"],
        ["check", "--release", "linux-9"],
        ["check", "--base", "/nonexistent"],
        ["map", "heap:1M", "--object", "--release", "series-v3"],
        ["map", "heap:1M", "--object", "--arch", "powerpc-8xx"],
        ["object", "build", "--arch", "x"],
        ["object", "build", "--config", "KASAN"],
    ],
)
def test_bad_usage_is_one_line_and_status_2(words):
    done = vmaplab(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "Traceback" not in done.stderr
