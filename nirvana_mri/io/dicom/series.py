"""Images of one DICOM series → volumes: one geometry, evenly spaced slices, the same images at every place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.dicom.elements import DicomError
from nirvana_mri.io.dicom.frames import Frame
from nirvana_mri.scan import Geometry

SAME_PLACE = 0.005  # mm
UNEVEN = 0.02  # of the spacing between slices
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Series:
    """Volumes of slices in the order of the normal (row x column direction), all in one geometry."""

    volumes: list[list[Frame]]
    geometry: Geometry
    warnings: tuple[str, ...]


def series_of(frames: Sequence[Frame]) -> Series:
    """The volumes that the images of one series make.

    Volumes are ordered by image type, echo time, b-value, temporal position, then as the headers number their
    dimensions, triggers, acquisitions and instances. Raises: DicomError where the images are not a whole number of
    evenly spaced volumes in one place.
    """
    kept, notes = _magnitude(frames)
    _no_copies(kept)
    _one_geometry(kept)
    places = _places(kept)
    volumes = _volumes(places)
    geometry = _geometry(volumes[0])
    kinds = len({volume[0].kind for volume in volumes})
    if kinds > 1:
        notes.append(f"the {len(volumes)} volumes are of {kinds} image types; choose one (volume)")
    return Series(volumes, geometry, tuple(notes))


def _magnitude(frames: Sequence[Frame]) -> tuple[list[Frame], list[str]]:
    counts = Counter(frame.part for frame in frames)
    found = counts.pop("magnitude", 0)
    others = ", ".join(f"{count} of {part}" for part, count in sorted(counts.items()))
    if not found:
        raise DicomError(f"holds no magnitude images ({others}); give the series of magnitude images")
    notes = [f"beside {found} magnitude images the series holds others, left out: {others}"] if others else []
    return [frame for frame in frames if frame.part == "magnitude"], notes


def _no_copies(frames: Sequence[Frame]) -> None:
    instances = Counter(frame.instance for frame in frames if frame.instance[0])
    copies = sum(count - 1 for count in instances.values())
    if copies:
        raise DicomError(f"holds {copies} images twice (the same instance); remove the copies")


def _one_geometry(frames: Sequence[Frame]) -> None:
    sizes = Counter(frame.shape for frame in frames)
    if len(sizes) > 1:
        raise DicomError(f"mixes sizes: {_counted(sizes)} pixels, expected one; separate them")
    first = frames[0]
    directions: list[tuple[NDArray[np.float64], int]] = []
    for frame in frames:
        for number, (known, count) in enumerate(directions):
            if np.abs(known - frame.orientation).max() < 1e-3:
                directions[number] = (known, count + 1)
                break
        else:
            directions.append((frame.orientation, 1))
            if len(directions) > 32:
                break
    if len(directions) > 1:
        counts = " + ".join(str(count) for _, count in directions)
        raise DicomError(f"lies in {len(directions)} orientations ({counts} images), expected one; is it a localizer?")
    spacings = np.array([frame.spacing for frame in frames])
    if np.abs(spacings / first.spacing - 1).max() > 1e-3:
        raise DicomError("mixes pixel sizes, expected one; separate them")


def _counted(sizes: Counter[tuple[int, int]]) -> str:
    return ", ".join(f"{count} of {rows} x {columns}" for (rows, columns), count in sorted(sizes.items())[:4])


def _places(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The images by their place along the normal, evenly spaced."""
    heights = np.array([frame.position @ frames[0].normal for frame in frames])
    order = np.argsort(heights, kind="stable")
    starts = np.flatnonzero(np.diff(heights[order], prepend=-np.inf) > SAME_PLACE)
    groups = [[frames[n] for n in part] for part in np.split(order, starts[1:])]
    middles = np.array([float(heights[part[0]]) for part in np.split(order, starts[1:])])
    _check_spacing(middles)
    _check_line(groups)
    usual = Counter(len(group) for group in groups).most_common(1)[0][0]
    odd = [(number, len(group)) for number, group in enumerate(groups) if len(group) != usual]
    if odd:
        number, found = odd[0]
        raise DicomError(
            f"has {found} images at slice {number} (at {middles[number]:.2f} mm along the normal) but {usual} at most "
            "of its places: images are missing or there twice; export the whole series"
        )
    return groups


def _check_spacing(heights: NDArray[np.float64]) -> None:
    steps = np.diff(heights)
    if not steps.size:
        return
    usual = float(np.median(steps))
    wrong = np.flatnonzero(np.abs(steps - usual) > UNEVEN * usual + SAME_PLACE)
    if wrong.size:
        at = int(wrong[0])
        gap = float(steps[at])
        missing = round(gap / usual) - 1
        what = f"{missing} missing?" if missing > 0 else "uneven spacing"
        raise DicomError(
            f"has slices {usual:.3f} mm apart but {gap:.3f} mm between {heights[at]:.2f} and {heights[at + 1]:.2f} mm "
            f"along the normal ({what}); export the whole series"
        )


def _check_line(groups: Sequence[Sequence[Frame]]) -> None:
    """Refuse slices that are shifted against each other, within a place or from place to place."""
    points = np.array([frame.position for group in groups for frame in group])
    numbers = np.array([number for number, group in enumerate(groups) for _ in group])
    first, last = groups[0][0], groups[-1][0]
    step = (last.position - first.position) / max(len(groups) - 1, 1)
    length = float(np.linalg.norm(step))
    allowed = UNEVEN * (length or 1.0) + 2 * SAME_PLACE
    if np.abs(points - first.position - numbers[:, None] * step).max() > allowed:
        raise DicomError("has slices that are shifted against each other in their plane; export them from one stack")
    if length and step @ first.normal < 0.9999 * length:
        raise DicomError("has slices that are not stacked along their normal; reformat it to straight slices")


def _volumes(places: Sequence[Sequence[Frame]]) -> list[list[Frame]]:
    """The images of each place in one order, so that the k-th of every place are volume k."""
    ordered = [sorted(group, key=_key) for group in places]
    for number, group in enumerate(ordered):
        for before, after in pairwise(group):
            if _key(before) == _key(after):
                raise DicomError(f"has images at slice {number} that nothing tells apart: is one there twice?")
    volumes = [list(volume) for volume in zip(*ordered, strict=True)]
    for number, volume in enumerate(volumes):
        if any(_contrast(frame) != _contrast(volume[0]) for frame in volume):
            raise DicomError(
                f"cannot be put into volumes: number {number} would mix image types, echo times, b-values or times; "
                "export the whole series"
            )
    return volumes


def _key(frame: Frame) -> tuple[object, ...]:
    return (frame.kind, frame.echo, frame.b_value, frame.time, *frame.order)


def _contrast(frame: Frame) -> tuple[object, ...]:
    return frame.kind, frame.echo, frame.b_value, frame.time, tuple(round(n, 3) for n in frame.direction)


def _geometry(volume: Sequence[Frame]) -> Geometry:
    """Where the voxels lie: x along the rows, y down the columns, slices along the normal; RAS mm."""
    first, last = volume[0], volume[-1]
    slices, (ny, nx), (dy, dx) = len(volume), first.shape, first.spacing
    if slices > 1:
        step = (last.position - first.position) / (slices - 1)
    elif first.depth is not None:
        step = first.normal * first.depth
    else:
        raise DicomError("is one slice without a thickness; its voxel size is unknown")
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * dx
    affine[:3, 1] = first.orientation[1] * dy
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    dz = float(np.linalg.norm(step))
    return Geometry((dz, dy, dx), (dz * slices, dy * ny, dx * nx), LPS_TO_RAS @ affine, orientation_known=True)
