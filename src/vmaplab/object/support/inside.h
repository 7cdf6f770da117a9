/* SPDX-License-Identifier: GPL-2.0-only */
/* Compiled at the end of mm/vmalloc.c: entry points for what is static there. */
#include <linux/version.h>

unsigned long vmaplab_free_areas(void);

/* How many vmap_areas there are of free address space, those in the nodes' pools included. */
unsigned long vmaplab_free_areas(void)
{
	struct vmap_area *va;
	unsigned long count = 0;

	list_for_each_entry(va, &free_vmap_area_list, list)
		count++;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	for (int node = 0; node < nr_vmap_nodes; node++)
		for (int pool = 0; pool < MAX_VA_SIZE_PAGES; pool++)
			count += vmap_nodes[node].pool[pool].len;
#endif
	return count;
}

#ifdef CONFIG_PROC_FS
int vmaplab_vmallocinfo(struct seq_file *m);

int vmaplab_vmallocinfo(struct seq_file *m)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	return vmalloc_info_show(m, NULL);
#else
	struct vmap_area *va;
	int err = 0;

	list_for_each_entry(va, &vmap_area_list, list)
		err = err ?: s_show(m, &va->list);
	return err;
#endif
}
#endif
