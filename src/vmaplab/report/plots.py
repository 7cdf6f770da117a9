# SPDX-License-Identifier: GPL-2.0-only
"""Plots of a sweep, by matplotlib, as SVG whose colours are those of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup

from vmaplab.report.pictures import COLOURS
from vmaplab.report.sweeps import WHY
from vmaplab.sweep.summary import Gain

matplotlib.use("svg")
from matplotlib import pyplot, ticker

_LINES = ("c1", "c2", "c3", "c4", "c5", "c6")
_DASHES = ("-", "--", "-.", ":")
_STAND_INS = {name: f"#{number:02x}fe{number:02x}" for number, name in enumerate(COLOURS, start=1)}
"""Colours that matplotlib writes and that become the page's: a name for each, found nowhere else."""
_HIGH, _WIDE = 2.5, 4.2


def together(gains: Sequence[Gain]) -> list[tuple[str, Gain]]:
    """Gains of one architecture, those that are alike as one, with the names of all of them."""
    found: list[tuple[list[str], Gain]] = []
    for gain in gains:
        same = next(
            (names for names, one in found if np.array_equal(one.gains, gain.gains) and one.small == gain.small), None
        )
        if same is None:
            found.append(([gain.release], gain))
        else:
            same.append(gain.release)
    return [(_named(names), gain) for names, gain in found]


def _is_alike(one: Gain, other: Gain) -> bool:
    return np.array_equal(one.gains, other.gains) and one.small == other.small


def _named(names: list[str]) -> str:
    """Names one after the other; kernels of a row as first to last."""
    kernels = [name for name in names if name.startswith("linux-")]
    if len(kernels) > 2:
        names = [
            f"{kernels[0]} to {kernels[-1].removeprefix('linux-')}",
            *(name for name in names if name not in kernels),
        ]
    return ", ".join(names)


def gains(of_arch: Sequence[Gain]) -> Markup:
    """How gains are distributed on one architecture: the share of all bytes in arrays that gain so much or less."""
    with pyplot.rc_context(_look()):
        figure, axis = pyplot.subplots(figsize=(_WIDE, _HIGH), layout="constrained")
        most = 1.0
        for number, (names, gain) in enumerate(together(of_arch)):
            share = np.cumsum(gain.weights) / gain.weights.sum()
            most = max(most, float(gain.gains[-1]))
            axis.step(
                [min(1.0, gain.gains[0]), *gain.gains, most * 1.3],
                [0, *share, 1],
                where="post",
                label=names,
                color=_STAND_INS[_LINES[number % len(_LINES)]],
                linestyle=_DASHES[number % len(_DASHES)],
                linewidth=1.6,
            )
        axis.set_xscale("log", base=2)
        axis.set_xlim(0.9, max(most * 1.2, 4))
        axis.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}x"))
        axis.yaxis.set_major_formatter(ticker.PercentFormatter(1, decimals=0))
        axis.set_xlabel("TLB entries of linux-6.12, divided by these")
        axis.set_ylabel("of all bytes")
        axis.legend(frameon=False, loc="lower right")
        return _svg(figure, f"{of_arch[0].arch}: distribution of gains")


def reasons(of_arch: Sequence[Gain]) -> Markup:
    """Why pages of all arrays stay base pages on one architecture, a bar for each release."""
    told = together(of_arch)
    with pyplot.rc_context(_look()):
        figure, axis = pyplot.subplots(figsize=(_WIDE, 0.9 + 0.34 * len(told)), layout="constrained")
        left = np.zeros(len(told))
        names = [name if len(name) < 34 else f"{name[:33]}…" for name, _ in told]
        for reason, colour in zip(WHY, ("c6", "c5", "c2", "c1"), strict=True):
            shares = np.array([gain.small[reason] for _, gain in told])
            axis.barh(names, shares, left=left, label=reason, color=_STAND_INS[colour], height=0.62)
            left += shares
        axis.invert_yaxis()
        axis.set_xlim(0, 1)
        axis.xaxis.set_major_formatter(ticker.PercentFormatter(1, decimals=0))
        axis.set_xlabel("of all pages stay base pages")
        figure.legend(frameon=False, loc="outside upper center", ncols=len(WHY))
        return _svg(figure, f"{of_arch[0].arch}: why pages stay base pages")


def _look() -> Any:
    ink, soft, line = (_STAND_INS[name] for name in ("ink", "soft", "line"))
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "vmaplab",
        "font.size": 8,
        "text.color": ink,
        "axes.edgecolor": line,
        "axes.labelcolor": soft,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "savefig.facecolor": "none",
        "savefig.transparent": True,
        "xtick.color": soft,
        "ytick.color": soft,
        "axes.grid": True,
        "grid.color": line,
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }


_drawn = 0


def _svg(figure: Any, title: str) -> Markup:
    global _drawn
    _drawn += 1
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    pyplot.close(figure)
    text = out.getvalue()
    text = text[text.index("<svg") :]
    for name, colour in _STAND_INS.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px system-ui, sans-serif", text)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>p{_drawn}-", text)  # unlike those of the other plots of a page
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.S)
    text = re.sub(
        r'<svg [^>]*viewBox="([^"]*)"[^>]*>',
        rf'<svg class="plot" viewBox="\1" role="img" aria-label="{title}">',
        text,
        count=1,
    )
    return Markup(re.sub(r"\s*\n\s*", "\n", text))
