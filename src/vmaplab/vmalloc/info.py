# SPDX-License-Identifier: GPL-2.0-only
"""``/proc/vmallocinfo``, line by line."""

from __future__ import annotations

from collections.abc import Iterator

from vmaplab.calls.flags import VM_ALLOC, VM_DMA_COHERENT, VM_IOREMAP, VM_MAP, VM_SPARSE, VM_USERMAP
from vmaplab.vmalloc.address_space import AddressSpace
from vmaplab.vmalloc.area import NO_VM, VMAP_RAM
from vmaplab.vmalloc.tree import FLAGS, VM

_WORDS = (
    (VM_IOREMAP, "ioremap"),
    (VM_SPARSE, "sparse"),
    (VM_ALLOC, "vmalloc"),
    (VM_MAP, "vmap"),
    (VM_USERMAP, "user"),
    (VM_DMA_COHERENT, "dma-coherent"),
)


def vmalloc_info(space: AddressSpace, bits_per_long: int) -> Iterator[str]:
    """What ``vmalloc_info_show()`` prints to a reader who may see addresses; callers are not known here."""
    digits = bits_per_long // 4

    def extent(block: int) -> str:
        start, end = space.bounds(block)
        return f"0x{start:0{digits}x}-0x{end:0{digits}x} {end - start:7d}"

    data = space.space.blocks
    for node in range(space.nodes):
        for block in space.busy(node):
            if data.row[block, VM] == NO_VM:
                if data.row[block, FLAGS] & VMAP_RAM:
                    yield f"{extent(block)} vm_map_ram"
                continue
            area = space.area(block)
            words = [extent(block)]
            if area.pages is not None and len(area.pages):
                words.append(f"pages={len(area.pages)}")
            if area.phys:
                words.append(f"phys=0x{area.phys:0{digits}x}")
            words += [word for flag, word in _WORDS if area.flags & flag]
            if area.pages_addr:
                words.append("vpages")
            yield " ".join(words)
    for node in range(space.nodes):
        for block in space.lazy(node):
            yield f"{extent(block)} unpurged vm_area"
