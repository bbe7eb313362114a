"""What counts as acquired: a mask, the header's padding, and the zeros of the k-space."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import nirvana_mri as nm
from nirvana_mri.io.fastmri import write_fastmri
from nirvana_mri.io.sampling import SamplingError, inside_padding, read_mask, settle

NY, NX = 32, 24
EVERY = np.ones(NX, bool)


def columns(*chosen: int) -> NDArray[np.bool_]:
    mask = np.zeros(NX, bool)
    mask[list(chosen)] = True
    return mask


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("shape", [(NX,), (1, NX), (1, 1, NX, 1), (1, NX, 1)])
def test_masks_of_columns_in_every_layout(dtype: type, shape: tuple[int, ...]) -> None:
    mask = columns(1, 5, 12)
    assert np.array_equal(read_mask(mask.astype(dtype).reshape(shape), (NY, NX)), mask)


@pytest.mark.parametrize("shape", [(NY, NX), (1, NY, NX), (1, 1, NY, NX, 1)])
def test_masks_of_samples(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(0).random((NY, NX)) < 0.3
    assert np.array_equal(read_mask(mask.reshape(shape), (NY, NX)), mask)


def test_a_matrix_of_equal_rows_is_a_mask_of_columns() -> None:
    mask = columns(1, 5, 12)
    assert np.array_equal(read_mask(np.tile(mask, (NY, 1)), (NY, NX)), mask)


@pytest.mark.parametrize("shape", [(NX + 1,), (NX, NY), (2, NX), (NY,), (NY, 1), (2, NY, NX), (NX // 2, 2)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SamplingError, match="expected"):
        read_mask(np.ones(shape, bool), (NY, NX))


def test_padding_is_never_acquired() -> None:
    inside = inside_padding(NX, (3, 20))
    assert np.flatnonzero(inside).tolist() == list(range(3, 20))
    assert inside_padding(NX, None).all()
    acquired, notes = settle(np.ones((NY, NX), bool) & inside, EVERY, inside)
    assert np.array_equal(acquired, inside)
    assert notes == []


def test_a_mask_wins_and_data_outside_it_are_mentioned() -> None:
    mask = columns(2, 4, 8)
    acquired, (note,) = settle(np.ones((NY, NX), bool), mask, EVERY)
    assert np.array_equal(acquired, mask)
    assert "leaves out 21 columns" in note


def test_zero_borders_are_padding_even_where_a_mask_claims_them() -> None:
    carries = np.tile(inside_padding(NX, (2, 21)), (NY, 1))
    acquired, (note,) = settle(carries, EVERY, EVERY)
    assert np.array_equal(acquired, carries[0])
    assert "5 border columns" in note


def test_a_partial_echo_makes_the_sampling_two_dimensional() -> None:
    carries = np.ones((NY, NX), bool)
    carries[:10] = False
    mask = columns(2, 4, 8)
    acquired, (note,) = settle(carries & mask, mask, EVERY)
    assert np.array_equal(acquired, carries & mask)
    assert "10 rows" in note
    acquired, (note,) = settle(carries, None, EVERY)
    assert np.array_equal(acquired, carries)
    assert "no mask" in note


def test_one_row_of_many_is_missing_not_chance() -> None:
    carries = np.ones((200, NX), bool)
    carries[0] = False
    acquired, _ = settle(carries, None, EVERY)
    assert np.array_equal(acquired, carries)


def test_single_zeros_are_chance() -> None:
    carries = np.ones((NY, NX), bool)
    carries[3, 4] = carries[30, 7] = False
    for mask in (None, EVERY, np.ones((NY, NX), bool)):
        acquired, notes = settle(carries, mask, EVERY)
        assert acquired.all()
        assert notes == []


def random_kspace(coils: int = 3) -> NDArray[np.complex64]:
    rng = np.random.default_rng(0)
    shape = (3, coils, NY, NX)
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)).astype(np.complex64)


@pytest.mark.parametrize("header", [False, True])
def test_undersampled_files_without_mask_are_not_taken_as_full(tmp_path: Path, header: bool) -> None:
    kept = columns(0, 4, 8, 10, 11, 12, 13, 16, 20)
    kspace = np.where(kept, random_kspace(), 0)
    write_fastmri(tmp_path / "f.h5", kspace, voxel_mm=(1.0, 1.0, 1.0) if header else None)
    scan = nm.open_scan(tmp_path / "f.h5")
    assert np.array_equal(scan.acquired, kept)
    assert not scan.fully_sampled
    assert any("9 of 24 columns" in note for note in scan.warnings)
    assert len(list(scan)) == 3


def test_scattered_samples_without_mask_are_found(tmp_path: Path) -> None:
    kept = np.random.default_rng(1).random((NY, NX)) < 0.3
    write_fastmri(tmp_path / "f.h5", np.where(kept, random_kspace(), 0))
    scan = nm.open_scan(tmp_path / "f.h5")
    assert np.array_equal(scan.acquired, kept)
    assert not scan.fully_sampled


def test_a_dead_coil_does_not_pass_for_missing_data(tmp_path: Path) -> None:
    kspace = random_kspace()
    kspace[:, 0] = 0
    write_fastmri(tmp_path / "f.h5", kspace)
    scan = nm.open_scan(tmp_path / "f.h5")
    assert scan.acquired.all()
    assert scan.acquired.ndim == 1
    assert len(list(scan)) == 3


@pytest.mark.parametrize("coils", [1, 3])
def test_a_partial_echo_in_a_file_without_mask(tmp_path: Path, coils: int) -> None:
    kspace = random_kspace(coils)
    kspace[..., :9, :] = 0
    write_fastmri(tmp_path / "f.h5", kspace)
    scan = nm.open_scan(tmp_path / "f.h5")
    assert scan.acquired.shape == (NY, NX)
    assert not scan.acquired[:9].any()
    assert scan.acquired[9:].all()


def test_a_header_of_another_width_is_not_believed(tmp_path: Path) -> None:
    import h5py

    write_fastmri(tmp_path / "f.h5", random_kspace(), voxel_mm=(1.0, 1.0, 1.0), padding=(4, 20))
    with h5py.File(tmp_path / "f.h5", "a") as file:
        xml = file["ismrmrd_header"][()].decode()
        del file["ismrmrd_header"]
        file["ismrmrd_header"] = xml.replace(f"<y>{NX}</y>", "<y>36</y>", 1)
    scan = nm.open_scan(tmp_path / "f.h5")
    assert scan.acquired.all()
    assert any("encodes 36 columns but kspace has 24" in note for note in scan.warnings)
