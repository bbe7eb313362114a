"""Datasets of an HDF5 file as slices that are fetched, and checked, one at a time."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError
from nirvana_mri.io.hdf5 import SafeFile

LARGEST_VALUE = 1e30


@dataclass(frozen=True, eq=False)
class KspaceSlices:
    """Slices of the dataset ``kspace``, complex64 ``[coil, ny, nx]``. Holds no open file: forks and pickles well.

    ``stored_shape`` is (slices, coils, ny, nx) or, single-coil, (slices, ny, nx). Raises on reading: ScanError
    for a slice that `check_slice` refuses, or a file that changed since it was opened.
    """

    path: Path
    stored_shape: tuple[int, ...]
    acquired: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(slices, coils, ny, nx)."""
        slices, *coils, ny, nx = self.stored_shape
        return slices, coils[0] if coils else 1, ny, nx

    def __len__(self) -> int:
        return self.stored_shape[0]

    def __getitem__(self, index: SupportsIndex) -> NDArray[np.complex64]:
        number = in_range(index, len(self))
        samples = np.empty(self.shape[1:], np.complex64)
        stored = samples if len(self.stored_shape) == 4 else samples[0]
        _read_slice(self.path, "kspace", self.stored_shape, number, stored)
        check_slice(samples, self.acquired, f"{self.path}: slice {number}")
        return samples


@dataclass(frozen=True, eq=False)
class ReferenceSlices:
    """Slices of the target pictures, float32 ``[ny, nx]``. Raises on reading: ScanError where one is not finite."""

    path: Path
    key: str
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: SupportsIndex) -> NDArray[np.float32]:
        number = in_range(index, len(self))
        picture = np.empty(self.shape[1:], np.float32)
        _read_slice(self.path, self.key, self.shape, number, picture)
        if not np.isfinite(picture).all():
            raise ScanError(f"{self.path}: {self.key} has NaN or Inf in slice {number}; compute the target again")
        return picture


def check_slice(samples: NDArray[np.complex64], acquired: NDArray[np.bool_], where: str) -> None:
    """Nothing, where ``samples`` ``[coil, ny, nx]`` are finite and present wherever ``acquired`` claims them.

    One pass over the energy of each column, which is not finite where a sample is not; columns without any, whose
    squares may have vanished, are looked at again. Raises: ScanError, beginning with ``where``.
    """
    parts = np.ascontiguousarray(samples).view(np.float32)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        sums = np.einsum("cij,cij->j", parts, parts).reshape(-1, 2).sum(axis=1)
    if not np.isfinite(sums).all():
        bad = ~np.isfinite(samples).all(axis=0) & acquired
        if bad.any():
            row, column = (int(n) for n in np.argwhere(bad)[0])
            raise ScanError(
                f"{where} has NaN or Inf in {int(bad.sum())} acquired samples (first at row {row}, column {column}); "
                "export the scan again, or mark them unmeasured in mask"
            )
    if not sums.any() and not samples.any():
        raise ScanError(f"{where} is all zero; export the scan again, or leave the slice out")
    columns = acquired if acquired.ndim == 1 else acquired.any(axis=0)
    quiet = np.flatnonzero(columns & (sums == 0))
    empty = quiet[~samples[..., quiet].any(axis=(0, 1))]
    if empty.size:
        raise ScanError(
            f"{where} is zero in {empty.size} columns that count as acquired (first {empty[0]}); "
            "store a mask that holds for every slice"
        )


def is_usable(picture: NDArray[Any]) -> bool:
    """True where every value is finite, and none so large that its Fourier transform is not."""
    return bool((np.abs(picture) <= LARGEST_VALUE).all())


def in_range(index: SupportsIndex, count: int) -> int:
    number = operator.index(index)
    if not -count <= number < count:
        raise IndexError(f"slice {number} is not there: the scan has {count} (0 to {count - 1})")
    return number % count


def _read_slice(path: Path, key: str, shape: tuple[int, ...], number: int, into: NDArray[Any]) -> None:
    """Fill ``into`` with one slice, converted by HDF5; the file is open only as long as this takes."""
    with SafeFile(path) as file:
        dataset = file.dataset(key)
        if dataset.shape != shape:
            raise file.fail(f"{key} is now {dataset.shape}, was {shape} when opened; open the scan again")
        with file.reading(f"slice {number} of {key}"):
            dataset.read_direct(into, np.s_[number], np.s_[...])
