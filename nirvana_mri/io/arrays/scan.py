"""An array with named axes → Scan: which samples it holds is told by its zeros."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Complex
from numpy import ndarray as Array
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError, UsageError
from nirvana_mri.io.arrays.source import ArraySlices, Axes, Stored, read_plane
from nirvana_mri.io.hdf5 import LARGEST_READ
from nirvana_mri.io.sampling import SamplingError, settle
from nirvana_mri.scan import Scan

FLAT = 0.35  # lines through the centre of k-space carry alike energy: standard deviation over mean
PEAKED = 0.8  # share of a line's energy within an eighth of its length about one place
FROM_IMAGES = (
    "the k-space was computed from complex coil images: filters and interpolation that came before are unseen in it"
)


def array_scan(
    path: Path, stored: Stored, names: tuple[str, ...], *, volume: int | None, images: bool, file_format: str
) -> Scan:
    """The Scan of an array whose axes are called ``names`` (see `Axes`).

    The middle slice is read, to see what was sampled. Raises: UsageError for a volume that is not there, ScanError for
    an array that is no Cartesian k-space.
    """
    axes = Axes(stored, names)
    if not 0 <= (volume or 0) < axes.volumes:
        raise UsageError(f"volume {volume} is not there: {path} has {axes.volumes} (0 to {axes.volumes - 1})")
    axes = Axes(stored, names, volume or 0)
    slices, coils, ny, nx = axes.shape
    if math.prod((coils, ny, nx)) * 8 > LARGEST_READ:
        raise ScanError(f"{path}: a slice of {coils}x{ny}x{nx} is larger than {LARGEST_READ >> 30} GiB; split the file")
    middle = read_plane(axes, slices // 2)
    with np.errstate(invalid="ignore"):  # NaN counts as measured, and is refused when its slice is read
        notes = _look(path, axes, middle, images)
        carries = np.asarray((middle != 0).any(axis=0))
        if axes.is_volume_encoded and not images:
            carries = _carried_alike(path, axes)
    if images:
        acquired = np.ones(nx, bool)
    else:
        try:
            acquired, more = settle(carries, None, np.ones(nx, bool))
        except SamplingError as problem:
            raise ScanError(f"{path}: {problem} (seen in slice {slices // 2})") from problem
        notes += more
    return Scan(
        name=path.stem,
        kspace=ArraySlices(path, axes, acquired, images),
        acquired=acquired,
        crop=(ny, nx),
        multicoil=coils > 1,
        warnings=tuple(notes),
        path=path,
        file_format=file_format,
        volume=axes.volume,
        volumes=axes.volumes,
    )


def _look(path: Path, axes: Axes, middle: NDArray[np.complex64], images: bool) -> list[str]:
    """Notes on what the middle slice seems to be. Raises: ScanError where it can be no Cartesian k-space."""
    if middle.any() and not middle.imag.any():
        raise ScanError(f"{path}: the imaginary part is zero throughout: magnitudes are no k-space; give the raw data")
    notes = ["the array says nothing of voxel size and position: the geometry is unknown"]
    if images:
        return [*notes, FROM_IMAGES]
    if (line := radial_axis(middle)) is not None:
        raise ScanError(
            f"{path}: every line along {line} passes the centre of k-space: radial or spiral readouts, not a Cartesian "
            "grid; grid the samples first"
        )
    if axes.is_volume_encoded:
        notes.append(f"the encoded axis of {axes.shape[0]} was transformed: its positions are the slices")
    return notes


def measured_volume(axes: Axes) -> Bool[Array, "partition ny nx"]:
    """True where a coil of a volume-encoded array is not exactly zero; one coil is held at a time."""
    partitions, coils, ny, nx = axes.shape
    found = np.zeros((partitions, ny, nx), bool)
    for coil in range(coils):
        found |= axes.block(coil=coil) != 0
        if found.all():
            break
    return found


def sampled_alike(found: Bool[Array, "partition ny nx"]) -> bool:
    """True where every partition holds the same samples, but for one in a hundred that is zero by chance."""
    measured = found.any(axis=0)
    return bool((found.sum(axis=0) * 1.0)[measured].sum() >= 0.99 * measured.sum() * len(found))


def _carried_alike(path: Path, axes: Axes) -> NDArray[np.bool_]:
    found = measured_volume(axes)
    if not sampled_alike(found):
        raise ScanError(
            f"{path}: the {len(found)} partitions hold different samples, so none can be transformed alone; name the "
            "fully sampled readout partition, and the two phase-encoded axes ny and nx"
        )
    return np.asarray(found.any(axis=0))


def radial_axis(samples: Complex[Array, "coil ny nx"]) -> str | None:
    """ "ny" or "nx" where each line along that axis looks like a spoke (or an arm of a spiral), else None.

    Spokes cross the centre of k-space, each at the same sample, and so carry alike energy that is concentrated there.
    Cartesian lines differ by orders of magnitude; noise is nowhere concentrated.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        energy = (np.abs(samples.astype(np.complex128)) ** 2).sum(axis=0)
        for along, name in ((0, "ny"), (1, "nx")):
            lines = energy if along == 0 else energy.T
            size = lines.shape[0]
            total = lines.sum(axis=0)
            if lines.shape[1] < 8 or size < 16 or not np.isfinite(total).all() or not (total > 0).all():
                continue
            peak = int(lines.sum(axis=1).argmax())
            near = lines[max(peak - size // 16, 0) : peak + size // 16 + 1].sum(axis=0) / total
            if near.min() > PEAKED and total.std() < FLAT * total.mean():
                return name
    return None
