"""Page tables: their format, their memory, and the walkers that map, unmap and translate."""
