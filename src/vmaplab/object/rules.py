# SPDX-License-Identifier: GPL-2.0-only
"""What a call of the kernel's own code has to leave as it was, and what it owes: rules that need no model.

At a call's end no lock is held and nothing of the task's state is other than before; each store of a live entry was
completed by the barriers that the architecture asks for (Arm ARM, D8, "TLB maintenance requirements"); who changed an
entry of the top level has called arch_sync_kernel_mappings() for it, also where the call failed
(ARCH_PAGE_TABLE_SYNC_MASK in include/linux/pgtable.h); counters of pages say what is allocated.
"""

from __future__ import annotations

import numpy as np

from vmaplab.errors import Violation
from vmaplab.judge.format import Format
from vmaplab.object.answers import Rest
from vmaplab.object.emulator import Emulator
from vmaplab.trace import L_STORE, L_SYNC, Ints, signed, unsigned

STATE: tuple[str, ...] = ("preempt_count()", "irqs_disabled()", "current->flags", "the flags of thread_info")
STATE += ("rcu_read_lock() nesting", "lazy MMU mode nesting")
"""What ``vmaplab_state()`` of support/ tells."""
_SPIN = 1


class Rules:
    """Looks at one machine after each call.

    :param form: the format of its page tables.
    :param root: physical address of the PGD; ``page``: bytes of a page.
    :param out: address of room for what the object tells of its state.
    :param forgiven: functions of this tree that are known to leave out barriers.
    :ivar areas: ``struct vmap_area`` of any kind when :meth:`trees_hold` looked last; ``space``: their bytes.
    :param counter: the node's counter of what vmalloc() holds, where the tree has no ``nr_vmalloc_pages``.
    """

    def __init__(
        self,
        cpu: Emulator,
        rest: Rest,
        form: Format,
        root: int,
        page: int,
        out: int,
        forgiven: frozenset[str],
        counter: int | None,
    ) -> None:
        self._cpu, self._rest, self._form, self._root, self._page, self._out = cpu, rest, form, root, page, out
        self._forgiven = forgiven
        self.areas = self.space = 0
        image = cpu.image
        self._told = image.has("vmaplab_state")
        self._pages = cpu.view(image.address("nr_vmalloc_pages"), 8) if image.has("nr_vmalloc_pages") else None
        self._node = None
        if counter and image.has("vmaplab_node_state"):  # without SMP a node's counters are no calls
            self._node = cpu.view(image.address("vmaplab_node_state") + 8 * counter, 8)
        if not self._told:
            return
        self._count = cpu.view(image.address("vmaplab_held_count"), 8).view("<u8")
        self._held = cpu.view(image.address("vmaplab_held"), 32 * 64).view("<u8").reshape(-1, 4)
        self.begin()
        rest.atomic = self.atomic

    def _state(self) -> list[int]:
        room = self._cpu.view(self._out, 8 * len(STATE)).view("<u8")
        room[:] = 0
        self._cpu.call("vmaplab_state", self._out)
        return [int(value) for value in room]

    def begin(self) -> None:
        """From here on calls have to leave the task's state as it is now."""
        if self._told:
            self._before = self._state()

    def atomic(self, cpu: int | None = None) -> str:
        """Why a call must not sleep now, as far as locks tell that any CPU holds, or ``cpu``; "" if it may."""
        for lock, place, how, holder in self._held[: int(self._count[0])].tolist():
            if how & _SPIN and cpu in (None, holder):
                return f"with {self._rest.lock_name(lock)} held, which {self._cpu.place(place)} took"
        return ""

    def after(self, function: str, rows: Ints) -> None:
        """Look at what ``function`` left and at the events ``rows`` of its call.

        :raises Violation: for what it owes.
        """
        if (address := self._cpu.open_store) and function not in self._forgiven:
            what = "without an ISB after the DSB" if address == 1 else f"of the entry at {address:#x} without a DSB"
            raise Violation(f"{function}() returns after a store {what}: a walker may not see the live entry yet")
        if self._told:
            self._balanced(function)
        if self._cpu.family.syncs:
            self._synced(function, rows)

    def _balanced(self, function: str) -> None:
        for lock, place, _, _ in self._held[: int(self._count[0])].tolist():
            name = self._rest.lock_name(lock)
            mode = name == "vmaplab_lazy_mmu_mode"
            what = "in lazy MMU mode, which" if mode else f"with {name} held, which"
            verb = "entered" if mode else "took"
            raise Violation(f"{function}() returns {what} {self._cpu.place(place)} {verb}")
        now = self._state()
        for name, value, before in zip(STATE, now, self._before, strict=True):
            if value != before:
                raise Violation(f"{function}() returns with {name} {value:#x}; it was {before:#x}")

    def _synced(self, function: str, rows: Ints) -> None:
        """Each new entry of the top level is told to the other page tables."""
        inside = (rows[:, 0] == L_STORE) & (rows[:, 1] >= self._root) & (rows[:, 1] < self._root + self._page)
        for at in np.flatnonzero(inside & (rows[:, 2] != 0)).tolist():
            shift, bits = self._form.levels[-1]
            index = int(rows[at, 1] - self._root) // np.dtype(self._form.entry).itemsize
            start = index << shift
            start |= -(1 << shift + bits) % (1 << 64) if index >> bits - 1 else 0
            after = rows[at:]
            end = start + (1 << shift)
            synced = after[after[:, 0] == L_SYNC].tolist()
            if not any(unsigned(first) < end and unsigned(last) > start for _, first, last, _ in synced):
                raise Violation(
                    f"{function}() returns without arch_sync_kernel_mappings() of [{start:#x}, {end:#x}), "
                    "whose entry of the top level it has set"
                )

    def trees_hold(self) -> None:
        """Look at the trees of areas: order, their lists, and what the free tree says of the areas below each.

        :raises Violation: for what is wrong there.
        """
        wrong = self._cpu.call("vmaplab_wrong_area", self._out)
        start, end, has, right, *areas = (int(value) for value in self._cpu.view(self._out, 48).view("<u8"))
        self.areas, self.space = areas
        if not wrong:
            return
        if wrong == 5:
            raise Violation(f"a node's pool of areas of {start} pages has {end} of them, and its len is {has}")
        if wrong == 6:
            raise Violation(f"{start} pages wait to be purged, and vmap_lazy_nr is {signed(end)}")
        what = (
            "a tree of areas and its list do not have the same ones, from",
            "areas overlap, or are out of order, at",
            "what is free in front of it was not merged with",
            f"subtree_max_size is {has:#x}, and the largest free area below has {right:#x} bytes, at",
        )
        raise Violation(f"{what[wrong - 1]} [{start:#x}, {end:#x})")

    def settled(self) -> None:
        """Look at what has to hold once all that was queued has run.

        :raises Violation: for counters that do not say what is allocated.
        """
        charged, accounted = self._rest.charged, len(self._rest.accounted)
        if charged not in (None, accounted):
            raise Violation(f"MEMCG_VMALLOC is {charged}, and {accounted} pages are charged to the memory cgroup")
        if self._pages is not None:
            name, counted = "nr_vmalloc_pages", int(self._pages.view("<i8")[0])
        elif self._node is not None:
            name, counted = "NR_VMALLOC", int(self._node.view("<i8")[0])
        else:
            return
        taken = self._rest.taken_pages - len(self._rest.lent)  # vfree() frees those, and counts them not
        if counted != taken:
            raise Violation(f"{name} is {counted}, and {taken} pages are allocated")
