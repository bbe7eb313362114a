import h5py
import numpy as np
import pytest

from nirvana_mri.errors import DataError, UsageError
from nirvana_mri.io.mask_file import load_mask

COLUMNS = np.arange(12) % 3 == 0
PLANE = np.arange(60).reshape(5, 12) % 7 % 2 == 0


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (COLUMNS, COLUMNS),
        (COLUMNS.astype(np.uint8), COLUMNS),
        (COLUMNS.astype(np.float32).reshape(1, 1, 12, 1), COLUMNS),
        (COLUMNS.reshape(1, 12), COLUMNS),
        (COLUMNS.reshape(1, 12, 1), COLUMNS),
        (PLANE.astype(np.int64), PLANE),
        (PLANE[None, None], PLANE),
        (PLANE[..., None], PLANE),
        (PLANE[:, 1:2], PLANE[:, 1:2]),  # rows stay rows
    ],
)
def test_npy_and_hdf5_in_the_usual_shapes(tmp_path, stored, expected):
    np.save(tmp_path / "mask.npy", stored)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["mask"] = stored
        file["my:mask"] = ~stored.astype(bool)
        file["other"] = ~stored.astype(bool)
    for source in (tmp_path / "mask.npy", str(tmp_path / "scan.h5"), f"{tmp_path / 'scan.h5'}:mask"):
        found = load_mask(source)
        assert found.dtype == bool
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(load_mask(f"{tmp_path / 'scan.h5'}:other"), ~expected)
    np.testing.assert_array_equal(load_mask(tmp_path / "scan.h5", dataset="my:mask"), ~expected)


def _npy(array):
    return lambda path: np.save(path, array, allow_pickle=True)


def _declares_more_than_it_holds(path):
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|b1", "fortran_order": False, "shape": (10**13,)})


@pytest.mark.parametrize(
    ("write", "tells"),
    [
        (_npy(np.array([0.0, 0.5, 1.0])), "does not"),
        (_npy(np.array([0.0, np.nan, 1.0])), "does not"),
        (_npy(np.array([1j, 0])), "does not"),
        (_npy(np.zeros(5)), "inverted"),
        (_npy(np.ones((2, 3, 4))), "neither"),
        (_npy(np.array([{}, None], dtype=object)), "Python objects"),
        (_declares_more_than_it_holds, "declares 10000000000000"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x01"), "not a readable npy"),
        (lambda path: path.write_text("1 0 0 1"), "neither npy nor HDF5"),
        (lambda path: path.write_bytes(b""), "neither npy nor HDF5"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)), "read"),
    ],
)
def test_unusable_files_say_why_in_one_line(tmp_path, write, tells):
    path = tmp_path / "mask.npy"
    write(path)
    with pytest.raises(DataError, match=tells) as caught:
        load_mask(path)
    assert "mask.npy" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_dataset_lists_what_is_there(tmp_path):
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["pattern"] = COLUMNS
    with pytest.raises(DataError, match="pattern"):
        load_mask(tmp_path / "scan.h5")


def test_link_into_another_file_is_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["mask"] = COLUMNS
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["mask"] = h5py.ExternalLink("secret.h5", "mask")
    with pytest.raises(DataError, match="link"):
        load_mask(tmp_path / "scan.h5")


def test_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="equispacd"):
        load_mask("equispacd")
    with pytest.raises(UsageError, match="no such mask file"):
        load_mask(tmp_path)
