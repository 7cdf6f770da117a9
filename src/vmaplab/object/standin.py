# SPDX-License-Identifier: GPL-2.0-only
"""How a function is answered: the C prototype that a method stands for, and the registers that it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vmaplab.object.family import Family
from vmaplab.prototype import Prototype, parse
from vmaplab.trace import Ints


class Cpu(Protocol):
    """What is asked of the CPU that runs the code: see :class:`~vmaplab.object.emulator.Emulator`."""

    family: Family

    def argument(self, number: int) -> int: ...  # noqa: D102
    def caller(self) -> str: ...  # noqa: D102
    def return_address(self) -> int: ...  # noqa: D102
    def place(self, address: int) -> str: ...  # noqa: D102
    def object_at(self, address: int) -> str: ...  # noqa: D102
    def text(self, address: int, most: int = 256) -> str: ...  # noqa: D102
    def view(self, address: int, size: int) -> NDArray[np.uint8]: ...  # noqa: D102
    def write(self, address: int, data: bytes) -> None: ...  # noqa: D102
    def log(self, kind: int, address: int, value: int, size: int) -> None: ...  # noqa: D102


class Answers(Protocol):
    """What answers a CPU's calls: see :class:`~vmaplab.object.answers.Rest`."""

    queued: Mapping[str, int | None]

    def answer(self, name: str, argument: Callable[[int], int]) -> int: ...  # noqa: D102
    def at_once(self, rows: Ints, names: Mapping[int, str]) -> Ints: ...  # noqa: D102


class StandIn(NamedTuple):
    """One stand-in.

    :param prototype: of the function that it stands for.
    :param method: of :class:`~vmaplab.object.answers.Rest`.
    :param order: number of the C argument that each parameter of the method takes, and how it is read.
    :param trees: the kernels that declare it so, as far as vmaplab has seen them.
    """

    prototype: Prototype
    method: str
    order: tuple[int, ...]
    trees: str


F = TypeVar("F", bound=Callable[..., Any])
declared: list[tuple[Prototype, str, tuple[int, ...], str]] = []


def stands_for(text: str, trees: str = "all") -> Callable[[F], F]:
    """Declare what a method of :class:`~vmaplab.object.answers.Rest` stands for.

    :param text: the prototype; the method's parameters are among its.
    """
    prototype = parse(text)

    def declare(method: F) -> F:
        code = method.__code__
        order = tuple(prototype.names.index(name) for name in code.co_varnames[1 : code.co_argcount])
        declared.append((prototype, method.__name__, order, trees))
        return method

    return declare
