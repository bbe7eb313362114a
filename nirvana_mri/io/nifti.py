"""Pictures from NIfTI and NumPy files, to make k-space from: voxels and where they lie."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from nirvana_mri.errors import DataError
from nirvana_mri.scan import Geometry

SUFFIXES = (".nii", ".nii.gz", ".npy")
LARGEST = 1 << 29  # voxels
TO_LPS = nibabel.orientations.axcodes2ornt(("L", "P", "S"))


def read_image_volume(path: str | Path, volume: int | None = None) -> tuple[NDArray[Any], Geometry]:
    """The picture in a file, float32 or complex64 ``[slice, ny, nx]``, and its geometry.

    A NIfTI volume is turned, by swapping and flipping whole axes only, to the axial slices nearest to its affine: nx
    runs to the patient's left, ny to the back, slices to the head, as a radiologist looks at them. An npy array
    is taken as it is, ``[slice, ny, nx]`` or ``[ny, nx]``. ``volume`` picks one of a NIfTI series with four axes.

    Raises: DataError for a file that is no such picture, is damaged, or is larger than 2**29 voxels.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a picture ({', '.join(SUFFIXES)})")
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"{path}: no picture of a kind that is read here; expected {', '.join(SUFFIXES)}")
    try:
        if path.name.lower().endswith(".npy"):
            return _read_npy(path)
        return _read_nifti(path, volume)
    except (ImageFileError, OSError, EOFError, ValueError, OverflowError, zlib.error) as problem:
        reason = " ".join(str(problem).split())
        raise DataError(f"{path}: cannot be read as a picture ({reason}); is it complete?") from problem


def _read_npy(path: Path) -> tuple[NDArray[Any], Geometry]:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    _check(path, mapped.shape, mapped.dtype)
    if mapped.ndim not in (2, 3):
        raise DataError(f"{path}: an array of shape {mapped.shape}, expected (slices, ny, nx) or (ny, nx)")
    return as_picture(mapped.reshape(-1, *mapped.shape[-2:])), Geometry()


def _read_nifti(path: Path, volume: int | None) -> tuple[NDArray[Any], Geometry]:
    image: Any = nibabel.load(path)
    _check(path, image.shape, image.get_data_dtype())
    known = bool(image.header["qform_code"] or image.header["sform_code"])
    stored = _one_volume(path, image, volume)
    turn = nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), TO_LPS)
    voxels = nibabel.orientations.apply_orientation(stored, turn)
    affine = image.affine @ nibabel.orientations.inv_ornt_aff(turn, stored.shape)
    sizes = nibabel.affines.voxel_sizes(affine)
    if not (np.isfinite(affine).all() and (sizes > 0).all()):
        raise DataError(f"{path}: its affine has no finite, positive voxel sizes ({sizes}); repair the header")
    dx, dy, dz = (float(size) for size in sizes)
    nx, ny, slices = voxels.shape
    geometry = Geometry((dz, dy, dx), (dz * slices, dy * ny, dx * nx), affine, orientation_known=known)
    return as_picture(voxels.transpose(2, 1, 0)), geometry


def _one_volume(path: Path, image: Any, volume: int | None) -> NDArray[Any]:
    """The three-dimensional array ``[x, y, z]`` that is meant."""
    shape = image.shape
    if len(shape) > 4 or len(shape) < 2:
        raise DataError(f"{path}: an image with axes {shape}, expected (x, y, z) or a series (x, y, z, volume)")
    count = shape[3] if len(shape) == 4 else 1
    if volume is None and count > 1:
        raise DataError(f"{path}: a series of {count} volumes; choose one, from 0 to {count - 1} (volume)")
    number = volume or 0
    if not 0 <= number < count:
        raise DataError(f"{path}: volume {number} is not there; choose one from 0 to {count - 1}")
    stored = np.asarray(image.dataobj[..., number] if len(shape) == 4 else image.dataobj)
    return stored[..., None] if stored.ndim == 2 else stored


def as_picture(values: NDArray[Any]) -> NDArray[Any]:
    """float32 or complex64, in memory, in C order."""
    return np.ascontiguousarray(values, np.complex64 if values.dtype.kind == "c" else np.float32)


def _check(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "biufc":
        raise DataError(f"{path}: voxels are {dtype}, expected numbers, one per voxel (a colour picture?)")
    if 0 in shape or math.prod(shape) > LARGEST:
        raise DataError(f"{path}: declares {shape} voxels, expected 1 to 2**29 of them; is the header damaged?")
