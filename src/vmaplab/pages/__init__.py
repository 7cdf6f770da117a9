# SPDX-License-Identifier: GPL-2.0-only
"""Where page arrays come from: the dma-buf system heap, a live process, a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vmaplab.arch import Arch
from vmaplab.errors import InputError
from vmaplab.pages.array import MAX_PAGES, PageArray, check_page_size, parse_size, size_text, with_page_size
from vmaplab.pages.expand import ENDINGS, KERNELS, expand, is_elsewhere
from vmaplab.release import DEFAULT, get

SOURCES = (
    "heap:SIZE[,fragmentation=F][,seed=N][,orders=8/4/0][,clients=N], pid:PID[,start-end], "
    "pfns:0x1000+256,0x7, FILE.{txt,csv,npy,parquet}, - (standard input), trace:FILE, pagemap:FILE, "
    "or vmcore:FILE,area=ADDRESS (kcore:, qemu:SOCKET, ram:FILE)"
)


_HEAP = ("fragmentation", "buddyinfo", "node", "zone", "seed", "orders", "clients")
USUAL = 4096
"""Bytes of a page, where nothing says."""
"""Bytes of a page where a file does not say so."""


def load(source: str, arch: str, page_size: int | None = None) -> PageArray:
    """The page array that ``source`` names.

    :param source: ``heap:SIZE[,fragmentation=F|buddyinfo=FILE][,seed=N][,orders=8/4/0][,clients=N]``,
        ``pid:PID[,start-end]``, ``trace:FILE[,call=N]``, ``pagemap:FILE``,
        ``pfns:RUNS``, a file, ``-``, standard input, or an area of another kernel,
        ``vmcore:FILE,area=ADDR|caller=NAME`` (``kcore:``, ``qemu:SOCKET``, ``ram:FILE``).
    :param arch: the architecture whose page size a heap is counted in.
    :param page_size: bytes of a page in a file that does not tell; without it they have 4096.
    :return: PFNs, uint64, shape (n,), in mapping order; it knows its page size.
    :raises InputError: if there is no such source, or its page size is not the architecture's.
    """
    try:
        return _load(source, arch, page_size)
    except OSError as error:  # a name that is none, on the way to a file
        raise InputError(f"cannot read '{source[:80]}': {error.strerror}") from None


def _load(source: str, arch: str, page_size: int | None) -> PageArray:
    target = get(DEFAULT).on(arch)  # what is asked of it is alike in all trees
    if page_size is not None and (page_size < 4096 or page_size & (page_size - 1)):
        raise InputError(f"page size {page_size} is no power of two from 4096 on")
    kind, _, rest = source.partition(":")
    if page_size is not None and kind in ("heap", "pid", "pfns", *KERNELS):
        raise InputError(f"a page size is for plain files; a {kind} source has its own")
    if kind == "heap":
        return _heap(rest, target)
    if kind == "pfns":
        from vmaplab.pages import runs

        return with_page_size(runs.load(rest), target.page_size)
    if kind == "pid":
        from vmaplab.pages import pid

        array = with_page_size(pid.load(*_pid(rest)), pid.page_size())
    elif kind in KERNELS:
        from vmaplab.vmcore.source import pages_of

        array = with_page_size(*pages_of(source))
    elif kind != "trace" and (several := expand(source)) != [source]:
        if len(several) > 1:
            raise InputError(f"'{source}' is {len(several)} page arrays: compare and sweep take several")
        return load(several[0], arch, page_size)
    elif kind in ("trace", "pagemap") or source == "-" or is_elsewhere(source) or source.endswith(ENDINGS):
        pfns, told = _from_file(source, kind, rest, page_size or target.page_size)
        if not told and not page_size and target.page_size != USUAL:
            raise InputError(
                f"'{source}' does not say how large its pages are, and {arch} has pages of "
                f"{size_text(target.page_size)}; say --page-size"
            )
        array = with_page_size(pfns, told or page_size or USUAL)
    elif ",area=" in source or ",caller=" in source:
        raise InputError(f"an area is of a vmcore:, kcore:, qemu: or ram: source: vmcore:{source}")
    elif Path(source).is_file():
        raise InputError(f"'{source}' has none of the endings {', '.join(ENDINGS)}; say trace:, pagemap: or vmcore:")
    else:
        raise InputError(f"unknown source '{source}'; write {SOURCES}")
    check_page_size(array, target)
    return array


def _from_file(source: str, kind: str, rest: str, page: int) -> tuple[NDArray[np.uint64], int | None]:
    """The pages in a file, and the page size if it tells that."""
    if is_elsewhere(source):
        from vmaplab.pages import elsewhere, file

        with elsewhere.local(source) as copy:
            try:
                return file.load(copy)
            except InputError as error:
                raise InputError(str(error).replace(str(copy), source)) from None
    if kind == "trace":
        from vmaplab.pages import trace

        path, options = _options(rest, ("call", "vmemmap"))
        call, base = options.get("call"), options.get("vmemmap")
        number = None if call is None else _natural(call)
        return trace.load(path, page, number, None if base is None else _address(base)), None
    if kind == "pagemap":
        from vmaplab.pages import pagemap

        return pagemap.load(Path(rest)), None
    from vmaplab.pages import file

    return (file.load_stdin(), None) if source == "-" else file.load(Path(source))


def arch_of(source: str) -> str | None:
    """The architecture that a source is of, where it tells: that of another kernel's memory.

    :raises InputError: if that cannot be read.
    """
    if source.partition(":")[0] not in KERNELS:
        return None
    from vmaplab.vmcore.source import arch_of as told

    return told(source)


def small(source: str, limit: int) -> bool:
    """Whether ``source`` surely has at most ``limit`` pages, without looking into it."""
    kind, _, rest = source.partition(":")
    try:
        if kind == "pfns":
            from vmaplab.pages import runs

            return len(runs.load(rest)) <= limit
        if kind == "heap":
            return parse_size(rest.partition(",")[0]) <= limit << 12
        return source.endswith(".npy") and Path(source).stat().st_size <= 8 * limit
    except (InputError, OSError):
        return True  # it will be refused


def save(path: str, pfns: NDArray[np.uint64], page_size: int | None = None) -> None:
    """Write a page array to a file, in the format of its ending, whole or not at all.

    :param pfns: as :func:`load` gives it, or any integers; NULL_PFN is a NULL page.
    :param page_size: bytes of its pages, where the array does not know; a Parquet file keeps it.
    :raises InputError: if that cannot be.
    """
    from vmaplab.pages import file

    file.save(Path(path), pfns, getattr(pfns, "page_size", None) or page_size or 0)


def _heap(text: str, arch: Arch) -> PageArray:
    from vmaplab.pages import heap

    size_word, *words = text.split(",")
    size = parse_size(size_word)
    pages = -(-size // arch.page_size)
    if pages > MAX_PAGES:
        raise InputError(f"{size_text(size)} is {pages} pages, more than {MAX_PAGES}")
    options: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in _HEAP or not equals:
            raise InputError(f"unknown heap option '{word}'; known: {', '.join(f'{one}=' for one in _HEAP)}")
        if name in options:
            raise InputError(f"heap option '{name}' is given twice")
        options[name] = value
    try:
        fragmentation = float(options.get("fragmentation", "0"))
    except ValueError:
        raise InputError(f"'{options['fragmentation']}' is no fragmentation; it goes from 0 to 1") from None
    blocks, where = None, "a zone"
    if "buddyinfo" in options:
        from vmaplab.pages import buddyinfo

        if "fragmentation" in options:
            raise InputError("say fragmentation= or buddyinfo=, not both")
        node = _natural(options["node"]) if "node" in options else None
        blocks, where = buddyinfo.load(Path(options["buddyinfo"]), node, options.get("zone"))
    elif "node" in options or "zone" in options:
        raise InputError("node= and zone= choose a zone of buddyinfo=FILE")
    taken = heap.allocate(
        pages,
        arch.ram_base >> arch.page_shift,
        fragmentation=fragmentation,
        seed=_natural(options.get("seed", "0")),
        orders=tuple(_natural(word) for word in options.get("orders", "8/4/0").split("/")),
        clients=_natural(options.get("clients", "2")),
        blocks=blocks,
    )
    counts = " ".join(map(str, taken.blocks)) if taken.blocks else ""
    note = f"from {where} with free blocks of order 0 to {heap.MAX_PAGE_ORDER}: {counts}" if counts else ""
    if size < arch.page_size:
        told = f"heap:{size} is {size} bytes: part of one page; heap:{size}K, heap:{size}M are KiB and MiB"
        note = f"{told}; {note}" if note else told
    return with_page_size(taken.pfns, arch.page_size, note)


def _pid(text: str) -> tuple[int, int, int]:
    number, comma, bounds = text.partition(",")
    if not (number.isascii() and number.isdigit()) or len(number) > 10 or not int(number):
        raise InputError(f"'{number}' is no process id")
    if not comma:
        return int(number), 0, 1 << 64
    low, _, high = bounds.partition("-")
    try:
        start, end = int(low, 16), int(high, 16)
    except ValueError:
        start = end = 0
    if not 0 <= start < end <= 1 << 64:
        raise InputError(f"'{bounds}' is no address range; write start-end in hexadecimal")
    return int(number), start, end


def _options(text: str, known: tuple[str, ...]) -> tuple[Path, dict[str, str]]:
    """A path, and the options behind it."""
    found: dict[str, str] = {}
    while True:
        head, comma, word = text.rpartition(",")
        name, equals, value = word.partition("=")
        if not comma or not equals or name not in known or name in found:
            return Path(text), found
        found[name], text = value, head


def _address(text: str) -> int:
    try:
        value = int(text, 16)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 64:
        raise InputError(f"'{text}' is no address; write 0xffff...")
    return value


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InputError(f"'{text}' is no natural number below 10^18")
    return int(text)


__all__ = ["MAX_PAGES", "SOURCES", "PageArray", "expand", "load", "save"]
