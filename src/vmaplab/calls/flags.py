# SPDX-License-Identifier: GPL-2.0-only
"""``vm_struct`` flags, as include/linux/vmalloc.h numbers them."""

VM_IOREMAP = 0x001
VM_ALLOC = 0x002
VM_MAP = 0x004
VM_USERMAP = 0x008
VM_DMA_COHERENT = 0x010
VM_NO_GUARD = 0x040
VM_FLUSH_RESET_PERMS = 0x100
VM_MAP_PUT_PAGES = 0x200
VM_ALLOW_HUGE_VMAP = 0x400
VM_SPARSE = 0x1000
