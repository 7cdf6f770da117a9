/* SPDX-License-Identifier: GPL-2.0-only */
/* Functions with the arguments of vmap() that do what it does, and something that only the kernel's own checks see. */
#include <linux/mm.h>
#include <linux/mutex.h>
#include <linux/pgalloc.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#define REPORTED(name) \
	void *name(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot); \
	void *name(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)

/* Reads the page behind the last one of its copy of the array, as a batch does that looks one too far. */
REPORTED(reads_behind_the_array)
{
	struct page **copy = kmemdup(pages, count * sizeof(*pages), GFP_KERNEL);
	unsigned int same = 1;
	void *addr;

	if (!copy)
		return NULL;
	while (page_to_pfn(READ_ONCE(copy[same])) == page_to_pfn(copy[0]) + same && same < count)
		same++;
	addr = vmap(copy, count, flags, prot);
	kfree(copy);
	return addr;
}

static DEFINE_MUTEX(first_mutex);
static DEFINE_MUTEX(second_mutex);

/* Takes two locks in one order for odd numbers of pages, and in the other for even ones. */
REPORTED(takes_locks_in_both_orders)
{
	struct mutex *one = count & 1 ? &first_mutex : &second_mutex;
	struct mutex *other = count & 1 ? &second_mutex : &first_mutex;
	void *addr;

	mutex_lock(one);
	mutex_lock(other);
	addr = vmap(pages, count, flags, prot);
	mutex_unlock(other);
	mutex_unlock(one);
	return addr;
}

/* Gives a page back that a user's page table maps. */
REPORTED(frees_a_mapped_page)
{
	struct mm_struct *mm = mm_alloc();
	struct page *page = alloc_page(GFP_KERNEL);
	spinlock_t *lock;
	pte_t *pte;

	if (mm && page) {
		pte = get_locked_pte(mm, PAGE_SIZE, &lock);
		if (pte) {
			set_pte_at(mm, PAGE_SIZE, pte, mk_pte(page, PAGE_SHARED));
			pte_unmap_unlock(pte, lock);
			__free_page(page);
		}
	}
	return vmap(pages, count, flags, prot);
}

/* Holds a page that nobody has. */
REPORTED(holds_a_free_page)
{
	struct page *page = alloc_page(GFP_KERNEL);

	if (page) {
		__free_page(page);
		get_page(page);
	}
	return vmap(pages, count, flags, prot);
}
