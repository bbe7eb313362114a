"""Volumes → PNG: a contact sheet of all slices, for a look and for nothing else."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError
from nirvana_mri.io.writers.derivation import (
    NOTICE,
    Volumes,
    as_volumes,
    assumed,
    check_volumes,
    derivation_words,
    is_synthetic,
    method_words,
    orientation_words,
    plain,
    sampling_words,
)
from nirvana_mri.volume import SYNTHETIC, Volume

WINDOW = (1.0, 99.5)  # percentiles shown black and white
SMALLEST_TILE, LARGEST_SHEET = 128, 6000  # pixels a side
NARROWEST = 480  # pixels, so that the foot can be read
LARGEST_COUNT = 2048  # slices
GAP = 4  # pixels
FONT = 13.0  # pixels, at least; a wide sheet has larger letters
PAPER, INK, WARNING = 16, "#e8e8e8", "#ffb454"
DPI = 100


@dataclass(frozen=True, eq=False)
class Tile:
    """One slice, uint8 ``[rows, columns]``, and its number."""

    picture: NDArray[np.uint8]
    label: str


def write_png(volumes: Volumes, path: str | Path) -> Path:
    """Write a contact sheet of every slice, whole or not at all; the path written.

    Each volume has one grey window, from its 1st to its 99.5th percentile. Pixels are square on the sheet, whatever
    they are in the scan; small pictures are repeated, large ones averaged over whole blocks. The foot, and the file's
    own text fields, say how the pictures were made and that they are not for clinical use. The same volumes give the
    same bytes.

    Raises: DataError for complex voxels, more than 2048 slices, or a full disk.
    """
    path, volumes = Path(path), as_volumes(volumes)
    check_volumes(volumes, path)
    if volumes[0].voxels.dtype.kind == "c":
        raise DataError(f"{path}: voxels are complex, a PNG shows magnitudes; leave out the phase, or write .nii.gz")
    slices, ny, nx = volumes[0].voxels.shape
    if slices * len(volumes) > LARGEST_COUNT or max(ny, nx) > LARGEST_SHEET:
        raise DataError(f"{path}: {slices * len(volumes)} slices of {ny} x {nx} are too many for a sheet; write fewer")
    try:
        data = _drawn(volumes)
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    except OSError as problem:
        raise DataError(f"{path}: cannot be written ({problem}); check space and permissions") from problem
    return path


def _drawn(volumes: Sequence[Volume]) -> bytes:
    """The sheet with its text, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    windows = [_window(volume) for volume in volumes]
    tiles = _tiles(volumes, windows)
    sheet, corners = _sheet([tile.picture for tile in tiles])
    height, width = sheet.shape
    letter = max(FONT, width / 110)
    lines = _foot(volumes, windows, int((width - 4 * GAP) / (letter * 0.54)))
    foot = round(letter * 1.5 * len(lines) + 2 * GAP)
    figure = Figure(figsize=(width / DPI, (height + foot) / DPI), dpi=DPI, facecolor=str(PAPER / 255))
    FigureCanvasAgg(figure)
    figure.figimage(sheet, 0, foot, cmap="gray", vmin=0, vmax=255, origin="upper")
    size = letter * 72 / DPI
    label = min(size * 0.85, tiles[0].picture.shape[1] / len(tiles[-1].label) * 0.9 * 72 / DPI)  # half a tile's width
    for tile, (top, left) in zip(tiles, corners, strict=True):
        place = ((left + 4) / width, 1 - (top + 3) / (height + foot))
        figure.text(*place, tile.label, color=INK, fontsize=label, va="top", bbox=_BACKGROUND)
    for number, (line, colour) in enumerate(lines):
        below = GAP + letter * 1.5 * number
        figure.text(GAP * 2 / width, (foot - below) / (height + foot), line, color=colour, fontsize=size, va="top")
    stream = io.BytesIO()
    words = {"Title": "nirvana-mri reconstruction", "Description": derivation_words(volumes[0]), "Warning": NOTICE}
    figure.savefig(stream, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None, **words})
    return stream.getvalue()


_BACKGROUND: dict[str, Any] = {"facecolor": "#101010", "edgecolor": "none", "pad": 1.5, "alpha": 0.55}


def _window(volume: Volume) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(volume.voxels, WINDOW))
    if high > low:
        return low, high
    low, high = float(volume.voxels.min()), float(volume.voxels.max())
    return (low, high) if high > low else (low - 1, low)


def _tiles(volumes: Sequence[Volume], windows: Sequence[tuple[float, float]]) -> list[Tile]:
    count = len(volumes) * len(volumes[0].voxels)
    tiles = []
    for which, (volume, (low, high)) in enumerate(zip(volumes, windows, strict=True)):
        numbers = volume.slices or range(len(volume.voxels))
        for number, picture in zip(numbers, volume.voxels, strict=True):
            grey = np.clip((picture.astype(np.float32) - low) / (high - low), 0, 1) * 255
            label = f"slice {number}" if len(volumes) == 1 else f"volume {which}, slice {number}"
            tiles.append(Tile(_square(grey, volume, count), label))
    return tiles


def _square(grey: NDArray[np.float32], volume: Volume, count: int) -> NDArray[np.uint8]:
    """The slice on square pixels, at a size such that ``count`` of them fit on a sheet."""
    dx, dy = (float(size) for size in np.linalg.norm(np.asarray(volume.affine, float)[:3, :2], axis=0))
    sides = max(1, math.isqrt(max(count - 1, 0)) + 1)
    blocks = max(1, math.ceil(max(grey.shape) * sides / LARGEST_SHEET))
    grey = _averaged(grey, blocks)
    rows, columns = grey.shape
    if dx > 0 and dy > 0 and abs(dy / dx - 1) > 0.005:
        stretch = min(max(dy / dx, 1 / 16), 16.0)
        rows, columns = (round(rows * stretch), columns) if stretch > 1 else (rows, round(columns / stretch))
        grey = _stretched(_stretched(grey, rows).T, columns).T
    repeat = max(1, math.ceil(SMALLEST_TILE / max(grey.shape)))
    return np.rint(grey).astype(np.uint8).repeat(repeat, axis=0).repeat(repeat, axis=1)


def _averaged(grey: NDArray[np.float32], blocks: int) -> NDArray[np.float32]:
    if blocks == 1:
        return grey
    rows, columns = (-(-n // blocks) * blocks for n in grey.shape)
    padded = np.pad(grey, ((0, rows - grey.shape[0]), (0, columns - grey.shape[1])), mode="edge")
    return padded.reshape(rows // blocks, blocks, columns // blocks, blocks).mean(axis=(1, 3))


def _stretched(grey: NDArray[np.float32], rows: int) -> NDArray[np.float32]:
    """Linear between rows."""
    if rows == len(grey):
        return grey
    at = np.clip((np.arange(rows) + 0.5) * len(grey) / rows - 0.5, 0, len(grey) - 1)
    below = np.minimum(at.astype(int), max(len(grey) - 2, 0))
    part = (at - below)[:, None].astype(np.float32)
    return grey[below] * (1 - part) + grey[np.minimum(below + 1, len(grey) - 1)] * part


def _sheet(pictures: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """All pictures on one near-square sheet, and where each begins (top, left)."""
    tall, wide = pictures[0].shape
    columns = min(len(pictures), max(1, round(math.sqrt(len(pictures) * 1.3 * tall / wide))))
    rows = -(-len(pictures) // columns)
    width = max(columns * (wide + GAP) + GAP, NARROWEST)
    indent = (width - columns * (wide + GAP) - GAP) // 2 + GAP
    sheet = np.full((rows * (tall + GAP) + GAP, width), PAPER, np.uint8)
    corners = []
    for number, picture in enumerate(pictures):
        row, column = divmod(number, columns)
        top, left = GAP + row * (tall + GAP), indent + column * (wide + GAP)
        sheet[top : top + tall, left : left + wide] = picture
        corners.append((top, left))
    return sheet, corners


def _foot(volumes: Sequence[Volume], windows: Sequence[tuple[float, float]], letters: int) -> list[tuple[str, str]]:
    """Lines of text with their colours, none longer than ``letters``."""
    volume = volumes[0]
    said = [(NOTICE + (f" · {SYNTHETIC}" if is_synthetic(volume) else ""), WARNING)]
    said.append((f"nirvana-mri {volume.provenance.get('toolkit_version', '')} · {method_words(volume)}", INK))
    said.append((f"sampling: {sampling_words(volume)}", INK))
    shown = ", ".join(f"{low:.3g} to {high:.3g}" for low, high in windows[:4]) + (" …" if len(windows) > 4 else "")
    where = "" if volume.orientation_known and assumed(volume) is None else f" · {orientation_words(volume)}"
    said.append((f"grey window {shown} ({WINDOW[0]:g}st to {WINDOW[1]:g}th percentile){where}", INK))
    return [(line, colour) for text, colour in said for line in textwrap.wrap(plain(text), max(20, letters))]
