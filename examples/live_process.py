# SPDX-License-Identifier: GPL-2.0-only
"""The main job on real input: the pages of a live process, captured, mapped, and compared across releases.

A child process touches some memory, the first half of it advised to be huge pages. Its page frames come from
/proc/PID/pagemap. Where the kernel hides them (not root), the dma-buf system heap stands in.
"""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

from vmaplab import InputError, pages
from vmaplab.pages import pid
from vmaplab.release import DEFAULT, get

SIZE = 24 << 20
HUGE = 2 << 20
CHILD = f"""
import ctypes, mmap, sys
memory = mmap.mmap(-1, {SIZE + HUGE}, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
start = -address % {HUGE}
memory.madvise(mmap.MADV_HUGEPAGE, start, {SIZE} // 2)
for page in range(start, start + {SIZE}, mmap.PAGESIZE):
    memory[page] = 1
print(f"{{address + start:x}}-{{address + start + {SIZE}:x}}", flush=True)
sys.stdin.read()
"""


def vmaplab(*words: str) -> None:
    """Run the command line as a user would, and show the command."""
    print(f"\n$ vmaplab {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, "-m", "vmaplab.cli", *words], check=True)


def main() -> None:
    """Capture, map, compare."""
    same = [name for name, arch in get(DEFAULT).arches.items() if arch.page_size == mmap.PAGESIZE]
    arch = same[0]
    same = [name for name in same if name in ("x86_64", "riscv64-sv48")]
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin
    assert child.stdout
    Path("build").mkdir(exist_ok=True)
    captured = "build/pages.npy"
    with child.stdin:
        source = f"pid:{child.pid},{child.stdout.readline().strip()}"
        try:
            pages.load(source, arch)
        except InputError as error:
            print(f"{source}: {error}.\nTaking the dma-buf system heap instead.")
            source = f"heap:{SIZE >> 20}M,fragmentation=0.3"
        else:
            print(f"Process {child.pid} has touched {SIZE >> 20} MiB; the first half asked for huge pages.")
            print(
                f"Its pages have {pid.page_size()} bytes: any architecture with such pages can map them, {arch} first."
            )
        vmaplab("capture", source, "-o", captured, "--arch", arch, "--force")
    vmaplab("map", captured, "--arch", arch)
    vmaplab("compare", captured, "--arch", ",".join(dict.fromkeys([arch, *same])))
    print(f"\nThe pages stay in {captured}. On your PATH: source .venv/bin/activate")


if __name__ == "__main__":
    main()
