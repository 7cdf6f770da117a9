/* SPDX-License-Identifier: GPL-2.0-only */
/* Comes before a snippet: names that came later, for the trees that do not have them yet. */

#ifndef TREE_HAS_LAZY_MMU_MODE_ENABLE
#define lazy_mmu_mode_enable() arch_enter_lazy_mmu_mode()
#define lazy_mmu_mode_disable() arch_leave_lazy_mmu_mode()
#endif

#if defined(CONFIG_ARM64) && !defined(TREE_HAS_ARM64_SET_PTES)
static inline void __maybe_unused __set_ptes(struct mm_struct *mm, unsigned long addr, pte_t *ptep, pte_t pte,
					     unsigned int nr)
{
	for (; nr; nr--, addr += PAGE_SIZE, ptep++, pte = pfn_pte(pte_pfn(pte) + 1, pte_pgprot(pte)))
		set_pte_at(mm, addr, ptep, pte);
}
#endif
