"""What a NIfTI header (nifti.nimh.nih.gov, versions 1 and 2) declares, checked before any voxel is read."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from nirvana_mri.errors import DataError

LARGEST = 1 << 29  # voxels of one volume
LARGEST_UNZIPPED = 1 << 30  # bytes of one volume that a compressed file may unpack to
USUAL_UNZIPPED = 1 << 28  # bytes up to which a file may be as small as
LARGEST_RATIO = 1032  # deflate can make it
USUAL_RATIO = 100  # more than a picture with its noise is ever compressed by
GZIP = b"\x1f\x8b"
MAGIC = {348: (344, (b"n+1\0",)), 540: (4, (b"n+2\0",))}  # size of the header: where its magic is
PAIRS = (b"ni1\0", b"ni2\0")
UNITS_MM = {1: 1000.0, 3: 0.001}  # metre, micrometre; anything else counts as millimetre


@dataclass(frozen=True, eq=False)
class NiftiFile:
    """One file: ``shape`` (x, y, z) of each of ``volumes``, how they are stored, and where they lie (RAS mm)."""

    path: Path = field(repr=False)
    zipped: bool
    shape: tuple[int, int, int]
    volumes: int
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine: NDArray[np.float64]
    orientation_known: bool

    @property
    def volume_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def nifti_start(path: Path) -> tuple[bytes, bool]:
    """(the first bytes, unpacked where the file is compressed; whether it is). Raises: OSError, zlib.error."""
    with path.open("rb") as file:
        start = file.read(4096)
    if not start.startswith(GZIP):
        return start[:540], False
    return zlib.decompressobj(wbits=31).decompress(start, 540), True


def is_header(start: bytes) -> bool:
    """True for the first bytes of a NIfTI file that holds its own voxels."""
    return any(start[place : place + 4] in kinds for place, kinds in MAGIC.values())


def read_nifti_header(path: Path) -> NiftiFile:
    """The checked header. Raises: DataError, one line; OSError and zlib.error where the file cannot be read."""
    start, zipped = nifti_start(path)
    if start[344:348] in PAIRS or start[4:8] in PAIRS:
        raise DataError(f"{path}: a NIfTI header whose voxels are in another file (.hdr, .img); convert it to .nii")
    if not is_header(start):
        raise DataError(f"{path}: cannot be read as NIfTI (no magic number); is it complete?")
    version1 = start[344:348] in MAGIC[348][1]
    size, make = (348, nibabel.Nifti1Header) if version1 else (540, nibabel.Nifti2Header)
    if len(start) < size:
        raise DataError(f"{path}: cannot be read as NIfTI (its header is cut short); is it complete?")
    try:
        header = make(start[:size], check=False)
        return _checked(path, header, zipped)
    except (HeaderDataError, ValueError, OverflowError, TypeError, KeyError, np.linalg.LinAlgError) as problem:
        raise DataError(f"{path}: cannot be read as NIfTI ({_reason(problem)}); repair its header") from problem


def _reason(problem: Exception) -> str:
    return " ".join(str(problem).split())[:160] or type(problem).__name__


def _checked(path: Path, header: Any, zipped: bool) -> NiftiFile:
    if int(header["sizeof_hdr"]) != header.template_dtype.itemsize:
        raise DataError(f"{path}: cannot be read as NIfTI (sizeof_hdr is {int(header['sizeof_hdr'])}); is it complete?")
    shape, volumes = _shape(path, [int(n) for n in header["dim"]])
    dtype = header.get_data_dtype()
    if dtype.kind not in "biufc" or dtype.itemsize > 16:
        raise DataError(f"{path}: voxels are {dtype}, expected numbers, one per voxel (a colour picture?)")
    offset = float(header["vox_offset"])
    if not offset.is_integer() or not header.template_dtype.itemsize <= offset < 1 << 40:
        raise DataError(f"{path}: its voxels start at byte {offset:g}, inside its header; repair the header")
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or math.isnan(slope):
        slope, intercept = 1.0, 0.0
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise DataError(f"{path}: scales its voxels by {slope:g} and {intercept:g}; repair scl_slope and scl_inter")
    known = bool(int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0)
    affine = _affine(path, header)
    found = NiftiFile(path, zipped, shape, volumes, dtype, int(offset), slope, intercept, affine, known)
    _check_size(found)
    return found


def _shape(path: Path, dim: list[int]) -> tuple[tuple[int, int, int], int]:
    axes = dim[1 : 1 + dim[0]] if 2 <= dim[0] <= 7 else []
    while len(axes) > 3 and axes[-1] == 1:
        axes.pop()
    shown = tuple(axes) if axes else tuple(dim)
    if not axes or min(axes) < 1:
        raise DataError(f"{path}: declares axes {shown}, expected 2 to 4 of 1 or more; is the header damaged?")
    if len(axes) > 4:
        raise DataError(f"{path}: an image with axes {shown}, expected (x, y, z) or a series (x, y, z, volume)")
    x, y, z, volumes = (*axes, 1, 1)[:4]
    if x * y * z > LARGEST:
        raise DataError(f"{path}: declares {shown} voxels, expected 1 to 2**29 of them; is the header damaged?")
    return (x, y, z), volumes


def _affine(path: Path, header: Any) -> NDArray[np.float64]:
    """sform where its code is set, else qform, else voxel sizes about the centre (the standard's methods 3, 2, 1)."""
    with np.errstate(all="ignore"):
        affine = np.asarray(header.get_best_affine(), np.float64)
        affine[:3] *= UNITS_MM.get(int(header["xyzt_units"]) & 7, 1.0)
        sizes = np.linalg.norm(affine[:3, :3], axis=0)
        sound = np.isfinite(affine).all() and bool((sizes > 0).all())
        sound = sound and abs(np.linalg.det(affine[:3, :3] / sizes)) > 1e-3
    if not sound:
        raise DataError(f"{path}: its affine has no finite, positive voxel sizes ({sizes}); repair the header")
    return affine


def _check_size(found: NiftiFile) -> None:
    """The declared voxels are in the file, or can be where it is compressed."""
    present = found.path.stat().st_size
    end = found.offset + found.volumes * found.volume_bytes
    if end > present * (LARGEST_RATIO if found.zipped else 1):
        raise DataError(
            f"{found.path}: declares {end} bytes but the file has {present}"
            f"{' (compressed)' if found.zipped else ''}; is it complete?"
        )
    if found.zipped and found.volume_bytes > min(LARGEST_UNZIPPED, max(USUAL_UNZIPPED, present * USUAL_RATIO)):
        raise DataError(
            f"{found.path}: {present} bytes unpack to volumes of {found.volume_bytes}; gunzip it if that is meant"
        )
