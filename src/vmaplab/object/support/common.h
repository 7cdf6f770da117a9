/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the linked object needs besides the kernel's own code: the state that boot leaves behind, and entry
 * points whose arguments fit registers. Compiled in the tree under test, so that every type, size and
 * constant is the tree's own. An architecture's file includes this one and defines arch_boot().
 */
#include <linux/bug.h>
#include <linux/cpumask.h>
#include <linux/gfp.h>
#include <linux/init.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/mmzone.h>
#include <linux/mutex.h>
#include <linux/ptdump.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

/* The ABI of vmaplab_*() is the engine's alone: no prototypes are wanted. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

struct task_struct vmaplab_task;

/* As many CPUs but one can call at the same time: see vmaplab_task_of(). */
#define VMAPLAB_TASKS 3

#ifdef CONFIG_SPARSEMEM_EXTREME
__weak struct mem_section **mem_section;
#endif
__weak struct cpumask __cpu_possible_mask, __cpu_online_mask, __cpu_present_mask, __cpu_active_mask;
#if NR_CPUS > 1
__weak atomic_t __num_online_cpus;
__weak unsigned long __per_cpu_offset[NR_CPUS];
#ifdef TREE_HAS_NUM_POSSIBLE_CPUS
__weak unsigned int __num_possible_cpus;
#endif
#endif
#if defined(CONFIG_SMP) && !defined(nr_cpu_ids)
__weak unsigned int nr_cpu_ids;
#endif
__weak atomic_long_t _totalram_pages;

#ifdef CONFIG_NUMA
/* Node 0 alone. */
static struct pglist_data vmaplab_node;
__weak nodemask_t node_states[NR_NODE_STATES] = { [0 ... NR_NODE_STATES - 1] = { { [0] = 1UL } } };
__weak struct pglist_data *node_data[MAX_NUMNODES] = { &vmaplab_node };
#if MAX_NUMNODES > 1
__weak unsigned int nr_node_ids = 1, nr_online_nodes = 1;
#endif
#ifdef CONFIG_USE_PERCPU_NUMA_NODE_ID
DEFINE_PER_CPU(int, numa_node);
#endif
#endif
#ifdef TREE_HAS_ZERO_PAGE_POINTER
static struct page vmaplab_zero_page;
__weak struct page *__zero_page = &vmaplab_zero_page;
#endif

#ifdef CONFIG_SMP
/* Called for each page that vfree() frees. The engine reads the sums. */
long vmaplab_node_state[NR_VM_NODE_STAT_ITEMS];
void mod_node_page_state(struct pglist_data *node, enum node_stat_item item, long delta)
{
	vmaplab_node_state[item] += delta;
}
#endif

/* kmalloc_array() and friends end here; kvfree() lives in a file that is too large to link. */
void __weak kvfree(const void *addr)
{
	if (is_vmalloc_addr(addr))
		vfree(addr);
	else
		kfree(addr);
}

#ifdef CONFIG_PREEMPTION
/*
 * Every lock is a call of its own in this configuration. What the task of each CPU holds is kept in order, so that a
 * lock that is taken twice, released by who has it not, or kept at the end of a call is seen.
 */
void vmaplab_misuse(const char *what, unsigned long lock, unsigned long from);

/* Another CPU has to run: the lock is not free. */
void vmaplab_wait(unsigned long lock, unsigned long from);

#define MOST_HELD 64
enum { SPIN = 1, SLEEPING = 2, SHARED = 4, MODE = 8, TRIED = 16 };
struct { unsigned long lock, from, how, cpu; } vmaplab_held[MOST_HELD];
unsigned long vmaplab_held_count;

/*
 * The engine sees the stores to these: by whom a lock was taken, and which (with 1 where it is shared, and 2 where who
 * takes it would not have waited); one is about to be released (with 1 where it is shared); the depth of RCU readers'
 * sections.
 */
volatile unsigned long vmaplab_told_from, vmaplab_told_take, vmaplab_told_drop, vmaplab_told_rcu;

static bool atomic_here(void)
{
	return preempt_count() || irqs_disabled();
}

static long place_of(unsigned long lock)
{
	long i = vmaplab_held_count;

	while (--i >= 0 && (vmaplab_held[i].lock != lock || vmaplab_held[i].cpu != raw_smp_processor_id()))
		;
	return i;
}

static bool taken_elsewhere(unsigned long lock, unsigned long how)
{
	long i = vmaplab_held_count;

	while (--i >= 0)
		if (vmaplab_held[i].lock == lock && vmaplab_held[i].cpu != raw_smp_processor_id() &&
		    !(how & vmaplab_held[i].how & (SHARED | MODE)))
			return true;
	return false;
}

static bool take(const void *at, unsigned long how, unsigned long from)
{
	unsigned long lock = (unsigned long)at;
	long i = place_of(lock);

	if (i >= 0 && !(how & vmaplab_held[i].how & (SHARED | MODE)))
		vmaplab_misuse("takes a lock that it holds", lock, from);
	if (how & SLEEPING && atomic_here())
		vmaplab_misuse("may sleep for a lock while it must not", lock, from);
	while (taken_elsewhere(lock, how))
		vmaplab_wait(lock, from);
	if (vmaplab_held_count == MOST_HELD)
		vmaplab_misuse("holds too many locks", lock, from);
	vmaplab_held[vmaplab_held_count].lock = lock;
	vmaplab_held[vmaplab_held_count].how = how & ~TRIED;
	vmaplab_held[vmaplab_held_count].cpu = raw_smp_processor_id();
	vmaplab_held[vmaplab_held_count++].from = from;
	if (how & SPIN)
		preempt_count_add(1);
	if (!(how & MODE)) {
		vmaplab_told_from = from;
		vmaplab_told_take = lock | !!(how & SHARED) | (how & TRIED ? 2 : 0);
	}
	return true;
}

static void drop(const void *at, unsigned long how, unsigned long from)
{
	unsigned long lock = (unsigned long)at;
	long i = place_of(lock);

	if (i < 0)
		vmaplab_misuse("releases what it does not hold", lock, from);
	if (vmaplab_held[i].how != how)
		vmaplab_misuse("releases a lock in another way than it was taken", lock, from);
	if (!(how & MODE))
		vmaplab_told_drop = lock | !!(how & SHARED);
	for (vmaplab_held_count--; i < vmaplab_held_count; i++) {
		vmaplab_held[i] = vmaplab_held[i + 1];
		barrier(); /* no memmove() of the kernel's, where a CPU can be stopped */
	}
	if (how & SPIN)
		preempt_count_sub(1);
}

static bool try_take(const void *at, unsigned long how, unsigned long from)
{
	long i = place_of((unsigned long)at);

	return (i < 0 || how & vmaplab_held[i].how & SHARED) && !taken_elsewhere((unsigned long)at, how) &&
	       take(at, how | TRIED, from);
}

#define TAKE(lock, how) take(lock, how, (unsigned long)__builtin_return_address(0))
#define TRY(lock, how) try_take(lock, (how) & ~SLEEPING, (unsigned long)__builtin_return_address(0))
#define DROP(lock, how) drop(lock, how, (unsigned long)__builtin_return_address(0))

#define SPINNING(name, type, how)						\
void _raw_##name##_lock(type *lock) { TAKE(lock, how); }			\
void _raw_##name##_unlock(type *lock) { DROP(lock, how); }			\
void _raw_##name##_lock_irq(type *lock) { local_irq_disable(); TAKE(lock, how); } \
void _raw_##name##_unlock_irq(type *lock) { DROP(lock, how); local_irq_enable(); } \
void _raw_##name##_lock_bh(type *lock) { preempt_count_add(SOFTIRQ_DISABLE_OFFSET); TAKE(lock, how); } \
void _raw_##name##_unlock_bh(type *lock) { DROP(lock, how); preempt_count_sub(SOFTIRQ_DISABLE_OFFSET); } \
unsigned long _raw_##name##_lock_irqsave(type *lock)				\
{										\
	unsigned long flags;							\
										\
	local_irq_save(flags);							\
	TAKE(lock, how);							\
	return flags;								\
}										\
void _raw_##name##_unlock_irqrestore(type *lock, unsigned long flags)		\
{										\
	DROP(lock, how);							\
	local_irq_restore(flags);						\
}										\
int _raw_##name##_trylock(type *lock) { return TRY(lock, how); }

SPINNING(spin, raw_spinlock_t, SPIN)
SPINNING(read, rwlock_t, SPIN | SHARED)
SPINNING(write, rwlock_t, SPIN)

/* Who only tries does not sleep; released are both the same way. */
#define ASLEEP(lock) (TAKE(lock, SLEEPING), vmaplab_held[vmaplab_held_count - 1].how &= ~SLEEPING)
#define SHARING(lock) (TAKE(lock, SLEEPING | SHARED), vmaplab_held[vmaplab_held_count - 1].how &= ~SLEEPING)

void mutex_lock(struct mutex *lock) { ASLEEP(lock); }
int mutex_lock_interruptible(struct mutex *lock) { ASLEEP(lock); return 0; }
int mutex_lock_killable(struct mutex *lock) { ASLEEP(lock); return 0; }
int mutex_trylock(struct mutex *lock) { return TRY(lock, 0); }
void mutex_unlock(struct mutex *lock) { DROP(lock, 0); }
void down_write(struct rw_semaphore *lock) { ASLEEP(lock); }
int down_write_killable(struct rw_semaphore *lock) { ASLEEP(lock); return 0; }
int down_write_trylock(struct rw_semaphore *lock) { return TRY(lock, 0); }
void up_write(struct rw_semaphore *lock) { DROP(lock, 0); }
void down_read(struct rw_semaphore *lock) { SHARING(lock); }
int down_read_killable(struct rw_semaphore *lock) { SHARING(lock); return 0; }
int down_read_interruptible(struct rw_semaphore *lock) { SHARING(lock); return 0; }
int down_read_trylock(struct rw_semaphore *lock) { return TRY(lock, SHARED); }
void up_read(struct rw_semaphore *lock) { DROP(lock, SHARED); }

#ifdef CONFIG_PREEMPT_RCU
void __rcu_read_lock(void)
{
	vmaplab_told_rcu = ++current->rcu_read_lock_nesting;
}

void __rcu_read_unlock(void)
{
	if (--current->rcu_read_lock_nesting < 0)
		vmaplab_misuse("leaves a reader's section that it is not in", 0,
			       (unsigned long)__builtin_return_address(0));
	vmaplab_told_rcu = current->rcu_read_lock_nesting;
}
#endif

/* Lazy MMU mode, as if it were a lock; it nests. */
static char vmaplab_lazy_mmu_mode;

void vmaplab_arch_enter_lazy_mmu_mode(void) { TAKE(&vmaplab_lazy_mmu_mode, MODE); }
void vmaplab_arch_leave_lazy_mmu_mode(void) { DROP(&vmaplab_lazy_mmu_mode, MODE); }
void vmaplab_lazy_mmu_mode_enable(void) { TAKE(&vmaplab_lazy_mmu_mode, MODE); }
void vmaplab_lazy_mmu_mode_disable(void) { DROP(&vmaplab_lazy_mmu_mode, MODE); }

/* What a call has to leave as it was: the engine knows the names (object/rules.py). */
void vmaplab_state(unsigned long *out)
{
	out[0] = preempt_count();
	out[1] = irqs_disabled();
	out[2] = current->flags;
	out[3] = task_thread_info(current)->flags;
#ifdef CONFIG_PREEMPT_RCU
	out[4] = current->rcu_read_lock_nesting;
#endif
#ifdef CONFIG_ARCH_HAS_LAZY_MMU_MODE
	out[5] = current->lazy_mmu_state.enable_count + 256 * current->lazy_mmu_state.pause_count;
#endif
}
#endif

/*
 * The values that the engine cannot know, one per call: 0 __GFP_ZERO, 1 PAGE_KERNEL, 2 the protection of
 * ioremap(), 3 VMALLOC_START, 4 VMALLOC_END, 5 PAGE_SHIFT, 6 BUGFLAG_WARNING, 7 pages in a memory section,
 * 8 address of the idle task, 9 bytes for the roots of the memory sections, 10 bytes for one root,
 * 11 physical address bits, 12 GFP_KERNEL, 13 and 14 where the map count and the reference count are in a struct
 * page, 15 the page of zeroes, 16 NR_CPUS, 17 IOREMAP_MAX_ORDER, 18 __GFP_DIRECT_RECLAIM, 19 NR_VMALLOC (0: none), 20
 * __GFP_ACCOUNT, 21 __GFP_FS, 22 __GFP_IO, 23 and 24 the task's flags that forbid these, 25 where those are, 26
 * __GFP_NOFAIL, 27 the low zones, 28 __GFP_HIGHMEM.
 */
unsigned long vmaplab_value(unsigned long which)
{
	switch (which) {
	case 0: return (__force unsigned long)__GFP_ZERO;
	case 1: return pgprot_val(PAGE_KERNEL);
	case 2: return pgprot_val(VMAPLAB_IOREMAP_PROT);
	case 3: return VMALLOC_START;
	case 4: return VMALLOC_END;
	case 5: return PAGE_SHIFT;
	case 6: return BUGFLAG_WARNING;
	case 7: return PAGES_PER_SECTION;
	case 8: return (unsigned long)&vmaplab_task;
#ifdef CONFIG_SPARSEMEM_EXTREME
	case 9: return NR_SECTION_ROOTS * sizeof(struct mem_section *);
	case 10: return SECTIONS_PER_ROOT * sizeof(struct mem_section);
#endif
	case 11: return MAX_PHYSMEM_BITS;
	case 13: return offsetof(struct page, _mapcount);
	case 14: return offsetof(struct page, _refcount);
	case 15: return (unsigned long)ZERO_PAGE(0);
	case 12: return (__force unsigned long)GFP_KERNEL;
	case 16: return NR_CPUS;
	case 17: return IOREMAP_MAX_ORDER;
	case 18: return (__force unsigned long)__GFP_DIRECT_RECLAIM;
#ifdef TREE_HAS_NR_VMALLOC
	case 19: return NR_VMALLOC;
#endif
	case 20: return (__force unsigned long)__GFP_ACCOUNT;
	case 21: return (__force unsigned long)__GFP_FS;
	case 22: return (__force unsigned long)__GFP_IO;
	case 23: return PF_MEMALLOC_NOFS;
	case 24: return PF_MEMALLOC_NOIO;
	case 25: return (unsigned long)&vmaplab_task.flags;
	case 26: return (__force unsigned long)__GFP_NOFAIL;
	case 27: return (__force unsigned long)(__GFP_DMA | __GFP_DMA32);
	case 28: return (__force unsigned long)__GFP_HIGHMEM;
	}
	return 0;
}

static void section_is_there(struct mem_section *section)
{
	section->section_mem_map = SECTION_MARKED_PRESENT | SECTION_HAS_MEM_MAP | SECTION_IS_ONLINE | SECTION_IS_EARLY;
}

/* Page frames [0, pages) exist. Full roots share one array of sections at @room; the last may be partial. */
static void set_up_sections(unsigned long pages, void *roots, void *room)
{
	unsigned long sections = pages / PAGES_PER_SECTION, i;
#ifdef CONFIG_SPARSEMEM_EXTREME
	struct mem_section *full = room, *partial = full + SECTIONS_PER_ROOT;

	mem_section = roots;
	for (i = 0; i < SECTIONS_PER_ROOT; i++) {
		section_is_there(full + i);
		if (i < sections % SECTIONS_PER_ROOT)
			section_is_there(partial + i);
	}
	for (i = 0; i < sections / SECTIONS_PER_ROOT; i++)
		mem_section[i] = full;
	if (sections % SECTIONS_PER_ROOT)
		mem_section[i] = partial;
#else
	for (i = 0; i < sections; i++)
		section_is_there(__nr_to_section(i));
#endif
}

#if NR_CPUS > 1
static void cpu_is_there(unsigned int cpu)
{
	cpumask_set_cpu(cpu, &__cpu_possible_mask);
	cpumask_set_cpu(cpu, &__cpu_present_mask);
	cpumask_set_cpu(cpu, &__cpu_online_mask);
	cpumask_set_cpu(cpu, &__cpu_active_mask);
	atomic_inc(&__num_online_cpus);
#ifdef TREE_HAS_NUM_POSSIBLE_CPUS
	__num_possible_cpus = cpumask_weight(&__cpu_possible_mask);
#endif
}
#endif

static void arch_boot(unsigned long ram, unsigned long levels);

/* A boot argument of the architecture's whose parser is not linked; 0 if it is none. */
static int arch_boot_arg(const char *arg);

static bool is_arg(const char *arg, const char *name);

/* @ram: where RAM with the page tables starts; @root: physical address of an empty PGD; @room: zeroed memory. */
void vmaplab_boot(unsigned long ram, unsigned long root, unsigned long levels)
{
	arch_boot(ram, levels);
	init_mm.pgd = __va(root);
#if defined(CONFIG_SMP) && !defined(nr_cpu_ids)
	nr_cpu_ids = 1;
#endif
#if NR_CPUS > 1
	cpu_is_there(0);
#endif
}

#ifdef CONFIG_SMP
extern char __per_cpu_start[], __per_cpu_end[];

/* What @cpu finds in its own per-CPU variables, and the register by which it reaches them. */
static void arch_set_cpu(unsigned long cpu);

/* CPUs [0, @cpus): the per-CPU variables of CPU 0 are where they were linked, those of CPU 1 at @areas, and so on. */
void vmaplab_add_cpus(unsigned long cpus, char *areas, unsigned long stride)
{
	unsigned long cpu;

#ifndef nr_cpu_ids
	nr_cpu_ids = cpus;
#endif
	for (cpu = 1; cpu < cpus; cpu++, areas += stride) {
		memcpy(areas, __per_cpu_start, __per_cpu_end - __per_cpu_start);
		__per_cpu_offset[cpu] = areas - __per_cpu_start;
		cpu_is_there(cpu);
	}
}

unsigned int __weak debug_smp_processor_id(void)
{
	return raw_smp_processor_id();
}

/* The one task moves to @cpu. Returns where it is, by what it finds there. */
unsigned long vmaplab_set_cpu(unsigned long cpu)
{
	arch_set_cpu(cpu);
	task_thread_info(current)->cpu = cpu;
	return raw_smp_processor_id();
}

#ifndef arch_set_current
#define arch_set_current(cpu, task)
#endif

static struct task_struct vmaplab_tasks[VMAPLAB_TASKS];
static bool vmaplab_overlap;

/* Calls are going to overlap: each of the first CPUs has a task of its own. Returns the one of @cpu. */
struct task_struct *vmaplab_task_of(unsigned long cpu)
{
	struct task_struct *task = &vmaplab_task;

	vmaplab_overlap = true;
	if (cpu) {
		task = vmaplab_tasks + cpu - 1;
		memcpy(task, &vmaplab_task, sizeof(*task));
		task_thread_info(task)->cpu = cpu;
	}
	arch_set_current(cpu, task);
	return task;
}
#else
#define vmaplab_overlap true
static void vmaplab_set_cpu(unsigned long cpu) { }
#endif

void vmalloc_init(void);

/* What comes once there is a slab allocator. */
void vmaplab_init(void)
{
	ptlock_cache_init();
	vmalloc_init();
}

void vmaplab_memory(unsigned long valid, unsigned long total, void *roots, void *room)
{
	set_up_sections(valid, roots, room);
	atomic_long_set(&_totalram_pages, total);
#ifdef CONFIG_PREEMPTION
	local_irq_enable();
#endif
}

void *vmaplab_phys_to_virt(unsigned long phys)
{
	return __va(phys);
}

struct page *vmaplab_pfn_to_page(unsigned long pfn)
{
	return pfn_to_page(pfn);
}

static bool is_arg(const char *arg, const char *name)
{
	while (*arg && *arg == *name)
		arg++, name++;
	return *arg == *name;
}

/* Boot arguments, as start_kernel() finds those of __setup() and early_param(). */
extern const struct obs_kernel_param __setup_start[], __setup_end[];

int vmaplab_boot_arg(const char *arg)
{
	const struct obs_kernel_param *p;

	if (arch_boot_arg(arg))
		return 1;
	for (p = __setup_start; p < __setup_end; p++) {
		if (is_arg(arg, p->str)) {
			p->setup_func("");
			return 1;
		}
	}
	return 0;
}

extern struct bug_entry __start___bug_table[], __stop___bug_table[];

/*
 * Entry @i of the bug table: address of the trap (0 where a WARN() calls a function with the entry instead), file
 * name, line, flags, format, and where the entry itself is. Returns 0 past the end.
 */
int vmaplab_bug(unsigned long i, unsigned long *out)
{
	struct bug_entry *bug = __start___bug_table + i;

	if (bug >= __stop___bug_table)
		return 0;
#ifdef CONFIG_GENERIC_BUG_RELATIVE_POINTERS
	out[0] = (unsigned long)&bug->bug_addr_disp + bug->bug_addr_disp;
	out[1] = (unsigned long)&bug->file_disp + bug->file_disp;
#else
	out[0] = bug->bug_addr;
	out[1] = (unsigned long)bug->file;
#endif
	out[2] = bug->line;
	out[3] = bug->flags;
	out[4] = 0;
	out[5] = (unsigned long)bug;
#ifdef HAVE_ARCH_BUG_FORMAT
#ifdef CONFIG_GENERIC_BUG_RELATIVE_POINTERS
	out[4] = (unsigned long)&bug->format_disp + bug->format_disp;
#else
	out[4] = (unsigned long)bug->format;
#endif
#endif
#ifdef BUGFLAG_ARGS
	if (bug->flags & BUGFLAG_ARGS)
		out[0] = 0;
#endif
	return 1;
}

/* A worker on @cpu runs @work; on this one if it is none that there is. */
void vmaplab_run_work(struct work_struct *work, unsigned int cpu)
{
	unsigned int here = raw_smp_processor_id();
	bool elsewhere = cpu < nr_cpu_ids && cpu != here && !vmaplab_overlap;

	if (elsewhere)
		vmaplab_set_cpu(cpu);
	work->func(work);
	if (elsewhere)
		vmaplab_set_cpu(here);
}

/* A grace period after call_rcu() */
void vmaplab_run_rcu(struct rcu_head *head, rcu_callback_t func)
{
	func(head);
}

/* The CPU for which @work is queued, which it then is no more; -1 if it is not; -2 if it runs now. */
long vmaplab_take_work(struct work_struct *work);
void vmaplab_wait(unsigned long lock, unsigned long place);

bool flush_work(struct work_struct *work)
{
	long cpu;

	while ((cpu = vmaplab_take_work(work)) == -2)
		vmaplab_wait((unsigned long)work, (unsigned long)__builtin_return_address(0));
	if (cpu >= 0)
		vmaplab_run_work(work, cpu);
	return cpu >= 0;
}

#include "entries.h"

/* A fatal signal is pending for the task, or is not. */
void vmaplab_signal(unsigned long pending)
{
	if (pending) {
		sigaddset(&vmaplab_task.pending.signal, SIGKILL);
		set_tsk_thread_flag(&vmaplab_task, TIF_SIGPENDING);
	} else {
		sigdelset(&vmaplab_task.pending.signal, SIGKILL);
		clear_tsk_thread_flag(&vmaplab_task, TIF_SIGPENDING);
	}
}

/* A process maps what an area has; vm_insert_page() is told of each page. Its mmap_lock is held. */
int vmaplab_remap(unsigned long kaddr, unsigned long pgoff, unsigned long size, unsigned long uaddr)
{
	struct mm_struct mm; /* on the stack: each process has its own */
	struct vm_area_struct vma;

	memset(&mm, 0, sizeof(mm));
	memset(&vma, 0, sizeof(vma));
	vma.vm_mm = &mm;
	atomic_long_set(&mm.mmap_lock.count, 1);
	return remap_vmalloc_range_partial(&vma, uaddr, (void *)kaddr, pgoff, size);
}

/*
 * What reading /sys/kernel/debug/kernel_page_tables does, for the vmalloc space; -ENODEV where no kernel has that file
 * beside huge mappings.
 */
#ifdef ARCH_HAS_NO_PTDUMP_BESIDE_BLOCKS
int vmaplab_ptdump(void)
{
	return -ENODEV;
}
#else
#ifndef arch_ptdump_begins
#define arch_ptdump_begins()
#define arch_ptdump_ends()
#endif

#ifdef TREE_HAS_PTDUMP_NOTE_PAGE_PTE
static void note_pte(struct ptdump_state *st, unsigned long addr, pte_t pte) { }
static void note_pmd(struct ptdump_state *st, unsigned long addr, pmd_t pmd) { }
static void note_pud(struct ptdump_state *st, unsigned long addr, pud_t pud) { }
static void note_p4d(struct ptdump_state *st, unsigned long addr, p4d_t p4d) { }
static void note_pgd(struct ptdump_state *st, unsigned long addr, pgd_t pgd) { }
static void note_flush(struct ptdump_state *st) { }
#else
static void note_page(struct ptdump_state *st, unsigned long addr, int level, u64 val) { }
#endif

int vmaplab_ptdump(void)
{
	struct ptdump_range range[] = { { VMALLOC_START, VMALLOC_END & PAGE_MASK }, { 0, 0 } };
	struct ptdump_state st = {
		.range = range,
#ifdef TREE_HAS_PTDUMP_NOTE_PAGE_PTE
		.note_page_pte = note_pte,
		.note_page_pmd = note_pmd,
		.note_page_pud = note_pud,
		.note_page_p4d = note_p4d,
		.note_page_pgd = note_pgd,
		.note_page_flush = note_flush,
#else
		.note_page = note_page,
#endif
	};

	arch_ptdump_begins();
	ptdump_walk_pgd(&st, &init_mm, init_mm.pgd);
	arch_ptdump_ends();
	return 0;
}
#endif
