# SPDX-License-Identifier: GPL-2.0-only
"""What the judges say of one mapping, for a report."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vmaplab.judge.format import EXEC
from vmaplab.judge.witness import Witness


class Proof(NamedTuple):
    """One mapping, judged; it holds, or :class:`~vmaplab.errors.Violation` would have been raised.

    :param mmu: whether an emulated MMU translated; ``cpu`` says which, or why there is none.
    :param manual: the text that the independent walker follows.
    :param translated: pages that the MMU translated, for reading and for writing.
    :param beyond: pages whose frames lie beyond the physical addresses of the emulated CPU.
    :param faults: translations that had to be refused: execution, guard page, neighbourhood.
    :param groups: groups of PTEs found complete and alike.
    :param tables: page tables that lead to the mapping.
    :param executable: the kernel does not refuse execution of its data on this architecture.
    """

    mmu: bool
    cpu: str
    manual: str
    translated: int
    beyond: int
    faults: int
    groups: int
    tables: int
    executable: bool


def prove(witness: Witness) -> Proof:
    """Sum up what was proved of the only mapping of ``witness``, undo it, and look once more.

    :raises Violation: if undoing it breaks an invariant.
    """
    found, prover = witness.walk, witness.prover
    grouped = found.entries[found.entries["group"] != 0]
    groups = len(np.unique(grouped["va"] >> grouped["group"].astype(np.uint64)))
    proof = Proof(
        prover is not None,
        witness.form.cpu,
        witness.form.manual,
        witness.translated,
        prover.beyond if prover else 0,
        prover.faults if prover else 0,
        groups,
        len(found.tables),
        bool(witness.form.data_rights & EXEC),
    )
    witness.close()
    return proof
