/* SPDX-License-Identifier: GPL-2.0-only */
/* Functions with the arguments of vmap() that go wrong only where calls overlap. */
#define RACING(name) \
	void *name(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot); \
	void *name(struct page **pages, unsigned int count, unsigned long flags, pgprot_t prot)

static DEFINE_MUTEX(first_mutex);
static DEFINE_MUTEX(second_mutex);
static unsigned long plain_count;

RACING(crosses_locks)
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

RACING(counts_plainly)
{
	plain_count += count;
	return vmap(pages, count, flags, prot);
}

RACING(counts_under_lock)
{
	mutex_lock(&first_mutex);
	plain_count += count;
	mutex_unlock(&first_mutex);
	return vmap(pages, count, flags, prot);
}

/* Who maps an even number of pages is seen between his two stores, twice: that takes two preemptions. */
RACING(is_seen_twice)
{
	static int stage;

	if (!(count & 1)) {
		WRITE_ONCE(stage, 1);
		WRITE_ONCE(stage, 2);
	} else if (READ_ONCE(stage) == 1 && READ_ONCE(stage) == 2) {
		return NULL;
	}
	return vmap(pages, count, flags, prot);
}

RACING(waits_for_the_other)
{
	static int arrived;

	WRITE_ONCE(arrived, READ_ONCE(arrived) + 1);
	while (READ_ONCE(arrived) < 2)
		cpu_relax();
	return vmap(pages, count, flags, prot);
}

static int told, teller;

#define TELLS(barrier)							\
	do {								\
		if (READ_ONCE(told) && !READ_ONCE(teller))		\
			return NULL;					\
		WRITE_ONCE(teller, 1);					\
		barrier;						\
		WRITE_ONCE(told, 1);					\
	} while (0)

RACING(tells_without_barrier)
{
	TELLS();
	return vmap(pages, count, flags, prot);
}

RACING(tells_with_barrier)
{
	TELLS(smp_wmb());
	return vmap(pages, count, flags, prot);
}

/* Two steps from a read to the store that relies on it, twice. */
RACING(quota_twice)
{
	static unsigned long used, most;
	unsigned long before = READ_ONCE(used);

	if (before + count > 2)
		return NULL;
	WRITE_ONCE(used, before + count);
	if (READ_ONCE(most) < before + count)
		WRITE_ONCE(most, before + count);
	return READ_ONCE(most) > 2 ? NULL : vmap(pages, count, flags, prot);
}

RACING(waits_for_nobody)
{
	static int arrived;

	WRITE_ONCE(arrived, READ_ONCE(arrived) + 1);
	while (READ_ONCE(arrived) < 3)
		cpu_relax();
	return vmap(pages, count, flags, prot);
}

/* What is read with the lock is out of date when the lock is taken again. */
RACING(locks_twice)
{
	static DEFINE_SPINLOCK(lock);
	static unsigned long used;
	unsigned long before;

	spin_lock(&lock);
	before = used;
	spin_unlock(&lock);
	if (before + count > 8)
		return NULL;
	spin_lock(&lock);
	used = before + count;
	spin_unlock(&lock);
	return vmap(pages, count, flags, prot);
}

static struct page *shared_array[64];

/* Copies the array to one that all callers share. */
RACING(shares_its_array)
{
	unsigned int i;

	if (count > ARRAY_SIZE(shared_array))
		return vmap(pages, count, flags, prot);
	for (i = 0; i < count; i++)
		WRITE_ONCE(shared_array[i], pages[i]);
	return vmap(shared_array, count, flags, prot);
}
