# SPDX-License-Identifier: GPL-2.0-only
"""The command line: parse, call one function, print. One file per command.

Exit status: 0 good, 1 a finding (the kernel would refuse, or differs), 2 bad usage or input.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import typer

from vmaplab.cli import (  # noqa: F401 - the commands
    areas,
    boot,
    cache,
    capture,
    check,
    compare,
    cost,
    explain,
    lists,
    map,  # noqa: A004
    object,  # noqa: A004
    replay,
    review,
    sweep,
)
from vmaplab.cli.app import app
from vmaplab.errors import InputError, KernelFault, Violation, VmapError, plain

_MOST_LINE = 2000
# Typer does not export the base class of its usage errors, and where it comes from differs by version.
_UsageError: type[Any] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def main() -> None:
    """Run the command line; every way it can end is one of the exit statuses above."""
    if sys.stderr is None:  # closed by the caller: what would be said there is for nobody
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        sys.exit(_fail("cannot write the output: standard output is closed", 2))
    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except InputError as error:
        status = _fail(str(error), 2)
    except VmapError as error:
        status = _fail(f"the kernel would refuse: {error}", 1)
    except KernelFault as error:
        status = _fail(f"the kernel's code goes wrong: {error}", 1)
    except Violation as error:
        status = _fail(f"not right: {error}", 1)
    except _UsageError as error:
        status = _fail(error.format_message().rstrip("."), 2)
    except (KeyboardInterrupt, typer.Abort):
        status = _fail("interrupted", 130)
    except MemoryError:
        status = _fail("not enough memory for this; take a smaller source", 2)
    except (BrokenPipeError, SystemExit):  # the reader has seen enough; SystemExit is click's answer to that
        _drop_output()
        status = 0
    except OSError as error:
        _drop_output()
        status = _fail(f"cannot write the output: {error.strerror}", 2)
    except Exception as error:
        if os.environ.get("VMAPLAB_TRACEBACK"):
            raise
        what = f"{type(error).__name__}: {error}"
        status = _fail(f"this was not expected ({what[:200]}); please report it, with VMAPLAB_TRACEBACK=1", 2)
    sys.exit(status or 0)


def _drop_output() -> None:
    """What is left in the buffer of standard output goes nowhere, so that the interpreter can end quietly."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, status: int) -> int:
    print(f"vmaplab: {plain(' '.join(message.split()))[:_MOST_LINE]}", file=sys.stderr)
    return status
