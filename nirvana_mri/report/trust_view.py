"""How far to trust a reconstruction, shown: badges with numbers, maps with a colour bar, and what the words mean."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from nirvana_mri.figures import BRIGHTEST, COLUMN, INK, PAPER
from nirvana_mri.report.html import badges, number, paragraph, scores_table
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, Volume

UNKNOWN = "–"
MOST_SHARE = 0.5  # shown brightest on the map of what was invented
NULL_WORDS = (
    "The map shows, for each pixel, how much of it the measured samples do not determine: |invented| over the pixel's "
    "own size plus half of the picture's level, which keeps the air quiet. Dark is measured; bright is what the method "
    "added to fill the sampling's gaps, which may be right or wrong, and which no comparison with the data can tell."
)
RESIDUAL_WORDS = (
    "Withheld lines make the task a little harder than it was. Agreement with the data speaks for the whole scan, not "
    "for a small detail; a missing or added one may hide below the noise of the measurement."
)


def badge_row(facts: Mapping[str, Any]) -> str:
    """Residual, null space, acceleration and signal to noise, each with what it means in a line."""
    residual = facts["residual"]
    least = "≥ " if residual.get("lower_bound") else ""
    state = residual.get("badge")
    value, fraction = facts["residual_over_noise"], facts["null_space_fraction"]
    return badges(
        (
            (
                "residual / noise" + (f": {state}" if state else ""),
                UNKNOWN if value is None else least + number(f"{value:.2f}", "residual_over_noise"),
                "on measured lines that the method was not shown; 1 is as good as noise allows",
                state or "",
            ),
            (
                "invented",
                UNKNOWN if fraction is None else number(f"{100 * fraction:.2g} %", "null_space_fraction"),
                "share of the picture's energy that the samples do not determine",
                "",
            ),
            (
                "acceleration",
                _shown(facts["acceleration"], "{:.2f}x", "acceleration"),
                "samples of a full scan for each one used",
                "",
            ),
            (
                "signal / noise",
                "≥ " * (facts["snr"] is not None) + _shown(facts["snr"], "{:.0f}", "snr"),
                "of a fully sampled picture; acceleration costs some of it",
                "",
            ),
        )
    )


def trust_words(facts: Mapping[str, Any]) -> str:
    """The residual in a sentence, the methods beside each other, and what the maps mean."""
    rows = [
        (
            escape(str(row["method"])),
            _shown(row["residual_over_noise"], "{:.2f}", f"methods.{place}.residual_over_noise"),
            escape(row["badge"] or UNKNOWN),
            _shown(row["null_space_fraction"], "{:.4f}", f"methods.{place}.null_space_fraction"),
        )
        for place, row in enumerate(facts["methods"])
    ]
    known = any(row["null_space_fraction"] is not None for row in facts["methods"])
    bars = facts["error_bars"]
    return "\n".join(
        piece
        for piece in (
            f"<p>Residual: {number(str(facts['residual']['sentence']), 'residual.sentence')}</p>",
            scores_table(("method", "residual / noise", "badge", "null-space fraction"), rows) if known else "",
            paragraph(RESIDUAL_WORDS, "soft") if facts["residual_over_noise"] is not None else "",
            paragraph(NULL_WORDS, "soft") if known else "",
            _bars_words(bars) if bars else "",
        )
        if piece
    )


def _bars_words(bars: Mapping[str, Any]) -> str:
    level = number(f"{100 * bars['level']:.0f} %", "error_bars.level")
    subjects = number(str(bars["subjects"]), "error_bars.subjects")
    widened = number(f"{bars['widened']:.2f}", "error_bars.widened")
    files = (bars.get("protocol") or {}).get("files")
    origin = ""
    if files:
        different = number(str(files["different"]), "error_bars.protocol.files.different")
        seen = number(str(files["seen_in_training"]), "error_bars.protocol.files.seen_in_training")
        origin = f" (simulated from {different} files, {seen} of which the model was trained on)"
    return (
        f"<p>Error bars of {level}, calibrated on {subjects} subjects with known truth{origin}, and {widened} times as "
        f"wide as their median's, by this scan's own residual. {escape(str(bars['promise']))}</p>"
    )


def maps_figure(volume: Volume, place: int, pixel_aspect: float = 1.0) -> Figure:
    """The picture, the share of it that was invented and, where there are bars, their half width: of the slice at
    ``place`` among those that trust was measured in.
    """
    picture = volume.magnitude[volume.slices.index(volume.provenance["trust"]["slices"][place])]
    white = float(np.percentile(picture, BRIGHTEST)) or 1.0
    panels = [("picture", picture, white, "gray", "intensity")]
    panels.append(("invented", volume.maps["invented"][place], MOST_SHARE, "inferno", "0 measured, up: invented"))
    if "error_bar" in volume.maps:
        bars = volume.maps["error_bar"][place]
        widest = float(np.percentile(bars, BRIGHTEST)) or 1.0
        panels.append(("error bar ±", bars, widest, "viridis", "on the intensity scale"))
    ny, nx = picture.shape
    width, height = 1.35 * COLUMN, 1.35 * COLUMN * ny / nx * pixel_aspect
    total = (width * len(panels) + 0.2, height + 1.25)
    figure = Figure(figsize=total, facecolor=PAPER, dpi=140)
    for column, (title, shown, most, colours, words) in enumerate(panels):
        left, low = (0.1 + column * width + 0.05) / total[0], 0.75 / total[1]
        axes = figure.add_axes((left, low, (width - 0.1) / total[0], height / total[1]))
        axes.set_axis_off()
        drawn = axes.imshow(shown, cmap=colours, vmin=0, vmax=most, aspect=pixel_aspect, interpolation="nearest")
        axes.set_title(title, color=INK, fontsize=11, fontweight="bold")
        place_of_bar = (left + 0.1 * width / total[0], low - 0.14 / total[1], 0.77 * width / total[0], 0.08 / total[1])
        _colour_bar(figure, drawn, place_of_bar, most, words)
    figure.text(0.5, 0.05 / total[1], NOT_FOR_CLINICAL_USE, color=INK, fontsize=9, ha="center", va="bottom")
    return figure


def _colour_bar(figure: Figure, drawn: Any, place: tuple[float, float, float, float], most: float, words: str) -> None:
    ticks = [0, most / 2, most]
    scale = figure.colorbar(drawn, cax=figure.add_axes(place), orientation="horizontal", ticks=ticks)
    scale.ax.set_xticklabels([f"{tick:.3g}" for tick in ticks], color=INK, fontsize=8)
    scale.ax.tick_params(color=INK)
    scale.outline.set_edgecolor(INK)
    scale.set_label(words, color=INK, fontsize=8)


def _shown(value: float | None, form: str, field: str) -> str:
    return UNKNOWN if value is None else number(form.format(value), field)
