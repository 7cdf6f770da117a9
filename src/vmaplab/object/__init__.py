"""The kernel's own code: build it (kbuild), link it (the cross ``ld``), run it (Unicorn)."""
