# SPDX-License-Identifier: GPL-2.0-only
"""Table memory: the simulated RAM that holds the page tables, as real bytes.

Word ``w`` of the array lies at physical address ``geometry.base + w * geometry.word_bytes``; entries are stored
as the architecture stores them (big-endian on powerpc), so that a dump can be walked by an MMU.
Tables are zeroed memory from the end of what is used, or a table that was freed before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab._jit import jit
from vmaplab.cost.counters import C_TABLES, COMPILED
from vmaplab.errors import InputError
from vmaplab.pgtable.geometry import MAX_LEVELS, Geometry, i64
from vmaplab.trace import L_STORE, L_TABLE_ALLOC, L_TABLE_FREE, L_WARN, Ints, WarnOn

# Indices into Tables.state; of FREE and PATH, one per level. The walkers keep the tables that they are in in PATH: an
# array of their own would be allocated for each batch.
NEXT, TABLES, LIMIT, STOPPED, LOGGED, WARNED, ATTEMPTS, FAIL_FIRST, FAIL_SECOND, FREE = range(10)
PATH = FREE + MAX_LEVELS

# Bits of Tables.state[WARNED].
W_BUSY, W_NULL, W_INVALID = 1 << WarnOn.ENTRY_SET, 1 << WarnOn.NULL_PAGE, 1 << WarnOn.PFN_INVALID
W_BLOCK_CUT, W_GROUP_STARTED = 1 << WarnOn.BLOCK_CUT, 1 << WarnOn.GROUP_STARTED
W_GROUP_CUT, W_LEAF, W_UNALIGNED = 1 << WarnOn.GROUP_CUT, 1 << WarnOn.THROUGH_LEAF, 1 << WarnOn.END_UNALIGNED
COMPILED_WARNINGS = 8

UNLIMITED = 1 << 62
MAX_FAILURES = 2


class Tables(NamedTuple):
    """What the compiled walkers work on: words, allocator state, counters and the event log."""

    words: NDArray[Any]  # int64, or uint32 where an entry has 4 bytes
    state: Ints
    cost: Ints  # vmaplab.cost.COMPILED
    log: Ints  # shape (n, 4); n is 0 when nothing is recorded


@jit
def byteswap(value: int, size: int) -> int:
    """``value`` with its low ``size`` bytes (4 or 8) reversed; as it is if ``size`` is 0."""
    if size == 0:
        return value
    v = i64(value)
    swapped = (
        ((v & 0xFF) << 56)
        | ((v & 0xFF00) << 40)
        | ((v & 0xFF0000) << 24)
        | ((v & 0xFF000000) << 8)
        | ((v >> 8) & 0xFF000000)
        | ((v >> 24) & 0xFF0000)
        | ((v >> 40) & 0xFF00)
        | ((v >> 56) & 0xFF)
    )
    return swapped if size == 8 else (swapped >> 32) & 0xFFFFFFFF


@jit
def load(tables: Tables, g: Geometry, word: int) -> int:
    """The entry at ``word``, as a number."""
    return byteswap(i64(tables.words[word]), g.swap)


@jit
def note(tables: Tables, kind: int, address: int, value: int, size: int) -> None:
    """Add a line to the log, if there is one."""
    if len(tables.log) > 0:
        line = tables.log[tables.state[LOGGED]]
        line[0], line[1], line[2], line[3] = kind, address, value, size
        tables.state[LOGGED] += 1


@jit
def warned(tables: Tables, bit: int) -> None:
    """A WARN_ON() fired: remember which kind, ``W_*``; the log has it once, as minus ``bit``."""
    if tables.state[WARNED] & bit == 0:
        tables.state[WARNED] |= bit
        note(tables, L_WARN, -bit, 0, 0)


@jit
def warned_again(tables: Tables, bit: int) -> None:
    """As :func:`warned`, but the log has each of them: a plain WARN_ON() fires every time."""
    tables.state[WARNED] |= bit
    note(tables, L_WARN, -bit, 0, 0)


@jit
def store(tables: Tables, g: Geometry, word: int, value: int) -> None:
    """Write the entry ``value`` at ``word``."""
    tables.words[word] = byteswap(value, g.swap)
    note(tables, L_STORE, g.base + word * g.word_bytes, value, g.word_bytes)


@jit
def table_of(g: Geometry, entry: int) -> int:
    """The word index of the table that ``entry`` points to."""
    phys = ((entry & g.table_mask) >> g.table_out) << g.table_in
    return (phys - g.base) // g.word_bytes


@jit
def climb(g: Geometry, level: int, addr: int) -> int:
    """The level, from ``level`` up, whose table in use still holds the entry of ``addr``, the next one to look at."""
    while level < g.top and addr & ((1 << g.shift[level + 1]) - 1) == 0:
        level += 1
    return level


@jit
def out_of_memory(state: Ints) -> bool:
    """Whether an allocation that is tried now fails."""
    attempt = state[ATTEMPTS]
    state[ATTEMPTS] = attempt + 1
    return bool(attempt == state[FAIL_FIRST] or attempt == state[FAIL_SECOND])


@jit
def alloc_table(tables: Tables, g: Geometry, level: int) -> int:
    """A table of ``level`` with every entry empty: its word index, or -1 if there is no memory.

    ``__pte_alloc_kernel()``, ``__pmd_alloc()`` and so on: the caller populates the upper entry.
    """
    state = tables.state
    if out_of_memory(state) or state[TABLES] >= state[LIMIT]:
        return -1
    words = g.words[level]
    table = i64(state[FREE + level]) - 1
    reused = table >= 0
    if reused:
        state[FREE + level] = tables.words[table]
    else:
        table = (state[NEXT] + words - 1) // words * words
        state[NEXT] = table + words
    if reused or g.none[level] != 0:
        empty = byteswap(g.none[level], g.swap)
        for word in range(table, table + words):
            tables.words[word] = empty
    state[TABLES] += 1
    tables.cost[C_TABLES] += 1
    note(tables, L_TABLE_ALLOC, g.base + table * g.word_bytes, g.shift[level], words * g.word_bytes)
    return table


@jit
def free_table(tables: Tables, g: Geometry, level: int, table: int) -> None:
    """Give a table back; the next one of this level reuses it."""
    state = tables.state
    tables.words[table] = state[FREE + level]
    state[FREE + level] = table + 1
    state[TABLES] -= 1
    note(tables, L_TABLE_FREE, g.base + table * g.word_bytes, g.shift[level], g.words[level] * g.word_bytes)


class TableMemory:
    """The table memory of one kernel.

    :param g: the page-table format.
    :param max_tables: how many tables can be allocated below the PGD; None for no limit.
    """

    def __init__(self, g: Geometry, max_tables: int | None = None) -> None:
        self._g = g
        self._dtype: type[np.int64 | np.uint32] = np.int64 if g.word_bytes == 8 else np.uint32
        used = g.root + int(g.words[g.top])
        self._words: NDArray[Any] = np.zeros(used, dtype=self._dtype)
        invalid = 0
        for level in range(g.top if g.none[g.top] else 0):
            self._words[invalid : invalid + int(g.words[level])] = g.none[level]
            invalid += int(g.words[level])
        self._words[g.root : used] = g.none[g.top]
        self._state = np.zeros(PATH + MAX_LEVELS, dtype=np.int64)
        self._state[NEXT] = used
        self._state[LIMIT] = UNLIMITED if max_tables is None else max_tables
        counters, nothing = np.zeros(len(COMPILED), dtype=np.int64), np.zeros((0, 4), dtype=np.int64)
        self._silent = Tables(self._words, self._state, counters, nothing)
        self._log = nothing  # grows with the calls
        self.fail(())

    def reserve(self, size: int, ranges: int = 1) -> None:
        """Have room for every table that mapping so many ranges of ``size`` bytes, wherever, can need.

        :raises InputError: if this machine has not so much memory.
        """
        g = self._g
        need = int(self._state[NEXT])
        for level in range(g.top):
            need += ranges * ((size >> int(g.shift[level + 1])) + 3) * int(g.words[level])
        if need > len(self._words):
            try:
                grown = np.zeros(max(need, 2 * len(self._words)), dtype=self._dtype)
            except (MemoryError, ValueError):
                size = need * self._g.word_bytes
                raise InputError(f"this mapping can need {size} bytes of table memory, more than there is") from None
            used = int(self._state[NEXT])
            grown[:used] = self._words[:used]
            self._words = grown
            self._silent = self._silent._replace(words=grown)

    def tables(self, log_lines: int = 0) -> Tables:
        """The arrays for one call of compiled code, with room for ``log_lines`` events; counters start at 0."""
        self._state[LOGGED] = self._state[WARNED] = self._state[STOPPED] = 0
        tables = self._silent
        tables.cost[:] = 0
        if not log_lines:
            return tables
        if log_lines > len(self._log):
            self._log = np.zeros((2 * log_lines, 4), dtype=np.int64)
        return tables._replace(log=self._log)

    @property
    def tables_in_use(self) -> int:
        """Tables allocated now, the PGD aside."""
        return int(self._state[TABLES])

    @property
    def words_in_use(self) -> int:
        """Words of the table memory that are, or were, part of a table."""
        return int(self._state[NEXT])

    @property
    def root(self) -> int:
        """Physical address of the PGD, in bytes."""
        return self._g.base + self._g.root * self._g.word_bytes

    @property
    def base(self) -> int:
        """Physical address of the first byte of :meth:`dump`."""
        return self._g.base

    def dump(self) -> bytes:
        """The table memory as the machine's RAM would hold it."""
        return self._words[: int(self._state[NEXT])].tobytes()

    def live(self) -> NDArray[np.uint8]:
        """As :meth:`dump`, with the tables that are free now as zeroes."""
        words = self._words[: int(self._state[NEXT])]
        if self._state[FREE:PATH].any():
            words = words.copy()
            for level in range(MAX_LEVELS):
                table = int(self._state[FREE + level]) - 1
                while table >= 0:
                    after = int(words[table]) - 1
                    words[table : table + int(self._g.words[level])] = 0
                    table = after
        return words.view(np.uint8)

    def set_limit(self, max_tables: int | None) -> None:
        """Let at most ``max_tables`` tables exist from now on."""
        self._state[LIMIT] = UNLIMITED if max_tables is None else max_tables

    @contextmanager
    def without_end(self) -> Iterator[None]:
        """Nothing fails meanwhile, and there is no limit: somebody waits for memory."""
        kept = self._state[[LIMIT, FAIL_FIRST, FAIL_SECOND]]
        self._state[[LIMIT, FAIL_FIRST, FAIL_SECOND]] = UNLIMITED, -1, -1
        try:
            yield
        finally:
            self._state[[LIMIT, FAIL_FIRST, FAIL_SECOND]] = kept

    def fail(self, numbers: Iterable[int]) -> None:
        """Let the allocations with these numbers, counted from 0 from now on, fail: two at most.

        :raises InputError: for more.
        """
        chosen = sorted(set(numbers))
        if len(chosen) > MAX_FAILURES:
            raise InputError(f"{len(chosen)} allocations are to fail; {MAX_FAILURES} can")
        self._state[ATTEMPTS] = 0
        self._state[FAIL_FIRST : FAIL_SECOND + 1] = (chosen + [-1] * MAX_FAILURES)[:MAX_FAILURES]

    def attempt(self) -> bool:
        """Try an allocation that is no table; false if it fails."""
        return not out_of_memory(self._state)

    @property
    def attempts(self) -> int:
        """Allocations tried since :meth:`fail`."""
        return int(self._state[ATTEMPTS])
