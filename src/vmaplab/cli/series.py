# SPDX-License-Identifier: GPL-2.0-only
"""``vmaplab review`` of a patch series."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vmaplab._whole import whole
from vmaplab.cli.options import print_json
from vmaplab.errors import InputError, plain
from vmaplab.report.progress import progress

if TYPE_CHECKING:
    from vmaplab.series.found import Cell, Reviewed
    from vmaplab.series.mails import Series


def source_of(sources: list[str], since: str | None, tree: Path | None) -> tuple[Series, Path, str]:
    """The series, the tree that it applies to, and what that is, in words.

    :raises InputError: if there is no patch, or no such tree or commit.
    """
    from vmaplab.object.build import DEFAULT_PACKAGE, check_tree, tree_of
    from vmaplab.series import ground, mails

    if since is not None:
        sources = [f"{since}..HEAD"]
    ranges = [source for source in sources if ".." in source and not Path(source).exists()]
    if not ranges:
        series = mails.read(sources)
        if tree is None:
            return series, tree_of(), f"Debian's {DEFAULT_PACKAGE}"
        check_tree(tree.expanduser())
        return series, *_usable(tree.expanduser())
    if len(sources) > 1:
        raise InputError("give one range of commits, or mails, not both")
    repository = (tree or Path()).expanduser()
    first, _, last = ranges[0].partition("..")
    last = last.lstrip(".") or "HEAD"
    listed = ground.git_in(repository, "format-patch", "--stdout", "--no-signature", f"{first}..{last}")
    if listed is None:
        raise InputError(f"{repository} is no git repository with {mails.plain(first)} and {mails.plain(last)}")
    if not listed:
        raise InputError(f"there is no commit in {mails.plain(ranges[0])}")
    series = mails.parse([(ranges[0], listed.encode(errors="surrogateescape"))])
    base = ground.exported(repository, first)
    try:
        check_tree(base)
    except InputError as error:
        why = str(error).partition(": it has")[2]
        raise InputError(f"tree: {mails.plain(first)} in {repository} is no kernel tree: it has{why}") from None
    return series, base, mails.plain(first)


def _usable(tree: Path) -> tuple[Path, str]:
    """A tree that kbuild takes for another build, and what to call it."""
    from vmaplab.series import ground

    name = tree.resolve().name
    if not ground.is_configured(tree):
        return tree, name
    if ground.git_in(tree, "rev-parse", "HEAD") is None:
        raise InputError(f"{tree} is configured: kbuild takes it for no other build; run 'make mrproper' there")
    return ground.exported(tree, "HEAD"), f"HEAD of {name}"


def review_mails(
    sources: list[str],
    since: str | None,
    tree: Path | None,
    arches: list[str],
    trust: bool,
    jobs: int | None,
    form: str,
    html: Path | None,
    junit: Path | None,
    booted: bool = False,
) -> int:
    """Review a series and print what came of it.

    :param form: ``text``, ``mail`` or ``json``.
    :param booted: boot each tree, too.
    :returns: the exit status: 0, 1 where a judge finds something or a patch does not build, 2 where one does not apply.
    """
    for path in (html, junit):
        if path is not None and not path.resolve().parent.is_dir():
            raise InputError(f"there is no directory {path.resolve().parent} for {path.name}")
        if path is not None and path.is_dir():
            raise InputError(f"{path} is a directory: name a file")
    series, base, name = source_of(sources, since, tree)
    from vmaplab.object import confine
    from vmaplab.report import series as report
    from vmaplab.series.run import review_series

    notes = [f"builds are not confined: {why}"] if (why := confine.why_not()) else []
    if series.base_commit and since is None:
        notes.append(f"the mails say base-commit {series.base_commit[:12]}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what is finished is printed
    cells = (len(series.patches) + 1) * len(arches)
    if booted:
        from vmaplab.boot.build import check_board

        for arch in arches:
            check_board(arch)
    what = ", then booting (the first build of a kernel takes minutes)" if booted else ""
    with progress(f"building the base, then reviewing{what}", total=cells * (1 + booted)) as advance:

        def told(found: Reviewed, cell: Cell | None) -> None:
            if cell is not None:
                advance()
                return
            found.notes += notes
            if found.refused and found.refused.patch and form != "text":
                told = f"{found.refused.patch.subject} does not apply: {found.refused.error}"
                more = "; what does is reviewed" if len(found.steps) > 1 else ""
                print(f"vmaplab: {plain(told)}{more}. Is it for another tree? --tree DIR", file=sys.stderr)
            if form == "text":
                sys.stdout.write("\n".join(report.patches(found)) + "\n\n")
                sys.stdout.flush()

        found = review_series(series, base, name, arches, trust=trust, jobs=jobs, booted=booted, told=told)
    if form == "json":
        print_json("series", report.as_json(found))
    elif form == "mail":
        from vmaplab.report.series_mail import as_mail

        sys.stdout.write(as_mail(found) + "\n")
    else:
        sys.stdout.write(report.as_text(found) + "\n")
    if html is not None:
        from vmaplab.report.series_html import as_html

        with whole(html) as half:
            half.write_text(as_html(found))
    if junit is not None:
        from vmaplab.report.series_junit import as_junit

        with whole(junit) as half:
            half.write_text(as_junit(found))
    return 2 if found.refused else 1 if found.found or found.unfinished else 0
