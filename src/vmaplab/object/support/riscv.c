/* SPDX-License-Identifier: GPL-2.0-only */
#include <asm/pgtable.h>
#define VMAPLAB_IOREMAP_PROT __pgprot(_PAGE_IOREMAP)
#include "common.h"

__weak struct kernel_mapping kernel_map;
__weak u64 satp_mode;
__weak bool pgtable_l4_enabled, pgtable_l5_enabled;
__weak phys_addr_t phys_ram_base;
__weak unsigned long vmemmap_start_pfn;

#ifndef PAGE_OFFSET_L5
#define PAGE_OFFSET_L5 _AC(CONFIG_PAGE_OFFSET, UL)
#endif

/* Sv39's linear map is small: it starts where the page tables lie. */
static void arch_boot(unsigned long ram, unsigned long levels)
{
	pgtable_l4_enabled = levels > 3;
	pgtable_l5_enabled = levels > 4;
	kernel_map.page_offset = levels > 4 ? PAGE_OFFSET_L5 : levels > 3 ? PAGE_OFFSET_L4 : PAGE_OFFSET_L3;
	kernel_map.va_pa_offset = PAGE_OFFSET - ram;
	phys_ram_base = ram;
	vmemmap_start_pfn = ram >> PAGE_SHIFT;
}

static int arch_boot_arg(const char *arg)
{
	return 0;
}

#ifdef CONFIG_SMP
/* The offset follows from the task's CPU. */
static void arch_set_cpu(unsigned long cpu) { }
#endif
