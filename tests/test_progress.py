# SPDX-License-Identifier: GPL-2.0-only
"""The progress bar: on a terminal only, and only for work that lasts."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

SCRIPT = """
import sys, time
from vmaplab.report import progress
progress.DELAY_S = 0.05
with progress.progress("counting", total=2) as advance:
    for _ in range(2):
        time.sleep(float(sys.argv[1]))
        advance()
print("done")
"""


def run_on_terminal(seconds: str) -> tuple[str, str]:
    """Standard output, and what the terminal on stderr got."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, seconds], stdout=subprocess.PIPE, stderr=slave, text=True
    ) as child:
        os.close(slave)
        shown = b""
        while True:
            try:
                block = os.read(master, 4096)
            except OSError:
                break
            if not block:
                break
            shown += block
        output = child.stdout.read()
    os.close(master)
    return output, shown.decode(errors="replace")


def test_a_bar_is_shown_for_long_work_on_a_terminal():
    output, shown = run_on_terminal("0.5")
    assert output == "done\n"
    assert "counting" in shown


def test_no_bar_is_shown_for_short_work():
    assert run_on_terminal("0.001") == ("done\n", "")


def test_no_bar_is_shown_without_a_terminal():
    done = subprocess.run([sys.executable, "-c", SCRIPT, "0.5"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "")
