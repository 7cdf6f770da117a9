# SPDX-License-Identifier: GPL-2.0-only
"""Bugs of the field, put back into a kernel tree as small changes, and who notices them: a table.

``python tests/bugs.py`` runs ``vmaplab check --tree`` on each; names choose, other words are options of the check.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from object_support import changed_tree

VMALLOC = "mm/vmalloc.c"


class Bug(NamedTuple):
    """One.

    :param kind: what it is, in the words of a commit that would mend it.
    :param source: the file that has it.
    :param right: text of Debian's 6.12, there once; ``wrong``: what takes its place.
    :param scenario: steps that show it on ``arch``; "" where random ones have to find it.
    """

    kind: str
    right: str
    wrong: str
    source: str = VMALLOC
    scenario: str = ""
    arch: str = "arm64-4k"


BUGS = {
    "full-block-stale-tlb": Bug(
        "vm_unmap_aliases() passes over vmap blocks that are full: their dirty part stays in TLBs",
        "vb->dirty_max && vb->dirty != VMAP_BBMAP_BITS) {",
        "vb->dirty_max && vb->free && vb->dirty != VMAP_BBMAP_BITS) {",
    ),
    "sync-skipped-on-error": Bug(
        "vmap_small_pages_range_noflush() returns an error without arch_sync_kernel_mappings()",
        "err = vmap_pages_p4d_range(pgd, addr, next, prot, pages, &nr, &mask);\n\t\tif (err)\n\t\t\tbreak;",
        "err = vmap_pages_p4d_range(pgd, addr, next, prot, pages, &nr, &mask);\n\t\tif (err)\n\t\t\treturn err;",
        scenario="tables 1; vmap 0x0",
        arch="x86_64",
    ),
    "lazy-mmu-left-open": Bug(
        "vmap_pages_pte_range() enters lazy MMU mode and does not leave it on an error",
        "\tif (!pte)\n\t\treturn -ENOMEM;\n\tdo {\n\t\tstruct page *page = pages[*nr];\n",
        "\tif (!pte)\n\t\treturn -ENOMEM;\n\tarch_enter_lazy_mmu_mode();\n\tdo {\n"
        "\t\tstruct page *page = pages[*nr];\n\n\t\tif (!page)\n\t\t\treturn -ENOMEM;\n"
        "\t\tif (addr + PAGE_SIZE == end)\n\t\t\tarch_leave_lazy_mmu_mode();\n",
        scenario="vmap null",
    ),
    "nofail-huge-falls-back-to-pages": Bug(
        "vm_area_alloc_pages() falls back to single pages for __GFP_NOFAIL, and they are mapped as blocks",
        "\t\tif (unlikely(!page))\n\t\t\tbreak;\n",
        "\t\tif (unlikely(!page)) {\n\t\t\tif (!order)\n\t\t\t\tbreak;\n\t\t\tgfp |= __GFP_NOFAIL;\n"
        "\t\t\torder = 0;\n\t\t\tcontinue;\n\t\t}\n",
        scenario="memory 1000 0; vmalloc 512 huge gfp=GFP_KERNEL|__GFP_NOFAIL",
    ),
    "nofail-returns-null": Bug(
        "__vmalloc_area_node() drops __GFP_NOFAIL for single pages too",
        "\tarea->nr_pages = vm_area_alloc_pages((page_order ?\n\t\tgfp_mask & ~__GFP_NOFAIL : gfp_mask) |",
        "\tarea->nr_pages = vm_area_alloc_pages((gfp_mask & ~__GFP_NOFAIL) |",
        scenario="memory 3; vmalloc 16 gfp=GFP_KERNEL|__GFP_NOFAIL",
    ),
    "huge-fallback-keeps-shift": Bug(
        "__vmalloc_node_range() falls back to small pages and leaves the shift huge",
        "\t\tshift = PAGE_SHIFT;\n\t\talign = real_align;\n\t\tsize = real_size;\n\t\tgoto again;",
        "\t\talign = real_align;\n\t\tsize = real_size;\n\t\tvm_flags &= ~VM_ALLOW_HUGE_VMAP;\n"
        "\t\tif (align != 1)\n\t\t\treturn NULL;\n\t\talign = 2;\n\t\tgoto again;",
        scenario="memory 0; vmalloc 512 huge",
    ),
    "x86-table-freed-unflushed": Bug(
        "pmd_free_pte_page() of x86 frees the table without a flush",
        "\tpmd_clear(pmd);\n\n\t/* INVLPG to clear all paging-structure caches */\n"
        "\tflush_tlb_kernel_range(addr, addr + PAGE_SIZE-1);\n",
        "\tpmd_clear(pmd);\n",
        "arch/x86/mm/pgtable.c",
        scenario="area 1; range @0 1 0x0; unrange @0 1; range @0 512 0x0",
        arch="x86_64",
    ),
    "arm64-table-freed-unflushed": Bug(
        "pud_free_pmd_page() of arm64 frees the table without a flush",
        "\tpud_clear(pudp);\n\t__flush_tlb_kernel_pgtable(addr);\n\tpmd_free(NULL, table);",
        "\tpud_clear(pudp);\n\tpmd_free(NULL, table);",
        "arch/arm64/mm/mmu.c",
        scenario="area 1; range @0 1 0x0; unrange @0 1; range @0 262144 0x0",
    ),
    "huge-pages-not-split": Bug(
        "vm_area_alloc_pages() does not split the pages of a huge vmalloc()",
        "\t\tif (order)\n\t\t\tsplit_page(page, order);\n",
        "",
        scenario="vmalloc 512 huge; vfree @0",
    ),
    "one-node-looked-up": Bug(
        "find_unlink_vmap_area() looks in one node only",
        "\t\tif (va)\n\t\t\tunlink_va(va, &vn->busy.root);\n\t\tspin_unlock(&vn->busy.lock);\n\n"
        "\t\tif (va)\n\t\t\treturn va;\n\t} while ((i = (i + 1) % nr_vmap_nodes) != j);",
        "\t\tif (va)\n\t\t\tunlink_va(va, &vn->busy.root);\n\t\tspin_unlock(&vn->busy.lock);\n\n"
        "\t\tif (va)\n\t\t\treturn va;\n\t} while (0);",
        scenario="vmalloc 16; vfree @0+16",
    ),
    "lock-kept-on-early-return": Bug(
        "find_vmap_area() returns what it has found with the node's lock held",
        "\t\tva = __find_vmap_area(addr, &vn->busy.root);\n\t\tspin_unlock(&vn->busy.lock);\n\n\t\tif (va)\n"
        "\t\t\treturn va;",
        "\t\tva = __find_vmap_area(addr, &vn->busy.root);\n\t\tif (va)\n\t\t\treturn va;\n"
        "\t\tspin_unlock(&vn->busy.lock);\n",
        scenario="ioremap 0x0+1",
    ),
    "final-barriers-missing": Bug(
        "set_pte() of arm64 has no barriers, and who batches does not add them",
        "\tif (pte_valid_not_user(pte)) {\n\t\tdsb(ishst);\n\t\tisb();\n\t}\n",
        "",
        "arch/arm64/include/asm/pgtable.h",
        scenario="vmap 0x0",
    ),
    "lookup-one-node": Bug(
        "find_vmap_area() looks in one node only",
        "\t\tva = __find_vmap_area(addr, &vn->busy.root);\n\t\tspin_unlock(&vn->busy.lock);\n\n\t\tif (va)\n"
        "\t\t\treturn va;\n\t} while ((i = (i + 1) % nr_vmap_nodes) != j);",
        "\t\tva = __find_vmap_area(addr, &vn->busy.root);\n\t\tspin_unlock(&vn->busy.lock);\n\n\t\tif (va)\n"
        "\t\t\treturn va;\n\t} while (0);",
    ),
    "rcu-kept": Bug(
        "vb_alloc() leaves its loop without rcu_read_unlock()",
        "\t\tspin_unlock(&vb->lock);\n\t\tbreak;\n\t}\n\n\trcu_read_unlock();",
        "\t\tspin_unlock(&vb->lock);\n\t\treturn vaddr;\n\t}\n\n\trcu_read_unlock();",
        scenario="map_ram 0x0; map_ram 0x0",
    ),
    "counter-not-undone": Bug(
        "vfree() does not take its pages off nr_vmalloc_pages",
        "\t\tatomic_long_sub(vm->nr_pages, &nr_vmalloc_pages);",
        "\t\t;",
        scenario="vmalloc 1; vfree @0",
    ),
    "map-ram-leaks-block": Bug(
        "new_vmap_block() forgets the block where there is no address space",
        "\tif (IS_ERR(va)) {\n\t\tkfree(vb);\n\t\treturn ERR_CAST(va);",
        "\tif (IS_ERR(va)) {\n\t\treturn ERR_CAST(va);",
    ),
    "nofs-scope-kept": Bug(
        "__vmalloc_area_node() leaves the scope of memalloc_noio open where the mapping fails",
        "\tmemalloc_noio_restore(flags);\n\n\tif (ret < 0) {",
        "\t({ if (ret >= 0) memalloc_noio_restore(flags); });\n\n\tif (ret < 0) {",
        scenario="tables 0; vmalloc 1 gfp=GFP_NOIO",
    ),
    "vmap-pfn-no-cache-flush": Bug(
        "vmap_pfn() does not flush the cache",
        "\tflush_cache_vmap((unsigned long)area->addr,\n\t\t\t (unsigned long)area->addr + count * PAGE_SIZE);\n\n"
        "\treturn area->addr;",
        "\treturn area->addr;",
        scenario="pages 0x40000; vmap_pfn 0x40000",
    ),
    "wrong-frames-behind-first-block": Bug(
        "a huge vmalloc() maps the first chunk's pages in each chunk",
        "page_to_phys(pages[i]), prot,\n\t\t\t\t\tpage_shift);",
        "page_to_phys(pages[0]) + (i >= (2U << (page_shift - PAGE_SHIFT)) ? 0 : i * PAGE_SIZE), prot,"
        "\n\t\t\t\t\tpage_shift);",
    ),
    "dirty-range-forgotten": Bug(
        "vb_free() does not widen the dirty range to the left",
        "\tvb->dirty_min = min(vb->dirty_min, offset);\n",
        "\tvb->dirty_min = vb->dirty_min == VMAP_BBMAP_BITS ? offset : vb->dirty_min;\n",
        scenario="map_ram 0x0; map_ram 0x0; unmap_ram @1 1; unmap_ram @0 1; aliases",
    ),
    "purge-no-flush-of-one-node": Bug(
        "__purge_vmap_area_lazy() takes the range to flush from the first area of a node",
        "end = max(end, list_last_entry(&vn->purge_list,",
        "end = max(end, list_first_entry(&vn->purge_list,",
        scenario="vmalloc 1; area 1; vfree @0; vunmap @1; aliases",
    ),
    "pool-area-given-unchecked": Bug(
        "node_pool_del_va() gives an area whatever its alignment",
        "\t\tif (IS_ALIGNED(va->va_start, align)) {\n",
        "\t\tif (1) {\n",
        scenario="map_ram 0x0; vmalloc 1; vfree @1; aliases; vmalloc 1 align=16384",
    ),
    "vrealloc-copies-nothing": Bug(
        "vrealloc() does not copy what was there to the new area",
        "\t\tmemcpy(n, p, old_size);\n\t\tvfree(p);",
        "\t\tvfree(p);",
        scenario="vmalloc 1; vrealloc @0 2",
    ),
    "vrealloc-leaves-old-bytes": Bug(
        "vrealloc() does not clear what it gives up, which comes back when the area grows in place",
        "\t\t\tmemset((void *)p + size, 0, old_size - size);",
        "\t\t\t;",
        scenario="vmalloc 2 gfp=GFP_KERNEL|__GFP_ZERO; vrealloc @0 1 gfp=GFP_KERNEL|__GFP_ZERO;"
        " vrealloc @1 2 gfp=GFP_KERNEL|__GFP_ZERO",
    ),
    "vzalloc-does-not-zero": Bug(
        "vzalloc() does not ask for zeroes",
        "return __vmalloc_node_noprof(size, 1, GFP_KERNEL | __GFP_ZERO, NUMA_NO_NODE,",
        "return __vmalloc_node_noprof(size, 1, GFP_KERNEL, NUMA_NO_NODE,",
        scenario="vmalloc 1 by=vzalloc",
    ),
    "direct-map-not-flushed": Bug(
        "vm_reset_perms() leaves out where the range to flush begins",
        "\t\t\tstart = min(addr, start);\n\t\t\tend = max(addr + page_size, end);\n",
        "\t\t\tend = max(addr + page_size, end);\n",
        scenario="vmalloc 2 flags=0x100; vfree @0",
    ),
    "direct-map-not-reset": Bug(
        "set_area_direct_map() takes the pages of a huge vmalloc() for one",
        "\tfor (i = 0; i < area->nr_pages; i++)\n\t\tif (page_address(area->pages[i]))\n\t\t\tset_direct_map",
        "\tfor (i = 0; i < area->nr_pages; i += 1U << vm_area_page_order(area))\n"
        "\t\tif (page_address(area->pages[i]))\n\t\t\tset_direct_map",
        scenario="vmalloc 512 huge flags=0x100; vfree @0",
    ),
    "remap-offset-unchecked": Bug(
        "remap_vmalloc_range_partial() forgets the offset when it checks the size",
        "\t    end_index > get_vm_area_size(area))",
        "\t    size > get_vm_area_size(area))",
        scenario="vmalloc 4 flags=0x8; remap @0 2 0x3",
    ),
    "memcg-not-undone": Bug(
        "vfree() does not take its pages off the memory cgroup",
        "\t\t\tmod_memcg_page_state(page, MEMCG_VMALLOC, -1);",
        "\t\t\t;",
        scenario="vmalloc 1 gfp=GFP_KERNEL_ACCOUNT; vfree @0",
    ),
    "tables-not-nofs": Bug(
        "__vmalloc_area_node() maps without the scope that keeps page tables from __GFP_FS",
        "\tif ((gfp_mask & (__GFP_FS | __GFP_IO)) == __GFP_IO)\n\t\tflags = memalloc_nofs_save();\n\telse if",
        "\tif ((gfp_mask & (__GFP_FS | __GFP_IO)) == __GFP_FS)\n\t\tflags = memalloc_nofs_save();\n\telse if",
        scenario="vmalloc 1 gfp=GFP_NOFS",
    ),
    "free-tree-not-propagated": Bug(
        "va_clip() does not tell the areas above that one has shrunk",
        "\tif (type != FL_FIT_TYPE) {\n\t\taugment_tree_propagate_from(va);",
        "\tif (type != FL_FIT_TYPE) {\n\t\tif (type == NE_FIT_TYPE)\n\t\t\taugment_tree_propagate_from(va);",
        scenario="area 1; area 300; area 1; area 300; area 1; vunmap @1; vunmap @3; aliases; area 100",
    ),
    "free-areas-not-merged": Bug(
        "__merge_or_add_vmap_area() joins an area with the one in front only where it has joined the one behind",
        "\t\tif (sibling->va_end == va->va_start) {\n\t\t\t/*\n\t\t\t * If both",
        "\t\tif (merged && sibling->va_end == va->va_start) {\n\t\t\t/*\n\t\t\t * If both",
        scenario="area 300; area 1; vunmap @0; aliases",
    ),
    "list-out-of-order": Bug(
        "__link_va() puts each area behind its parent in the list, also where it is the left child",
        "\t\tif (&parent->rb_right != link)\n\t\t\thead = head->prev;\n",
        "",
        scenario="area 1; area 1; area 1; vunmap @0; aliases; area 1",
    ),
    "highmem-always": Bug(
        "__vmalloc_area_node() asks for __GFP_HIGHMEM whatever zone it was asked for",
        "\tif (!(gfp_mask & (GFP_DMA | GFP_DMA32)))\n\t\tgfp_mask |= __GFP_HIGHMEM;\n",
        "\tgfp_mask |= __GFP_HIGHMEM;\n",
        scenario="vmalloc 1 by=vmalloc_32",
    ),
    "put-pages-counted": Bug(
        "vfree() takes pages that vmap() was given off the pages of vmalloc()",
        "\tif (!(vm->flags & VM_MAP_PUT_PAGES))\n\t\tatomic_long_sub(",
        "\tif (vm->nr_pages)\n\t\tatomic_long_sub(",
        scenario="vmap_put 3; vfree @0",
    ),
    "percpu-overlaps": Bug(
        "pcpu_get_vm_areas() does not look whether an area begins before the free block",
        "\t\tif (base + start < va->va_start) {\n\t\t\tva = node_to_va(rb_prev(&va->rb_node));",
        "\t\tif (base + end < va->va_start) {\n\t\t\tva = node_to_va(rb_prev(&va->rb_node));",
        scenario="percpu 0+2; percpu 0+2; percpu_free @0; aliases; percpu 0+3",
    ),
    "block-cleared-as-bad": Bug(
        "vunmap_pmd_range() leaves a block to pmd_none_or_clear_bad()",
        "\t\tcleared = pmd_clear_huge(pmd);\n",
        "\t\tcleared = 0;\n",
        scenario="vmalloc 512 huge; vfree @0",
    ),
    "vrealloc-forgets-size": Bug(
        "vrealloc() within the area does not set requested_size: the next one copies too little",
        "realloc shrink time.\n\t\t */\n\t\tvm->requested_size = size;\n",
        "realloc shrink time.\n\t\t */\n",
        scenario="vmalloc 9; vrealloc @0 4; vrealloc @1 8; vrealloc @2 20",
    ),
    "vread-stale-address": Bug(
        "vmap_ram_vread_iter() does not go on behind the zeroes that it gives for a hole",
        "size_t to_zero = min_t(size_t, start - addr, remains);\n\t\t\tsize_t zeroed = zero_iter(iter, to_zero);\n\n"
        "\t\t\taddr += zeroed;\n",
        "size_t to_zero = min_t(size_t, start - addr, remains);\n\t\t\tsize_t zeroed = zero_iter(iter, to_zero);\n\n",
        scenario="map_ram 0x100+2; map_ram 0x200+2; map_ram 0x300+2; map_ram 0x400+2; unmap_ram @0 2; unmap_ram @2 2;"
        " vread @0 9",
    ),
}

RACES = {
    "block-published-early": Bug(
        "new_vmap_block() writes the block's CPU once others can find the block",
        "(&vmap_block_queue, vb->cpu);\n\tspin_lock(&vbq->lock);\n\tlist_add_tail_rcu(",
        "(&vmap_block_queue, vb->cpu = raw_smp_processor_id());\n\tspin_lock(&vbq->lock);\n\tlist_add_tail_rcu(",
        scenario="vmap | vm_map_ram, a new block",
    ),
    "queue-of-wrong-cpu-locked": Bug(
        "purge_fragmented_block() takes the lock of this CPU's queue, not of the block's",
        "struct vmap_block_queue *vbq = &per_cpu(vmap_block_queue, vb->cpu);",
        "struct vmap_block_queue *vbq = raw_cpu_ptr(&vmap_block_queue);",
        scenario="vm_map_ram, a new block beside a fragmented one | vm_unmap_aliases",
    ),
    "shrinker-without-purge-lock": Bug(
        "vmap_node_shrink_scan() decays pools while a purge fills them",
        "\tguard(mutex)(&vmap_purge_lock);\n\tfor (i",
        "\tfor (i",
        scenario="vm_unmap_aliases | the shrinker",
    ),
    "pool-without-its-lock": Bug(
        "decay_va_pool_node() detaches a pool without pool_lock",
        "\t\tspin_lock(&vn->pool_lock);\n\t\tlist_replace_init(&vn->pool[i].head, &tmp_list);\n"
        "\t\tspin_unlock(&vn->pool_lock);\n",
        "\t\tlist_replace_init(&vn->pool[i].head, &tmp_list);\n",
        scenario="vmap, from a pool | vm_unmap_aliases",
    ),
    "table-freed-under-ptdump": Bug(
        "vmap_try_huge_pmd() lets go of mmap_lock before it frees the table, which ptdump may walk",
        "\tif (!pmd_free_pte_page(pmd, addr)) {\n",
        "\tmmap_read_unlock(&init_mm);\n\tif (pmd_free_pte_page(pmd, addr))\n"
        "\t\treturn pmd_set_huge(pmd, phys_addr, prot);\n\tif (mmap_read_trylock(&init_mm)) {\n",
        scenario="a block where a table is | ptdump",
    ),
    "block-freed-without-grace": Bug(
        "free_vmap_block() frees a block that readers may still have",
        "\tkfree_rcu(vb, rcu_head);",
        "\tkfree(vb);",
        scenario="vm_map_ram, a new block beside a fragmented one | vm_unmap_aliases",
    ),
    "lazy-count-not-atomic": Bug(
        "free_vmap_area_noflush() reads vmap_lazy_nr and writes it: an update is lost",
        "\tnr_lazy = atomic_long_add_return(va_size(va) >> PAGE_SHIFT,\n\t\t\t\t\t &vmap_lazy_nr);",
        "\tnr_lazy = atomic_long_read(&vmap_lazy_nr) + (va_size(va) >> PAGE_SHIFT);\n"
        "\tatomic_long_set(&vmap_lazy_nr, nr_lazy);",
        scenario="vunmap | vunmap",
    ),
    "table-populated-twice": Bug(
        "__pte_alloc_kernel() does not look whether another CPU has made the table meanwhile",
        "\tif (likely(pmd_none(*pmd))) {\t/* Has another populated it ? */\n\t\tsmp_wmb();"
        " /* See comment in pmd_install() */\n\t\tpmd_populate_kernel",
        "\tif (1) {\n\t\tsmp_wmb();\n\t\tpmd_populate_kernel",
        source="mm/memory.c",
        scenario="vmap | vmap",
    ),
    "block-not-looked-at-again": Bug(
        "vb_alloc() does not look again, with the block's lock, whether a purge has taken the block meanwhile",
        "\t\tif (vb->free < (1UL << order)) {\n\t\t\tspin_unlock(&vb->lock);\n\t\t\tcontinue;\n\t\t}\n\n\t\tpages_off",
        "\t\tpages_off",
        scenario="vm_map_ram, in a fragmented block | vm_unmap_aliases",
    ),
    "table-published-early": Bug(
        "__pte_alloc_kernel() has no smp_wmb() between the zeroing of a table and the entry that leads to it",
        "\tif (likely(pmd_none(*pmd))) {\t/* Has another populated it ? */\n\t\tsmp_wmb();"
        " /* See comment in pmd_install() */\n\t\tpmd_populate_kernel",
        "\tif (likely(pmd_none(*pmd))) {\t/* Has another populated it ? */\n\t\tpmd_populate_kernel",
        source="mm/memory.c",
        scenario="vmap | vmap",
    ),
    "reclaimed-before-flush": Bug(
        "__purge_vmap_area_lazy() gives addresses back before it flushes the TLB: another CPU maps them meanwhile",
        "\tif (nr_purge_nodes > 0) {\n\t\tflush_tlb_kernel_range(start, end);\n",
        "\tif (nr_purge_nodes > 0) {\n\t\tfor_each_cpu(i, &purge_nodes)\n"
        "\t\t\tpurge_vmap_node(&vmap_nodes[i].purge_work);\n\t\tflush_tlb_kernel_range(start, end);\n",
        scenario="vmap | vm_unmap_aliases, a large area",
    ),
    "unmapped-after-it-is-given-back": Bug(
        "free_unmap_vmap_area() hands an area to the purge before it unmaps it: the flush comes too early",
        "\tvunmap_range_noflush(va->va_start, va->va_end);\n\tif (debug_pagealloc_enabled_static())\n"
        "\t\tflush_tlb_kernel_range(va->va_start, va->va_end);\n\n\tfree_vmap_area_noflush(va);\n",
        "\tunsigned long start = va->va_start, end = va->va_end;\n\n\tfree_vmap_area_noflush(va);\n"
        "\tvunmap_range_noflush(start, end);\n",
        scenario="vunmap | vm_unmap_aliases",
    ),
    "helper-not-waited-for": Bug(
        "__purge_vmap_area_lazy() does not wait for the works that help it",
        "\t\t\t\tflush_work(&vn->purge_work);\n",
        "",
        scenario="vunmap, above the threshold | vunmap, above the threshold",
    ),
    "deferred-list-not-atomic": Bug(
        "delayed_vfree_work() takes the list in two steps: what is added between them is lost",
        "\tllist_for_each_safe(llnode, t, llist_del_all(&p->list))\n",
        "\tstruct llist_node *all = READ_ONCE(p->list.first);\n\n\tWRITE_ONCE(p->list.first, NULL);\n"
        "\tllist_for_each_safe(llnode, t, all)\n",
        scenario="vfree_atomic | vfree_atomic",
    ),
    "lazy-tree-without-lock": Bug(
        "free_vmap_area_noflush() puts an area into a node's lazy tree without its lock",
        "\tspin_lock(&vn->lazy.lock);\n\tinsert_vmap_area(va, &vn->lazy.root, &vn->lazy.head);\n"
        "\tspin_unlock(&vn->lazy.lock);\n",
        "\tinsert_vmap_area(va, &vn->lazy.root, &vn->lazy.head);\n",
        scenario="vunmap | vm_unmap_aliases",
    ),
    "full-block-without-queue-lock": Bug(
        "vb_alloc() takes a block that is full out of its queue without the queue's lock",
        "\t\t\tspin_lock(&vbq->lock);\n\t\t\tlist_del_rcu(&vb->free_list);\n\t\t\tspin_unlock(&vbq->lock);\n\t\t}\n\n"
        "\t\tspin_unlock(&vb->lock);",
        "\t\t\tlist_del_rcu(&vb->free_list);\n\t\t}\n\n\t\tspin_unlock(&vb->lock);",
        scenario="vm_map_ram, the last of a block beside a fragmented one | vm_unmap_aliases",
    ),
    "flush-behind-purge-lock": Bug(
        "_vm_unmap_aliases() releases vmap_purge_lock, and flushes then",
        "\t\tflush_tlb_kernel_range(start, end);\n\tmutex_unlock(&vmap_purge_lock);\n}\n\n/**",
        "\t\tflush++;\n\tmutex_unlock(&vmap_purge_lock);\n\tif (flush > 1)\n"
        "\t\tflush_tlb_kernel_range(start, end);\n}\n\n/**",
        scenario="vm_unmap_aliases, a block in use | vm_unmap_aliases, a block in use",
    ),
    "area-found-under-another-lock": Bug(
        "find_vmap_area() takes the lock of the first node it looks at for all of them",
        "\t\tspin_lock(&vn->busy.lock);\n\t\tva = __find_vmap_area(addr, &vn->busy.root);\n"
        "\t\tspin_unlock(&vn->busy.lock);\n\n\t\tif (va)\n\t\t\treturn va;",
        "\t\tspin_lock(&vmap_nodes[j].busy.lock);\n\t\tva = __find_vmap_area(addr, &vn->busy.root);\n"
        "\t\tspin_unlock(&vmap_nodes[j].busy.lock);\n\n\t\tif (va)\n\t\t\treturn va;",
        scenario="vmap | remap_vmalloc_range_partial, behind the first zone",
    ),
    "page-read-without-lock": Bug(
        "vread_iter() copies the pages of an area while its node's lock is dropped",
        "\t\t\tcopied = aligned_vread_iter(iter, addr, n);",
        "\t\t{\n\t\t\tspin_unlock(&vn->busy.lock);\n\t\t\tcopied = aligned_vread_iter(iter, addr, n);\n"
        "\t\t\tspin_lock(&vn->busy.lock);\n\t\t}",
        scenario="vfree | vread_iter",
    ),
    "area-told-without-barrier": Bug(
        "clear_vm_uninitialized_flag() has no smp_wmb(); on arm64 the DSB of the last PTE stands in for it",
        "\tsmp_wmb();\n\tvm->flags",
        "\tvm->flags",
        scenario="vmalloc | vmallocinfo",
        arch="riscv64-sv48",
    ),
}
"""The same for ``vmaplab check --race``; ``scenario`` names a pair of calls that shows it."""


def seeded(name: str, folder: Path) -> Path:
    """A tree in ``folder`` that has the bug ``name``; all else are links to the default tree."""
    bug = (BUGS | RACES)[name]
    return changed_tree(folder / "tree", bug.source, bug.right, bug.wrong)


def tried(name: str, *words: str) -> tuple[float, str]:
    """Seconds of ``vmaplab check --tree``, and what it said."""
    with tempfile.TemporaryDirectory() as folder:
        tree, started = seeded(name, Path(folder)), time.monotonic()
        command = [sys.executable, "-m", "vmaplab.cli", "check", "--tree", str(tree), "--json", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took = time.monotonic() - started
        if done.returncode == 1 and "--race" in words:
            races = [(it["arch"], one) for it in json.loads(done.stdout) for one in it["findings"] if not one["known"]]
            arch, first = races[0]
            said = f"{arch}, {first['switches']} switches, {len(races)} findings: {first['text']}"
        elif done.returncode == 1:
            verdicts = json.loads(done.stdout)
            verdicts = verdicts if isinstance(verdicts, list) else verdicts["verdicts"]
            said = next(f"{it['arch']}: {it['scenario']}\n{it['difference']}" for it in verdicts if it["difference"])
        else:
            said = "" if done.returncode == 0 else f"{done.returncode}: {done.stderr}"
        return took, said


if __name__ == "__main__":
    every = BUGS | RACES
    names = [word for word in sys.argv[1:] if word in every]
    options = [word for word in sys.argv[1:] if word not in every]
    for one in names or every:
        seconds, found = tried(one, *options, *["--race"] * (one in RACES))
        print(f"{one:32} {seconds:5.0f} s  {found or 'NOT FOUND'}", flush=True)
