"""NIfTI that `write_nifti` wrote, or another's, → Volume, voxel for voxel; never turned or resampled."""

from __future__ import annotations

import base64
import binascii
import json
import math
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from nirvana_mri.errors import DataError
from nirvana_mri.io.hdf5 import most_unpacked
from nirvana_mri.io.writers.derivation import unknown_provenance
from nirvana_mri.io.writers.nifti import sidecar_path
from nirvana_mri.volume import NOT_FOR_CLINICAL_USE, Volume

LARGEST = 1 << 31  # bytes
BESIDE = ("affine", "image_sha256", "stamp", "mask", "slices", "warnings", "orientation", "orientation_known")
PROBLEMS = (ImageFileError, HeaderDataError, OSError, EOFError, ValueError, OverflowError, zlib.error)


def load_nifti(path: str | Path, volume: int | None = None) -> Volume:
    """The reconstruction in a NIfTI file, ``[slice, ny, nx]`` as stored; ``volume`` picks one of several.

    What its sidecar says of it comes along; without one the method is "unknown". Raises: DataError for a file that
    is damaged, no such picture, larger than 2 GiB, or has NaN or Inf.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a reconstruction (.nii, .nii.gz)")
    try:
        image: Any = nibabel.load(path)
        shape, kind = image.shape, image.get_data_dtype()
        _check(path, shape, kind)
        count = shape[3] if len(shape) == 4 else 1
        number = _chosen(path, volume, count)
        stored = np.asarray(image.dataobj[..., number] if len(shape) == 4 else image.dataobj)
    except PROBLEMS as problem:
        reason = " ".join(str(problem).split())
        raise DataError(f"{path}: cannot be read ({reason}); is it complete?") from problem
    voxels = np.ascontiguousarray(stored.T, np.complex64 if kind.kind == "c" else np.float32)
    if not np.isfinite(voxels).all():
        raise DataError(f"{path}: has NaN or Inf; reconstruct again")
    said = _sidecar(path, number, count)
    coded = bool(image.header["qform_code"] or image.header["sform_code"])
    affine = _affine(said.get("affine")) if not coded else None
    return Volume(
        voxels=voxels,
        affine=np.asarray(image.affine, np.float64) if affine is None else affine,
        mask=_mask(said.get("mask"), path),
        provenance={**unknown_provenance(), **{key: said[key] for key in said if key not in BESIDE}}
        | {"notice": NOT_FOR_CLINICAL_USE},
        name=path.name.lower().removesuffix(".gz").removesuffix(".nii"),
        slices=_slices(said.get("slices"), len(voxels)),
        orientation_known=coded and said.get("orientation_known", True) is True,
        warnings=tuple(str(note) for note in said.get("warnings", ()) if isinstance(note, str)),
    )


def _check(path: Path, shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
    if len(shape) not in (3, 4) or 0 in shape or kind.kind not in "iufc":
        raise DataError(f"{path}: holds {kind} {shape}, expected numbers (x, y, slice) or (x, y, slice, volume)")
    declared, stored = math.prod(shape) * kind.itemsize, path.stat().st_size
    if declared > LARGEST or declared > most_unpacked(stored):
        raise DataError(f"{path}: declares {declared} bytes {shape} in a file of {stored}; is the header damaged?")


def _chosen(path: Path, volume: int | None, count: int) -> int:
    if volume is None and count > 1:
        raise DataError(f"{path}: holds {count} volumes; choose one, from 0 to {count - 1} (volume)")
    if not 0 <= (volume or 0) < count:
        raise DataError(f"{path}: volume {volume} is not there; choose one from 0 to {count - 1}")
    return volume or 0


def _sidecar(path: Path, number: int, count: int) -> dict[str, Any]:
    """What the sidecar says of this volume; nothing where there is none of ours. Raises: DataError for a broken one."""
    beside = sidecar_path(path)
    if not beside.is_file():
        return {}
    try:
        said = json.loads(beside.read_bytes()[: 1 << 26])
        if not isinstance(said, dict) or said.get("notice") != NOT_FOR_CLINICAL_USE:
            return {}
        each = said.pop("volumes", None)
        return said if each is None else {**said, **dict(each[number])}
    except (OSError, ValueError, TypeError, LookupError, RecursionError) as problem:
        raise DataError(f"{beside}: is damaged, or not of these {count} volumes; write {path} again") from problem


def _affine(value: Any) -> NDArray[np.float64] | None:
    try:
        affine = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return affine if affine.shape == (4, 4) and np.isfinite(affine).all() else None


def _slices(value: Any, count: int) -> tuple[int, ...]:
    numbered = isinstance(value, list) and len(value) == count and all(isinstance(n, int) for n in value)
    return tuple(value) if numbered else tuple(range(count))


def _mask(value: Any, path: Path) -> NDArray[np.bool_]:
    """The stored mask; size 0 where there is none."""
    if value is None:
        return np.zeros(0, bool)
    try:
        shape = tuple(int(n) for n in value["shape"])
        bits = np.unpackbits(np.frombuffer(base64.b64decode(value["packed_bits"], validate=True), np.uint8))
        return bits[: math.prod(shape)].reshape(shape).astype(bool)
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error):
        raise DataError(f"{sidecar_path(path)}: its mask is damaged; write {path} again") from None
