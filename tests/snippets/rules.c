// SPDX-License-Identifier: GPL-2.0-only
/* Functions in place of vmap(), each of which leaves something as it must not; see tests/test_object_rules.py. */
#include <linux/sched/mm.h>

#define PARAMETERS struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot
#define MAP() vmap(pages, count, flags, prot)

static DEFINE_SPINLOCK(some_lock);
static DEFINE_MUTEX(some_mutex);
static DECLARE_RWSEM(some_rwsem);

void *nothing_wrong(PARAMETERS);
void *nothing_wrong(PARAMETERS)
{
	unsigned long saved, nofs;
	struct page *block;

	mutex_lock(&some_mutex);
	down_read(&some_rwsem);
	down_read(&some_rwsem);
	spin_lock_irqsave(&some_lock, saved);
	if (spin_trylock(&some_lock))
		return NULL;
	spin_unlock_irqrestore(&some_lock, saved);
	up_read(&some_rwsem);
	up_read(&some_rwsem);
	mutex_unlock(&some_mutex);
	spin_lock_bh(&some_lock);
	spin_unlock_bh(&some_lock);
	rcu_read_lock();
	rcu_read_unlock();
	nofs = memalloc_nofs_save();
	memalloc_nofs_restore(nofs);
	arch_enter_lazy_mmu_mode();
	arch_leave_lazy_mmu_mode();
	block = alloc_pages(GFP_KERNEL, 2);
	__free_pages(block, 2);
	block = alloc_pages(GFP_KERNEL, 1);
	split_page(block, 1);
	__free_page(block + 1);
	__free_page(block);
	return MAP();
}

void *keeps_lock(PARAMETERS);
void *keeps_lock(PARAMETERS)
{
	void *addr = MAP();

	spin_lock(&some_lock);
	return addr;
}

void *takes_twice(PARAMETERS);
void *takes_twice(PARAMETERS)
{
	spin_lock(&some_lock);
	spin_lock(&some_lock);
	return NULL;
}

void *releases_another(PARAMETERS);
void *releases_another(PARAMETERS)
{
	spin_lock(&some_lock);
	spin_unlock(&free_vmap_area_lock);
	return NULL;
}

void *keeps_mutex(PARAMETERS);
void *keeps_mutex(PARAMETERS)
{
	mutex_lock(&some_mutex);
	return MAP();
}

void *keeps_semaphore(PARAMETERS);
void *keeps_semaphore(PARAMETERS)
{
	down_read(&some_rwsem);
	return MAP();
}

void *releases_for_writing(PARAMETERS);
void *releases_for_writing(PARAMETERS)
{
	down_read(&some_rwsem);
	up_write(&some_rwsem);
	return MAP();
}

void *allocates_under_lock(PARAMETERS);
void *allocates_under_lock(PARAMETERS)
{
	void *addr;

	spin_lock(&some_lock);
	addr = MAP();
	spin_unlock(&some_lock);
	return addr;
}

void *mutex_under_lock(PARAMETERS);
void *mutex_under_lock(PARAMETERS)
{
	spin_lock(&some_lock);
	mutex_lock(&some_mutex);
	return NULL;
}

void *keeps_rcu(PARAMETERS);
void *keeps_rcu(PARAMETERS)
{
	rcu_read_lock();
	return MAP();
}

void *keeps_preemption_off(PARAMETERS);
void *keeps_preemption_off(PARAMETERS)
{
	void *addr = MAP();

	preempt_disable();
	return addr;
}

void *keeps_interrupts_off(PARAMETERS);
void *keeps_interrupts_off(PARAMETERS)
{
	void *addr = MAP();

	local_irq_disable();
	return addr;
}

void *keeps_scope(PARAMETERS);
void *keeps_scope(PARAMETERS)
{
	memalloc_nofs_save();
	return MAP();
}

void *keeps_lazy_mode(PARAMETERS);
void *keeps_lazy_mode(PARAMETERS)
{
	arch_enter_lazy_mmu_mode();
	return MAP();
}

void *frees_part(PARAMETERS);
void *frees_part(PARAMETERS)
{
	__free_page(alloc_pages(GFP_KERNEL, 2) + 1);
	return MAP();
}

void *frees_first(PARAMETERS);
void *frees_first(PARAMETERS)
{
	__free_page(alloc_pages(GFP_KERNEL, 2));
	return MAP();
}

void *frees_twice(PARAMETERS);
void *frees_twice(PARAMETERS)
{
	struct page *page = alloc_page(GFP_KERNEL);

	__free_page(page);
	__free_page(page);
	return MAP();
}

void *miscounts(PARAMETERS);
void *miscounts(PARAMETERS)
{
	atomic_long_inc(&nr_vmalloc_pages);
	return MAP();
}

void *no_cache_flush(PARAMETERS);
void *no_cache_flush(PARAMETERS)
{
	unsigned long size = (unsigned long)count << PAGE_SHIFT, addr;
	struct vm_struct *area = count > totalram_pages() ? NULL : get_vm_area(size, flags);

	if (!area)
		return NULL;
	addr = (unsigned long)area->addr;
	if (vmap_pages_range_noflush(addr, addr + size, pgprot_nx(prot), pages, PAGE_SHIFT)) {
		free_vm_area(area);
		return NULL;
	}
	return area->addr;
}

#ifdef CONFIG_ARM64
void *no_dsb(PARAMETERS);
void *no_dsb(PARAMETERS)
{
	void *addr = MAP();
	pte_t *pte = virt_to_kpte((unsigned long)addr);

	WRITE_ONCE(*pte, *pte);
	return addr;
}

void *no_isb(PARAMETERS);
void *no_isb(PARAMETERS)
{
	void *addr = MAP();
	pte_t *pte = virt_to_kpte((unsigned long)addr);

	WRITE_ONCE(*pte, *pte);
	dsb(ishst);
	return addr;
}

void *both_barriers(PARAMETERS);
void *both_barriers(PARAMETERS)
{
	void *addr = MAP();
	pte_t *pte = virt_to_kpte((unsigned long)addr);

	WRITE_ONCE(*pte, *pte);
	dsb(ishst);
	isb();
	return addr;
}
#endif
