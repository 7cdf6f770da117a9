"""The vmalloc subsystem: areas of address space, and how vmap() batches pages."""
