# SPDX-License-Identifier: GPL-2.0-only
"""In which order locks are taken, as lockdep has it: two kinds of locks, each taken while the other is held, are a
deadlock that waits for its moment, whether or not the calls met in it.

Locks are of one kind if code in one place takes both. Who only tries a lock does not wait for it; who shares one does
not wait for another who does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from vmaplab.race.hooks import ADDRESS, DROP, PLACE, TAKE, WHAT
from vmaplab.trace import Ints

_SHARED, _TRIED = 1, 2


class Nested(NamedTuple):
    """A lock that is taken while another is held.

    :param outer: the lock that is held; ``outer_place``: what took it; ``shares_outer``: shared.
    :param inner: the lock that is taken; likewise.
    """

    outer: int
    outer_place: int
    shares_outer: bool
    inner: int
    inner_place: int
    shares_inner: bool


class LockOrder:
    """What the logs of one pair of calls tell of it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """From here on other calls are logged: nothing is known of the order."""
        self._known: set[bytes] = set()
        self._kind: dict[int, int] = {}  # a lock, or -1 - a place -> another of the same kind, towards the first
        self._nested: dict[Nested, None] = {}

    def look(self, rows: Ints) -> Iterator[list[Nested]]:
        """The circles that ``rows`` close."""
        what = rows[:, WHAT] & 0xFF
        its = rows[((what == TAKE) | (what == DROP)) & (rows[:, PLACE] != 0)]
        new: list[Nested] = []
        for cpu in np.unique(its[:, WHAT] >> 32).tolist():
            mine = its[its[:, WHAT] >> 32 == cpu]
            kinds = mine[:, WHAT] & 0xFF
            told = np.stack([kinds, np.where(kinds == TAKE, mine[:, PLACE], 0), mine[:, ADDRESS]], axis=1)
            if (key := told.tobytes()) not in self._known:
                self._known.add(key)
                new += self._take_in(told)
        circles: set[frozenset[Nested]] = set()
        for one in new:
            circle = self._circle(one, self._first) or self._circle(one, lambda lock: lock)
            if circle and frozenset(circle) not in circles:
                circles.add(frozenset(circle))
                yield circle

    def _take_in(self, told: Ints) -> list[Nested]:
        """What is nested in what one CPU took and dropped, and was not known."""
        held: list[tuple[int, int, bool]] = []  # as Nested has them
        new = []
        for kind, place, address in told.tolist():
            place, lock, shared = place % (1 << 64), address % (1 << 64) & ~(_SHARED | _TRIED), bool(address & _SHARED)
            if kind == DROP:
                held = [one for one in held if one[0] != lock]
                continue
            self._kind[self._first(-1 - place)] = self._first(lock)
            for outer in held if not address & _TRIED else ():
                one = Nested(*outer, lock, place, shared)
                if one not in self._nested:
                    self._nested[one] = None
                    new.append(one)
            held.append((lock, place, shared))
        return new

    def _first(self, one: int) -> int:
        while self._kind.get(one, one) != one:
            one = self._kind[one]
        return one

    def _circle(self, one: Nested, kind: Callable[[int], int]) -> list[Nested]:
        """The shortest way back from the inner lock of ``one`` to its outer one, ``one`` in front; [] if none is."""
        start = kind(one.outer)
        seen = {kind(one.inner)}
        ways = [] if start in seen else [[one]]
        while ways:
            following = []
            for way in ways:
                at = kind(way[-1].inner)
                for other in self._nested:
                    if kind(other.outer) != at or (other.shares_outer and way[-1].shares_inner):
                        continue
                    end = kind(other.inner)
                    if end == start and not (other.shares_inner and one.shares_outer):
                        return [*way, other]
                    if end not in seen:
                        seen.add(end)
                        following.append([*way, other])
            ways = following
        return []
