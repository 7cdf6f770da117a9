# SPDX-License-Identifier: GPL-2.0-only
"""One build directory: the kernel's own makefiles, out of tree, then our wrappers compiled as kbuild would; linked.

Errors begin with whose fault it is: ``tree``, ``configuration``, ``compiler``, ``snippet`` or ``vmaplab``.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from vmaplab import prototype
from vmaplab._cache import cache_root
from vmaplab._pool import cpus
from vmaplab.errors import InputError
from vmaplab.object import seed
from vmaplab.object.bind import TELLS, Binder
from vmaplab.object.compat import ABSENT, PROBES
from vmaplab.object.family import Family
from vmaplab.object.lines import LINES, read_lines
from vmaplab.object.link import Unit, needed
from vmaplab.object.tools import Tools, digest, file_digest, forget, lock, run

SUPPORT = Path(__file__).parent / "support"

CONFIG = (
    "EXPERT=y",
    "BUG=y",
    "DEBUG_KERNEL=y",
    "DEBUG_BUGVERBOSE=y",
    "CC_OPTIMIZE_FOR_PERFORMANCE=y",
    "PROC_FS=y",
    "PRINTK=y",
)
"""What every build has: WARN() with file and line, /proc, what vmalloc_dump_obj() prints, and the optimisation of
distribution kernels."""

OBJECTS = (
    "mm/memory.o",
    "mm/init-mm.o",
    "mm/pgtable-generic.o",
    "mm/pagewalk.o",
    "lib/rbtree.o",
    "lib/find_bit.o",
    "lib/xarray.o",
    "lib/radix-tree.o",
    "lib/llist.o",
    "lib/bitmap.o",
)
VMALLOC, VMALLOC_O = "mm/vmalloc.c", "mm/vmalloc.o"
SHARING = ("lib/rbtree.c", "lib/xarray.c", "lib/llist.c", "mm/pagewalk.c", "mm/ptdump.c")
"""Sources whose code touches what CPUs share: it has to be known of each line whether it does so by READ_ONCE()."""
MARKS = {"flush_cache_vmap": 2, "flush_cache_vunmap": 2, "flush_tlb_kernel_range": 2}
"""Functions that some headers have inline, whose calls the engine must see, with the number of their arguments."""

_PER_CPU = re.compile(r"\bDECLARE_PER_CPU\w*\([^;]*?,\s*(\w+)[^;,]*\);")
_KEPT_BUILDS, _KEPT_IMAGES = 48, 400


class Wrapper(NamedTuple):
    """A file of ours that includes one of the tree's.

    :param unit: the object that it stands for; ``file``: its name, ``lines``: what is in it.
    :param like: the object whose command compiles it.
    """

    unit: str
    file: str
    lines: list[str]
    like: str


class KernelBuild:
    """One build directory: a tree, a family and a configuration. Kept, so that the next change compiles fast.

    :param wanted: options of ours, ``KEY=value``: a tree may lack them.
    :param required: options of the user: they hold, or the build ends.
    :param flags: of ours for the compiler, if not the object engine's.
    """

    def __init__(
        self,
        tree: Path,
        family: Family,
        tools: Tools,
        wanted: tuple[str, ...],
        required: tuple[str, ...],
        flags: str | None = None,
    ) -> None:
        self.tree, self.family, self.tools = tree, family, tools
        self._wanted, self._required = wanted, required
        # Sections of their own, so that what no call can reach needs nothing; lines, for who asks what has run.
        flags = f"-ffunction-sections {tools.debug}" if flags is None else flags
        self._told_make = [*tools.make, f"KCFLAGS={flags}"]
        self._kind = "\n".join([family.name, tools.version, tools.linker, *self._told_make, ""])
        self.recipe = self._kind + "\n".join([*wanted, "required:", *required, "."])
        self.dir = cache_root() / "object" / "builds" / digest([self.recipe, str(tree)])
        self._own = self.dir / "vmaplab"
        self._saved = self._own / "vmalloc.cmd"
        self._snippet: Path | None = None
        self._warnings: dict[str, None] = {}

    @contextmanager
    def locked(self, images: Path) -> Iterator[None]:
        """Only one process builds here, for the folder ``images``; of those beside it too many are removed."""
        self.dir.mkdir(parents=True, exist_ok=True)
        with lock(self.dir.with_suffix(".lock")):
            yield
        forget(self.dir.parent, _KEPT_BUILDS, seed.is_of_no_tree)
        forget(images.parent, _KEPT_IMAGES)

    def image(self, images: Path, snippet: Path | None) -> Path:
        """Compile and link; returns the new entry of ``images``.

        :raises InputError: with the kernel's or the compiler's first error, and whose fault it is.
        """
        started = time.time()
        own, self._snippet = self._own, snippet and snippet.resolve()
        gone = seed.prepare(self.dir, self.recipe, self._kind, self.tree)
        own.mkdir(exist_ok=True)
        self._configure()
        objects = [name for name in (*OBJECTS, *self.family.objects) if self._has_source(name)]
        twice = [name for name in objects if name.startswith(f"arch/{self.family.srcarch}/lib/")]
        once = [self._goal(name) for name in objects if name not in twice]
        once += [self._goal(VMALLOC_O)] * (not self._saved.exists())
        # kbuild looks at everything for a second, to find that nothing it makes is old, or that the tree is configured.
        there = gone is not None and gone <= {self._goal(VMALLOC_O)}
        there = there and all(self._told(name).exists() for name in [*once, *twice])
        configured = (".config", "include/config", f"arch/{self.family.srcarch}/include/generated")
        there = there and not any((self.tree / name).exists() for name in configured)
        if not there:
            self._make(*once)
        if not self._saved.exists():  # once the command is known, it is not asked for again
            self._save_command(self._goal(VMALLOC_O))
        probed = self._probed()
        wrappers = list(self._wrappers(probed))
        stems = {Path(one.file).stem for one in wrappers}
        for left in own.glob("*.[dX]"):
            if left.stem not in stems:  # what another version of us wrapped
                left.unlink()
        units = {name: self.dir / name for name in objects}  # those that we compile come below
        with ThreadPoolExecutor(cpus()) as pool:
            # kbuild comes to an architecture's lib/ twice, at the same time if it can
            rest = pool.submit(self._make, *twice, jobs=1) if twice and not there else None
            compiled = [(one.unit, pool.submit(self._compile, one)) for one in wrappers]
            for name, made in compiled:
                units[name] = made.result()
            if rest:
                rest.result()
        ours = self._wrapped()
        sources = self._sources(objects) | ours | {path for path, _ in PROBES.values()}
        said = self._link(units, self._per_cpu(sources))
        options = (self.dir / "include/config/auto.conf").read_text()
        said["config"] = dict(re.findall(r"^CONFIG_(\w+)=(.*)$", options, re.MULTILINE))
        said["guessed"] = self._unknown_absences() + said["guessed"]
        said["absent"] = self._absent()
        said["probed"] = probed
        said["warnings"] = list(self._warnings)
        manifest = {"files": self._inputs(sources, started), **said}
        seed.finish(self.dir, self.recipe, self.tree, manifest["files"], {self._in_tree(name) for name in ours})
        return self._publish(images, manifest, {name: own / name for name in ("image.elf", LINES)})

    def _goal(self, name: str) -> str:
        """What kbuild is asked for, to have the object ``name`` or, where we compile it, the command that would.

        A preprocessed file has the options of its object, and costs a tenth.
        """
        ours = (VMALLOC, *self.family.marked)
        return str(Path(name).with_suffix(".i")) if str(Path(name).with_suffix(".c")) in ours else name

    def _save_command(self, goal: str) -> None:
        """Keep how kbuild made ``goal``, which is mm/vmalloc.o or tells how that is made."""
        half = self._own / "half"
        shutil.copy(self._told(goal), half)
        half.rename(self._saved)

    def _publish(self, images: Path, manifest: dict[str, Any], made: dict[str, Path]) -> Path:
        """A new entry of ``images``, whole or not at all, with copies of what was ``made``, by their names there."""
        images.mkdir(parents=True, exist_ok=True)
        os.utime(images)  # the oldest are removed, by whoever builds beside us
        room = Path(tempfile.mkdtemp(prefix="new-", dir=self._own))
        for name, path in made.items():
            shutil.copy(path, room / name)
        (room / "manifest.json").write_text(json.dumps(manifest))
        final = images / digest([json.dumps(manifest, sort_keys=True)])
        try:
            room.rename(final)
        except OSError:  # another process was faster
            shutil.rmtree(room)
        return final

    def _vmalloc(self, probed: list[str], before: list[str], behind: list[str]) -> Wrapper:
        """mm/vmalloc.c of a tree with those of PROBES: lines before it, behind it files of ours and the snippet."""
        tree = self._own / "tree.h"
        tree.write_text("".join(f"#define TREE_HAS_{name} 1\n" for name in probed))
        parts = [*before, "#define CONFIG_VMAP_PFN 1", f'#include "{self.tree}/{VMALLOC}"', f'#include "{tree}"']
        parts += [f'#include "{SUPPORT}/{name}"' for name in behind]
        if self._snippet:
            parts += [f'#include "{SUPPORT}/snippet.h"', f'#include "{self._snippet}"']
        return Wrapper(VMALLOC_O, "vmalloc.c", parts, VMALLOC_O)

    def _wrappers(self, probed: list[str]) -> Iterator[Wrapper]:
        """What is compiled here, in a tree that has those of PROBES."""
        marks, tree = self._own / "marks.h", self._own / "tree.h"
        lazy = ("arch_enter_lazy_mmu_mode", "arch_leave_lazy_mmu_mode")
        if "LAZY_MMU_MODE_ENABLE" in probed:
            lazy = ("lazy_mmu_mode_enable", "lazy_mmu_mode_disable")
        locked = f"#ifdef CONFIG_PREEMPTION\n{_marks(dict.fromkeys(lazy, 0))}#endif\n"
        told = _marks({**MARKS, **self.family.marks}) + locked
        marks.write_text(told + _INSTEAD + ("" if "VMAP_NODES" in probed else _TELL_AREAS))
        yield self._vmalloc(probed, [f'#include "{marks}"'], ["inside.h"])
        for source in filter(self._has_source, self.family.marked):
            name = str(Path(source).with_suffix(".o"))
            parts = [f'#include "{marks}"', _KEYS_ARE_READ, f'#include "{self.tree}/{source}"']
            yield Wrapper(name, Path(source).name, parts, name)
        walks = ["#define CONFIG_PTDUMP 1", "#define CONFIG_PTDUMP_CORE 1", f'#include "{self.tree}/mm/ptdump.c"']
        yield Wrapper("mm/ptdump.o", "ptdump.c", walks, VMALLOC_O)
        support = [f'#include "{tree}"', f'#include "{SUPPORT}/{self.family.name}.c"']
        yield Wrapper("support", "support.c", support, VMALLOC_O)

    # -- configuration ------------------------------------------------------------------------------

    def _configure(self) -> None:
        """``allnoconfig`` with our options and the user's; kept as long as they stay the same."""
        stamp = self.dir / "vmaplab-config"
        wanted = "".join(f"CONFIG_{option}\n" for option in (*self._wanted, *self._required))
        if (self.dir / ".config").exists() and stamp.exists() and stamp.read_text() == wanted:
            return
        stamp.unlink(missing_ok=True)
        self._saved.unlink(missing_ok=True)
        asked = self.dir / "vmaplab.config"
        asked.write_text(wanted)
        self._make("allnoconfig", f"KCONFIG_ALLCONFIG={asked}")
        for option in self._lacking(self._required):
            raise InputError(
                f"configuration: CONFIG_{option} does not hold in this tree for {self.family.kbuild_arch}: unknown "
                "there, or something that it depends on is off"
            )
        stamp.write_text(wanted)

    def _lacking(self, options: Iterable[str]) -> list[str]:
        """Those of ``options`` that the configuration in force does not have."""
        got = set((self.dir / ".config").read_text().splitlines())
        off = {line.removesuffix(" is not set") for line in got if line.endswith(" is not set")}
        known = {line.partition("=")[0] for line in got if line.startswith("CONFIG_")}
        lacking = []
        for key, value in dict(option.split("=", 1) for option in options).items():
            holds = f"CONFIG_{key}={value}" in got
            if value == "n":
                holds = f"# CONFIG_{key}" in off or f"CONFIG_{key}" not in known
            if not holds:
                lacking.append(f"{key}={value}")
        return lacking

    def _absent(self) -> dict[str, str]:
        """Options of ours that the tree does not have, and what stands for each."""
        overruled = {option.split("=", 1)[0] for option in self._required}
        keys = [option.split("=", 1)[0] for option in self._lacking(self._wanted)]
        return {key: ABSENT.get(key, "") for key in keys if key not in overruled}

    def _unknown_absences(self) -> list[str]:
        return [
            f"CONFIG_{key} is not there or cannot be had, and vmaplab knows no reason; the build went on without it"
            for key, why in self._absent().items()
            if not why
        ]

    # -- compiling ----------------------------------------------------------------------------------

    def _make(self, *goals: str, jobs: int | None = None) -> None:
        jobs = jobs or cpus()
        command = ["make", "-s", f"-j{jobs}", "-C", str(self.tree), f"O={self.dir}", f"ARCH={self.family.kbuild_arch}"]
        command += self._told_make
        self._warnings |= dict.fromkeys(self._run([*command, *goals], self.tree))

    def _probed(self) -> list[str]:
        """Which of PROBES the tree has."""
        files = {name: self.tree / path for name, (path, _) in PROBES.items()}
        texts = {name: path.read_text(errors="replace") if path.is_file() else "" for name, path in files.items()}
        return [name for name, (_, word) in PROBES.items() if re.search(rf"\b{word}\b", texts[name])]

    def _has_source(self, name: str) -> bool:
        stem = self.tree / name
        return any(stem.with_suffix(suffix).exists() for suffix in (".c", ".S"))

    def _told(self, name: str) -> Path:
        """Where kbuild keeps how it compiled the object ``name``."""
        path = Path(name)
        return self.dir / path.parent / f".{path.name}.cmd"

    def _command(self, name: str) -> list[str]:
        """How kbuild compiles the object ``name``, without its source and output."""
        saved = (self._saved if name == VMALLOC_O else self._told(self._goal(name))).read_text().partition("\n")[0]
        words = shlex.split(saved.partition(":=")[2].partition(" ; ")[0])
        kept = [word for word in words[: words.index("-o")] if not word.startswith("-Wp,-MMD")]
        return kept if "-c" in kept else [word for word in kept if word != "-E"] + ["-c"]

    def _compile(self, it: Wrapper) -> Path:
        """Compile a wrapper, if the command or anything that goes into it is another than last time."""
        wrapper = self._own / it.file
        output, key = wrapper.with_suffix(".o"), wrapper.with_suffix(".key")
        deps, told = wrapper.with_suffix(".d"), wrapper.with_suffix(".X")
        command = [*self._command(it.like), f"-Wp,-MMD,{deps}", "-o", str(output), str(wrapper)]
        wrapper.write_text("\n".join(it.lines) + "\n")
        said = wrapper.with_suffix(".said")
        whole = all(path.exists() for path in (output, told, key, said))
        if not (whole and key.read_text() == self._key(command, deps)):
            key.unlink(missing_ok=True)
            warnings = [text for one in self.tools.compiled(command, told) for text in self._run(one, self.dir)]
            said.write_text(json.dumps(warnings))
            key.write_text(self._key(command, deps))
        self._warnings |= dict.fromkeys(json.loads(said.read_text()))
        return output

    def _key(self, command: list[str], deps: Path) -> str:
        """A name for a command and the contents of all files that the last one read, wherever tree and build are."""
        tree, here = os.fsencode(self.tree), os.fsencode(self.dir)

        def anywhere(text: bytes) -> bytes:
            return text.replace(tree, b"tree").replace(here, b"dir")

        names = {anywhere(os.fsencode(name)): self.dir / name for name in (_names_in(deps) if deps.exists() else ())}
        parts = [anywhere(os.fsencode("\0".join(command)))]
        for name, path in sorted(names.items()):
            held = path.read_bytes() if path.is_file() else b""
            parts += [name, anywhere(held) if path.is_relative_to(self._own) else held]
        return digest(parts)

    def _run(self, command: list[str], where: Path) -> list[str]:
        """Run ``command``; its warnings, but for those of our files.

        :raises InputError: if it fails: its own first error, in one line that begins with whose fault it is.
        """
        reads = (self.tree, SUPPORT, *self.tools.reads, *([self._snippet.parent] if self._snippet else []))
        done = run(command, where, reads, (self.dir,))
        if not done.returncode:
            found = [text.replace(f"{self.tree}/", "") for text in _WARNING.findall(done.stderr)]
            return [text for text in found if not text.startswith((str(SUPPORT), str(self._own)))]
        said = done.stderr + done.stdout
        first = next((pattern.search(said) for pattern in _FIRST_ERROR if pattern.search(said)), None)
        text = " ".join((first[0] if first else said[-400:]).split())
        macro = _IN_MACRO.search(said, first.end()) if first and ".h:" in text.partition(" ")[0] else None
        if macro:  # an error of a header is one of who uses its macro
            text = f"{macro[1]} in {macro[2]}(): {text}"
        if len(text) > _LONGEST:
            text = f"{text[:_LONGEST]} ..."
        raise InputError(f"{self._at_fault(text)}: {text.replace(f'{self.tree}/', '')}")

    def _at_fault(self, text: str) -> str:
        """Whose fault it is what the compiler or kbuild says."""
        if self._snippet and (str(self._snippet) in text or str(self._own / "vmalloc.c") in text):
            return "snippet"
        if str(SUPPORT) in text or str(self._own) in text:
            return f"vmaplab: what it adds to the tree does not fit {self.tree.name}"
        return "compiler" if _COMPILER.search(text) else "tree"

    # -- linking ------------------------------------------------------------------------------------

    def _link(self, units: dict[str, Path], per_cpu: set[str]) -> dict[str, Any]:
        """Join ``units``, bind what stays undefined, and write image.elf.

        :param per_cpu: which data each CPU has its own of.
        :returns: what the manifest says of it: ``zeroes``, ``answers`` (which prototype of each), ``unanswered``
            and ``guessed``.
        :raises InputError: for data that nobody defines and that is not known to be harmless.
        """
        names = list(units)
        parsed = [Unit(path, self.family.branches) for path in units.values()]
        roots = [names.index(VMALLOC_O), names.index("support")]
        wants = needed(parsed, roots)
        known = prototype.declared(self._own.glob("*.X"))
        defined = {name for unit in parsed for name in unit.defines}
        undefined = dict.fromkeys(name for unit in parsed for name in sorted(unit.undefined - defined))
        binder = Binder(self.family.image_base, wants, known, per_cpu, defined, set(undefined))
        for name in undefined:
            binder.bind(name)
        if binder.unknown:
            told = ", ".join(f"{name} (in {wants[name].by.removeprefix('.text.')})" for name in binder.unknown)
            raise InputError(
                f"tree: {told} is data that nothing here defines, and vmaplab does not know that reading it as zero "
                "does no harm (object/compat.py lists what is known)"
            )
        joined, script, image = self._own / "joined.o", self._own / "image.lds", self._own / "image.elf"
        support = str(units["support"])
        others = [str(path) for name, path in units.items() if name != "support"]
        self._run([self.tools.ld, "-r", "-o", str(joined), *others], self._own)
        script.write_text(binder.script())
        self._run(
            [self.tools.ld, "--no-relax", *self.tools.quiet, "-T", str(script), "-o", str(image), str(joined), support],
            self._own,
        )
        own = [Path(source).name for source in (VMALLOC, *SHARING, *self.family.marked, *self.family.sources)]
        read_lines(image, self.tree, own, self._snippet, self.tools.calls).save(self._own / LINES)
        self._run([self.tools.strip, "--strip-debug", str(image)], self._own)
        return {
            "zeroes": binder.zeroes + binder.own_zeroes,
            "answers": binder.answers,
            "unanswered": {
                name: wants[name].by.removeprefix(".text.")
                for name in binder.unanswered
                if names[wants[name].unit] == VMALLOC_O or names[wants[name].unit].startswith("arch/")
            },
            "guessed": binder.guessed,
        }

    def _per_cpu(self, sources: set[str]) -> set[str]:
        """The per-CPU variables that ``sources`` declare; none without CONFIG_SMP, where each is there once."""
        if "CONFIG_SMP=y" not in (self.dir / "include/config/auto.conf").read_text().splitlines():
            return set()
        headers = (self.tree / name for name in sources if name.endswith(".h"))
        return {
            name for path in headers if path.is_file() for name in _PER_CPU.findall(path.read_text(errors="replace"))
        }

    # -- what went into it --------------------------------------------------------------------------

    def _sources(self, objects: list[str]) -> set[str]:
        """The files that went into the image, by their names in the tree or their whole ones."""
        arch = self.family.srcarch
        names = {"Makefile", "Kbuild", "mm/Makefile", "lib/Makefile"}
        names |= {f"arch/{arch}/{name}" for name in ("Makefile", "mm/Makefile", "lib/Makefile")}
        for folder in ("scripts", f"arch/{arch}/tools"):
            names |= {f"{folder}/{path.name}" for path in (self.tree / folder).glob("*") if path.is_file()}
        if (self.dir / "tools").is_dir():  # objtool, which runs on every object: its makefiles use relative names
            for folder in ("objtool", "lib", "build", "include", "scripts", f"arch/{arch}"):
                within = (path for path in (self.tree / "tools" / folder).rglob("*") if path.is_file())
                names |= {str(path.relative_to(self.tree)) for path in within}
        config = (self.dir / "include/config/auto.conf.cmd").read_text()
        names |= set(re.findall(r"^\t(\S+) \\$", config, re.MULTILINE))
        commands = [self._told(self._goal(name)) for name in objects]
        # What kbuild prepares first: bounds, asm-offsets and their like become headers.
        commands += [path for folder in ("kernel", f"arch/{arch}/kernel") for path in self._prepared(folder)]
        for path in commands:
            names |= set(re.findall(r"^(?:source_\S+ := | +)(\S+)(?: \\)?$", path.read_text(), re.MULTILINE))
        return names

    def _wrapped(self) -> set[str]:
        """The files that went into what is compiled here, by their whole names."""
        return {name for path in self._own.glob("*.d") for name in _names_in(path)}

    def _in_tree(self, name: str) -> str:
        return os.path.normpath(name).removeprefix(f"{self.tree}/")

    def _prepared(self, folder: str) -> list[Path]:
        return sorted((self.dir / folder).glob("**/.*.s.cmd"))

    def _inputs(self, sources: set[str], started: float) -> dict[str, str]:
        """The ``sources`` with the digests of their contents; "" for one that must not be there.

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
                raise InputError(f"tree: {path} changed while it was built; run it again")
            found[str(path)] = file_digest(self.tree / path)
        return found | dict.fromkeys(self._shadows(sources), "")

    def _shadows(self, sources: set[str]) -> set[str]:
        """Files that are not there and would be included instead of one that was, by their names in the tree."""
        words = self._command(VMALLOC_O)
        folders = [os.path.normpath(self.dir / word.removeprefix("-I")) for word in words if word.startswith("-I")]
        found = set()
        for name in (os.path.normpath(self.dir / name) for name in sources if name.endswith(".h")):
            for number, folder in enumerate(folders):
                if name.startswith(f"{folder}/"):
                    found |= {f"{before}/{name.removeprefix(f'{folder}/')}" for before in folders[:number]}
        inside = f"{self.tree}/"
        return {name.removeprefix(inside) for name in found if name.startswith(inside) and not Path(name).exists()}


def _names_in(deps: Path) -> set[str]:
    """The files that a list of the compiler's names, but for what is made of them."""
    return set(deps.read_text().partition(":")[2].replace("\\\n", " ").split())


_WARNING = re.compile(r"^\S+:\d+:\d+: warning: .*$", re.MULTILINE)
_IN_MACRO = re.compile(r"^(\S+\.c:\d+:\d+): note: in expansion of macro '(\w+)'", re.MULTILINE)
_LONGEST = 300
_FIRST_ERROR = [
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"^.*\b(?:fatal )?error: .*$",  # the compiler
        r"^.*(?:not clean|command not found|No such file|unknown option|undefined reference|syntax error).*$",
        r"^.*\bError\b.*$",
        r"^.*\*\*\*.*$",
    )
]
_COMPILER = re.compile(r"unrecognized command|unknown option|internal compiler error|command not found|too old")


_KEYS_ARE_READ = """#include <linux/jump_label.h>
#undef static_branch_unlikely
#define static_branch_unlikely(x) (atomic_read(&(x)->key.enabled) > 0)"""
"""With CONFIG_JUMP_LABEL a static key is in the code, which nobody patches here."""

_INSTEAD = """
#include <linux/memcontrol.h>
int vmaplab_vm_insert_page(struct vm_area_struct *vma, unsigned long addr, struct page *page);
#define vm_insert_page vmaplab_vm_insert_page
void vmaplab_mod_memcg_page_state(struct page *page, int item, int val);
#define mod_memcg_page_state vmaplab_mod_memcg_page_state
"""
"""Neither the page tables of processes nor memory cgroups are run: the engine gets what would be told to them."""

_TELL_AREAS = """
void vmaplab_alloc_vmap_area(unsigned long addr, unsigned long size);
#define kasan_populate_vmalloc(addr, size, ...) \\
	(vmaplab_alloc_vmap_area(addr, size), kasan_populate_vmalloc(addr, size, ##__VA_ARGS__))
"""
"""alloc_vmap_area() calls that function for each area: where the model has not the tree's allocator, it follows."""


def _marks(functions: dict[str, int]) -> str:
    """A header after which each call of the ``functions`` is told to the engine, and then made."""
    lines = ["#include <linux/mm.h>", "#include <linux/vmalloc.h>", "#include <asm/cacheflush.h>"]
    lines += ["#include <asm/tlbflush.h>"]
    for name, count in functions.items():
        arguments = ", ".join(f"unsigned long a{number}" for number in range(count)) or "void"
        values = ", ".join(f"a{number}" for number in range(count))
        lines += [
            f"void {TELLS}{name}({arguments});",
            f"static inline void told_{name}({arguments}) {{ {TELLS}{name}({values}); {name}({values}); }}",
            f"#undef {name}",
            f"#define {name} told_{name}",
        ]
    return "\n".join(lines) + "\n"
