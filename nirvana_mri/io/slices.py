"""Datasets of an HDF5 file as slices that are fetched, and checked, one at a time."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, SupportsIndex

import h5py
import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import ScanError
from nirvana_mri.io.hdf5 import SafeFile
from nirvana_mri.scan import SliceSource

LARGEST_VALUE = 1e30
FILES_KNOWN = 4096  # whose slices can be mapped without another look at their headers


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

    def lent(self, index: SupportsIndex) -> NDArray[np.complex64]:
        """The same, mapped where the file stores the slice as it is: for use at once, as nobody may shorten the file
        meanwhile. What is written into it stays in memory.
        """
        number = in_range(index, len(self))
        samples = _map_slice(self.path, self.stored_shape, number)
        if samples is None:
            return self[number]
        samples = samples.reshape(self.shape[1:])
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


def lend(source: SliceSource, number: int) -> NDArray[Any]:
    """A slice for use at once, without a copy where the source can do that."""
    return source.lent(number) if isinstance(source, KspaceSlices) else source[number]


def check_slice(samples: NDArray[np.complex64], acquired: NDArray[np.bool_], where: str) -> None:
    """Nothing, where ``samples`` ``[coil, ny, nx]`` are finite and present wherever ``acquired`` claims them.

    The energy of all samples is not finite where one is not, and a row with something in each column settles the rest.
    Where it does not, the energy of each column is looked at; columns without any, whose squares may have vanished,
    are looked at again. Raises: ScanError, beginning with ``where``.
    """
    parts = np.ascontiguousarray(samples).view(np.float32)
    columns = acquired if acquired.ndim == 1 else acquired.any(axis=0)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        energy = np.dot(parts.reshape(-1), parts.reshape(-1))
    if 0 < energy < np.inf and samples[0, samples.shape[1] // 2, columns].all():
        return
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
        dataset = _unchanged(file, key, shape)
        with file.reading(f"slice {number} of {key}"):
            dataset.read_direct(into, np.s_[number], np.s_[...])


def _unchanged(file: SafeFile, key: str, shape: tuple[int, ...]) -> h5py.Dataset:
    dataset = file.dataset(key)
    if dataset.shape != shape:
        raise file.fail(f"{key} is now {dataset.shape}, was {shape} when opened; open the scan again")
    return dataset


def _map_slice(path: Path, shape: tuple[int, ...], number: int) -> NDArray[np.complex64] | None:
    """One slice of ``kspace`` where it lies in the file as plain complex64, in one piece; else None."""
    try:
        stat = path.stat()
    except OSError:
        return None  # reading it says what is wrong
    starts = _places(path, shape, stat.st_size, stat.st_mtime_ns)
    if starts is None:
        return None
    return np.asarray(np.memmap(path, np.complex64, "c", starts[number], shape[1:]))


@lru_cache(maxsize=FILES_KNOWN)
def _places(path: Path, shape: tuple[int, ...], size: int, modified: int) -> tuple[int, ...] | None:
    """The byte at which each slice of a file of that size and time begins; None where one must be read by HDF5."""
    with SafeFile(path) as file:
        dataset = _unchanged(file, "kspace", shape)
        if dataset.dtype != np.complex64 or file.file.userblock_size:
            return None
        length = math.prod(shape[1:]) * dataset.dtype.itemsize
        with file.reading("the place of kspace"):
            starts = [_place(dataset, number, length) for number in range(shape[0])]
    found = tuple(start for start in starts if start is not None and not start % 8 and start + length <= size)
    return found if len(found) == shape[0] else None


def _place(dataset: h5py.Dataset, number: int, size: int) -> int | None:
    """The byte at which a slice begins, where its bytes are stored in order and as they are."""
    first = dataset.id.get_offset()
    if first is not None:
        return int(first) + number * size
    if dataset.chunks != (1, *dataset.shape[1:]) or dataset.id.get_create_plist().get_nfilters():
        return None
    chunk = dataset.id.get_chunk_info_by_coord((number, *[0] * (dataset.ndim - 1)))
    return None if chunk.byte_offset is None or chunk.size != size else int(chunk.byte_offset)
