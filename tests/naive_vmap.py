# SPDX-License-Identifier: GPL-2.0-only
"""A deliberately naive vmap(): pages in dictionaries, one page at a time, straight from the written rules.

It answers what leaves and counters a mapping has, for every release and architecture, and shares no code
with vmaplab. It assumes an empty page table and an area at VMALLOC_START.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# page shift, level shifts from PMD up, PMD leaf, PTE groups (largest first), VMALLOC_START
ARCHES = {
    "arm64-4k": (12, (21, 30, 39), True, (16,), 0xFFFF800080000000),
    "arm64-16k": (14, (25, 36, 47), True, (21,), 0xFFFF800080000000),
    "arm64-64k": (16, (29, 42), True, (21,), 0xFFFF800080000000),
    "x86_64": (12, (21, 30, 39), True, (), 0xFFFFC90000000000),
    "x86_64-la57": (12, (21, 30, 39, 48), True, (), 0xFFA0000000000000),
    "riscv64-sv39": (12, (21, 30), True, (), 0xFFFFFFC600000000),
    "riscv64-sv48": (12, (21, 30, 39), True, (), 0xFFFF8F8000000000),
    "riscv64-sv57": (12, (21, 30, 39, 48), True, (), 0xFF20000000000000),
    "powerpc64-radix": (16, (21, 30, 39), True, (), 0xC008000000000000),
    "powerpc-8xx": (12, (22,), False, (19, 14), 0xC9000000),
    "powerpc-8xx-16k": (14, (22,), False, (19,), 0xC9000000),
    "loongarch64": (14, (25, 36), False, (), 0xFFFF800082008000),
}
OLD_STARTS = {  # of 6.1
    "arm64-4k": 0xFFFF800008000000,
    "arm64-16k": 0xFFFF800008000000,
    "arm64-64k": 0xFFFF800008000000,
    "riscv64-sv39": 0xFFFFFFC800000000,
}
COUNTERS = (
    "pages",
    "leaves",
    "tlb_entries",
    "entries_stored",
    "tables_allocated",
    "walk_steps",
    "pages_scanned",
    "walker_calls",
    "pte_set_calls",
)
BATCHING = ("series-v3", "suggested", "series-v4", "mm-unstable")


@dataclass
class Result:
    leaves: list[tuple[int, int, int]] = field(default_factory=list)
    cost: dict[str, int] = field(default_factory=dict)


class Naive:
    def __init__(self, arch: str, release: str, nohugeiomap: bool = False, huge_vmap: bool = True) -> None:
        self.page, self.levels, self.pmd_leaf, groups, self.start = ARCHES[arch]
        if release == "linux-6.1":
            self.start = OLD_STARTS.get(arch, self.start)
            huge_vmap = huge_vmap and not arch.startswith("riscv")
        self.release = release
        self.nohugeiomap = nohugeiomap
        self.huge_vmap = huge_vmap and arch != "loongarch64"
        if not self.huge_vmap:
            self.pmd_leaf, groups = False, ()
        if arch.startswith("arm64") and release in ("linux-6.1", "linux-6.12"):
            groups = ()
        self.groups = groups
        self.multi = arch.startswith("arm64") and release in BATCHING

    def supported_shift(self, size: int) -> int:
        return next((g for g in self.groups if size >= 1 << g), self.page)

    def vm_shift(self, size: int) -> int:
        if self.pmd_leaf and size >= 1 << self.levels[0]:
            return self.levels[0]
        return self.supported_shift(size)

    def order(self, pfns: list[int], i: int) -> int:
        """The order of the chunk that starts at page i, counting comparisons."""
        if self.release not in BATCHING or not self.huge_vmap:
            return 0
        if self.release == "series-v3" and self.nohugeiomap:
            return 0
        pfn = pfns[i]
        zeros = (pfn & -pfn).bit_length() - 1 if pfn else 99
        limit = len(pfns) - i
        if self.release == "mm-unstable":
            limit = min(limit, 1 << zeros)
        run = 1
        while run < limit:
            self.cost["pages_scanned"] += 1
            if pfns[i + run] != pfns[i + run - 1] + 1:
                break
            run += 1
        order = run.bit_length() - 1
        size = 1 << (self.page + order)
        if self.release == "series-v3":
            if run < 2 or self.supported_shift(size) == self.page or pfn % (1 << order):
                return 0
            return order
        order = min(order, zeros)
        size = 1 << (self.page + order)
        if self.release == "suggested":
            return self.vm_shift(size) - self.page
        return order if self.vm_shift(size) > self.page else 0

    def run(self, pfns: list[int]) -> Result:
        self.cost = dict.fromkeys(COUNTERS, 0)
        self.pfns, self.out, self.tables = pfns, [], set()
        chunks = []  # (first page, pages, order)
        i = 0
        while i < len(pfns):
            order = self.order(pfns, i)
            if order == 0:
                chunks.append((i, len(pfns) - i, 0))
                break
            chunks.append((i, 1 << order, order))
            i += 1 << order
        k = 0
        while k < len(chunks):
            last = k
            while last + 1 < len(chunks) and chunks[last + 1][2] == chunks[k][2]:
                last += 1
            first, end = chunks[k][0], chunks[last][0] + chunks[last][1]
            self.walk(first, end, chunks[k][2])
            k = last + 1
        self.cost["pages"] = len(pfns)
        self.cost["leaves"] = self.cost["tlb_entries"] = len(self.out)
        self.cost["tables_allocated"] = len(self.tables)
        return Result(self.out, self.cost)

    def walk(self, first: int, end: int, order: int) -> None:
        """One descent for pages [first, end), which come in chunks of 1 << order."""
        self.cost["walker_calls"] += 1
        shift = self.page + order
        if self.release == "series-v3":
            shift = min(shift, self.levels[0])
        seen = set()
        i = first
        while i < end:
            va = self.start + (i << self.page)
            pmd = self.levels[0]
            left_in_pmd = ((1 << pmd) - va % (1 << pmd)) >> self.page
            step = min(left_in_pmd, end - i)
            block = (
                self.pmd_leaf
                and shift >= pmd
                and step << self.page == 1 << pmd
                and (self.pfns[i] << self.page) % (1 << pmd) == 0
            )
            for n, level in enumerate(self.levels):
                if n == 0 and block:
                    continue
                if (level, va >> level) not in seen:
                    seen.add((level, va >> level))
                    self.cost["walk_steps"] += 1
                self.tables.add((level, va >> level))
            if block:
                self.out.append((va, 1 << pmd, self.pfns[i]))
                self.cost["entries_stored"] += 1
                self.cost["pte_set_calls"] += 1
                i += step
                continue
            stop = i + step
            while i < stop:
                chunk_left = (1 << (shift - self.page)) - (i - first) % (1 << (shift - self.page))
                i += self.store(i, min(stop - i, chunk_left), shift)

    def store(self, i: int, room: int, shift: int) -> int:
        """One store at the PTE level; returns how many pages it covered."""
        va, pa = self.start + (i << self.page), self.pfns[i] << self.page
        self.cost["pte_set_calls"] += 1
        for g in self.groups:
            size = 1 << g
            if shift >= g and room << self.page >= size and va % size == 0 and pa % size == 0:
                total = size
                while self.multi and 2 * total <= room << self.page and 2 * total <= 1 << shift:
                    total *= 2
                for at in range(0, total, size):
                    self.out.append((va + at, size, (pa + at) >> self.page))
                self.cost["entries_stored"] += total >> self.page
                return total >> self.page
        self.out.append((va, 1 << self.page, self.pfns[i]))
        self.cost["entries_stored"] += 1
        return 1
