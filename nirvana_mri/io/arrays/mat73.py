"""Numeric arrays of MATLAB files of version 7.3, which are HDF5 with the axes reversed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from nirvana_mri.io.arrays.source import Index
from nirvana_mri.io.hdf5 import LARGEST_READ, SafeFile

PARTS = ("real", "imag")
DATASET = h5py.h5o.TYPE_DATASET


@dataclass(frozen=True)
class Mat73Array:
    """A dataset of the root, read a part at a time; ``shape`` is MATLAB's."""

    path: Path
    name: str = field(repr=False)  # people call arrays after patients
    shape: tuple[int, ...]
    is_complex: bool

    def read(self, index: Index) -> NDArray[Any]:
        """A part, complex64 or real, with MATLAB's axes."""
        with SafeFile(self.path) as file:
            dataset = file.dataset(self.name)
            if dataset.shape != self.shape[::-1]:
                raise file.fail(f"{file.said(self.name)} is now {dataset.shape[::-1]}, was {self.shape}; open it again")
            kept = math.prod(n for n, at in zip(self.shape, index, strict=True) if isinstance(at, slice))
            if kept * dataset.dtype.itemsize > LARGEST_READ:
                raise file.fail(
                    f"{file.said(self.name)}: a part of {kept} samples, beyond {LARGEST_READ >> 30} GiB; split it"
                )
            with file.reading(file.said(self.name)):
                part = np.asarray(dataset[index[::-1]])
        return _joined(part).transpose()


def list_mat73(path: Path) -> list[Mat73Array]:
    """The numeric arrays at the root of a file. Raises: ScanError for a damaged or hostile one."""
    found = []
    with SafeFile(path) as file:
        for name in file.names():
            if name.startswith("#"):  # MATLAB's own bookkeeping
                continue
            with file.reading("the list of contents"):
                linked = file.file.get(name, getlink=True)
                if (
                    not isinstance(linked, h5py.HardLink)
                    or h5py.h5o.get_info(file.file.id, name.encode()).type != DATASET
                ):
                    continue
            dataset = file.dataset(name)
            with file.reading(file.said(name)):
                dtype, shape = dataset.dtype, dataset.shape
            is_complex = dtype.kind == "c" or dtype.names == PARTS
            if shape and 0 not in shape and (is_complex or dtype.kind in "iuf"):
                found.append(Mat73Array(path, name, tuple(shape[::-1]), is_complex))
    return found


def _joined(part: NDArray[Any]) -> NDArray[Any]:
    if part.dtype.names != PARTS:
        return part
    values = np.empty(part.shape, np.complex64)
    with np.errstate(over="ignore", invalid="ignore"):  # beyond complex64: Inf, which check_slice refuses
        values.real, values.imag = part["real"], part["imag"]
    return values
