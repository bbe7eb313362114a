"""Patient space for pictures that have none, on the user's word; and the way from RAS to DICOM's LPS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.writers.derivation import sizes_known
from nirvana_mri.volume import Volume

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
SKEW = 1e-4  # direction cosines may differ from right angles by this much; a DICOM series cannot say more
# (x, y, slice) of the picture in RAS, as a radiologist looks at it: nx to the right of the screen, ny downwards.
ORIENTATIONS = {
    "axial": np.array([[-1, 0, 0], [0, -1, 0], [0, 0, 1]], float),
    "sagittal": np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float),
    "coronal": np.array([[-1, 0, 0], [0, 0, -1], [0, -1, 0]], float),
}


def with_orientation(volume: Volume, orientation: str | None, path: str | Path) -> Volume:
    """The volume where the user says that it lies, centred at 0 mm; as it is where ``orientation`` is None.

    ``axial``: nx runs to the patient's left, ny to the back, slices to the head; ``sagittal``: to the back, to the
    feet, to the right; ``coronal``: to the left, to the feet, to the back. Voxel sizes stay. The provenance says
    ``assumed_orientation`` from then on. Raises: UsageError where the scan knows better, or for another word.
    """
    if orientation is None:
        return volume
    check_assumption(orientation, volume.orientation_known, path)
    affine = np.eye(4)
    affine[:3, :3] = ORIENTATIONS[orientation] * np.linalg.norm(volume.affine[:3, :3], axis=0)
    slices, ny, nx = volume.voxels.shape
    affine[:3, 3] = -affine[:3, :3] @ ((np.array([nx, ny, slices]) - 1) / 2)
    note = f"orientation assumed {orientation}, not from the scan: left and right may be exchanged"
    notes = [note] if sizes_known(volume) else [note, "voxel size unknown: 1 mm stands in"]
    provenance = {**volume.provenance, "assumed_orientation": orientation}
    return replace(
        volume,
        affine=affine,
        provenance=provenance,
        orientation_known=True,
        warnings=(*volume.warnings, *notes),
    )


def check_assumption(orientation: str, known: bool | None, path: str | Path) -> None:
    """Nothing, for an orientation that may be assumed; else UsageError. ``known``: the scan says its own."""
    if orientation not in ORIENTATIONS:
        raise UsageError(f"assume_orientation is {orientation!r}; expected one of {', '.join(ORIENTATIONS)}")
    if known:
        raise UsageError(f"{path}: the scan has its own orientation; leave out assume_orientation {orientation}")


@dataclass(frozen=True, eq=False)
class Planes:
    """A stack of slices as DICOM places it (LPS, mm): unit vectors, lengths, and the centre of each first pixel.

    ``row`` points along a row (nx grows), ``column`` along a column (ny grows); ``spacing`` is (between rows,
    between columns, between slices), that is, in the order (ny, nx, slice).
    """

    row: NDArray[np.float64]
    column: NDArray[np.float64]
    spacing: tuple[float, float, float]
    positions: NDArray[np.float64]  # [slice, 3]

    @property
    def normal(self) -> NDArray[np.float64]:
        """row x column, whichever way the slices are counted."""
        return np.cross(self.row, self.column)


def planes(volume: Volume, path: str | Path) -> Planes:
    """Where each slice lies. Raises: DataError for an affine that no series of parallel, upright slices has."""
    affine = np.asarray(volume.affine, np.float64)
    sound = affine.shape == (4, 4) and np.isfinite(affine).all()
    sizes = np.linalg.norm(affine[:3, :3], axis=0) if sound else np.zeros(3)
    if not sound or not (sizes > 0).all():
        raise DataError(f"{path}: the affine has no finite, positive voxel sizes ({sizes}); nothing written")
    axes = RAS_TO_LPS @ affine[:3, :3]
    row, column, through = (axes / sizes).T
    if max(abs(row @ column), np.linalg.norm(np.cross(np.cross(row, column), through))) > SKEW:
        raise DataError(f"{path}: the affine is skewed, which DICOM cannot hold; write .nii.gz")
    column = column - (row @ column) * row
    first = RAS_TO_LPS @ affine[:3, 3]
    positions = first + np.arange(len(volume.voxels))[:, None] * axes[:, 2]
    dx, dy, dz = (float(size) for size in sizes)
    return Planes(row, column / np.linalg.norm(column), (dy, dx, dz), positions)
