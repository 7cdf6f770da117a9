/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Work like that of a vmap(), in user space: entries of tables of 512, for an array of pointers to descriptors of 64
 * bytes, one by one with the checks that a kernel makes of each page, or a run at a time. And loops of which the cycles
 * are known. All is timed by whoever calls it.
 */
typedef unsigned long u64;

struct section {
	u64 map, flags;
};

struct world {
	u64 *pages, count;         /* pointers to descriptors */
	u64 descriptors;           /* where the first one lies */
	struct section *sections;  /* of 2^15 frames each */
	u64 section_count;
	u64 **tables;              /* of 512 entries each */
	u64 prot;
};

static inline u64 frame_of(const struct world *w, u64 page)
{
	return (page - w->descriptors) >> 6;
}

__attribute__((noinline)) static int is_valid(const struct world *w, u64 frame)
{
	u64 number = frame >> 15;

	if (number >= w->section_count)
		return 0;
	return (w->sections[number].flags & 3) == 3;
}

u64 one_by_one(struct world *w)
{
	u64 mapped = 0;

	for (u64 i = 0; i < w->count; i++) {
		u64 *entry = &w->tables[i >> 9][i & 511], page = w->pages[i];

		if (*(volatile u64 *)entry)
			return mapped;
		if (!page || !is_valid(w, frame_of(w, page)))
			return mapped;
		*(volatile u64 *)entry = frame_of(w, page) << 12 | w->prot;
		mapped++;
	}
	return mapped;
}

u64 in_runs(struct world *w)
{
	u64 i = 0;

	while (i < w->count) {
		u64 first = w->pages[i], length = 1, value;

		while (i + length < w->count && w->pages[i + length] == first + (length << 6))
			length++;
		if (!is_valid(w, frame_of(w, first)))
			return i;
		value = frame_of(w, first) << 12 | w->prot;
		for (u64 n = 0; n < length; n++, value += 4096)
			*(volatile u64 *)&w->tables[(i + n) >> 9][(i + n) & 511] = value;
		i += length;
	}
	return i;
}

u64 clear(struct world *w)
{
	for (u64 i = 0; i < w->count; i++)
		*(volatile u64 *)&w->tables[i >> 9][i & 511] = 0;
	return 0;
}

u64 chase(struct world *w)
{
	u64 *at = w->pages, sum = 0;

	for (u64 i = 0; i < w->count; i++) {
		at = (u64 *)*(volatile u64 *)at;
		sum += (u64)at;
	}
	return sum;
}

u64 adds(struct world *w)
{
	u64 a = 1;

	for (u64 i = 0; i < w->count; i++)
		__asm__ volatile("add %0, %0\n\tadd %0, %0\n\tadd %0, %0\n\tadd %0, %0\n\t"
				 "add %0, %0\n\tadd %0, %0\n\tadd %0, %0\n\tadd %0, %0" : "+r"(a));
	return a;
}

u64 multiplies(struct world *w)
{
	u64 a = 3;

	for (u64 i = 0; i < w->count; i++)
		__asm__ volatile("imul %0, %0\n\timul %0, %0\n\timul %0, %0\n\timul %0, %0" : "+r"(a));
	return a;
}

u64 branches(struct world *w)
{
	u64 taken = 0;

	for (u64 i = 0; i < w->count; i++) {
		if (w->pages[i] & 64)
			__asm__ volatile("inc %0" : "+r"(taken));
		else
			__asm__ volatile("dec %0" : "+r"(taken));
	}
	return taken;
}

u64 fences(struct world *w)
{
	for (u64 i = 0; i < w->count; i++)
		__asm__ volatile("mfence" ::: "memory");
	return 0;
}
