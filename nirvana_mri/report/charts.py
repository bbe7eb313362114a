"""Drawings of numbers on a light ground that suits pages in light and dark mode. Drawn without pyplot's global state.

The first series is the one that the page is about: it has the accent colour. Names are taken as they are, never as
formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

INK, SOFT, RULE, PAPER = "#1c2024", "#5b6570", "#d9dcdf", "#fbfbfa"
ACCENT = "#1f5f99"
SERIES = (ACCENT, "#b3541e", "#5b6570", "#2f7d5f", "#7a5195", "#a08a1c")  # told apart by the colour-blind
DASHES = ("-", "--", ":", "-.", (0, (6, 1)), (0, (1, 3)))  # and in print
MARKS = "osD^vP"
WIDTH, DPI = 4.4, 160  # inches: on a telephone the letters are still 10 pixels high
LETTERS = 10  # points
LONGEST, ABREAST = 18, 50  # characters of a name, and of a line of the key

Estimate = tuple[float, float | None, float | None]  # value, low and high end of its interval, where there is one


def strips(values: Mapping[str, Sequence[float]], label: str) -> Figure:
    """One row per series: a dot per value, and a box from the first to the third quartile about the median.

    The whiskers reach the furthest values within 1.5 box lengths. Raises ValueError for values that are not finite.
    """
    series = {name: np.asarray(each, float) for name, each in values.items()}
    if not all(np.isfinite(each).all() for each in series.values()):
        raise ValueError(f"{label}: a value is NaN or infinite; leave it out and say so beside the chart")
    figure, axes = _axes(WIDTH, 0.95 + 0.5 * max(len(series), 1))
    for row, each in enumerate(series.values()):
        colour = ACCENT if row == 0 else SOFT
        place = len(series) - 1 - row
        if each.size > 1:
            _box(axes, each, place, colour)
        size = 18 if each.size <= 100 else 6
        axes.scatter(each, place + _spread(each.size), s=size, color=colour, alpha=0.55, linewidths=0, zorder=3)
    axes.set_ylim(-0.6, max(len(series), 1) - 0.4)
    _rows(axes, list(series)[::-1])
    axes.locator_params(axis="x", nbins=5)
    _label(axes, x=label)
    return figure


def lines_with_bands(
    lines: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike | None, ArrayLike | None]], x_label: str, y_label: str
) -> Figure:
    """A line per series of (x, mean, low, high), with a band from low to high where they are given."""
    figure, axes = _axes(WIDTH, 3.1)
    handles = []
    for number, (x, mean, low, high) in enumerate(lines.values()):
        look = {"color": SERIES[number % len(SERIES)], "linestyle": DASHES[number % len(DASHES)]}
        handles += axes.plot(x, mean, linewidth=1.8, marker=MARKS[number % len(MARKS)], markersize=4, **look)
        if low is not None and high is not None:
            axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
    axes.grid(axis="y", color=RULE, linewidth=0.8)
    _key(figure, handles, list(lines))
    _label(axes, x=x_label, y=y_label)
    return figure


def bars_with_intervals(
    rows: Mapping[str, Mapping[str, Estimate]], label: str, from_zero: bool = True, height: float = 0.18
) -> Figure:
    """A bar per row and series, with its interval; dots instead where the axis need not start at 0 (``from_zero``).

    Series that a row lacks are left out of it. ``height`` is that of one bar [inches].
    """
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    step = 0.8 / max(len(names), 1)
    figure, axes = _axes(WIDTH, 1.3 + len(rows) * max(height * len(names), 0.3))
    shown: dict[str, Any] = {}
    for place, row in enumerate(reversed(list(rows.values()))):
        for number, name in enumerate(names):
            if name in row:
                at = place + 0.4 - (number + 0.5) * step
                shown.setdefault(name, _estimate(axes, row[name], at, step, number, from_zero))
    if from_zero:
        axes.axvline(0, color=SOFT, linewidth=0.8)
    axes.set_ylim(-0.55, max(len(rows), 1) - 0.45)
    _rows(axes, list(rows)[::-1])
    axes.locator_params(axis="x", nbins=5)
    if len(names) > 1:
        _key(figure, [shown[name] for name in names], names)
    _label(axes, x=label)
    return figure


def _estimate(axes: Any, estimate: Estimate, at: float, step: float, number: int, from_zero: bool) -> Any:
    value, low, high = estimate
    colour = SERIES[number % len(SERIES)]
    if low is not None and high is not None:
        axes.plot([low, high], [at, at], color=INK if from_zero else colour, linewidth=1.6, zorder=3)
    if from_zero:
        return axes.barh(at, value, step * 0.85, color=colour, alpha=0.75, linewidth=0)
    return axes.plot([value], [at], MARKS[number % len(MARKS)], color=colour, markersize=6, linestyle="", zorder=4)[0]


def _box(axes: Any, values: Any, place: int, colour: str) -> None:
    line = {"color": colour, "linewidth": 1.0}
    axes.boxplot(
        values,
        positions=[place],
        orientation="horizontal",
        widths=0.56,
        showfliers=False,
        manage_ticks=False,
        boxprops=line,
        whiskerprops=line,
        capprops={"linewidth": 0},
        medianprops={"color": colour, "linewidth": 2.4},
    )


def _spread(count: int) -> Any:
    """Offsets that keep dots apart, the same each time: multiples of the golden ratio, taken modulo one."""
    return ((np.arange(count) * 0.6180339887) % 1 - 0.5) * 0.36


def _axes(width: float, height: float) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), facecolor=PAPER, dpi=DPI, layout="constrained")
    axes = figure.add_subplot(facecolor=PAPER)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)
    axes.tick_params(labelsize=LETTERS, labelcolor=INK, color=SOFT, length=3)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [_short(name) for name in names], parse_math=False)


def _label(axes: Any, x: str, y: str = "") -> None:
    axes.set_xlabel(x, fontsize=LETTERS, color=SOFT, parse_math=False)
    axes.set_ylabel(y, fontsize=LETTERS, color=SOFT, parse_math=False)


def _key(figure: Figure, handles: Sequence[Any], names: Sequence[str]) -> None:
    """The key above the drawing, where it covers nothing."""
    short = [_short(name) for name in names]
    columns = max(1, min(len(names), ABREAST // (max(map(len, short), default=0) + 5)))
    # Names that begin with an underscore are left out of keys: they are put in afterwards.
    key = figure.legend(
        handles, ["-"] * len(names), loc="outside upper left", ncols=columns, frameon=False, fontsize=LETTERS - 1
    )
    for text, name in zip(key.get_texts(), short, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
