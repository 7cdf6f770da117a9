// SPDX-License-Identifier: GPL-2.0-only
/*
 * vmap() with batched mapping, as queued for mm-unstable in August 2026, for any tree from 6.1 on.
 *
 * Compiled at the end of mm/vmalloc.c:
 *
 *	vmaplab check --snippet examples/batched_vmap.c --call batched_vmap --release mm-unstable
 *
 * A chunk is a power of two of pages that are contiguous and aligned; chunks of the same size go to the walker
 * together. The walker puts a PMD leaf where one fits, groups of contiguous PTEs where the CPU has them, and
 * base pages elsewhere. At the first chunk of a single page the search ends.
 */

struct batch {
	struct page **pages;	/* the whole array */
	unsigned long base;	/* where pages[0] is mapped */
	unsigned int shift;	/* of the chunks */
	pgprot_t prot;
	pgtbl_mod_mask mask;
};

static struct page *batch_page(struct batch *b, unsigned long addr)
{
	return b->pages[(addr - b->base) >> PAGE_SHIFT];
}

static int batch_check_page(struct page *page)
{
	if (WARN_ON(!page))
		return -ENOMEM;
	if (WARN_ON(!pfn_valid(page_to_pfn(page))))
		return -EINVAL;
	return 0;
}

#ifdef CONFIG_ARM64
/* What arm64 has from 6.16 on, for several groups at once. */
static unsigned int batch_pte_shift(unsigned long size)
{
	return size >= CONT_PTE_SIZE ? CONT_PTE_SHIFT : PAGE_SHIFT;
}

static unsigned long batch_map_size(unsigned long addr, unsigned long end, phys_addr_t phys, unsigned int shift)
{
	if (shift < CONT_PTE_SHIFT || end - addr < CONT_PTE_SIZE || !IS_ALIGNED(addr | phys, CONT_PTE_SIZE))
		return PAGE_SIZE;
	return 1UL << min_t(unsigned int, shift, ilog2(end - addr));
}

static void batch_set(unsigned long addr, pte_t *ptep, unsigned long pfn, pgprot_t prot, unsigned long nr)
{
	__set_ptes(&init_mm, addr, ptep, pte_mkcont(pfn_pte(pfn, prot)), nr);
}
#else
static unsigned int batch_pte_shift(unsigned long size)
{
	return PAGE_SHIFT;
}

static unsigned long batch_map_size(unsigned long addr, unsigned long end, phys_addr_t phys, unsigned int shift)
{
	return PAGE_SIZE;
}

static void batch_set(unsigned long addr, pte_t *ptep, unsigned long pfn, pgprot_t prot, unsigned long nr)
{
	BUG();
}
#endif

static unsigned int batch_vm_shift(pgprot_t prot, unsigned long size)
{
	if (arch_vmap_pmd_supported(prot) && size >= PMD_SIZE)
		return PMD_SHIFT;
	return batch_pte_shift(size);
}

static int batch_ptes(struct batch *b, pmd_t *pmd, unsigned long addr, unsigned long end)
{
	const unsigned long chunk = 1UL << b->shift;
	pte_t *pte = pte_alloc_kernel_track(pmd, addr, &b->mask);
	unsigned long size;
	int err = 0;

	if (!pte)
		return -ENOMEM;
	lazy_mmu_mode_enable();
	for (; addr < end; addr += size, pte += size >> PAGE_SHIFT) {
		struct page *page = batch_page(b, addr);
		unsigned long stop = min(end, addr + chunk - ((addr - b->base) & (chunk - 1)));

		err = WARN_ON(!pte_none(ptep_get(pte))) ? -EBUSY : batch_check_page(page);
		if (err)
			break;
		size = batch_map_size(addr, stop, page_to_phys(page), b->shift);
		if (size == PAGE_SIZE)
			set_pte_at(&init_mm, addr, pte, mk_pte(page, b->prot));
		else
			batch_set(addr, pte, page_to_pfn(page), b->prot, size >> PAGE_SHIFT);
		b->mask |= PGTBL_PTE_MODIFIED;
	}
	lazy_mmu_mode_disable();
	return err;
}

static int batch_pmds(struct batch *b, pud_t *pud, unsigned long addr, unsigned long end)
{
	pmd_t *pmd = pmd_alloc_track(&init_mm, pud, addr, &b->mask);
	unsigned long next;

	if (!pmd)
		return -ENOMEM;
	for (; addr < end; addr = next, pmd++) {
		int err;

		next = pmd_addr_end(addr, end);
		if (b->shift >= PMD_SHIFT && next - addr == PMD_SIZE && arch_vmap_pmd_supported(b->prot)) {
			struct page *page = batch_page(b, addr);

			err = batch_check_page(page);
			if (err)
				return err;
			if (vmap_try_huge_pmd(pmd, addr, next, page_to_phys(page), b->prot, b->shift)) {
				b->mask |= PGTBL_PMD_MODIFIED;
				continue;
			}
		}
		err = batch_ptes(b, pmd, addr, next);
		if (err)
			return err;
	}
	return 0;
}

static int batch_puds(struct batch *b, p4d_t *p4d, unsigned long addr, unsigned long end)
{
	pud_t *pud = pud_alloc_track(&init_mm, p4d, addr, &b->mask);
	unsigned long next;
	int err = 0;

	if (!pud)
		return -ENOMEM;
	for (; addr < end && !err; addr = next, pud++) {
		next = pud_addr_end(addr, end);
		err = batch_pmds(b, pud, addr, next);
	}
	return err;
}

static int batch_p4ds(struct batch *b, pgd_t *pgd, unsigned long addr, unsigned long end)
{
	p4d_t *p4d = p4d_alloc_track(&init_mm, pgd, addr, &b->mask);
	unsigned long next;
	int err = 0;

	if (!p4d)
		return -ENOMEM;
	for (; addr < end && !err; addr = next, p4d++) {
		next = p4d_addr_end(addr, end);
		err = batch_puds(b, p4d, addr, next);
	}
	return err;
}

/* One descent for [start, end), whose pages come in chunks of 1 << shift. */
static int batch_walk(struct batch *b, unsigned long start, unsigned long end, unsigned int shift)
{
	pgd_t *pgd = pgd_offset_k(start);
	unsigned long addr, next;
	struct batch part = {
		.pages = b->pages + ((start - b->base) >> PAGE_SHIFT),
		.base = start,
		.shift = shift,
		.prot = b->prot,
	};
	int err = 0;

	for (addr = start; addr < end && !err; addr = next, pgd++) {
		next = pgd_addr_end(addr, end);
		err = batch_p4ds(&part, pgd, addr, next);
	}
	if (part.mask & ARCH_PAGE_TABLE_SYNC_MASK)
		arch_sync_kernel_mappings(start, end);
	return err;
}

/* How far the pages from @pages on follow each other: 1 to @most. */
static unsigned long batch_run(struct page **pages, unsigned long most)
{
	unsigned long pfn, n = 1;

	if (!pages[0])
		return 1;
	pfn = page_to_pfn(pages[0]);
	while (n < most && pages[n] && page_to_pfn(pages[n]) == pfn + n)
		n++;
	return n;
}

/* The shift of the chunk that begins at @pages, of which @left are left. */
static unsigned int batch_chunk_shift(struct batch *b, struct page **pages, unsigned long left)
{
	unsigned long pfn = pages[0] ? page_to_pfn(pages[0]) : 1;
	unsigned long aligned = pfn ? pfn & -pfn : left;
	unsigned long run = batch_run(pages, min(left, aligned));
	unsigned int order;

	if (!IS_ENABLED(CONFIG_HAVE_ARCH_HUGE_VMAP) || run < 2)
		return PAGE_SHIFT;
	order = ilog2(run);
	if (batch_vm_shift(b->prot, PAGE_SIZE << order) == PAGE_SHIFT)
		return PAGE_SHIFT;
	return PAGE_SHIFT + order;
}

static int batch_map(struct batch *b, unsigned long end)
{
	unsigned long start = b->base, addr = start;
	unsigned int shift = PAGE_SHIFT, open = 0;
	int err;

	while (addr < end) {
		shift = batch_chunk_shift(b, b->pages + ((addr - b->base) >> PAGE_SHIFT), (end - addr) >> PAGE_SHIFT);
		if (open && shift != open) {
			err = batch_walk(b, start, addr, open);
			if (err)
				return err;
			start = addr;
		}
		open = shift;
		if (shift == PAGE_SHIFT)
			break;	/* allocators give their large blocks first: what follows is small */
		addr += 1UL << shift;
	}
	return start < end ? batch_walk(b, start, end, open) : 0;
}

static struct vm_struct *batch_area(unsigned long size, unsigned long flags, pgprot_t prot, const void *caller)
{
	const unsigned int shifts[] = { batch_vm_shift(prot, size), batch_pte_shift(size), PAGE_SHIFT };
	struct vm_struct *area = NULL;
	int i;

	for (i = 0; i < ARRAY_SIZE(shifts) && !area; i++)
		area = __get_vm_area_node(size, 1UL << shifts[i], PAGE_SHIFT, flags, VMALLOC_START, VMALLOC_END,
					  NUMA_NO_NODE, GFP_KERNEL, caller);
	return area;
}

void *batched_vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot);

void *batched_vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)
{
	unsigned long size = (unsigned long)count << PAGE_SHIFT, end;
	struct batch b = { .pages = pages, .prot = pgprot_nx(prot) };
	struct vm_struct *area;
	int err;

	might_sleep();
	if (WARN_ON_ONCE(flags & VM_FLUSH_RESET_PERMS))
		return NULL;
	if (WARN_ON_ONCE(flags & VM_NO_GUARD))
		flags &= ~VM_NO_GUARD;
	if (count > totalram_pages())
		return NULL;
	area = batch_area(size, flags, prot, __builtin_return_address(0));
	if (!area)
		return NULL;
	b.base = (unsigned long)area->addr;
	end = b.base + size;
	err = batch_map(&b, end);
	flush_cache_vmap(b.base, end);
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
