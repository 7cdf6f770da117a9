# SPDX-License-Identifier: GPL-2.0-only
"""Page arrays in files: what is written is read again, and what is no page file is refused in one line."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmaplab import InputError, Kernel, pages
from vmaplab.pages import array, file, pid

SUFFIXES = (".txt", ".csv", ".npy", ".parquet")


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=300))
def test_round_trip_through_every_format(tmp_path_factory, pfns):
    folder = tmp_path_factory.mktemp("round")
    written = array.with_page_size(np.array(pfns, dtype=np.uint64), 4096)
    for suffix in SUFFIXES:
        path = folder / f"pages{suffix}"
        pages.save(str(path), written)
        read = pages.load(str(path), "x86_64")
        assert (read.tolist(), read.dtype, read.page_size) == (pfns, np.uint64, 4096)
    assert sorted(os.listdir(folder)) == sorted(f"pages{suffix}" for suffix in SUFFIXES)


def test_parquet_remembers_its_page_size_and_other_formats_take_it_from_an_option(tmp_path):
    written = pages.load("heap:1M", "arm64-64k")
    for suffix in SUFFIXES:
        pages.save(str(tmp_path / f"p{suffix}"), written)
    with pytest.raises(InputError, match=r"pages of 64K, x86_64 has pages of 4K"):
        pages.load(str(tmp_path / "p.parquet"), "x86_64")
    with pytest.raises(InputError, match="pages of 64K"):
        pages.load(str(tmp_path / "p.npy"), "x86_64", page_size=65536)
    assert pages.load(str(tmp_path / "p.npy"), "x86_64").page_size == 4096
    with pytest.raises(InputError, match="pages of 64K"):
        Kernel("x86_64").vmap(written)
    assert Kernel("x86_64").vmap(np.asarray(written)).cost.pages == 16


def test_text_may_hold_comments_and_hexadecimal(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("# a buffer\n0x10\n\n 17 # next\n0x12\r\n")
    assert pages.load(str(path), "x86_64").tolist() == [16, 17, 18]


def test_csv_finds_its_column(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('order,"pfn"\n1,16\n0,0x21\n')
    assert pages.load(str(path), "x86_64").tolist() == [16, 17, 33]
    path.write_text("1\n2\n")
    assert pages.load(str(path), "x86_64").tolist() == [1, 2]


def test_lines_are_runs_or_blocks_of_an_order(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("0x1000+3 # a run\n7\n")
    assert pages.load(str(path), "x86_64").tolist() == [0x1000, 0x1001, 0x1002, 7]
    path.write_bytes(b"\xef\xbb\xbfpfn,order\n0x10,1\nnull,0\n")  # as spreadsheets write it
    assert pages.load(str(path), "x86_64").tolist() == [0x10, 0x11, 2**64 - 1]
    path.write_text("# of a buddy allocator\npfn order\n0x10 2\n0x40 0\n")
    assert pages.load(str(path), "x86_64").tolist() == [0x10, 0x11, 0x12, 0x13, 0x40]
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"pfn": [8, 2], "order": [1, 0]}), tmp_path / "p.parquet")
    assert pages.load(str(tmp_path / "p.parquet"), "x86_64").tolist() == [8, 9, 2]


def test_a_file_of_too_many_pages_is_named_once(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text(f"0x0+{array.MAX_PAGES}\n0x0+1\n")
    with pytest.raises(InputError, match=rf"^'{path}' has more than {array.MAX_PAGES} pages"):
        pages.load(str(path), "x86_64")


def test_hexadecimal_without_0x_is_not_guessed(tmp_path):
    path = tmp_path / "p.txt"
    path.write_text("1f\n")
    with pytest.raises(InputError, match="'1f' is no page frame number; hexadecimal begins with 0x"):
        pages.load(str(path), "x86_64")


def test_a_column_that_is_not_understood_is_refused_and_named(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("pfn,flags\n1,0x4\n")
    with pytest.raises(InputError, match="what the column 'flags' says is not known; known are pfn, order"):
        pages.load(str(path), "x86_64")


def test_standard_input_is_text(monkeypatch):
    from vmaplab.pages import file

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"pfn,order\n0x10,1\n")))
    file.load_stdin.cache_clear()
    assert pages.load("-", "x86_64").tolist() == [0x10, 0x11]
    assert pages.load("-", "arm64-4k").tolist() == [0x10, 0x11]  # asked for by another architecture, too
    file.load_stdin.cache_clear()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with pytest.raises(InputError, match="standard input holds no page frame number"):
        pages.load("-", "x86_64")


def test_pages_of_a_file_that_does_not_tell_are_not_taken_for_larger_ones(tmp_path):
    np.save(tmp_path / "p.npy", np.arange(32))
    with pytest.raises(InputError, match=r"does not say how large its pages are, and arm64-64k has pages of 64K"):
        pages.load(str(tmp_path / "p.npy"), "arm64-64k")
    assert pages.load(str(tmp_path / "p.npy"), "arm64-64k", page_size=65536).page_size == 65536


def test_a_numpy_header_of_python_2_is_read_without_a_warning(tmp_path, recwarn):
    header = "{'descr': '<u8', 'fortran_order': False, 'shape': (2L,), }".ljust(117) + "\n"
    (tmp_path / "p.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00" + header.encode() + np.arange(2, dtype="<u8").tobytes())
    assert pages.load(str(tmp_path / "p.npy"), "x86_64").tolist() == [0, 1] and not recwarn.list


def npy_header(shape: str) -> bytes:
    header = f"{{'descr': '<u8', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00v\x00" + header.encode()


BAD = {
    "empty.txt": b"",
    "empty.csv": b"",
    "empty.npy": b"",
    "empty.parquet": b"",
    "blank.txt": b"\n\n# nothing\n",
    "header.csv": b"pfn\n",
    "word.txt": b"12\nhello\n",
    "word.csv": b"pfn\n12\nhello\n",
    "float.txt": b"1.5\n",
    "negative.txt": b"-5\n",
    "negative.csv": b"pfn\n-5\n",
    "large.txt": b"18446744073709551616\n",
    "huge.txt": b"9" * 4000 + b"\n",
    "line.txt": b"9" * 100000,
    "binary.txt": bytes(range(256)) * 50,
    "binary.csv": bytes(range(256)) * 50,
    "binary.npy": bytes(range(256)) * 50,
    "binary.parquet": b"PAR1" + bytes(range(256)) * 50 + b"PAR1",
    "latin.txt": b"\xe9\xff\n",
    "columns.csv": b"a,b\n1,2\n",
    "cut.csv": b"a,pfn\n1,2\n3\n",
    "magic.npy": npy_header("(5,)") + b"1234",
    "shape.npy": npy_header("(-5,)") + b"1234",
    "vast.npy": npy_header("(99999999999,)"),
    "lost.csv": b"va,pfn\n0,1\n",
    "unnamed.txt": b"1 2\n",
    "hex.txt": b"1f\n",
    "order.csv": b"pfn,order\n1,99\n",
    "both.csv": b"pfn,order\n1+2,1\n",
    "run.txt": b"1+0\n",
    "many.txt": b"1+999999999\n",
    "dict.npy": b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '>i4', 'fortran_order': False, 'shape': (" + b"9" * 70,
    "pages.xyz": b"1\n",
    "pages": b"1\n",
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_files_are_refused_in_one_line(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(BAD[name])
    with pytest.raises(InputError) as caught:
        pages.load(str(path), "x86_64")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "value",
    [
        np.array([1.5]),
        np.array([-1]),
        np.array([[1, 2]]),
        np.array(["1"]),
        np.array([True]),
        np.array([1 + 2j]),
        np.zeros(0, dtype=np.uint64),
        np.array(5, dtype=np.uint64),
    ],
)
def test_arrays_that_are_no_page_numbers_are_refused(tmp_path, value):
    np.save(tmp_path / "p.npy", value)
    with pytest.raises(InputError):
        pages.load(str(tmp_path / "p.npy"), "x86_64")


def test_pickled_arrays_are_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    np.save(tmp_path / "p.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(InputError):
        pages.load(str(tmp_path / "p.npy"), "x86_64")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("column", "metadata"),
    [
        ({"pfn": [1, None]}, None),
        ({"pfn": [1.5]}, None),
        ({"pfn": ["a"]}, None),
        ({"pfn": [-1]}, None),
        ({"frame": [1]}, None),
        ({"pfn": [1]}, {"vmaplab.page_size": "many"}),
        ({"pfn": [1]}, {"vmaplab.page_size": "16384"}),
    ],
)
def test_parquet_without_page_numbers_is_refused(tmp_path, column, metadata):
    table = pa.table(column)
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "p.parquet")
    with pytest.raises(InputError):
        pages.load(str(tmp_path / "p.parquet"), "x86_64")


def test_truncated_parquet_is_refused(tmp_path):
    path = tmp_path / "p.parquet"
    pages.save(str(path), pages.load("heap:1M", "x86_64"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="no Parquet file"):
        pages.load(str(path), "x86_64")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_pages_than_the_limit_are_refused_before_they_are_kept(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"p{suffix}"
    pages.save(str(path), pages.load("heap:1M", "x86_64"))
    monkeypatch.setattr(file, "MAX_PAGES", 255)
    with pytest.raises(InputError, match="more than 255 pages"):
        pages.load(str(path), "x86_64")


def test_a_directory_and_a_missing_file_are_refused(tmp_path):
    (tmp_path / "d.txt").mkdir()
    for name in ("d.txt", "none.txt", "none.parquet"):
        with pytest.raises(InputError, match=r"no file|no page file"):
            pages.load(str(tmp_path / name), "x86_64")


def test_failed_writes_leave_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "p.txt"
    path.write_text("1\n")

    def broken(out, pfns):
        out.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file, "_write_txt", broken)
    with pytest.raises(InputError, match="No space left"):
        pages.save(str(path), pages.load("heap:1M", "x86_64"))
    assert (path.read_text(), os.listdir(tmp_path)) == ("1\n", ["p.txt"])


def test_writing_to_where_there_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot write"):
        pages.save(str(tmp_path / "none" / "p.txt"), pages.load("heap:1M", "x86_64"))
    with pytest.raises(InputError, match="known endings"):
        pages.save(str(tmp_path / "p.doc"), pages.load("heap:1M", "x86_64"))


@pytest.mark.skipif(os.geteuid() != 0, reason="page frame numbers are hidden from ordinary users")
def test_own_pages_are_found_where_they_are_mapped():
    buffer = np.ones(1 << 20, dtype=np.uint8)
    size = pid.page_size()
    start = -(-buffer.ctypes.data // size) * size
    pfns = pid.load(os.getpid(), start, start + 16 * size)
    assert len(pfns) == 16
    assert len(set(pfns.tolist())) == 16
    with open("/proc/self/pagemap", "rb") as pagemap:
        pagemap.seek(start // size * 8)
        entries = np.frombuffer(pagemap.read(16 * 8), dtype=np.uint64)
    assert pfns.tolist() == [int(entry) & ((1 << 55) - 1) for entry in entries]


def test_hidden_page_frame_numbers_are_told_apart_from_none(tmp_path, monkeypatch):
    monkeypatch.setattr(pid, "PFN_MASK", np.uint64(0))
    with pytest.raises(InputError, match="run as root"):
        pid.load(os.getpid())


@pytest.mark.parametrize(
    "source",
    ["pid:", "pid:x", "pid:0", "pid:-1", "pid:99999999999", "pid:1,", "pid:1,5-3", "pid:1,zz-5", "pid:4194305"],
)
def test_bad_process_sources_are_refused(source):
    with pytest.raises(InputError):
        pages.load(source, "x86_64")


@pytest.mark.parametrize("source", ["", "foo:1", "net:host", "/nowhere", "--"])
def test_unknown_sources_are_refused(source):
    with pytest.raises(InputError, match="unknown source"):
        pages.load(source, "x86_64")


@pytest.mark.parametrize("page_size", [0, 100, 4095, 5000, -4096])
def test_bad_page_sizes_are_refused(page_size):
    with pytest.raises(InputError, match="page size"):
        pages.load("pages.txt", "x86_64", page_size=page_size)
