"""The user's own sampling mask, from an npy file or a dataset of an HDF5 file."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.arrays.npy import read_npy
from nirvana_mri.io.hdf5 import SafeFile
from nirvana_mri.io.names import is_plain, type_words

LARGEST_MASK = 1 << 26  # samples
_NPY = b"\x93NUMPY"
_HDF5 = b"\x89HDF\r\n\x1a\n"


def load_mask(source: str | Path, dataset: str = "mask") -> NDArray[np.bool_]:
    """A mask bool [nx] or [ny nx], True = measured.

    `source` is an npy file, an HDF5 file (its `dataset`), or ``"file.h5:dataset"``. The values must be bool, 0
    or 1. Axes of length 1 in front, and fastMRI's last axis of (real, imaginary), are dropped: (1, 1, nx, 1)
    gives [nx]. Whether the size fits the scan is seen where the two meet.

    Raises UsageError where there is no such file, DataError where it holds no mask.
    """
    path = Path(source)
    if not path.exists() and ":" in path.name:
        name, dataset = str(source).rsplit(":", 1)
        path = Path(name)
    if not path.is_file():
        raise UsageError(f"{path}: no such mask file, and no kind of mask is called so; give an npy or HDF5 file")
    mask = _as_bool(path, _read(path, dataset))
    if not mask.any():
        raise DataError(f"{path}: the mask {mask.shape} measures nothing (all zero); is it inverted?")
    return mask


def _read(path: Path, dataset: str) -> NDArray[Any]:
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_NPY):
        return _read_npy(path)
    if start != _HDF5:
        raise DataError(f"{path}: neither npy nor HDF5; save the mask with numpy.save")
    with SafeFile(path, DataError) as file:
        if not file.has(dataset):
            shown = ", ".join(name for name in file.names() if is_plain(name))
            raise DataError(
                f"{path}: no dataset {dataset!r}, it holds {shown or 'none with a plain name'}; "
                f"name the mask's as {path.name}:DATASET"
            )
        return file.array(dataset, LARGEST_MASK)


def _read_npy(path: Path) -> NDArray[Any]:
    stored = read_npy(path)
    if math.prod(stored.shape) > LARGEST_MASK:
        raise DataError(f"{path}: {stored.shape} is too large for a mask, expected [nx] or [ny nx]")
    return stored.read((slice(None),) * len(stored.shape))


def _as_bool(path: Path, values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        raise DataError(
            f"{path}: a mask holds True and False, or 1 and 0; this {type_words(values.dtype)} {values.shape} does not"
        )
    mask = np.array(values, dtype=bool)
    if mask.ndim >= 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    while mask.ndim > 1 and mask.shape[0] == 1:
        mask = mask[0]
    if mask.ndim not in (1, 2):
        raise DataError(f"{path}: mask {values.shape} is neither [nx] nor [ny nx]; save one for all slices and coils")
    return mask
