# SPDX-License-Identifier: GPL-2.0-only
"""The memory of a kernel that never ran, made by hand: page tables, areas, symbols, types, and files that hold it.

Everything is written here from the formats' documents, by no code that reads them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

PAGE = 4096
VM_IOREMAP, VM_ALLOC, VM_MAP = 1, 2, 4


@dataclass(frozen=True)
class Machine:
    """An architecture, as far as its tables go: ``levels`` from the last up, (shift, bits)."""

    machine: int
    ram: int
    levels: tuple[tuple[int, int], ...]
    leaf: Callable[[int, int], int]
    table: Callable[[int], int]
    image: int
    linear: int
    vmemmap: int
    vmalloc: int
    told: Callable[[int], str]
    page: int = PAGE


def _x86_leaf(phys: int, level: int) -> int:
    return phys | 0x163 | (0x80 if level else 0) | 1 << 63


def _arm64(page_shift: int, levels: tuple[tuple[int, int], ...], t1sz: int) -> Machine:
    half = (1 << 64) - (1 << sum(levels[-1]))
    return Machine(
        183,
        0x4000_0000,
        levels,
        lambda phys, level: phys | (1 if level else 3) | 1 << 10 | 3 << 8 | 0x60 << 48,
        lambda phys: phys | 3,
        half | 0x7000_0000,
        half,
        half | 3 << 31,
        half | 2 << 31,
        lambda phys: (
            f"NUMBER(VA_BITS)={64 - t1sz}\nNUMBER(TCR_EL1_T1SZ)={t1sz:#x}\nNUMBER(PHYS_OFFSET)=0x40000000\n"
            f"NUMBER(kimage_voffset)={(half | 0x7000_0000) - phys:#x}\nNUMBER(VMEMMAP_START)={half | 3 << 31:#x}\n"
        ),
        1 << page_shift,
    )


MACHINES = {
    "x86_64": Machine(
        62,
        0,
        ((12, 9), (21, 9), (30, 9), (39, 9)),
        _x86_leaf,
        lambda phys: phys | 0x67,
        0xFFFF_FFFF_8100_0000,
        0xFFFF_8880_0000_0000,
        0xFFFF_EA00_0000_0000,
        0xFFFF_C900_0000_0000,
        lambda phys: f"NUMBER(phys_base)={phys - 0x100_0000}\nNUMBER(pgtable_l5_enabled)=0\n",
    ),
    "arm64-4k": _arm64(12, ((12, 9), (21, 9), (30, 9), (39, 9)), 16),
    "arm64-4k-39": _arm64(12, ((12, 9), (21, 9), (30, 9)), 25),
    "arm64-16k": _arm64(14, ((14, 11), (25, 11), (36, 11), (47, 1)), 16),
    "arm64-64k": _arm64(16, ((16, 13), (29, 13), (42, 6)), 16),
    "riscv64-sv39": Machine(
        243,
        0x8000_0000,
        ((12, 9), (21, 9), (30, 9)),
        lambda phys, level: phys >> 2 | 0xE7,
        lambda phys: phys >> 2 | 1,
        0xFFFF_FFFF_8000_0000,
        0xFFFF_FFD6_0000_0000,
        0xFFFF_FFC6_0000_0000,
        0xFFFF_FFC8_0000_0000,
        lambda phys: (
            f"NUMBER(VA_BITS)=39\nNUMBER(phys_ram_base)=0x80000000\nNUMBER(VMEMMAP_START)=0xffffffc600000000\n"
            f"NUMBER(va_kernel_pa_offset)={0xFFFF_FFFF_8000_0000 - phys:#x}\n"
        ),
    ),
}
PAGE_STRUCT = 64
STRUCTS: dict[str, tuple[int, dict[str, int]]] = {
    "list_head": (16, {"next": 0, "prev": 8}),
    "vmap_area": (72, {"va_start": 0, "va_end": 8, "rb_node": 16, "list": 40, "vm": 56, "flags": 64}),
    "vm_struct": (
        72,
        {"next": 0, "addr": 8, "size": 16, "flags": 24, "pages": 32, "page_order": 40, "nr_pages": 44}
        | {"phys_addr": 48, "caller": 56},
    ),
    "rb_list": (32, {"root": 0, "head": 8}),
    "vmap_node": (128, {"pool": 0, "busy": 64, "lazy": 96}),
}


def btf(structs: dict[str, tuple[int, dict[str, int]]]) -> bytes:
    """A .BTF section; vm is in an unnamed union, and ``busy`` is a struct rb_list, as in the kernel."""
    names = bytearray(b"\0")

    def name(text: str) -> int:
        names.extend(text.encode() + b"\0")
        return len(names) - len(text) - 1

    records = [struct.pack("<IIII", name("unsigned long"), 1 << 24, 8, 64)]  # type 1
    numbers = {word: number for number, word in enumerate(structs, 2)}
    union = len(structs) + 2
    for word, (size, members) in structs.items():
        record = struct.pack("<III", name(word), 4 << 24 | len(members), size)
        for member, offset in members.items():
            kind = {"busy": numbers.get("rb_list", 1), "list": numbers["list_head"]}.get(member, 1)
            text = 0 if member == "vm" else name(member)
            record += struct.pack("<III", text, union if member == "vm" else kind, offset * 8)
        records.append(record)
    records.append(
        struct.pack("<III", 0, 5 << 24 | 2, 8)
        + struct.pack("<III", name("subtree_max_size"), 1, 0)
        + struct.pack("<III", name("vm"), 1, 0)
    )
    types = b"".join(records)
    head = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(names))
    return head + types + bytes(names)


@dataclass
class Kernel:
    """A kernel in memory.

    :param symbols_as: how kallsyms has addresses: ``base``, ``percpu`` (x86 until 6.14) or ``place`` (from 7.0 on).
    :param nodes: vmap_nodes, as from 6.9 on; 0: one list, as before.
    """

    name: str = "x86_64"
    symbols_as: str = "base"
    nodes: int = 2
    ram_bytes: int = 384 * PAGE
    memory: bytearray = field(init=False)
    at: dict[str, int] = field(default_factory=dict)
    """Names of things -> physical addresses, for tests that break them."""

    def __post_init__(self) -> None:
        self.machine = MACHINES[self.name]
        self.page = self.machine.page
        self.ram_bytes *= self.page // PAGE
        self.memory = bytearray(self.ram_bytes)
        self._free = 16 * self.page
        self.root = self.take(8 * (1 << self.machine.levels[-1][1]))
        self._tables = {(len(self.machine.levels) - 1, 0): self.root}
        self.note_at = self.take(self.page)
        self._image_at = self.take(64 * self.page)
        self._image_used = 0
        for number in range(64):
            self.map(self.machine.image + number * self.page, self._image_at + number * self.page)
        self._heap = self.take(64 * self.page)
        self._heap_used = 0
        for number in range(64):
            self.map(self.linear(self._heap) + number * self.page, self._heap + number * self.page)
        self._areas: list[list[int]] = [[] for _ in range(max(self.nodes, 1))]
        self.symbols: dict[str, int] = {"_stext": self.put(b"\xcc" * 64), "driver_map": self.put(b"\xcc" * 256)}
        self.symbols["after"] = self.put(b"\xcc" * 64)
        heads = max(self.nodes, 1) * (STRUCTS["vmap_node"][0] if self.nodes else 16)
        self._heads = self.put(bytes(heads))

    def take(self, size: int) -> int:
        """Physical memory of so many bytes, aligned to them and to a page."""
        size = -(-size // self.page) * self.page
        align = self.page
        while align < size and size & (size - 1) == 0:
            align <<= 1
        self._free = -(-self._free // align) * align
        found, self._free = self._free, self._free + size
        assert self._free <= self.ram_bytes
        return found + self.machine.ram

    def linear(self, phys: int) -> int:
        """Virtual address in the linear map."""
        return self.machine.linear + phys - self.machine.ram

    def write(self, phys: int, data: bytes) -> None:
        """Bytes into memory."""
        start = phys - self.machine.ram
        self.memory[start : start + len(data)] = data

    def word(self, phys: int, value: int, size: int = 8) -> None:
        """A number into memory."""
        self.write(phys, (value % (1 << 8 * size)).to_bytes(size, "little"))

    def map(self, va: int, phys: int, level: int = 0) -> int:
        """Map a page, or a block of a level above; where its entry is."""
        levels = self.machine.levels
        for above in range(len(levels) - 1, level - 1, -1):
            shift, bits = levels[above]
            half = (1 << sum(levels[-1])) - 1
            prefix = (va & half) >> shift + bits
            table = self._tables[above, prefix]
            where = table + 8 * (va >> shift & (1 << bits) - 1)
            if above == level:
                self.word(where, self.machine.leaf(phys, level))
                return where
            below = above - 1, (va & half) >> shift
            if below not in self._tables:
                self._tables[below] = self.take(8 << levels[above - 1][1])
                self.word(where, self.machine.table(self._tables[below]))
        raise AssertionError

    def put(self, data: bytes) -> int:
        """Bytes into the image; their virtual address."""
        self._image_used = -(-self._image_used // 16) * 16
        at, self._image_used = self._image_used, self._image_used + len(data)
        assert self._image_used <= 64 * self.page
        self.write(self._image_at + at, data)
        return self.machine.image + at

    def phys_of(self, va: int) -> int:
        """Physical address of something in the image."""
        return self._image_at + va - self.machine.image

    def _object(self, size: int) -> int:
        """Physical address of ``size`` bytes of the heap."""
        at, self._heap_used = self._heap_used, self._heap_used + -(-size // 64) * 64
        assert self._heap_used <= 64 * self.page
        return self._heap + at

    def area(
        self,
        start: int,
        pfns: list[int],
        flags: int = VM_MAP,
        listed: bool = False,
        caller: int = 0x10,
        vm: bool = True,
    ) -> int:
        """An area that maps ``pfns`` at ``start`` pages from VMALLOC_START on, with a guard page; its vmap_area.

        :param listed: it has vm_struct.pages.
        """
        va, number = self.machine.vmalloc + start * self.page, sum(map(len, self._areas))
        for index, pfn in enumerate(pfns):
            self.at[f"pte {number}.{index}"] = self.map(va + index * self.page, pfn * self.page)
        one, struct_ = self._object(72), self._object(72)
        self.at[f"vmap_area {number}"], self.at[f"vm_struct {number}"] = one, struct_
        where = STRUCTS["vmap_area"][1]
        size = (len(pfns) + 1) * self.page
        self.word(one + where["va_start"], va)
        self.word(one + where["va_end"], va + size)
        self.word(one + where["vm"], self.linear(struct_) if vm else 0)
        self.word(one + where["flags"], 0 if vm else 1)
        within = STRUCTS["vm_struct"][1]
        self.word(struct_ + within["addr"], va)
        self.word(struct_ + within["size"], size)
        self.word(struct_ + within["flags"], flags)
        self.word(struct_ + within["caller"], self.symbols["driver_map"] + caller)
        if listed:
            pages = self._object(8 * len(pfns))
            self.at[f"pages {number}"] = pages
            base = self.machine.vmemmap
            base -= self.machine.ram // self.page * PAGE_STRUCT if self.machine.machine != 62 else 0
            for index, pfn in enumerate(pfns):
                self.word(pages + 8 * index, base + pfn * PAGE_STRUCT)
            self.word(struct_ + within["pages"], self.linear(pages))
            self.word(struct_ + within["nr_pages"], len(pfns), 4)
        self._areas[number % len(self._areas)].append(one)
        return one

    def finish(self, types: bool = True, note: bool = True) -> Kernel:
        """Write lists, symbols, types and VMCOREINFO."""
        offset = STRUCTS["vmap_area"][1]["list"]
        for number, areas in enumerate(self._areas):
            head = self._heads + (number * 128 + 64 + 8 if self.nodes else 0)
            nodes = [head, *(self.linear(one) + offset for one in areas), head]
            places = [self.phys_of(head), *(one + offset for one in areas)]
            for index, place in enumerate(places):
                self.word(place, nodes[index + 1])
                self.word(place + 8, nodes[index - 1] if index else nodes[-2])
        self.at["head 0"] = self.phys_of(self._heads) + (72 if self.nodes else 0)
        if self.nodes:
            self.symbols["vmap_nodes"] = self.put(struct.pack("<Q", self._heads))
            self.symbols["nr_vmap_nodes"] = self.put(struct.pack("<I", self.nodes))
        else:
            self.symbols["vmap_area_list"] = self._heads
        structs = dict(STRUCTS)
        if not self.nodes:
            del structs["vmap_node"], structs["rb_list"]
        if types:
            section = btf(structs)
            self.symbols["__start_BTF"] = self.put(section)
            self.symbols["__stop_BTF"] = self.symbols["__start_BTF"] + len(section)
            self.at["btf"] = self.phys_of(self.symbols["__start_BTF"])
        told = self._kallsyms()
        info = (
            f"OSRELEASE=6.99-made-by-hand\nPAGESIZE={self.page}\nSIZE(page)={PAGE_STRUCT}\n"
            f"SYMBOL(swapper_pg_dir)={self.machine.image + self.root - self._image_at:x}\n"
            f"SYMBOL(_stext)={self.symbols['_stext']:x}\n"
        )
        info += "".join(f"SYMBOL({name})={va:x}\n" for name, va in told.items())
        self.info = info + self.machine.told(self._image_at)
        self.at["note"] = self.note_at
        if note:
            raw = self.info.encode()
            self.write(self.note_at, struct.pack("<III", 11, len(raw), 0) + b"VMCOREINFO\0\0" + raw)
        return self

    def _kallsyms(self) -> dict[str, int]:
        """The symbol table, every token being one letter; what VMCOREINFO tells of it."""
        ordered = sorted(self.symbols.items(), key=lambda one: one[1])
        names = b"".join(bytes([len(name) + 1]) + b"T" + name.encode() for name, _ in ordered)
        tokens = b"".join(bytes([byte or 1]) + b"\0" for byte in range(256))
        told = {
            "kallsyms_names": self.put(names),
            "kallsyms_num_syms": self.put(struct.pack("<I", len(ordered))),
            "kallsyms_token_table": self.put(tokens),
            "kallsyms_token_index": self.put(b"".join(struct.pack("<H", 2 * byte) for byte in range(256))),
        }
        where = self.put(bytes(4 * len(ordered)))
        base = self.machine.image
        for number, (_, va) in enumerate(ordered):
            offset = va - base
            if self.symbols_as == "percpu":
                offset = -1 - offset
            elif self.symbols_as == "place":
                offset = va - (where + 4 * number)
            self.word(self.phys_of(where) + 4 * number, offset, 4)
        told["kallsyms_offsets"] = where
        if self.symbols_as != "place":
            told["kallsyms_relative_base"] = self.put(struct.pack("<Q", base))
        return told

    def elf(self, note: bool = True) -> bytes:
        """A core file."""
        raw = self.info.encode()
        notes = struct.pack("<III", 11, len(raw), 0) + b"VMCOREINFO\0\0" + raw + bytes(-len(raw) % 4) if note else b""
        start = 64 + 2 * 56 + len(notes)
        ident = b"\x7fELF\2\1\1" + bytes(9)
        head = ident + struct.pack("<HHIQQQIHHHHHH", 4, self.machine.machine, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        segments = struct.pack("<IIQQQQQQ", 4, 0, 64 + 2 * 56, 0, 0, len(notes), len(notes), 0)
        size = len(self.memory)
        segments += struct.pack("<IIQQQQQQ", 1, 0, start, 0, self.machine.ram, size, size, 0)
        return head + segments + notes + bytes(self.memory)

    def kdump(self, compress: Callable[[bytes], bytes] = zlib.compress, flag: int = 1, note: bool = True) -> bytes:
        """A kdump-compressed file; pages of zeros are left out."""
        block, raw = self.page, self.info.encode() if note else b""
        first = self.machine.ram // block
        frames = [
            first + number
            for number in range(len(self.memory) // block)
            if any(self.memory[number * block : (number + 1) * block])
        ]
        most = first + len(self.memory) // block
        bitmap = bytearray(-(-most // 8 // block) * block or block)
        if len(bitmap) * 8 < most:
            bitmap += bytes(block)
        for frame in frames:
            bitmap[frame // 8] |= 1 << frame % 8
        machine = {62: b"x86_64", 183: b"aarch64", 243: b"riscv64"}[self.machine.machine]
        name = b"".join(word.ljust(65, b"\0") for word in (b"Linux", b"", b"", b"", machine, b""))
        head = (b"KDUMP   " + struct.pack("<i", 6) + name).ljust(424, b"\0")
        head += struct.pack("<IiiIIIIII", 1, block, 1, 2 * len(bitmap) // block, most, 0, 0, 0, 0)
        sub = bytearray(104)
        sub[32:48] = struct.pack("<QQ", block + 104, len(raw))
        sub[96:104] = struct.pack("<Q", most)
        out = head.ljust(block, b"\0") + (bytes(sub) + raw).ljust(block, b"\0") + bytes(bitmap) * 2
        data, where, described = b"", len(out) + 24 * len(frames), b""
        for frame in frames:
            start = (frame - first) * block
            page = bytes(self.memory[start : start + block])
            packed = compress(page) if flag else page
            used = flag if len(packed) < block else 0
            packed = packed if used else page
            described += struct.pack("<qIIQ", where + len(data), len(packed), used, 0)
            data += packed
        return out + described + data


def flattened(content: bytes, piece: int = 3000) -> bytes:
    """As makedumpfile -F writes a file: pieces with their offsets, here the last ones first."""
    out = bytearray((b"makedumpfile\0\0\0\0" + struct.pack(">qq", 1, 1)).ljust(4096, b"\0"))
    for start in reversed(range(0, len(content), piece)):
        part = content[start : start + piece]
        out += struct.pack(">qq", start, len(part)) + part
    return bytes(out + struct.pack(">qq", -1, -1))


def example(broken: bool = False) -> bytes:
    """What examples/vmcore holds, and examples/vmcore-broken: kdump-compressed, zlib."""
    kernel = Kernel("arm64-4k")
    start = 0x48000
    kernel.area(0, [start + 0x400 * block + page for block in range(4) for page in range(256)])
    kernel.area(1032, list(range(start + 0x2003, start + 0x2003 + 96)), caller=0x24)
    kernel.area(1136, [start + 0x3000 + 7 * page for page in range(64)], VM_ALLOC, listed=True, caller=0x38)
    for number in range(3):
        first = start + 0x4000 + 64 * number
        kernel.area(1208 + 8 * number, list(range(first, first + 4)), VM_ALLOC, listed=True, caller=0x4C)
    kernel.area(1240, [0x9000 + page for page in range(16)], VM_IOREMAP, caller=0x60)
    kernel.finish()
    if broken:
        kernel.word(kernel.at["pte 2.5"], kernel.machine.leaf((start + 0x3000) << 12, 0))
        kernel.word(kernel.at["vm_struct 4"] + STRUCTS["vm_struct"][1]["nr_pages"], 400, 4)
        kernel.word(kernel.at["vmap_area 6"] + STRUCTS["vmap_area"][1]["vm"], 0xDEAD_BEEF_0000)
    return kernel.kdump(lambda page: zlib.compress(page, 9))


if __name__ == "__main__":
    from pathlib import Path

    for name, broken in (("vmcore", False), ("vmcore-broken", True)):
        (Path(__file__).parent.parent / "examples" / name).write_bytes(example(broken))
