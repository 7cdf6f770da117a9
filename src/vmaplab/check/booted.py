# SPDX-License-Identifier: GPL-2.0-only
"""A booted kernel against the kernel's own code in the emulator and the model: results, areas, page tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vmaplab.arch import Arch
from vmaplab.boot.build import Bootable
from vmaplab.boot.machine import CALLS, MOST_PAGES, BootedKernel, lines_of
from vmaplab.calls.effects import Maps, Moves
from vmaplab.calls.entry import Call
from vmaplab.calls.generator import Generator
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario
from vmaplab.calls.shrink import shrink
from vmaplab.calls.table import STEPS, effect_of
from vmaplab.check.came import Came, Comparison, is_fatal, kinds_of
from vmaplab.check.plan import OLD_ALLOCATOR, lacked_by
from vmaplab.check.sides import BUG, UNDEFINED, play
from vmaplab.check.tree import TreeFacts, facts_of, model_config
from vmaplab.config import parse_boot_args
from vmaplab.errors import InputError, KernelFault, Unprovided
from vmaplab.judge import FORMATS, walker
from vmaplab.kernel import Kernel
from vmaplab.object.build import Built
from vmaplab.object.kernel import ObjectKernel
from vmaplab.pfn import NULL_PFN
from vmaplab.release import Release

MOST_TRIES = 4
"""Of a scenario behind which other areas are in use than before."""
DRAWN = 20
"""So many scenarios are drawn for one, until there are enough that can be asked for."""
_NEVER = frozenset(word for word in STEPS if word not in CALLS)


@dataclass
class Booted:
    """What came of many scenarios.

    :param kernel: what was booted; ``against``: the model's release, "" if it was not asked.
    :param scenarios: that were compared; ``skipped``: that no kernel survives, or that take more than its RAM.
    :param calls: steps in them; ``pages``: base pages that their page tables mapped at their ends.
    :param boots: of the kernel; ``boot_seconds``: how long one took; ``areas``: in use since then.
    :param without: why the emulator was not asked, "" if it was; ``unmodelled``: the model.
    :param difference: in words, "" if there is none; ``scenario``: the smallest found that shows it; ``number``: which
        of the seed's it was, None for one that was given; ``alone``: whether it shows that on a kernel that has just
        booted, too, without the scenarios before it.
    """

    kernel: Bootable
    against: str
    scenarios: int = 0
    skipped: int = 0
    calls: int = 0
    pages: int = 0
    boots: int = 0
    areas: int = 0
    without: str = ""
    unmodelled: str = ""
    boot_seconds: float = 0.0
    difference: str = ""
    scenario: Scenario | None = None
    number: int | None = None
    alone: bool = True


class Trio:
    """A booted kernel, the same code in the emulator, and the model, which all have the areas of its boot.

    :param modelled: whether the model is asked: of a tree whose rules no release has, it says nothing.
    """

    def __init__(
        self,
        kernel: Bootable,
        built: Built,
        release: Release | None = None,
        boot_args: str = "",
        modelled: bool = True,
    ) -> None:
        self.without = ""  # why the emulator is not asked
        facts = self._facts(built)
        if release and not built.has_nodes:
            raise InputError(f"{built.code} has another allocator than the model: leave out --release")
        self.release = release or facts.release
        self.unmodelled = "" if release else _no_model(built, facts) if modelled else "it was not asked"
        model = self.release.on(kernel.target.arch)
        self._boot_args = parse_boot_args(model, boot_args)  # refused before anything boots
        self.booted = BootedKernel(kernel, " ".join(self._boot_args))
        try:
            self._set_up(kernel, built)
        except BaseException:
            self.close()
            raise

    def _facts(self, built: Built) -> TreeFacts:
        try:
            return facts_of(built)
        except Unprovided as error:
            self.without = str(error).removeprefix("vmaplab: ")
            return facts_of(replace(built, call="vmap"))  # what is beside the function that was given

    def _set_up(self, kernel: Bootable, built: Built) -> None:
        told, arch = self.booted.arch, self.release.on(kernel.target.arch)
        self.arch: Arch = replace(
            arch, page_kernel=told.page_kernel, vmalloc_start=told.vmalloc_start, vmalloc_end=told.vmalloc_end
        )
        self._config = model_config(built)
        self._pages = self.booted.total_pages or 0
        self.object = ObjectKernel(built, self._boot_args, total_pages=self._pages, log_lines=1 << 20)
        self._form = FORMATS[kernel.target.arch].booted(self._boot_args)
        self._base = np.uint64(kernel.board.ram_base)
        self._is_clean = True
        self.left_out = _NEVER | lacked_by(built, self.release) | _without_function(kernel)
        self.left_out |= frozenset() if built.has_nodes else OLD_ALLOCATOR

    def close(self) -> None:
        """End the booted kernel."""
        self.booted.close()

    def generator(self, seed: int, pages: int) -> Generator:
        """Where scenarios come from."""
        return Generator(self.arch, seed, pages, self.booted.kernel.call != "vmap", 0, 1, self.left_out)

    def placed(self, scenario: Scenario) -> Scenario | None:
        """``scenario`` with its page frames in RAM; None if it cannot be asked for."""
        steps, asked = [], 0
        if scenario.boot_args:
            return None
        most = (1 << self.arch.phys_bits - self.arch.page_shift) - self.booted.first_frame
        for step in scenario.steps:
            beyond = step.pfns is not None and ((step.pfns >= most) & (step.pfns != np.uint64(NULL_PFN))).any()
            if step.call not in CALLS or beyond or (step.pfns is not None and len(step.pfns) > MOST_PAGES):
                return None
        for step in scenario.steps:
            effect = effect_of(step.call)
            asked += step.length if isinstance(effect, Moves) or _has_own(step) else 0
            steps.append(self._in_ram(step))
        return None if asked > self._pages // 2 else Scenario(tuple(steps))

    def _in_ram(self, step: Operation) -> Operation:
        if step.pfns is None or not len(step.pfns):
            return step
        effect = effect_of(step.call)
        if isinstance(effect, Maps) and effect.memory is False:  # it wants frames of no memory
            return step
        real = step.pfns[step.pfns != np.uint64(NULL_PFN)]
        if not len(real):
            return step
        down = np.uint64(int(real.min()) // self._pages * self._pages)
        return step._replace(pfns=np.where(step.pfns == np.uint64(NULL_PFN), step.pfns, step.pfns - down))

    def compare(self, scenario: Scenario) -> tuple[str, Came | None]:
        """How they differ, in words, "" if they do not; and what came of the first that the kernel is held against.

        What no kernel survives is not asked of one that runs: nothing came of it then. If other areas are in use when
        all is ended, it is asked again: others of that kernel take some, too, but not each time.
        """
        for _ in range(MOST_TRIES):
            told, came = self._compare(scenario)
            left = self._left() if told or came else ""
            if not left:
                break
        return told or (left and f"when all is ended\n  booted: {left}"), came

    def _left(self) -> str:
        """Which area there is, or is no more, that was not there before the last scenario, now that it is ended."""
        boots, before = self.booted.boots, self._before
        if not self._is_clean:
            self.booted.reset()
            self._is_clean = True
        now = self.booted.areas()
        if boots != self.booted.boots or np.array_equal(now, before):
            return ""
        known = {tuple(area) for area in before.tolist()}
        added = next((area for area in now.tolist() if tuple(area) not in known), None)
        return f"the area [{added[0]:#x}, {added[1]:#x}) is left" if added else "an area of others is gone"

    def _compare(self, scenario: Scenario) -> tuple[str, Came | None]:
        booted = self.booted
        if not self._is_clean:
            booted.reset()
        self._is_clean = False
        areas = self.filled()
        ours = self._came_of_model(scenario, areas) if not self.unmodelled else None
        if ours and is_fatal(ours):
            return "", None
        theirs = self.emulated(scenario, areas)
        first = ours or theirs
        if first is None:
            raise InputError(f"nothing to hold the booted kernel against: {self.without}")
        if is_fatal(first):
            return "", None
        compared = self._comparison(scenario, first)
        real = self.real(scenario)
        sides = [(name, came) for name, came in (("the model", ours), ("the object", theirs)) if came]
        told = next(filter(None, (compared.differ(scenario, side, ("booted", real)) for side in sides)), "")
        fell = "" if told else booted.reset()
        self._is_clean = not told
        return told or (f"when all is ended\n  booted: {fell}" if fell else ""), first

    def filled(self) -> list[tuple[int, int]]:
        """The areas that there are now, with no hole between them: see :meth:`.BootedKernel.fill`."""
        self._before = self.booted.areas()
        self.booted.fill()
        return [(int(start), int(end)) for start, end in self.booted.reserved]

    def differ(self, scenario: Scenario, theirs: Came, real: Came) -> str:
        """How the emulator and the booted kernel differ, in words; "" if they do not."""
        return self._comparison(scenario, theirs).differ(scenario, ("the object", theirs), ("booted", real))

    def _comparison(self, scenario: Scenario, came: Came) -> Comparison:
        page = self.arch.page_size
        return Comparison(kinds_of(came.info, scenario, came.results, page), self._base, page)

    def _came_of_model(self, scenario: Scenario, areas: list[tuple[int, int]]) -> Came:
        model = Kernel(self.arch, self.release, self._boot_args, total_pages=self._pages, config=self._config)
        model.reserve(areas)
        return self._came(model, scenario)

    def emulated(self, scenario: Scenario, areas: list[tuple[int, int]]) -> Came | None:
        """What it comes to in the emulator; None if that does not have what the code calls."""
        if self.without:
            return None
        try:
            self.object.reset()
            self.object.reserve(areas)
            return self._came(self.object, scenario)
        except Unprovided as error:
            self.without = str(error).removeprefix("vmaplab: ")
            return None

    def told_of(self, scenario: Scenario) -> str:
        """What becomes of a scenario on the booted kernel, in words: a fault, a difference, or nothing of both."""
        one = self.placed(scenario)
        if one is None:
            return f"not asked: {why_not(scenario)}"
        told, came = self.compare(one)
        if came is not None:
            head, _, rest = told.partition("\n")
            return f"otherwise: {head}; {rest.strip()}" if told else "the same results, entries and areas"
        real = self.real(one)
        return real.fault or "no fault is seen"

    def again(self, scenario: Scenario) -> str:
        """As :meth:`compare`, on a kernel that has just booted; only how they differ."""
        self.booted.boot()
        self._is_clean = True
        return self.compare(scenario)[0]

    def _came(self, kernel: Kernel | ObjectKernel, scenario: Scenario) -> Came:
        results, _, fault = play(kernel, scenario)
        if fault or {BUG, UNDEFINED} & set(results):
            return Came(results, np.empty(0, dtype=walker.ENTRY), [], fault)
        memory, root = kernel.live_tables(), kernel.table_root
        start, end = self.arch.vmalloc_start, self.arch.vmalloc_end
        entries = walker.walk(memory, root, root, self._form, start, end).entries
        info, warned = lines_of(kernel.vmalloc_info(), self.booted.reserved), next(iter(kernel.warnings), "")
        return Came(results, entries, info, "", warned)

    def real(self, scenario: Scenario) -> Came:
        """What it comes to on the booted kernel."""
        booted = self.booted
        results, _, fault = play(booted, scenario)
        if fault:
            return Came(results, np.empty(0, dtype=walker.ENTRY), [], fault)
        try:
            info = lines_of(booted.vmalloc_info(), booted.reserved)
            warned = next(iter(booted.warnings), "")
            return Came(results, booted.since(booted.reserved), info, booted.complaint(), warned)
        except KernelFault as fell:  # what the steps have broken shows now
            return Came(results[:-1], np.empty(0, dtype=walker.ENTRY), [], str(fell))


def _has_own(step: Operation) -> bool:
    """Whether the kernel takes pages of its own for a step."""
    effect = effect_of(step.call)
    return isinstance(effect, Maps) and effect.frames is None and not effect.quiet


def _without_function(kernel: Bootable) -> frozenset[str]:
    """The calls, by the first words of their steps, whose functions a kernel does not have."""
    bound = ((word, one.binding) for word, one in STEPS.items() if word in CALLS and isinstance(one, Call))
    return frozenset(word for word, one in bound if one and one.name not in kernel.symbols)


def _no_model(built: Built, facts: TreeFacts) -> str:
    """Why the model says nothing of a tree; "" if it does."""
    if not built.has_nodes:
        return "the model has the allocator of kernels from 6.9 on"
    return "vmap() follows the rules of no release" if facts.unknown else ""


def only_steps(scenario: Scenario | None) -> None:
    """:raises InputError: if a scenario says what a kernel that boots decides itself."""
    if scenario and (scenario.boot_args or scenario.total_pages):
        raise InputError("a booted kernel has its own boot arguments and RAM: leave out 'boot' and 'pages'")


def check_booted(
    kernel: Bootable,
    built: Built,
    cases: int,
    seed: int = 1,
    boot_args: str = "",
    pages: int = 256,
    release: Release | None = None,
    scenario: Scenario | None = None,
    modelled: bool = True,
    told: Callable[[], None] = lambda: None,
) -> Booted:
    """Run scenarios on a kernel that boots, on its code in the emulator and on the model; stops at a difference.

    :param kernel: what is booted; ``built``: the object of the same tree.
    :param boot_args: that all three have; ``release``: of the model, if not what the tree is.
    :param cases: how many to compare; ``scenario``: the only one to run.
    :param modelled: as of :class:`Trio`.
    :param told: called for each scenario.
    """
    only_steps(scenario)
    trio = Trio(kernel, built, release, boot_args, modelled)
    against = "" if trio.unmodelled else trio.release.name
    found = Booted(
        kernel,
        against,
        unmodelled=trio.unmodelled,
        areas=len(trio.booted.reserved),
        boot_seconds=trio.booted.boot_seconds,
    )
    try:
        generator = trio.generator(seed, pages)
        for number in range(1 if scenario else DRAWN * cases):
            if found.scenarios == cases:
                break
            one = trio.placed(scenario or generator.scenario(number))
            came = None
            if one is not None:
                found.difference, came = trio.compare(one)
            if one is None or came is None:
                if scenario:
                    why = why_not(scenario) if one is None else "no kernel survives it"
                    raise InputError(f"'{scenario}' cannot be compared: {why}")
                found.skipped += 1
                continue
            found.scenarios += 1
            told()
            found.calls += len(one.steps)
            found.pages += int((came.entries["size"] >> np.uint64(trio.arch.page_shift)).sum())
            if found.difference:
                found.number = None if scenario else number
                found.scenario = one
                if not trio.again(one):
                    found.alone = False
                    break
                smaller, _ = shrink(one, lambda other: trio.compare(other)[0] != "", tries=100)
                if told_of := trio.again(smaller):
                    found.difference, found.scenario = told_of, smaller
                break
    finally:
        found.boots, found.without = trio.booted.boots, trio.without
        trio.close()
    return found


def why_not(scenario: Scenario) -> str:
    """Why :meth:`Trio.placed` has no place for a scenario."""
    odd = next((step.call for step in scenario.steps if step.call not in CALLS), "")
    return f"a running kernel is not asked for the step '{odd}'" if odd else "it takes more than there is"
