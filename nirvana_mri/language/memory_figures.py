"""Pictures of a memory record: heat maps over layers and tokens, curves over tokens, curves over layers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

SIZE = (5.2, 3.1)  # inches: small, so that the words stay readable where a telephone shrinks the picture
PLACE, BESIDE = (0.17, 0.17, 0.64, 0.78), (0.83, 0.17, 0.025, 0.78)  # of the axes and the bar of colours
ALONE, BELOW = (0.17, 0.17, 0.8, 0.78), (0.17, 0.17, 0.8, 0.62)  # of axes without a bar; below a legend
INK = "#1c2024"
ROW_TICKS = 8

Numbers = NDArray[np.float64]


def heat_map(values: Numbers, layers: Sequence[int], label: str) -> bytes:
    """PNG of values [layer token], the lowest layer at the bottom; colours go from the least to the largest value."""
    figure, axes = _axes("token (its place in the text)", "layer")
    edges = (-0.5, values.shape[1] - 0.5, -0.5, len(layers) - 0.5)
    image = axes.imshow(values, aspect="auto", origin="lower", extent=edges, cmap="cividis", interpolation="nearest")
    chosen = np.unique(np.linspace(0, len(layers) - 1, min(len(layers), ROW_TICKS)).round().astype(int))
    axes.set_yticks(chosen, [str(layers[row]) for row in chosen])
    figure.colorbar(image, cax=figure.add_axes(BESIDE)).set_label(label, fontsize=11)
    return _png(figure)


def over_tokens(values: Numbers, layers: Sequence[int], label: str, log: bool, limit: float | None = None) -> bytes:
    """PNG of a curve for each layer over the tokens; limit is drawn as a dashed line."""
    figure, axes = _axes("token (its place in the text)", label)
    count = len(layers)
    colours = colormaps["viridis"](np.linspace(0, 0.88, count))  # its last yellow is hard to see on white
    for row in range(count):
        axes.plot(values[row], color=colours[row], linewidth=1.1, marker="." if values.shape[1] < 3 else "")
    if limit is not None:
        axes.axhline(limit, color=INK, linewidth=1, linestyle="--")
    _scale(axes, values, log)
    bounds = np.arange(count + 1) - 0.5
    mapped = ScalarMappable(BoundaryNorm(bounds, count), ListedColormap(colours))
    bar = figure.colorbar(mapped, cax=figure.add_axes(BESIDE), ticks=MaxNLocator(min(count, ROW_TICKS), integer=True))
    ticks = [int(tick) for tick in bar.get_ticks() if 0 <= tick < count]
    bar.set_ticks(ticks, labels=[str(layers[row]) for row in ticks])
    bar.minorticks_off()
    bar.set_label("layer", fontsize=11)
    return _png(figure)


def over_layers(curves: dict[str, Numbers], layers: Sequence[int], label: str, log: bool) -> bytes:
    """PNG of named curves over the layers: of each the mean over the tokens (line), up to the largest (dotted)."""
    figure, axes = _axes("layer", label, BELOW)
    for (name, values), colour in zip(curves.items(), ("#31688e", "#b5541c", "#4c8c2b"), strict=False):
        start = f"{name}, " if name else ""
        axes.plot(layers, values.mean(1), color=colour, marker="o", markersize=4, label=f"{start}mean")
        axes.plot(layers, values.max(1), color=colour, marker="^", markersize=4, linestyle=":", label=f"{start}largest")
    _scale(axes, np.concatenate(list(curves.values())), log)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=9.5, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return _png(figure)


def loss_curve(loss: Numbers) -> bytes:
    """PNG of the loss of every token after the first."""
    figure, axes = _axes("token (its place in the text)", "loss of the token [nats]", ALONE)
    axes.stairs(loss, np.arange(len(loss) + 1) + 0.5, fill=True, color="#31688e")
    axes.set_ylim(bottom=0)
    return _png(figure)


def _axes(x_label: str, y_label: str, place: tuple[float, float, float, float] = PLACE) -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE, facecolor="white", dpi=150)
    FigureCanvasAgg(figure)
    axes = figure.add_axes(place)
    axes.set_xlabel(x_label, fontsize=11)
    axes.set_ylabel(y_label, fontsize=11)
    axes.tick_params(labelsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _scale(axes: Any, values: Numbers, log: bool) -> None:
    """A logarithmic axis where asked for and possible; never finer than the digits of the values."""
    finite = values[np.isfinite(values)]
    if log and finite.size and finite.min() > 0:
        axes.set_yscale("log")
        near = finite.max() < 1000 * finite.min()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if near else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        if finite.max() < 10 * finite.min():
            axes.set_ylim(finite.min() / 1.5, finite.max() * 1.5)
    elif finite.size and finite.max() - finite.min() < 1e-3 * abs(finite.max()):
        axes.yaxis.get_major_formatter().set_useOffset(False)
        margin = 1e-3 * max(abs(finite.max()), 1e-3)
        axes.set_ylim(finite.min() - margin, finite.max() + margin)
    axes.yaxis.set_minor_locator(NullLocator())


def _png(figure: Figure) -> bytes:
    """The same bytes for the same figure."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
