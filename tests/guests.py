# SPDX-License-Identifier: GPL-2.0-only
"""Debian's kernels, booted in QEMU with a process of ours that makes vmap()s: memory to read areas from."""

from __future__ import annotations

import fcntl
import json
import lzma
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vmaplab._cache import cache_root

INIT = Path(__file__).parent / "guest_init.c"
BOOT_SECONDS = 120
NOTED = ("drivers/firmware/qemu_fw_cfg",)
QEMU = {
    "amd64": ("qemu-system-x86_64", "-M", "q35,memory-backend=ram", "-cpu", "max"),
    "arm64": ("qemu-system-aarch64", "-M", "virt,memory-backend=ram", "-cpu", "cortex-a76"),
}
CONSOLE = {"amd64": "console=ttyS0", "arm64": "console=ttyAMA0"}
COMPILER = {"amd64": ("x86_64-linux-gnu-gcc", "gcc"), "arm64": ("aarch64-linux-gnu-gcc",)}
NAMES = {
    "6.12": r"linux-image-6\.12\.[^ ]*-cloud-{arch}-unsigned",
    "6.1": r"linux-image-6\.1\.0-[^ ]*-cloud-{arch}-unsigned",
}


class Missing(Exception):  # noqa: N818 - no error: a test is left out
    """Something that a guest needs cannot be had here."""


def _apt(command: str, arch: str, *words: str, cwd: Path | None = None) -> str:
    """What apt says of packages of an architecture that need not be this machine's: with lists of its own."""
    if shutil.which("apt-get") is None:
        raise Missing("apt-get is not installed")
    room = cache_root() / "guests" / f"apt-{arch}"
    (room / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (room / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    options = {
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "APT::Sandbox::User": "root",
        "Dir::State": room,
        "Dir::State::lists": room / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": room,
    }
    line = [command, "-qq", *(word for name, value in options.items() for word in ("-o", f"{name}={value}")), *words]
    done = subprocess.run(line, cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise Missing(f"{command} {words[0]} fails: {' '.join(done.stderr.split())[-200:]}")
    return done.stdout


def package(series: str, arch: str, suffix: str = "") -> Path:
    """The newest kernel of Debian's of that series for clouds, unpacked; kept.

    :param suffix: ``-dbg`` for its debug information.
    :raises Missing: if it cannot be had.
    """
    room = cache_root() / "guests" / f"{series}-{arch}{suffix}"
    room.parent.mkdir(parents=True, exist_ok=True)
    with (room.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (room / "done").exists():
            _fetch(room, series, arch, suffix)
    return room


def _fetch(room: Path, series: str, arch: str, suffix: str) -> None:
    _apt("apt-get", arch, "update")
    pattern = NAMES[series].format(arch=arch).replace("-unsigned", suffix or "-unsigned")
    found = re.findall(
        f"^({pattern}) ", _apt("apt-cache", arch, "search", "--names-only", "^linux-image-"), re.MULTILINE
    )
    if not found:
        raise Missing(f"no package {pattern}")
    name = max(found, key=lambda one: [int(part) for part in re.findall(r"\d+", one)])
    with tempfile.TemporaryDirectory(dir=room.parent) as scratch:
        _apt("apt-get", arch, "download", name, cwd=Path(scratch))
        deb = next(Path(scratch).glob("*.deb"))
        new = Path(scratch) / "new"
        subprocess.run(["dpkg-deb", "-x", deb, new], check=True)
        (new / "done").touch()
        shutil.rmtree(room, ignore_errors=True)
        new.rename(room)


def archive(files: dict[str, bytes]) -> bytes:
    """A cpio archive (newc) of executable files: the kernel's initramfs."""
    out = bytearray()
    for number, (name, content) in enumerate([*files.items(), ("TRAILER!!!", b"")], 1):
        fields = (number, 0o100755, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08x" % one for one in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + content
        out += bytes(-len(out) % 4)
    return bytes(out)


def _shared() -> str | None:
    """Memory that is files, if there is room for a machine's."""
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return None
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) and found.f_bavail * found.f_frsize > 1 << 30 else None


class Guest:
    """A kernel of a Debian package that has booted, until :meth:`close`.

    :param kernel: an unpacked linux-image; ``arch``: amd64 or arm64, as Debian has it.
    :param append: boot arguments; ``cpu``: QEMU's name of it.
    :param modules: what to load, as under kernel/; with the module for QEMU's vmcoreinfo device a dump says what kernel
        it is of.
    :param events: kprobe events that are traced while it makes its vmap()s.
    :ivar ram: the file that is its memory; ``monitor``: QEMU's QMP socket.
    :ivar arch: as Debian has it; ``room``: where its files are.
    :ivar said: what it printed; ``seconds``: until it was ready.
    :raises Missing: if there is no QEMU or compiler for it.
    """

    def __init__(
        self,
        kernel: Path,
        arch: str,
        append: str = "",
        cpu: str = "",
        modules: Sequence[str] = NOTED,
        megabytes: int = 256,
        events: str = "",
    ) -> None:
        self.arch, words = arch, [*QEMU[arch]]
        if shutil.which(words[0]) is None:
            raise Missing(f"{words[0]} is not installed")
        compiler = next((one for one in COMPILER[arch] if shutil.which(one)), None)
        if compiler is None:
            raise Missing(f"{COMPILER[arch][0]} is not installed")
        if cpu:
            words[words.index("-cpu") + 1] = cpu
        if shutil.which("setpriv"):
            words = ["setpriv", "--pdeathsig", "KILL", *words]
        self.room = Path(tempfile.mkdtemp(prefix="guest-", dir=_shared()))
        self.ram, self.monitor, said = self.room / "ram", self.room / "qmp", self.room / "said"
        init = self.room / "init"
        flags = ["-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-O1"]
        subprocess.run([compiler, *flags, "-o", init, INIT], check=True)
        files = {"init": init.read_bytes()}
        for number, name in enumerate(modules):
            module = next(kernel.glob(f"lib/modules/*/kernel/{name}.ko*"))
            raw = module.read_bytes()
            files[f"m{number}.ko"] = lzma.decompress(raw) if module.suffix == ".xz" else raw
        if events:
            files["events"] = events.encode()
        (self.room / "initrd").write_bytes(archive(files))
        size = megabytes << 20
        backend = f"memory-backend-file,id=ram,size={size},mem-path={self.ram},share=on"
        words += ["-m", f"{megabytes}M", "-object", backend, "-nodefaults", "-no-user-config", "-display", "none"]
        words += ["-serial", f"file:{said}", "-qmp", f"unix:{self.monitor},server=on,wait=off", "-device", "vmcoreinfo"]
        words += ["-kernel", str(next(kernel.glob("boot/vmlinuz-*"))), "-initrd", str(self.room / "initrd")]
        words += ["-append", f"{CONSOLE[arch]} quiet {append}"]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
        start = time.monotonic()
        while b"is ready" not in (said.read_bytes() if said.exists() else b""):
            if self.process.poll() is not None or time.monotonic() - start > BOOT_SECONDS:
                text = said.read_text(errors="replace")[-2000:] if said.exists() else ""
                self.close()
                raise RuntimeError(f"the guest does not come up: {text}")
            time.sleep(0.05)
        self.seconds = time.monotonic() - start
        self.said = said.read_text(errors="replace").replace("\r", "")

    def shown(self, path: str) -> str:
        """What the file of that name had when the kernel had booted."""
        return self.said.partition(f"<<< {path}\n")[2].partition(">>>\n")[0]

    def vmallocinfo(self) -> dict[int, tuple[int, str, str]]:
        """/proc/vmallocinfo: start -> end, caller, and the words behind; what waits to be purged is left out."""
        found = {}
        for line in self.shown("/proc/vmallocinfo").splitlines():
            bounds, _, *words = line.split()
            start, _, end = bounds.partition("-")
            if "unpurged" not in words:
                caller = words.pop(0) if "+0x" in words[0] else ""
                if words and words[0].startswith("["):
                    caller += f" {words.pop(0)}"
                found[int(start, 16)] = int(end, 16), caller, " ".join(words)
        return found

    def qmp(self, command: str, **arguments: Any) -> Any:
        """What QEMU answers."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(60)
            line.connect(str(self.monitor))
            stream = line.makefile("rw")
            stream.readline()
            answer: dict[str, Any] = {}
            for one in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(one) + "\n")
                stream.flush()
                while "event" in (answer := json.loads(stream.readline())):
                    pass
            if "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            return answer["return"]

    def dump(self, path: Path, form: str = "elf") -> Path:
        """Have QEMU write a dump: elf or kdump-zlib (others where it has the libraries)."""
        self.qmp("dump-guest-memory", paging=False, protocol=f"file:{path}", format=form)
        return path

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.room, ignore_errors=True)

    def __enter__(self) -> Guest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
