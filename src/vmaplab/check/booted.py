# SPDX-License-Identifier: GPL-2.0-only
"""A booted kernel against the kernel's own code in the emulator and the model: results, areas, page tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.boot.build import Bootable
from vmaplab.boot.machine import CALLS, MOST_PAGES, BootedKernel, lines_of
from vmaplab.calls.effects import Changes, Maps, Moves, physical_until
from vmaplab.calls.entry import Call
from vmaplab.calls.generator import Generator
from vmaplab.calls.operation import Operation
from vmaplab.calls.scenario import Scenario, text_of
from vmaplab.calls.shrink import shrink
from vmaplab.calls.table import STEPS, effect_of
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

_DRAWN = 20
"""So many scenarios are drawn for one, until there are enough that can be asked for."""
_NEVER = frozenset(word for word in STEPS if word not in CALLS)


class Came(NamedTuple):
    """What a scenario came to on one machine.

    :param results: of its steps.
    :param entries: what is mapped then, but for what was there since boot; as ``walker.ENTRY``.
    :param info: the lines of /proc/vmallocinfo, likewise.
    :param fault: what went wrong beyond results.
    """

    results: list[int | str]
    entries: NDArray[Any]
    info: list[str]
    fault: str


@dataclass
class Booted:
    """What came of many scenarios.

    :param kernel: what was booted; ``against``: the model's release, "" if it was not asked.
    :param scenarios: that were compared; ``skipped``: that no kernel survives, or that take more than its RAM.
    :param calls: steps in them; ``pages``: base pages that their page tables mapped at their ends.
    :param unsure: scenarios that differed once, and not on a kernel that had just booted.
    :param boots: of the kernel; ``boot_seconds``: how long one took; ``areas``: in use since then.
    :param without: why the emulator was not asked, "" if it was; ``unmodelled``: the model.
    :param difference: in words, "" if there is none; ``scenario``: the smallest found that shows it; ``number``: which
        of the seed's it was, None for one that was given.
    """

    kernel: Bootable
    against: str
    scenarios: int = 0
    skipped: int = 0
    unsure: int = 0
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


class Kinds(NamedTuple):
    """Parts of an address space, first address and last + 1.

    :param own: whose pages the kernel has chosen.
    :param single: those of them that it took one by one: whether some are contiguous is chance.
    :param given: mapped by physical address, which does not count from where RAM begins.
    """

    own: list[tuple[int, int]]
    single: list[tuple[int, int]]
    given: list[tuple[int, int]]


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
        self._object = ObjectKernel(built, self._boot_args, total_pages=self._pages, log_lines=1 << 20)
        self._form = FORMATS[kernel.target.arch].booted(self._boot_args)
        self._base = np.uint64(kernel.board.ram_base)
        self._kinds = Kinds([], [], [])
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

        What no kernel survives is not asked of one that runs: nothing came of it then.
        """
        booted = self.booted
        if not self._is_clean:
            booted.reset()
        self._is_clean = False
        booted.fill()
        areas = [(int(start), int(end)) for start, end in booted.reserved]
        ours = self._came_of_model(scenario, areas) if not self.unmodelled else None
        if ours and _is_fatal(ours):
            return "", None
        theirs = self._emulated(scenario, areas)
        first = ours or theirs
        if first is None:
            raise InputError(f"nothing to hold the booted kernel against: {self.without}")
        if _is_fatal(first):
            return "", None
        self._kinds = _kinds_of(first.info, scenario, first.results, self.arch.page_size)
        real = self._real(scenario)
        sides = [(name, came) for name, came in (("the model", ours), ("the object", theirs)) if came]
        told = next(filter(None, (self._differ(scenario, side, ("booted", real)) for side in sides)), "")
        fell = "" if told else booted.reset()
        self._is_clean = not told
        return told or (f"when all is ended\n  booted: {fell}" if fell else ""), first

    def _came_of_model(self, scenario: Scenario, areas: list[tuple[int, int]]) -> Came:
        model = Kernel(self.arch, self.release, self._boot_args, total_pages=self._pages, config=self._config)
        model.reserve(areas)
        return self._came(model, scenario)

    def _emulated(self, scenario: Scenario, areas: list[tuple[int, int]]) -> Came | None:
        """What it comes to in the emulator; None if that does not have what the code calls."""
        if self.without:
            return None
        try:
            self._object.reset()
            self._object.reserve(areas)
            return self._came(self._object, scenario)
        except Unprovided as error:
            self.without = str(error).removeprefix("vmaplab: ")
            return None

    def told_of(self, scenario: Scenario) -> str:
        """What becomes of a scenario on the booted kernel, in words: a fault, a difference, or nothing of both."""
        one = self.placed(scenario)
        if one is None:
            return f"not asked: {_why_not(scenario)}"
        told, came = self.compare(one)
        if came is not None:
            head, _, rest = told.partition("\n")
            return f"otherwise: {head}; {rest.strip()}" if told else "the same results, entries and areas"
        real = self._real(one)
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
        return Came(results, entries, lines_of(kernel.vmalloc_info(), self.booted.reserved), "")

    def _real(self, scenario: Scenario) -> Came:
        booted = self.booted
        results, _, fault = play(booted, scenario)
        if fault:
            return Came(results, np.empty(0, dtype=walker.ENTRY), [], fault)
        try:
            info = lines_of(booted.vmalloc_info(), booted.reserved)
            return Came(results, booted.since(booted.reserved), info, booted.complaint())
        except KernelFault as fell:  # what the steps have broken shows now
            return Came(results[:-1], np.empty(0, dtype=walker.ENTRY), [], str(fell))

    def _differ(self, scenario: Scenario, one: tuple[str, Came], other: tuple[str, Came]) -> str:
        """How two machines differ, in words: results, entries, lines of /proc/vmallocinfo."""
        (mine, ours), (theirs, real) = one, other

        def told(what: str, left: object, right: object) -> str:
            width = max(len(mine), len(theirs)) + 1
            return f"{what}\n  {mine + ':':{width}} {left}\n  {theirs + ':':{width}} {right}"

        for number, step in enumerate(scenario.steps):
            left, right = (came.results[number] if number < len(came.results) else "-" for came in (ours, real))
            if left != right:
                return told(f"step {number} ({text_of(step)})", _number(left), _number(real.fault or right))
        single = [_inside(came.entries["va"], self._kinds.single) for came in (ours, real)]
        my_entries, other_entries = ours.entries[~single[0]], real.entries[~single[1]]
        at = self._first(my_entries, other_entries)
        if at >= 0:
            return told("an entry", self._entry(my_entries, at), self._entry(other_entries, at, int(self._base)))
        mine_single, other_single = (
            [*_pages(came.entries[which], self.arch.page_size), "nothing"]
            for came, which in zip((ours, real), single, strict=True)
        )
        for mine_page, other_page in zip(mine_single, other_single, strict=False):
            if mine_page != other_page:
                return told("a page of its own", mine_page, other_page)
        changed = any(isinstance(effect_of(step.call), Changes) for step in scenario.steps)  # as the caller likes
        if frame := 0 if changed else _twice(real.entries[_inside(real.entries["va"], self._kinds.own)]):
            return told("pages of its own", "each is mapped once", f"{frame:#x} is mapped twice")
        if ours.info != real.info:
            pairs = zip([*ours.info, "nothing"], [*real.info, "nothing"], strict=False)
            return told("/proc/vmallocinfo", *next(pair for pair in pairs if pair[0] != pair[1]))
        return told("what the kernel says", "nothing", real.fault) if real.fault else ""

    def _first(self, ours: NDArray[Any], real: NDArray[Any]) -> int:
        """Which entry is the first that differs, frames of pages aside that the kernel chose; -1 if none does."""
        common = min(len(ours), len(real))
        mine, other = ours[:common], real[:common]
        alike = (mine["phys"] == other["phys"]) & _inside(mine["va"], self._kinds.given)
        alike |= (mine["phys"] + self._base == other["phys"]) | _inside(mine["va"], self._kinds.own)
        for name in ("va", "size", "attributes", "group", "rights"):
            alike &= mine[name] == other[name]
        differ = np.flatnonzero(~alike)
        return int(differ[0]) if len(differ) else common if len(ours) != len(real) else -1

    def _entry(self, entries: NDArray[Any], at: int, base: int = 0) -> str:
        """One entry in words; ``base``: where RAM begins for it."""
        if at >= len(entries):
            return "nothing"
        entry, va = entries[at], entries["va"][at : at + 1]
        phys = int(entry["phys"])
        frame = f"{phys - base:#x}" if phys >= base and not _inside(va, self._kinds.given)[0] else f"{phys:#x}"
        frame = "a page of its own" if _inside(va, self._kinds.own)[0] else frame
        bits = f"{int(entry['attributes']):#x}, rights {int(entry['rights']):#x}, group {int(entry['group'])}"
        return f"{int(entry['va']):#x} -> {frame}, {int(entry['size']):#x} bytes, bits {bits}"


def _pages(entries: NDArray[Any], page: int) -> Iterator[str]:
    """Each page that ``entries`` map, in words: address and rights."""
    for va, size, rights in zip(*(entries[name].tolist() for name in ("va", "size", "rights")), strict=True):
        yield from (f"{at:#x}, rights {rights:#x}" for at in range(va, va + size, page))


def _twice(entries: NDArray[Any]) -> int:
    """The physical address of a page that two of ``entries`` map; 0 if none is."""
    order = np.argsort(entries["phys"])
    start, size = entries["phys"][order], entries["size"][order].astype(np.uint64)
    again = np.flatnonzero(start[:-1] + size[:-1] > start[1:])
    return int(start[again[0] + 1]) if len(again) else 0


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


def _is_fatal(came: Came) -> bool:
    """Whether no kernel survives it, or it is not defined what it does."""
    return bool({BUG, UNDEFINED} & set(came.results) or came.fault)


def _kinds_of(info: list[str], scenario: Scenario, results: list[int | str], page: int) -> Kinds:
    """Where in its address space frames are what, at the end of a scenario.

    :param info: the lines of /proc/vmallocinfo then; ``page``: bytes of one.
    """
    words = [line.split() for line in info]
    bounds = [(int(start, 16), int(end, 16)) for start, end in (one[0].split("-") for one in words)]
    allocated = {area for area, one in zip(bounds, words, strict=True) if "vmalloc" in one}
    given = {area for area, one in zip(bounds, words, strict=True) if "ioremap" in one}
    own = set(allocated)
    for step, result in zip(scenario.steps, results, strict=False):
        effect = effect_of(step.call)
        if isinstance(effect, Maps) and isinstance(result, int):
            for area in (one for one in bounds if one[0] <= result < one[1]):  # what comes last has ended the others
                if effect.frames is None and not effect.quiet:
                    own.add(area)
                elif effect.frames is not None:
                    own.discard(area)
        elif isinstance(effect, Changes) and effect.frames is physical_until:
            at = results[step.ref] if 0 <= step.ref < len(results) else step.addr
            if isinstance(at, int):
                start = at + step.offset * page
                given.add((start, start + (step.length + 1) * page))
    return Kinds(sorted(own), sorted(own - allocated), sorted(given))


def _inside(va: NDArray[np.uint64], areas: list[tuple[int, int]]) -> NDArray[np.bool_]:
    inside = np.zeros(len(va), dtype=np.bool_)
    for start, end in areas:
        inside |= (va >= np.uint64(start)) & (va < np.uint64(end))
    return inside


def _number(value: int | str) -> str:
    if isinstance(value, str):
        return value
    return f"returns {value:#x}" if value > 0 else f"returns {value}"


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
    if scenario and (scenario.boot_args or scenario.total_pages):
        raise InputError("a booted kernel has its own boot arguments and RAM: leave out 'boot' and 'pages'")
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
        for number in range(1 if scenario else _DRAWN * cases):
            if found.scenarios == cases:
                break
            one = trio.placed(scenario or generator.scenario(number))
            came = None
            if one is not None:
                found.difference, came = trio.compare(one)
            if one is None or came is None:
                if scenario:
                    why = _why_not(scenario) if one is None else "no kernel survives it"
                    raise InputError(f"'{scenario}' cannot be compared: {why}")
                found.skipped += 1
                continue
            if found.difference and not trio.again(one):  # what others of that kernel do with its address space
                found.difference = ""
                found.unsure += 1
            found.scenarios += 1
            told()
            found.calls += len(one.steps)
            found.pages += int((came.entries["size"] >> np.uint64(trio.arch.page_shift)).sum())
            if found.difference:
                found.number = None if scenario else number
                smaller, _ = shrink(one, lambda other: trio.compare(other)[0] != "", tries=100)
                told_of = trio.again(smaller)
                found.difference, found.scenario = told_of or found.difference, smaller if told_of else one
                break
    finally:
        found.boots, found.without = trio.booted.boots, trio.without
        trio.close()
    return found


def _why_not(scenario: Scenario) -> str:
    """Why :meth:`Trio.placed` has no place for a scenario."""
    odd = next((step.call for step in scenario.steps if step.call not in CALLS), "")
    return f"a running kernel is not asked for the step '{odd}'" if odd else "it takes more than there is"
