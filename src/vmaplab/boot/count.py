# SPDX-License-Identifier: GPL-2.0-only
"""Instructions that a booted kernel executes in a call, counted by a plugin of QEMU."""

from __future__ import annotations

import mmap
import shutil
import subprocess
import tempfile
from bisect import bisect_right
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab._cache import cache_root
from vmaplab.boot.build import Bootable
from vmaplab.boot.guest import room_for_ram
from vmaplab.boot.machine import BootedKernel
from vmaplab.errors import InputError
from vmaplab.object.tools import digest

_SOURCE = Path(__file__).with_name("count.c")
_MOST_BLOCKS = 1 << 18
_HEAD = 4
_OWN = ("vmaplab_", "box_", "areas_in")


class Counted(NamedTuple):
    """Of a call, what the kernel's server of calls does aside.

    :param instructions: of all; ``functions``: by function.
    """

    instructions: int
    functions: dict[str, int]


def plugin() -> Path:
    """The plugin, compiled for this machine.

    :raises InputError: if it cannot be.
    """
    folder = cache_root() / "boot" / "plugins" / digest([_SOURCE.read_bytes()])
    path = folder / "count.so"
    if path.is_file():
        return path
    if shutil.which("gcc") is None:
        raise InputError("gcc is missing to compile QEMU's plugin; apt-get install gcc")
    folder.mkdir(parents=True, exist_ok=True)
    room = Path(tempfile.mkdtemp(prefix="new-", dir=folder))
    try:
        words = ["gcc", "-O2", "-shared", "-fPIC", "-fvisibility=hidden", "-o", str(room / path.name), str(_SOURCE)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f"cannot compile QEMU's plugin: {done.stderr.strip().partition(chr(10))[0]}")
        (room / path.name).replace(path)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return path


class CountingKernel(BootedKernel):
    """A booted kernel whose blocks are counted: several times slower, else the same."""

    def __init__(self, kernel: Bootable, boot_args: str = "") -> None:
        symbols = sorted((address, name) for name, address in kernel.symbols.items())
        self._starts, self._names = [address for address, _ in symbols], [name for _, name in symbols]
        super().__init__(kernel, boot_args)

    def boot(self) -> None:
        """Boot it anew, nothing counted."""
        size = 8 * (_HEAD + 4 * _MOST_BLOCKS)
        folder = Path(tempfile.mkdtemp(prefix="vmaplab-", dir=room_for_ram()))
        try:
            with (folder / "counts").open("w+b") as file:
                file.truncate(size)
                self._told: NDArray[np.uint64] = np.frombuffer(mmap.mmap(file.fileno(), size), dtype="<u8")
            self._more = ("-plugin", f"file={plugin()},out={folder / 'counts'}")
            super().boot()
        finally:
            shutil.rmtree(folder, ignore_errors=True)  # whoever has it mapped keeps it

    def runs(self) -> NDArray[np.uint64]:
        """Address, instructions, bytes and runs of each block so far: shape (n, 4).

        :raises InputError: if there are more than there is room for.
        """
        count = int(self._told[0])
        if count > _MOST_BLOCKS:
            raise InputError(f"QEMU has translated {count} blocks; there is room for {_MOST_BLOCKS}")
        return self._told[_HEAD:][: 4 * count].reshape(-1, 4).copy()

    def counted(self, before: NDArray[np.uint64]) -> Counted:
        """What has run since ``before``, see :meth:`runs`; what the server of calls does, and idles, is left out."""
        now = self.runs()
        runs = now[:, 3].copy()
        runs[: len(before)] -= before[:, 3]
        functions: dict[str, int] = {}
        for address, instructions, _, times in np.column_stack([now[:, :3], runs])[runs > 0].tolist():
            name = self._function(address)
            if not name.startswith(_OWN):
                functions[name] = functions.get(name, 0) + instructions * times
        return Counted(sum(functions.values()), functions)

    def _function(self, address: int) -> str:
        at = bisect_right(self._starts, (address - self.slide) % (1 << 64)) - 1
        return self._names[at] if at >= 0 else f"{address:#x}"
