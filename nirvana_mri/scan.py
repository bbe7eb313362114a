"""Scan: one raw acquisition, read lazily. Picture: images without raw data. Plain data; readers in io/ make them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@runtime_checkable
class SliceSource(Protocol):
    """What a reader hands over: slices fetched one at a time, never the whole volume for one of them."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Geometry:
    """Where the picture lies: lengths in mm, in the order (slice, ny, nx) of every array here.

    ``None`` means that the file does not say. fastMRI files never hold orientation or position, so
    ``orientation_known`` is False for them and the affine is a centred diagonal.
    """

    voxel_mm: tuple[float, float, float] | None = None
    field_of_view_mm: tuple[float, float, float] | None = None
    affine: NDArray[np.float64] | None = None  # 4x4, voxel (x, y, slice) -> RAS mm
    orientation_known: bool = False


@dataclass(frozen=True, eq=False)
class Scan:
    """A Cartesian acquisition.

    ``kspace[i]`` is slice i, complex64 ``[coil, ny, nx]``, read from the file at that moment and checked
    (finite wherever it is claimed as acquired). ``acquired`` is True where a sample was measured: bool
    ``[nx]`` when whole columns were, bool ``[ny, nx]`` otherwise; zero-padded columns are False.
    ``crop`` is the matrix (ny, nx) of the finished picture, cropped about the centre.
    ``reference[i]``, where the file holds one, is the float32 target picture of slice i. ``noise`` are samples of a
    noise measurement, complex64 ``[coil, sample]``, on the scale of the k-space. ``raw`` is False where the k-space was
    made from pictures. A file of several volumes (repetitions, echoes) is opened one at a time: ``volume`` of
    ``volumes``.
    """

    name: str
    kspace: SliceSource
    acquired: NDArray[np.bool_]
    crop: tuple[int, int]
    geometry: Geometry = field(default_factory=Geometry)
    reference: SliceSource | None = None
    multicoil: bool = True
    simulated: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)  # allow-listed, never a person's name or id
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    file_format: str = "array"
    noise: NDArray[np.complex64] | None = None
    raw: bool = True
    volume: int = 0
    volumes: int = 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, ny, nx)."""
        slices, coils, ny, nx = self.kspace.shape
        return slices, coils, ny, nx

    @property
    def fully_sampled(self) -> bool:
        """True where every column (sample) was measured, zero-padded borders aside."""
        columns = self.acquired if self.acquired.ndim == 1 else self.acquired.any(axis=0)
        inside = np.flatnonzero(columns)
        if inside.size == 0:
            return False
        between = self.acquired[..., inside[0] : inside[-1] + 1]
        if self.acquired.ndim == 2:
            rows = np.flatnonzero(self.acquired.any(axis=1))
            between = between[rows[0] : rows[-1] + 1]
        return bool(between.all())

    def __iter__(self) -> Iterator[NDArray[np.complex64]]:
        for index in range(len(self.kspace)):
            yield self.kspace[index]

    def __repr__(self) -> str:
        slices, coils, ny, nx = self.shape
        return f"Scan({slices} slices, {coils} coils, {ny}x{nx}, {self.file_format})"


@dataclass(frozen=True, eq=False)
class Picture:
    """Images without raw data (DICOM, NIfTI): k-space can only be made from them, and is stamped so.

    ``pixels[i]`` is slice i, float32 ``[ny, nx]`` (complex64 where the file holds the phase), read from the file at
    that moment and checked (finite). Slices are in the order of ``geometry``, evenly spaced. A series of several
    volumes (time, b-value, echo) is opened one at a time: ``volume`` of ``volumes``.
    """

    name: str
    pixels: SliceSource
    geometry: Geometry
    metadata: Mapping[str, Any] = field(default_factory=dict)  # allow-listed, never a person's name or id
    warnings: tuple[str, ...] = ()
    path: Path | None = None
    file_format: str = "images"
    volume: int = 0
    volumes: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, ny, nx)."""
        slices, ny, nx = self.pixels.shape
        return slices, ny, nx

    def __repr__(self) -> str:
        slices, ny, nx = self.shape
        return f"Picture({slices} slices, {ny}x{nx}, {self.file_format})"
