"""Panels of pictures: target, reconstructions, and what is wrong with each. Drawn without pyplot's global state."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from nirvana_mri.atomic import atomic_path
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE

ERROR_GAIN = 5
BRIGHTEST = 99.8  # percentile shown white: a few vessels may be brighter
COLUMN, TITLE, FOOT = 2.6, 0.62, 0.3  # inches
INK, PAPER = "#e8e8e8", "#101010"

Picture = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture ``[ny, nx]`` with its name and a line of scores."""

    title: str
    picture: Picture
    caption: str = ""


def comparison(panels: Sequence[Panel], target: Picture | None, title: str = "", pixel_aspect: float = 1.0) -> Figure:
    """Pictures side by side in one grey window; below each, where there is a target, its error, 5 times.

    The window goes from 0 to the 99.8th percentile of the target (of all pictures where there is none), for pictures
    and errors alike. ``pixel_aspect`` is a pixel's height over its width.
    """
    if target is not None:
        panels = [Panel("target", target, "fully sampled"), *panels]
    shown = target if target is not None else np.stack([panel.picture for panel in panels])
    white = float(np.percentile(shown, BRIGHTEST)) or 1.0
    rows = 1 if target is None else 2
    ny, nx = panels[0].picture.shape
    height = COLUMN * ny / nx * pixel_aspect
    head = TITLE + (0.3 if title else 0.0)
    size = (COLUMN * len(panels), head + rows * height + FOOT)
    figure = Figure(figsize=size, facecolor=PAPER, dpi=140)
    for column, panel in enumerate(panels):
        top = 1 - (head + height) / size[1]
        axes = _axes(figure, column, len(panels), top, height / size[1])
        _show(axes, panel.picture, white, pixel_aspect)
        axes.set_title(panel.title, color=INK, fontsize=11, fontweight="bold", pad=19 if panel.caption else 6)
        axes.text(0.5, 1.02, panel.caption, color=INK, fontsize=8, ha="center", va="bottom", transform=axes.transAxes)
        if target is None:
            continue
        below = _axes(figure, column, len(panels), FOOT / size[1], height / size[1])
        if column == 0:
            _blank(below, f"error × {ERROR_GAIN}\n|picture − target|,\nin the pictures' window\n(0 to {white:.3g})")
        else:
            _show(below, ERROR_GAIN * np.abs(panel.picture - target), white, pixel_aspect)
    if title:
        figure.text(0.5, 1 - 0.12 / size[1], title, color=INK, fontsize=11, ha="center", va="top")
    figure.text(0.5, 0.09 / size[1], NOT_FOR_CLINICAL_USE, color=INK, fontsize=9, ha="center", va="bottom")
    return figure


def png(figure: Figure) -> bytes:
    """The figure as PNG: the same bytes for the same figure."""
    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()


def save_png(figure: Figure, path: str | Path) -> Path:
    """Write the figure, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(png(figure))
    return Path(path)


def _axes(figure: Figure, column: int, columns: int, bottom: float, height: float) -> Any:
    gap = 0.03 / columns
    axes = figure.add_axes((column / columns + gap / 2, bottom, 1 / columns - gap, height))
    axes.set_axis_off()
    return axes


def _show(axes: Any, picture: Picture, white: float, pixel_aspect: float) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=white, aspect=pixel_aspect, interpolation="nearest")


def _blank(axes: Any, text: str) -> None:
    axes.text(
        0.5, 0.5, text, color=INK, fontsize=9, ha="center", va="center", transform=axes.transAxes, linespacing=1.5
    )
