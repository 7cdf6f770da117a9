"""Linux 6.16: vmap() as in 6.12; arm64 gains contiguous PTEs for huge vmalloc and ioremap."""

from __future__ import annotations

from dataclasses import replace

from vmaplab.release.linux_6_12 import RELEASE as LINUX_6_12

RELEASE = replace(
    LINUX_6_12,
    name="linux-6.16",
    title="no batching; arm64 gains contiguous PTEs for huge vmalloc and ioremap",
    merged=frozenset(
        {
            "arm64: contiguous PTEs for huge vmalloc",
            "arm64: block leaves for vmap with ptdump",
            "arm64: set_memory_*() refuses VM_ALLOW_HUGE_VMAP",
        }
    ),
    warns_on_partial_unmap=True,
)
