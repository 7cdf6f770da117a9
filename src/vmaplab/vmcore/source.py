# SPDX-License-Identifier: GPL-2.0-only
"""Where kernel memory comes from, as it is named on the command line."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.calls.flags import VM_IOREMAP
from vmaplab.errors import InputError
from vmaplab.vmcore import elf, kdump
from vmaplab.vmcore.areas import Area, Areas, read_areas
from vmaplab.vmcore.bytesource import PlainFile, open_bytes
from vmaplab.vmcore.image import KernelMemory, info_of
from vmaplab.vmcore.layouts import layout_of
from vmaplab.vmcore.memory import PhysicalMemory
from vmaplab.vmcore.qemu import QemuMemory, RamFile, ram_layouts

KINDS = ("vmcore", "kcore", "qemu", "ram")
SOURCES = "vmcore:FILE, kcore:, qemu:QMP-SOCKET or ram:FILE, each with ,vmlinux=FILE where the kernel has no BTF"
_OPTIONS = ("area", "caller", "vmlinux")
_KCORE = Path("/proc/kcore")
_SHOWN = 6
_kept: dict[tuple[Any, ...], Areas] = {}
"""What was read last: of a file that is as it was then, for its other areas; of what is alive, once."""


class Source(NamedTuple):
    """A source of kernel memory.

    :param kind: of :data:`KINDS`.
    :param options: ``area``, ``caller``, ``vmlinux`` -> what was said.
    """

    kind: str
    path: Path
    options: dict[str, str]


def parse(text: str) -> Source:
    """What ``text`` names: ``vmcore:FILE[,vmlinux=FILE][,area=ADDR|caller=NAME]``; a file alone is a vmcore.

    :raises InputError: for what is none.
    """
    kind, colon, rest = text.partition(":")
    if kind not in KINDS or not colon:
        kind, rest = "vmcore", text
    options: dict[str, str] = {}
    while True:
        head, comma, word = rest.rpartition(",")
        name, equals, value = word.partition("=")
        if not comma or not equals or name not in _OPTIONS:
            break
        if name in options:
            raise InputError(f"'{name}=' is given twice in '{text}'")
        options[name], rest = value, head
    if "area" in options and "caller" in options:
        raise InputError("say area= or caller=, not both")
    path = Path(rest) if rest or kind != "kcore" else _KCORE
    name = rest.rpartition(",")[2].partition("=")[0] if "=" in rest.rpartition(",")[2] and "," in rest else ""
    if name and not os.path.exists(path):  # noqa: PTH110 - which takes any name
        raise InputError(f"unknown option '{name}=' in '{text}'; known: {', '.join(f'{one}=' for one in _OPTIONS)}")
    if not rest and kind != "kcore":
        raise InputError(f"'{text}' names no file; write {SOURCES}")
    return Source(kind, path, options)


def open_kernel(source: Source) -> KernelMemory:
    """The kernel in that memory.

    :raises InputError: if there is none that can be read; one line that says why.
    """
    vmlinux = Path(source.options["vmlinux"]) if "vmlinux" in source.options else None
    if source.kind == "qemu":
        return KernelMemory(QemuMemory(source.path), vmlinux)
    if source.kind == "ram":
        return _in_ram(source.path, vmlinux)
    return KernelMemory(_core(source), vmlinux)


def _core(source: Source) -> PhysicalMemory:
    """A file that says itself where its memory belongs."""
    file = open_bytes(source.path)
    magic = file.pread(0, 8)
    if magic.startswith(elf.MAGIC):
        memory = elf.ElfMemory(file)
        memory.live = source.path == _KCORE
        return memory
    if magic == kdump.MAGIC:
        return kdump.KdumpMemory(file)
    if not magic.strip(b"\0"):
        what = "is empty" if not magic else "begins with zeros"
    elif magic.startswith(b"PAGEDU"):
        what = "is a dump of Windows"
    else:
        what = "begins as neither does (RAM of a machine is ram:FILE)"
    raise InputError(f"{file.name} is no vmcore, which is ELF or kdump-compressed: it {what}")


def _in_ram(path: Path, vmlinux: Path | None) -> KernelMemory:
    """A file that is RAM and nothing else: where it belongs follows from what is in it."""
    file = PlainFile(path)
    if not file.size:
        raise InputError(f"{file.name} is empty")
    if file.pread(0, 8).startswith((elf.MAGIC, kdump.MAGIC, b"makedump")):
        raise InputError(f"{file.name} is a vmcore, no plain RAM: say vmcore:{path}")
    plain = RamFile(file, ram_layouts(file.size, None)[0])
    why = InputError(f"{file.name} has no VMCOREINFO: it is no memory of a kernel that can be read")
    for note in plain.notes():
        layout = layout_of(info_of(note), "")
        found: list[KernelMemory] = []
        for ranges in ram_layouts(file.size, layout) if layout else []:
            memory = RamFile(file, ranges)
            memory.note = note
            try:
                kernel = KernelMemory(memory, vmlinux)
            except InputError as error:
                why = error
                continue
            if _ends_at(kernel, ranges[-1].start + ranges[-1].size):
                return kernel
            found.append(kernel)
        if found:
            return found[0]
    raise why


def _ends_at(kernel: KernelMemory, end: int) -> bool:
    """Whether the kernel says that its memory ends there; where it lies low, it can be read in a wrong place, too."""
    try:
        at = kernel.symbols.get("max_pfn")
        return at is not None and kernel.word(at) * kernel.page_size == end
    except InputError:
        return False


def areas_of(text: str) -> Areas:
    """Every area of the kernel in the memory that ``text`` names.

    :raises InputError: if it cannot be read.
    """
    source = parse(text)
    if "area" in source.options or "caller" in source.options:
        raise InputError("area= and caller= choose one area to map or capture; here all are listed")
    return _read(source)


def _read(source: Source) -> Areas:
    """The areas of a source; what :func:`arch_of` has read of it is not read again, once.

    :raises InputError: if it cannot be read, whatever is in it.
    """
    key = _key(source)
    if key in _kept:
        return _kept[key] if _is_file(source) else _kept.pop(key)
    try:
        found = read_areas(open_kernel(source))
    except InputError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, struct.error) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise InputError(f"'{source.path}' is broken where that was not expected ({what}): please report it") from None
    _kept.clear()
    if _is_file(source):
        _kept[key] = found
    return found


def _is_file(source: Source) -> bool:
    """Whether it stays as it is: no running kernel."""
    return source.kind != "qemu" and source.path.is_file() and source.path != _KCORE


def _key(source: Source) -> tuple[Any, ...]:
    stat = source.path.stat() if _is_file(source) else None
    when = (stat.st_size, stat.st_mtime_ns) if stat else ()
    return source.kind, source.path, source.options.get("vmlinux"), *when


def arrays_of(text: str) -> list[str]:
    """Sources, one for each area that one vmap() could have made.

    :raises InputError: if the memory cannot be read, or has no such area.
    """
    from vmaplab.vmcore.would import comparable

    named = [f"{text},area={area.start:#x}" for area in comparable(areas_of(text))]
    if not named:
        raise InputError(f"'{text}' has no area that maps pages")
    return named


def left_out_of(text: str) -> str:
    """Which areas :func:`arrays_of` does not name, and why; "" if it names all."""
    from vmaplab.vmcore.would import left_out

    told = left_out(areas_of(text))
    return f"left out of '{text}': {told} ('vmaplab areas' says which)" if told else ""


def pages_of(text: str) -> tuple[NDArray[np.uint64], int, str]:
    """The pages that one area maps, in order, their size in bytes, and what area that is.

    :raises InputError: if no area, or more than one, is meant, or it has holes.
    """
    source = parse(text)
    found = _read(source)
    if not source.options.keys() & {"area", "caller"}:
        raise InputError(f"say which area of '{text}': area=ADDRESS or caller=FUNCTION; 'vmaplab areas' lists them")
    kernel, area = found.kernel, _chosen(found.areas, source)
    count = area.size(kernel.page_size) // kernel.page_size
    if area.problems:
        raise InputError(f"the area at {area.start:#x} is damaged: {area.problems[0]}")
    if area.flags & VM_IOREMAP or area.phys:
        raise InputError(f"the area at {area.start:#x} ({area.kind}) maps physical addresses, and no page array")
    if not area.whole(kernel.page_size):
        raise InputError(f"the area at {area.start:#x} maps {len(area.va)} of its {count} pages: no array has holes")
    note = f"the area at {area.start:#x} ({area.kind}, {area.caller or 'no caller'}) of {kernel.release}, {kernel.arch}"
    return area.pfn, kernel.page_size, note


def arch_of(text: str) -> str:
    """The architecture of the kernel in the memory that ``text`` names.

    :raises InputError: if it cannot be read.
    """
    source = parse(text)
    found = _read(source)
    _kept.clear()
    _kept[_key(source)] = found  # the pages are asked for next
    return found.kernel.arch


def _chosen(areas: list[Area], source: Source) -> Area:
    """The one that is meant."""
    if word := source.options.get("area"):
        try:
            address = int(word, 0) if word.startswith("0x") or word.isdecimal() else int(word, 16)
        except ValueError:
            raise InputError(f"'{word}' is no address; write area=0xffff...") from None
        for area in areas:
            if area.start <= address < area.end:
                return area
        raise InputError(f"no area has {address:#x}; 'vmaplab areas' lists them")
    name = source.options["caller"]
    found = [area for area in areas if name in (area.caller, area.caller.partition("+")[0])]
    if not found:
        raise InputError(f"no area was made by {name.partition('+')[0]}(); 'vmaplab areas' lists them with callers")
    if len(found) > 1:
        some = ", ".join(f"{area.start:#x}" for area in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise InputError(f"{name}() made {len(found)} areas: say area=, one of {some}{more}")
    return found[0]


__all__ = ["KINDS", "SOURCES", "arch_of", "areas_of", "arrays_of", "open_kernel", "pages_of", "parse"]
