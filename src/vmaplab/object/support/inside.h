/* SPDX-License-Identifier: GPL-2.0-only */
/* Compiled at the end of mm/vmalloc.c: entry points for what is static there. */
unsigned long vmaplab_free_areas(bool bytes);

/*
 * How many vmap_areas there are of free address space: in the tree of all, in the nodes' pools, and those that a CPU keeps
 * for its next split; or how many bytes they have.
 */
unsigned long vmaplab_free_areas(bool bytes)
{
	struct vmap_area *va;
	unsigned long count = 0;
	int cpu;

	list_for_each_entry(va, &free_vmap_area_list, list)
		count += bytes ? va->va_end - va->va_start : 1;
#ifdef TREE_HAS_VMAP_NODES
	for (int node = 0; node < nr_vmap_nodes; node++)
		for (int pool = 0; pool < MAX_VA_SIZE_PAGES; pool++)
			list_for_each_entry(va, &vmap_nodes[node].pool[pool].head, list)
				count += bytes ? va->va_end - va->va_start : 1;
#endif
	for_each_possible_cpu(cpu)
		count += !bytes && per_cpu(ne_fit_preload_node, cpu);
	return count;
}

void vmaplab_shrink(void);

void vmaplab_shrink(void)
{
#ifdef TREE_HAS_VMAP_NODES
	vmap_node_shrink_scan(NULL, NULL);
#endif
}

#ifdef CONFIG_PROC_FS
int vmaplab_vmallocinfo(struct seq_file *m);

int vmaplab_vmallocinfo(struct seq_file *m)
{
#ifdef TREE_HAS_VMAP_NODES
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
