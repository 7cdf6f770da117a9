/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vmap() that tells others what it has counted, wrong on purpose: nothing keeps the two stores in order, and who sees
 * the second may not see the first. docs/race.md shows the schedule.
 */
static unsigned long ready_pages, ready;

void *ready_vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot);

void *ready_vmap(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)
{
	if (READ_ONCE(ready) && !READ_ONCE(ready_pages))
		return NULL;
	WRITE_ONCE(ready_pages, count);
	/* smp_wmb() belongs here */
	WRITE_ONCE(ready, 1);
	return vmap(pages, count, flags, prot);
}
