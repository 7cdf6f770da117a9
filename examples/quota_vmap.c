/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vmap() with a quota, wrong on purpose: two CPUs can both find room where there is room for one. Each access is marked,
 * so KCSAN has nothing to say. docs/race.md shows the schedule.
 */
#define QUOTA_PAGES 8

static unsigned long quota_used;

void *quota_vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot);

void *quota_vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)
{
	unsigned long used = READ_ONCE(quota_used);

	if (used + count > QUOTA_PAGES)
		return NULL;
	WRITE_ONCE(quota_used, used + count);
	return vmap(pages, count, flags, prot);
}
