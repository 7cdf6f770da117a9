# SPDX-License-Identifier: GPL-2.0-only
"""Findings of overlapping calls in words: places, objects, and the calls that led there."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

import capstone

from vmaplab.object.emulator import PAGE, PER_CPU
from vmaplab.object.kernel import TABLE_BYTES
from vmaplab.race.hooks import ADDRESS, ALLOC, FREE, PLACE, READ, VALUE, WHAT, WHEN, WRITE
from vmaplab.race.locks import Nested
from vmaplab.race.order import AFTER_FREE, AT_FREE, MIXED, PUBLISHED, UNSEEN
from vmaplab.race.overlap import Overlap
from vmaplab.race.played import Played
from vmaplab.race.quarantine import frame_of

_VERBS = {READ: "reads", WRITE: "writes", ALLOC: "allocates", FREE: "frees"}


@dataclass(frozen=True)
class Access:
    """One of the two sides of a race.

    :param cpu: whose.
    :param verb: what it does to the memory.
    :param place: function, file and line.
    :param when: instructions that the CPU had executed before.
    """

    cpu: int
    verb: str
    place: str
    when: int

    def __str__(self) -> str:
        return f"CPU {self.cpu} {self.verb} in {self.place}"


@dataclass(frozen=True)
class Race:
    """Two accesses that nothing keeps apart.

    :param key: the same for each schedule that shows it.
    :param what: what is wrong, in words.
    :param memory: what it is about.
    """

    key: str
    what: str
    memory: str
    first: Access
    second: Access

    def __str__(self) -> str:
        return f"{self.what} {self.memory}: {self.first}, {self.second}"


class Teller:
    """Says what there is to say."""

    def __init__(self, kernel: Overlap) -> None:
        self._kernel = kernel
        self._calls: dict[int, int] = {}  # an instruction -> the one that follows it, if it is a call

    def race(self, kind: int, first: int, second: int, played: Played) -> Race:
        """A row of :meth:`.Order.look`."""
        rows = played.rows
        one, two = self._access(rows[first]), self._access(rows[second])
        address = int(rows[second, ADDRESS]) % (1 << 64)
        if kind in (AT_FREE, AFTER_FREE, UNSEEN):
            touched = first if kind == AT_FREE else second
            address = int(rows[touched, ADDRESS]) % (1 << 64)
        what = {
            MIXED: "a race (a plain read and a marked write) on",
            AT_FREE: "nothing orders a use and the end of",
            AFTER_FREE: "use after free of",
            UNSEEN: "nothing orders the zeroing and a use of",
            PUBLISHED: "a plain write without a lock, after it was published, to",
        }.get(kind, "a race on")
        memory = self.memory(address)
        places = sorted((_bare(one.place), _bare(two.place)))
        return Race(f"{what.split(' (')[0]}: {places[0]}, {places[1]}", what, memory, one, two)

    def lock_order(self, circle: Sequence[Nested]) -> str:
        """What :meth:`.LockOrder.look` gives; the same from wherever on it goes round."""
        place, name = self._kernel._cpu.place, self._kernel._rest.lock_name
        told = [
            f"{place(one.inner_place)} takes {name(one.inner)} while {name(one.outer)} is held, which "
            f"{place(one.outer_place)} took"
            for one in circle
        ]
        return "locks in two orders: " + ", and ".join(sorted(told))

    def _access(self, row: Sequence[int]) -> Access:
        what = int(row[WHAT])
        kind = what & 0xFF
        size = int(row[VALUE]) if kind in (ALLOC, FREE) else what >> 16 & 0xFFFF
        of_frame = frame_of(int(row[ADDRESS]) % (1 << 64)) is not None
        verb = f"{_VERBS[kind]} {'it' if of_frame else f'{size} bytes'}"
        place = self._kernel._cpu.image.place(int(row[PLACE]) % (1 << 64))
        return Access(what >> 32, verb, place, int(row[WHEN]))

    def memory(self, address: int) -> str:
        """What lies at ``address``."""
        kernel = self._kernel
        rest, image = kernel._rest, kernel._cpu.image
        if (pfn := frame_of(address)) is not None:
            return f"page frame {pfn:#x}"
        start = rest.virt_of(kernel.arch.table_base)
        if start <= address < start + TABLE_BYTES:
            return f"a page table, entry {(address % kernel.arch.page_size) // 8} of it"
        for first, size in rest.known.items():
            if first <= address < first + size[0]:
                place = kernel._cpu.place(size[1])
                return f"the object of {size[0]} bytes that {place} allocated, at byte {address - first}"
        if name := image.object_at(address) or kernel._cpu.zero_at(address):
            return name
        if name := self._per_cpu_at(address):
            return name
        page = (address - kernel._page0) % (1 << 64)
        if not kernel._is_own(address) and page < kernel._page_bytes * kernel.arch.addressable_pages:
            return f"struct page of page frame {page // kernel._page_bytes:#x}, at byte {page % kernel._page_bytes}"
        return f"{address:#x}"

    def stack(self, played: Played, cpu: int, when: int) -> list[str]:
        """The places of the calls in which ``cpu`` was after ``when`` instructions, from the innermost on.

        ``played`` is the last that was played, traced.
        """
        engine, at = self._kernel._cpu, 0
        executed: list[int] = []
        for one in played.segments:
            if one.cpu == cpu:
                executed += engine.trace[at : at + one.end - one.start].tolist()
            at += one.end - one.start
        family, image, calls = engine.family, engine.image, self._calls
        decoder = capstone.Cs(*family.disassembler)
        frames: list[tuple[int, int]] = []
        for here, following in itertools.pairwise(executed[: when + 1]):
            if here not in calls:
                offset = here % (1 << 64) - image.text[0]
                _, size, name, operands = next(decoder.disasm_lite(image.code[offset : offset + 16], 0))
                calls[here] = here + size if family.calls(name, operands) else 0
            if frames and following == frames[-1][1]:
                frames.pop()
            elif calls[here] and following != calls[here]:
                frames.append((here, calls[here]))
        last = min(when, len(executed) - 1)
        found = [image.place_in_source(call % (1 << 64)) for call, _ in reversed(frames)]
        found[:0] = [image.place_in_source(executed[last] % (1 << 64))] if executed else []
        while len(found) > 1 and found[0].endswith("()"):  # what stands for locks has no source of the kernel's
            del found[0]
        return found

    def _per_cpu_at(self, address: int) -> str:
        """The per-CPU variable of a CPU but the first that holds ``address``, and whose; "" if none does."""
        image = self._kernel._cpu.image
        start, end = image.address("__per_cpu_start"), image.address("__per_cpu_end")
        stride = -(-(end - start) // PAGE) * PAGE
        number, offset = divmod(address - self._kernel._cpu.base - PER_CPU, stride)
        if not 0 <= number < self._kernel.cpus - 1 or offset >= end - start:
            return ""
        name = image.object_at(start + offset)
        return f"{name} of CPU {number + 1}" if name else ""


def general(told: str) -> str:
    """``told`` without what differs from schedule to schedule."""
    told = re.sub(r"(no order of the calls gives this: [^:]*):.*", r"\1", told)
    return re.sub(r"0x[0-9a-f]+|\b\d+\b", "N", told)


def _bare(place: str) -> str:
    """A place without its line, which other changes move."""
    return re.sub(r":\d+\)", ")", place)
