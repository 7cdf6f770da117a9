# SPDX-License-Identifier: GPL-2.0-only
"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmaplab._whole import whole
from vmaplab.errors import InputError


def test_a_file_is_replaced_at_the_end_and_not_before(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with whole(path) as half:
        half.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a"]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), whole(path) as half:
        half.write_text("new")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with whole(tmp_path / "link") as half:
        half.write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("name", ["fifo", "", "nowhere/x"])
def test_what_is_no_plain_file_is_refused_and_stays(tmp_path, name):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InputError, match="cannot write"), whole(Path(tmp_path / name)) as half:
        half.write_text("new")
    assert (tmp_path / "fifo").is_fifo()
