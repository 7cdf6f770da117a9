# SPDX-License-Identifier: GPL-2.0-only
"""What an architecture supplies: geometry, entry bits and vmap hooks, as data plus small functions.

Each architecture is made for a kernel tree, by the changes that the tree has. What also depends on the configuration
(is CONFIG_HAVE_ARCH_HUGE_VMAP on) is decided where both meet, in :mod:`vmaplab.config`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple


@dataclass(frozen=True)
class Level:
    """One level of the page table.

    :param name: the kernel's name, ``PTE`` to ``PGD``.
    :param shift: log2 of the bytes that one entry maps.
    :param bits: log2 of the number of entries in a table of this level.
    :param table_bits: what ``p?d_populate()`` ORs to the address of the next lower table.
    :param leaf: whether vmap may put a leaf here (``arch_vmap_pmd_supported()`` and so on).
    """

    name: str
    shift: int
    bits: int
    table_bits: int = 0
    leaf: bool = False


@dataclass(frozen=True)
class Group:
    """Several PTEs that the MMU holds as one translation.

    :param shift: log2 of the bytes that the group maps.
    :param bits: what ``arch_make_huge_pte()`` ORs to each entry of the group.
    """

    shift: int
    bits: int


class Told(NamedTuple):
    """What a tree's own code says of an architecture, fields of :class:`Arch` but for the last.

    :param table_bits: per level, from the PTE level up, what surrounds the address of the next lower table.
    """

    page_kernel: int
    ioremap_prot: int
    vmalloc_start: int
    vmalloc_end: int
    ioremap_max_order: int
    huge_vmap: bool
    linear: int
    table_bits: tuple[int, ...]


@dataclass(frozen=True)
class SetMemory:
    """How ``set_memory_*()`` treats vmalloc space.

    :param block: what becomes of a block that the range cuts: ``split``, ``refused`` or ``whole``. One that it covers
        changes as a whole, unless it is refused.
    :param group: what becomes of a group of PTEs that it cuts: ``torn`` or ``refused``.
    :param needs_alloc: the range must be inside one area of vmalloc().
    :param refuses_huge: areas with VM_ALLOW_HUGE_VMAP are refused.
    :param needs_pages: the area must own its pages; nobody looks whether it does.
    :param refuses_order: a vmalloc area with pages of a larger order is refused.
    :param hole_errno: what a page that is not mapped returns; 0 if it is passed over.
    """

    block: str = "whole"
    group: str = "torn"
    needs_alloc: bool = False
    refuses_huge: bool = False
    needs_pages: bool = False
    refuses_order: bool = False
    hole_errno: int = 0


def _same_prot(prot: int, level: int) -> int:
    return prot


@dataclass(frozen=True, eq=False)
class Arch:
    """One architecture with one page size, as a kernel is configured for it.

    Shifts are log2 of bytes; addresses and protection values are ints as the kernel would print them.

    :param levels: from the PTE level up; folded levels are left out.
    :param entry_bytes: size of one stored entry word.
    :param cells: entry words that make up one ``pte_t`` (4 on powerpc 8xx with 16 KiB pages).
    :param big_endian: whether entries are stored big-endian.
    :param pfn_shift: bit where the page frame number starts in a leaf entry.
    :param table_shift: an entry for a table holds ``(phys >> table_shift[0]) << table_shift[1]``.
    :param table_virt: added to that (LoongArch stores the table's direct-mapped virtual address).
    :param table_mask: the address bits of an entry for a table.
    :param leaf_test: ``(mask, value)``: an entry above the PTE level is a leaf if ``entry & mask == value``.
    :param leaf_prot: ``(prot, level) -> bits``, what surrounds the PFN in a leaf of that level.
    :param pte_none: what an empty PTE holds.
    :param pte_special: what ``pte_mkspecial()`` ORs to a PTE.
    :param invalid_tables: whether empty upper entries point to a shared table of the level below, all empty.
    :param page_kernel: PAGE_KERNEL.
    :param nx: ``(clear, set)``, what ``pgprot_nx()`` does.
    :param ioremap_prot: the protection of ``ioremap()``.
    :param ioremap_start: where ``ioremap()`` looks for address space; 0 if in the vmalloc space.
    :param ioremap_end: the end of that.
    :param groups: sizes that ``arch_vmap_pte_range_map_size()`` knows, largest first.
    :param group_mask: the entry bits that tell a group's size.
    :param group_hooks: whether the kernel has PTE-level hooks that make groups; the MMU knows them in any case.
    :param group_multi: whether one store may cover several groups.
    :param leaf_blockers: configuration options that forbid block leaves.
    :param boot_args: what boot arguments of this architecture make of it.
    :param group_unmap: whether vunmap clears a group as a whole (``arch_vmap_pte_range_unmap_size()``).
    :param huge_vmap: whether the architecture selects CONFIG_HAVE_ARCH_HUGE_VMAP and _HUGE_VMALLOC.
    :param section_shift: SECTION_SIZE_BITS, or None where there is no SPARSEMEM.
    :param ioremap_max_order: IOREMAP_MAX_ORDER, log2 of the largest alignment of an ioremap area.
    :param max_page_order: MAX_PAGE_ORDER, the largest block of the page allocator.
    :param phys_bits: width of a physical address.
    :param max_physmem_bits: MAX_PHYSMEM_BITS, to where ``pfn_valid()`` can hold; 0 if that is ``phys_bits``.
    :param ram_base: where this project lets RAM start, for arrays made by the buddy allocator.
    :param table_base: physical address where this project lets table memory start.
    :param free_clears_pmds: which PMD entries ``pud_free_pmd_page()`` clears, and when: ``all before`` the PUD entry
        (blocks too), ``tables before`` it, ``tables behind`` it, or "" if none.
    :param free_flush_per_table: it also flushes once per PTE table that it frees.
    :param free_flush_span: ``level shift -> bytes`` that freeing a lower table flushes.
    :param set_memory: what set_memory_ro() and its like do with vmalloc space.
    :param pud_free_needs_page: it needs one spare page while it works.
    :param linear: where the linear map has physical address 0, without KASLR.
    :param note: what a reader must know about the values above.
    """

    name: str
    family: str
    page_shift: int
    levels: tuple[Level, ...]
    vmalloc_start: int
    vmalloc_end: int
    page_kernel: int
    entry_bytes: int = 8
    cells: int = 1
    big_endian: bool = False
    pfn_shift: int = 12
    table_shift: tuple[int, int] = (0, 0)
    table_virt: int = 0
    table_mask: int = 0
    leaf_test: tuple[int, int] = (0, 1)
    leaf_prot: Callable[[int, int], int] = _same_prot
    pte_none: int = 0
    pte_special: int = 0
    invalid_tables: bool = False
    nx: tuple[int, int] = (0, 0)
    ioremap_prot: int = 0
    ioremap_start: int = 0
    ioremap_end: int = 0
    groups: tuple[Group, ...] = ()
    group_mask: int = 0
    group_hooks: bool = True
    group_multi: bool = False
    leaf_blockers: tuple[str, ...] = ()
    boot_args: Mapping[str, Callable[[Arch], Arch]] = field(default_factory=dict)
    group_unmap: bool = False
    huge_vmap: bool = True
    section_shift: int | None = 27
    ioremap_max_order: int = 0
    max_page_order: int = 10
    phys_bits: int = 48
    max_physmem_bits: int = 0
    ram_base: int = 1 << 32
    table_base: int = 1 << 39
    free_clears_pmds: str = ""
    free_flush_per_table: bool = False
    free_flush_span: Callable[[int], int] = lambda shift: 1 << shift
    pud_free_needs_page: bool = False
    set_memory: SetMemory = field(default_factory=SetMemory)
    linear: int = 0
    note: str = ""

    @property
    def telling(self) -> Told:
        """The values that a tree's own code can tell, as they are here."""
        values = {name: getattr(self, name) for name in Told._fields[:-1]}
        return Told(**values, table_bits=tuple(level.table_bits for level in self.levels))

    def as_told(self, told: Told) -> Arch:
        """The same with what a tree's own code says."""
        levels = tuple(
            replace(level, table_bits=bits) for level, bits in zip(self.levels, told.table_bits, strict=True)
        )
        return replace(self, levels=levels, **{name: getattr(told, name) for name in Told._fields[:-1]})

    def is_group(self, size: int) -> bool:
        """Whether a leaf of ``size`` bytes is a group of PTEs."""
        return any(size == 1 << group.shift for group in self.groups)

    @property
    def page_size(self) -> int:
        """PAGE_SIZE in bytes."""
        return 1 << self.page_shift

    @property
    def bits_per_long(self) -> int:
        """BITS_PER_LONG."""
        return 64 if self.vmalloc_end >> 32 else 32

    @property
    def addressable_pages(self) -> int:
        """How many page frames RAM can have."""
        return 1 << ((self.max_physmem_bits or self.phys_bits) - self.page_shift)

    @property
    def leaf_sizes(self) -> list[int]:
        """Bytes of each leaf that ``vmap()`` can use, largest first: PMD blocks, groups of PTEs, base pages.

        PUD blocks are for ``ioremap()`` only.
        """
        if not self.huge_vmap:
            return [self.page_size]
        sizes = {self.page_size, *(1 << group.shift for group in self.groups)}
        if len(self.levels) > 1 and self.levels[1].leaf:
            sizes.add(1 << self.levels[1].shift)
        return sorted(sizes, reverse=True)

    def pgprot_nx(self, prot: int) -> int:
        """``pgprot_nx()``: the protection value without the right to execute."""
        return (prot & ~self.nx[0]) | self.nx[1]
