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
		out[4]++;
		out[5] += va->va_end - va->va_start;
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
 * if a pool of areas of out[0] pages has out[1] of them, and says out[2]; 6 if out[0] pages wait to
 * be purged and vmap_lazy_nr says out[1]. out[4], out[5]: how many areas there are, of any kind, and how many bytes they
 * have.
 */
unsigned long vmaplab_wrong_area(unsigned long *out)
{
	unsigned long wrong, before, lazy = 0;
	int cpu;

	out[4] = out[5] = 0;
	for_each_possible_cpu(cpu)
		out[4] += !!per_cpu(ne_fit_preload_node, cpu);
	wrong = wrong_in(&free_vmap_area_root, &free_vmap_area_list, true, out);

#ifdef TREE_HAS_VMAP_NODES
	for (int node = 0; !wrong && node < nr_vmap_nodes; node++) {
		struct vmap_node *vn = vmap_nodes + node;

		wrong = wrong_in(&vn->busy.root, &vn->busy.head, false, out);
		before = out[5];
		wrong = wrong ?: wrong_in(&vn->lazy.root, &vn->lazy.head, false, out);
		lazy += out[5] - before;
		for (int pool = 0; !wrong && pool < MAX_VA_SIZE_PAGES; pool++) {
			struct vmap_area *va;

			out[0] = pool + 1;
			out[1] = 0;
			out[2] = vn->pool[pool].len;
			list_for_each_entry(va, &vn->pool[pool].head, list) {
				out[1]++;
				out[5] += va->va_end - va->va_start;
			}
			out[4] += out[1];
			if (out[1] != out[2])
				wrong = 5;
		}
	}
#else
	wrong = wrong ?: wrong_in(&vmap_area_root, &vmap_area_list, false, out);
	before = out[5];
	wrong = wrong ?: wrong_in(&purge_vmap_area_root, &purge_vmap_area_list, false, out);
	lazy += out[5] - before;
#endif
	if (!wrong && lazy >> PAGE_SHIFT != atomic_long_read(&vmap_lazy_nr)) {
		out[0] = lazy >> PAGE_SHIFT;
		out[1] = atomic_long_read(&vmap_lazy_nr);
		wrong = 6;
	}
	return wrong;
}

/* An address of [@start, @end) that is free, to be given to the next who asks; 0 if there is none. */
unsigned long vmaplab_free_within(unsigned long start, unsigned long end);

static unsigned long within(struct list_head *areas, unsigned long start, unsigned long end)
{
	struct vmap_area *va;

	list_for_each_entry(va, areas, list)
		if (va->va_start < end && start < va->va_end)
			return va->va_start > start ? va->va_start : start;
	return 0;
}
unsigned long vmaplab_free_within(unsigned long start, unsigned long end)
{
	unsigned long found = within(&free_vmap_area_list, start, end);

#ifdef TREE_HAS_VMAP_NODES
	for (int node = 0; node < nr_vmap_nodes; node++)
		for (int pool = 0; !found && pool < MAX_VA_SIZE_PAGES; pool++)
			found = within(&vmap_nodes[node].pool[pool].head, start, end);
#endif
	return found;
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

	mutex_lock(&vmap_purge_lock);
	spin_lock(&vmap_area_lock);
	list_for_each_entry(va, &vmap_area_list, list)
		err = err ?: s_show(m, &va->list);
	spin_unlock(&vmap_area_lock);
	mutex_unlock(&vmap_purge_lock);
	return err;
#endif
}
#endif
