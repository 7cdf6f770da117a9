/* SPDX-License-Identifier: GPL-2.0-only */
#include <linux/mm.h>
#include <asm/cpufeature.h>
#include <asm/current.h>
#include <asm/pgtable.h>
#define VMAPLAB_IOREMAP_PROT __pgprot(pgprot_val(PAGE_KERNEL_IO) | _PAGE_PCD)
#ifdef TREE_HAS_PCPU_HOT
#define TASK pcpu_hot.current_task
#define CPU_NUMBER pcpu_hot.cpu_number
#else
#define TASK current_task
#define CPU_NUMBER cpu_number
#endif
#define arch_set_current(cpu, task) (per_cpu(TASK, cpu) = (task))
#include "common.h"

__weak struct cpuinfo_x86 boot_cpu_data;
#ifdef TREE_HAS_PCPU_HOT
DEFINE_PER_CPU_ALIGNED(struct pcpu_hot, pcpu_hot);
#else
#ifdef DEFINE_PER_CPU_CACHE_HOT
DEFINE_PER_CPU_CACHE_HOT(struct task_struct *, current_task);
DEFINE_PER_CPU_CACHE_HOT(int, cpu_number);
#else
DEFINE_PER_CPU(struct task_struct *, current_task);
DEFINE_PER_CPU_READ_MOSTLY(int, cpu_number);
#endif
#endif
#ifdef CONFIG_SMP
DEFINE_PER_CPU_READ_MOSTLY(unsigned long, this_cpu_off);
#endif
__weak pteval_t __supported_pte_mask, __default_kernel_pte_mask;
__weak unsigned long page_offset_base, vmalloc_base, vmemmap_base, phys_base;
__weak unsigned int __pgtable_l5_enabled, pgdir_shift, ptrs_per_p4d;

/* No KASLR, no KPTI; a CPU with 1 GiB pages. */
static void arch_boot(unsigned long ram, unsigned long levels)
{
	bool l5 = levels > 4;

	page_offset_base = l5 ? __PAGE_OFFSET_BASE_L5 : __PAGE_OFFSET_BASE_L4;
	vmalloc_base = l5 ? __VMALLOC_BASE_L5 : __VMALLOC_BASE_L4;
	vmemmap_base = l5 ? __VMEMMAP_BASE_L5 : __VMEMMAP_BASE_L4;
	__pgtable_l5_enabled = l5;
	pgdir_shift = l5 ? 48 : 39;
	ptrs_per_p4d = l5 ? 512 : 1;
	__supported_pte_mask = __default_kernel_pte_mask = ~0UL;
	set_cpu_cap(&boot_cpu_data, X86_FEATURE_PSE);
	set_cpu_cap(&boot_cpu_data, X86_FEATURE_GBPAGES);
	set_cpu_cap(&boot_cpu_data, X86_FEATURE_NX);
	if (l5)
		set_cpu_cap(&boot_cpu_data, X86_FEATURE_LA57);
	boot_cpu_data.x86_phys_bits = MAX_PHYSMEM_BITS;
	this_cpu_write(TASK, &vmaplab_task);
#ifdef CONFIG_PREEMPTION
	clear_preempt_need_resched();
#endif
}

static int arch_boot_arg(const char *arg)
{
	return 0;
}

#ifdef CONFIG_SMP
static void arch_set_cpu(unsigned long cpu)
{
	unsigned long offset = per_cpu_offset(cpu);

	per_cpu(this_cpu_off, cpu) = offset;
	per_cpu(CPU_NUMBER, cpu) = cpu;
	asm volatile("wrmsr" : : "c" (MSR_GS_BASE), "a" ((u32)offset), "d" ((u32)(offset >> 32)) : "memory");
}
#endif
