"""Where the slices of a Siemens measurement lie, from the positions and quaternions of its lines."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.twix import header as name
from nirvana_mri.io.twix.header import Protocol
from nirvana_mri.io.twix.lines import Matrix
from nirvana_mri.scan import Geometry

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
UNSURE = (
    "the file places its slices in the patient, but the directions within them are a convention that was not verified: "
    "the orientation counts as unknown"
)


def slice_order(lines: NDArray[Any], image: NDArray[np.bool_], notes: list[str]) -> dict[int, int]:
    """The place of each slice number along the slices' normal; scanners count slices as they excite them."""
    numbers, first = np.unique(lines["Counter"]["Sli"][image], return_index=True)
    data = lines["SliceData"][image][first]
    positions = _positions(data)
    normals = np.stack([_rotation(quaternion)[:, 2] for quaternion in data["Quaternion"]])
    along = positions @ normals[0]
    if len(numbers) > 1:
        if not np.isfinite(along).all() or np.unique(np.round(along, 3)).size < len(numbers):
            notes.append("the slices do not say where they lie: they stay in the order of their numbers")
            along = numbers.astype(float)
        elif (normals @ normals[0]).min() < 0.9999:
            notes.append("the slices are tilted against each other: they stay in the order of their numbers")
            along = numbers.astype(float)
    return {int(numbers[at]): place for place, at in enumerate(np.argsort(along, kind="stable"))}


def read_geometry(
    lines: NDArray[Any], order: dict[int, int], matrix: Matrix, slices: int, protocol: Protocol, notes: list[str]
) -> tuple[tuple[int, int], Geometry]:
    """The picture's matrix (ny, nx), without oversampling, and its place; RAS mm.

    The columns of the quaternion's rotation are phase, read and slice; in the picture, phase and read run against them,
    as twixtools says (prs2sct_mdb). The sign of the readout was seen in the receiver's phase over the ramps of real
    echo-planar lines; the phase's was not, and siemens_to_ismrmrd turns neither: ``orientation_known`` stays False.
    """
    over = protocol.get(name.OVERSAMPLING, 0.5, 8) or 2.0
    base = protocol.count(name.BASE, 1 << 14)
    rows = base if base and base <= matrix.ny else max(round(matrix.ny / over), 1)
    extra = protocol.get(name.PHASE_OVER, -1e-9, 10) or 0.0
    crop = (rows, max(round(matrix.nx / (1 + extra)), 1))
    lengths = [protocol.get(key, 0, 2000) for key in (name.READ_FOV, name.PHASE_FOV, name.THICKNESS)]
    if None in lengths:
        notes.append("the header names no field of view: voxel size and geometry are unknown")
        return crop, Geometry()
    read_field, phase_field, thickness = (float(length or 0) for length in lengths)
    dy, dx = read_field * (matrix.ny / rows / over) / crop[0], phase_field * (1 + extra) / matrix.nx
    images = protocol.count(name.IMAGES, 1 << 14) or slices
    dz = thickness / images if matrix.partitions > 1 else thickness
    numbers, at = np.unique(lines["Counter"]["Sli"], return_index=True)
    data = lines["SliceData"][at[np.argsort([order[int(number)] for number in numbers])]]
    positions, turn = _positions(data), _rotation(data["Quaternion"][0])
    if matrix.partitions == 1 and len(positions) > 1:
        steps = np.diff(positions @ turn[:, 2])
        if steps.min() > 0 and np.ptp(steps) < 0.01 * steps.mean() + 1e-3:
            dz = float(steps.mean())
        else:
            notes.append("the slices are unevenly spaced: the slice spacing is their thickness")
    geometry = Geometry((dz, dy, dx), (dz * slices, dy * crop[0], dx * crop[1]), None)
    if not (np.isfinite(positions).all() and np.isfinite(turn).all()):
        notes.append("the slices do not say where they lie: the geometry is unknown")
        return crop, geometry
    notes.append(UNSURE)
    phase, read, normal = turn.T * [[-1], [-1], [1]]
    centre = positions[0] - (normal * dz * (slices // 2) if matrix.partitions > 1 else 0)
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ np.stack([phase * dx, read * dy, normal * dz], axis=1)
    corner = centre - (crop[1] // 2) * dx * phase - (crop[0] // 2) * dy * read
    affine[:3, 3] = LPS_TO_RAS @ corner
    return crop, Geometry(geometry.voxel_mm, geometry.field_of_view_mm, affine, orientation_known=False)


def _positions(data: NDArray[Any]) -> NDArray[np.float64]:
    return np.stack([data["SlicePos"][axis] for axis in ("Sag", "Cor", "Tra")], axis=-1).astype(np.float64)


def _rotation(quaternion: NDArray[Any]) -> NDArray[np.float64]:
    """Columns phase, read, slice, in LPS, of a quaternion stored (w, x, y, z); NaN where it is none."""
    w, x, y, z = (float(part) for part in quaternion)
    length = w * w + x * x + y * y + z * z
    if not 0.9 < length < 1.1:
        return np.full((3, 3), np.nan)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
