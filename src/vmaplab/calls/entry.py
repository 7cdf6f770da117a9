# SPDX-License-Identifier: GPL-2.0-only
"""What an entry of the table of calls is: what a call returns, how one is declared."""

from __future__ import annotations

import errno
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import wraps
from typing import Any, NamedTuple, TypeVar, cast
from zlib import crc32

import numpy as np

from vmaplab.calls import kinds
from vmaplab.calls.effects import Effect
from vmaplab.calls.operation import Operation
from vmaplab.changes import Change
from vmaplab.errors import VmapError
from vmaplab.mapping import SetMemory
from vmaplab.prototype import Prototype, parse


class Returns(Enum):
    """What the kernel's function returns."""

    ADDRESS = "an address, or NULL"
    ERRNO = "0 or an errno"
    NOTHING = "nothing, also when it refuses"
    FRAME = "a page, or NULL"
    FRAMES = "0 or an errno, and pages that it inserts"
    PARTS = "where bytes come from"
    TEXT = "text"
    VERDICT = "what would happen"

    def number(self, found: Any) -> int:
        """What a call came to, as one number that two machines can be compared by.

        :raises VmapError: where the kernel follows a NULL pointer.
        """
        return _NUMBERS[self](found)

    def refusal(self, error: VmapError) -> int | None:
        """What the kernel's caller sees of a failure: 0, ``-errno``, or None for NULL."""
        if self is Returns.NOTHING:
            return 0
        return -(error.errno or errno.EINVAL) if self in (Returns.ERRNO, Returns.FRAMES) else None


def _verdict(found: SetMemory) -> int:
    if found.oops:
        raise VmapError(errno.EFAULT, f"an oops: {found.why}", bug=True)
    return -found.errno


_NUMBERS: dict[Returns, Callable[[Any], int]] = {
    Returns.ADDRESS: lambda found: int(found.addr),
    Returns.ERRNO: lambda found: 0,
    Returns.NOTHING: lambda found: 0,
    Returns.FRAME: int,
    Returns.FRAMES: lambda found: crc32(np.asarray(found, dtype=np.uint64).tobytes()),
    Returns.PARTS: lambda found: crc32(repr([tuple(part) for part in found]).encode()),
    Returns.TEXT: lambda found: crc32(found.encode()),
    Returns.VERDICT: _verdict,
}


class Argument(NamedTuple):
    """An argument of a call in Python.

    :param name: of the parameter.
    :param check: ``(machine, value) -> value``: as the machine is to see it.
    """

    name: str
    check: Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Step:
    """What can stand in a scenario.

    :param word: its first word.
    :param form: its arguments.
    :param example: one, as text.
    :param help: what the example does; Markdown, one line.
    """

    word: str
    form: tuple[kinds.Kind, ...]
    example: str
    help: str


@dataclass(frozen=True)
class Setting(Step):
    """A step that is no call: it changes the machine.

    :param apply: does it.
    """

    apply: Callable[[Any, Operation], None]


@dataclass(frozen=True)
class Call(Step):
    """A call of the kernel's.

    :param method: of :class:`~vmaplab.calls.table.Calls`; ``inner``: of a machine that does the call itself, the same
        with an underscore.
    :param arguments: of that method; ``defaults`` for the last of them.
    :param check: looks at them all once each one is checked.
    :param prototype: the kernel's function.
    :param binding: the function of an object that does it, and its parameters; None if no object can.
    :param gives: the arguments for a step: of the step, its address, and bytes of a page; None to do nothing.
    :param returns: what the function returns.
    :param effect: what it does.
    :param weight: how often it is drawn among the calls that take address space.
    :param since: the change that brought it; None if every tree has it.
    """

    method: str
    inner: str
    arguments: tuple[Argument, ...]
    defaults: tuple[Any, ...]
    check: Callable[..., None] | None
    prototype: Prototype
    binding: Prototype | None
    gives: Callable[[Operation, int, int], tuple[Any, ...] | None]
    returns: Returns
    effect: Effect
    weight: int
    since: Change | None

    def given(self, arguments: tuple[Any, ...]) -> dict[str, Any]:
        """``arguments`` by their names."""
        return {one.name: value for one, value in zip(self.arguments, arguments, strict=True)}


F = TypeVar("F", bound=Callable[..., Any])
STEPS: dict[str, Step] = {}
"""Everything that can stand in a scenario, by its first word, in the order of the manual."""


def kernel_call(
    prototype: str,
    step: str,
    *form: kinds.Kind,
    example: str,
    help: str,  # noqa: A002 - as in Step
    gives: Callable[[Operation, int, int], tuple[Any, ...] | None],
    returns: Returns,
    effect: Effect,
    binding: str | None = None,
    weight: int = 0,
    since: Change | None = None,
    check: Callable[..., None] | None = None,
    bound: bool = True,
) -> Callable[[F], F]:
    """Declare a call; see :class:`Call`.

    :param step: its first word in a scenario, ``form`` what follows.
    :param binding: if the object's function has another prototype.
    :param bound: false if no object has it.
    """

    def declare(method: F) -> F:
        signature = inspect.signature(method, eval_str=True)
        parameters = list(signature.parameters.values())[1:]
        arguments = tuple(Argument(one.name, one.annotation.__metadata__[0]) for one in parameters)
        defaults = tuple(one.default for one in parameters if one.default is not inspect.Parameter.empty)
        call = STEPS[step] = Call(
            step,
            form,
            example,
            help,
            method.__name__,
            f"_{method.__name__}",
            arguments,
            defaults,
            check,
            parse(prototype),
            parse(binding or prototype) if bound else None,
            gives,
            returns,
            effect,
            weight,
            since,
        )
        checks, count = tuple(one.check for one in arguments), len(arguments)

        @wraps(method)
        def checked(self: Any, /, *values: Any, **keywords: Any) -> Any:
            if keywords or not count - len(defaults) <= len(values) <= count:
                given = signature.bind(self, *values, **keywords)
                given.apply_defaults()
                values = given.args[1:]
            elif len(values) < count:
                values += defaults[len(values) - count :]
            known = tuple([look(self, value) for look, value in zip(checks, values, strict=True)])
            if call.check is not None:
                call.check(self, *known)
            return self._invoke(call, known)

        return cast(F, checked)

    return declare
