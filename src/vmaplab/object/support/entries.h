/* SPDX-License-Identifier: GPL-2.0-only */
/* Entry points for calls that need more than their C function: with arguments in registers alone, six at most. */
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

/* In the order of GFP in calls/kinds.py. */
static const gfp_t vmaplab_gfp[] = {
	GFP_KERNEL, GFP_NOFS, GFP_NOIO, GFP_KERNEL_ACCOUNT, GFP_KERNEL | __GFP_ZERO, GFP_KERNEL | __GFP_NOFAIL,
};

/* @how: which of vmaplab_gfp, and 256 times which of BY in calls/kinds.py; x86 has registers for six arguments. */
void *vmaplab_vmalloc(unsigned long size, unsigned long align, unsigned long start, unsigned long end,
		      unsigned long how, unsigned long flags)
{
	gfp_t gfp = vmaplab_gfp[how & 0xff];

	switch (how >> 8) {
	case 1: return vmalloc(size);
	case 2: return vzalloc(size);
	case 3: return vmalloc_node(size, NUMA_NO_NODE);
	case 4: return vzalloc_node(size, NUMA_NO_NODE);
	case 5: return __vmalloc(size, gfp);
	case 6: return vmalloc_32(size);
	case 7: return vmalloc_huge(size, gfp);
	case 8: return vmalloc_user(size);
	case 9: return vmalloc_32_user(size);
	}
	return __vmalloc_node_range(size, align, start, end, gfp, PAGE_KERNEL, flags,
				    NUMA_NO_NODE, __builtin_return_address(0));
}

void *vmaplab_vrealloc(unsigned long addr, unsigned long size, unsigned long how)
{
#ifdef TREE_HAS_VREALLOC
	return vrealloc((void *)addr, size, vmaplab_gfp[how]);
#else
	return NULL;
#endif
}

/* What a driver does that gives vmap() pages for good. */
void *vmaplab_vmap_put(unsigned long size)
{
	unsigned int count = size >> PAGE_SHIFT, i;
	struct page **pages;
	void *addr = NULL;

	if (!count || count * sizeof(*pages) > PAGE_SIZE)
		return NULL;
	pages = kmalloc(count * sizeof(*pages), GFP_KERNEL);
	if (!pages)
		return NULL;
	for (i = 0; i < count; i++) {
		pages[i] = alloc_pages(GFP_KERNEL, 0);
		if (!pages[i])
			break;
	}
	if (i == count)
		addr = vmap(pages, count, VM_MAP | VM_MAP_PUT_PAGES, PAGE_KERNEL);
	if (addr)
		return addr;
	while (i--)
		__free_pages(pages[i], 0);
	kfree(pages);
	return NULL;
}

/* Exactly [@start, @end), without a guard page: what another kernel has had since boot. */
void *vmaplab_reserve(unsigned long start, unsigned long end)
{
	struct vm_struct *area = __get_vm_area_caller(end - start, VM_NO_GUARD, start, end, NULL);

	return area ? area->addr : NULL;
}

void *vmaplab_get_vm_area(unsigned long size, unsigned long flags)
{
	struct vm_struct *area = get_vm_area(size, flags);

	return area ? area->addr : NULL;
}

#ifdef TREE_HAS_VM_AREA_MAP_PAGES
/* An area, by any address in it, as vm_area_map_pages() wants it. */
int vmaplab_map_pages(unsigned long addr, unsigned long start, unsigned long end, struct page **pages)
{
	struct vm_struct *area = find_vm_area((void *)addr);

	return area ? vm_area_map_pages(area, start, end, pages) : -ENOENT;
}

void vmaplab_unmap_pages(unsigned long addr, unsigned long start, unsigned long end)
{
	struct vm_struct *area = find_vm_area((void *)addr);

	if (area)
		vm_area_unmap_pages(area, start, end);
}
#endif

#ifdef CONFIG_SMP
/*
 * @extents: @nr_vms offsets, then as many sizes. @out: the array of areas, then address and size of each.
 * Returns where the first one is.
 */
void *vmaplab_percpu(unsigned long *extents, int nr_vms, size_t align, unsigned long *out)
{
	struct vm_struct **vms = pcpu_get_vm_areas(extents, (size_t *)extents + nr_vms, nr_vms, align);
	int i;

	if (!vms)
		return NULL;
	out[0] = (unsigned long)vms;
	for (i = 0; i < nr_vms; i++) {
		out[1 + 2 * i] = (unsigned long)vms[i]->addr;
		out[2 + 2 * i] = vms[i]->size;
	}
	return vms[0]->addr;
}

void vmaplab_percpu_free(void *vms, int nr_vms)
{
	pcpu_free_vm_areas(vms, nr_vms);
}
#endif

/* A physical range at given addresses. */
int vmaplab_vmap_page_range(unsigned long addr, unsigned long end, unsigned long phys, unsigned long prot)
{
#ifdef TREE_HAS_VMAP_PAGE_RANGE
	return vmap_page_range(addr, end, phys, __pgprot(prot));
#else
	return ioremap_page_range(addr, end, phys, __pgprot(prot));
#endif
}

/* What ioremap() does once it has checked its arguments. @err: what ioremap_page_range() returned. */
void *vmaplab_ioremap(unsigned long phys, unsigned long size, unsigned long prot, long *err)
{
	struct vm_struct *area = get_vm_area_caller(size, VM_IOREMAP, __builtin_return_address(0));

	if (!area)
		return NULL;
	area->phys_addr = phys;
	*err = ioremap_page_range((unsigned long)area->addr, (unsigned long)area->addr + size, phys, __pgprot(prot));
	if (*err) {
		free_vm_area(area);
		return NULL;
	}
	return area->addr;
}
