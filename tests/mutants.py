# SPDX-License-Identifier: GPL-2.0-only
"""Seeded faults: one change to a source file of the model each, and a workload in which a judge must notice it.

    make mutants      which judge notices which fault, as the table of docs/judges.md

A mutant is a copy of the package with one text replaced; it runs in a process of its own, as plain Python.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).parent.parent / "src" / "vmaplab"


class Mutant(NamedTuple):
    fault: str
    file: str
    right: str
    wrong: str


MUTANTS = [
    Mutant(
        "each base page goes to the frame after its own",
        "pgtable/walk.py",
        "byteswap((pages[np.uint64(left + index)] << pfn_shift) | value, swap)",
        "byteswap(((pages[np.uint64(left + index)] + 1) << pfn_shift) | value, swap)",
    ),
    Mutant(
        "PFN stored two bits too high (riscv)",
        "arch/riscv.py",
        "pfn_shift=10,",
        "pfn_shift=12,",
    ),
    Mutant(
        "contiguous bit on 15 of 16 entries",
        "pgtable/walk.py",
        "words[np.uint64(word + cell)] = byteswap(value + step * (cell & ~kept), swap)",
        "words[np.uint64(word + cell)] = byteswap((value if cell else value & ~g.group_mask) + step * cell, swap)",
    ),
    Mutant(
        "contiguous bit where the frame is not aligned",
        "pgtable/walk.py",
        "(addr | phys) & inside == 0",
        "addr & inside == 0",
    ),
    Mutant(
        "contiguous bit where the address is not aligned",
        "pgtable/walk.py",
        "(addr | phys) & inside == 0",
        "phys & inside == 0",
    ),
    Mutant(
        "half a group is taken for a group",
        "pgtable/walk.py",
        "end - addr > inside and",
        "end - addr > inside >> 1 and",
    ),
    Mutant(
        "block whose frame is not aligned",
        "pgtable/walk.py",
        "if (pfn << g.page_shift) & ((1 << g.shift[level]) - 1):",
        "if pfn < 0:",
    ),
    Mutant(
        "block over the end of the range",
        "pgtable/walk.py",
        "shift >= above and stop - addr == 1 << above",
        "shift >= above and stop - addr > 1 << above - 1",
    ),
    Mutant(
        "block over a hole: the run counts frames that are not there",
        "vmalloc/batch.py",
        "while index < limit and pages[index] == pfn:",
        "while index < limit and pages[index] >= pfn:",
    ),
    Mutant(
        "one page more than the area has",
        "vmalloc/batch.py",
        "    count = (end - start) >> page_shift\n    contiguous",
        "    end += 1 << page_shift\n    count = (end - start) >> page_shift\n    pages = np.append(pages, pages[-1])\n"
        "    contiguous",
    ),
    Mutant(
        "last page of the area left out",
        "vmalloc/batch.py",
        "addr, stop = start + (batch << page_shift), start + (index << page_shift)",
        "addr, stop = start + (batch << page_shift), min(start + (index << page_shift), end - (1 << page_shift))",
    ),
    Mutant(
        "wrong index in an upper table",
        "pgtable/walk.py",
        "word = path[PATH + level] + ((addr >> above) & g.mask[level])\n            entry",
        "word = path[PATH + level] + ((addr >> above) & g.mask[level] >> 1)\n            entry",
    ),
    Mutant(
        "an entry is mapped over another without a look",
        "pgtable/walk.py",
        "fresh = entry == g.none[level]\n",
        "fresh = True\n",
    ),
    Mutant(
        "flush_cache_vmap() is forgotten",
        "vmalloc/calls.py",
        "    note(tables, L_FLUSH_VMAP, addr, addr + size, size)\n    if err:",
        "    if err:",
    ),
    Mutant(
        "flush_cache_vmap() starts where the walker has come to (version 2)",
        "vmalloc/calls.py",
        "    note(tables, L_FLUSH_VMAP, addr, addr + size, size)\n    if err:",
        "    note(tables, L_FLUSH_VMAP, addr + size - (1 << unit), addr + size, size)\n    if err:",
    ),
    Mutant(
        "flush_cache_vunmap() leaves out the end of the area",
        "vmalloc/calls.py",
        "note(tables, L_FLUSH_VUNMAP, start, start + size, size)",
        "note(tables, L_FLUSH_VUNMAP, start, start + size - (2 << unit), size)",
    ),
    Mutant(
        "no guard page",
        "vmalloc/calls.py",
        "length = len(pages) + 1  # and the guard page\n",
        "length = len(pages)\n",
    ),
    Mutant(
        "an area begins a page behind its block",
        "vmalloc/area.py",
        "    blocks.row[block, FLAGS], blocks.row[block, VM] = flags, vm\n",
        "    blocks.row[block, START] += 1\n    blocks.row[block, FLAGS], blocks.row[block, VM] = flags, vm\n",
    ),
    Mutant(
        "the last page of an area stays mapped",
        "vmalloc/calls.py",
        "    unmap_range(tables, g, addr, addr + size)",
        "    unmap_range(tables, g, addr, addr + size - (2 << options.unit))",
    ),
    Mutant(
        "only the first entry of a group is cleared",
        "pgtable/unmap.py",
        "for cell in range(count * g.cells):",
        "for cell in range(g.cells):",
    ),
    Mutant(
        "blocks are not cleared",
        "pgtable/unmap.py",
        "                    store(tables, g, word, g.none[level])\n                    if stop",
        "                    if stop",
    ),
    Mutant(
        "a failed vmap() does not unmap",
        "vmalloc/calls.py",
        "        free_unmap_vmap_area(setup, tables, space, block)\n        tables.state[STOPPED]",
        "        tables.state[STOPPED]",
    ),
    Mutant(
        "the purge does not flush the TLB",
        "vmalloc/area.py",
        "    note(tables, L_FLUSH_TLB, start << unit, end << unit, (end - start) << unit)\n",
        "",
    ),
    Mutant(
        "the purge flushes the first area only",
        "vmalloc/area.py",
        "end = max(end, i64(blocks.row[outermost(blocks, root, i64(RIGHT)), END]))",
        "end = max(end, i64(blocks.row[lowest, END]))",
    ),
    Mutant(
        "addresses are free again before the purge",
        "vmalloc/area.py",
        "    add(blocks, lazy_root(node), block)\n    state[LAZY_AREAS] += 1\n",
        "    merge_or_add(blocks, i64(FREE), block)\n    return\n    state[LAZY_AREAS] += 1\n",
    ),
    Mutant(
        "freed tables are used again with their old entries",
        "pgtable/memory.py",
        "    if reused or g.none[level] != 0:",
        "    if g.none[level] != 0:",
    ),
    Mutant(
        "a lower table is freed while the entry leads to it",
        "pgtable/walk.py",
        "    if clears != CLEARS_TABLES_BEFORE:\n        clear_and_flush(tables, g, level, word, addr)",
        "    if clears != CLEARS_TABLES_BEFORE:\n        pass",
    ),
    Mutant(
        "a lower table is freed without a TLB flush",
        "pgtable/walk.py",
        "    note(tables, L_FLUSH_TLB, addr, addr + g.free_flush[level], g.free_flush[level])",
        "    pass",
    ),
    Mutant(
        "a lower table is lost when a block takes its place",
        "pgtable/walk.py",
        "    free_table(tables, g, level - 1, table)\n    return True",
        "    return True",
    ),
    Mutant(
        "vmap() memory can be executed",
        "vmalloc/mapper.py",
        "nx = self._arch.pgprot_nx(prot)",
        "nx = prot & ~(1 << 53) & ~(1 << 63) if self._arch.family != 'riscv' else prot | 8",
    ),
    Mutant(
        "read-only pages (x86)",
        "arch/x86.py",
        "PAGE_KERNEL = P | RW | A",
        "PAGE_KERNEL = P | A",
    ),
    Mutant(
        "pages open to user mode (x86)",
        "arch/x86.py",
        "PAGE_KERNEL = P | RW | A",
        "PAGE_KERNEL = P | RW | US | A",
    ),
    Mutant(
        "access flag clear (arm64)",
        "arch/arm64.py",
        "_PROT_DEFAULT = VALID | TABLE | SH_INNER | AF",
        "_PROT_DEFAULT = VALID | TABLE | SH_INNER",
    ),
    Mutant(
        "block without the page-size bit (x86)",
        "arch/x86.py",
        "return (prot & ~PAT_4K) | pat | PS",
        "return (prot & ~PAT_4K) | pat",
    ),
    Mutant(
        "block with the table bit (arm64)",
        "arch/arm64.py",
        "return prot if level == 0 else (prot & ~TABLE) | VALID",
        "return prot",
    ),
    Mutant(
        "shadow of KMSAN mapped, origin not",
        "vmalloc/calls.py",
        "        if err:\n            return err\n    for kind",
        "        if err or number == 1:\n            return err\n    for kind",
    ),
    Mutant(
        "a failed vmalloc() keeps its pages",
        "kernel.py",
        "            self._page_allocator().free_pages(area.pages)",
        "            if len(area.pages) > 40:\n                self._page_allocator().free_pages(area.pages)",
    ),
    Mutant(
        "vmalloc() hands out a page twice",
        "kernel.py",
        "            self._space.own(addr, pages=pages, order=order)\n",
        "            pages[1:2] = pages[:1]\n            self._space.own(addr, pages=pages, order=order)\n",
    ),
    Mutant(
        "the leaves that are reported are not those in the tables",
        "vmalloc/mapper.py",
        "                return leaves[:found]",
        "                room[:found, 2] += 1\n                return leaves[:found]",
    ),
    Mutant(
        "vmalloc() maps other pages than it was given",
        "kernel.py",
        "counters = self._mapper.map_array(addr, size, pages.view(np.int64), None, shift)",
        "counters = self._mapper.map_array(addr, size, pages[::-1].view(np.int64).copy(), None, 12)",
    ),
    Mutant(
        "vmap() of 5 pages maps nothing and says that it did",
        "vmalloc/calls.py",
        "    unit = options_of(setup).unit\n    addr = space",
        "    if len(pages) == 5:\n        return 0\n    unit = options_of(setup).unit\n    addr = space",
    ),
    Mutant(
        "flush_cache_vmap() far beyond the area",
        "vmalloc/calls.py",
        "    note(tables, L_FLUSH_VMAP, addr, addr + size, size)\n    if err:",
        "    note(tables, L_FLUSH_VMAP, addr, addr + size, size)\n"
        "    note(tables, L_FLUSH_VMAP, addr - size, addr + 2 * size, 3 * size)\n    if err:",
    ),
    Mutant(
        "KMSAN metadata on the frames of the data",
        "vmalloc/calls.py",
        "                frames[index] ^= bit\n",
        "                frames[index] ^= 0\n",
    ),
    Mutant(
        "vmap() as device memory (arm64)",
        "arch/arm64.py",
        "MT_NORMAL, MT_DEVICE_nGnRE = 0, 4",
        "MT_NORMAL, MT_DEVICE_nGnRE = 4, 4",
    ),
    Mutant(
        "ioremap() as ordinary memory (x86)",
        "arch/x86.py",
        "ioremap_prot=PAGE_KERNEL | PCD,",
        "ioremap_prot=PAGE_KERNEL,",
    ),
    Mutant(
        "pages of a vmap block are handed out twice",
        "vmalloc/block.py",
        "vb.free -= count\n",
        "vb.free -= count - 1\n",
    ),
    Mutant(
        "vm_unmap_ram() leaves the last page mapped",
        "kernel.py",
        "        self._blocks.use_ends(vb, addr, order)\n        self._mapper.unmap(addr, size)",
        "        self._blocks.use_ends(vb, addr, order)\n        self._mapper.unmap(addr, size - self.arch.page_size)",
    ),
    Mutant(
        "vm_unmap_ram() flushes no cache",
        "kernel.py",
        "        vb = self._blocks.at(addr)\n        self._mapper.flush(L_FLUSH_VUNMAP, addr, addr + size)\n",
        "        vb = self._blocks.at(addr)\n",
    ),
    Mutant(
        "vm_unmap_aliases() forgets the dirty part of a vmap block",
        "vmalloc/block.py",
        "spans.append((vb.start + first, vb.start + last))",
        "first = last",
    ),
    Mutant(
        "vm_unmap_aliases() flushes one page too few of a vmap block",
        "vmalloc/block.py",
        "vb.dirty_max = max(vb.dirty_max, first + (1 << order))",
        "vb.dirty_max = max(vb.dirty_max, first + (1 << order) - 1)",
    ),
    Mutant(
        "a vmap block is given up while pages of it are in use",
        "vmalloc/block.py",
        "if vb.free + vb.dirty != self.bits or vb.dirty == self.bits:",
        "if vb.dirty == self.bits:",
    ),
    Mutant(
        "a vmap block is given back and not freed",
        "kernel.py",
        "        for vb in gone:\n            self._free_vmap_block(vb)\n        start, end",
        "        for vb in gone:\n            self._blocks.forget(vb)\n        start, end",
    ),
    Mutant(
        "a failed vm_map_ram() does not unmap",
        "kernel.py",
        "            self._vm_unmap_ram(addr, count)\n            raise",
        "            raise",
    ),
    Mutant(
        "vm_map_ram() takes an area that is a page too short",
        "kernel.py",
        "self._alloc_vmap_area(size, 1, NO_VM, self._vmalloc_range, VMAP_RAM)",
        "self._alloc_vmap_area(size - self.arch.page_size, 1, NO_VM, self._vmalloc_range, VMAP_RAM)",
    ),
    Mutant(
        "a pool gives out an area that is a page too short",
        "vmalloc/area.py",
        "    block = pop(space, pool, i64(FIRST))\n    start = i64(space.blocks.row[block, START])\n",
        "    block = pop(space, pool, i64(FIRST))\n    start = i64(space.blocks.row[block, START])\n"
        "    space.blocks.row[block, END] -= 1\n",
    ),
    Mutant(
        "vmap_pfn() does not call flush_cache_vmap()",
        "kernel.py",
        "        self._mapper.flush(L_FLUSH_VMAP, addr, addr + size)\n        return",
        "        return",
    ),
    Mutant(
        "vmap_pfn() takes a page frame that is memory",
        "vmalloc/mapper.py",
        "refused = (pfns >= 0) & (pfns < self.g.pfn_limit)",
        "refused = np.zeros(len(pfns), dtype=bool)",
    ),
    Mutant(
        "vm_area_map_pages() maps over the guard page",
        "kernel.py",
        "if start < found.addr or end > found.end - guard:",
        "if start < found.addr or end > found.end:",
    ),
    Mutant(
        "vm_area_map_pages() maps into an area of another kind",
        "kernel.py",
        "for flag, (wrong, which, text) in _SPARSE.items():",
        "for flag, (wrong, which, text) in list(_SPARSE.items())[:2]:",
    ),
    Mutant(
        "vm_area_unmap_pages() leaves the last page mapped",
        "kernel.py",
        "self._vunmap_range(start, end)",
        "self._vunmap_range(start, end - self.arch.page_size)",
    ),
    Mutant(
        "only the last dirty part of a vmap block is flushed",
        "vmalloc/block.py",
        "vb.dirty_max = max(vb.dirty_max, first + (1 << order))",
        "vb.dirty_max = first + (1 << order)",
    ),
    Mutant(
        "a vmap block is never known to be all dirty",
        "vmalloc/block.py",
        "vb.dirty += 1 << order",
        "vb.dirty += 1",
    ),
    Mutant(
        "a vmap block that is all dirty is not given back",
        "vmalloc/block.py",
        "return vb.dirty == self.bits",
        "return False",
    ),
    Mutant(
        "a vmap block hands out more pages than it has",
        "vmalloc/block.py",
        "if vb.free >= count:",
        "if vb.free:",
    ),
    Mutant(
        "a vmap block that was given back stays in its queue",
        "vmalloc/block.py",
        "        self._unqueue(vb)\n        return True",
        "        vb.free = 64\n        return True",
    ),
    Mutant(
        "areas that leave a pool are not free again",
        "vmalloc/area.py",
        "        merge_or_add(blocks, i64(FREE), block)",
        "        pass",
    ),
    Mutant(
        "vm_area_map_pages() does not look at the area's other flags",
        "kernel.py",
        "for flag, (wrong, which, text) in _SPARSE.items():",
        "for flag, (wrong, which, text) in [(VM_SPARSE, _SPARSE[VM_SPARSE])]:",
    ),
    Mutant(
        "vm_area_map_pages() maps in front of the area",
        "kernel.py",
        "if start < found.addr or end > found.end - guard:",
        "if end > found.end - guard:",
    ),
]


def run(mutant: Mutant | None, judge: str) -> str:
    """What ``judge`` says of the workload; empty if it is content.

    :param judge: "invariants", "several" (the same, many calls together) or "mmu".
    """
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "vmaplab"
        shutil.copytree(SOURCE, package, ignore=shutil.ignore_patterns("__pycache__"))
        if mutant:
            path = package / mutant.file
            text = path.read_text()
            assert text.count(mutant.right) == 1, f"{mutant.fault}: {text.count(mutant.right)} places"
            text = text.replace(mutant.right, mutant.wrong)
            if "np." in mutant.wrong and "import numpy" not in text:
                text = text.replace("from typing", "import numpy as np\nfrom typing", 1)
            path.write_text(text)
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("mutant_workload.py")), judge],
            env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": folder},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert done.returncode in (0, 3), done.stderr
    assert f"{folder}/vmaplab" in done.stdout, "it ran the package that is installed"
    return done.stdout.splitlines()[1] if done.returncode else ""


def main() -> None:
    import document

    rows = [["fault", "file", "the invariants say", "the MMU says"], ["---"] * 4]

    def row(mutant: Mutant) -> list[str]:
        told = [run(mutant, judge).removeprefix("the MMU: ") for judge in ("invariants", "mmu")]
        return [mutant.fault, mutant.file, *told]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows += pool.map(row, MUTANTS)
    document.publish("\n".join(f"| {' | '.join(row)} |" for row in rows), "mutants")


if __name__ == "__main__":
    main()
