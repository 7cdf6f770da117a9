"""Build and link the kernel's own vmalloc code: kbuild out of tree, then the cross ``ld``; cached.

What comes out is one ELF file that holds mm/vmalloc.c and what it calls, as the tree and its configuration
compile it, bound to addresses at which :mod:`vmaplab.object.emulator` answers for the rest of the kernel.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from vmaplab._cache import cache_root
from vmaplab.errors import InputError
from vmaplab.object.answers import ANSWERED, SILENT
from vmaplab.object.family import Family, Target
from vmaplab.object.image import section_of

DEFAULT_PACKAGE = "linux-source-6.12"
SUPPORT = Path(__file__).parent / "support"

CONFIG = (
    "EXPERT=y",
    "BUG=y",
    "DEBUG_KERNEL=y",
    "DEBUG_BUGVERBOSE=y",
    "CC_OPTIMIZE_FOR_PERFORMANCE=y",
    "PROC_FS=y",
)
"""What every build has: WARN() with file and line, /proc, and the optimisation of distribution kernels."""

OBJECTS = (
    "mm/memory.o",
    "mm/init-mm.o",
    "mm/pgtable-generic.o",
    "lib/rbtree.o",
    "lib/find_bit.o",
    "lib/xarray.o",
    "lib/radix-tree.o",
    "lib/llist.o",
    "lib/bitmap.o",
)
MARKS = {"flush_cache_vmap": 2, "flush_cache_vunmap": 2}

# Where things are bound, relative to the image's base.
ANSWERS = 0x100_0000  # functions that are answered: STEP bytes each
SILENCE = 0x101_0000  # functions without effect
STEP = 16
ZEROES = 0x110_0000  # data that nobody defines: ZEROES_STEP bytes each
ZEROES_STEP = 0x1_0000
NOWHERE = 0x200_0000  # functions that nobody answers: not mapped
PER_CPU_BYTES = 0x1000  # for each per-CPU variable that nobody defines

_FAILED = re.compile(r"^.*(?:error:|Error \d|\*\*\*|not clean|command not found|No such file).*$", re.MULTILINE)
_PER_CPU = re.compile(r"\bDECLARE_PER_CPU\w*\([^;]*?,\s*(\w+)[^;,]*\);")
_KEPT_BUILDS, _KEPT_IMAGES = 24, 200


@dataclass(frozen=True)
class Built:
    """A linked object, in the cache.

    :param image: the ELF file.
    :param target: what it was built for.
    :param tree: the kernel tree.
    :param version: its version, e.g. ``6.12.117``.
    :param fresh: it was compiled just now, not found in the cache.
    :param call: the function that stands for ``vmap()``.
    :param zeroes: data that nothing defines; it reads as zero.
    :param compiler: the first line of its ``--version``.
    """

    image: Path
    target: Target
    tree: Path
    version: str
    fresh: bool
    call: str
    zeroes: tuple[str, ...]
    compiler: str

    @property
    def code(self) -> str:
        """Whose code this is, e.g. ``Linux 6.12.117``."""
        return f"Linux {self.version}" + (f" with {self.call}()" if self.call != "vmap" else "")


def default_archive() -> Path:
    """Debian's linux-source-6.12, as its package has it.

    :raises InputError: if the package is not installed; says how to get it.
    """
    archive = Path(f"/usr/src/{DEFAULT_PACKAGE}.tar.xz")
    if not archive.exists():
        raise InputError(f"{archive} is missing; apt-get install {DEFAULT_PACKAGE}, or name a kernel tree with --tree")
    return archive


def default_tree() -> Path:
    """The same, unpacked into the cache.

    :raises InputError: if the package is not installed, or there is no room.
    """
    archive = default_archive()
    stat = archive.stat()
    tree = cache_root() / "trees" / f"{DEFAULT_PACKAGE}-{stat.st_size:x}-{int(stat.st_mtime):x}"
    if not tree.is_dir():
        tree.parent.mkdir(parents=True, exist_ok=True)
        with _lock(tree.with_suffix(".lock")):
            if not tree.is_dir():
                for left in tree.parent.glob("unpacking-*"):  # by a process that was killed
                    shutil.rmtree(left, ignore_errors=True)
                room = Path(tempfile.mkdtemp(prefix="unpacking-", dir=tree.parent))
                try:
                    _run(["tar", "-xJf", str(archive), "-C", str(room), "--strip-components=1"], room, "unpacking")
                    room.rename(tree)
                finally:
                    shutil.rmtree(room, ignore_errors=True)
    return tree


def check_tree(tree: Path) -> str:
    """The version of the kernel in ``tree``.

    :raises InputError: if that is no kernel tree.
    """
    if not tree.is_dir():
        raise InputError(f"there is no directory {tree}")
    makefile, source = tree / "Makefile", tree / "mm" / "vmalloc.c"
    head = makefile.read_text(errors="replace")[:400] if makefile.is_file() else ""
    fields = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *= *(.*)$", head, re.MULTILINE))
    if "VERSION" not in fields or not source.is_file():
        missing = "Makefile with a VERSION" if "VERSION" not in fields else "mm/vmalloc.c"
        raise InputError(f"{tree} is no kernel tree: it has no {missing}")
    numbers = ".".join(fields.get(name, "0") for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL"))
    return str(numbers + fields.get("EXTRAVERSION", ""))


def parse_config(words: Iterable[str]) -> tuple[str, ...]:
    """``KEY=value`` words, without ``CONFIG_``.

    :raises InputError: for a word of another form.
    """
    options = []
    for word in words:
        plain = word.removeprefix("CONFIG_")
        if not re.fullmatch(r"[A-Z0-9_a-z]+=[-\w\"/. ]*", plain):
            raise InputError(f"'{word}' is no kernel configuration; write KEY=y, KEY=n or KEY=value")
        options.append(plain)
    return tuple(options)


def build(
    target: Target,
    tree: Path | None = None,
    config: Iterable[str] = (),
    snippet: Path | None = None,
    call: str = "vmap",
) -> Built:
    """Build mm/vmalloc.o and what it needs from ``tree`` for ``target``, or take it from the cache.

    :param tree: a kernel tree with no configuration in it; Debian's linux-source-6.12 if None.
    :param config: options beyond the smallest configuration, ``KEY=value``.
    :param snippet: a C file to compile at the end of mm/vmalloc.c.
    :param call: a function with the arguments of ``vmap()``, called in its place.
    :raises InputError: with the kernel's own error if its build fails, or the tools are missing.
    """
    try:
        return _build(target, tree, config, snippet, call)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise InputError(f"cannot build in {cache_root()}: {where}{error.strerror}") from None


def _build(target: Target, tree: Path | None, config: Iterable[str], snippet: Path | None, call: str) -> Built:
    tree = default_tree() if tree is None else tree.expanduser().resolve()
    version = check_tree(tree)
    options = target.options + CONFIG + parse_config(config)
    if snippet is not None and not snippet.is_file():
        raise InputError(f"there is no file {snippet}")
    tools = Tools(target.family)
    kernel_build = _KernelBuild(tree, target.family, tools, options)
    key = _digest([kernel_build.recipe, _own_state(target.family), snippet.read_bytes() if snippet else b""])
    images = cache_root() / "object" / "images" / key
    found = _find(images, tree)
    fresh = found is None
    if found is None:
        with kernel_build.locked():
            found = _find(images, tree)  # another process may have been faster
            if found is None:
                found = kernel_build.image(images, snippet)
    zeroes = tuple(json.loads((found / "manifest.json").read_text())["zeroes"])
    return Built(found / "image.elf", target, tree, version, fresh, call, zeroes, tools.version)


class Tools:
    """The compiler and binutils for one family: the host's where they build for it, else the cross tools."""

    def __init__(self, family: Family) -> None:
        native = platform.machine() == family.host
        self.prefix = "" if native else family.cross
        package = "gcc" if native else family.cross_package
        needed = {f"{self.prefix}gcc": package, f"{self.prefix}ld": f"{package} binutils"}
        needed |= {"make": "make", "gcc": "gcc", "flex": "flex", "bison": "bison", "bc": "bc"}
        missing = [tool for tool in needed if shutil.which(tool) is None]
        if missing:
            packages = " ".join(dict.fromkeys(word for tool in missing for word in needed[tool].split()))
            raise InputError(f"{', '.join(missing)} missing to build for {family.name}; apt-get install {packages}")
        self.version = self._version("gcc")
        self.linker = self._version("ld")

    def _version(self, tool: str) -> str:
        done = subprocess.run([f"{self.prefix}{tool}", "--version"], capture_output=True, text=True, check=False)
        return done.stdout.partition("\n")[0]


class _KernelBuild:
    """One build directory: a tree, a family and a configuration. Kept, so that the next change compiles fast."""

    def __init__(self, tree: Path, family: Family, tools: Tools, options: tuple[str, ...]) -> None:
        self.tree, self.family, self.tools, self.options = tree, family, tools, options
        self.recipe = "\n".join([family.name, tools.version, tools.linker, *options])
        self.dir = cache_root() / "object" / "builds" / _digest([self.recipe, str(tree)])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one process builds here."""
        self.dir.mkdir(parents=True, exist_ok=True)
        with _lock(self.dir.with_suffix(".lock")):
            yield
        _forget(self.dir.parent, _KEPT_BUILDS)
        _forget(cache_root() / "object" / "images", _KEPT_IMAGES)

    def image(self, images: Path, snippet: Path | None) -> Path:
        """Compile and link; returns the new entry of ``images``."""
        started = time.time()
        self._configure()
        objects = [name for name in (*OBJECTS, *self.family.objects) if self._has_source(name)]
        twice = [name for name in objects if name.startswith(f"arch/{self.family.srcarch}/lib/")]
        self._make("mm/vmalloc.o", *(name for name in objects if name not in twice))
        self._make(*twice, jobs=1)  # kbuild comes to an architecture's lib/ twice, at the same time if it can
        units = {name: self.dir / name for name in objects}
        own = self.dir / "vmaplab"
        own.mkdir(exist_ok=True)
        marks = own / "marks.h"
        marks.write_text(_marks({**MARKS, **self.family.marks}))
        parts = [f'#include "{marks}"', "#define CONFIG_VMAP_PFN 1", f'#include "{self.tree}/mm/vmalloc.c"']
        parts.append(f'#include "{SUPPORT}/inside.h"')
        if snippet:
            parts.append(f'#include "{snippet.resolve()}"')
        units["mm/vmalloc.o"] = self._compile(own / "vmalloc.c", parts, "mm/vmalloc.o")
        for source in self.family.marked:
            name = str(Path(source).with_suffix(".o"))
            wrapper = own / Path(source).name
            units[name] = self._compile(wrapper, [f'#include "{marks}"', f'#include "{self.tree}/{source}"'], name)
        support = SUPPORT / f"{self.family.name}.c"
        units["support"] = self._compile(own / "support.c", [f'#include "{support}"'], "mm/vmalloc.o")
        sources = self._sources([*objects, "mm/vmalloc.o"], own)
        zeroes = self._link(own, list(units.values()), self._per_cpu(sources))
        manifest = {"files": self._inputs(sources, started), "zeroes": zeroes}
        images.mkdir(parents=True, exist_ok=True)
        room = Path(tempfile.mkdtemp(prefix="new-", dir=own))
        shutil.copy(own / "image.elf", room)
        (room / "manifest.json").write_text(json.dumps(manifest))
        final = images / _digest([json.dumps(manifest, sort_keys=True)])
        try:
            room.rename(final)
        except OSError:  # another process was faster
            shutil.rmtree(room)
        return final

    def _configure(self) -> None:
        """``allnoconfig`` with our options; kept as long as they stay the same."""
        stamp = self.dir / "vmaplab-config"
        wanted = "".join(f"CONFIG_{option}\n" for option in self.options)
        if (self.dir / ".config").exists() and stamp.exists() and stamp.read_text() == wanted:
            return
        stamp.unlink(missing_ok=True)
        asked = self.dir / "vmaplab.config"
        asked.write_text(wanted)
        self._make("allnoconfig", f"KCONFIG_ALLCONFIG={asked}")
        got = (self.dir / ".config").read_text()
        values = dict(option.split("=", 1) for option in self.options)
        for key, value in values.items():
            line = f"# CONFIG_{key} is not set" if value == "n" else f"CONFIG_{key}={value}"
            if value == "n" and f"CONFIG_{key}=" not in got:
                continue
            if line not in got.splitlines():
                raise InputError(
                    f"CONFIG_{key}={value} does not hold in this tree for {self.family.kbuild_arch}: unknown there, "
                    "or something that it depends on is off"
                )
        stamp.write_text(wanted)

    def _make(self, *goals: str, jobs: int | None = None) -> None:
        jobs = jobs or len(os.sched_getaffinity(0))
        command = ["make", "-s", f"-j{jobs}", "-C", str(self.tree), f"O={self.dir}", f"ARCH={self.family.kbuild_arch}"]
        if self.tools.prefix:
            command.append(f"CROSS_COMPILE={self.tools.prefix}")
        _run([*command, *goals], self.tree, "the kernel's build")

    def _has_source(self, name: str) -> bool:
        stem = self.tree / name
        return any(stem.with_suffix(suffix).exists() for suffix in (".c", ".S"))

    def _command(self, name: str) -> list[str]:
        """How kbuild compiled the object ``name``, without its source and output."""
        path = Path(name)
        saved = (self.dir / path.parent / f".{path.name}.cmd").read_text().partition("\n")[0]
        words = shlex.split(saved.partition(":=")[2].partition(" ; ")[0])
        return [word for word in words[: words.index("-o")] if not word.startswith("-Wp,-MMD")]

    def _compile(self, wrapper: Path, parts: list[str], like: str) -> Path:
        """Compile ``parts`` with the command of the tree's object ``like``."""
        wrapper.write_text("\n".join(parts) + "\n")
        output = wrapper.with_suffix(".o")
        deps = f"-Wp,-MMD,{wrapper.with_suffix('.d')}"
        _run([*self._command(like), deps, "-o", str(output), str(wrapper)], self.dir, "compiling")
        return output

    def _link(self, own: Path, units: list[Path], per_cpu: Collection[str]) -> list[str]:
        """Join ``units``, bind what stays undefined, and write image.elf; returns the data that nobody defines.

        :param per_cpu: which data each CPU has its own of.
        """
        ld = f"{self.tools.prefix}ld"
        joined = own / "joined.o"
        _run([ld, "-r", "-o", str(joined), *map(str, units)], own, "linking")
        with joined.open("rb") as file:
            elf = ELFFile(file)
            symbols = section_of(elf, ".symtab").iter_symbols()
            undefined = {i: s.name for i, s in enumerate(symbols) if s["st_shndx"] == "SHN_UNDEF"}
            called = _called(elf, undefined, self.family.branches)
        base = self.family.image_base
        bound: list[str] = []
        zeroes: list[str] = []
        own_zeroes: list[str] = []
        answered = silent = lost = 0
        for name in undefined.values():
            plain = name.removesuffix("_noprof")
            if name in self.family.aliases:
                bound.append(f"{name} = {self.family.aliases[name]};")
                continue
            if not name or f" {name} = ." in _SCRIPT:
                continue
            if plain in ANSWERED:
                answered += 1
                where = ANSWERS + STEP * answered
            elif plain in SILENT:
                where = SILENCE + STEP * silent
                silent += 1
            elif name in called:
                where = NOWHERE + STEP * lost
                lost += 1
            elif name in per_cpu:
                own_zeroes.append(name)
                continue
            else:
                where = ZEROES + ZEROES_STEP * len(zeroes)
                zeroes.append(name)
            bound.append(f"{name} = {base + where:#x};")
        script = own / "image.lds"
        room = " ".join(f". = ALIGN(64); {name} = .; . += {PER_CPU_BYTES};" for name in own_zeroes)
        script.write_text(_SCRIPT.format(base=f"{base:#x}", bound="\n".join(bound), per_cpu=room))
        quiet = ["--no-relax", "--no-warn-rwx-segments"]
        _run([ld, *quiet, "-T", str(script), "-o", str(own / "image.elf"), str(joined)], own, "linking")
        return zeroes + own_zeroes

    def _per_cpu(self, sources: set[str]) -> set[str]:
        """The per-CPU variables that ``sources`` declare; none without CONFIG_SMP, where each is there once."""
        if "CONFIG_SMP=y" not in (self.dir / "include/config/auto.conf").read_text().splitlines():
            return set()
        headers = (self.tree / name for name in sources if name.endswith(".h"))
        return {
            name for path in headers if path.is_file() for name in _PER_CPU.findall(path.read_text(errors="replace"))
        }

    def _sources(self, objects: list[str], own: Path) -> set[str]:
        """The files that went into the image, by their names in the tree or their whole ones."""
        arch = self.family.srcarch
        names = {"Makefile", "Kbuild", "mm/Makefile", "lib/Makefile", "kernel/bounds.c"}
        names |= {f"arch/{arch}/{name}" for name in ("Makefile", "mm/Makefile", "lib/Makefile", "kernel/asm-offsets.c")}
        for folder in ("scripts", f"arch/{arch}/tools"):
            names |= {f"{folder}/{path.name}" for path in (self.tree / folder).glob("*") if path.is_file()}
        config = (self.dir / "include/config/auto.conf.cmd").read_text()
        names |= set(re.findall(r"^\t(\S+) \\$", config, re.MULTILINE))
        for name in objects:
            path = Path(name)
            text = (self.dir / path.parent / f".{path.name}.cmd").read_text()
            names |= set(re.findall(r"^(?:source_\S+ := | +)(\S+)(?: \\)?$", text, re.MULTILINE))
        for path in own.glob("*.d"):
            names |= set(path.read_text().partition(":")[2].replace("\\\n", " ").split())
        return names

    def _inputs(self, sources: set[str], started: float) -> dict[str, str]:
        """The ``sources`` with the digests of their contents.

        Those of the tree by their names in it, others (a snippet's headers) by their whole names; what is made
        in the build directory follows from them.
        """
        found = {}
        for name in sorted(sources):
            path = Path(name)
            if path.is_relative_to(self.tree):
                path = path.relative_to(self.tree)
            if path.is_relative_to(self.dir) or path.is_relative_to(SUPPORT) or not (self.tree / path).is_file():
                continue
            if (self.tree / path).stat().st_mtime > started:
                raise InputError(f"{path} changed while it was built; run it again")
            found[str(path)] = _file_digest(self.tree / path)
        return found


_SCRIPT = """
{bound}
SECTIONS {{
  . = {base};
  .text : {{ *(.text .text.* .init.text .exit.text .ref.text .noinstr.text .sched.text)
    *(.altinstr_aux .altinstr_replacement) }}
  . = ALIGN(0x10000);
  .rodata : {{ *(.rodata .rodata.* .init.rodata) }}
  __bug_table : {{ __start___bug_table = .; *(__bug_table) __stop___bug_table = .; }}
  .init.setup : {{ __setup_start = .; KEEP(*(.init.setup)) __setup_end = .; }}
  . = ALIGN(0x10000);
  .data : {{ __per_cpu_start = .; *(.data..percpu .data..percpu*) {per_cpu} __per_cpu_end = .;
    *(.data .data.* .init.data .ref.data) }}
  .bss : {{ *(.bss .bss.* COMMON) }}
  /DISCARD/ : {{ *(.smp_locks .comment .note* .modinfo .discard* .eh_frame* __ksymtab* .export_symbol .init_array*) }}
}}
"""


def _called(elf: ELFFile, undefined: dict[int, str], branches: Collection[int]) -> set[str]:
    """The undefined symbols that some instruction calls or jumps to: those of a relocation in ``branches``."""
    return {
        undefined[relocation["r_info_sym"]]
        for section in elf.iter_sections()
        if isinstance(section, RelocationSection)
        for relocation in section.iter_relocations()
        if relocation["r_info_type"] in branches and relocation["r_info_sym"] in undefined
    }


def _marks(functions: dict[str, int]) -> str:
    """A header after which each call of the ``functions`` is told to the engine, and then made."""
    lines = ["#include <linux/mm.h>", "#include <linux/vmalloc.h>", "#include <asm/cacheflush.h>"]
    lines += ["#include <asm/tlbflush.h>"]
    for name, count in functions.items():
        arguments = ", ".join(f"unsigned long a{number}" for number in range(count))
        values = ", ".join(f"a{number}" for number in range(count))
        lines += [
            f"void vmaplab_{name}({arguments});",
            f"static inline void told_{name}({arguments}) {{ vmaplab_{name}({values}); {name}({values}); }}",
            f"#undef {name}",
            f"#define {name} told_{name}",
        ]
    return "\n".join(lines) + "\n"


def _find(images: Path, tree: Path) -> Path | None:
    """The entry of ``images`` whose input files have the contents that they have in ``tree``."""
    known: dict[str, str] = {}
    for entry in sorted(images.glob("*/manifest.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            files = json.loads(entry.read_text())["files"]
        except (OSError, ValueError):  # it is just being removed
            continue
        for name, digest in files.items():
            if name not in known:
                path = tree / name
                known[name] = _file_digest(path) if path.is_file() else ""
            if known[name] != digest:
                break
        else:
            return entry.parent
    return None


def _own_state(family: Family) -> bytes:
    """The part of an image that is vmaplab's own."""
    here = Path(__file__).parent
    ours = [Path(__file__), here / "answers.py", here / f"{family.name}.py"]
    ours += [SUPPORT / "common.h", SUPPORT / f"{family.name}.c"]
    return b"".join(path.read_bytes() for path in ours)


def _digest(parts: Iterable[str | bytes]) -> str:
    state = hashlib.blake2b(digest_size=12)
    for part in parts:
        state.update((part.encode() if isinstance(part, str) else part) + b"\0")
    return state.hexdigest()


def _file_digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _forget(folder: Path, keep: int) -> None:
    """Remove all but the newest directories in ``folder``."""
    directories = sorted((d for d in folder.glob("*") if d.is_dir()), key=lambda d: d.stat().st_mtime)
    for old in directories[:-keep]:
        shutil.rmtree(old, ignore_errors=True)


def _run(command: list[str], where: Path, what: str) -> None:
    """Run ``command``; its own error, in one line, if it fails."""
    kept = ("PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "SHELL")  # KCFLAGS, LLVM... are no part of the cache's key
    environment = {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        said = done.stderr + done.stdout
        lines = [line.strip() for line in _FAILED.findall(said)] or [" ".join(said.split())[-400:]]
        raise InputError(f"{what} failed: {' | '.join(dict.fromkeys(lines[:3]))}")
