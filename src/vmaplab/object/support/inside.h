/* SPDX-License-Identifier: GPL-2.0-only */
/* Compiled at the end of mm/vmalloc.c: entry points for what is static there. */
unsigned long vmaplab_free_areas(bool bytes);
unsigned long vmaplab_all_areas(bool bytes);

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

/* The same of all vmap_areas: free ones, those in use, those that wait to be purged. */
unsigned long vmaplab_all_areas(bool bytes)
{
	unsigned long count = vmaplab_free_areas(bytes);
	struct vmap_area *va;

#ifdef TREE_HAS_VMAP_NODES
	for (int node = 0; node < nr_vmap_nodes; node++) {
		list_for_each_entry(va, &vmap_nodes[node].busy.head, list)
			count += bytes ? va->va_end - va->va_start : 1;
		list_for_each_entry(va, &vmap_nodes[node].lazy.head, list)
			count += bytes ? va->va_end - va->va_start : 1;
	}
#else
	list_for_each_entry(va, &vmap_area_list, list)
		count += bytes ? va->va_end - va->va_start : 1;
	list_for_each_entry(va, &purge_vmap_area_list, list)
		count += bytes ? va->va_end - va->va_start : 1;
#endif
	return count;
}

unsigned long vmaplab_wrong_area(unsigned long *out);

static unsigned long largest_below(struct rb_node *node)
{
	return node ? rb_entry(node, struct vmap_area, rb_node)->subtree_max_size : 0;
}

/* What is wrong with one tree of areas and the list beside it: see vmaplab_wrong_area(). */
static unsigned long wrong_in(struct rb_root *root, struct list_head *list, bool free, unsigned long *out)
{
	struct rb_node *node = rb_first(root);
	struct list_head *item = list->next;
	unsigned long end = 0, size, left, right;
	struct vmap_area *va;

	for (; node; node = rb_next(node), item = item->next) {
		va = rb_entry(node, struct vmap_area, rb_node);
		out[0] = va->va_start;
		out[1] = va->va_end;
		if (item != &va->list)
			return 1;
		if (va->va_start >= va->va_end || va->va_start < end)
			return 2;
		if (free && end && va->va_start == end)
			return 3;
		end = va->va_end;
		if (!free)
			continue;
		left = largest_below(node->rb_left);
		right = largest_below(node->rb_right);
		size = va->va_end - va->va_start;
		size = size > left ? size : left;
		out[2] = va->subtree_max_size;
		out[3] = size > right ? size : right;
		if (out[2] != out[3])
			return 4;
	}
	return item != list;
}

/*
 * Looks at the trees of free areas and of those in use: 0 if they are what they have to be; 1 if a tree and its list do
 * not have the same areas, 2 if areas overlap or are out of order, 3 if two free ones were not merged, 4 if an area of
 * the free tree has another subtree_max_size (out[2]) than the areas below it have (out[3]). out[0], out[1]: its bounds. 5
 * if a pool of areas of out[0] pages has out[1] of them, and says out[2].
 */
unsigned long vmaplab_wrong_area(unsigned long *out)
{
	unsigned long wrong = wrong_in(&free_vmap_area_root, &free_vmap_area_list, true, out);

#ifdef TREE_HAS_VMAP_NODES
	for (int node = 0; !wrong && node < nr_vmap_nodes; node++) {
		struct vmap_node *vn = vmap_nodes + node;

		wrong = wrong_in(&vn->busy.root, &vn->busy.head, false, out);
		wrong = wrong ?: wrong_in(&vn->lazy.root, &vn->lazy.head, false, out);
		for (int pool = 0; !wrong && pool < MAX_VA_SIZE_PAGES; pool++) {
			struct list_head *item;

			out[0] = out[1] = 0;
			out[2] = vn->pool[pool].len;
			list_for_each(item, &vn->pool[pool].head)
				out[1]++;
			out[0] = pool + 1;
			if (out[1] != out[2])
				wrong = 5;
		}
	}
#endif
	return wrong;
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
