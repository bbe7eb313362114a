"""Scores within the boxes that radiologists drew: fastMRI+ (Zhao et al. 2022, Scientific Data 9, 152)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nirvana_mri.errors import DataError
from nirvana_mri.eval.metrics import Pictures, comparable, ssim_maps
from nirvana_mri.eval.protocol import PER_SLICE
from nirvana_mri.io.annotations import read_rows, upright


@dataclass(frozen=True)
class Box:
    """A finding as fastMRI+ lists it: pixels of the up-down flipped target picture, from 0; ``line`` in the file."""

    slice: int
    x: int
    y: int
    width: int
    height: int
    label: str
    line: int


@dataclass(frozen=True)
class Annotations:
    """Boxes by file name without its suffix. ``notes`` say what was left out."""

    path: Path
    boxes: Mapping[str, tuple[Box, ...]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Region:
    """The scores within one box; ``box`` is (row, column, height, width) in the target as it is stored, not flipped,
    ``box_compared`` in the pictures compared, which the protocol may have cropped.
    """

    slice: int
    label: str
    box: tuple[int, int, int, int]
    box_compared: tuple[int, int, int, int]
    ssim: float
    nmse: float | None  # None where the target is 0 in the box

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "slice": self.slice,
            "label": self.label,
            "box": list(self.box),
            "box_compared": list(self.box_compared),
            "ssim": self.ssim,
            "nmse": self.nmse,
        }


def read_annotations(path: Path) -> Annotations:
    """The boxes of a fastMRI+ file; repeated rows count once, labels of a whole study and empty boxes have no pixels.

    Raises: DataError, which names the line.
    """
    boxes: dict[str, list[Box]] = {}
    seen: set[tuple[Any, ...]] = set()
    studies = 0
    for row in read_rows(path):
        if row.slice is None or row.box is None:
            studies += 1
        elif (key := (row.file, row.slice, row.box, row.label)) not in seen:
            seen.add(key)
            boxes.setdefault(row.file, []).append(Box(row.slice, *row.box, row.label, row.line))
    empty = sum(not (box.width and box.height) for each in boxes.values() for box in each)
    notes = [f"{studies} labels of whole studies have no box and are not scored"] if studies else []
    notes += [f"{empty} boxes hold no pixel and are not scored"] if empty else []
    whole = {name: tuple(box for box in each if box.width and box.height) for name, each in boxes.items()}
    return Annotations(path, whole, tuple(notes))


def placed(box: Box, stored: tuple[int, int], where: str) -> tuple[int, int, int, int]:
    """(row, column, height, width) of a box in the target as stored, whose size (ny, nx) is ``stored``.

    fastMRI+ was drawn on the target pictures flipped up-down (fastmri_to_dicom.py there), pixel by pixel: nothing is
    scaled, and a box that begins one pixel beyond the picture, as a few do, is cut there. Raises: DataError for a box
    that is not in the picture.
    """
    ny, nx = stored
    if box.x + box.width > nx or box.y + box.height > ny:
        raise DataError(
            f"{where}: the box of line {box.line} ends at column {box.x + box.width}, row {box.y + box.height}, the "
            f"target is {ny}x{nx}; fastMRI+ needs targets of the size that was annotated (320x320)"
        )
    left, top = max(box.x, 0), max(box.y, 0)
    _, row, _, _ = upright((box.x, box.y, box.width, box.height), ny)
    return row, left, box.y + box.height - top, box.x + box.width - left


def region_scores(
    boxes: Sequence[Box], target: Pictures, prediction: Pictures, slices: Sequence[int], stored: tuple[int, int],
    protocol: str, where: str,
) -> tuple[Region, ...]:  # fmt: skip
    """SSIM (mean of its map over the box) and NMSE within each box whose slice was scored.

    ``target`` and ``prediction`` [slice ny nx] are cut as for the scores, ``slices`` their numbers in the scan. The
    data range is the protocol's; a foreground mask plays no part. Raises: DataError for boxes that do not fit.
    """
    regions = []
    for box in boxes:
        row, column, height, width = placed(box, stored, where)
        if box.slice not in slices:
            continue
        top, left = ((n - m) // 2 for n, m in zip(stored, target.shape[1:], strict=True))
        if (
            row < top
            or column < left
            or row + height > top + target.shape[1]
            or column + width > left + target.shape[2]
        ):
            raise DataError(f"{where}: the box of line {box.line} lies outside the {target.shape[1]} pixels compared")
        inside = np.s_[row - top : row - top + height, column - left : column - left + width]
        number = list(slices).index(box.slice)
        chosen = np.s_[number : number + 1] if protocol == PER_SLICE.name else np.s_[:]
        similarity = next(ssim_maps(target[chosen], prediction[chosen], [0 if protocol == PER_SLICE.name else number]))
        wanted, found = (p[number][inside].astype(np.float64) for p in comparable(target, prediction))
        energy = float(np.sum(wanted**2))
        regions.append(
            Region(
                slice=box.slice,
                label=box.label,
                box=(row, column, height, width),
                box_compared=(row - top, column - left, height, width),
                ssim=float(similarity[inside].mean(dtype=np.float64)),
                nmse=float(np.sum((wanted - found) ** 2)) / energy if energy > 0 else None,
            )
        )
    return tuple(regions)
