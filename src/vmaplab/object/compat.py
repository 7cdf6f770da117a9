# SPDX-License-Identifier: GPL-2.0-only
"""What differs between kernel trees and cannot be asked of them: options that came and went, data that may be zero.

Prototypes of what the rest of the kernel answers are with the answers (:mod:`vmaplab.object.answers`), what a tree's
own headers tell is asked of them in ``support/``.
"""

from __future__ import annotations

ABSENT = {
    "X86_5LEVEL": "from 6.18 on all x86_64 kernels have both; vmaplab sets what boot would choose",
}
"""Options of ours that some trees do not have: why not, and what stands for them there."""

HARMLESS = {
    "__preempt_count": "x86: no preempt-disabled region is open when a call begins",
    "__mmiowb_state": "riscv: counts MMIO writes under a lock; none are made",
    "_text": "where the image begins; only printed",
    "contig_page_data": "node 0: its counters are answered, its zones not looked at",
    "debug_locks": "lockdep: off",
    "empty_zero_page": "a page of zeroes, which it is",
    "gic_nonsecure_priorities": "a static key that stays off",
    "init_on_alloc": "a static key that stays off",
    "init_on_free": "a static key that stays off",
    "init_pg_dir": "the boot PGD of init_mm; vmaplab gives it another",
    "init_top_pgt": "the PGD of init_mm; vmaplab gives it another",
    "init_user_ns": "a field of init_mm that nothing here reads",
    "jiffies": "time stands still",
    "kmalloc_caches": "its entries are arguments of allocators that go by the size",
    "mmlist_lock": "a lock of user memory",
    "new_vmalloc": "riscv: flags for a trap handler, which never runs here; they are only set",
    "percpu_counter_batch": "of counters of user memory",
    "perf_swevent_enabled": "a static key that stays off",
    "qspinlock_key": "riscv: a static key that stays off",
    "rcu_lock_map": "lockdep: its functions are answered with nothing",
    "rcu_sched_lock_map": "lockdep: its functions are answered with nothing",
    "swapper_pg_dir": "the PGD of init_mm; vmaplab gives it another",
    "system_percpu_wq": "which queue a work is put on; all works run at once",
    "system_wq": "which queue a work is put on; all works run at once",
    "tracepoint_srcu": "what those who change tracepoints wait for; they are off",
    "vm_node_stat": "counters that nothing here reads",
    "zero_page_pfn": "compared with frames of user mappings only",
}
"""Data that nothing in the image defines and that reads as zero: why that does no harm."""

HARMLESS_PREFIXES = {"__tracepoint_": "a tracepoint, which is off"}
"""The same for names that begin so."""

PROBES = {
    "LAZY_MMU_MODE_ENABLE": ("include/linux/pgtable.h", "lazy_mmu_mode_enable"),  # 7.0 on
    "ARM64_SET_PTES": ("arch/arm64/include/asm/pgtable.h", "__set_ptes"),  # 6.7 on
    "ARM64_PTE_BARRIERS": ("arch/arm64/include/asm/pgtable.h", "queue_pte_barriers"),  # 6.16 on
    "ARM64_CPU_NUMBER": ("arch/arm64/include/asm/smp.h", "cpu_number"),  # a per-CPU variable: to 6.x
    "ARM64_PTDUMP_LOCK": ("arch/arm64/include/asm/ptdump.h", "arm64_ptdump_lock_key"),  # 6.17 on
    "PTDUMP_BESIDE_BLOCKS": ("mm/vmalloc.c", "ptdump"),  # in stable trees of 2026
    "PTDUMP_BESIDE_BLOCKS_BUT_ARM64": ("mm/vmalloc.c", "ifndef CONFIG_ARM64"),  # 6.1.y
    "PTDUMP_NOTE_PAGE_PTE": ("include/linux/ptdump.h", "note_page_pte"),  # 6.16 on, and stable trees
    "NUM_POSSIBLE_CPUS": ("include/linux/cpumask.h", "__num_possible_cpus"),  # a variable: 6.19 on
    "NR_VMALLOC": ("include/linux/mmzone.h", "NR_VMALLOC"),  # instead of nr_vmalloc_pages
    "PCPU_HOT": ("arch/x86/include/asm/current.h", "pcpu_hot"),  # 6.2 to 6.14
    "VMAP_NODES": ("mm/vmalloc.c", "vmap_nodes"),  # 6.9 on
    "VREALLOC": ("include/linux/vmalloc.h", "vrealloc(?:_noprof)?"),  # 6.12 on
    "VMAP_PAGE_RANGE": ("include/linux/io.h", "vmap_page_range"),  # 6.9 on
    "VM_AREA_MAP_PAGES": ("include/linux/vmalloc.h", "vm_area_map_pages"),  # 6.9 on
    "ZERO_PAGE_POINTER": ("include/linux/pgtable.h", "__zero_page"),  # 7.1 on
}
"""``TREE_HAS_*`` of ``support/``: the file of a tree that has a word where it holds, for what no #ifdef can tell."""

SAME_AS = {
    "const_pcpu_hot": "pcpu_hot",
    "const_current_task": "current_task",
    "const_cpu_current_top_of_stack": "cpu_current_top_of_stack",
}
"""Symbols that a kernel's linker script, or its C code by an alias, makes another name of a symbol."""
