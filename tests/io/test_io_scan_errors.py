"""Every way in which a scan cannot be used ends in one ScanError of one line: what is there, what to do."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import nirvana_mri as nm
from nirvana_mri.errors import DataError, ScanError
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.io.header import make_header

SHAPE = (3, 2, 32, 24)


def good_kspace() -> NDArray[np.complex64]:
    rng = np.random.default_rng(0)
    return (rng.normal(size=SHAPE) + 1j * rng.normal(size=SHAPE)).astype(np.complex64)


def refused(path: Path) -> str:
    """The message with which opening or reading ``path`` ends: one line that names the file."""

    def read_all() -> None:
        scan = nm.open_scan(path)
        list(scan)
        list(scan.reference or ())

    with pytest.raises(DataError) as caught:
        read_all()
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert caught.value.exit_code == 1
    return message


NOT_HDF5: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"slice,ssim\n1,0.9\n", "appears to be text"),
    "dicom": (bytes(128) + b"DICM" + bytes(100), "no transfer syntax"),
    "nifti": (bytes(344) + b"n+1\0" + bytes(100), "cannot be read as NIfTI"),
    "nifti.gz": (gzip.compress(bytes(344) + b"n+1\0" + bytes(100)), "cannot be read as NIfTI"),
    "broken gzip": (b"\x1f\x8b\x08 and no more", "gzip"),
    "bart": (b"# Dimensions\n230 180 1 8\n", "BART"),
    "numpy": (b"\x93NUMPY\x01\x00" + bytes(100), "npy array"),
    "zip": (b"PK\x03\x04" + bytes(100), "zip"),
    "noise": (bytes(range(256)), "binary data of no known kind"),
}


@pytest.mark.parametrize("kind", NOT_HDF5)
def test_what_is_not_hdf5_is_named(tmp_path: Path, kind: str) -> None:
    content, match = NOT_HDF5[kind]
    (tmp_path / "scan.h5").write_bytes(content)
    assert match in refused(tmp_path / "scan.h5")


def test_a_path_that_leads_to_no_file(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nothing.h5")
    assert "folder" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.h5")
    assert "not a regular file" in refused(tmp_path / "pipe.h5")
    assert "no such file" in refused(tmp_path / ("n" * 300)) or "cannot be opened" in refused(tmp_path / ("n" * 300))


def test_a_nul_in_the_path_is_refused() -> None:
    with pytest.raises(ScanError):
        nm.open_scan("scan\0.h5")


def stored(**datasets: object) -> Callable[[h5py.File], None]:
    def write(file: h5py.File) -> None:
        for name, value in datasets.items():
            file[name] = value

    return write


def with_nan(where: tuple[int, ...], value: complex = complex(np.nan, 0)) -> NDArray[np.complex64]:
    kspace = good_kspace()
    kspace[where] = value
    return kspace


def zeroed(*where: object) -> NDArray[np.complex64]:
    kspace = good_kspace()
    for index in where:
        kspace[index] = 0
    return kspace


KSPACE = good_kspace()
HEADER = make_header((32, 24), (5.0, 1.0, 1.0), (16, 16), (0, 24))
EVEN = np.arange(24) % 2 == 0
BAD: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "nothing inside": (stored(), "no dataset kspace"),
    "other keys": (stored(image=np.ones(3)), "its root holds image"),
    "a prediction": (stored(reconstruction=np.ones((3, 8, 8))), "holds a reconstruction"),
    "ISMRMRD": (stored(**{"dataset/xml": "x"}), "looks like ISMRMRD"),
    "a group": (stored(**{"kspace/data": KSPACE}), "kspace is a group"),
    "a type": (stored(kspace=np.dtype("f4")), "kspace is a datatype"),
    "real": (stored(kspace=KSPACE.real), "expected complex64"),
    "whole numbers": (stored(kspace=np.ones(SHAPE, np.int16)), "expected complex64"),
    "text": (stored(kspace="abc"), "expected complex64"),
    "pairs": (stored(kspace=np.stack([KSPACE.real, KSPACE.imag], -1)), "last axis of 2"),
    "other pairs": (
        stored(kspace=np.zeros(SHAPE, np.dtype([("real", "f4"), ("imag", "f4")]))),
        "expected complex64",
    ),
    "rank 2": (stored(kspace=KSPACE[0, 0]), "expected (slices, coils, ny, nx)"),
    "rank 5": (stored(kspace=KSPACE[None]), "expected (slices, coils, ny, nx)"),
    "no coils": (stored(kspace=KSPACE[:, :0]), "no samples"),
    "a null dataset": (stored(kspace=h5py.Empty("c8")), "kspace is empty"),
    "NaN": (stored(kspace=with_nan((0, 1, 3, 4))), "NaN or Inf in 1 acquired samples (first at row 3, column 4)"),
    "NaN in the imaginary part": (stored(kspace=with_nan((2, 1, 3, 4), complex(0, np.nan))), "slice 2 has NaN"),
    "Inf": (stored(kspace=with_nan((1, 0, 0, 0), complex(-np.inf, 0))), "slice 1 has NaN or Inf"),
    "NaN in a measured column": (stored(kspace=with_nan((0, 0, 0, 2)), mask=EVEN), "NaN or Inf"),
    "beyond complex64": (stored(kspace=KSPACE.astype(complex) * 1e300), "NaN or Inf"),
    "zeros": (stored(kspace=KSPACE * 0), "all zero"),
    "a zero slice": (stored(kspace=zeroed(0)), "slice 0 is all zero"),
    "a slice with fewer columns": (stored(kspace=zeroed((0, ..., slice(4, 6)))), "zero in 2 columns"),
    "an empty mask": (stored(kspace=KSPACE, mask=np.zeros(24, bool)), "mask is all False"),
    "an empty mask with padding": (
        stored(kspace=KSPACE, mask=np.arange(24) < 3, ismrmrd_header=make_header((32, 24), (1, 1, 1), (9, 9), (3, 24))),
        "all False inside the padding",
    ),
    "a mask of another width": (stored(kspace=KSPACE, mask=np.ones(23, bool)), "mask is (23,), expected (24,)"),
    "a mask for each slice": (stored(kspace=KSPACE, mask=np.ones((3, 24), bool)), "alike for every slice"),
    "a mask for each sample and slice": (stored(kspace=KSPACE, mask=np.ones((3, 32, 24), bool)), "mask is"),
    "a transposed mask": (stored(kspace=KSPACE, mask=np.ones((24, 32), bool)), "mask is (24, 32)"),
    "a mask of weights": (stored(kspace=KSPACE, mask=np.full(24, 0.5)), "other than 0 and 1"),
    "a mask with NaN": (stored(kspace=KSPACE, mask=np.full(24, np.nan)), "other than 0 and 1"),
    "a mask of text": (stored(kspace=KSPACE, mask="all"), "expected numbers"),
    "an inverted mask": (stored(kspace=zeroed((..., ~EVEN)), mask=~EVEN), "is it inverted?"),
    "a mask with a hole in the data": (stored(kspace=zeroed((..., 7)), mask=np.ones(24, bool)), "claims column 7"),
    "a 2-D mask over zeros": (
        stored(kspace=zeroed((..., slice(8, 16), slice(8, 16))), mask=np.triu(np.ones((32, 24), bool))),
        "samples that are zero in every coil",
    ),
    "broken XML": (stored(kspace=KSPACE, ismrmrd_header=HEADER[:200]), "XML is broken"),
    "no XML": (stored(kspace=KSPACE, ismrmrd_header=""), "XML is broken"),
    "a header of numbers": (stored(kspace=KSPACE, ismrmrd_header=np.ones(3)), "expected one string"),
    "a header that is not UTF-8": (stored(kspace=KSPACE, ismrmrd_header=np.bytes_(b"\xff\xfe<")), "cannot be read"),
    "a matrix in words": (
        stored(kspace=KSPACE, ismrmrd_header=HEADER.replace("<x>32</x>", "<x>many</x>")),
        "matrixSize/x is not a number",
    ),
    "a fraction of a matrix": (
        stored(kspace=KSPACE, ismrmrd_header=HEADER.replace("<x>32</x>", "<x>3.5</x>", 1)),
        "expected a whole number",
    ),
    "radial": (stored(kspace=KSPACE, ismrmrd_header=HEADER.replace("cartesian", "radial")), "not cartesian"),
    "padding everywhere": (
        stored(kspace=KSPACE, ismrmrd_header=HEADER.replace("<center>12<", "<center>60<")),
        "every column padding",
    ),
    "data in the padding only": (
        stored(kspace=zeroed((..., slice(8, 16))), ismrmrd_header=make_header((32, 24), (1, 1, 1), (9, 9), (8, 16))),
        "only samples that are zero",
    ),
    "a target with NaN": (stored(kspace=KSPACE, reconstruction_rss=np.full((3, 8, 8), np.nan)), "NaN or Inf"),
    "a complex target": (stored(kspace=KSPACE, reconstruction_rss=KSPACE[:, 0]), "expected real numbers"),
    "a target of fewer slices": (stored(kspace=KSPACE, reconstruction_rss=np.ones((2, 8, 8))), "(3, rows, columns)"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_line_says_what_is_wrong(tmp_path: Path, case: str) -> None:
    write, match = BAD[case]
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        write(file)
    assert match in refused(tmp_path / "scan.h5")


def test_the_same_parts_without_the_flaw_are_read(tmp_path: Path) -> None:
    """Else the cases above might fail for another reason."""
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        stored(kspace=KSPACE, mask=EVEN, ismrmrd_header=HEADER, reconstruction_rss=np.ones((3, 8, 8)))(file)
    scan = nm.open_scan(tmp_path / "scan.h5")
    assert len(list(scan)) == 3


def test_nan_where_nothing_was_acquired_is_no_error(tmp_path: Path) -> None:
    kspace = with_nan((0, 0, 0, 3))
    write_fastmri(tmp_path / "scan.h5", kspace, mask=EVEN)
    assert np.isnan(nm.open_scan(tmp_path / "scan.h5").kspace[0]).sum() == 1


def test_nan_is_found_whatever_mask_comes_later(tmp_path: Path) -> None:
    """Reading a slice checks all that the file claims, before any retrospective mask sees it."""
    for column in (0, 5, 12, 23):
        write_fastmri(tmp_path / "scan.h5", with_nan((1, 1, 31, column)))
        scan = nm.open_scan(tmp_path / "scan.h5")
        assert len([scan.kspace[0], scan.kspace[2]]) == 2
        with pytest.raises(ScanError, match=f"slice 1 .*column {column}"):
            scan.kspace[1]


def test_large_and_small_scales_are_no_error(tmp_path: Path) -> None:
    for scale in (1e-30, 1e-8, 1e8, 1e37):
        kspace = (good_kspace() * scale).astype(np.complex64)
        write_fastmri(tmp_path / "scan.h5", kspace)
        scan = nm.open_scan(tmp_path / "scan.h5")
        assert np.array_equal(scan.kspace[0], kspace[0])
