"""A slice lent is the slice read, whatever way the file stores it, and as carefully checked."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from nirvana_mri.errors import ScanError
from nirvana_mri.io.fastmri import read_fastmri
from nirvana_mri.io.slices import lend

SHAPE = (3, 2, 24, 20)


def write(
    path: Path, dtype: Any = np.complex64, shape: tuple[int, ...] = SHAPE, userblock: int = 0, **how: Any
) -> Path:
    draw = np.random.default_rng(0)
    kspace = draw.standard_normal(shape) + 1j * draw.standard_normal(shape)
    with h5py.File(path, "w", userblock_size=userblock) as file:
        file.create_dataset("kspace", data=kspace.astype(dtype), **how)
    return path


def is_mapped(samples: np.ndarray) -> bool:
    while samples is not None and not isinstance(samples, np.memmap):
        samples = samples.base
    return samples is not None


@pytest.mark.parametrize(
    ("how", "mapped"),
    [
        ({}, True),
        ({"chunks": (1, 2, 24, 20)}, True),
        ({"shape": (3, 24, 20)}, True),
        ({"chunks": (1, 1, 24, 20)}, False),
        ({"chunks": (1, 2, 24, 20), "compression": "gzip"}, False),
        ({"chunks": (1, 2, 24, 20), "fletcher32": True}, False),
        ({"dtype": np.complex128}, False),
        ({"dtype": ">c8"}, False),
        ({"userblock": 512}, False),
    ],
)
def test_a_slice_lent_is_the_slice_read(tmp_path: Path, how: dict[str, Any], mapped: bool) -> None:
    path = write(tmp_path / "scan.h5", **how)
    kspace = read_fastmri(path).kspace
    for number in range(3):
        samples = lend(kspace, number)
        assert samples.dtype == np.complex64
        np.testing.assert_array_equal(samples, kspace[number])
        assert is_mapped(samples) is mapped
    before = path.read_bytes()
    samples[...] = 0  # its own
    assert path.read_bytes() == before


@pytest.mark.parametrize("chunks", [None, (1, 2, 24, 20)])
def test_what_is_wrong_with_a_slice_is_said_as_when_reading(tmp_path: Path, chunks: tuple[int, ...] | None) -> None:
    path = write(tmp_path / "scan.h5", chunks=chunks)
    kspace = read_fastmri(path).kspace
    lend(kspace, 0)  # where its slices lie is known from here on
    with h5py.File(path, "a") as file:
        file["kspace"][0, 1, 3, 4] = np.nan
        file["kspace"][1] = 0
        file["kspace"][2, :, :, 7] = 0
    for number, says in enumerate(("NaN or Inf in 1 acquired", "all zero", "zero in 1 columns")):
        for take in (lend, lambda source, index: source[index]):
            with pytest.raises(ScanError, match=f"slice {number} .*{says}"):
                take(kspace, number)
    whole = path.read_bytes()
    for left, says in ((whole[: len(whole) // 2], "truncated|damaged"), (b"", "damaged")):
        path.write_bytes(left)
        with pytest.raises(ScanError, match=says):
            lend(kspace, 2)
    path.unlink()
    with pytest.raises(ScanError, match=r"scan\.h5"):
        lend(kspace, 2)
    write(path, shape=(2, 2, 24, 20))
    with pytest.raises(ScanError, match=r"was .* when opened"):
        lend(kspace, 1)
    with pytest.raises(IndexError):
        lend(kspace, 3)
