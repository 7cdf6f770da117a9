# SPDX-License-Identifier: GPL-2.0-only
"""At which address each symbol that nobody defines is bound, and the linker script that says so."""

from __future__ import annotations

from vmaplab import prototype
from vmaplab.object.answers import SILENT, STAND_INS
from vmaplab.object.compat import HARMLESS, HARMLESS_PREFIXES, SAME_AS
from vmaplab.object.hooks import STEP
from vmaplab.object.link import Needed

TELLS = "vmaplab_"
"""Before the name of a function: what tells the engine of its call."""

OWN = "vmaplab_own_start", "vmaplab_own_end"
"""Symbols at the bounds of the code of ``support/``."""

# Where things are bound, relative to the image's base.
ANSWERS = 0x100_0000  # functions that are answered: STEP bytes each, as those without effect
SILENCE = 0x101_0000  # functions without effect
ZEROES = 0x110_0000  # data that nobody defines: ZEROES_STEP bytes each
ZEROES_STEP = 0x1_0000
NOWHERE = 0x200_0000  # functions that nobody answers: not mapped
UNREACHED = 0x210_0000  # what only code refers to that no call can reach: not mapped
PER_CPU_BYTES = 0x1000  # for each per-CPU variable that nobody defines

_SCRIPT = """
{bound}
SECTIONS {{
  . = {base};
  .text : {{ {own_start} = .; *support.o(.text .text.*) {own_end} = .;
    *(.text .text.* .init.text .exit.text .ref.text .noinstr.text .sched.text)
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


class Binder:
    """Says of each undefined symbol at which address it is bound, and what that means."""

    def __init__(
        self,
        base: int,
        wants: dict[str, Needed],
        known: dict[str, list[prototype.Prototype]],
        per_cpu: set[str],
        defined: set[str],
        undefined: set[str],
    ) -> None:
        self._base, self._wants, self._known = base, wants, known
        self._per_cpu, self._defined, self._undefined = per_cpu, defined, undefined
        self.lines: list[str] = []
        self.zeroes: list[str] = []
        self.own_zeroes: list[str] = []
        self.answers: dict[str, int] = {}
        self.unanswered: list[str] = []
        self.unknown: list[str] = []
        self.guessed: list[str] = []
        self._silent = 0

    def bind(self, name: str) -> None:
        """Add a line for ``name`` to the linker script, or a name to one of the lists."""
        plain = name.removesuffix("_noprof")
        if f" {name} = ." in _SCRIPT:
            return
        if SAME_AS.get(name) in self._defined:
            self.lines.append(f"{name} = {SAME_AS[name]};")
        elif name not in self._wants:
            self._at(name, UNREACHED)
        elif plain in SILENT or self._is_told_twice(name):
            self._at(name, SILENCE + STEP * self._silent)
            self._silent += 1
        elif plain in STAND_INS:
            self._stand_in(name, plain)
        elif self._wants[name].called or name in self._known:
            self._unprovided(name)
        elif name not in HARMLESS and not name.startswith(tuple(HARMLESS_PREFIXES)):
            self.unknown.append(name)
        elif name in self._per_cpu:
            self.own_zeroes.append(name)
        else:
            self._at(name, ZEROES + ZEROES_STEP * len(self.zeroes))
            self.zeroes.append(name)

    def script(self) -> str:
        """The linker script."""
        room = " ".join(f". = ALIGN(64); {name} = .; . += {PER_CPU_BYTES};" for name in self.own_zeroes)
        bound = "\n".join(self.lines)
        return _SCRIPT.format(base=f"{self._base:#x}", bound=bound, per_cpu=room, own_start=OWN[0], own_end=OWN[1])

    def _is_told_twice(self, name: str) -> bool:
        """Whether ``name`` tells of a function that this tree has not inline: its own call is answered, and seen."""
        marked = name.removeprefix(TELLS)
        return marked != name and marked in self._undefined and marked in STAND_INS

    def _at(self, name: str, offset: int) -> None:
        self.lines.append(f"{name} = {self._base + offset:#x};")

    def _unprovided(self, name: str) -> None:
        self._at(name, NOWHERE + STEP * len(self.unanswered))
        self.unanswered.append(name)

    def _stand_in(self, name: str, plain: str) -> None:
        """Which of its stand-ins has the prototype that the tree declares."""
        declared, offered = self._known.get(name, []), STAND_INS[plain]
        fitting = [at for at, one in enumerate(offered) if any(one.prototype.matches(it) for it in declared)]
        if declared and not fitting:
            self.guessed.append(f"{name}() has a prototype that no stand-in has; it is not answered")
            self._unprovided(name)
            return
        if not declared and len(offered) > 1:
            self.guessed.append(f"{name}() is declared in no header that vmaplab reads; the newest is taken")
        self.answers[name] = (fitting or [0])[0]
        self._at(name, ANSWERS + STEP * len(self.answers))
