// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioremap(), the mapping of a huge vmalloc() and vmap() on arm64, before the series and after it.
 *
 * Compiled at the end of mm/vmalloc.c. "Before" is what trees from 6.18 on do by themselves, and older ones do not
 * yet: groups of contiguous PTEs, one at a time, and entries without a barrier each. "After" is the series: many
 * groups in a store, and one descent for all chunks of a page array.
 *
 *	before			after
 *	ranges_ioremap_before	ranges_ioremap		as vmaplab_ioremap(): a new area for a physical range
 *	ranges_pages_before	ranges_pages		as vmap_pages_range_noflush()
 *	ranges_vmap_before	ranges_vmap		as vmap()
 */

#ifndef CONFIG_ARM64
#error "groups of contiguous PTEs: arm64 alone"
#endif

#ifdef TREE_HAS_ARM64_PTE_BARRIERS
/* The tree stores entries as its own vmap() does: one barrier for all in the lazy part. */
#include "batched_vmap.c"
#else
/* 6.12 has nothing at these bits. */
#define SPAN_LAZY 40
#define SPAN_PENDING 41

static void span_barriers(void)
{
	dsb(ishst);
	isb();
}

/* Entries were stored: the barriers come now, or once when the lazy part ends. */
static __always_inline void span_stored(void)
{
	unsigned long flags;

	if (in_interrupt()) {
		span_barriers();
		return;
	}
	flags = read_thread_flags();
	if (!(flags & BIT(SPAN_LAZY)))
		span_barriers();
	else if (!(flags & BIT(SPAN_PENDING)))
		set_thread_flag(SPAN_PENDING);
}

static __always_inline void span_enter(void)
{
	set_thread_flag(SPAN_LAZY);
}

static __always_inline void span_leave(void)
{
	if (test_and_clear_thread_flag(SPAN_PENDING))
		span_barriers();
	clear_thread_flag(SPAN_LAZY);
}

#ifndef TREE_HAS_ARM64_SET_PTES	/* 6.1 has these under no name; kernel mappings need no cache or tag maintenance */
#define __sync_cache_and_tags(pte, nr) do { } while (0)
#define __set_pte_nosync(ptep, pte) WRITE_ONCE(*(ptep), pte)
#define pte_advance_pfn(pte, nr) pfn_pte(pte_pfn(pte) + (nr), pte_pgprot(pte))
#endif

static __always_inline void span_set_one(pte_t *ptep, pte_t pte)
{
	__sync_cache_and_tags(pte, 1);
	__set_pte_nosync(ptep, pte);
	span_stored();
}

/* Out of line, as set_huge_pte_at() is. */
static noinline void span_set_many(pte_t *ptep, pte_t pte, unsigned int nr)
{
	unsigned int i;

	if (pte_valid(ptep_get(ptep)))
		BUG();
	__sync_cache_and_tags(pte, nr);
	for (i = 0; i < nr; i++, pte = pte_advance_pfn(pte, 1))
		__set_pte_nosync(ptep + i, pte);
	span_stored();
}

static __always_inline void span_set(pte_t *ptep, pte_t pte, unsigned int nr)
{
	if (__builtin_constant_p(nr) && nr == 1)
		span_set_one(ptep, pte);
	else
		span_set_many(ptep, pte, nr);
}

/* The batching of vmap() and its walker, with these stores. */
#undef lazy_mmu_mode_enable
#undef lazy_mmu_mode_disable
#define lazy_mmu_mode_enable span_enter
#define lazy_mmu_mode_disable span_leave
#undef __set_ptes
#define __set_ptes(mm, addr, ptep, pte, nr) span_set(ptep, pte, nr)
#include "batched_vmap.c"
#endif

/* What is mapped: one physical range, or an array of pages. */
struct span {
	unsigned long start;
	phys_addr_t phys;
	struct page **pages;
	pgprot_t prot;
	unsigned int shift;	/* of the largest leaf */
	bool many;		/* groups in a store */
	pgtbl_mod_mask mask;
};

static __always_inline phys_addr_t span_phys(struct span *r, unsigned long addr)
{
	return r->phys + (addr - r->start);
}

static __always_inline unsigned long span_size(struct span *r, unsigned long addr, unsigned long end)
{
	unsigned long size = batch_map_size(addr, end, span_phys(r, addr), r->shift);

	return r->many ? size : min(size, CONT_PTE_SIZE);
}

static __always_inline int span_ptes(struct span *r, pmd_t *pmd, unsigned long addr, unsigned long end)
{
	pte_t *pte = pte_alloc_kernel_track(pmd, addr, &r->mask);
	unsigned long size;

	if (!pte)
		return -ENOMEM;
	lazy_mmu_mode_enable();
	for (; addr < end; addr += size, pte += size >> PAGE_SHIFT) {
		unsigned long pfn = PHYS_PFN(span_phys(r, addr));

		BUG_ON(!pte_none(ptep_get(pte)));
		size = span_size(r, addr, end);
		if (size == PAGE_SIZE)
			set_pte_at(&init_mm, addr, pte, pfn_pte(pfn, r->prot));
		else
			batch_set(addr, pte, pfn, r->prot, size >> PAGE_SHIFT);
	}
	lazy_mmu_mode_disable();
	r->mask |= PGTBL_PTE_MODIFIED;
	return 0;
}

static __always_inline int span_page_ptes(struct span *r, pmd_t *pmd, unsigned long addr, unsigned long end)
{
	pte_t *pte = pte_alloc_kernel_track(pmd, addr, &r->mask);
	struct page **page = r->pages + ((addr - r->start) >> PAGE_SHIFT);
	int err = 0;

	if (!pte)
		return -ENOMEM;
	lazy_mmu_mode_enable();
	for (; addr < end; addr += PAGE_SIZE, pte++, page++) {
		err = WARN_ON(!pte_none(ptep_get(pte))) ? -EBUSY : batch_check_page(*page);
		if (err)
			break;
		set_pte_at(&init_mm, addr, pte, mk_pte(*page, r->prot));
	}
	lazy_mmu_mode_disable();
	r->mask |= PGTBL_PTE_MODIFIED;
	return err;
}

static __always_inline int span_pmds(struct span *r, pud_t *pud, unsigned long addr, unsigned long end)
{
	pmd_t *pmd = pmd_alloc_track(&init_mm, pud, addr, &r->mask);
	unsigned long next;
	int err = 0;

	if (!pmd)
		return -ENOMEM;
	for (; addr < end && !err; addr = next, pmd++) {
		next = pmd_addr_end(addr, end);
		if (r->pages)
			err = span_page_ptes(r, pmd, addr, next);
		else if (vmap_try_huge_pmd(pmd, addr, next, span_phys(r, addr), r->prot, r->shift))
			r->mask |= PGTBL_PMD_MODIFIED;
		else
			err = span_ptes(r, pmd, addr, next);
	}
	return err;
}

static __always_inline int span_puds(struct span *r, p4d_t *p4d, unsigned long addr, unsigned long end)
{
	pud_t *pud = pud_alloc_track(&init_mm, p4d, addr, &r->mask);
	unsigned long next;
	int err = 0;

	if (!pud)
		return -ENOMEM;
	for (; addr < end && !err; addr = next, pud++) {
		next = pud_addr_end(addr, end);
		if (!r->pages && vmap_try_huge_pud(pud, addr, next, span_phys(r, addr), r->prot, r->shift))
			r->mask |= PGTBL_PUD_MODIFIED;
		else
			err = span_pmds(r, pud, addr, next);
	}
	return err;
}

static __always_inline int span_p4ds(struct span *r, pgd_t *pgd, unsigned long addr, unsigned long end)
{
	p4d_t *p4d = p4d_alloc_track(&init_mm, pgd, addr, &r->mask);
	unsigned long next;
	int err = 0;

	if (!p4d)
		return -ENOMEM;
	for (; addr < end && !err; addr = next, p4d++) {
		next = p4d_addr_end(addr, end);
		if (!r->pages && vmap_try_huge_p4d(p4d, addr, next, span_phys(r, addr), r->prot, r->shift))
			r->mask |= PGTBL_P4D_MODIFIED;
		else
			err = span_puds(r, p4d, addr, next);
	}
	return err;
}

/* One descent. Inlined, with @r known: what a caller does not use costs it nothing. */
static __always_inline int span_walk(struct span r, unsigned long end)
{
	pgd_t *pgd = pgd_offset_k(r.start);
	unsigned long addr, next;
	int err = 0;

	for (addr = r.start; addr < end && !err; addr = next, pgd++) {
		next = pgd_addr_end(addr, end);
		err = span_p4ds(&r, pgd, addr, next);
	}
	if (r.mask & ARCH_PAGE_TABLE_SYNC_MASK)
		arch_sync_kernel_mappings(r.start, end);
	return err;
}

static noinline int span_one_group(unsigned long addr, unsigned long end, phys_addr_t phys, pgprot_t prot,
				    unsigned int shift)
{
	might_sleep();
	return span_walk((struct span){ .start = addr, .phys = phys, .prot = prot, .shift = shift }, end);
}

static noinline int span_many_groups(unsigned long addr, unsigned long end, phys_addr_t phys, pgprot_t prot,
				      unsigned int shift)
{
	might_sleep();
	return span_walk((struct span){ .start = addr, .phys = phys, .prot = prot, .shift = shift, .many = true },
			  end);
}

static noinline int span_small_pages(unsigned long addr, unsigned long end, pgprot_t prot, struct page **pages)
{
	return span_walk((struct span){ .start = addr, .prot = prot, .pages = pages }, end);
}

static __always_inline void *span_ioremap(unsigned long phys, unsigned long size, unsigned long prot, long *err,
					   bool many)
{
	struct vm_struct *area = get_vm_area_caller(size, VM_IOREMAP, __builtin_return_address(0));
	unsigned long addr, end;
	pgprot_t nx = pgprot_nx(__pgprot(prot));

	if (!area)
		return NULL;
	area->phys_addr = phys;
	addr = (unsigned long)area->addr;
	end = addr + size;
	if (WARN_ON(find_vm_area(area->addr) != area || end != addr + get_vm_area_size(area)))
		*err = -EINVAL;
	else if (many)
		*err = span_many_groups(addr, end, phys, nx, ioremap_max_page_shift);
	else
		*err = span_one_group(addr, end, phys, nx, ioremap_max_page_shift);
	flush_cache_vmap(addr, end);
	if (*err) {
		free_vm_area(area);
		return NULL;
	}
	return (void *)addr;
}

void *ranges_ioremap_before(unsigned long phys, unsigned long size, unsigned long prot, long *err);
void *ranges_ioremap(unsigned long phys, unsigned long size, unsigned long prot, long *err);
int ranges_pages_before(unsigned long addr, unsigned long end, pgprot_t prot, struct page **pages, unsigned int shift);
int ranges_pages(unsigned long addr, unsigned long end, pgprot_t prot, struct page **pages, unsigned int shift);
void *ranges_vmap_before(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot);
void *ranges_vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot);

void *ranges_ioremap_before(unsigned long phys, unsigned long size, unsigned long prot, long *err)
{
	return span_ioremap(phys, size, prot, err, false);
}

void *ranges_ioremap(unsigned long phys, unsigned long size, unsigned long prot, long *err)
{
	return span_ioremap(phys, size, prot, err, true);
}

/* A descent for every chunk. */
int ranges_pages_before(unsigned long addr, unsigned long end, pgprot_t prot, struct page **pages, unsigned int shift)
{
	const unsigned long chunk = 1UL << shift;
	int err = 0;

	if (shift == PAGE_SHIFT)
		return span_small_pages(addr, end, prot, pages);
	for (; addr < end && !err; addr += chunk, pages += chunk >> PAGE_SHIFT)
		err = span_one_group(addr, addr + chunk, page_to_phys(*pages), prot, shift);
	return err;
}

int ranges_pages(unsigned long addr, unsigned long end, pgprot_t prot, struct page **pages, unsigned int shift)
{
	struct batch b = { .pages = pages, .base = addr, .prot = prot };

	return batch_walk(&b, addr, end, shift);
}

void *ranges_vmap_before(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)
{
	unsigned long size = (unsigned long)count << PAGE_SHIFT, addr;
	struct vm_struct *area;
	int err;

	might_sleep();
	if (WARN_ON_ONCE(flags & (VM_FLUSH_RESET_PERMS | VM_NO_GUARD)) || count > totalram_pages())
		return NULL;
	area = get_vm_area_caller(size, flags, __builtin_return_address(0));
	if (!area)
		return NULL;
	addr = (unsigned long)area->addr;
	err = span_small_pages(addr, addr + size, pgprot_nx(prot), pages);
	flush_cache_vmap(addr, addr + size);
	if (err) {
		vunmap(area->addr);
		return NULL;
	}
	if (flags & VM_MAP_PUT_PAGES) {
		area->pages = pages;
		area->nr_pages = count;
	}
	return area->addr;
}

void *ranges_vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)
{
	return batched_vmap(pages, count, flags, prot);
}
