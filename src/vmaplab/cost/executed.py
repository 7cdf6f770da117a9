# SPDX-License-Identifier: GPL-2.0-only
"""What a call executed: its basic blocks in their order, and the addresses that they accessed."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vmaplab._whole import whole
from vmaplab.errors import InputError
from vmaplab.trace import Ints


class Code(NamedTuple):
    """A basic block: where it lies, and its instructions.

    :param answered: it stands for a function that is not there, but answered.
    """

    address: int
    data: bytes
    answered: bool = False


@dataclass(frozen=True)
class Executed:
    """A trace of one call.

    :param family: whose instructions, the name of a :class:`~vmaplab.object.family.Family`.
    :param code: each basic block once; ``names``: the function that it is of.
    :param blocks: which of them ran, in order, shape (n,).
    :param first: of each of ``blocks``, which access is its first; shape (n + 1,).
    :param accesses: addresses that were read or written, in order, shape (m,); signed.
    """

    family: str
    code: list[Code]
    names: list[str]
    blocks: NDArray[np.uint32]
    first: Ints
    accesses: Ints

    def save(self, path: Path) -> None:
        """Write it to a file, whole or not at all: about two bytes a block and three an access."""
        told = {
            "family": self.family,
            "code": [
                (one.address, one.data.hex(), one.answered, name)
                for one, name in zip(self.code, self.names, strict=True)
            ],
        }
        counts, steps = np.diff(self.first), np.diff(self.accesses, prepend=0)
        with whole(path) as half, half.open("wb") as file:
            np.savez_compressed(
                file, blocks=self.blocks, counts=counts.astype(np.uint16), steps=steps, told=json.dumps(told)
            )

    @classmethod
    def load(cls, path: Path) -> Executed:
        """Read it again.

        :raises InputError: if it is no such file.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                told = json.loads(str(held["told"]))
                code = [(Code(at, bytes.fromhex(data), answered), name) for at, data, answered, name in told["code"]]
                first = np.concatenate([[0], np.cumsum(held["counts"], dtype=np.int64)])
                accesses = np.cumsum(held["steps"])
                found = cls(
                    told["family"],
                    [one for one, _ in code],
                    [name for _, name in code],
                    held["blocks"],
                    first,
                    accesses,
                )
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
            raise InputError(f"{path}: no trace: {error}") from None
        if first[-1] != len(accesses) or (len(found.blocks) and found.blocks.max() >= len(code)):
            raise InputError(f"{path}: no trace: it names blocks or accesses that are not in it")
        return found
