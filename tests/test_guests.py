# SPDX-License-Identifier: GPL-2.0-only
"""Areas of Debian's kernels that have booted, in dumps and while they run, held against what the kernel says itself."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from documents import blocks
from effort import LONG, nightly
from guests import Guest, Missing, package
from test_capture import kprobe_events
from vmaplab import InputError, pages
from vmaplab.pages.expand import expand
from vmaplab.vmcore.areas import Areas
from vmaplab.vmcore.source import areas_of, pages_of
from vmaplab.vmcore.would import comparable

pytestmark = [pytest.mark.slow, pytest.mark.kernel]

GUESTS = [
    pytest.param(("6.12", "amd64", "", ""), id="6.12-x86_64-la57"),
    pytest.param(("6.12", "arm64", "", ""), id="6.12-arm64"),
    pytest.param(("6.12", "amd64", "pti=on nokaslr", "max,la57=off"), id="6.12-x86_64-pti", marks=nightly),
    pytest.param(("6.1", "amd64", "", ""), id="6.1-x86_64", marks=nightly),
    pytest.param(("6.1", "arm64", "", ""), id="6.1-arm64", marks=nightly),
    pytest.param(("6.12", "arm64", "kpti=1", ""), id="6.12-arm64-kpti", marks=nightly),
    pytest.param(("6.12", "arm64", "", "max"), id="6.12-arm64-lpa2", marks=nightly),
]
RINGS = ("__io_uaddr_map", "io_region", "io_create_region", "ringbuf_map_alloc")
WORDS = {"ioremap", "vmalloc", "vmap", "user", "dma-coherent", "sparse", "vm_map_ram", "vpages"}


def kernel_of(series: str, arch: str, suffix: str = "") -> Path:
    try:
        return package(series, arch, suffix)
    except (Missing, subprocess.SubprocessError) as error:
        pytest.skip(f"Debian's kernel {series} for {arch} cannot be had: {error}")


@pytest.fixture(scope="module", params=GUESTS)
def guest(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    series, arch, append, cpu = request.param
    kernel = kernel_of(series, arch)
    events = kprobe_events(tmp_path_factory.mktemp("tracing"))
    if arch == "arm64":  # which has no vmemmap_base, as the document says
        events = [line.replace(" vmemmap=@vmemmap_base:x64", "") for line in events]
    try:
        one = Guest(kernel, arch, append, cpu, events="\n".join(events) + "\n")
    except Missing as error:
        pytest.skip(str(error))
    with one:
        yield one


def held_against_vmallocinfo(found: Areas, guest: Guest) -> None:
    """Every line of /proc/vmallocinfo is an area, and the other way round; callers, pages, words agree."""
    assert not found.damaged, [*found.problems, *(area for area in found.areas if area.problems)]
    info, areas = guest.vmallocinfo(), {area.start: area for area in found.areas}
    assert info.keys() == areas.keys()
    assert len(areas) > 40
    for start, (end, caller, words) in info.items():
        area = areas[start]
        assert area.end == end
        if "[" not in caller:  # 6.1 for arm64 has no symbol that leads to its modules
            assert area.caller == caller
        told = dict(word.split("=") for word in words.split() if "=" in word)
        assert int(told.get("pages", "0")) == (len(area.pages) if area.pages is not None else 0)
        assert int(told.get("phys", "0"), 16) == area.phys
        assert WORDS & set(words.split()) == WORDS & set(area.kind.split())
    assert found.translated in (0, sum(len(area.va) for area in found.areas))  # no emulated CPU has LPA2


def test_dumps_have_what_the_kernel_lists(guest: Guest, tmp_path: Path) -> None:
    sums = []
    for form in ("elf", "kdump-zlib"):
        found = areas_of(f"vmcore:{guest.dump(tmp_path / form, form)}")
        held_against_vmallocinfo(found, guest)
        assert expand(f"vmcore:{tmp_path / form}") == [
            f"vmcore:{tmp_path / form},area={one.start:#x}" for one in comparable(found)
        ]
        sums.append([(area.start, area.pfn.tolist()) for area in found.areas])
        (tmp_path / form).unlink()
    assert sums[0] == sums[1]


@pytest.mark.parametrize("kind", ["qemu", "ram"])
def test_a_machine_that_runs_has_what_the_kernel_lists(guest: Guest, kind: str) -> None:
    found = areas_of(f"qemu:{guest.monitor}" if kind == "qemu" else f"ram:{guest.ram}")
    assert found.kernel.memory.live
    held_against_vmallocinfo(found, guest)


def test_proc_kcore_has_what_the_kernel_lists(guest: Guest, tmp_path: Path) -> None:
    """Its headers, as the guest's kernel wrote them, and behind each segment what is in the guest's RAM."""
    head = bytes.fromhex(guest.shown("/proc/kcore").strip())
    ram, base = np.memmap(guest.ram, dtype=np.uint8, mode="r"), 0x4000_0000 if "arm64" in guest.arch else 0
    path = Path(guest.room) / "kcore"  # in memory: offsets go to 2^47
    with path.open("wb") as file:
        try:
            file.truncate(1 << 56)
        except OSError:
            pytest.skip(f"no file in {guest.room} can be as large as /proc/kcore")
        file.write(head)
        (offset,) = struct.unpack_from("<Q", head, 32)
        (count,) = struct.unpack_from("<H", head, 56)
        for number in range(count):
            kind, _, at, _, phys, size, _, _ = struct.unpack_from("<IIQQQQQQ", head, offset + 56 * number)
            if kind == 1 and base <= phys < base + len(ram):
                file.seek(at)
                file.write(ram[phys - base :][:size].tobytes())
    held_against_vmallocinfo(areas_of(f"kcore:{path}"), guest)
    path.unlink()


def test_what_a_program_had_mapped_is_there(guest: Guest) -> None:
    """io_uring's rings in memory of the program, a huge page among them, and the BPF ring buffer, mapped twice."""
    found = areas_of(f"ram:{guest.ram}")
    callers = Counter(area.caller.partition("+")[0] for area in found.areas)
    ring = next(area for area in found.areas if area.caller.startswith("ringbuf_map_alloc"))
    data = ring.pfn[-32:]
    assert ring.kind == "vmap user"
    assert np.array_equal(data[:16], data[16:])  # 64 KiB of it follow themselves
    if "6.1." in found.kernel.release:
        return  # IORING_SETUP_NO_MMAP came with 6.5
    name = next(one for one in callers if "io_uaddr_map" in one or "io_region" in one)
    arrays = [area.pfn for area in found.areas if area.caller.startswith(f"{name}+")]
    assert sorted(map(len, arrays), reverse=True)[0] == 512
    largest = next(one for one in arrays if len(one) == 512)
    assert np.array_equal(largest, largest[0] + np.arange(512, dtype=np.uint64))
    assert largest[0] % 512 == 0
    start = next(area.start for area in found.areas if len(area.pfn) == 512 and area.pfn[0] == largest[0])
    array, page_size, _ = pages_of(f"ram:{guest.ram},area={start:#x}")
    assert page_size == 4096
    assert np.array_equal(array, largest)


def test_kprobe_events_trace_the_arrays_that_are_mapped(guest: Guest, tmp_path: Path) -> None:
    """docs/capture.md: every call of vmap() while the program ran, and the area that came of it."""
    lines = guest.shown("/sys/kernel/tracing/trace").splitlines()
    (tmp_path / "trace.txt").write_text("\n".join(line for line in lines if "vmaplab_map" not in line))
    found = areas_of(f"ram:{guest.ram}")
    base = found.kernel.vmemmap
    assert base is not None
    areas = sorted((area.pfn.tolist() for area in found.areas if area.caller.startswith(RINGS)), key=len)
    arch = found.kernel.arch
    number = 0
    traced = []
    while True:
        try:
            words = f"trace:{tmp_path}/trace.txt,call={number},vmemmap={base[0]:#x}"
            traced.append(pages.load(words, arch).tolist())
        except InputError as error:
            assert "has no call" in str(error)
            break
        number += 1
    assert sorted(traced, key=len) == areas
    assert len(areas) == (1 if "6.1." in found.kernel.release else 7)
    if "vmemmap=" in (tmp_path / "trace.txt").read_text():
        assert pages.load(f"trace:{tmp_path}/trace.txt,call=0", arch).tolist() in areas


def test_a_dma_buf_is_traced_when_it_is_mapped(guest: Guest, tmp_path: Path) -> None:
    """The system heap's buffers begin with blocks of order 8, as heap: has them."""
    address = guest.said.partition("dmabuf ")[2].partition("\n")[0]
    if not address:
        pytest.skip("the kernel has no dma-heap")
    lines = guest.shown("/sys/kernel/tracing/trace").splitlines()
    first = next(number for number, line in enumerate(lines) if "vmaplab_map: (remap_pfn_range" in line)
    (tmp_path / "trace.txt").write_text("\n".join(lines[first:]))
    assert f"at=0x{address}" in lines[first]
    found = pages.load(f"trace:{tmp_path}/trace.txt", "x86_64").astype(np.int64)
    assert len(found) == 2048
    starts = found.reshape(-1, 256)
    assert (np.diff(starts, axis=1) == 1).all()
    assert (starts[:, 0] % 256 == 0).all()


@pytest.mark.skipif(not LONG, reason="make nightly: debug information of 318 MB")
def test_drgn_has_the_same_areas_pages_and_tables(tmp_path: Path) -> None:
    drgn = pytest.importorskip("drgn")
    from drgn.helpers.linux.mm import follow_phys, for_each_vmap_area, page_to_pfn

    debug = next(kernel_of("6.12", "amd64", "-dbg").glob("usr/lib/debug/boot/vmlinux-*"))
    with Guest(kernel_of("6.12", "amd64"), "amd64") as guest:
        dump = guest.dump(tmp_path / "vmcore")
    found = areas_of(f"vmcore:{dump}").areas
    largest = next(area for area in found if area.caller.startswith(RINGS) and len(area.pfn) == 512)
    (tmp_path / "pages.py").write_text(blocks("capture.md", "python")[0].replace("ADDRESS", hex(largest.start)))
    words = ["drgn", "-q", "-c", dump, "-s", debug, tmp_path / "pages.py"]
    printed = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=True).stdout
    assert [int(line, 16) for line in printed.split()] == largest.pfn.tolist()
    program = drgn.Program()
    program.set_core_dump(dump)
    program.load_debug_info([debug])
    areas = {area.start: area for area in found}
    memory, seen = program["init_mm"].address_of_(), 0
    for va in for_each_vmap_area(program):
        area = areas.pop(va.va_start.value_())
        assert va.va_end.value_() == area.end
        if va.vm:
            pages = [
                page_to_pfn(va.vm.pages[at]).value_() for at in range(va.vm.nr_pages.value_() if va.vm.pages else 0)
            ]
            assert pages == (area.pages.tolist() if area.pages is not None else [])
            assert va.vm.flags.value_() == area.flags
        mapped = dict(zip(area.va.tolist(), (area.pfn << np.uint64(12)).tolist(), strict=True))
        for address in range(area.start, area.end, 4096):
            try:
                assert follow_phys(memory, address).value_() == mapped.get(address)
                seen += 1
            except drgn.FaultError:
                assert address not in mapped
    assert not areas
    assert seen > 1000


@nightly
def test_ram_behind_the_gap_of_a_pc_is_found_wherever_the_kernel_lies():
    """A kernel that KASLR has put low can be read in a file that is laid out in a wrong way, too."""
    kernel = kernel_of("6.12", "amd64")
    for _ in range(3):
        with Guest(kernel, "amd64", megabytes=3072) as guest:
            held_against_vmallocinfo(areas_of(f"ram:{guest.ram}"), guest)
