/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Compiled at the end of mm/vmalloc.c of a kernel that is booted: when all else is up, calls whatever function the host
 * asks for, with its arguments, and says what came of it. All goes through memory that the host sees as well.
 */
#include <linux/completion.h>
#include <linux/console.h>
#include <linux/init.h>
#include <linux/kthread.h>
#include <linux/printk.h>
#include <linux/sched.h>
#include <linux/seq_file.h>

#define BOX_ALIGN (1UL << 16)
#define BOX_WORDS (1UL << 20)
#define SAID_BYTES (1UL << 16)

/* The host looks for ready at each multiple of BOX_ALIGN, and knows from head how far it is from there. */
static struct {
	char ready[16];
	u64 head[16];
	u64 request, done, function, arguments[8], result, told;
	char said[SAID_BYTES] __aligned(4096);
	u64 words[BOX_WORDS];
} vmaplab_box __aligned(BOX_ALIGN);

static void box_write(struct console *console, const char *text, unsigned int count)
{
	while (count--)
		vmaplab_box.said[vmaplab_box.told++ % SAID_BYTES] = *text++;
}

static struct console box_console = {
	.name = "box",
	.write = box_write,
	.flags = CON_PRINTBUFFER | CON_ENABLED,
	.index = -1,
};

unsigned long vmaplab_areas(unsigned long *out, unsigned long most);

static unsigned long areas_in(struct list_head *list, unsigned long *out, unsigned long count, unsigned long most)
{
	struct vmap_area *va;

	list_for_each_entry(va, list, list) {
		if (count < most) {
			out[2 * count] = va->va_start;
			out[2 * count + 1] = va->va_end;
		}
		count++;
	}
	return count;
}

/* How many areas are in use; where each of the first @most begins and ends. */
unsigned long vmaplab_areas(unsigned long *out, unsigned long most)
{
	unsigned long count = 0;

#ifdef TREE_HAS_VMAP_NODES
	for (int node = 0; node < nr_vmap_nodes; node++)
		count = areas_in(&vmap_nodes[node].busy.head, out, count, most);
#else
	count = areas_in(&vmap_area_list, out, count, most);
#endif
	return count;
}

void vmaplab_forget(void);

/* Ends what waits, and vmap blocks of which a part was never given out. */
void vmaplab_forget(void)
{
#ifdef TREE_HAS_VMAP_NODES
	reclaim_and_purge_vmap_areas();
#endif
	vm_unmap_aliases();
	vmaplab_shrink();
}

#ifdef CONFIG_PROC_FS
unsigned long vmaplab_info(char *room, unsigned long size);

/* What /proc/vmallocinfo says; how many bytes that is. */
unsigned long vmaplab_info(char *room, unsigned long size)
{
	struct seq_file m = { .buf = room, .size = size };

	vmaplab_vmallocinfo(&m);
	return m.count;
}
#endif

#ifdef CONFIG_FAULT_INJECTION
#include <linux/fault-inject.h>

/* As mm/failslab.c and mm/fail_page_alloc.c have their own: which allocations are spared. */
struct vmaplab_failslab {
	struct fault_attr attr;
	bool ignore_gfp_reclaim;
	bool cache_filter;
};

struct vmaplab_fail_page_alloc {
	struct fault_attr attr;
	bool ignore_gfp_highmem;
	bool ignore_gfp_reclaim;
	u32 min_order;
};

bool vmaplab_spare_nothing(struct vmaplab_failslab *slab, struct vmaplab_fail_page_alloc *page);
void vmaplab_fail_nth(unsigned int nth);
unsigned int vmaplab_fail_left(void);

/* Let all allocations of a task fail that its fail_nth names, and say whether they do. */
bool vmaplab_spare_nothing(struct vmaplab_failslab *slab, struct vmaplab_fail_page_alloc *page)
{
	void *bytes;
	struct page *one;

	slab->ignore_gfp_reclaim = false;
	page->ignore_gfp_highmem = false;
	page->ignore_gfp_reclaim = false;
	page->min_order = 0;
	current->fail_nth = 1;
	bytes = kmalloc(64, GFP_KERNEL);
	current->fail_nth = 1;
	one = alloc_page(GFP_KERNEL);
	current->fail_nth = 0;
	kfree(bytes);
	if (one)
		__free_page(one);
	return !bytes && !one;
}

void vmaplab_fail_nth(unsigned int nth)
{
	current->fail_nth = nth;
}

/* How many allocations are still to come, with the one that fails; 0 after it. */
unsigned int vmaplab_fail_left(void)
{
	return current->fail_nth;
}
#endif

#ifdef CONFIG_SMP
/* A call of a program: with the result of call @ref - 1 of it as the first argument, if @ref is not 0. */
struct vmaplab_op {
	u64 function, ref, arguments[6], result;
};

struct vmaplab_program {
	struct vmaplab_op *ops;
	unsigned long count, cpus;
	struct completion done;
};

static struct vmaplab_program vmaplab_programs[NR_CPUS];
static atomic_t vmaplab_at_start;

static int vmaplab_run(void *data)
{
	struct vmaplab_program *program = data;
	unsigned long i;

	atomic_inc(&vmaplab_at_start);
	while (atomic_read(&vmaplab_at_start) < program->cpus)
		cpu_relax();
	for (i = 0; i < program->count; i++) {
		struct vmaplab_op *op = &program->ops[i];
		u64 *a = op->arguments, first = op->ref ? program->ops[op->ref - 1].result : a[0];

		if (op->ref && !first)
			continue; /* there is nothing to end */
		op->result = ((u64 (*)(u64, u64, u64, u64, u64, u64))(unsigned long)op->function)
			     (first, a[1], a[2], a[3], a[4], a[5]);
		cond_resched();
	}
	complete(&program->done);
	return 0;
}

long vmaplab_together(struct vmaplab_op *ops, unsigned long each, unsigned long cpus);

/* @cpus programs of @each calls, one after the other in @ops: all at the same time, each on a CPU of its own. */
long vmaplab_together(struct vmaplab_op *ops, unsigned long each, unsigned long cpus)
{
	struct task_struct *tasks[NR_CPUS];
	unsigned long cpu;

	if (cpus > num_online_cpus())
		return -EINVAL;
	for (cpu = 0; cpu < cpus; cpu++) {
		struct vmaplab_program *program = &vmaplab_programs[cpu];

		program->ops = ops + cpu * each;
		program->count = each;
		program->cpus = cpus;
		init_completion(&program->done);
		tasks[cpu] = kthread_create(vmaplab_run, program, "vmaplab/%lu", cpu);
		if (IS_ERR(tasks[cpu]))
			return PTR_ERR(tasks[cpu]);
		kthread_bind(tasks[cpu], cpu);
	}
	atomic_set(&vmaplab_at_start, 0);
	for (cpu = 0; cpu < cpus; cpu++)
		wake_up_process(tasks[cpu]);
	for (cpu = 0; cpu < cpus; cpu++)
		wait_for_completion(&vmaplab_programs[cpu].done);
	return 0;
}
#endif

static int __init vmaplab_serve(void)
{
	u64 *head = vmaplab_box.head, *a = vmaplab_box.arguments, seen = 0;

	register_console(&box_console);
	head[0] = (unsigned long)&vmaplab_box;
	head[1] = __pa_symbol(&vmaplab_box);
	head[2] = (unsigned long)vmaplab_box.words;
	head[3] = (unsigned long)vmap;
	head[4] = (unsigned long)pfn_to_page(0);
	head[5] = sizeof(struct page);
	head[6] = __pa_symbol(init_mm.pgd);
	head[7] = VMALLOC_START;
	head[8] = VMALLOC_END;
	head[9] = pgprot_val(PAGE_KERNEL);
	head[10] = (__force unsigned long)GFP_KERNEL;
	head[11] = PAGE_SHIFT;
	head[12] = offsetof(typeof(vmaplab_box), request);
	head[13] = offsetof(typeof(vmaplab_box), said);
	head[14] = offsetof(typeof(vmaplab_box), words);
	smp_wmb();
	memcpy(vmaplab_box.ready, "vmaplab is ready", sizeof(vmaplab_box.ready));
	for (;;) {
		u64 request = smp_load_acquire(&vmaplab_box.request);

		if (request == seen) {
			cpu_relax();
			continue;
		}
		seen = request;
		sched_set_fifo(current); /* what the call queues runs behind it, and not where it lets others run */
		vmaplab_box.result = ((u64 (*)(u64, u64, u64, u64, u64, u64, u64, u64))(unsigned long)vmaplab_box.function)
				     (a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
		flush_work(&per_cpu(vfree_deferred, raw_smp_processor_id()).wq); /* what the call has queued */
		flush_work(&drain_vmap_work);
		sched_set_normal(current, 0);
		smp_store_release(&vmaplab_box.done, seen);
		cond_resched();
	}
	return 0;
}
late_initcall(vmaplab_serve);
