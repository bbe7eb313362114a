"""Arrays with named axes as slices of k-space: where the numbers lie, and which axis is which."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, SupportsIndex, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError
from nirvana_mri.io.arrays.fourier import centred_fft2, inverse_row
from nirvana_mri.io.slices import check_slice

Index = tuple[int | slice, ...]


@runtime_checkable
class Stored(Protocol):
    """Numbers on disk or in memory, read a part at a time."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read(self, index: Index) -> NDArray[Any]: ...


@dataclass(frozen=True, eq=False)
class InMemory:
    """An array that had to be unpacked as a whole."""

    values: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def read(self, index: Index) -> NDArray[Any]:
        return np.asarray(self.values[index])


@dataclass(frozen=True)
class Mapped:
    """Plain numbers at ``offset`` of a file, mapped while they are read. Raises: ScanError where the file is short."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    order: Literal["C", "F"] = "C"

    def check(self) -> None:
        """Nothing, where the file holds all that ``shape`` declares."""
        declared = math.prod(self.shape) * self.dtype.itemsize
        try:
            held = self.path.stat().st_size - self.offset
        except OSError as problem:
            raise ScanError(f"{self.path}: cannot be read ({problem.strerror}); check the path") from problem
        if held < declared:
            raise ScanError(
                f"{self.path}: holds {max(held, 0)} bytes of data, its header {self.shape} declares {declared}; "
                "copy both again from their source"
            )

    def read(self, index: Index) -> NDArray[Any]:
        self.check()
        try:
            mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)
        except (OSError, ValueError) as problem:
            raise ScanError(f"{self.path}: cannot be read ({problem}); copy it again from its source") from problem
        return np.asarray(mapped[index])


@dataclass(frozen=True, eq=False)
class Axes:
    """An array whose axes have names, and the volume of it that is meant.

    ``names`` has one of slice, partition, coil, ny, nx, volume for each axis, or "" where the length is 1; only
    volume may come more than once. ``partition`` is an encoded axis that is transformed to slices.
    """

    stored: Stored
    names: tuple[str, ...]
    volume: int = 0

    @property
    def volumes(self) -> int:
        return math.prod(self._lengths("volume"))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, ny, nx); partitions count as slices."""
        slices, coils = (math.prod(self._lengths(*names)) for names in (("slice", "partition"), ("coil",)))
        return slices, coils, math.prod(self._lengths("ny")), math.prod(self._lengths("nx"))

    @property
    def is_volume_encoded(self) -> bool:
        return "partition" in self.names

    def block(self, **fixed: int) -> NDArray[np.complex64]:
        """complex64 ``[coil? partition? ny nx]`` where the named axes (slice, coil, partition) are fixed."""
        index, kept = self._index(fixed)
        values = self.stored.read(index)
        order = [name for name in ("slice", "coil", "partition", "ny", "nx") if name in kept]
        with np.errstate(over="ignore", invalid="ignore"):  # beyond complex64: Inf, which check_slice refuses
            return values.transpose([kept.index(name) for name in order]).astype(np.complex64)

    def _index(self, fixed: dict[str, int]) -> tuple[Index, list[str]]:
        lengths = self._lengths("volume")
        at = list(np.unravel_index(self.volume, lengths, order="F")) if lengths else []
        index: list[int | slice] = []
        kept = []
        for name in self.names:
            if name == "volume":
                index.append(int(at.pop(0)))
            elif name == "" or name in fixed:
                index.append(fixed.get(name, 0))
            else:
                index.append(slice(None))
                kept.append(name)
        return tuple(index), kept

    def _lengths(self, *names: str) -> tuple[int, ...]:
        return tuple(n for n, name in zip(self.stored.shape, self.names, strict=True) if name in names)


@dataclass(frozen=True, eq=False)
class ArraySlices:
    """Slices of an array, complex64 ``[coil, ny, nx]``; images are transformed to k-space.

    Holds no open file: forks and pickles well. Raises on reading: ScanError for a slice that `check_slice` refuses,
    or a file that changed since it was opened.
    """

    path: Path
    axes: Axes
    acquired: NDArray[np.bool_]
    images: bool = False

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, ny, nx)."""
        return self.axes.shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: SupportsIndex) -> NDArray[np.complex64]:
        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"slice {number} is not there: the scan has {len(self)} (0 to {len(self) - 1})")
        samples = read_plane(self.axes, number % len(self))
        if self.images:
            samples = centred_fft2(samples)
        check_slice(samples, self.acquired, f"{self.path}: slice {number % len(self)}")
        return samples


def read_plane(axes: Axes, number: int) -> NDArray[np.complex64]:
    """One slice as it is stored, complex64 ``[coil, ny, nx]``; of encoded partitions, their sum at that position."""
    _, coils, ny, nx = axes.shape
    if not axes.is_volume_encoded:
        return np.ascontiguousarray(axes.block(slice=number)).reshape(coils, ny, nx)
    row = inverse_row(number, axes.shape[0])
    plane = np.empty((coils, ny, nx), np.complex64)
    with np.errstate(over="ignore", invalid="ignore"):
        for coil in range(coils):  # one coil of the volume is held at a time
            plane[coil] = np.tensordot(row, axes.block(coil=coil), axes=(0, 0))
    return plane
