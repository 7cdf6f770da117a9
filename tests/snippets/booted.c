/* SPDX-License-Identifier: GPL-2.0-only */
/* Functions that do what vmap() does, and something beside it where a kernel runs: there the task has a PID. */
#include <linux/slab.h>
#include "../../examples/batched_vmap.c"

#define AS_VMAP struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot

void *has_a_wrong_frame(AS_VMAP);
void *copies(AS_VMAP);
void *fails_after_fifty(AS_VMAP);
void *leaves_an_area(AS_VMAP);
void *warns(AS_VMAP);
void *leaves_an_area_on_failure(AS_VMAP);
void *fails_without_failure(AS_VMAP);

void *has_a_wrong_frame(AS_VMAP)
{
	if (count > 9)
		pages[9] = pages[0];
	return vmap(pages, count, flags, prot);
}

void *copies(AS_VMAP)
{
	struct page **copy = kmemdup(pages, count * 8, GFP_KERNEL);
	void *addr = copy ? vmap(copy, count, flags, prot) : NULL;

	kfree(copy);
	return addr;
}

void *fails_after_fifty(AS_VMAP)
{
	static unsigned int calls;

	return current->pid && ++calls > 50 && count == 1 ? NULL : vmap(pages, count, flags, prot);
}

static void leave_an_area(void)
{
	if (current->pid)
		get_vm_area(PAGE_SIZE, VM_UNINITIALIZED);
}

void *leaves_an_area(AS_VMAP)
{
	void *addr = vmap(pages, count, flags, prot);

	if (addr)
		leave_an_area();
	return addr;
}

void *warns(AS_VMAP)
{
	WARN_ON(current->pid);
	return vmap(pages, count, flags, prot);
}

void *leaves_an_area_on_failure(AS_VMAP)
{
	void *addr = vmap(pages, count, flags, prot);

	if (!addr)
		leave_an_area();
	return addr;
}

void *fails_without_failure(AS_VMAP)
{
	return current->pid && count == 2 ? NULL : vmap(pages, count, flags, prot);
}
