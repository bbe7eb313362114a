"""Pictures from NIfTI and NumPy files, to make k-space from: voxels and where they lie."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsIndex

import nibabel
import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.arrays.npy import read_npy
from nirvana_mri.io.nifti_header import LARGEST, NiftiFile, is_header, nifti_start, read_nifti_header
from nirvana_mri.io.slices import is_usable
from nirvana_mri.scan import Geometry, Picture

SUFFIXES = (".nii", ".nii.gz", ".npy")
TO_LPS = axcodes2ornt(("L", "P", "S"))
PIECE = 1 << 20  # bytes unpacked at a time
UNREADABLE = (OSError, EOFError, ValueError, OverflowError, zlib.error)


@dataclass(eq=False, repr=False)
class NiftiSlices:
    """The slices of one volume, float32 (complex64) ``[ny, nx]``, turned to ``turn``'s axes. Holds no open file.

    Of a file that is not compressed, the voxels of a slice are read when it is asked for; a compressed one is
    unpacked once, one volume of it, and kept (not when pickled). Raises on reading: DataError.
    """

    file: NiftiFile
    volume: int
    turn: NDArray[Any]
    shape: tuple[int, int, int]
    kept: NDArray[Any] | None = field(default=None)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: SupportsIndex) -> NDArray[Any]:
        number = range(len(self))[index]
        picture = self._scaled(self._stored()[..., number])
        if not is_usable(picture):
            raise DataError(f"{self.file.path}: slice {number} has NaN, Inf or values beyond 1e30; repair those voxels")
        return picture

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": None}

    def __repr__(self) -> str:
        return f"NiftiSlices({'x'.join(map(str, self.shape))})"

    def whole(self) -> NDArray[Any]:
        """All slices, ``[slice, ny, nx]``, whatever their values."""
        return self._scaled(self._stored())

    def _scaled(self, stored: NDArray[Any]) -> NDArray[Any]:
        """(..., y, x) of stored (x, y, ...), on the scale of the header."""
        if (self.file.slope, self.file.intercept) != (1.0, 0.0):
            with np.errstate(over="ignore", invalid="ignore"):
                stored = stored * self.file.slope + self.file.intercept
        with np.errstate(over="ignore", invalid="ignore"):
            return as_picture(stored.T)

    def _stored(self) -> NDArray[Any]:
        """The volume as stored, its axes turned: a view of the file or of what was unpacked."""
        found = self.kept
        if found is None:
            with _reading(self.file.path):
                found = _unpacked(self.file, self.volume) if self.file.zipped else _mapped(self.file, self.volume)
            if self.file.zipped:
                self.kept = found
        turned: NDArray[Any] = apply_orientation(found, self.turn)
        return turned


def is_nifti(path: str | Path) -> bool:
    """True for a NIfTI file that holds its own voxels, compressed or not."""
    try:
        path = Path(path)
        return path.is_file() and is_header(nifti_start(path)[0])
    except (OSError, ValueError, zlib.error):
        return False


def read_nifti(path: str | Path, *, volume: int | None = None) -> Picture:
    """The picture in a NIfTI file, turned to axial slices by swapping and flipping whole axes only.

    nx runs to the patient's left, ny to the back, slices to the head. Place and voxel sizes follow the sform where its
    code is set, else the qform, else the voxel sizes alone (orientation unknown); units are turned to mm. The fourth
    axis holds volumes, opened one at a time.

    Raises: DataError, one line, for a file that is no such picture, is damaged, or is larger than 2**29 voxels a
    volume; UsageError for a volume that is not there.
    """
    path = Path(path)
    file = _header(path)
    if volume is not None and not 0 <= volume < file.volumes:
        raise UsageError(f"{path}: volume {volume} is not there; choose one from 0 to {file.volumes - 1}")
    pixels, geometry = _turned(file, volume or 0)
    return Picture(
        name=path.name.removesuffix(".gz").removesuffix(".nii"),
        pixels=pixels,
        geometry=geometry,
        warnings=() if file.orientation_known else ("the header sets neither form code: orientation unknown",),
        path=path,
        file_format="NIfTI",
        volume=volume or 0,
        volumes=file.volumes,
    )


def read_image_volume(path: str | Path, volume: int | None = None) -> tuple[NDArray[Any], Geometry]:
    """The picture in a file, float32 or complex64 ``[slice, ny, nx]``, and its geometry.

    A NIfTI volume is turned as `read_nifti` does, as a radiologist looks at it. An npy array is taken as it is,
    ``[slice, ny, nx]`` or ``[ny, nx]``. ``volume`` picks one of a NIfTI series with four axes.

    Raises: DataError for a file that is no such picture, is damaged, or is larger than 2**29 voxels.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a picture ({', '.join(SUFFIXES)})")
    if not path.name.lower().endswith(SUFFIXES):
        raise DataError(f"{path}: no picture of a kind that is read here; expected {', '.join(SUFFIXES)}")
    if path.name.lower().endswith(".npy"):
        with _reading(path):
            return _read_npy(path), Geometry()
    file = _header(path)
    if volume is None and file.volumes > 1:
        last = file.volumes - 1
        raise DataError(f"{path}: a series of {file.volumes} volumes; choose one, from 0 to {last} (volume)")
    if not 0 <= (volume or 0) < file.volumes:
        raise DataError(f"{path}: volume {volume} is not there; choose one from 0 to {file.volumes - 1}")
    pixels, geometry = _turned(file, volume or 0)
    return pixels.whole(), geometry


def as_picture(values: NDArray[Any]) -> NDArray[Any]:
    """float32 or complex64, in memory, in C order."""
    return np.ascontiguousarray(values, np.complex64 if values.dtype.kind == "c" else np.float32)


def _header(path: Path) -> NiftiFile:
    if not path.is_file():
        raise DataError(f"{path}: no such file; expected a NIfTI picture")
    with _reading(path):
        return read_nifti_header(path)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises into one line."""
    try:
        yield
    except UNREADABLE as problem:
        reason = " ".join(str(problem).split())
        raise DataError(f"{path}: cannot be read as a picture ({reason}); is it complete?") from problem


def _turned(file: NiftiFile, volume: int) -> tuple[NiftiSlices, Geometry]:
    """The slices nearest to axial, and where they lie."""
    turn = ornt_transform(io_orientation(file.affine), TO_LPS)
    affine = file.affine @ inv_ornt_aff(turn, file.shape)
    dx, dy, dz = (float(size) for size in nibabel.affines.voxel_sizes(affine))
    sizes = np.empty(3, int)
    sizes[turn[:, 0].astype(int)] = file.shape
    nx, ny, slices = (int(n) for n in sizes)
    geometry = Geometry((dz, dy, dx), (dz * slices, dy * ny, dx * nx), affine, orientation_known=file.orientation_known)
    return NiftiSlices(file, volume, turn, (slices, ny, nx)), geometry


def _mapped(file: NiftiFile, volume: int) -> NDArray[Any]:
    """A volume ``[x y z]`` in the file, mapped: only what is looked at is read."""
    start = file.offset + volume * file.volume_bytes
    if file.path.stat().st_size < start + file.volume_bytes:
        raise DataError(f"{file.path}: has become shorter since it was opened; open it again")
    return np.memmap(file.path, file.dtype, "r", start, file.shape, order="F")


def _unpacked(file: NiftiFile, volume: int) -> NDArray[Any]:
    """A volume ``[x y z]`` of a compressed file; what stands before it is unpacked and dropped, a piece at a time."""
    skip = file.offset + volume * file.volume_bytes
    with gzip.open(file.path) as packed:
        while skip:
            passed = len(packed.read(min(skip, PIECE)))
            if not passed:
                raise EOFError("it ends before its voxels")
            skip -= passed
        content = bytearray()
        while len(content) < file.volume_bytes:
            piece = packed.read(min(file.volume_bytes - len(content), PIECE))
            if not piece:
                raise EOFError("it ends inside its voxels")
            content += piece
    return np.frombuffer(content, file.dtype).reshape(file.shape, order="F")


def _read_npy(path: Path) -> NDArray[Any]:
    stored = read_npy(path)
    shape = stored.shape
    if math.prod(shape) > LARGEST:
        raise DataError(f"{path}: declares {shape} voxels, expected 1 to 2**29 of them; is the header damaged?")
    if len(shape) not in (2, 3):
        raise DataError(f"{path}: an array of shape {shape}, expected (slices, ny, nx) or (ny, nx)")
    return as_picture(stored.read((slice(None),) * len(shape)).reshape(-1, *shape[-2:]))
