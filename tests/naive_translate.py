# SPDX-License-Identifier: GPL-2.0-only
"""A deliberately naive translator: walks a dump of table memory one address at a time.

Written from the architecture manuals; it shares nothing with vmaplab but the bytes, the address of the first byte
and the address of the top-level table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Ram:
    """Table memory as a machine would see it."""

    base: int
    data: bytes

    def read(self, phys: int, size: int, order: str) -> int:
        start = phys - self.base
        assert 0 <= start <= len(self.data) - size, f"table at {phys:#x} is outside the table memory"
        return int.from_bytes(self.data[start : start + size], order)


def _arm64(ram: Ram, root: int, va: int, page_shift: int) -> int | None:
    bits = page_shift - 3
    shifts = list(range(page_shift, 48, bits))[::-1]
    table = root
    for depth, shift in enumerate(shifts):
        index = (va >> shift) & ((1 << min(bits, 48 - shift)) - 1)
        descriptor = ram.read(table + 8 * index, 8, "little")
        kind = descriptor & 3
        last = depth == len(shifts) - 1
        if not kind & 1:
            assert descriptor == 0
            return None
        output = descriptor & ((1 << 48) - 1) & ~((1 << 12) - 1)
        if last:
            assert kind == 3, "reserved descriptor at the last level"
            return (output >> page_shift << page_shift) | (va & ((1 << page_shift) - 1))
        if kind == 1:
            assert output % (1 << shift) == 0, "block output address is not aligned"
            return output | (va & ((1 << shift) - 1))
        table = output >> page_shift << page_shift if page_shift != 16 or depth else output
    raise AssertionError


def _x86(ram: Ram, root: int, va: int, levels: int) -> int | None:
    table = root
    for level in range(levels - 1, -1, -1):
        shift = 12 + 9 * level
        entry = ram.read(table + 8 * ((va >> shift) & 511), 8, "little")
        if not entry & 1:
            assert entry == 0
            return None
        address = entry & ((1 << 52) - 1) & ~0xFFF
        if level == 0 or entry & 0x80:
            if level:
                assert level <= 2, "page size bit above the PDPT"
                address &= ~0x1000  # PAT of a large page
                assert address % (1 << shift) == 0, "large page is not aligned"
            return address | (va & ((1 << shift) - 1))
        table = address
    raise AssertionError


def _riscv(ram: Ram, root: int, va: int, levels: int) -> int | None:
    table = root
    for level in range(levels - 1, -1, -1):
        shift = 12 + 9 * level
        pte = ram.read(table + 8 * ((va >> shift) & 511), 8, "little")
        if not pte & 1:
            assert pte == 0
            return None
        assert pte >> 54 == 0, "Svnapot or Svpbmt bits"
        ppn = (pte >> 10) & ((1 << 44) - 1)
        if pte & 0b1110:
            assert (ppn << 12) % (1 << shift) == 0, "misaligned superpage"
            return (ppn << 12) | (va & ((1 << shift) - 1))
        assert level, "pointer in the last level"
        table = ppn << 12
    raise AssertionError


def _radix(ram: Ram, root: int, va: int) -> int | None:
    table, bits, top = root, 13, 52
    while True:
        shift = top - bits
        entry = ram.read(table + 8 * ((va >> shift) & ((1 << bits) - 1)), 8, "big")
        if not entry >> 63:
            assert entry == 0
            return None
        if entry >> 62 & 1:
            address = entry & ((1 << 53) - 1) & ~0xFFFF
            assert address % (1 << shift) == 0, "large page is not aligned"
            return address | (va & ((1 << shift) - 1))
        table = entry & ((1 << 60) - 1) & ~0xFF
        top, bits = shift, entry & 0x1F
        assert 5 <= bits <= 16


def _8xx(ram: Ram, root: int, va: int, page_shift: int) -> int | None:
    first = ram.read(root + 4 * (va >> 22), 4, "big")
    if not first & 1:
        assert first == 0
        return None
    # The table is walked in steps of 4 KiB whatever the kernel's page size is.
    cell = ram.read((first & ~0xFFF) + 4 * ((va >> 12) & 1023), 4, "big")
    if not cell & 1:
        assert cell == 0
        return None
    size = 19 if cell & 0x800 else 14 if cell & 0x008 else 12
    return (cell & ~((1 << size) - 1) & ~0xFFF) | (va & ((1 << size) - 1))


def _loongarch(ram: Ram, root: int, va: int) -> int | None:
    table = root
    for shift in (36, 25):
        entry = ram.read(table + 8 * ((va >> shift) & 2047), 8, "little")
        assert entry >> 60 == 9, "an upper entry is no address in the cached window"
        table = entry & ((1 << 48) - 1)
    pte = ram.read(table + 8 * ((va >> 14) & 2047), 8, "little")
    if not pte & 1:
        assert pte in (0, 0x40)
        return None
    return (pte & ((1 << 48) - 1) & ~0x3FFF) | (va & 0x3FFF)


def translate(arch: str, ram: Ram, root: int, va: int) -> int | None:
    """The physical address of ``va``, or None if it faults."""
    walkers = {
        "arm64-4k": lambda: _arm64(ram, root, va, 12),
        "arm64-16k": lambda: _arm64(ram, root, va, 14),
        "arm64-64k": lambda: _arm64(ram, root, va, 16),
        "x86_64": lambda: _x86(ram, root, va, 4),
        "x86_64-la57": lambda: _x86(ram, root, va, 5),
        "riscv64-sv39": lambda: _riscv(ram, root, va, 3),
        "riscv64-sv48": lambda: _riscv(ram, root, va, 4),
        "riscv64-sv57": lambda: _riscv(ram, root, va, 5),
        "powerpc64-radix": lambda: _radix(ram, root, va),
        "powerpc-8xx": lambda: _8xx(ram, root, va, 12),
        "powerpc-8xx-16k": lambda: _8xx(ram, root, va, 14),
        "loongarch64": lambda: _loongarch(ram, root, va),
    }
    return walkers[arch]()
