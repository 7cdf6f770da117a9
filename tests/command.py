# SPDX-License-Identifier: GPL-2.0-only
"""The command line for tests: each command is a process of its own, forked from one that has the libraries loaded.

Loading them takes most of a second, which a test run would pay a thousand times. Of vmaplab nothing that compiles is
loaded before the fork. :data:`VMAPLAB` stands for ``python -m vmaplab.cli``; where a test is of the start itself (its
environment, limits, signals, a terminal), it starts :data:`AFRESH`.
"""

from __future__ import annotations

import marshal
import os
import socket
import sys

WHERE = "VMAPLAB_TEST_COMMANDS"
VMAPLAB = [sys.executable, "-S", "-E", __file__, "ask"]
"""Runs the command line with the words that follow."""
AFRESH = [sys.executable, "-m", "vmaplab.cli"]
"""The real one."""


def starting(**keywords: object) -> list[str]:
    """Which of the two can be started with these ``keywords`` of :func:`subprocess.run`."""
    return AFRESH if {"env", "preexec_fn"} & set(keywords) else VMAPLAB


def start() -> str:
    """Have a process that forks, until this one ends; returns a folder for PATH with a ``vmaplab`` that asks it."""
    import atexit
    import shlex
    import subprocess
    import tempfile
    from pathlib import Path

    room = tempfile.TemporaryDirectory(prefix="vmaplab-test-")
    script = Path(room.name) / "vmaplab"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(VMAPLAB)} "$@"\n')
    script.chmod(0o755)
    os.environ[WHERE] = str(Path(room.name) / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.environ[WHERE])
        listener.listen(16)
        words = [sys.executable, __file__, "serve", str(listener.fileno())]
        server = subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=[listener.fileno()])

    def end() -> None:
        server.stdin.close()
        server.wait()
        room.cleanup()

    atexit.register(end)
    return room.name


def ask(words: list[str]) -> int:
    """Have the command run with our files, in our directory and environment; returns its exit status."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[WHERE])
        said = marshal.dumps((os.getcwd(), words, dict(os.environ)))  # noqa: PTH109 - pathlib takes longer than all else
        socket.send_fds(server, [len(said).to_bytes(8, "little")], [0, 1, 2])
        server.sendall(said)
        answer = server.recv(1)
    if not answer:
        sys.stderr.write("tests/command.py: the process that runs the command has ended without a word\n")
    return answer[0] if answer else 70


def serve(listener: socket.socket) -> None:
    """Fork for each command, until nobody can ask any more."""
    import select

    load()
    running = 0
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [], 1)
        while running and os.waitpid(-1, os.WNOHANG)[0]:
            running -= 1
        if sys.stdin in ready:
            return
        if listener in ready:
            client, _ = listener.accept()
            if os.fork():
                running += 1
                client.close()
            else:
                listener.close()
                watch(client)
                os._exit(0)


def load() -> None:
    """Import the libraries, and start numba's compiler, as its first function does."""
    import capstone  # noqa: F401
    import dask  # noqa: F401
    import elftools.elf.elffile  # noqa: F401
    import jinja2  # noqa: F401
    import numba
    import pyarrow.parquet  # noqa: F401
    import rich.progress
    import rich.table  # noqa: F401
    import unicorn  # noqa: F401

    import vmaplab.cli  # noqa: F401

    numba.njit(lambda: 0)()


def watch(client: socket.socket) -> None:
    """Run what ``client`` asks for in a process of its own, which ends when the client does."""
    import select
    import signal

    size, files, _, _ = socket.recv_fds(client, 8, 3)
    said = b""
    while len(said) < int.from_bytes(size, "little"):
        part = client.recv(1 << 16)
        if not part:  # nobody asks any more
            return
        said += part
    command = os.fork()
    if not command:
        client.close()
        os._exit(run(*marshal.loads(said), files))
    done = os.pidfd_open(command)
    if done not in select.select([client, done], [], [])[0]:
        os.kill(command, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    client.sendall((status if status >= 0 else 128 - status).to_bytes(1, "little"))


def run(where: str, words: list[str], environment: dict[str, str], files: list[int]) -> int:
    """The command line, as if this process had just been started for it."""
    import atexit
    import threading
    import traceback

    from vmaplab.cli import main

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(where)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["vmaplab", *words]
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
        if status and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


if __name__ == "__main__":
    if sys.argv[1] == "ask":
        sys.exit(ask(sys.argv[2:]))
    serve(socket.socket(fileno=int(sys.argv[2])))
else:
    FOLDER = os.environ[WHERE].rpartition("/")[0] if WHERE in os.environ else start()
