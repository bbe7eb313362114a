"""Scans in fastMRI's HDF5 layout: what simulation and tests write, and open_scan reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nirvana_mri.atomic import atomic_path
from nirvana_mri.errors import DataError
from nirvana_mri.io.header import make_header
from nirvana_mri.scan import SliceSource


def write_fastmri(
    path: str | Path,
    kspace: NDArray[Any] | SliceSource,
    *,
    reference: NDArray[Any] | SliceSource | None = None,
    mask: NDArray[Any] | None = None,
    voxel_mm: tuple[float, float, float] | None = None,
    crop: tuple[int, int] | None = None,
    padding: tuple[int, int] | None = None,
    simulated: Mapping[str, Any] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Path:
    """Write a scan, slice by slice, whole or not at all; the path written.

    ``kspace`` is complex ``[slice, coil, ny, nx]`` or, single-coil, ``[slice, ny, nx]``; ``reference`` the target
    pictures ``[slice, rows, columns]``; ``mask`` bool ``[nx]`` or ``[ny, nx]``. ``voxel_mm`` (slice, ny, nx) makes
    a header; ``crop`` is then the finished picture's matrix (ny, nx), default all of it, and columns
    [padding[0], padding[1]) count as measured. ``simulated`` is the provenance of k-space that no scanner
    measured (JSON-ready); ``attrs`` are further attributes.

    Raises: DataError for arrays that do not fit together; UsageError for a path that cannot be written.
    """
    shape = tuple(kspace.shape)
    _check(shape, reference, mask, voxel_mm, crop, padding)
    ny, nx = shape[-2:]
    try:
        with atomic_path(path) as temporary, h5py.File(temporary, "x") as file:
            _write_kspace(file, kspace, path)
            if reference is not None:
                _write_reference(file, "reconstruction_rss" if len(shape) == 4 else "reconstruction_esc", reference)
            if mask is not None:
                file["mask"] = np.asarray(mask).astype(bool)
            if voxel_mm is not None:
                file["ismrmrd_header"] = make_header((ny, nx), voxel_mm, crop or (ny, nx), padding or (0, nx))
            if simulated is not None:
                file.attrs["simulated"] = json.dumps(dict(simulated), allow_nan=False)
            for name, value in (attrs or {}).items():
                file.attrs[name] = value
    except (OSError, RuntimeError) as problem:
        raise DataError(f"{path}: cannot be written ({problem}); check space and permissions") from problem
    return Path(path)


def _write_kspace(file: h5py.File, kspace: NDArray[Any] | SliceSource, path: str | Path) -> None:
    stored = file.create_dataset("kspace", tuple(kspace.shape), np.complex64)
    for number in range(stored.shape[0]):
        samples = np.asarray(kspace[number])
        if samples.dtype.kind != "c":
            raise DataError(f"{path}: kspace is {samples.dtype}, expected complex; join real and imaginary parts")
        stored[number] = samples


def _write_reference(file: h5py.File, key: str, reference: NDArray[Any] | SliceSource) -> None:
    """Store the targets with the two attributes that fastMRI derives from them."""
    stored = file.create_dataset(key, tuple(reference.shape), np.float32)
    largest, energy = 0.0, 0.0
    for number in range(stored.shape[0]):
        picture = np.asarray(reference[number], np.float32)
        stored[number] = picture
        largest = max(largest, float(picture.max()))
        energy += float(np.sum(picture.astype(np.float64) ** 2))
    file.attrs["max"] = largest
    file.attrs["norm"] = energy**0.5


def _check(
    shape: tuple[int, ...],
    reference: NDArray[Any] | SliceSource | None,
    mask: NDArray[Any] | None,
    voxel_mm: tuple[float, float, float] | None,
    crop: tuple[int, int] | None,
    padding: tuple[int, int] | None,
) -> None:
    """DataError where the parts of a scan contradict each other."""
    if len(shape) not in (3, 4) or 0 in shape:
        raise DataError(f"kspace is {shape}, expected (slices, coils, ny, nx) or (slices, ny, nx)")
    ny, nx = shape[-2:]
    if reference is not None and (len(reference.shape) != 3 or reference.shape[0] != shape[0]):
        raise DataError(f"reference is {tuple(reference.shape)}, expected ({shape[0]}, rows, columns)")
    if mask is not None and np.shape(mask) not in ((nx,), (ny, nx)):
        raise DataError(f"mask is {np.shape(mask)}, expected ({nx},) or ({ny}, {nx})")
    if voxel_mm is None and (crop or padding):
        raise DataError("crop and padding are kept in the header, which needs voxel_mm; give the voxel size [mm]")
    if voxel_mm is not None and not (len(voxel_mm) == 3 and all(0 < size < np.inf for size in voxel_mm)):
        raise DataError(f"voxel_mm is {voxel_mm}, expected three positive lengths (slice, ny, nx) in mm")
    if crop and not (0 < crop[0] <= ny and crop[1] >= 1):
        raise DataError(f"crop is {crop}, expected a matrix inside ({ny}, {nx})")
    if padding and not 0 <= padding[0] < padding[1] <= nx:
        raise DataError(f"padding is {padding}, expected 0 <= left < right <= {nx}")
