"""Curves over the levels of a stress: the model solid, CG-SENSE dashed, zero-filled dotted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

STYLES = {
    "nirvana": ("the model", "-", "o", "#0b6fb8"),
    "sense": ("CG-SENSE", "--", "s", "#b4530a"),
    "zero-filled": ("zero-filled", ":", "^", "#6b7680"),
}
SHADES = ("#08306b", "#2171b5", "#6baed6", "#9ecae1")
WORDS = {"nirvana": STYLES["nirvana"][0], "sense": STYLES["sense"][0]}
Tests = Sequence[Mapping[str, Any]]


def curves(tests: Tests, stress: Mapping[str, Any], baseline: Mapping[str, Any]) -> Figure:
    """SSIM over the level, the undisturbed one as a faint line; beside it the figure that tells most, if another."""
    key = stress["shown"].split(".")[1]
    other = key != "ssim"
    figure, axes = _figure(2 if other else 1)
    for method, (label, line, marker, colour) in STYLES.items():
        for axis, name in zip(axes, ("ssim", key), strict=False):
            _line(axis, tests, method, name, label=label, linestyle=line, marker=marker, color=colour)
        axes[0].axhline(baseline[method]["ssim"], color=colour, linewidth=0.7, alpha=0.5)
    axes[0].set_ylabel("SSIM (faint: undisturbed)")
    if other:
        axes[1].set_ylabel(stress["shown_words"])
        axes[1].set_ylim(bottom=0)
    for axis in axes:
        axis.set_xlabel(f"level [{stress['unit'].strip('()')}]")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def detectability(tests: Tests) -> Figure:
    """Contrast kept and d′ over the lesion's contrast, one line a size."""
    figure, axes = _figure(2)
    sizes = sorted({test["level"][0] for test in tests})
    for place, size in enumerate(sizes):
        mine = sorted((test for test in tests if test["level"][0] == size), key=lambda test: test["level"][1])
        contrast = [100 * test["level"][1] for test in mine]
        for method, words in WORDS.items():
            _, line, marker, _ = STYLES[method]
            for axis, key in zip(axes, ("contrast_kept", "detectability"), strict=True):
                found = [test["values"][method][key] for test in mine]
                shade = SHADES[place % len(SHADES)]
                label = f"{size:g} px, {words}"
                axis.plot(contrast, found, line, marker=marker, color=shade, markersize=4, label=label)
    axes[0].axhline(1, color="#888888", linewidth=0.7)
    axes[1].axhline(1, color="#888888", linewidth=0.7)
    axes[0].set_ylabel("contrast kept")
    axes[0].set_ylim(0, 1.1 * max(1, *(test["values"][name]["contrast_kept"] for test in tests for name in WORDS)))
    axes[1].set_ylabel("detection index d′")
    axes[1].set_yscale("log")
    for axis in axes:
        axis.set_xscale("log")
        axis.set_xticks([100 * test["level"][1] for test in tests if test["level"][0] == sizes[0]], minor=False)
        axis.minorticks_off()
        axis.xaxis.set_major_formatter("{x:g}")
        axis.set_xlabel("contrast of the lesion [%]")
    axes[0].legend(frameon=False, fontsize=7, loc="lower right")
    return figure


def _figure(count: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(8.4, 3.0), dpi=140, facecolor="white", layout="constrained")
    axes = figure.subplots(1, count, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    return figure, axes


def _line(axis: Any, tests: Tests, method: str, key: str, **style: Any) -> None:
    """One method's figure over the levels that have it."""
    points = [(test["level"], test["values"][method][key]) for test in tests if key in test["values"].get(method, {})]
    if points:
        axis.plot(*zip(*points, strict=True), markersize=4, **style)
