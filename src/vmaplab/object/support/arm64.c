/* SPDX-License-Identifier: GPL-2.0-only */
#define VMAPLAB_IOREMAP_PROT __pgprot(PROT_DEVICE_nGnRE)
#include "common.h"

__weak s64 memstart_addr;
__weak u64 kimage_voffset;

/* No KASLR, no KPTI: the linear map starts at physical address 0, kernel mappings are global. */
static void arch_boot(unsigned long ram, unsigned long levels)
{
	memstart_addr = 0;
}

static void arch_set_cpu(unsigned long cpu)
{
	set_my_cpu_offset(per_cpu_offset(cpu));
}
