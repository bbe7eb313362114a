"""The worst volumes of an evaluation: where the target, each method and its error are shown side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from nirvana_mri.eval.target import centre_crop
from nirvana_mri.figures import BRIGHTEST, ERROR_GAIN
from nirvana_mri.report.evaluation_values import NOTHING, Values, metric
from nirvana_mri.report.html import paragraph, picture, scores_table

WORST = 5  # volumes
ZOOM = 4  # the zoom shows a square of the shorter side over this
SMALLEST = 8  # pixels of its side

Picture = NDArray[np.floating]
Pictures = Callable[[Mapping[str, Any]], tuple[Picture, Mapping[str, Picture]]]
Box = tuple[int, int, int, int]  # first row, first column, height, width


def worst_cases(values: Values, pictures: Pictures | None) -> str:
    """The worst volumes of the first method, by the main metric: a table, then the worst slice of each in pictures."""
    order = ranked(values)[:WORST]
    if not order:
        return ""
    key = values.metrics[0]
    head = ("file", "group", *(metric(key).head for key in values.metrics), "worst slice", f"its {metric('ssim').name}")
    table = [
        (
            values.file(f"volumes.{place}.file"),
            values.text(f"volumes.{place}.group"),
            *(values.show(f"volumes.{place}.{key}", metric(key).form) for key in values.metrics),
            values.show(f"volumes.{place}.worst_slice.slice"),
            values.show(f"volumes.{place}.worst_slice.ssim", metric("ssim").form),
        )
        for place in order
    ]
    what = f"Volumes with the worst {metric(key).name} of {values.methods[0]}, worst first; slices count from 0."
    tables = paragraph(what, "soft") + scores_table(head, table, main=None, words=2)
    if pictures is None:
        return tables
    rule = (
        f"All in the grey window of the target, 0 to its percentile {BRIGHTEST:g}. Error: {ERROR_GAIN} × "
        f"|picture − target| in the same window. Zoom: the square with the most squared error of {values.methods[0]}; "
        "a frame marks its place. Dashed frames, where there are any: the labelled boxes of this slice, named below."
    )
    return tables + paragraph(rule, "soft") + "\n".join(_case(values, place, pictures) for place in order)


def ranked(values: Values) -> list[int]:
    """Places in ``volumes`` of the first method, worst first by the main metric; those without a value come last."""
    if not values.metrics:
        return []
    key = values.metrics[0]
    worse = -1 if metric(key).better == "lower" else 1
    found = [(values.at(f"volumes.{place}.{key}"), place) for place in _of(values, values.methods[0])]
    return [place for value, place in sorted(found, key=lambda each: (each[0] is None, worse * (each[0] or 0)))]


def worst_square(error: Picture) -> Box:
    """The square of the picture that holds the most squared error."""
    side = min(max(min(error.shape) // ZOOM, SMALLEST), *error.shape)
    # Divided first: squares of small intensities vanish.
    held = uniform_filter((error / (np.abs(error).max() or 1)).astype(np.float64) ** 2, side, mode="constant")
    inside = held[side // 2 : side // 2 + error.shape[0] - side + 1, side // 2 : side // 2 + error.shape[1] - side + 1]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(row), int(column), side, side


def _case(values: Values, place: int, pictures: Pictures) -> str:
    at = f"volumes.{place}"
    target, predictions = pictures(values.rows("volumes")[place])
    shown = {name: predictions[name] for name in values.methods if name in predictions}
    shapes = [each.shape for each in (target, *shown.values())]
    size = (min(shape[0] for shape in shapes), min(shape[1] for shape in shapes))
    target = centre_crop(target, size)
    shown = {name: centre_crop(each, size) for name, each in shown.items()}
    white = float(np.percentile(target, BRIGHTEST)) or 1.0
    square = worst_square(next(iter(shown.values())) - target)
    labelled = _labelled(values, place, (shapes[0][0] - size[0]) // 2, (shapes[0][1] - size[1]) // 2)
    frames = _frames((square,), size) + _frames([box for box, _ in labelled], size, "labelled")
    columns = [_column("target", "fully sampled", target, None, white, square, frames)]
    for name, each in shown.items():
        score, error = _volume_score(values, place, name), np.abs(each - target)
        columns.append(_column(name, score, each, error, white, square, frames))
    lowest = values.show(f"{at}.worst_slice.ssim", metric("ssim").form)
    slice_shown = f"slice {values.show(f'{at}.worst_slice.slice')}, its lowest SSIM {lowest}"
    heading = f'<h3>{values.file(f"{at}.file")} <span class="soft">{slice_shown}</span></h3>'
    named = "; ".join(label for _, label in labelled)
    below = paragraph(f"Labelled boxes: {named}.", "soft") if named else ""
    return f'<article class="case">{heading}<div class="columns">{"".join(columns)}</div>{below}</article>'


def _labelled(values: Values, place: int, top: int, left: int) -> list[tuple[Box, str]]:
    """The labelled boxes of a volume's worst slice, each once, in a picture that begins at ``top``, ``left``."""
    file, number = values.at(f"volumes.{place}.file"), values.at(f"volumes.{place}.worst_slice.slice")
    found: dict[tuple[Box, str], None] = {}
    for region in values.rows("regions"):
        if (region["file"], region["slice"]) == (file, number):
            row, column, height, width = region["box_compared"]
            found[(row - top, column - left, height, width), region["label"]] = None
    return list(found)


def _column(
    name: str, score: str, shown: Picture, error: Picture | None, white: float, square: Box, frames: str
) -> str:
    """One method's picture, error and zoom, below each other. ``score`` and ``frames`` are HTML."""
    row, column, height, width = square
    zoomed = shown[row : row + height, column : column + width]
    below = (
        f'<div class="panel legend" style="aspect-ratio:{shown.shape[1]}/{shown.shape[0]}">error × {ERROR_GAIN}</div>'
        if error is None
        else _panel(ERROR_GAIN * error, white, f"error of {name}, {ERROR_GAIN} times", frames)
    )
    return (
        f'<figure class="column"><figcaption><strong>{escape(name)}</strong><br>{score}</figcaption>'
        f"{_panel(shown, white, name, frames)}{below}{_panel(zoomed, white, f'{name}, zoom')}</figure>"
    )


def _panel(shown: Picture, white: float, what: str, frames: str = "") -> str:
    grey = np.clip(np.rint(shown * (255 / white)), 0, 255).astype(np.uint8)
    return f'<div class="panel">{picture(grey, what)}{frames}</div>'


def _frames(boxes: Sequence[Box], size: tuple[int, int], kind: str = "") -> str:
    """HTML: frames over a picture of ``size`` (ny, nx)."""
    ny, nx = size
    found = ""
    for row, column, height, width in boxes:
        edges = {"top": row / ny, "left": column / nx, "height": height / ny, "width": width / nx}
        style = ";".join(f"{edge}:{share:.2%}" for edge, share in edges.items())
        found += f'<span class="{f"mark {kind}".strip()}" style="{style}"></span>'
    return found


def _volume_score(values: Values, place: int, name: str) -> str:
    """HTML: the main metric of the volume by this method, found by its file."""
    key, file = values.metrics[0], values.at(f"volumes.{place}.file")
    same = [other for other in _of(values, name) if values.at(f"volumes.{other}.file") == file]
    score = values.show(f"volumes.{same[0]}.{key}", metric(key).form) if same else NOTHING
    return f"volume {escape(metric(key).name)} {score}"


def _of(values: Values, method: str) -> list[int]:
    return [place for place, row in enumerate(values.rows("volumes")) if row.get("method", method) == method]
