"""Where the picture of an ISMRMRD file lies: its matrix, voxels, and patient coordinates.

A head's ``position`` is the centre of the excited slice (of the slab in 3-D) and its directions are unit vectors, all
in DICOM's patient axes (LPS, mm). Ours are RAS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.hdf5 import SafeFile
from nirvana_mri.io.header import Header, centred_geometry
from nirvana_mri.scan import Geometry

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
SAME_PLACE_MM = 0.01
UNEVEN = 0.01  # of the spacing
CROOKED = 1e-3  # deviation of the directions from orthonormal
DIRECTIONS = ("read_dir", "phase_dir", "slice_dir")


@dataclass(frozen=True)
class Axis:
    """One axis, in samples and mm: ``n`` encoded pixels of which the picture keeps ``kept`` about the centre."""

    n: int
    kept: int
    pixel_mm: float | None

    @property
    def start(self) -> int:
        """The first encoded pixel that the picture keeps."""
        return (self.n - self.kept) // 2

    @property
    def centre(self) -> int:
        """The picture's pixel at the centre of the encoded field."""
        return self.n // 2 - self.start


def picture_axes(header: Header, encoded: tuple[int, int, int]) -> tuple[tuple[Axis, Axis, Axis], list[str]]:
    """Axes (readout, phase, slice) of the picture, and notes.

    The picture is the part of the encoded field that reconSpace's field covers, pixels as large as the encoding
    made them: oversampling is cut off, nothing is interpolated.
    """
    axes, notes = [], []
    for i, n in enumerate(encoded):
        matrix = header.recon_matrix[i] if header.recon_matrix else n
        field = header.encoded_fov_mm[i] if header.encoded_fov_mm else None
        wanted = header.recon_fov_mm[i] if header.recon_fov_mm else None
        if field is None:
            axes.append(Axis(n, min(matrix, n), wanted / matrix if wanted and matrix <= n else None))
            continue
        kept = n if wanted is None else min(max(round(n * wanted / field), 1), n)
        kept = matrix if abs(matrix - kept) == 1 and matrix <= n else kept
        if matrix != kept and n > 1:
            notes.append(f"reconSpace wants {matrix} pixels where {kept} were encoded: nothing is interpolated")
        axes.append(Axis(n, kept, field / n))
    return (axes[0], axes[1], axes[2]), notes


def order_slices(
    file: SafeFile, lines: NDArray[Any], axes: tuple[Axis, Axis, Axis], slab: bool
) -> tuple[list[int], Geometry, list[str]]:
    """(values of idx.slice in anatomical order, geometry, notes) of one volume.

    Order and spacing come from the positions along the slice direction. Without directions the order is that of
    idx.slice, and the orientation unknown. Raises: ScanError for positions that make no even stack.
    """
    numbers, first = np.unique(lines["slice"], return_index=True)
    heads = lines[first]
    _check_alike(file, lines, numbers, heads)
    read, phase, through = axes
    count = through.kept if slab else len(numbers)
    pixels = through.pixel_mm, read.pixel_mm, phase.pixel_mm
    frame = _frame(file, heads)
    if frame is None or None in pixels:
        note = "orientation unknown: the file has no directions" if frame is None else "voxel size unknown"
        notes = [note] + (["slices are in the order of their numbers"] if len(numbers) > 1 else [])
        voxel = (pixels[0] or 0.0, pixels[1] or 0.0, pixels[2] or 0.0)
        geometry = centred_geometry(voxel, (count, read.kept, phase.kept)) if min(voxel) > 0 else Geometry()
        return [int(n) for n in numbers], geometry, notes
    if slab or len(numbers) == 1:
        order, step = np.zeros(1, np.intp), frame[:, 2] * float(pixels[0] or 0.0)
    else:
        order, step = _stack(file, numbers, heads, frame[:, 2])
    spacing = np.array([phase.pixel_mm, read.pixel_mm, 1.0], dtype=np.float64)
    matrix = np.column_stack([frame[:, 1], frame[:, 0], step]) * spacing
    centre = np.array([phase.centre, read.centre, through.centre if slab else 0])
    affine = np.eye(4)
    affine[:3, :3] = matrix
    affine[:3, 3] = heads["position"][order[0]].astype(np.float64) - matrix @ centre
    dz = float(np.linalg.norm(step))
    voxel = dz, float(spacing[1]), float(spacing[0])
    field = dz * count, voxel[1] * read.kept, voxel[2] * phase.kept
    geometry = Geometry(voxel, field, LPS_TO_RAS @ affine, orientation_known=True)
    return [int(numbers[n]) for n in order], geometry, []


def _check_alike(file: SafeFile, lines: NDArray[Any], numbers: NDArray[Any], heads: NDArray[Any]) -> None:
    """Nothing, where all lines of a slice say the same place."""
    mine = heads[np.searchsorted(numbers, lines["slice"])]
    for name, tolerance in [("position", SAME_PLACE_MM)] + [(name, CROOKED) for name in DIRECTIONS]:
        if not (np.isfinite(lines[name]).all() and np.abs(lines[name]).max() < 1e6):
            raise file.fail(f"{name} is not a place in some lines (NaN or beyond 1 km); set unknown ones to zero")
        apart = np.abs(lines[name].astype(np.float64) - mine[name]).max(axis=1) > tolerance
        if apart.any():
            number = int(lines["slice"][np.argmax(apart)])
            raise file.fail(f"the lines of slice {number} differ in their {name}; split the file by {name}")


def _frame(file: SafeFile, heads: NDArray[Any]) -> NDArray[np.float64] | None:
    """3x3, columns (read, phase, slice) in LPS; None where the file has no directions."""
    frames = np.stack([heads[name].astype(np.float64) for name in DIRECTIONS], axis=-1)
    if not frames.any():
        return None
    if np.abs(frames - frames[0]).max() > CROOKED:
        raise file.fail("slices lie in several directions (a localizer?); split the file by direction")
    frame: NDArray[np.float64] = frames[0]
    if np.abs(frame.T @ frame - np.eye(3)).max() > 2 * CROOKED:
        raise file.fail("read_dir, phase_dir and slice_dir are not at right angles; set them to zero if unknown")
    return frame


def _stack(
    file: SafeFile, numbers: NDArray[Any], heads: NDArray[Any], normal: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """(order of the slices along ``normal``, step from one to the next in LPS mm)."""
    positions = heads["position"].astype(np.float64)
    order = np.argsort(positions @ normal, kind="stable")
    steps = np.diff(positions[order], axis=0)
    along = steps @ normal
    if along.min() < SAME_PLACE_MM:
        pair = [int(numbers[order[int(np.argmin(along)) + i]]) for i in (0, 1)]
        raise file.fail(f"slices {pair[0]} and {pair[1]} lie at the same place; leave one of them out")
    step: NDArray[np.float64] = steps.mean(axis=0)
    tolerance = max(UNEVEN * float(along.mean()), SAME_PLACE_MM)
    if np.abs(along - along.mean()).max() > tolerance:
        raise file.fail(
            f"slices are {along.min():.4g} to {along.max():.4g} mm apart, expected even spacing; "
            "a slice may be missing, or the file holds several stacks: split it"
        )
    if np.linalg.norm(steps - np.outer(along, normal), axis=1).max() > tolerance:
        raise file.fail("slices are shifted against each other in their plane, expected one stack; split the file")
    return order, step
