/* SPDX-License-Identifier: GPL-2.0-only */
#define VMAPLAB_IOREMAP_PROT __pgprot(PROT_DEVICE_nGnRE)
#ifdef TREE_HAS_ARM64_PTDUMP_LOCK
#include <asm/ptdump.h>
#define arch_ptdump_begins() atomic_inc_return(&arm64_ptdump_lock_key.key.enabled)
#define arch_ptdump_ends() atomic_dec_return(&arm64_ptdump_lock_key.key.enabled)
#elif !defined(CONFIG_PTDUMP_DEBUGFS) && \
	(!defined(TREE_HAS_PTDUMP_BESIDE_BLOCKS) || defined(TREE_HAS_PTDUMP_BESIDE_BLOCKS_BUT_ARM64))
#define ARCH_HAS_NO_PTDUMP_BESIDE_BLOCKS
#endif
#include "common.h"

__weak s64 memstart_addr;
__weak u64 kimage_voffset;
bool arm64_use_ng_mappings;
#ifdef TREE_HAS_ARM64_CPU_NUMBER
DEFINE_PER_CPU_READ_MOSTLY(int, cpu_number);
#endif

/* No KASLR: the linear map starts at physical address 0. */
static void arch_boot(unsigned long ram, unsigned long levels)
{
	memstart_addr = 0;
}

/* kpti=1: what cpufeature.c makes of it before the first table is made. */
static int arch_boot_arg(const char *arg)
{
	if (!is_arg(arg, "kpti=1"))
		return 0;
	arm64_use_ng_mappings = true;
	return 1;
}

static void arch_set_cpu(unsigned long cpu)
{
#ifdef TREE_HAS_ARM64_CPU_NUMBER
	per_cpu(cpu_number, cpu) = cpu;
#endif
	set_my_cpu_offset(per_cpu_offset(cpu));
}
