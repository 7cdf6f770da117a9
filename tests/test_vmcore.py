# SPDX-License-Identifier: GPL-2.0-only
"""Areas out of the memory of a kernel: made by hand, file by file, sound, damaged and hostile."""

from __future__ import annotations

import json
import shutil
import socket
import struct
import subprocess
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dumps import MACHINES, STRUCTS, VM_ALLOC, VM_IOREMAP, Kernel, example, flattened
from vmaplab import InputError, pages
from vmaplab.cli.app import app
from vmaplab.vmcore.areas import Areas, read_areas
from vmaplab.vmcore.btf import Btf
from vmaplab.vmcore.memory import Range, Ranged, Unreadable
from vmaplab.vmcore.source import areas_of, open_kernel, parse
from vmaplab.vmcore.vmlinux import types_of
from vmaplab.vmcore.would import would

EXAMPLES = Path(__file__).parent.parent / "examples"


def of(kernel: Kernel, *offsets: int) -> list[int]:
    """PFNs in that kernel's RAM."""
    return [kernel.machine.ram // kernel.page + 200 + offset for offset in offsets]


def sound(**keywords: Any) -> Kernel:
    """Four areas: three vmap()s and a vmalloc() with its pages listed."""
    kernel = Kernel(**keywords)
    kernel.area(0, of(kernel, 0, 1, 2, 9))
    kernel.area(8, of(kernel, 21, 20), VM_ALLOC, listed=True, caller=0x20)
    kernel.area(512, of(kernel, *range(30, 50)), caller=0x30)
    kernel.area(700, of(kernel, 60), VM_IOREMAP, caller=0x40)
    return kernel


def read(path: Path, content: bytes, prefix: str = "") -> Areas:
    path.write_bytes(content)
    return read_areas(open_kernel(parse(f"{prefix}{path}")))  # without what areas_of() makes of errors


def problems(found: Areas) -> list[str]:
    return [*found.problems, *(one for area in found.areas for one in area.problems)]


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), catch_exceptions=True)
    if result.exception and not isinstance(result.exception, SystemExit):
        assert isinstance(result.exception, InputError), result.exception
        return 2, str(result.exception)
    return result.exit_code, result.output


class TestAreas:
    @pytest.mark.parametrize("arch", MACHINES)
    @pytest.mark.parametrize(("nodes", "symbols"), [(3, "base"), (0, "percpu"), (1, "place")])
    def test_every_area_and_every_page_is_found(self, arch: str, nodes: int, symbols: str, tmp_path: Path) -> None:
        kernel = sound(name=arch, nodes=nodes, symbols_as=symbols).finish()
        found = read(tmp_path / "vmcore", kernel.elf())
        assert not problems(found)
        assert [area.kind for area in found.areas] == ["vmap", "vmalloc", "vmap", "ioremap"]
        assert [area.caller for area in found.areas] == [f"driver_map+{at:#x}/0x100" for at in (16, 32, 48, 64)]
        assert found.areas[0].pfn.tolist() == of(kernel, 0, 1, 2, 9)
        assert found.areas[0].start == kernel.machine.vmalloc
        listed = found.areas[1].pages
        assert listed is not None
        assert listed.tolist() == found.areas[1].pfn.tolist() == of(kernel, 21, 20)
        assert found.translated == 27
        assert found.kernel.release == "6.99-made-by-hand"

    @pytest.mark.parametrize("arch", ["x86_64", "arm64-64k"])
    def test_all_kinds_of_files_have_the_same(self, arch: str, tmp_path: Path) -> None:
        kernel = sound(name=arch).finish()
        contents = [
            ("", kernel.elf()),
            ("", kernel.elf(note=False)),
            ("vmcore:", kernel.kdump()),
            ("vmcore:", kernel.kdump(note=False)),
            ("vmcore:", kernel.kdump(flag=0)),
            ("vmcore:", flattened(kernel.elf())),
            ("vmcore:", flattened(kernel.kdump())),
            ("ram:", bytes(kernel.memory)),
            ("kcore:", kernel.elf()),
        ]
        for prefix, content in contents:
            found = read(tmp_path / "memory", content, prefix)
            assert not problems(found)
            assert [len(area.va) for area in found.areas] == [4, 2, 20, 1]

    @pytest.mark.parametrize(("kind", "flag"), [("snappy", 4), ("zstd", 0x20)])
    def test_pages_are_unpacked(self, kind: str, flag: int, tmp_path: Path) -> None:
        codec = pa.Codec(kind)
        kernel = sound().finish()
        found = read(tmp_path / "vmcore", kernel.kdump(lambda page: codec.compress(page, asbytes=True), flag))
        assert [len(area.va) for area in found.areas] == [4, 2, 20, 1]

    @pytest.mark.parametrize(("kind", "flag"), [("snappy", 4), ("zstd", 0x20), ("", 1)])
    def test_a_page_that_is_packed_too_short_is_no_page(self, kind: str, flag: int, tmp_path: Path) -> None:
        pack = (
            (lambda page: pa.Codec(kind).compress(page[:2000], asbytes=True))
            if kind
            else (lambda page: zlib.compress(page[:2000]))
        )
        with pytest.raises(InputError, match=r"holds \d+ bytes for page|its page tables do not lead|has no VMCOREINFO"):
            read(tmp_path / "vmcore", sound().finish().kdump(pack, flag))

    def test_pages_of_lzo_are_unpacked_or_the_library_is_named(self, tmp_path: Path) -> None:
        kernel = sound().finish()
        try:
            from lzallright import LZOCompressor
        except ImportError:
            with pytest.raises(InputError, match=r"compressed with LZO: pip install lzallright"):
                read(tmp_path / "vmcore", kernel.kdump(zlib.compress, 2))
            return
        squeeze = LZOCompressor()
        found = read(tmp_path / "vmcore", kernel.kdump(lambda page: bytes(squeeze.compress(page)), 2))
        assert [len(area.va) for area in found.areas] == [4, 2, 20, 1]

    def test_a_stale_note_is_passed_over(self, tmp_path: Path) -> None:
        kernel = sound().finish()
        stale = kernel.take(kernel.page)
        start = kernel.note_at - kernel.machine.ram
        old = bytes(kernel.memory[start : start + kernel.page]).replace(b"SYMBOL(_stext)=", b"SYMBOL(_stext)=f")
        kernel.write(stale, bytes(kernel.memory[start : start + kernel.page]))
        kernel.write(kernel.note_at, old)
        assert len(read(tmp_path / "vmcore", kernel.elf(note=False)).areas) == 4

    def test_a_group_of_contiguous_entries_is_one_leaf(self, tmp_path: Path) -> None:
        kernel = Kernel("arm64-4k")
        kernel.area(16, of(kernel, *range(8, 24)))
        for index in range(16):
            at = kernel.at[f"pte 0.{index}"]
            start = at - kernel.machine.ram
            kernel.word(at, int.from_bytes(kernel.memory[start : start + 8], "little") | 1 << 52)
        found = read(tmp_path / "vmcore", kernel.finish().elf())
        assert found.areas[0].leaves["size"].tolist() == [1 << 16]
        assert not problems(found)

    def test_what_each_release_would_build_is_told(self, tmp_path: Path) -> None:
        kernel = Kernel("arm64-4k")
        kernel.area(0, of(kernel, *range(8, 40)))
        kernel.area(64, of(kernel, 41, 43, 45))
        kernel.area(96, of(kernel, 50), VM_IOREMAP)
        found = read(tmp_path / "vmcore", kernel.finish().elf())
        now, then = would(found, ["linux-6.12", "mm-unstable"])
        first, second = (area.start for area in found.areas[:2])
        assert now.tlb == {first: 32, second: 3}
        assert then["linux-6.12"].tlb == {first: 32, second: 3}
        assert then["mm-unstable"].tlb == {first: 2, second: 3}
        assert then["mm-unstable"].leaves == {1 << 16: 2, 1 << 12: 3}

    def test_an_area_of_percpu_has_no_guard_page(self, tmp_path: Path) -> None:
        kernel = Kernel()
        kernel.area(0, of(kernel, 1, 2), VM_ALLOC)
        kernel.map(kernel.machine.vmalloc + 2 * 4096, of(kernel, 3)[0] * 4096)
        found = read(tmp_path / "vmcore", kernel.finish().elf())
        assert not problems(found)
        assert found.areas[0].size(4096) == 3 * 4096

    def test_what_is_not_counted_is_told_with_its_reason(self, tmp_path: Path) -> None:
        kernel = Kernel("arm64-4k")
        kernel.area(0, of(kernel, *range(8, 24)), 0x10)
        kernel.area(32, of(kernel, 50), VM_IOREMAP)
        kernel.area(40, of(kernel, 60, 61), VM_ALLOC)
        (tmp_path / "vmcore").write_bytes(kernel.finish().elf())
        said = run("areas", str(tmp_path / "vmcore"), "-r", "mm-unstable")[1]
        assert "vmap() of the pages of 1 of them, each in an empty space (not: 1 ioremap, 1 not wholly mapped):" in said
        found = json.loads(run("areas", str(tmp_path / "vmcore"), "-r", "mm-unstable", "--json")[1])
        assert [area["not_counted"] for area in found["areas"]] == [None, "ioremap", "not wholly mapped"]
        assert found["areas"][0]["vmap"] == {"mm-unstable": 1}
        assert found["areas"][0]["address"] == kernel.machine.vmalloc

    def test_ranges_may_lie_in_each_other(self) -> None:
        class Some(Ranged):
            def _pread(self, offset: int, size: int) -> bytes:
                return bytes([offset]) * size

        memory = Some("x", [Range(8, 4, 40), Range(0, 32, 0), Range(30, 6, 90), Range(64, 8, 64), Range(31, 1, 200)])
        assert memory.ranges == [Range(0, 32, 0), Range(32, 4, 92), Range(64, 8, 64)]
        assert memory.read_phys(30, 4) == bytes([30, 30, 92, 92])
        for at in (36, 63, 72):
            with pytest.raises(Unreadable, match=f"does not have physical address {at:#x}"):
                memory.read_phys(at, 1)

    @pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
    def test_types_and_symbols_come_from_a_vmlinux_where_memory_has_none(self, tmp_path: Path) -> None:
        """DWARF of mm/vmalloc.c; the kernel lies elsewhere than its file says."""
        kernel = sound().finish(types=False)
        members = {name: sorted(offsets.items(), key=lambda one: one[1]) for name, (_, offsets) in STRUCTS.items()}
        kinds = {"list": "struct list_head list", "busy": "struct rb_list busy", "vm": "union { long t; void *vm; }"}
        kinds |= {
            "rb_node": "long rb_node[3]",
            "nr_pages": "int nr_pages",
            "page_order": "int page_order",
            "caller": "long caller[2]",
        }
        kinds |= {
            "head": "struct list_head head; long lock",
            "root": "long root",
            "pool": "long pool[8]",
            "lazy": "long lazy[4]",
        }
        code = ""
        for name in ("list_head", "vmap_area", "vm_struct", "rb_list", "vmap_node"):
            fields = "".join(f" {kinds.get(member, 'long ' + member)};" for member, _ in members[name])
            code += f"struct {name} {{{fields} }} {name}_;\n"
        (tmp_path / "mm").mkdir()
        (tmp_path / "mm" / "vmalloc.c").write_text(code)
        moved = 0x40_0000
        named = [f"-Wl,--defsym={name}={hex(va - moved)}" for name, va in kernel.symbols.items()]
        words = ["gcc", "-g", "-O0", "-nostdlib", "-static", "-Wl,-e0", "-o", "vmlinux", "mm/vmalloc.c", *named]
        subprocess.run(words, cwd=tmp_path, check=True)
        path = tmp_path / "vmcore"
        path.write_bytes(kernel.elf())
        with pytest.raises(InputError, match="no BTF"):
            areas_of(str(path))
        found = areas_of(f"{path},vmlinux={tmp_path}/vmlinux")
        assert not found.damaged
        assert [len(area.va) for area in found.areas] == [4, 2, 20, 1]
        assert found.areas[0].caller == "driver_map+0x10/0x100"
        types = types_of(tmp_path / "vmlinux")
        for name, (size, offsets) in STRUCTS.items():
            assert types.size(name) == size
            for member, offset in offsets.items():
                assert types.offset(name, member) == offset
        assert types.offset("vmap_node", "busy.head") == 72
        assert types.offset("vmap_node", "busy.none") is None


class TestDamage:
    """What is put in is named, with where it is; the rest is shown all the same."""

    def broken(self, tmp_path: Path, where: str, value: int, size: int = 8, offset: int = 0) -> Areas:
        kernel = sound().finish()
        kernel.word(kernel.at[where] + offset, value, size)
        return read(tmp_path / "vmcore", kernel.elf())

    def test_another_frame_than_the_listed(self, tmp_path: Path) -> None:
        kernel = sound().finish()
        at, other = kernel.at["pte 1.1"], of(kernel, 77)[0]
        kernel.word(at, kernel.machine.leaf(other * kernel.page, 0))
        found = read(tmp_path / "vmcore", kernel.elf())
        assert problems(found) == [
            f"{kernel.machine.vmalloc + 9 * 4096:#x} is mapped to PFN {other:#x}, and pages[1] is PFN "
            f"{of(kernel, 20)[0]:#x} (1 of 2 differ)"
        ]

    @pytest.mark.parametrize(
        ("where", "value", "size", "offset", "said"),
        [
            ("pte 1.1", 0, 8, 0, "pages[1] of 2 is not mapped (1 are not)"),
            ("pte 2.3", 0, 8, 0, "19 of its 20 pages are mapped"),
            ("vm_struct 1", 1 << 31, 4, 44, "it has 2147483648 pages, and room for 2"),
            ("vm_struct 1", 0x1234, 8, 32, "its pages at 0x1234 cannot be read"),
            ("pages 1", 0xFFFF_EA00_0000_0001, 8, 0, "its pages[0] is 0xffffea0000000001, which is no struct page"),
            ("vm_struct 0", 1 << 40, 8, 16, "its vm_struct at"),
            ("vmap_area 0", 0x10, 8, 56, "its vm_struct at 0x10 cannot be read"),
            ("vmap_area 2", 0, 8, 0, "which is no area"),
            ("vmap_area 2", 7, 8, 8, "which is no area"),
            ("vmap_area 0", 0xDEAD_0000, 8, 40, "the list of vmap_nodes[0] is broken after"),
            ("vmap_area 2", 0xDEAD_0000, 8, 48, "has 0xdead0000 before it"),
            ("head 0", 0, 8, 0, "the list of vmap_nodes[0] is broken"),
        ],
    )
    def test_what_is_broken_is_named(
        self, where: str, value: int, size: int, offset: int, said: str, tmp_path: Path
    ) -> None:
        found = self.broken(tmp_path, where, value, size, offset)
        assert any(said in one for one in problems(found)), problems(found)
        assert len(found.areas) >= 2

    def test_a_guard_page_that_is_mapped(self, tmp_path: Path) -> None:
        kernel = sound()
        kernel.map(kernel.machine.vmalloc + 4 * 4096, of(kernel, 99)[0] * 4096)
        assert problems(read(tmp_path / "vmcore", kernel.finish().elf())) == ["its guard page is mapped"]

    def test_areas_that_overlap(self, tmp_path: Path) -> None:
        kernel = sound()
        kernel.area(10, of(kernel, 70, 71))
        found = read(tmp_path / "vmcore", kernel.finish().elf())
        assert f"begins inside the area of {kernel.machine.vmalloc + 8 * 4096:#x}" in problems(found)

    def test_a_list_that_comes_back(self, tmp_path: Path) -> None:
        kernel = sound(nodes=1).finish()
        second = kernel.linear(kernel.at["vmap_area 1"]) + 40
        kernel.word(kernel.at["vmap_area 3"] + 40, second)
        found = read(tmp_path / "vmcore", kernel.elf())
        assert any("the list of vmap_nodes[0] is broken" in one for one in found.problems)
        assert len(found.areas) == 4

    def test_a_block_that_reaches_in_from_outside(self, tmp_path: Path) -> None:
        kernel = Kernel()
        kernel.map(kernel.machine.vmalloc, kernel.machine.ram, level=1)
        kernel.area(512, of(kernel, 1, 2))
        one = kernel.at["vmap_area 0"]
        kernel.word(one, kernel.machine.vmalloc + 511 * 4096)
        found = read(tmp_path / "vmcore", kernel.finish().elf())
        assert f"a leaf that begins at {kernel.machine.vmalloc:#x} reaches into it" in problems(found)

    def test_a_table_that_points_to_itself(self, tmp_path: Path) -> None:
        kernel = sound().finish()
        table = kernel.at["pte 0.0"] & ~4095
        half = kernel.machine.vmalloc & (1 << 48) - 1
        middle = kernel._tables[1, half >> 30]
        for number in range(1, 512):
            kernel.word(middle + 8 * number, kernel.machine.table(middle))
        kernel.word(table + 8 * 511, kernel.machine.table(table))
        found = read(tmp_path / "vmcore", kernel.elf())
        assert len(found.areas) == 4

    def test_the_command_says_it_and_ends_with_one(self, tmp_path: Path) -> None:
        self.broken(tmp_path, "pte 1.1", 0)
        status, said = run("areas", str(tmp_path / "vmcore"), "-r", "linux-6.12")
        assert status == 1
        assert "1 area is not what it says:\n" in said
        assert "(driver_map+0x20/0x100): pages[1] of 2 is not mapped (1 are not)" in said

    def test_what_a_kernel_calls_itself_cannot_steer_a_terminal(self, tmp_path: Path) -> None:
        kernel = sound().finish()
        kernel.info = kernel.info.replace("made-by-hand", "\x1b[2Jmade")
        assert "\x1b" not in read(tmp_path / "vmcore", kernel.elf()).kernel.release


class TestHostile:
    @pytest.mark.parametrize("kind", ["elf", "kdump", "flattened", "ram"])
    def test_a_file_that_is_cut_off_anywhere_is_said_in_one_line(self, kind: str, tmp_path: Path) -> None:
        kernel = sound().finish()
        prefix = "ram:" if kind == "ram" else ""
        content = {
            "elf": kernel.elf(),
            "kdump": kernel.kdump(),
            "flattened": flattened(kernel.kdump()),
            "ram": bytes(kernel.memory),
        }[kind]
        for size in [*range(0, 600, 40), *np.linspace(600, len(content) - 1, 40).astype(int).tolist()]:
            try:
                read(tmp_path / "vmcore", content[:size], prefix)
            except InputError as error:
                assert "\n" not in str(error)
                assert str(tmp_path) in str(error)

    @pytest.mark.parametrize("arch", ["x86_64", "arm64-4k", "riscv64-sv39"])
    @pytest.mark.parametrize("kind", ["elf", "kdump", "flattened"])
    def test_whatever_is_in_it_is_an_answer_or_one_line(self, arch: str, kind: str, tmp_path: Path) -> None:
        kernel = sound(name=arch).finish()
        content = {"elf": kernel.elf, "kdump": kernel.kdump, "flattened": lambda: flattened(kernel.kdump())}[kind]()
        wanted = [n for n in range(0, len(content), 8) if content[n : n + 8] != bytes(8)]

        @settings(max_examples=60, deadline=None)
        @given(st.lists(st.tuples(st.sampled_from(wanted), st.sampled_from(VALUES)), min_size=1, max_size=6))
        def tried(changes: list[tuple[int, int]]) -> None:
            broken = bytearray(content)
            for at, value in changes:
                broken[at : at + 8] = value.to_bytes(8, "little")
            try:
                read(tmp_path / "vmcore", bytes(broken))
            except InputError as error:
                assert "\n" not in str(error)

        tried()

    @pytest.mark.parametrize("where", ["note", "btf", "head 0", "vmap_area 0", "vm_struct 1", "pages 1"])
    def test_no_number_in_its_structures_is_believed(self, where: str, tmp_path: Path) -> None:
        kernel = sound().finish()
        for offset in range(0, 72, 4):
            for value in VALUES:
                broken = Kernel.__new__(Kernel)
                broken.__dict__.update(kernel.__dict__, memory=bytearray(kernel.memory))
                broken.word(kernel.at[where] + offset, value)
                try:
                    read(tmp_path / "vmcore", broken.elf(note=where != "note"))
                except InputError as error:
                    assert "\n" not in str(error)

    def test_a_broken_note_before_the_right_one_is_passed_over(self, tmp_path: Path) -> None:
        kernel = sound().finish()
        other = kernel.take(kernel.page)
        start = kernel.note_at - kernel.machine.ram
        good = bytes(kernel.memory[start : start + kernel.page])
        kernel.write(other, good)
        for broken in (
            good.replace(b"NUMBER(phys_base)", b"NUMBER(phys_bass)"),
            good.replace(b"PAGESIZE=4096", b"PAGESIZE=9x96"),
        ):
            kernel.write(kernel.note_at, broken)
            assert len(read(tmp_path / "vmcore", kernel.elf(note=False)).areas) == 4

    def test_types_that_have_themselves_and_names_without_end_are_limited(self, tmp_path: Path) -> None:
        record = struct.pack("<III", 1, 4 << 24 | 4, 8) + b"".join(struct.pack("<III", 0, 1, 0) for _ in range(4))
        names = b"\0vm_struct\0" + b"x" * (1 << 20)
        head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(record), len(record), len(names))
        types = Btf(head + record + names)
        assert types.offset("vm_struct", "pages") is None
        long = struct.pack("<III", 12, 4 << 24, 8)
        assert Btf(struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, 12, 12, len(names)) + long + names).size("x") is None

    def test_large_leaves_are_counted_and_not_spread(self, tmp_path: Path) -> None:
        kernel = Kernel()
        for number in range(16):
            kernel.map(kernel.machine.vmalloc + (number << 30), number << 30, level=2)
        kernel.area(0, [], VM_IOREMAP)
        kernel.word(kernel.at["vmap_area 0"] + 8, kernel.machine.vmalloc + (16 << 30) + 4096)
        kernel.word(kernel.at["vm_struct 0"] + 16, (16 << 30) + 4096)
        found = read(tmp_path / "vmcore", kernel.finish().elf())
        assert found.areas[0].large
        assert found.areas[0].leaves["size"].tolist() == [1 << 30] * 16
        assert not found.damaged

    @pytest.mark.parametrize(
        "said", ['{"error": "no"}', '{"error": {"desc": "\\u001b[31m"}}', "[" * 100_000, "7", "{}"]
    )
    def test_a_monitor_that_answers_anything_is_one_line(self, said: str, socket_path: Path) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(socket_path))
        listener.listen(1)

        def serve() -> None:
            line, _ = listener.accept()
            with suppress(OSError):
                line.sendall(b'{"QMP": {}}\n' + said.encode() + b"\n")
                line.recv(1000)
                line.close()

        threading.Thread(target=serve, daemon=True).start()
        status, line = run("areas", f"qemu:{socket_path}")
        assert status == 2
        assert "\n" not in line

    def test_noise_is_no_vmcore(self, tmp_path: Path) -> None:
        noise = np.random.default_rng(1).integers(0, 256, 1 << 20, dtype=np.uint8).tobytes()
        for prefix, head in [
            ("", b""),
            ("ram:", b""),
            ("", b"\x7fELF\2\1\1"),
            ("", b"KDUMP   "),
            ("", b"makedumpfile\0\0\0\0"),
        ]:
            with pytest.raises(InputError):
                read(tmp_path / "vmcore", head + noise, prefix)


VALUES = [0, 1, 7, 0xFFF, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 0xFFFF_8880_0000_0000]


class TestBadInput:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("vmcore:{tmp}/none", "cannot read '{tmp}/none': No such file or directory"),
            ("vmcore:{tmp}", "'{tmp}' is a directory"),
            ("vmcore:", "'vmcore:' names no file; write vmcore:FILE"),
            (
                "vmcore:{tmp}/zeros",
                "'{tmp}/zeros' is no vmcore, which is ELF or kdump-compressed: it begins with zeros",
            ),
            ("ram:{tmp}/vmcore", "'{tmp}/vmcore' is a vmcore, no plain RAM: say vmcore:{tmp}/vmcore"),
            ("/dev/zero", "'/dev/zero' is no file that can be read at offsets: write it to one first"),
            ("vmcore:{tmp}/empty", "'{tmp}/empty' is no vmcore, which is ELF or kdump-compressed: it is empty"),
            ("ram:{tmp}/zeros", "'{tmp}/zeros' has no VMCOREINFO: it is no memory of a kernel that can be read"),
            ("qemu:{tmp}/zeros", "cannot connect to '{tmp}/zeros': Connection refused"),
            ("{tmp}/vmcore,area=0x10", "area= and caller= choose one area to map or capture; here all are listed"),
            ("{tmp}/vmcore,vmlinux={tmp}/zeros", "'{tmp}/zeros' is no ELF file: a vmlinux is needed"),
            ("{tmp}/bare", "'{tmp}/bare': the kernel has no BTF (CONFIG_DEBUG_INFO_BTF): give its ,vmlinux=FILE"),
        ],
    )
    def test_it_is_one_line_and_status_two(self, words: str, said: str, tmp_path: Path) -> None:
        (tmp_path / "zeros").write_bytes(bytes(1 << 16))
        (tmp_path / "empty").write_bytes(b"")
        (tmp_path / "vmcore").write_bytes(sound().finish().elf())
        (tmp_path / "bare").write_bytes(sound().finish(types=False).elf())
        status, line = run("areas", words.format(tmp=tmp_path))
        assert status == 2
        assert said.format(tmp=tmp_path) in line
        assert "\n" not in line

    def test_an_elf_file_of_another_kind_or_machine(self, tmp_path: Path) -> None:
        content = bytearray(sound().finish().elf())
        for at, value, said in [
            (16, 2, "no core file"),
            (18, 40, "is of machine 40"),
            (4, 1, "no 64-bit"),
            (18, 183, "no architecture"),
        ]:
            broken = content.copy()
            broken[at] = value
            with pytest.raises(InputError, match=said):
                read(tmp_path / "vmcore", bytes(broken))

    def test_options_in_a_source(self) -> None:
        source = parse("vmcore:/a,b,vmlinux=/v,caller=f")
        assert (source.kind, str(source.path), source.options) == ("vmcore", "/a,b", {"vmlinux": "/v", "caller": "f"})
        assert str(parse("kcore:").path) == "/proc/kcore"
        with pytest.raises(InputError, match="not both"):
            parse("x,area=0x1,caller=f")
        with pytest.raises(InputError, match="twice"):
            parse("x,area=0x1,area=0x2")


class TestPages:
    """An area as a page array, for all commands that take one."""

    @pytest.fixture
    def vmcore(self, tmp_path: Path) -> Path:
        kernel = Kernel("arm64-4k")
        kernel.area(0, of(kernel, *range(8, 40)))
        kernel.area(64, of(kernel, 41, 43, 45), caller=0x20)
        path = tmp_path / "vmcore"
        path.write_bytes(kernel.finish().elf())
        return path

    def test_an_area_is_chosen_by_an_address_in_it(self, vmcore: Path) -> None:
        start = MACHINES["arm64-4k"].vmalloc
        array = pages.load(f"vmcore:{vmcore},area={start + 65 * 4096:#x}", "arm64-4k")
        assert array.page_size == 4096
        assert array.tolist() == of(Kernel("arm64-4k"), 41, 43, 45)

    def test_map_and_capture_take_it(self, vmcore: Path, tmp_path: Path) -> None:
        source = f"vmcore:{vmcore},area={MACHINES['arm64-4k'].vmalloc:#x}"
        assert "vmap() of 32 pages" in run("map", source)[1]
        status, said = run("capture", source, "-o", str(tmp_path / "a.parquet"))
        assert (status, said) == (0, f"32 pages of 4K written to {tmp_path}/a.parquet\n")
        assert len(pages.load(str(tmp_path / "a.parquet"), "arm64-4k")) == 32

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("", "say which area of"),
            (",area=zz", "'zz' is no address; write area=0xffff"),
            (",bogus=1", "unknown option 'bogus=' in"),
            (",area=0x10", "no area has 0x10; 'vmaplab areas' lists them"),
            (",caller=nobody", "no area was made by nobody()"),
            (",caller=driver_map", "driver_map() made 2 areas: say area=, one of 0xffff"),
        ],
    )
    def test_which_one_is_meant_has_to_be_clear(self, vmcore: Path, words: str, said: str) -> None:
        with pytest.raises(InputError, match=said.replace("(", r"\(").replace(")", r"\)")):
            pages.load(f"vmcore:{vmcore}{words}", "arm64-4k")

    def test_a_caller_with_one_area_is_enough(self, tmp_path: Path) -> None:
        kernel = Kernel()
        kernel.area(0, of(kernel, 5, 3))
        (tmp_path / "vmcore").write_bytes(kernel.finish().elf())
        assert pages.load(f"vmcore:{tmp_path}/vmcore,caller=driver_map", "x86_64").tolist() == of(kernel, 5, 3)

    def test_the_architecture_is_that_of_the_kernel(self, tmp_path: Path) -> None:
        kernel = Kernel("riscv64-sv39")
        kernel.area(0, of(kernel, 5, 3))
        (tmp_path / "vmcore").write_bytes(kernel.finish().elf())
        source = f"vmcore:{tmp_path}/vmcore,caller=driver_map+0x10/0x100"
        said = run("map", source)[1]
        assert said.startswith("vmap() of 2 pages (8K) on riscv64-sv39, mm-unstable\nthe area at 0xffffffc800000000 (")
        assert "on arm64-4k" in run("map", source, "--arch", "arm64-4k")[1]

    def test_a_file_that_changed_is_read_again(self, tmp_path: Path) -> None:
        source = f"vmcore:{tmp_path}/vmcore,caller=driver_map"
        for pfns in ((5, 3), (8, 9, 11)):
            kernel = Kernel()
            kernel.area(0, of(kernel, *pfns))
            (tmp_path / "vmcore").write_bytes(kernel.finish().elf())
            assert f"vmap() of {len(pfns)} pages" in run("map", source)[1]
            assert pages.load(source, "x86_64").tolist() == of(kernel, *pfns)

    def test_what_no_vmap_has_made_is_refused(self, tmp_path: Path) -> None:
        kernel = sound()
        at = kernel.machine.vmalloc + 700 * 4096
        kernel.finish()
        kernel.word(kernel.at["pte 1.1"], kernel.machine.leaf(of(kernel, 77)[0] * 4096, 0))
        (tmp_path / "vmcore").write_bytes(kernel.elf())
        with pytest.raises(InputError, match=r"\(ioremap\) maps physical addresses, and no page array"):
            pages.load(f"vmcore:{tmp_path}/vmcore,area={at:#x}", "x86_64")
        with pytest.raises(InputError, match=r"is damaged: .* differ"):
            pages.load(f"vmcore:{tmp_path}/vmcore,caller=driver_map+0x20/0x100", "x86_64")
        with pytest.raises(InputError, match="is of a vmcore:, kcore:, qemu: or ram: source: vmcore:x,area=0x1"):
            pages.load("x,area=0x1", "x86_64")

    def test_pages_of_another_size_are_refused(self, vmcore: Path) -> None:
        with pytest.raises(InputError, match="counts pages of 4K, arm64-64k has pages of 64K"):
            pages.load(f"vmcore:{vmcore},area={MACHINES['arm64-4k'].vmalloc:#x}", "arm64-64k")


class TestOutput:
    @pytest.mark.parametrize(("name", "broken"), [("vmcore", False), ("vmcore-broken", True)])
    def test_the_example_is_what_it_says(self, name: str, broken: bool) -> None:
        assert (EXAMPLES / name).read_bytes() == example(broken)

    def test_json_has_every_area(self, tmp_path: Path) -> None:
        (tmp_path / "vmcore").write_bytes(sound(name="arm64-4k").finish().elf())
        status, said = run("areas", str(tmp_path / "vmcore"), "--json", "-r", "linux-6.12,mm-unstable")
        found = json.loads(said)
        assert status == 0
        assert (found["schema"], found["arch"], found["kernel"]) == (2, "arm64-4k", "6.99-made-by-hand")
        assert [area["tlb_entries"] for area in found["areas"]] == [4, 2, 20, 1]
        assert found["areas"][3]["vmap"] is None
        assert found["sums"]["now"] == {"areas": 3, "leaves": {"4096": 26}, "tlb_entries": 26}
        assert set(found["areas"][0]["vmap"]) == {"linux-6.12", "mm-unstable"}

    def test_the_table_says_what_was_looked_at(self, tmp_path: Path) -> None:
        (tmp_path / "vmcore").write_bytes(sound().finish().elf())
        said = run("areas", str(tmp_path / "vmcore"), "--rows", "1")[1]
        assert "6.99-made-by-hand (x86_64): 4 vmalloc areas, 27 pages of 4K mapped by 27 TLB entries" in said
        assert "... and 3 more (--rows 4 shows all)" in said
        assert "translates 27 pages of 27 alike; 2 pages of vm_struct.pages are held against them" in said
        assert "nothing is wrong with any of them" in said


class Qemu(threading.Thread):
    """What QEMU's monitor answers, for one connection."""

    def __init__(self, path: Path, kernel: Kernel) -> None:
        super().__init__(daemon=True)
        self.kernel, self.asked = kernel, 0
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)

    def run(self) -> None:
        line, _ = self.listener.accept()
        stream = line.makefile("rw")
        stream.write('{"QMP": {}}\n')
        stream.flush()
        for text in stream:
            request = json.loads(text)
            answer = self.answer(request["execute"], request.get("arguments", {}))
            stream.write(json.dumps({"event": "RESUME"}) + "\n" + json.dumps(answer) + "\n")
            stream.flush()

    def answer(self, command: str, words: dict[str, Any]) -> dict[str, Any]:
        low, high = self.kernel.machine.ram, self.kernel.machine.ram + len(self.kernel.memory)
        if command == "human-monitor-command":
            other = 'FlatView #0\n AS "I/O", root: io\n  0000000000000000-0000000000000007 (prio 0, ram): x\n'
            view = f'FlatView #1\n AS "memory", root: system\n  {low:016x}-{high - 1:016x} (prio 0, ram): ram\n'
            return {"return": other + view}
        if command == "pmemsave":
            self.asked += 1
            start = words["val"] - low
            assert 0 <= start < start + words["size"] <= len(self.kernel.memory)
            Path(words["filename"]).write_bytes(self.kernel.memory[start : start + words["size"]])
        return {"error": {"desc": "no such command"}} if command == "query-target" else {"return": {}}


@pytest.fixture
def socket_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("q") / "qmp"


def test_a_running_machine_is_read_over_its_monitor(socket_path: Path) -> None:
    machine = Qemu(socket_path, sound(name="arm64-4k").finish())
    machine.start()
    found = areas_of(f"qemu:{socket_path}")
    assert [len(area.va) for area in found.areas] == [4, 2, 20, 1]
    assert found.kernel.memory.live
    assert not found.damaged
    assert machine.asked < 60
